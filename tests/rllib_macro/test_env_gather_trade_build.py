"""The gather-trade-build world with the dict interface that stock RLlib algorithms play."""
import numpy as np
import pytest

import envs
from rllib_macro import config
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


def test_a_configuration_names_a_layout_or_a_layout_file(tmp_path):
    file = tmp_path / "island.txt"
    file.write_text("@@@@;@WS@;@@@@;")
    economy = envs.load("gather_trade_build")
    of = {name: config.check_against(config.from_dict({"economy": economy.name, "params": {"layout": str(name)}}), economy).params
          for name in ("small_9x9", file)}
    assert (of["small_9x9"]["height"], of["small_9x9"]["width"], len(of["small_9x9"]["layout"])) == (9, 9, 1)
    assert of[file] == {"height": 3, "width": 4, "layout": (3, 3, 3, 3, 3, 2, 1, 3, 3, 3, 3, 3)}
    with pytest.raises(config.ConfigError, match="did you mean 'small_9x9'?"):
        config.check_against(config.from_dict({"economy": economy.name, "params": {"layout": "small_8x8"}}), economy)
    with pytest.raises(config.ConfigError, match="params.height must be a number"):
        config.check_against(config.from_dict({"economy": economy.name, "params": {"height": "small_9x9"}}), economy)
