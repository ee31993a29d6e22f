"""Dense logs of the gather-trade-build world say what happened as the original program says it, and what is computed from them adds up."""
import itertools
import json

import numpy as np
import pytest
from pytest import approx

import envs
from envs.core.batch import Batch, with_values
from kernels import gather_trade_build as gtb
from kernels import gather_trade_build_views as views
from kernels import gather_trade_build_world as maps
from kernels.core.arrays import allocate
from rllib_macro import gather_trade_build_log as logs
from rllib_macro import plots_gather_trade_build as pictures
from tests.worlds import golden

TRACES = ("crowd8x8_s12", "multi_action_s20", "onestep_s33_e0", "phase1_multi_ep_s6_e1", "tax_saez_s16_e0", "tax_usfed_s13",
          "tutorial_scripted_s4", "uniform_s28", "wealth_redist_s19")
GOOD = {"Stone": 0, "Wood": 1}


def play(periods=60, size=3, replica=0, every=20, rules=None, **values):
    p = with_values(gtb.Params(), {"tax_period": 20, "starting_coin": (20.0,), **values})
    batch = Batch(envs.load("gather_trade_build"), p, size, seed=2, backend="numpy",
                  rules=rules or {"mobile": "random", "planner": "random"})
    return logs.record(batch, replica=replica, every=every, periods=periods)


@pytest.fixture(scope="module")
def played():
    return play()


# -- the schema of the original program

def shape(value):
    """The structure of a log: keys, lengths, kinds; numbers are alike."""
    if isinstance(value, dict):
        return {key: shape(part) for key, part in value.items()}
    return [shape(part) for part in value] if isinstance(value, list) else type(value).__name__.replace("int", "float")


def test_the_log_has_the_structure_of_the_original(played):
    sample = json.loads(golden("gtb_dense_log_sample.json").read_text())
    assert list(played.log) == list(sample)
    assert {name: len(of) for name, of in played.log.items()} == {name: len(of) for name, of in sample.items()}
    for t in (0, 1, 20, 60):
        assert shape(played.log["world"][t]) == shape(sample["world"][t])
        assert shape(played.log["states"][t]) == shape(sample["states"][t])
    assert shape(played.log["rewards"]) == shape(sample["rewards"])
    for name in ("Build", "Trade", "Gather", "PeriodicTax"):
        ours, theirs = (next(events for events in log[name] if events) for log in (played.log, sample))
        assert shape(ours if name == "PeriodicTax" else ours[:1]) == shape(theirs if name == "PeriodicTax" else theirs[:1])
    known = {key for frame in sample["actions"] for chosen in frame.values() for key in chosen}
    assert {"Build", "Gather"} <= {key for frame in played.log["actions"] for chosen in frame.values() for key in chosen} <= known


def test_a_log_of_the_original_is_repeated_from_its_own_actions_to_the_last_number():
    """Luck and regrowth are read off its Gather events and maps, the order of moves is the one that leads where its agents went."""
    sample = json.loads(golden("gtb_dense_log_sample.json").read_text())
    made = repeat(sample)
    for log in (sample, made.log):
        for houses in log["Build"]:
            houses.sort(key=lambda house: house["builder"])  # in one period their order means nothing
    for name in sample:
        if name != "rewards":
            assert made.log[name] == sample[name], name
    for ours, theirs in zip(made.log["rewards"], sample["rewards"], strict=True):
        assert ours == approx(theirs, abs=1e-12)


def repeat(log):
    """The Recorder of a log's episode played again."""
    first, T = log["world"][0], len(log["actions"])
    codes = np.zeros((25, 25), int)
    for name, code in (("Water", maps.WATER), ("StoneSourceBlock", maps.STONE), ("WoodSourceBlock", maps.WOOD)):
        codes[np.array(first[name]) > 0] = code
    p = with_values(gtb.Params(), {"layout": tuple(codes.ravel().tolist()), "tax_period": 20, "starting_coin": (60.0,), "horizon": T,
                                   "fixed_four": False})
    s = gtb.initial_state(p, 1, np, None, np.float64)
    begin(p, s, log["states"][0])
    a, e, r = (allocate(cls, gtb, p, 1, np, np.float64) for cls in (gtb.Actions, gtb.Shocks, gtb.Rewards))
    made = logs.Recorder(p, s, every=20)
    names = [(logs.DEEDS[deed], k + 1) for deed in gtb.spaces(p) for k in range(gtb.options(p, deed))]
    offset = {name: next(i for i, (other, _) in enumerate(names) if other == name) for name, _ in names}
    brackets = [f"PeriodicBracketTax.TaxIndexBracket_{int(cutoff):03d}" for cutoff in s.cutoffs[0]]
    for t in range(T):
        chosen = log["actions"][t]
        for i in range(4):
            a.action[0, i, 0] = sum(offset[name] + option for name, option in chosen[str(i)].items())
        a.rate[0] = [chosen["p"].get(name, 0) for name in brackets]
        e.luck[...] = 1.0
        for event in log["Gather"][t]:
            e.luck[0, event["agent"], GOOD[event["resource"]]] = 2.0 - event["n"] if event["n"] == 1 else 0.0
        e.regrowth[...] = np.where(regrows(p, s, codes, log, t), 0.0, 1.0)
        move(p, s, a, e, r, log, t)
        made.period(s, a, e, r)
    made.finish()
    return made


def begin(p, s, frame):
    s.occupant[...] = 0
    for i in range(4):
        told = frame[str(i)]
        s.row[0, i], s.col[0, i] = told["loc"]
        s.build_payment[0, i], s.build_skill[0, i] = told["build_payment"], told["build_skill"]
        s.bonus[0, i] = told["bonus_gather_prob"]
    s.occupant[0, gtb.tile(p, s.row, s.col)[0]] = np.arange(4) + 2
    gtb.observe(p, s)


def regrows(p, s, codes, log, t):
    """Sources that gain a unit in period t: those that are collected in the next one, or stand on the next map, and are empty."""
    wanted = {tuple(event["loc"]) for event in log["Gather"][t + 1]} if t + 1 < len(log["Gather"]) else set()
    if log["world"][t + 1]:
        wanted |= {tuple(at) for name in GOOD for at in np.argwhere(np.array(log["world"][t + 1][name]) > 0).tolist()}
    return [tuple(at) in wanted for at in np.argwhere((codes == maps.STONE) | (codes == maps.WOOD)).tolist()]


def move(p, s, a, e, r, log, t):
    """Play period t in the order of moves that leads to the places and lists the collectors as the log does."""
    kept = {name: array.copy() for name, array in vars(s).items()}
    for order in itertools.permutations(range(4)):
        e.order[0] = order
        gtb.step(p, s, a, e, r)
        went = [log["states"][t + 1][str(i)]["loc"] for i in range(4)]
        collected = [i for i in order if s.gathered[0, i].any()]
        if np.stack([s.row[0], s.col[0]], -1).tolist() == went and collected == list(
                dict.fromkeys(event["agent"] for event in log["Gather"][t])):
            return
        for name, array in kept.items():
            getattr(s, name)[...] = array
    raise AssertionError(f"no order of moves leads from period {t} to the next")


@pytest.mark.parametrize("name", TRACES)
def test_the_log_of_a_trace_gives_the_metrics_and_events_that_were_recorded(name):
    file = golden(f"gtb_{name}.npz")
    made, want, arrays = logs.replayed(file), json.loads(file.with_suffix(".json").read_text())["metrics"], np.load(file)
    got = made.metrics()
    assert set(got) == set(want)
    assert [key for key in want if (want[key] is None) != (got[key] is None)] == []
    known = [key for key in want if want[key] is not None]
    assert [got[key] for key in known] == approx([want[key] for key in known], rel=1e-9)
    if "ev/build" in arrays:
        houses = logs.builds(made.log).to_numpy(float)
        assert sorted(map(tuple, houses)) == sorted(map(tuple, arrays["ev/build"]))
    rows = arrays["s/inv"] + arrays["s/escrow"]
    series = logs.series(made.log)
    within = 1e-9 if made.p.tax_model == gtb.SAEZ else 0
    assert all(abs(series[name] - rows[:, :, k]).max() <= within for k, name in enumerate(logs.RESOURCES))


# -- what a log says adds up

@pytest.mark.parametrize("values", [{}, {"multi_action": True}, {"order": (2, 0, 1, 3)}, {"scenario": maps.UNIFORM, "n_agents": 6}])
def test_incomes_by_source_add_up_to_what_was_earned(values):
    log = play(**{"starting_coin": (50.0,), "fixed_four": False, **values}).log
    coin, table = logs.series(log)["Coin"], logs.incomes(log)
    assert table["Total"].to_numpy() == approx(coin[-1] - coin[0], abs=1e-9)
    assert len(logs.trades(log)) > 0
    assert logs.trades(log)["price"].sum() == approx(-table[["Buy Stone", "Buy Wood"]].to_numpy().sum())
    assert table["Tax"].sum() + table["Lump sum"].sum() == approx(0, abs=1e-9)


def test_stocks_and_houses_are_what_was_gathered_and_built(played):
    log, series = played.log, logs.series(played.log)
    gathered = {good: sum(event["n"] for day in log["Gather"] for event in day if event["resource"] == good) for good in GOOD}
    for good in GOOD:
        assert series[good][-1].sum() == gathered[good] - len(logs.builds(log))
    owners = np.array(log["world"][-1]["House"]["owner"])
    assert (owners >= 0).sum() == len(logs.builds(log))
    for _, house in logs.builds(log).iterrows():
        assert owners[int(house["row"]), int(house["column"])] == house["agent"]


def test_rewards_are_what_utility_changed_by(played):
    earned = [[frame[str(i)] for i in range(4)] for frame in played.log["rewards"]]
    began = np.array([(20**0.77 - 1) / 0.77] * 4)
    assert np.sum(earned, 0) == approx(played.last["utility"] - began)


def test_a_replica_of_many_is_logged_as_if_it_were_alone():
    assert play(periods=30, size=3, replica=0).log == play(periods=30, size=1).log
    assert play(periods=30, size=3, replica=2).log != play(periods=30, size=1).log


def test_a_whole_episode_ends_with_its_last_frame_before_the_reset():
    p = with_values(gtb.Params(), {"horizon": 12})
    economy = envs.load("gather_trade_build")
    batch = Batch(economy, p, 2, backend="numpy", rules={"planner": "idle"})
    made = logs.record(batch, lambda world: {"mobile": world.random_choices("mobile")}, every=5)
    assert len(made.log["states"]) == 13 and made.last["period"] == 12 and batch.s.period.tolist() == [0, 0] and batch.watch is None
    assert [bool(one) for one in made.log["world"]] == [t in (0, 5, 10, 12) for t in range(13)]


def test_a_log_cannot_begin_in_the_middle_of_an_episode():
    batch = Batch(envs.load("gather_trade_build"), size=1, backend="numpy", rules={"mobile": "random", "planner": "idle"})
    batch.step({})
    with pytest.raises(ValueError, match="in period 1 of its episode; call batch.reset"):
        logs.record(batch)


def test_disabled_taxes_and_absent_components_leave_no_trace():
    log = play(periods=3, disable_taxes=True, order=(gtb.GATHER, gtb.TAX)).log
    assert list(log) == ["world", "states", "actions", "rewards", "Gather"]
    assert set(log["states"][0]["0"]) == {"loc", "inventory", "escrow", "endogenous", "bonus_gather_prob"}
    assert log["actions"][0]["p"] == {}
    assert "Water" not in play(periods=2, scenario=maps.UNIFORM, fixed_four=False).log["world"][0]


def test_agents_can_be_numbered_by_skill(played):
    log = logs.sorted_by(played.log, "build_payment")
    pay = [log["states"][0][str(i)]["build_payment"] for i in range(4)]
    assert pay == sorted(pay) and list(log["states"][0]) == ["0", "1", "2", "3", "p"]
    old = [played.log["states"][0][str(i)]["build_payment"] for i in range(4)]
    place = [old.index(value) for value in pay]
    assert logs.incomes(log).to_numpy() == approx(logs.incomes(played.log).to_numpy()[place])
    assert {house["income"] for day in log["Build"] for house in day if house["builder"] == 3} <= {pay[3]}


def test_the_summary_counts_what_agents_did_by_skill(played):
    log = logs.by_skill(played.log)
    assert log == logs.sorted_by(played.log, "build_payment") != played.log
    table = logs.summary(log)
    assert list(table.columns) == ["house pays", "houses", "stone sold", "stone bought", "wood sold", "wood bought", "net taxes", "coins",
                                   "labor"]
    for i in range(4):
        sold = [sale["price"] for day in log["Trade"] for sale in day if sale["commodity"] == "Wood" and sale["seller"] == i]
        assert table.loc[i, "wood sold"] == (f"{len(sold)} at {sum(sold) / len(sold):.1f}" if sold else "0")
        assert table.loc[i, "houses"] == str(sum(house["builder"] == i for day in log["Build"] for house in day))
        paid = [day[str(i)] for day in log["PeriodicTax"] if day]
        assert table.loc[i, "net taxes"] == f"{sum(one['tax_paid'] - one['lump_sum'] for one in paid):,.1f}"
    assert (table[["stone sold", "wood sold"]] != "0").any(axis=None)


def test_agents_who_are_alike_in_skill_keep_their_numbers():
    log = play(periods=2, order=(gtb.GATHER,)).log
    assert logs.by_skill(log) is log
    assert list(logs.summary(log).columns) == ["coins", "labor"]


# -- files

@pytest.mark.parametrize("name", ["log.json", "log.json.gz", "log.lz4"])
def test_a_log_is_read_as_it_was_written(played, tmp_path, name):
    assert logs.read(logs.write(played.log, tmp_path / name)) == played.log


@pytest.mark.parametrize(("text", "sentence"), [
    (b"{", "cannot be read as a dense log"), (b"[]", "lacks world, states"), (b'{"world": []}', "lacks states, actions, rewards"),
    (b"\x1f\x8bno", "cannot be read as a dense log"), (b"\xff", "cannot be read as a dense log"),
    (b"\x04\x22\x4d\x18no", "cannot be read as a dense log"),
    (b'{"world": [{}], "states": [], "actions": [], "rewards": []}', r"no dense log of this world \(IndexError"),
    (b'{"world": 1, "states": [{"0": 2}], "actions": 3, "rewards": 4}', r"no dense log of this world \(")])
def test_another_file_is_one_sentence(tmp_path, text, sentence):
    file = tmp_path / "log.json"
    file.write_bytes(text)
    with pytest.raises(ValueError, match=sentence) as caught:
        logs.read(file)
    assert "\n" not in str(caught.value)


def test_a_log_is_read_only_if_its_parts_fit_each_other(played, tmp_path):
    smaller = {"House": {"owner": [[-1]]}} | dict.fromkeys(logs.LAYERS, [[0.0]])
    for harm in ({"actions": []}, {"world": [smaller, *[{}] * 60]}, {"world": [*played.log["world"][:-1], smaller]}):
        with pytest.raises(ValueError, match="no dense log of this world"):
            logs.read(logs.write(played.log | harm, tmp_path / "log.json"))


def test_a_log_is_not_written_in_an_unknown_format(played, tmp_path):
    with pytest.raises(ValueError, match=r"must end with \.lz4, \.gz, \.json"):
        logs.write(played.log, tmp_path / "log.pkl")
    assert list(tmp_path.iterdir()) == []


# -- social metrics

def test_inequality_and_welfare_are_those_of_the_original_also_where_the_method_changes():
    cases = json.loads(golden("gtb_social_metrics.json").read_text())
    assert {29, 30} <= {case["n"] for case in cases}
    for case in cases:
        coin, utility = np.array(case["endowments"]), np.array(case["utilities"])
        found = logs.social(coin, utility)
        assert logs.gini(coin) == approx(case["gini"], abs=1e-12)
        assert [found["equality"], found["productivity"], found["coin_eq_times_productivity"]] == approx(
            [case["equality"], case["productivity"], case["eq_prod_w1"]], abs=1e-9)
        assert logs.social(coin, utility, 0.65)["coin_eq_times_productivity"] == approx(case["eq_prod_w065"])
        assert found["inv_income_weighted_coin_endow"] == approx(case["inv_coin"])
        assert found["inv_income_weighted_utility"] == approx(case["inv_util"])


def test_the_gini_coefficient_is_zero_among_equals_and_one_where_one_owns_all():
    for n in (2, 4, 29):
        assert logs.gini(np.full(n, 5.0)) == approx(0, abs=1e-9)
        assert logs.gini(np.eye(n)[0] * 7) == approx(1, abs=1e-9)
    assert logs.gini(np.array([1.0, 3.0])) == approx(0.5)
    assert logs.gini(np.full(50, 5.0)) == approx(0, abs=1e-9)
    assert logs.gini(np.eye(3)).tolist() == approx([1, 1, 1])


def test_measures_of_the_economy_are_those_of_the_log():
    batch = Batch(envs.load("gather_trade_build"), with_values(gtb.Params(), {"horizon": 40, "starting_coin": (9.0,)}), 1, backend="numpy",
                  rules={"mobile": "random", "planner": "random"})
    made = logs.record(batch)
    for name, key in (("productivity", "productivity"), ("equality", "equality")):
        assert batch.measured[name][0] == approx(made.metrics()[f"social/{key}"])
    assert batch.measured["equality"][0] == approx(views.equality(logs.series(made.log)["Coin"][-1:])[0])


# -- pictures

def test_the_breakdown_draws_maps_stocks_movement_trades_and_coins(played):
    made = pictures.breakdown(played.log, sort="build_payment")
    assert {name: len(one.axes) for name, one in made.items()} == {"maps": 4, "time": 6, "agents": 8, "coins": 3}
    assert [ax.get_title("left") for ax in made["maps"].axes] == ["period 0", "period 20", "period 40", "period 60"]
    heights = [patch.get_height() for patch in made["coins"].axes[1].patches]
    assert heights == approx(logs.series(logs.sorted_by(played.log, "build_payment"))["Coin"][-1])
    for line, values in zip(made["time"].axes[0].get_lines(), logs.series(logs.sorted_by(played.log, "build_payment"))["Coin"].T):
        assert (line.get_ydata() == values).all()


def test_figures_are_drawn_where_there_is_little_to_draw(tmp_path):
    files = pictures.draw(play(periods=2, order=(gtb.GATHER,), n_agents=9, fixed_four=False).log, tmp_path / "new")
    assert [file.name for file in files] == [f"episode_{name}.png" for name in ("maps", "time", "agents", "coins")]
    hours = logs.replayed(golden("gtb_onestep_s33_e0.npz"))
    assert set(pictures.breakdown(hours.log)) == {"time", "coins"}


def test_a_map_that_was_not_kept_is_one_sentence(played):
    with pytest.raises(ValueError, match="no map of period 7, but of 0, 20, 40, 60"):
        pictures.draw_map(None, played.log, 7)


def test_an_animation_is_one_file_of_numbers_that_loads_nothing(played, tmp_path):
    page = pictures.animate(played.log, tmp_path / "episode.html", "</title><script>DATA").read_text()
    assert "http" not in page and "src=" not in page and "@import" not in page
    assert page.count("<script") == 2 and "&lt;/title&gt;&lt;script&gt;DATA" in page
    film = json.loads(page.split('id="data">')[1].split("</script>")[0])
    series = logs.series(played.log)
    assert np.array(film["where"]).shape == (61, 4, 2) and film["taxes"] == [19, 39, 59]
    assert np.array(film["stock"])[:, :, 0] == approx(series["Coin"], abs=0.01)
    assert len(film["houses"]) == len(logs.builds(played.log)) and len(film["trades"]) == len(logs.trades(played.log))


def test_an_animation_with_all_maps_shows_every_source_as_it_was():
    made = play(periods=30, every=1, regrowth_stone=0.2, regrowth_wood=0.2)
    film = pictures._film(made.log)
    full = ["", ""]
    for t, words in enumerate(film["full"]):
        full = [new or old for new, old in zip(words, full)]
        for g, good in enumerate(logs.GOODS):
            layer = np.array(made.log["world"][t][good])
            assert "".join(str(int(layer[row, column])) for row, column in film["sources"][g]) == full[g]


def test_an_animation_without_all_maps_empties_what_was_collected():
    log = play(periods=30, every=50).log
    collected = {(event["resource"], *event["loc"]) for day in log["Gather"][:29] for event in day}
    film = pictures._film(log)
    assert collected
    full = ["", ""]
    for words in film["full"][:30]:
        full = [new or old for new, old in zip(words, full)]
    for good, row, column in collected:
        g = GOOD[good]
        assert full[g][film["sources"][g].index([row, column])] == "0"


def test_a_world_without_a_map_cannot_be_animated(tmp_path):
    with pytest.raises(ValueError, match="has no map"):
        pictures.animate(logs.replayed(golden("gtb_onestep_s33_e0.npz")).log, tmp_path / "page.html")
