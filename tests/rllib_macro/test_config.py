"""Configurations: what a file says is what runs, and every mistake is one sentence with the fix."""

import pickle
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import envs
from envs.core.economy import Agent
from rllib_macro import config as cfg
from rllib_macro.config import ConfigError, Policy, check_against, from_dict, from_text, load, to_dict, to_yaml

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "tune_configs").glob("rbc*.yaml"))


@dataclass(frozen=True)
class Params:
    n_firms: int = field(default=10, metadata={"doc": "firms"})
    horizon: int = field(default=10, metadata={"doc": "periods", "low": 1})
    theta: float = field(default=0.01, metadata={"doc": "disutility of work", "low": 0})
    theta_factor: float = field(default=1.0, metadata={"doc": "curriculum"})
    labor_share: tuple[float, ...] = field(default=(0.2, 0.8), metadata={"doc": "exponents"})
    clamp_budget: bool = field(default=True, metadata={"doc": "a debtor buys nothing"})
    export: int = field(default=1, metadata={"doc": "open economy"})


def choice(*names: str) -> SimpleNamespace:
    return SimpleNamespace(name="*".join(names), names=names)


MARKET = (SimpleNamespace(name="price", kind="public"), SimpleNamespace(name="budget", kind="own"))
ECONOMY = SimpleNamespace(
    kernel=SimpleNamespace(Params=Params),
    defaults=Params,
    agents={
        "consumer": Agent(count=100, sees=MARKET, chooses=(choice("demand"), choice("hours"))),
        "firm": Agent(count="n_firms", sees=MARKET, chooses=(choice("price", "wage"),)),
    },
    rules={"firm": {"keep": lambda p, s, a, draws: None}},
)


def sentence(*overrides: str) -> str:
    """The complaint about a small configuration with these overrides."""
    with pytest.raises(ConfigError) as caught:
        check_against(from_text("economy: rbc", overrides), ECONOMY)
    return str(caught.value)


# --- reading ----------------------------------------------------------------------------------------------------------


def test_what_is_left_out_has_its_default():
    run = from_text("economy: rbc\npolicies: {firm: {lr: 1e-3}}")
    assert (run.name, run.seed, run.replicas, run.periods, run.stop.iterations) == ("rbc", 0, 128, None, 1000)
    firm = run.policies["firm"]
    assert (firm.lr, firm.lam, firm.gamma, firm.epochs, firm.network.hidden) == (1e-3, 0.95, 0.99, 2, (64, 64))


def test_a_run_is_named_after_its_file_or_else_its_economy(tmp_path):
    (tmp_path / "slow.yaml").write_text("economy: rbc")
    assert load(tmp_path / "slow.yaml").name == "slow"
    assert load(tmp_path / "slow.yaml", ["name=fast"]).name == "fast"
    assert from_text("economy: my_package.cobweb").name == "cobweb"


@pytest.mark.parametrize("text, number", [("1e-4", 1e-4), ("1.0e4", 1e4), ("3e3", 3e3), (".5e-1", 0.05), ("2.E+3", 2e3), ("0.25", 0.25)])
def test_numbers_may_have_exponents(text, number):
    assert from_text(f"economy: rbc\npolicies: {{firm: {{lr: {text}}}}}").policies["firm"].lr == number
    assert from_text("economy: rbc", [f"policies.firm.lr={text}"]).policies["firm"].lr == number


def test_a_param_is_a_whole_number_a_number_a_truth_a_list_or_a_schedule():
    run = from_text("economy: rbc\nparams: {n: 5, x: 5.0, b: true, l: [1, 2], s: [[0, 1], [9, 2]], e: {exp: 10}}")
    kinds = {name: type(value).__name__ for name, value in run.params.items()}
    assert kinds == {"n": "int", "x": "float", "b": "bool", "l": "tuple", "s": "tuple", "e": "Exponential"}
    assert run.params["s"] == ((0, 1.0), (9, 2.0))


def test_overrides_win_and_leave_the_mapping_as_it_was():
    data = {"economy": "rbc", "policies": {"firm": {"lr": 1, "epochs": 3}}}
    run = from_dict(data, ["policies.firm.lr=1e-4", "windows.firm.price=[0, 5]", "stop.iterations=7", "params.theta.exp=9"])
    assert (run.policies["firm"].lr, run.policies["firm"].epochs) == (1e-4, 3)
    assert run.windows == {"firm.price": (0.0, 5.0)}
    assert (run.stop.iterations, run.params["theta"].exp) == (7, 9.0)
    assert data == {"economy": "rbc", "policies": {"firm": {"lr": 1, "epochs": 3}}}


def test_an_override_replaces_a_value_whole():
    run = from_text("economy: rbc\npolicies: {firm: {entropy: {exp: 10, floor: 0.5}}}", ["policies.firm.entropy={exp: 20}"])
    assert run.policies["firm"].entropy.floor is None


def test_a_file_wins_over_the_one_it_extends(tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "a.yaml").write_text(
        "name: first\neconomy: rbc\nreplicas: 4\npolicies: {firm: {lr: 0.1, epochs: 3, entropy: {exp: 10, floor: 0.5}}}"
    )
    (tmp_path / "b.yaml").write_text("extends: base/a.yaml\npolicies: {firm: {lr: 0.2, entropy: {exp: 20}}, bank: {clip: 0.3}}")
    run = load(tmp_path / "b.yaml", ["replicas=8"])
    assert (run.name, run.economy, run.replicas) == ("b", "rbc", 8)
    assert (run.policies["firm"].lr, run.policies["firm"].epochs, run.policies["bank"].clip) == (0.2, 3, 0.3)
    assert run.policies["firm"].entropy == cfg.Exponential(exp=20)  # a schedule is one value


def test_a_circle_of_files_is_an_error(tmp_path):
    (tmp_path / "a.yaml").write_text("extends: b.yaml")
    (tmp_path / "b.yaml").write_text("extends: a.yaml")
    with pytest.raises(ConfigError, match="a.yaml extends itself by way of b.yaml; remove one 'extends'"):
        load(tmp_path / "a.yaml")


def test_a_missing_or_unreadable_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read the configuration file .*none\.yaml \(No such file"):
        load(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"economy: \xe9")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(tmp_path / "latin.yaml")
    (tmp_path / "lost.yaml").write_text("extends: none.yaml")
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        load(tmp_path / "lost.yaml")


def test_a_resolved_file_reads_back_to_the_same_run(tmp_path):
    for file in FILES:
        run = load(file)
        (tmp_path / "copy.yaml").write_text(to_yaml(run))
        assert load(tmp_path / "copy.yaml") == run
        assert from_dict(to_dict(run)) == run
        assert pickle.loads(pickle.dumps(run)) == run  # noqa: S301  (our own bytes)
    assert "lambda: " in to_yaml(load(FILES[0]))


@settings(max_examples=50, deadline=None)
@given(
    lr=st.floats(min_value=0, allow_infinity=False),
    rule=st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"])) | st.sampled_from(["1e5", "yes", "null", "2020-01-01"]),
    value=st.integers(-(10**20), 10**20) | st.booleans() | st.lists(st.floats(-1e9, 1e9), min_size=1),
)
def test_any_value_survives_yaml(lr, rule, value):
    run = from_dict({"economy": "rbc", "policies": {"firm": {"lr": lr, "rule": rule}}, "params": {"x": value}})
    again = from_text(to_yaml(run))
    assert again == run
    assert type(again.params["x"]) is type(run.params["x"])


def test_reading_needs_neither_ray_nor_torch_nor_the_economies():
    code = "import sys; from rllib_macro import config, schedule; print({'ray', 'torch', 'envs'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert found.stdout.strip() == "set()", found.stderr


# --- mistakes ---------------------------------------------------------------------------------------------------------

SCHEDULE = "a number, [[iteration, number], ...] or {exp: iterations, from: number, to: number}"


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("polices={}", "unknown key 'polices' in the configuration; did you mean 'policies'?"),
        ("policies.firm.lrr=1", "unknown key 'lrr' in policies.firm; did you mean 'lr'?"),
        ("policies.firm.lam=1", "unknown key 'lam' in policies.firm; did you mean 'lambda'?"),
        ("policies.firm.lr={exp: 5, form: 1}", "unknown key 'form' in policies.firm.lr; did you mean 'from'?"),
        ("log.zzz=1", "unknown key 'zzz' in log; use one of episode_every"),
        ("replicas=-4", "replicas must be at least 1, got -4"),
        ("replicas=1.5", "replicas must be a whole number, got 1.5"),
        ("replicas=true", "replicas must be a whole number, got true"),
        ("replicas='4'", 'replicas must be a whole number, got "4"'),
        ("replicas=", "replicas must be a whole number, got null"),
        ("seed=9223372036854775808", "seed must be less than 9223372036854775808, got 9223372036854775808"),
        ("features=digit", "features must be 'raw', 'scaled' or 'digits', got \"digit\""),
        ("device=tpu", "device must be 'cpu' or 'cuda', got \"tpu\""),
        ("name=a/b", "name must be a folder name of letters, digits, '_', '-' and '.', got \"a/b\""),
        ("name=..", "name must be a folder name of letters, digits, '_', '-' and '.', got \"..\""),
        ("economy=rbc.yaml/x", 'economy must be a file of envs/ such as rbc or a module such as my_package.cobweb, got "rbc.yaml/x"'),
        ("policies=3", "policies must be a mapping of keys to values, got 3"),
        ("policies.firm.lr=high", f'policies.firm.lr must be {SCHEDULE}, got "high"'),
        ("policies.firm.lr=.inf", f"policies.firm.lr must be {SCHEDULE}, got Infinity"),
        ("policies.firm.lr=-1", "policies.firm.lr must be at least 0 in every iteration, got -1"),
        ("policies.firm.lr=[[0, 1], [5, -1]]", "policies.firm.lr must be at least 0 in every iteration, got [[0, 1], [5, -1]]"),
        (
            "policies.firm.lr=[[5, 1], [5, 2]]",
            "policies.firm.lr must be [[iteration, value], ...] with iterations that increase, got [[5, 1], [5, 2]]",
        ),
        ("policies.firm.lr=[[-1, 1]]", "policies.firm.lr[0][0] must be at least 0, got -1"),
        ("policies.firm.lr={exp: 0}", "policies.firm.lr.exp must be greater than 0, got 0"),
        ("policies.firm.gamma=1.5", "policies.firm.gamma must be at most 1, got 1.5"),
        ("policies.firm.gamma=.nan", "policies.firm.gamma must be a finite number, got NaN"),
        ("policies.firm.minibatches=0", "policies.firm.minibatches must be at least 1, got 0"),
        ("policies.firm.reward_scale=0", "policies.firm.reward_scale must be greater than 0, got 0"),
        ("policies.firm.rule=3", "policies.firm.rule must be text (put it in quotes), got 3"),
        ("policies.firm.network.hidden=[]", "policies.firm.network.hidden must be a list of 1 or more entries, got []"),
        ("policies.firm.network.equivariant={sees: [price]}", "policies.firm.network.equivariant.moves is missing; add it"),
        (
            "policies.firm.train_during=[[5, 5]]",
            "policies.firm.train_during must be intervals [start, end] with start before end, got [[5, 5]]",
        ),
        ("windows.firm.price=3", "windows.firm.price must be [low, high] or [[iteration, [low, high]], ...], got 3"),
        ("windows.firm.price=[3, 1]", "windows.firm.price must be [low, high] with low at most high, got [3, 1]"),
        ("windows.firm.price=[[0, [3, 1]]]", "windows.firm.price[0][1] must be [low, high] with low at most high, got [3, 1]"),
        ("params.theta=much", 'params.theta must be a number, a list of numbers, true, false or a schedule, got "much"'),
        ("params={theta: 1, theta: 2}", "duplicate key 'theta' in line 1 of the override params; keep one of the two"),
        ("params={1: 2}", "a key in line 1 of the override params is not text; put it in quotes"),
        ("resources.num_learners=3", "replicas must be a multiple of resources.num_learners (3), got 128"),
        ("replicas", 'an override must look like policies.firm.lr=1e-4, got "replicas"'),
        ("policies..lr=1", 'an override must look like policies.firm.lr=1e-4, got "policies..lr=1"'),
    ],
)
def test_a_mistake_is_one_sentence_that_says_what_to_change(override, complaint):
    assert sentence(override) == complaint


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("economy: rbc\nreplicas: 4\nreplicas: 5", "duplicate key 'replicas' in line 3 of the text; keep one of the two"),
        ("replicas: 4", "economy is missing; add it"),
        ("", "the text must hold keys and values such as 'economy: rbc', got null"),
        ("[1, 2]", "the text must hold keys and values such as 'economy: rbc', got [1, 2]"),
        ("economy: [rbc", "cannot read line 1 of the text as YAML (expected ',' or ']', but got '<stream end>'); correct it there"),
        ("economy: rbc\nextends: a.yaml", "extends works only in a file; remove it, or save the configuration and load the file"),
    ],
)
def test_a_mistake_in_the_text_is_named_with_its_line(text, complaint):
    with pytest.raises(ConfigError) as caught:
        from_text(text)
    assert str(caught.value) == complaint


@pytest.mark.parametrize(
    "text",
    ["economy: !!python/object/apply:os.getcwd []", "economy: 2024-99-01", "a: &a [*a]", "a: " + "[" * 3000, 'name: "\x01"', "- 1\n-2"],
)
def test_hostile_or_broken_yaml_is_refused(text):
    with pytest.raises(ConfigError, match="^cannot read .* as YAML"):
        from_text(text)


def test_a_mistake_in_an_extended_file_names_that_file(tmp_path):
    (tmp_path / "base.yaml").write_text("economy: rbc\neconomy: growth")
    (tmp_path / "child.yaml").write_text("extends: base.yaml")
    with pytest.raises(ConfigError, match=r"duplicate key 'economy' in line 2 of .*base\.yaml; keep one of the two"):
        load(tmp_path / "child.yaml")


# --- the economy ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("params.thetha=1", "unknown key 'thetha' in params; did you mean 'theta'?"),
        ("params.n_firms=0", "params.n_firms must be at least 1, got 0"),
        ("params.horizon=0", "params.horizon must be at least 1, got 0"),
        ("params.theta=-1", "params.theta must be at least 0, got -1"),
        ("params.n_firms=2.5", "params.n_firms must be a whole number, the same in every iteration, got 2.5"),
        ("params.n_firms=[[0, 1], [5, 9]]", "params.n_firms must be a whole number, the same in every iteration, got [[0, 1.0], [5, 9.0]]"),
        ("params.theta=[1, 2]", "params.theta must be a number or a schedule, got [1.0, 2.0]"),
        ("params.theta=true", "params.theta must be a number or a schedule, got true"),
        ("params.labor_share=0.5", "params.labor_share must be a list of numbers, got 0.5"),
        ("params.clamp_budget=2", "params.clamp_budget must be true or false, got 2"),
        ("policies.firms={}", "unknown key 'firms' in policies; did you mean 'firm'?"),
        ("policies.firm.rule=kept", "policies.firm.rule: unknown rule 'kept' of firm; did you mean 'keep'?"),
        ("policies.consumer.rule=keep", "policies.consumer.rule: unknown rule 'keep' of consumer; choose one of constant, random"),
        ("policies.consumer.head_entropy.hour=12", "unknown key 'hour' in policies.consumer.head_entropy; did you mean 'hours'?"),
        (
            "policies.consumer.agents_per_update=101",
            "policies.consumer.agents_per_update must be at most 100, the number of agents, got 101",
        ),
        ("policies.firm.agents_per_update=11", "policies.firm.agents_per_update must be at most 10, the number of agents, got 11"),
        (
            "policies.consumer.network.equivariant={sees: [budget], moves: [demand]}",
            "unknown public feature 'budget' in policies.consumer.network.equivariant.sees; use one of price",
        ),
        (
            "policies.consumer.network.equivariant={sees: [price], moves: [demands]}",
            "unknown choice 'demands' in policies.consumer.network.equivariant.moves; did you mean 'demand'?",
        ),
        ("windows.firm.prise=[0, 1]", "unknown key 'firm.prise' in windows; did you mean 'firm.price'?"),
        ("compat.frozen_uniforms=[firms]", "unknown agent type 'firms' in compat.frozen_uniforms; did you mean 'firm'?"),
    ],
)
def test_what_the_economy_does_not_know_is_named(override, complaint):
    assert sentence(override) == complaint


@pytest.mark.parametrize(
    "overrides",
    [
        ["params.theta=1"],
        ["params.theta_factor={exp: 9, from: 0, to: 1}"],
        ["params.labor_share=[1, 2, 3]"],
        ["params.clamp_budget=false"],
        ["params.clamp_budget=0"],
        ["params.export=false"],
        ["params.n_firms=20", "policies.firm.agents_per_update=15"],
        ["policies.firm.rule=keep"],
        ["policies.consumer.rule=random"],
        ["policies.firm.head_entropy={price*wage: 2}"],
        ["windows.firm.wage=[0, 1]"],
    ],
)
def test_what_the_economy_knows_is_accepted(overrides):
    check_against(from_text("economy: rbc", overrides), ECONOMY)


def test_types_left_out_get_the_default_policy_in_the_economys_order():
    run = check_against(from_text("economy: rbc\npolicies: {firm: {clip: 0.3}}"), ECONOMY)
    assert list(run.policies.items()) == [("consumer", Policy()), ("firm", Policy(clip=0.3))]


# --- files and schema -------------------------------------------------------------------------------------------------


def test_the_shipped_files_say_what_they_are():
    assert {file.stem for file in FILES} >= {"rbc", "rbc_quick", "rbc_2022"}
    for file in FILES:
        assert file.read_text(encoding="utf-8").startswith("# ")
        run = load(file)
        assert (run.name, run.economy, list(run.policies)) == (file.stem, "rbc", ["consumer", "firm", "government"])


@pytest.mark.parametrize("name", ["growth", "growth_quarterly"])
def test_learners_of_a_growth_model_discount_as_its_household_does(name):
    run = load(ROOT / "tune_configs" / f"{name}.yaml")
    assert run.economy == name and run.policies["household"].gamma == envs.load(name).defaults().beta


def test_the_profile_of_2022_has_the_published_settings():
    run = load(ROOT / "tune_configs" / "rbc_2022.yaml")
    consumer, firm, government = run.policies.values()
    assert [policy.train_from for policy in run.policies.values()] == [0, 30000, 60000]
    assert [policy.reward_scale for policy in run.policies.values()] == [5, 30000, 1000]
    assert [policy.lr for policy in run.policies.values()] == [0.001, 0.001, 0.00005]
    assert firm.model_copy(update={"train_from": 0, "reward_scale": 5.0}) == consumer
    assert government.model_copy(update={"train_from": 0, "reward_scale": 5.0, "lr": 0.001}) == consumer
    assert (consumer.epochs, consumer.minibatches, consumer.grad_clip, consumer.clip, consumer.value_clip) == (2, 1, 2.0, 0.1, 0.1)
    assert (run.replicas, run.stop.iterations, run.features, run.params["gift"]) == (128, 200000, "digits", 0.01)


def test_every_key_is_described_in_the_schema():
    schema = cfg.schema()
    undescribed = [
        f"{title}.{name}"
        for title, part in [("RunConfig", schema), *schema["$defs"].items()]
        for name, entry in part["properties"].items()
        if not entry.get("description")
    ]
    assert not undescribed
    assert {"extends", "economy"} <= schema["properties"].keys()
    assert "lambda" in schema["$defs"]["Policy"]["properties"]


def test_the_schema_accepts_the_shipped_files_and_refuses_a_mistake():
    jsonschema = pytest.importorskip("jsonschema")
    check = jsonschema.Draft202012Validator(cfg.schema())
    for file in FILES:
        check.validate(yaml.safe_load(file.read_text(encoding="utf-8")))
        check.validate(to_dict(load(file)))
    assert not check.is_valid({"economy": "rbc", "polices": {}})
    assert not check.is_valid({"economy": "rbc", "policies": {"firm": {"lr": "high"}}})
    assert not check.is_valid({"replicas": 3})
