"""The bare loop is the oracle of MacroPPO: same seed, same losses, same weights, bit for bit."""
import pytest
import torch
from ray.rllib.core.rl_module import RLModule

import envs
from rllib_macro.bare import BareLoop
from rllib_macro.config import check_against, from_text
from rllib_macro.train import algorithm
from tests.rllib_macro.tiny import tiny

MIDDLING = """
economy: rbc
replicas: 12
seed: 5
params: {n_consumers: 20, n_firms: 4, horizon: 7}
windows: {government.income_tax: [0, 0.6], consumer.hours: [[0, [0, 260]], [3, [0, 1040]]]}
policies:
  consumer: {minibatches: 5, epochs: 2, agents_per_update: 9, lr: [[0, 1.0e-2], [3, 1.0e-3]], grad_clip: null, value_clip: 0.2,
             network: {hidden: [32], activation: relu, shared_trunk: true, init: torch}}
  firm: {train_during: [[1, 3]], epochs: 3, minibatches: 3, entropy: {exp: 2, from: 0.1}, value_loss: squared, reward_scale: 30000}
  government: {rule: "fixed(income_tax=0.4)"}
"""
COBWEB = """
economy: tests.economies.cobweb
replicas: 6
policies: {producer: {minibatches: 3, lambda: 0.9}, regulator: {train_from: 1, minibatches: 1}}
"""  # endless, with shares to choose, and choices that the state forbids


def config(text):
    plain = from_text(text)
    return check_against(plain, envs.load(plain.economy))


@pytest.mark.parametrize("run", [tiny(), config(MIDDLING), config(COBWEB)], ids=["tiny", "middling", "cobweb"])
def test_macro_ppo_has_the_losses_and_the_weights_of_the_bare_loop(run):
    bare = BareLoop(run)
    first = {type_: {name: w.clone() for name, w in net.state_dict().items()} for type_, net in bare.nets.items()}
    with algorithm(run) as algo:
        learner = algo.learner_group._learner
        for _ in range(4):
            reported, losses = algo.train()["learners"], bare.train()
            for type_, of in losses.items():
                assert {name: float(reported[type_][name]) for name in of} == of
            for type_, net in bare.nets.items():
                theirs = learner.modules[type_].state_dict()
                assert all(torch.equal(theirs[name], w) for name, w in net.state_dict().items())
    moved = {type_ for type_, net in bare.nets.items() if any((w != first[type_][name]).any() for name, w in net.state_dict().items())}
    assert moved == set(bare.nets)


def test_the_bare_loop_runs_without_rllib():
    assert not any(isinstance(part, RLModule) for net in BareLoop(tiny()).nets.values() for part in net.modules())


@pytest.mark.parametrize("change", ["policies.firm.returns=single_gamma_2022", "periods=2", "compat.masks=additive_2022",
                                    "resources.num_env_runners=1", "policies.firm.network.recurrent={}"])
def test_what_the_bare_loop_does_not_know_is_refused(change):
    with pytest.raises(ValueError, match=change.partition("=")[0].partition(".masks")[0]):
        BareLoop(tiny(change))
