"""Registers MiniGrid without its mission, a text that is always the same, as agents of vectors are given it."""

import gymnasium as gym
import minigrid  # noqa: F401  registers the ids
from gymnasium.wrappers import FlattenObservation
from minigrid.wrappers import ImgObsWrapper


def empty_grid(**kwargs: object) -> gym.Env:
    """MiniGrid-Empty-8x8-v0 whose observation is what the agent sees, uint8 [147] of 7 x 7 cells."""
    return FlattenObservation(ImgObsWrapper(gym.make("MiniGrid-Empty-8x8-v0", **kwargs)))


gym.register("MiniGrid-Empty-8x8-flat-v0", empty_grid, max_episode_steps=256)
