"""How is the next latent drawn from noise? Euler steps of the flow, x-prediction."""

from __future__ import annotations

import torch


def sample_euler(denoise, noise: torch.Tensor, steps: int):
    """Integrate dx/dtau = (x_hat - x) / (1 - tau) from noise (tau = 0) to data (tau = 1).

    `denoise(x, tau [B]) -> (x_hat, features)`; one step returns x_hat at tau = 0. Returns (x, features of the
    last evaluation). Flow matching with x-prediction (Lipman et al. 2023; Dreamer 4, eq. 4).
    """
    x = noise
    for i in range(steps):
        tau = torch.full_like(x[:, 0, 0, 0], i / steps)
        x_hat, features = denoise(x, tau)
        x = x_hat if i == steps - 1 else x + (x_hat - x) / (steps - i)
    return x, features
