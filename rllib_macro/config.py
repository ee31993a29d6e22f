"""What a run is: pydantic models of one YAML file, read safely, every mistake one sentence that says what to change.

`load` reads a file, `from_text` a string, `from_dict` a mapping; each takes dotted overrides such as `policies.firm.lr=1e-4`.
`check_against` compares a configuration with its economy. How schedules unfold over the iterations is `schedule.py`.
"""

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from math import inf
from pathlib import Path
from sys import float_info
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import yaml
from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Strict, Tag, ValidationError, model_validator
from pydantic_core import PydanticCustomError


class ConfigError(ValueError):
    """A mistake in a configuration; its text is one sentence that says what to change."""


# --- values -----------------------------------------------------------------------------------------------------------


def _must_be(what: str) -> PydanticCustomError:
    return PydanticCustomError("must_be", "must be {what}", {"what": what})


def _rising(points: tuple) -> tuple:
    if any(later[0] <= earlier[0] for earlier, later in zip(points, points[1:])):
        raise _must_be("[[iteration, value], ...] with iterations that increase")
    return points


def _ordered(pair: tuple) -> tuple:
    if pair[0] > pair[1]:
        raise _must_be("[low, high] with low at most high")
    return pair


def _intervals(pairs: tuple) -> tuple:
    if any(start >= end for start, end in pairs):
        raise _must_be("intervals [start, end] with start before end")
    return pairs


def _cyclic(cycle: tuple) -> tuple:
    length, (start, end) = cycle
    if not start < end <= length:
        raise _must_be("[length, [start, end]] with start before end and end at most length")
    return cycle


def _not_negative(schedule: "Schedule") -> "Schedule":
    if isinstance(schedule, Exponential):
        lowest = max(min(schedule.from_, schedule.to), -inf if schedule.floor is None else schedule.floor)
    else:
        lowest = min(value for _, value in schedule) if isinstance(schedule, tuple) else schedule
    if lowest < 0:
        raise _must_be("at least 0 in every iteration")
    return schedule


def _word(pattern: str, what: str) -> AfterValidator:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text, re.ASCII):
            raise _must_be(what)
        return text

    return AfterValidator(check)


Flag = Annotated[bool, Strict()]
Real = Annotated[float, Strict()]
Positive = Annotated[Real, Gt(0)]
NotNegative = Annotated[Real, Ge(0)]
Share = Annotated[Real, Ge(0), Le(1)]
Count = Annotated[int, Strict(), Ge(1)]
Index = Annotated[int, Strict(), Ge(0)]
Seed = Annotated[Index, Lt(2**63)]
FolderName = Annotated[str, _word(r"\w[\w.-]*", "a folder name of letters, digits, '_', '-' and '.'")]
ModuleName = Annotated[str, _word(r"[^\W\d]\w*(\.[^\W\d]\w*)*", "a file of envs/ such as rbc or a module such as my_package.cobweb")]


class Part(BaseModel):
    """A frozen piece of a configuration that names the nearest key when it meets one it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        known = [field.alias or name for name, field in cls.model_fields.items()]
        for key in data if isinstance(data, Mapping) else ():
            if key not in known:
                raise PydanticCustomError("unknown_key", "unknown key", {"key": key, "known": known})
        return data


class Exponential(Part):
    """A schedule that decays:  value(k) = max(to + (from - to) exp(-(k - start) / exp), floor),  `from` before `start`."""

    exp: Positive = Field(description="Iterations in which the distance to the final value shrinks to 1/e of itself.")
    from_: Real = Field(default=1.0, alias="from", description="Value up to iteration `start`.")
    to: Real = Field(default=0.0, description="Value approached in the end.")
    floor: Real | None = Field(default=None, description="Smallest value ever taken; null: none.")
    start: Index | None = Field(
        default=None, description="Iteration in which the decay begins; null: the policy's train_from for lr and entropy, 0 for a Param."
    )


# A value's shape decides which branch of a union reads it, so that a mistake is reported for what was meant. Tags never reach a user.
def _shape(value: Any) -> str | None:
    if isinstance(value, bool):
        return "<flag>"
    if isinstance(value, (int, float)):
        return "<number>" if abs(value) <= float_info.max else None
    if isinstance(value, (Mapping, Exponential)):
        return "<exp>"
    if isinstance(value, str):
        return "<text>"
    if isinstance(value, (list, tuple)):
        return "<points>" if any(isinstance(entry, (list, tuple)) for entry in value) else "<list>"
    return None


def _one_of(what: str) -> Discriminator:
    return Discriminator(
        _shape, custom_error_type="must_be", custom_error_message="must be {what}", custom_error_context={"what": what}
    )


Interval = Annotated[tuple[Real, Real], AfterValidator(_ordered)]
_Points = Annotated[tuple[tuple[Index, Real], ...], AfterValidator(_rising), Tag("<points>")]
_Exp = Annotated[Exponential, Tag("<exp>")]

Schedule = Annotated[
    Annotated[Real, Tag("<number>")] | _Points | _Exp,
    _one_of("a number, [[iteration, number], ...] or {exp: iterations, from: number, to: number}"),
]
Coefficient = Annotated[Schedule, AfterValidator(_not_negative)]
PARAM = "a number, a list of numbers, true, false or a schedule"
ParamValue = Annotated[
    Annotated[Flag, Tag("<flag>")]
    | Annotated[Annotated[int, Strict()] | Real, Tag("<number>")]
    | Annotated[tuple[Real, ...], Tag("<list>")]
    | Annotated[str, Tag("<text>")]  # a name that the kernel knows; `check_against` puts numbers in its place
    | _Points
    | _Exp,
    _one_of(PARAM),
]
Window = Annotated[
    Annotated[Interval, Tag("<list>")] | Annotated[tuple[tuple[Index, Interval], ...], AfterValidator(_rising), Tag("<points>")],
    _one_of("[low, high] or [[iteration, [low, high]], ...]"),
]


def is_scheduled(value: Any) -> bool:
    """True if a Param or window value is a schedule (points or an Exponential) rather than a constant."""
    return _shape(value) in ("<points>", "<exp>")


# --- models -----------------------------------------------------------------------------------------------------------


class Equivariant(Part):
    """A head shared over the members of another type: what is seen of member i moves only the logits that concern member i."""

    sees: tuple[str, ...] = Field(min_length=1, description="Public features with one column per member, e.g. [price, wage].")
    moves: tuple[str, ...] = Field(min_length=1, description="Choices with one head or one option per member, e.g. [demand, employer].")


class MapEncoder(Part):
    """How a network reads a map whose tiles are bytes: unpacked to channels, convolved, then side by side with all other columns."""

    sees: str = Field(description="Feature that is the map; its columns are labelled layer[row,column], e.g. view.")
    bits: dict[str, Annotated[int, Strict(), Ge(1), Le(8)]] = Field(
        default={}, description="Layers whose bytes are bits, and how many, e.g. {ground: 7}; a byte of any other layer is a code, 0 none."
    )
    codes: Annotated[int, Strict(), Ge(1), Le(16)] = Field(
        default=2, description="Codes told apart, one channel each; a larger code counts as the last: 2 is oneself and anybody else."
    )
    channels: tuple[Count, ...] = Field(default=(8,), description="Channels of each 3 x 3 convolution of stride 2; empty: none.")
    units: Index | None = Field(
        default=32, description="Units of a layer over what the convolutions leave; null: no such layer; 0: the map is not read at all."
    )


class Recurrent(Part):
    """A recurrent layer between trunk and heads: agents remember what they saw in their episode, which begins with an empty memory.

    Without a shared trunk the value remembers by a layer of its own.
    """

    cell: Literal["gru", "lstm"] = Field(default="gru", description="Gated recurrent unit, or long short-term memory.")
    units: Count = Field(default=64, description="Width of the layer, in units.")
    sequence: Count = Field(
        default=25, description="Periods through which gradients flow; must divide the periods of an iteration, or be at least as many."
    )


class Network(Part):
    """The network of one agent type: a trunk, one head per choice, a value head."""

    hidden: tuple[Count, ...] = Field(default=(64, 64), min_length=1, description="Width of each hidden layer, in units.")
    activation: Literal["tanh", "relu"] = Field(default="tanh", description="Nonlinearity after each hidden layer.")
    shared_trunk: Flag = Field(default=False, description="true: heads and value read one trunk; false: the value has a trunk of its own.")
    init: Literal["orthogonal", "torch"] = Field(default="orthogonal", description="Initial weights: orthogonal, or PyTorch's default.")
    policy_gain: Positive = Field(default=0.01, description="Gain of the heads' orthogonal initial weights; small: nearly uniform play.")
    equivariant: Equivariant | None = Field(default=None, description="Head shared over the members of another type; null: none.")
    map: MapEncoder | None = Field(default=None, description="Encoder of a map of bytes that is seen; null: every column is a number.")
    recurrent: Recurrent | None = Field(default=None, description="Recurrent layer between trunk and heads; null: nothing is remembered.")


class Policy(Part):
    """How one agent type behaves and learns; all its agents share the policy."""

    rule: str | None = Field(default=None, description="Hand-written rule that plays the type, which then does not learn; null: it learns.")
    lr: Coefficient = Field(default=3e-4, description="Learning rate of Adam, a schedule.")
    entropy: Coefficient = Field(default=0.0, description="Weight of the entropy bonus (nats, summed over heads), a schedule.")
    head_entropy: dict[str, NotNegative] = Field(default={}, description="Multiplier of the entropy weight per choice; left out: 1.")
    gamma: Share = Field(default=0.99, description="Discount factor per period.")
    lam: Share = Field(default=0.95, alias="lambda", description="Decay of generalised advantage estimation per period; 1: full returns.")
    epochs: Count = Field(default=2, description="Passes over the rows of an iteration.")
    minibatches: Count = Field(default=4, description="Minibatches per epoch; 1: full batch.")
    clip: Positive = Field(default=0.2, description="Largest relative change of an action's probability that PPO rewards.")
    value_weight: NotNegative = Field(default=0.5, description="Weight of the value loss.")
    value_loss: Literal["huber", "squared"] = Field(default="huber", description="Value loss: Huber with threshold 1, or squared error.")
    value_clip: Positive | None = Field(default=None, description="Largest change of a value, in scaled reward; null: unclipped.")
    value_clip_mode: Literal["elementwise", "mean_max_2022"] = Field(
        default="elementwise", description="Larger of clipped and unclipped value loss row by row, or of their two means as in 2022."
    )
    grad_clip: Positive | None = Field(default=0.5, description="Largest global norm of the gradient; null: unclipped.")
    loss: Literal["ppo", "policy_gradient"] = Field(default="ppo", description="Clipped PPO loss, or plain policy gradient.")
    reward_scale: Positive = Field(default=1.0, description="Rewards are divided by this before learning; logs keep raw rewards.")
    returns: Literal["gae", "single_gamma_2022"] = Field(
        default="gae", description="Generalised advantage estimation, or r_t + gamma times the undiscounted rest as in 2022."
    )
    advantages: Literal["once", "every_update_2022"] = Field(
        default="once", description="Advantages computed once per iteration, or anew with the current values at every update as in 2022."
    )
    learn_from: Literal["all", "choices"] = Field(
        default="all", description="Rows to learn from: all, or only those in which a head leaves more than one option (with lambda 1)."
    )
    agents_per_update: Count | None = Field(
        default=None, description="Agents drawn at random from each replica and period for the update; null: all."
    )
    train_from: Index = Field(default=0, description="First iteration in which the type trains.")
    train_every: Count = Field(default=1, description="From train_from on, the type trains in iterations divisible by this.")
    train_during: Annotated[tuple[tuple[Index, Index], ...], AfterValidator(_intervals)] | None = Field(
        default=None, description="Iterations in which the type trains, [[start, end], ...], ends excluded; replaces the two above."
    )
    train_cycle: Annotated[tuple[Count, tuple[Index, Index]], AfterValidator(_cyclic)] | None = Field(
        default=None, description="[m, [a, b]]: of the iterations k allowed above, only those with a <= k mod m < b; null: all of them."
    )
    start: str | None = Field(
        default=None, description="Safetensors file with first weights, e.g. runs/first/policies/mobile_000100.safetensors; null: random."
    )
    network: Network = Field(default=Network(), description="The network of the type.")


class Stop(Part):
    """When a run ends."""

    iterations: Count = Field(default=1000, description="Training iterations in all.")


class Checkpoint(Part):
    """When a run is saved."""

    every: Index = Field(default=100, description="Iterations between checkpoints; 0: only at the end.")
    keep: Count | None = Field(default=None, description="Newest checkpoints that are kept; null: all.")


class Log(Part):
    """What a run records beside its metrics."""

    episode_every: Index = Field(default=0, description="Iterations between dense episodes; 0: only at the end.")


class Evaluation(Part):
    """Play without learning on fresh seeds."""

    every: Index = Field(default=0, description="Iterations between evaluations; 0: none during training.")
    replicas: Count = Field(default=64, description="Copies of the economy per seed.")
    seeds: tuple[Seed, ...] = Field(default=(1000, 1001, 1002), min_length=1, description="Seeds played, apart from the run's own.")
    params: dict[str, ParamValue] = Field(
        default={}, description="Params that fresh replicas have whatever those that learn have, e.g. where a curriculum has ended."
    )


class Resources(Part):
    """Ray processes and what each is given."""

    num_env_runners: Index = Field(default=0, description="Remote processes that play; 0: the main process plays.")
    num_learners: Index = Field(default=0, description="Remote processes that train; 0: the main process trains.")
    num_gpus_per_learner: NotNegative = Field(default=0.0, description="GPUs of each learner.")
    num_cpus_per_env_runner: Positive = Field(default=1.0, description="CPU cores reserved for each env runner.")
    torch_threads: Count = Field(default=1, description="Threads of PyTorch in each process.")


class Compat(Part):
    """Switches that reproduce the program published in 2022; the defaults are the modern behaviour."""

    masks: Literal["boolean", "additive_2022"] = Field(
        default="boolean", description="Choices outside their windows are excluded, or their logits lowered by 1000 per violated window."
    )
    frozen_uniforms: tuple[str, ...] = Field(default=(), description="Agent types whose uniform numbers for sampling never change.")


class Deviation(Part):
    """One agent leaves its type's shared policy and plays one of its own, which alone learns; the others keep playing fixed weights."""

    type: str = Field(description="Agent type of the agent that deviates.")
    agent: Index = Field(description="Number of the agent that deviates.")
    weights: str = Field(description="Safetensors file with the weights that the others of its type keep.")


class RunConfig(Part):
    """A run: the economy, how many copies, who learns how, when it ends."""

    economy: ModuleName = Field(description="The economy: a file of envs/ or any importable module.")
    name: FolderName = Field(description="Name of the run, whose folder is runs/<name>; left out: the file's name without .yaml.")
    seed: Seed = Field(default=0, description="Seed of all randomness, from 0 to 2**63 - 1.")
    replicas: Count = Field(default=128, description="Copies of the economy per env runner.")
    periods: Count | None = Field(default=None, description="Periods played per iteration; null: the economy's horizon.")
    staggered: Flag = Field(
        default=False, description="true: replicas start at different ages, so that each iteration sees all parts of an episode."
    )
    features: Literal["raw", "scaled", "digits"] = Field(
        default="scaled", description="Observations: in economic units, scaled, or with the saw-tooth digits of 2022."
    )
    backend: Literal["auto", "numpy", "native"] = Field(default="auto", description="How arrays on a CPU are stepped.")
    device: Literal["cpu", "cuda"] = Field(default="cpu", description="Where the economy and the networks run.")
    params: dict[str, ParamValue] = Field(default={}, description="Params of the economy's kernel: constants or schedules.")
    policies: dict[str, Policy] = Field(default={}, description="How each agent type learns; types left out get the defaults.")
    windows: dict[str, Window] = Field(default={}, description="Legal range of type.choice, economic units: [low, high] or a schedule.")
    stop: Stop = Field(default=Stop(), description="When the run ends.")
    checkpoint: Checkpoint = Field(default=Checkpoint(), description="When the run is saved.")
    log: Log = Field(default=Log(), description="What is recorded beside the metrics.")
    evaluation: Evaluation = Field(default=Evaluation(), description="When and how the policies are tried on fresh seeds.")
    resources: Resources = Field(default=Resources(), description="How many Ray processes, and what each is given.")
    compat: Compat = Field(default=Compat(), description="Quirks of the program published in 2022.")
    deviation: Deviation | None = Field(default=None, description="One agent with a policy of its own, for best responses; null: none.")

    @model_validator(mode="after")
    def _whole_shards(self) -> "RunConfig":
        learners, picky = self.resources.num_learners, [kind for kind, policy in self.policies.items() if policy.learn_from == "choices"]
        if learners > 1 and picky:
            raise PydanticCustomError(
                "sentence", "policies.{kind}.learn_from choices works with one learner; set resources.num_learners to 0 or 1",
                {"kind": picky[0]},
            )
        if learners and self.replicas % learners:
            raise PydanticCustomError(
                "sentence", "replicas must be a multiple of resources.num_learners ({n}), got {b}", {"n": learners, "b": self.replicas}
            )
        return self


# --- reading ----------------------------------------------------------------------------------------------------------


def load(path: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The configuration in a YAML file, merged over the file it `extends`, with `key=value` overrides applied last."""
    return _build(_read(Path(path), ()), overrides, Path(path).stem)


def from_text(text: str, overrides: Sequence[str] = ()) -> RunConfig:
    """The configuration in a YAML string; named after its economy unless it has a name."""
    return from_dict(mapping(text, "the text"), overrides)


def from_dict(data: Mapping[str, Any], overrides: Sequence[str] = ()) -> RunConfig:
    """The configuration in a mapping of YAML-like values, which is left as it is; named after its economy unless it has a name."""
    if not isinstance(data, Mapping):
        raise ConfigError(f"a configuration must be a mapping of keys to values, got {_show(data)}")
    if "extends" in data:
        raise ConfigError("extends works only in a file; remove it, or save the configuration and load the file")
    return _build(dict(data), overrides, None)


def to_dict(config: RunConfig) -> dict[str, Any]:
    """The whole configuration, defaults included, as plain values under the names used in YAML; `from_dict` reads it back."""
    return config.model_dump(mode="json", by_alias=True)


def to_yaml(config: RunConfig) -> str:
    """The whole configuration, defaults included, as YAML that `load` reads back to an equal one."""
    return yaml.dump(to_dict(config), Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)


def schema() -> dict[str, Any]:
    """JSON Schema of a configuration file, for editors that check and complete YAML."""
    found = RunConfig.model_json_schema(by_alias=True)
    extends = {"type": "string", "description": "File, relative to this one, whose values hold unless this one gives its own."}
    found["properties"] = {"extends": extends} | found["properties"]
    del found["required"]  # a file's name stands in for `name`, and the economy may come from the file it extends
    return found | {"anyOf": [{"required": ["economy"]}, {"required": ["extends"]}]}


def _build(data: dict[str, Any], overrides: Sequence[str], name: str | None) -> RunConfig:
    for override in overrides:
        key, equals, text = override.partition("=")
        keys = _keys(key)
        if not (equals and all(keys)):
            raise ConfigError(f"an override must look like policies.firm.lr=1e-4, got {_show(override)}")
        data = _put(data, keys, _parse(text, f"the override {key}"))
    if name is None:
        name = str(data.get("economy")).rpartition(".")[2]
    try:
        return RunConfig.model_validate({"name": name} | data)
    except ValidationError as problem:
        raise ConfigError(_sentence(problem.errors()[0])) from None


def _keys(dotted: str) -> list[str]:
    """Parts of a dotted key; a window's own name has a dot: windows.firm.price -> windows, firm.price."""
    return dotted.split(".", 1) if dotted.startswith("windows.") else dotted.split(".")


def _put(data: Any, keys: Sequence[str], value: Any) -> dict[str, Any]:
    """A copy of `data` in which the entry at `keys` is `value`."""
    entries = dict(data) if isinstance(data, Mapping) else {}
    first, *rest = keys
    return entries | {first: _put(entries.get(first), rest, value) if rest else value}


def _merge(base: Any, over: Any) -> Any:
    """`base` with the entries of `over` in place of its own, mapping by mapping; a schedule {exp: ...} is one value."""
    if not (isinstance(base, Mapping) and isinstance(over, Mapping)) or {"exp"} <= over.keys() <= {"exp", "from", "to", "floor", "start"}:
        return over
    return {**base, **{key: _merge(base.get(key), value) for key, value in over.items()}}


def _read(path: Path, children: tuple[Path, ...]) -> dict[str, Any]:
    """The mapping in a file, merged over the one it extends; `children` are the files that led here."""
    if path.resolve() in children:
        raise ConfigError(f"{path} extends itself by way of {children[-1].name}; remove one 'extends'")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"cannot read the configuration file {path} ({reason}); give the path of a YAML file") from None
    data = mapping(text, str(path))
    if "extends" not in data:
        return data
    base = data.pop("extends")
    if not isinstance(base, str):
        raise ConfigError(f"extends must be the path of a YAML file, got {_show(base)}")
    inherited = _read(path.parent / base, (*children, path.resolve()))
    inherited.pop("name", None)  # each file names its own run
    return _merge(inherited, data)


# --- YAML -------------------------------------------------------------------------------------------------------------

MOST_VALUES = 100_000  # in one file; anchors could make billions of a few lines


class _Loader(yaml.SafeLoader):
    """Safe YAML in which keys are text and occur once, and 1e-4 is a number."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                raise ConfigError(f"a key in {_place(key.start_mark)} is not text; put it in quotes")
            if key.value in seen:
                raise ConfigError(f"duplicate key '{key.value}' in {_place(key.start_mark)}; keep one of the two")
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)  # leaves every merged key as often as it was merged, and the last one counts
        node.value = list({key.value if isinstance(key.value, str) else id(key): (key, value) for key, value in node.value}.values())


class _Dumper(yaml.SafeDumper):
    """Safe YAML that quotes text which _Loader would read as a number."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver(  # type: ignore[attr-defined]
        "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$"), list("-+.0123456789")
    )


def _place(mark: Any) -> str:
    return f"line {mark.line + 1} of {mark.name}"


def _parse(text: str, source: str) -> Any:
    try:
        loader = _Loader(text)
        loader.name = source  # marks, and so errors, name it
        loader.deep_construct = True  # refuses a value that contains itself
        data = loader.get_single_data()
        if _size(data, {}) > MOST_VALUES:
            raise ConfigError(f"{source} repeats its anchors until it holds more than {MOST_VALUES:,} values; write fewer")
        return data
    except ConfigError:
        raise
    except yaml.MarkedYAMLError as problem:
        place, reason = _place(problem.problem_mark), problem.problem
    except yaml.reader.ReaderError as problem:
        place, reason = source, f"character {problem.position + 1}: {problem.reason}"
    except (ValueError, AttributeError, RecursionError) as problem:  # a scalar such as 2024-99-01, or endless brackets
        place, reason = source, str(problem)
    raise ConfigError(f"cannot read {place} as YAML ({reason}); correct it there")


def _size(data: Any, known: dict[int, int]) -> int:
    """How many values `data` holds once its anchors are written out; each object is looked at once."""
    if not isinstance(data, (dict, list)):
        return 1
    if id(data) not in known:
        known[id(data)] = 1 + sum(_size(value, known) for value in (data.values() if isinstance(data, dict) else data))
    return known[id(data)]


def mapping(text: str, source: str) -> dict[str, Any]:
    """What a YAML text says at its top level, read safely; ConfigError, with a place in `source`, if that is not keys and values."""
    data = _parse(text, source)
    if not isinstance(data, dict):
        raise ConfigError(f"{source} must hold keys and values such as 'economy: rbc', got {_show(data)}")
    return data


# --- mistakes ---------------------------------------------------------------------------------------------------------

_EXPECTED = {  # pydantic's error types that can occur here -> what the value must be
    "must_be": "{what}",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text (put it in quotes)",
    "tuple_type": "a list",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "literal_error": "{expected}",
    "greater_than": "greater than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "too_short": "a list of {min_length} or more entries",
    "too_long": "a list of {max_length} entries",
}


def _sentence(error: Any) -> str:
    """One sentence for one of pydantic's errors."""
    where = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"] if not str(part).startswith("<")
    ).removeprefix(".")
    context = {key: f"{part:g}" if isinstance(part, float) else part for key, part in error.get("ctx", {}).items()}
    if error["type"] == "sentence":
        return error["msg"]
    if error["type"] == "unknown_key":
        return _unknown("key", context["key"], where or "the configuration", context["known"])
    if error["type"] == "missing":
        return f"{where} is missing; add it"
    expected = _EXPECTED.get(error["type"], error["msg"]).format(**context)
    return f"{where} must be {expected}, got {_show(error['input'])}"


def _unknown(kind: str, name: str, where: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(str(name), names, 1)
    hint = f"did you mean '{near[0]}'?" if near else f"use one of {', '.join(names)}" if names else "remove it"
    return f"unknown {kind} '{name}' in {where}; {hint}"


def _show(value: Any) -> str:
    """A value as it would stand in YAML, in at most 60 characters."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


# --- the configuration and its economy --------------------------------------------------------------------------------


def check_against(config: RunConfig, economy: Any) -> RunConfig:
    """The configuration with a policy for every agent type of `economy`; raises ConfigError where the two do not fit.

    Params may be named where the kernel's NAMED says what a name stands for: {"layout": text -> {param: value}}. Looks at these, at
    `economy.kernel.Params`, `economy.defaults`, `economy.agents` and `economy.rules` only.
    """
    fresh = config.evaluation.model_copy(update={"params": _numbers(config.evaluation.params, economy, "evaluation.params")})
    config = config.model_copy(update={"params": _numbers(config.params, economy), "evaluation": fresh})
    _check_params(config.params, economy)
    _check_params(fresh.params, economy, "evaluation.params")
    _check_seen(config.params, economy)
    _check_horizon(config)
    for name in config.policies:
        _require("key", name, "policies", economy.agents)
    for name in config.compat.frozen_uniforms:
        _require("agent type", name, "compat.frozen_uniforms", economy.agents)
    for name in config.windows:
        fields_set = [f"{kind}.{field}" for kind, agent in economy.agents.items() for choice in agent.chooses for field in choice.names]
        _require("key", name, "windows", fields_set)
    for kind, policy in config.policies.items():
        _check_policy(kind, policy, config.params, economy)
    policies = {kind: config.policies.get(kind, Policy()) for kind in economy.agents}
    return config.model_copy(update={"policies": policies})


def _numbers(params: Mapping[str, Any], economy: Any, where: str = "params") -> dict[str, Any]:
    """Params with what names stand for in their places; what is given as a number goes before it."""
    named, meant = getattr(economy.kernel, "NAMED", {}), dict[str, Any]()
    for name, text in params.items():
        if isinstance(text, str):
            if name not in named:
                raise ConfigError(f"{where}.{name} must be {PARAM}, got {_show(text)}")
            try:
                meant |= named[name](text)
            except (OSError, ValueError) as error:
                raise ConfigError(f"{where}.{name}: {error}") from None
    return meant | {name: given for name, given in params.items() if not isinstance(given, str)}


def _require(what: str, name: str, where: str, known: Iterable[str]) -> None:
    known = list(known)
    if name not in known:
        raise ConfigError(_unknown(what, name, where, known))


def _check_params(params: Mapping[str, Any], economy: Any, where: str = "params") -> None:
    declared = {field.name: field for field in fields(economy.kernel.Params)}
    sizes = {agent.count for agent in economy.agents.values()}
    for name, given in params.items():
        _require("key", name, where, declared)
        expected = _misfit(given, declared[name].default)
        low = 1 if name in sizes else declared[name].metadata.get("low")
        if expected is None and low is not None and _shape(given) == "<number>" and given < low:
            expected = f"at least {low:g}"
        if expected:
            raise ConfigError(f"{where}.{name} must be {expected}, got {_show(given)}")


def _misfit(given: Any, default: Any) -> str | None:
    """What a Param with this default must be, if `given` is not that; None if it is."""
    shape = _shape(given)
    if isinstance(default, tuple):
        return None if shape == "<list>" and given else "a list of numbers"
    if isinstance(default, bool) or (shape == "<flag>" and default in (0, 1)):
        return None if shape == "<flag>" or given in (0, 1) else "true or false"
    if isinstance(default, int):
        return None if type(given) is int else "a whole number, the same in every iteration"
    return None if shape in ("<number>", "<points>", "<exp>") else "a number or a schedule"


def _check_horizon(config: RunConfig) -> None:
    once = [kind for kind, policy in config.policies.items() if policy.returns == "single_gamma_2022"]
    if once and config.periods is not None:
        raise ConfigError(f"policies.{once[0]}.returns single_gamma_2022 is defined on whole episodes; leave periods out")


def _check_seen(params: Mapping[str, Any], economy: Any) -> None:
    """What agents see is fixed when a run begins."""
    for agent in economy.agents.values():
        for feature in getattr(agent, "sees", ()):
            name: str = getattr(feature, "when", None) or ""
            if is_scheduled(params.get(name)):
                raise ConfigError(f"params.{name} decides whether {feature.name} is seen and must be a number, got a schedule")


def _check_rule(kind: str, rule: str, economy: Any) -> None:
    from envs.core import rules  # here, so that reading a configuration stays quick

    try:
        rules.parse(rule, economy, kind)
    except ValueError as problem:
        raise ConfigError(f"policies.{kind}.rule: {problem}") from None


def _check_policy(kind: str, policy: Policy, params: Mapping[str, Any], economy: Any) -> None:
    where, agent = f"policies.{kind}", economy.agents[kind]
    choices = [choice.name for choice in agent.chooses]
    if policy.rule is not None:
        _check_rule(kind, policy.rule, economy)
    for name in policy.head_entropy:
        _require("key", name, f"{where}.head_entropy", choices)
    if policy.network.equivariant:
        for name in policy.network.equivariant.sees:
            public = [feature.name for feature in agent.sees if feature.kind == "public"]
            _require("public feature", name, f"{where}.network.equivariant.sees", public)
        for name in policy.network.equivariant.moves:
            _require("choice", name, f"{where}.network.equivariant.moves", choices)
    if policy.learn_from == "choices" and (policy.network.recurrent or policy.lam < 1):
        raise ConfigError(f"{where}.learn_from choices needs lambda 1 and no recurrent network, for it learns the values of some periods "
                          "only")
    if policy.network.map:
        _require("feature", policy.network.map.sees, f"{where}.network.map.sees", [feature.name for feature in agent.sees])
    size = agent.number(SimpleNamespace(**vars(economy.defaults()) | params))
    if policy.agents_per_update is not None and policy.agents_per_update > size:
        raise ConfigError(f"{where}.agents_per_update must be at most {size}, the number of agents, got {policy.agents_per_update}")
