"""What a policy learns from: returns, advantages, and the PPO loss, as plain functions of tensors.

Sources: Schulman et al. (2016), arXiv:1506.02438, eq. 16; Schulman et al. (2017), arXiv:1707.06347, eq. 7 and 9; the functions whose
names end in 2022 are those of the program of Curry et al. (2022). Time is the first axis: (T, N).
"""
from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import huber_loss, mse_loss


def gae(rewards: Tensor, values: Tensor, following: Tensor, cut: Tensor, gamma: float, lam: float) -> Tensor:
    """A_t = delta_t + gamma lambda A_{t+1},  delta_t = r_t + gamma V_{t+1} - V_t;  A_{t+1} = 0 after a cut.

    All (T, N). `following` is V_{t+1}: 0 after an end, the value of the final observation where an episode was cut.
    """
    delta = rewards + gamma * following - values
    advantages = torch.empty_like(delta)
    running = torch.zeros_like(delta[0])
    keep = gamma * lam * (~cut)
    for t in range(len(delta) - 1, -1, -1):
        running = delta[t] + keep[t] * running
        advantages[t] = running
    return advantages


def single_gamma_2022(rewards: Tensor, gamma: float) -> Tensor:
    """G_t = r_t + gamma sum_{k > t} r_k over one episode (T, ...): gamma multiplies the undiscounted rest once."""
    rest = rewards.flip(0).cumsum(0).flip(0) - rewards
    return rewards + gamma * rest


def standardise(x: Tensor, epsilon: float = 1e-6) -> Tensor:
    """(x - mean) / (standard deviation + epsilon) over all elements; over all learners if there are several."""
    if torch.distributed.is_available() and torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        sums = torch.stack([x.sum(), x.square().sum(), x.new_tensor(float(x.numel()))]).double()
        torch.distributed.all_reduce(sums)
        total, squares, n = sums
        mean = total / n
        return (x - mean.float()) / (((squares - n * mean * mean) / (n - 1)).clamp_min(0).sqrt().float() + epsilon)
    return (x - x.mean()) / ((x.std() if x.numel() > 1 else 0) + epsilon)


def clipped_surrogate(logp: Tensor, old_logp: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """-mean min(rho A, clip(rho, 1 - c, 1 + c) A), rho = exp(logp - old_logp)."""
    ratio = torch.exp(logp - old_logp)
    return -torch.min(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages).mean()


def value_loss(values: Tensor, targets: Tensor, kind: str = "huber") -> Tensor:
    """Mean Huber loss with threshold 1, or mean squared error."""
    return huber_loss(values, targets) if kind == "huber" else mse_loss(values, targets)


def clipped_value_loss(values: Tensor, old_values: Tensor, targets: Tensor, clip: float, kind: str = "huber",
                       mode: str = "elementwise") -> Tensor:
    """The larger of the loss of V and of V_old + clip(V - V_old, -c, c), row by row, or of the two means (mean_max_2022)."""
    near = old_values + (values - old_values).clamp(-clip, clip)
    if mode == "mean_max_2022":
        return torch.max(value_loss(values, targets, kind), value_loss(near, targets, kind))
    each = huber_loss if kind == "huber" else mse_loss
    return torch.max(each(values, targets, reduction="none"), each(near, targets, reduction="none")).mean()
