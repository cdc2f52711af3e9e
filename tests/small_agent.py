"""Which agent do the tests train in a learned world? PPO for 64 steps, a checkpoint every 16."""

from __future__ import annotations

from pathlib import Path

import wm_gym  # noqa: F401
from wm_gym.rl.train import train_agent

SMALL = {"n_envs": 2, "n_steps": 8, "batch_size": 8, "n_epochs": 2}


def train_small(out, world_folder, more: dict | None = None, **kwargs) -> Path:
    """more: further keyword arguments of the environment."""
    env_kwargs = {"world": str(world_folder), "backend": "torch", **(more or {})}
    return train_agent(
        "ppo",
        "wm_gym/World-v0",
        out,
        timesteps=64,
        env_kwargs=env_kwargs,
        recipe=SMALL,
        checkpoint_every=16,
        progress=False,
        device="cpu",
        **kwargs,
    )
