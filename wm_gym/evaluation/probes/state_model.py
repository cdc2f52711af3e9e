"""How predictable is the task itself? An MLP on simulator states: the ceiling for any video model on the same data."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from wm_gym.training.supervised import fit_supervised


class StateModel(nn.Module):
    """s' = s + f(s, a) on normalised states [B, D] and actions [B, A]."""

    def __init__(self, state_dim: int, action_dim: int, width: int = 256):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(state_dim + action_dim, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, state_dim),
        )
        last = self.net[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.register_buffer("mean", torch.zeros(state_dim))
        self.register_buffer("std", torch.ones(state_dim))

    def forward(self, state: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """The next states [B, D]."""
        code = (state - self.mean) / self.std
        return (code + 0.1 * self.net(torch.cat([code, action], dim=1))) * self.std + self.mean

    @torch.inference_mode()
    def roll_out(self, state: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """state [B, D], actions [B, n, A] -> [B, n+1, D], the start first."""
        states = [torch.from_numpy(np.asarray(state, np.float32))]
        for t in range(actions.shape[1]):
            states.append(self(states[-1], torch.from_numpy(np.ascontiguousarray(actions[:, t]))))
        return torch.stack(states, dim=1).numpy()


def fit_state_model(
    states: np.ndarray,
    actions: np.ndarray,
    offset: np.ndarray,
    updates: int = 8000,
    batch: int = 512,
    steps: int = 8,
    seed: int = 0,
) -> StateModel:
    """Train on the transitions of episodes (rows offset[e]:offset[e+1]) of states [N, D] and actions [N, A].

    Roll-outs of 1 to `steps` steps with gradients through them.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = StateModel(states.shape[1], actions.shape[1])
    model.mean.copy_(torch.from_numpy(states.mean(0)))
    model.std.copy_(torch.from_numpy(states.std(0).clip(1e-4)))
    end = np.repeat(offset[1:], np.diff(offset))
    rows = np.arange(len(states))
    values, commands = (torch.from_numpy(np.asarray(x, np.float32)) for x in (states, actions))

    def loss(update: int) -> torch.Tensor:
        n = 1 + update * steps // updates
        at = rng.choice(np.flatnonzero(rows + n < end), batch)
        state, total = values[at], torch.zeros(())
        for i in range(n):
            state = model(state, commands[at + i])
            total = total + F.smooth_l1_loss(state / model.std, values[at + i + 1] / model.std, beta=0.02) / n
        return total

    fit_supervised(model, loss, updates, rate=2e-3, progress=False)
    return model.eval().requires_grad_(False)
