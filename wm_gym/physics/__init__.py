"""Which physics twins exist? PyBullet scenes with the same spaces as the learned worlds."""

from __future__ import annotations

from dataclasses import dataclass

SCRIPTED_KINDS = ("expert", "noisy", "random", "near-miss")


@dataclass(frozen=True)
class TaskEntry:
    """One twin: its environment id, where its Task class is, and its horizon in steps."""

    env_id: str
    entry_point: str
    """`module:Class` of the task."""
    max_episode_steps: int


TASKS = {
    "reach": TaskEntry("wm_gym/ReachPyBullet-v0", "wm_gym.physics.reach:ReachTask", 50),
    "push": TaskEntry("wm_gym/PushPyBullet-v0", "wm_gym.physics.push:PushTask", 60),
    "drawer": TaskEntry("wm_gym/DrawerPyBullet-v0", "wm_gym.physics.drawer:DrawerTask", 60),
}
