"""How does the learning rate of a small network go? Up in a twentieth of the updates, then down to nothing."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR

WARM = 0.05


def one_cycle(optimizer: Optimizer, rate: float, updates: int) -> OneCycleLR:
    """torch's one-cycle schedule with `rate` as its highest; ValueError for updates < 1."""
    if updates < 1:
        raise ValueError(f"updates is {updates}, expected at least 1")
    warm = WARM if updates * WARM != 1 else WARM * 1.01  # where one update exactly is warm, torch divides by zero
    return OneCycleLR(optimizer, rate, total_steps=updates, pct_start=warm)
