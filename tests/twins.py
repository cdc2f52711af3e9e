"""What do the tests of the physics twins share? Their ids and `make`."""

from __future__ import annotations

import gymnasium as gym

import wm_gym  # noqa: F401  (registers the ids)

REACH, PUSH, DRAWER = TWINS = tuple(f"wm_gym/{name}PyBullet-v0" for name in ("Reach", "Push", "Drawer"))


def recorded_episodes(folder, env_id: str, number: int, steps: int, policy: str, seed: int, **kwargs):
    """`number` episodes of `steps` steps of a twin, recorded in a folder, as Episodes."""
    from wm_gym.collect.record import record
    from wm_gym.data import open_clips
    from wm_gym.evaluation.episodes import Episodes

    record(
        env_id,
        number,
        policy=policy,
        out=folder,
        seed=seed,
        workers=0,
        env_kwargs={"max_episode_steps": steps, **kwargs},
    )
    return Episodes.of(open_clips(folder, progress=False), steps)


def make(env_id: str, **kwargs):
    return gym.make(env_id, **kwargs).unwrapped
