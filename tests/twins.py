"""What do the tests of the physics twins share? Their ids and `make`."""

from __future__ import annotations

import gymnasium as gym

import wm_gym  # noqa: F401  (registers the ids)

REACH, PUSH, DRAWER = TWINS = tuple(f"wm_gym/{name}PyBullet-v0" for name in ("Reach", "Push", "Drawer"))


def make(env_id: str, **kwargs):
    return gym.make(env_id, **kwargs).unwrapped
