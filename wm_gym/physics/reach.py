"""Reach: bring the fingertips to a ball on a post, anywhere in a 3-D workspace."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wm_gym.physics.scene import STEP, Camera, PandaScene
from wm_gym.physics.task import Task


class ReachTask(Task):
    """The ball's place is marked three times (ball, post, base disc), so one camera sees where it is in space."""

    description = "Move the gripper to the green ball."
    camera = Camera(target=(0.45, 0.0, 0.18), distance=1.22, yaw=0, pitch=-42)
    low, high = np.array([0.30, -0.22, 0.06]), np.array([0.60, 0.22, 0.34])
    radius = 0.05
    farther_than = 0.15

    def __init__(self, scene: PandaScene):
        super().__init__(scene)
        self.ball = scene.ball(0.04, [0.1, 0.8, 0.2, 1])
        self.disc = scene.cylinder(0.06, 0.01, [0.1, 0.3, 0.9, 1])
        self.post = scene.cylinder(0.011, 0.4, [0.15, 0.35, 0.9, 1])
        self.must_see = [self.ball, self.disc]
        self.goal = np.zeros(3)

    def reset(self, rng: np.random.Generator) -> np.ndarray:
        """Draw a goal; returns where the gripper starts."""
        while True:
            start, goal = rng.uniform(self.low, self.high), rng.uniform(self.low, self.high)
            if np.linalg.norm(start - goal) >= self.farther_than:
                self.set_state(goal)
                return start

    def state(self) -> np.ndarray:
        """The goal's x, y, z: float64 [3]."""
        return self.goal.copy()

    def set_state(self, state: np.ndarray) -> None:
        """Put the goal where `state` said it was."""
        self.goal = np.array(state, np.float64)
        x, y, z = self.goal
        self.scene.place(self.ball, self.goal)
        self.scene.place(self.disc, [x, y, 0.005])
        self.scene.place(self.post, [x, y, z - 0.2])  # its lower end is under the table

    def distance(self) -> float:
        """From the fingertips to the goal, metres."""
        return float(np.linalg.norm(self.scene.end_effector() - self.goal))

    def object_poses(self) -> dict[str, np.ndarray]:
        """The goal's, float32 [7]."""
        return {"goal": np.array([*self.goal, 0, 0, 0, 1], np.float32)}

    def expert(self) -> np.ndarray:
        """Straight to the goal, slowing down over the last step."""
        return (self.goal - self.scene.end_effector()) / STEP

    def near_miss(self, rng: np.random.Generator) -> Callable[[], np.ndarray]:
        """A policy that heads for a point just outside the success radius, on this side of it, and hovers there."""
        while True:
            direction = rng.normal(size=3)
            direction *= np.sign(direction @ (self.scene.end_effector() - self.goal))
            beside = self.goal + direction / np.linalg.norm(direction) * rng.uniform(1.2, 2.0) * self.radius
            beside = self.constrain(beside)
            if np.linalg.norm(beside - self.goal) >= 1.15 * self.radius:
                return lambda: (beside - self.scene.end_effector()) / STEP
