"""How is the next latent drawn from noise? Euler steps of the flow, x-prediction."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    from wm_gym.models import Dynamics

Features = TypeVar("Features")
Denoise = Callable[[Tensor, Tensor], tuple[Tensor, Features]]
"""(x, tau [B]) -> (the clean x that is predicted, features that it was read from)."""


def denoiser(
    dynamics: Dynamics, memory: dict[str, Tensor], first: Tensor, vector: Tensor, guidance_scale: float = 1.0
) -> Denoise[Tensor]:
    """The dynamics under a condition, with a clean context, as `sample_euler` asks them.

    x_hat = x_null + s * (x_given - x_null): classifier-free guidance (Ho and Salimans 2022) in x-prediction; s = 1 asks
    the network once, any other twice.

    Args:
        dynamics: A dynamics network.
        memory: Its memory of the frames so far.
        first: The pinned first latent [B, C, h, w].
        vector: The condition [B, V].
        guidance_scale: The scale s.

    Raises:
        ValueError: Where s is not 1 and the dynamics have no null condition.
    """
    clean = torch.zeros_like(first[:, 0, 0, 0])

    def given(x: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
        return dynamics(x, tau, memory, first, vector, clean)

    if guidance_scale == 1:
        return given
    null = dynamics.forget(vector)

    def guided(x: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
        (x_given, features), (x_null, _) = given(x, tau), dynamics(x, tau, memory, first, null, clean)
        return x_null + guidance_scale * (x_given - x_null), features

    return guided


def sample_euler(denoise: Denoise[Features], noise: Tensor, steps: int) -> tuple[Tensor, Features]:
    """Integrate dx/dtau = (x_hat - x) / (1 - tau) from noise (tau = 0) to data (tau = 1) in Euler steps.

    Flow matching with x-prediction (Lipman et al. 2023; Dreamer 4, eq. 4).

    Args:
        denoise: Predicts x_hat; asked once a step.
        noise: Standard normal noise [B, ., ., .].
        steps: At least 1; one step returns x_hat at tau = 0.

    Returns:
        The data, and the features of the last evaluation.
    """
    x = noise
    for i in range(steps):
        tau = torch.full_like(x[:, 0, 0, 0], i / steps)
        x_hat, features = denoise(x, tau)
        x = x_hat if i == steps - 1 else x + (x_hat - x) / (steps - i)
    return x, features
