"""Environments of the gauntlet that show something no world takes, registered once more with their own wrappers."""

import gymnasium as gym
import minigrid  # noqa: F401  it registers its ids
from minigrid.wrappers import FullyObsWrapper, ImgObsWrapper

MINIGRID = gym.spec("MiniGrid-Empty-8x8-v0")
gym.register(
    "Gauntlet/MiniGrid-Empty-8x8-v0",
    MINIGRID.entry_point,
    kwargs=MINIGRID.kwargs,
    additional_wrappers=(FullyObsWrapper.wrapper_spec(), ImgObsWrapper.wrapper_spec()),
)
