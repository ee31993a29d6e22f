"""Audits: nothing is lost in sound economies, and every planted leak is named in the quarter in which it first moves money."""
import json
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.torch import save_file
from typer.testing import CliRunner

import envs
from envs.core.batch import Batch
from kernels import monetary
from rllib_macro import __main__ as program
from rllib_macro import audit, crises, evaluate, leaks
from rllib_macro.run import Run
from rllib_macro.terminal import described
from tests.rllib_macro.tiny import tiny
from tests.worlds import needs_compiler

SMALL = ("n_consumers=40", "n_firms=6", "n_banks=2", "params.burn_in=0")
LEAKS = leaks.LEAKS["monetary"]


def config(*settings, economy="monetary"):
    return described(economy, [*(SMALL if economy == "monetary" else ()), "backend=numpy", *settings])[0]


def session(behaviour="scripted", settings=(), **how):
    """An audit of a small monetary economy about to begin."""
    how = audit.Settings(**{"periods": 60, "replicas": 3} | how)
    return audit.sessions(config(*settings), [behaviour], how)[behaviour]


def command(*arguments):
    """Exit code, stdout and stderr of `audit`."""
    result = CliRunner().invoke(program.app, ["audit", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


def mistake(*arguments):
    """The one sentence that a mistake is answered with."""
    code, printed, said = command(*arguments)
    assert (code, printed) == (2, "") and said.startswith("error: ") and said.count("\n") == 1
    return said.removeprefix("error: ").rstrip()


# -- planted leaks

@pytest.fixture(scope="module")
def findings():
    """What an audit of every leak found."""
    return {name: session(leak=leak).run() for name, leak in LEAKS.items()}


@pytest.mark.parametrize("name", LEAKS)
def test_a_leak_is_named_in_the_quarter_in_which_it_first_acts(name, findings):
    found = findings[name]
    assert found.leak["acts_from"] is not None
    assert (found.first.identity, found.first.sector, found.first.period) == (*LEAKS[name].expected, found.leak["acts_from"])
    assert found.periods == found.first.period + 1 and found.first.amount


@pytest.mark.parametrize("params", sorted({tuple(leak.params.items()) for leak in LEAKS.values()}), ids=str)
def test_without_a_leak_the_same_play_breaks_nothing(params):
    found = session(crisis=crises.Crisis("", {}, dict(params))).run()
    assert (found.violations, found.first, found.periods) == (0, None, 60)


def test_leaks_are_many_and_some_act_later_than_others(findings):
    assert len(LEAKS) >= 14
    assert max(found.first.period for found in findings.values()) > 0


def test_every_identity_is_broken_by_some_leak(findings):
    broken = {name.split()[0] for found in findings.values() for name in (found.first.identity, *found.first.also)}
    assert broken == set(monetary.IDENTITIES)


def test_a_leak_is_gone_after_its_audit(findings):
    assert all(getattr(monetary, leak.phase).__module__ == "kernels.monetary" for leak in LEAKS.values())


def test_one_unit_is_found_beside_all_the_money_of_the_nation():
    found = session(leak=LEAKS["income_tax_short"]).run()
    assert found.first.amount == 1
    assert found.largest["T4"] == found.largest["T2"] == 1 and isinstance(found.largest["T4"], int)


@needs_compiler
@pytest.mark.parametrize("field", ["deposits", "loans", "firm_deposits", "equity", "treasury", "reserves", "bonds"])
def test_what_is_wrong_after_a_compiled_step_is_found_by_the_compiled_check_and_named_by_the_definitions(field):
    world = session(settings=["backend=native"]).player.batch
    auditor = world.watch
    for _ in range(3):
        world.step({})
    assert auditor.quick and auditor.finding.violations == 0

    def tampered(before, after):
        getattr(after, field)[1] += 1
        auditor(before, after)
    world.watch = tampered
    world.step({})
    assert (auditor.finding.first.replica, auditor.finding.first.period) == (1, 3)


# -- sound economies

@pytest.mark.parametrize("behaviour", ["random", "untrained", "scripted+random:firm", "random+scripted:central_bank"])
def test_the_books_balance_whoever_plays(behaviour):
    found = session(behaviour, periods=25).run()
    assert (found.violations, found.periods, found.replicas) == (0, 25, 3)
    assert found.checks == 25 * 3 * sum(len(errors) for errors in _errors().values())
    assert set(found.largest) == set(monetary.IDENTITIES) and not any(found.largest.values())


def _errors():
    world = Batch(envs.load("monetary"), monetary.Params(n_consumers=4, n_firms=2, n_banks=1, burn_in=0), backend="numpy",
                  rules=dict.fromkeys(envs.load("monetary").agents, "scripted"))
    return {name: identity(world.p, world.s, world.s) for name, identity in monetary.IDENTITIES.items()}


@pytest.mark.parametrize("economy", ["rbc", "cournot", "tests.economies.cobweb"])
def test_economies_without_a_ledger_keep_their_invariants(economy):
    code, printed, _ = command(economy, "--policies", "random", "--periods", 12, "--replicas", 3, "--json")
    found = json.loads(printed)["random"]
    assert code == 0 and found["violations"] == 0
    assert set(found["largest"]) == set(envs.load(economy).kernel.INVARIANTS)


def test_an_economy_whose_invariant_breaks_fails_its_audit(monkeypatch):
    rbc = envs.load("rbc").kernel
    monkeypatch.setitem(rbc.INVARIANTS, "goods", lambda p, b, s: s.inventory - b.inventory)
    code, printed, _ = command("rbc", "--policies", "random", "--periods", 5, "--replicas", 2, "--json")
    found = json.loads(printed)["random"]
    assert code == 1 and found["violations"] > 0 and found["first"]["identity"] == "goods" and found["largest"]["goods"] > 1
    assert found["largest"]["money"] < 1e-5


def test_an_error_that_is_no_number_breaks_an_invariant(monkeypatch):
    monkeypatch.setitem(envs.load("rbc").kernel.INVARIANTS, "goods", lambda p, b, s: s.inventory * np.nan)
    code, printed, _ = command("rbc", "--policies", "random", "--periods", 2, "--replicas", 2, "--json")
    found = json.loads(printed)["random"]
    assert (code, found["violations"], found["largest"]["goods"], found["first"]["amount"]) == (1, 4, None, None)


def test_a_long_world_is_not_restarted_but_episodes_are():
    long, short = session(periods=7, settings=["params.horizon=3"]), session(periods=7, settings=["params.horizon=3"], episodes=True)
    for each in (long, short):
        assert each.run().violations == 0
    assert (long.player.batch.age == 7).all() and (short.player.batch.age == 1).all()


def test_the_behaviours_of_a_run_are_those_it_learned(tmp_path):
    of_run = tiny("policies.government.rule=keep")
    run = Run.create(of_run, tmp_path)
    (run.path / "policies").mkdir()
    for type_, network in evaluate.modules(of_run).items():
        save_file({name: x.contiguous() for name, x in network.state_dict().items()}, run.path / "policies" / f"{type_}_000004.safetensors")
    code, printed, _ = command(run.path, "--periods", 6, "--replicas", 2, "--json")
    assert code == 0 and list(json.loads(printed)) == ["trained"]
    code, printed, _ = command(run.path, "--policies", "trained+random:firm,untrained", "--periods", 3, "--replicas", 2, "--json")
    assert code == 0 and list(json.loads(printed)) == ["trained+random:firm", "untrained"]


@pytest.mark.slow
@pytest.mark.parametrize(("behaviour", "how"), [("random", {"episodes": True, "periods": 10_000}), ("scripted", {"periods": 400}),
                                                ("random", {"periods": 400})])
def test_the_books_balance_for_ages(behaviour, how):
    large = config("n_consumers=100", "n_firms=10", "n_banks=4", "backend=auto", "params.burn_in=20")
    found = audit.sessions(large, [behaviour], audit.Settings(**how))[behaviour].run()
    assert (found.violations, found.periods, found.replicas) == (0, how["periods"], 16)


# -- crises

def paths(names, *watched, quarters=8):
    """Fields of State in every quarter of a scripted world in a crisis, and without: {field: (quarters, ...)}."""
    told = []
    for crisis in (crises.together("monetary", names), crises.Crisis("")):
        each = session(crisis=crisis, periods=quarters)
        seen = []
        each.run(lambda batch=each.player.batch, seen=seen: seen.append({name: getattr(batch.s, name).copy() for name in watched}))
        told.append(SimpleNamespace(**{name: np.stack([now[name] for now in seen]) for name in watched}))
    return told


def test_in_a_spread_crisis_loans_cost_three_points_more_for_four_quarters():
    crisis, calm = paths(["spread"], "spread_shock")
    assert crisis.spread_shock[:, 0] == pytest.approx([0, 0.03, 0.03, 0.03, 0.03, 0, 0, 0])
    assert not calm.spread_shock.any()


def test_losses_cost_banks_thirty_percent_of_their_capital():
    crisis, calm = paths(["losses", "forbearance"], "write_offs", "equity", quarters=4)
    lost = (crisis.write_offs - calm.write_offs).sum(2)
    assert not lost[:2].any()
    assert lost[2] == pytest.approx(0.3 * calm.equity[2].sum(1), rel=0.05)  # banks have paid dividends before they write off


def test_a_stricter_capital_rule_leaves_banks_less_room_to_lend():
    crisis, calm = paths(["capital_rule"], "rationed", "bank_loans")
    assert (crisis.rationed.mean() > calm.rationed.mean()) and crisis.bank_loans[-1].sum() < calm.bank_loans[-1].sum()


@pytest.mark.parametrize(("resolution", "pays"), [("bail_out", "recapitalised"), ("bail_in", "bail_in"), ("forbearance", None)])
def test_failed_banks_are_resolved_as_the_crisis_says(resolution, pays):
    strict = {"capital_failure": 0.5, "capital_minimum": 0.6}
    each = session(crisis=crises.Crisis("", {}, strict | dict(crises.together("monetary", [resolution]).params)), periods=1)
    assert each.run().violations == 0
    for name in ("recapitalised", "bail_in"):
        assert getattr(each.player.batch.s, name).any() == (name == pays)


def test_crises_come_together_unless_they_contradict_each_other():
    both = crises.together("monetary", ["spread", "losses", "bail_in"])
    assert both.impulses.keys() == {"loan_spread", "bank_equity"} and both.params == {"resolution": 1}
    with pytest.raises(ValueError, match="both set resolution"):
        crises.together("monetary", ["bail_in", "bail_out"])


# -- the watch

def test_a_watch_sees_the_state_before_and_after_every_quarter_and_not_that_of_the_next_episode():
    world = session(settings=["params.horizon=2"], episodes=True).player.batch
    ages, openings, closings = [], [], []

    def watch(before, after):
        ages.append(int(world.age[0]))
        openings.append(before.deposits.copy())
        closings.append(after.deposits.copy())
    world.watch = watch
    starts = []
    for _ in range(4):
        starts.append(world.s.deposits.copy())
        world.step({})
    assert ages == [0, 1, 0, 1]
    assert np.array_equal(starts, openings)
    assert np.array_equal(closings[0], openings[1]) and not np.array_equal(closings[1], openings[2])


def test_an_economy_that_says_nothing_is_remembered_whole():
    world = Batch(envs.load("rbc"), size=2, rules=dict.fromkeys(envs.load("rbc").agents, "random"), backend="numpy")
    world.watch = lambda before, after: None
    world.step({})
    assert vars(world._before).keys() == vars(world.s).keys()


def test_being_watched_changes_nothing():
    one, other = session(periods=5), session(periods=5)
    other.player.batch.watch = None
    for each in (one, other):
        each.run()
    assert all(np.array_equal(array, getattr(other.player.batch.s, name)) for name, array in vars(one.player.batch.s).items())


# -- the command

def test_the_command_names_the_identity_the_sector_and_the_first_quarter():
    code, printed, _ = command("monetary", *SMALL, "--inject", "write_off_uncharged", "--periods", 60, "--replicas", 3, "--json")
    found = json.loads(printed)["scripted"]
    first = found["first"]
    assert code == 1 and (first["identity"], first["sector"]) == ("T5", "banks")
    assert first["period"] == found["leak"]["acts_from"] and first["amount"] > 0
    code, printed, _ = command("monetary", *SMALL, "--inject", "write_off_uncharged", "--periods", 60, "--replicas", 3)
    assert code == 1 and "BROKEN" in printed
    assert f"T5 banks is off by {first['amount']:,} units in period {first['period']}, replica {first['replica']}" in printed


def test_a_leak_that_never_acts_is_said_to_have_done_nothing():
    nobody_fails = ("params.service_limit=1000", "params.loss_chance=0")
    code, printed, _ = command("monetary", *SMALL, *nobody_fails, "--inject", "write_off_uncharged", "--periods", 1, "--replicas", 1)
    assert code == 0 and "it never did anything" in printed and "nothing is broken" in printed


def test_the_table_says_what_every_identity_means():
    code, printed, _ = command("monetary", *SMALL, "--policies", "scripted,random", "--periods", 3, "--replicas", 2, "--backend", "numpy")
    assert code == 0 and "Bonds held are bonds issued." in printed and printed.count("holds") == 11
    assert "2 replicas, 3 periods, seed 0" in printed and "BROKEN" not in printed


def test_leaks_are_listed():
    code, printed, _ = command("monetary", "--inject", "list")
    assert code == 0 and all(name in printed for name in LEAKS)
    code, printed, _ = command("monetary", "--inject", "list", "--json")
    assert [row["leak"] for row in json.loads(printed)] == list(LEAKS)


def test_the_matrices_of_the_last_quarter_add_up():
    arguments = ("monetary", *SMALL, "--policies", "scripted", "--periods", 3, "--replicas", 2, "--backend", "numpy", "--matrices")
    code, printed, _ = command(*arguments, "--json")
    books = json.loads(printed)["scripted"]["matrices"]
    assert code == 0 and list(books) == ["balance sheets", "flows"]
    for row, entries in {**books["balance sheets"], **books["flows"]}.items():
        assert (sum(entries.values()) == pytest.approx(0, abs=1e-9)) or row in ("fixed capital", "inventories"), row
    assert books["balance sheets"]["fixed capital"]["firms"] > 0
    each = session(periods=3, replicas=2)
    each.run()
    assert books["balance sheets"]["deposits"]["consumers"] == each.player.batch.s.deposits[0].sum() / 1e6
    code, printed, _ = command(*arguments)
    assert code == 0 and "balance sheets of replica 0 in period 2, coins" in printed and "retained earnings" in printed


def test_a_shock_is_added_to_the_draw_of_the_second_quarter():
    from rllib_macro import verbs_audit
    assert verbs_audit._crisis("monetary", [], ["policy_rate=0.01"]).impulses == {"policy_rate": (1, 0.01)}
    code, _, _ = command("monetary", *SMALL, "--policies", "scripted", "--periods", 4, "--replicas", 2, "--shock", "policy_rate=0.01",
                         "--crisis", "losses", "--crisis", "bail_in", "--backend", "numpy", "--json")
    assert code == 0


@pytest.mark.parametrize(("arguments", "sentence"), [
    (("--inject", "wage_shrt"), "unknown leak 'wage_shrt' of monetary; did you mean 'wage_short'?"),
    (("--inject", "wage_short", "--backend", "native"),
     "--inject changes the definitions, which only backend numpy runs; leave --backend out"),
    (("--crisis", "sprad"), "unknown crisis 'sprad' of monetary; did you mean 'spread'?"),
    (("--shock", "policy_rate"), "--shock must look like policy_rate=0.01, got 'policy_rate'"),
    (("--crisis", "spread", "--shock", "loan_spread=0.1"), "loan_spread is shocked twice; leave one of them out"),
    (("--shock", "polcy_rate=1", "--policies", "random"), "unknown shock 'polcy_rate' of monetary; did you mean 'policy_rate'?"),
    (("--policies", "scriptd"), "unknown rule 'scriptd' of consumer; did you mean 'scripted'?"),
    (("--policies", ","), "--policies names no behaviour; give some, such as scripted,random"),
    (("--policies", "trained"), "only a run has trained policies; give a run's folder, or choose untrained"),
    (("--policies", "scripted+random"),
     "after + a behaviour must look like random:TYPE, where TYPE is one of consumer, firm, bank, government, central_bank; got 'random'"),
])
def test_a_mistake_is_one_sentence(arguments, sentence):
    assert mistake("monetary", *SMALL, *arguments) == sentence


def test_an_economy_without_accounts_has_no_matrices():
    assert mistake("rbc", "--matrices", "--policies", "random") == "rbc has no matrices of accounts; leave --matrices out"


def test_commas_separate_behaviours_but_not_the_arguments_of_a_rule():
    assert audit.separate("scripted, random+taylor(gap=1, inflation=2):central_bank,") == [
        "scripted", "random+taylor(gap=1, inflation=2):central_bank"]
