"""On an NVIDIA GPU: replicas and policies share its memory, and a whole training iteration stays there."""
import numpy as np
import pytest

from kernels.core import launch
from rllib_macro import train
from rllib_macro.env_runner import Player, make_batch
from rllib_macro.evaluate import modules
from tests.rllib_macro.tiny import tiny

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(launch.cuda_problem() is not None, reason=str(launch.cuda_problem()))]


def test_what_a_policy_sees_is_written_by_cupy_into_torchs_memory():
    config = tiny("device=cuda")
    player = Player(make_batch(config), modules(config), config)
    rollout, _ = player.play(4, 0)
    for type_, x in rollout.types.items():
        assert x.obs.is_cuda
        assert player._array(x.obs[0]).data.ptr == x.obs[0].data_ptr(), type_


def test_the_same_play_pays_the_same_on_a_cpu_and_on_a_gpu():
    rewards = {}
    for device in ("cpu", "cuda"):
        config = tiny(f"device={device}", *(f"policies.{type_}.rule=random" for type_ in ("consumer", "firm", "government")))
        batch = make_batch(config)
        rewards[device] = [{t: np.asarray(r.get() if hasattr(r, "get") else r) for t, r in batch.step({})[0].items()} for _ in range(8)]
    for on_cpu, on_gpu in zip(*rewards.values(), strict=True):
        for type_ in on_cpu:
            np.testing.assert_allclose(on_gpu[type_], on_cpu[type_], rtol=1e-5, atol=0.5 if type_ == "firm" else 2e-3)


def test_one_process_trains_on_the_gpu():
    with train.algorithm(tiny("device=cuda")) as algo:
        results = [algo.train() for _ in range(3)]
        assert all(np.isfinite(result["env_runners"]["reward/firm"]) for result in results)
        assert all(p.is_cuda for m in algo.learner_group._learner.modules.values() for p in m.parameters())
        assert all(p.is_cuda for m in algo.env_runner.module._rl_modules.values() for p in m.parameters())
