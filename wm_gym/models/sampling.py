"""How is the next latent drawn from noise? Euler steps of the flow, x-prediction."""

from __future__ import annotations

import torch


def denoiser(dynamics, memory: dict, first: torch.Tensor, vector: torch.Tensor, guidance_scale: float = 1.0):
    """What `sample_euler` asks: dynamics told a vector [B, V], with a clean context, guided by the scale s.

    x_hat = x_null + s * (x_told - x_null): classifier-free guidance (Ho and Salimans 2022) in x-prediction; s = 1 asks
    the network once, any other twice. ValueError where the dynamics have no null condition.
    """
    clean = torch.zeros_like(first[:, 0, 0, 0])

    def told(x: torch.Tensor, tau: torch.Tensor):
        return dynamics(x, tau, memory, first, vector, clean)

    if guidance_scale == 1:
        return told
    null = dynamics.forget(vector)

    def guided(x: torch.Tensor, tau: torch.Tensor):
        (x_told, features), (x_null, _) = told(x, tau), dynamics(x, tau, memory, first, null, clean)
        return x_null + guidance_scale * (x_told - x_null), features

    return guided


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
