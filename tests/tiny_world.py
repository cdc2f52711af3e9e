"""What do the environment tests run on? A real world of the tiny preset with random weights, on the real engine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from wm_gym.training.build import new_world
from wm_gym.training.presets import PRESETS
from wm_gym.worlds.spec import WorldSpec
from wm_gym.worlds.starts import StartBank
from wm_gym.worlds.world import World


def make_world(
    horizon: int = 10,
    success_threshold: float = 2.0,
    proprioception: int = 3,
    seed: int = 0,
    dynamics: str = "unet",
    **changes,
) -> World:
    """Frames 64x64, 3 actions, 8 starts (episodes 0..3 at t = 0 and 5); success never unless a threshold says so.

    changes: of the tiny preset.
    """
    spec = WorldSpec(
        name="Tiny-v0",
        frame_size=[64, 64],
        action_low=[-1.0] * 3,
        action_high=[1.0] * 3,
        action_names=["x", "y", "z"],
        proprioception_names=["ee.x", "ee.y", "ee.z"][:proprioception],
        reward_components=["progress", "success"],
        horizon=horizon,
        success_threshold=success_threshold,
        task_description="touch the red ball",
    )
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (8, 2, 8, 8, 3), dtype=np.uint8).repeat(8, axis=2).repeat(8, axis=3)
    starts = StartBank(
        blocks,
        np.zeros((8, 1, 3), np.float32),
        rng.uniform(-0.1, 0.1, (8, 2, proprioception)).astype(np.float32),
        np.arange(8) // 2,
        np.arange(8) % 2 * 5,
    )
    sizes = replace(PRESETS["tiny"], dynamics=dynamics, **changes)
    world = new_world(spec, preset=sizes, seed=seed, starts=starts)
    if dynamics == "dit":  # its gates begin at zero: open them, or the memory would not matter
        generator = torch.Generator().manual_seed(seed)
        for block in world.dynamics.blocks:
            block.modulation.weight.data.normal_(std=0.1, generator=generator)
            block.modulation.bias.data.normal_(std=0.3, generator=generator)
            block.age_bias.data.normal_(generator=generator)
    return world
