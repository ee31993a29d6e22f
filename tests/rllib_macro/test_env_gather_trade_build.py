"""The gather-trade-build world with the dict interface that stock RLlib algorithms play."""
import numpy as np

from rllib_macro.env import MacroEnv


def test_workers_and_planner_have_the_spaces_of_the_original():
    env = MacroEnv({"economy": "gather_trade_build_original", "backend": "numpy"})
    seen, _ = env.reset(seed=1)
    assert {agent: array.shape for agent, array in seen.items()} == {
        **{f"mobile_{i}": (847 + 242 + 136,) for i in range(4)}, "planner_0": (8 * 625 + 86 + 32,)}
    assert env.action_spaces["mobile_0"].n == 50 and env.action_spaces["planner_0"].nvec.tolist() == [22] * 7


def test_an_illegal_action_does_nothing():
    env = MacroEnv({"economy": "gather_trade_build", "params": {"starting_coin": [3.0]}, "backend": "numpy"})
    env.reset(seed=1)
    keep = np.zeros(7, np.int64)
    actions = {"mobile_0": 1, "mobile_1": 2 + 9, "mobile_2": 2 + 3, "mobile_3": 13, "planner_0": keep}  # build, bid 9, bid 3, ask 0
    env.step(actions)
    assert env.batch.a.action[0, :, 0].tolist() == [0, 0, 5, 0]
    env.step({**actions, "planner_0": keep + 3})
    assert not env.batch.a.rate.any()  # rates are set on the first day only
