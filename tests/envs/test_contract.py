"""What every economy must keep, whoever wrote it: tests over all files of envs/ and over one economy that the project does not know."""
import dataclasses

import numpy as np
import pytest

import envs
from envs.core.batch import Batch
from envs.core.features import VIEWS

ECONOMIES = [*envs.names(), "tests.economies.cobweb"]
PERIODS = 4  # horizon in these tests, so that long economies are not played out
SIZES = {"n_consumers": 7, "n_firms": 3}  # where an economy has them: small worlds are as strict as large ones
TOLERANCE = {np.float64: 1e-12, np.float32: 1e-5}

pytestmark = pytest.mark.parametrize("name", ECONOMIES)


def economy(name, periods=PERIODS):
    return dataclasses.replace(envs.load(name), horizon=periods)


def params(name):
    p = envs.load(name).defaults()
    return dataclasses.replace(p, **{key: n for key, n in SIZES.items() if hasattr(p, key)})


def batch(name, size=3, periods=PERIODS, **more):
    return Batch(economy(name, periods), params(name), size, **{"backend": "numpy", "seed": 5} | more)


def random_rules(name):
    return dict.fromkeys(envs.load(name).agents, "random")


def play(world, periods, choices=None):
    """Rewards of some periods, of random play unless choices are given for each."""
    return [world.step(choices[k] if choices else {t: world.random_choices(t) for t in world.count})[0] for k in range(periods)]


def state(world, where=...):
    return {field: array[where].copy() for field, array in vars(world.s).items()}


def same(one, other):
    return all(np.array_equal(one[key], other[key], equal_nan=True) for key in one)


def windows_over_half(world):
    """A window from its middle value up for each choice, but on no grid that is masked by the state too: nothing might be left."""
    found = {}
    for type_, agent in world.economy.agents.items():
        for choice in (factor for chosen in agent.chooses for factor in getattr(chosen, "factors", (chosen,))):
            if getattr(choice, "residual", False):
                continue  # the window is on what is added to a script
            if hasattr(choice, "bounds"):
                low, high = choice.bounds(world.p, {})
            elif hasattr(choice, "grid") and choice.legal(world.p, world.s) is None:
                low, high = choice.grid(world.p)[[0, -1]]
            else:
                continue
            found[f"{type_}.{choice.name}"] = float((low + high) / 2), float(high)
    return found


# -- declarations

def test_every_number_and_every_array_is_explained(name):
    kernel = envs.load(name).kernel
    for cls in (kernel.Params, kernel.State, kernel.Actions, kernel.Shocks, kernel.Rewards):
        for field in dataclasses.fields(cls):
            assert field.metadata.get("doc"), f"{cls.__name__}.{field.name} has no doc"


def test_rewards_and_action_fields_belong_to_the_agents(name):
    found = envs.load(name)
    whole = {found.known_as(type_): agent for type_, agent in found.agents.items()}
    assert [f.name for f in dataclasses.fields(found.kernel.Rewards)] == list(whole)
    for type_, agent in found.agents.items():
        assert agent.chooses == whole[found.known_as(type_)].chooses  # parts of a type choose alike
    chosen = [field for agent in whole.values() for choice in agent.chooses for field in choice.names]
    assert sorted(chosen) == sorted(f.name for f in dataclasses.fields(found.kernel.Actions))


@pytest.mark.parametrize("view", VIEWS)
def test_the_table_of_columns_describes_the_observation(name, view):
    world = batch(name, features=view)
    for type_, layout in world.layout.items():
        assert [column.index for column in layout.columns] == list(range(layout.width))
        assert len({column.name for column in layout.columns}) == layout.width
        assert world.observe(type_).shape == (3, world.count[type_], layout.width)
        assert world.observe(type_).dtype == np.float32


# -- random play

@pytest.mark.parametrize("view", VIEWS)
def test_random_play_stays_finite_and_inside_the_spaces(name, view):
    world = batch(name, features=view)
    for _ in range(2 * PERIODS + 1):
        choices = {t: world.random_choices(t) for t in world.count}
        for type_, chosen in choices.items():
            top = np.array([head.options - 1 if head.options else 1 for head in world.heads[type_]])
            assert chosen.shape == (3, world.count[type_], len(top))
            assert (chosen >= 0).all() and (chosen <= top).all()
        rewards, done = world.step(choices)
        for type_ in world.count:
            assert rewards[type_].shape == (3, world.count[type_]) and np.isfinite(rewards[type_]).all()
            assert np.isfinite(world.observe(type_)).all()
        assert all(np.isfinite(array).all() for array in vars(world.s).values() if array.dtype.kind == "f")
        assert done.shape == (3,) and done.dtype == bool
        assert list(world.measured) == list(world.economy.measures)
        assert all(value.shape == (3,) and np.isfinite(value).all() for value in world.measured.values())


def test_legal_leaves_an_option_in_every_head_and_random_play_takes_only_legal_ones(name):
    world = batch(name)
    for _ in range(PERIODS - 1):
        choices = {}
        for type_ in world.count:
            legal, choices[type_], start = world.legal(type_), world.random_choices(type_), 0
            for h, head in enumerate(world.heads[type_]):
                if legal is not None and head.options:
                    part = np.broadcast_to(legal[..., start:start + head.options], (3, world.count[type_], head.options))
                    assert part.any(-1).all()
                    assert np.take_along_axis(part, choices[type_][:, :, h, None].astype(int), -1).all()
                start += head.options
        world.step(choices)


def test_windows_exclude_what_lies_outside_and_random_play_keeps_to_them(name):
    world = batch(name, rules=random_rules(name))
    windows = windows_over_half(world)
    world.adjust(windows=windows)
    world.step({})
    chosen = [choice for agent in world.economy.agents.values() for choice in agent.chooses]
    assert windows or all(getattr(choice, "residual", False) or hasattr(choice, "mask") for choice in chosen)
    for key, (low, high) in windows.items():
        chosen = getattr(world.a, key.split(".")[1])
        assert (chosen >= low - 1e-5 * abs(low)).all() and (chosen <= high + 1e-5 * abs(high)).all(), key


@pytest.mark.parametrize("real", [np.float64, np.float32])
def test_invariants_hold_under_random_play(name, real):
    world, periods = batch(name, periods=1000, real=real, rules=random_rules(name)), 3 * PERIODS
    for _ in range(periods):
        before = type(world.s)(**state(world))
        world.step({})
        for law, broken_by in world.kernel.INVARIANTS.items():
            assert np.abs(broken_by(world.p, before, world.s)).max() <= TOLERANCE[real], law


# -- worlds

def test_the_same_seed_gives_the_same_world(name):
    one, other = batch(name), batch(name)
    for a, b in zip(play(one, PERIODS + 2), play(other, PERIODS + 2)):
        assert same(a, b)
    assert same(state(one), state(other))


def test_another_seed_gives_another_world_where_there_is_chance(name):
    one, other = batch(name), batch(name, seed=6)
    assert not same(play(one, 1)[0], play(other, 1)[0])  # other choices
    idle = [{t: np.zeros_like(batch(name).random_choices(t)) for t in one.count}] * 2
    one, other = batch(name), batch(name, seed=6)
    play(one, 2, idle), play(other, 2, idle)
    shocked = any(np.any(drawn) for drawn in vars(one.e).values())  # an economy may have shocks that are off by default
    assert same(state(one), state(other)) != shocked


def test_chance_is_new_in_every_period_and_in_every_episode(name):
    world, drawn = batch(name), []
    for _ in range(2 * PERIODS):
        drawn.append({t: world.random_choices(t) for t in world.count})
        world.step(drawn[-1])
    assert not any(same(drawn[k], drawn[m]) for k in range(2 * PERIODS) for m in range(k))


def test_a_replica_alone_plays_what_it_plays_among_others(name):
    together = batch(name, size=4, rules=random_rules(name), keep_final=True)
    alone = [batch(name, size=1, first=b, rules=random_rules(name), keep_final=True) for b in range(4)]
    for _ in range(2 * PERIODS + 1):
        rewards, done = together.step({})
        for b, world in enumerate(alone):
            own_rewards, own_done = world.step({})
            assert own_done[0] == done[b]
            for type_ in together.count:
                assert np.array_equal(own_rewards[type_][0], rewards[type_][b])
                assert np.array_equal(world.observe(type_)[0], together.observe(type_)[b])
                assert not done[b] or np.array_equal(world.final[type_][0], together.final[type_][b])
            assert same(state(world, 0), state(together, b))


def test_a_world_continues_from_where_it_was_saved(name):
    world, fresh = batch(name), batch(name)
    play(world, PERIODS + 1)
    kept = {key: value.copy() for key, value in world.state_dict().items()}
    assert all(isinstance(value, np.ndarray) and value.dtype != object for value in kept.values())
    fresh.load_state_dict(kept)
    for a, b in zip(play(world, PERIODS + 1), play(fresh, PERIODS + 1)):
        assert same(a, b)
    assert same(world.state_dict(), fresh.state_dict())


def test_a_reset_touches_only_the_replicas_it_names(name):
    world, undisturbed = batch(name), batch(name)
    play(world, 2), play(undisturbed, 2)
    where = np.array([False, True, False])
    world.reset(where)
    assert same(state(world, ~where), state(undisturbed, ~where))
    assert not same(state(world, where), state(undisturbed, where))
    assert world.age.tolist() == [2, 0, 2]
    for _ in range(PERIODS):  # also afterwards: the episodes that the others start do not depend on it
        choices = {t: undisturbed.random_choices(t) for t in world.count}
        world.step(choices), undisturbed.step(choices)
    assert same(state(world, ~where), state(undisturbed, ~where))


def test_the_horizon_starts_a_new_episode(name):
    world = batch(name, keep_final=True)
    first = {t: world.observe(t) for t in world.count}
    for k in range(1, PERIODS + 1):
        _, done = world.step({t: world.random_choices(t) for t in world.count})
        assert done.all() == (k == PERIODS) and done.any() == done.all()
        assert (world.final is not None) == done.all()
    assert world.age.tolist() == [0, 0, 0]
    assert any(not np.array_equal(world.final[t], world.observe(t)) for t in world.count)
    if all(same(state(world), state(batch(name, seed=seed))) for seed in (5, 6)):  # every episode starts alike
        assert same(first, {t: world.observe(t) for t in world.count})


def test_measures_are_those_of_the_period_played_not_of_the_episode_that_follows(name):
    ended, goes_on = batch(name, rules=random_rules(name)), batch(name, rules=random_rules(name), periods=100)
    for _ in range(PERIODS):
        ended.step({}), goes_on.step({})
    assert ended.measured and same(ended.measured, goes_on.measured)


def test_final_observations_are_kept_where_values_are_bootstrapped(name):
    world = batch(name, rules=random_rules(name))
    for _ in range(PERIODS):
        world.step({})
    assert (world.final is not None) == envs.load(name).endless


# -- rules

def test_every_rule_fills_all_that_its_type_chooses(name):
    found = envs.load(name)
    for type_, agent in found.agents.items():
        fields = [field for choice in agent.chooses for field in choice.names]
        for rule in ("random", f"constant({', '.join(f'{field}=0' for field in fields)})", *found.rules.get(type_, {})):
            world = batch(name, rules={type_: rule})
            for field in fields:
                getattr(world.a, field)[...] = 99  # left over from another period
            world.decide(type_, None)
            for field in fields:
                value = getattr(world.a, field)
                assert np.isfinite(value).all() and not (value == 99).all(), f"{type_}'s rule {rule} leaves {field} as it was"
            for _ in range(PERIODS):
                rewards, _ = world.step({t: world.random_choices(t) for t in world.count if t != type_})
                assert all(np.isfinite(reward).all() for reward in rewards.values())
