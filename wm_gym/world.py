"""The path of `World` before 0.2; today `wm_gym.World` and `wm_gym.worlds.world`."""

from wm_gym.worlds.world import World

__all__ = ["World"]
