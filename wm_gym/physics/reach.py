"""Reach: bring the fingertips to a ball on a post, anywhere in a 3-D workspace."""

from __future__ import annotations

import numpy as np

from wm_gym.physics.scene import Camera, PandaScene


class ReachTask:
    """The ball's place is marked three times (ball, post, base disc), so one camera sees where it is in space."""

    scene_class = PandaScene
    tool = None
    camera = Camera(target=(0.45, 0.0, 0.18), distance=1.22, yaw=0, pitch=-42)
    description = "Move the gripper to the green ball."
    low, high = np.array([0.30, -0.22, 0.06]), np.array([0.60, 0.22, 0.34])
    action_dim = 3
    radius = 0.05
    farther_than = 0.15

    def __init__(self, scene: PandaScene):
        self.scene = scene
        self.parts = [scene.ball(0.04, [0.1, 0.8, 0.2, 1]), scene.cylinder(0.06, 0.01, [0.1, 0.3, 0.9, 1])]
        self.post = scene.cylinder(0.011, 0.4, [0.15, 0.35, 0.9, 1])
        self.must_see = self.parts
        self.goal = np.zeros(3)

    def reset(self, rng: np.random.Generator) -> np.ndarray:
        """Draw a goal; returns where the gripper starts."""
        while True:
            start, goal = rng.uniform(self.low, self.high), rng.uniform(self.low, self.high)
            if np.linalg.norm(start - goal) >= self.farther_than:
                self.set_state(goal)
                return start

    def state(self) -> np.ndarray:
        return self.goal.copy()

    def set_state(self, state: np.ndarray) -> None:
        self.goal = np.array(state, np.float64)
        x, y, z = self.goal
        self.scene.place(self.parts[0], self.goal)
        self.scene.place(self.parts[1], [x, y, 0.005])
        self.scene.place(self.post, [x, y, z - 0.2])  # its lower end is under the table

    def constrain(self, target: np.ndarray) -> np.ndarray:
        return np.clip(target, self.low, self.high)

    def move(self, action: np.ndarray) -> np.ndarray:
        """A displacement in metres for an action [3] of full scale 1."""
        return action

    def potentials(self) -> dict[str, float]:
        """progress: -10 x distance to the goal, metres."""
        return {"progress": -10.0 * self.distance()}

    def distance(self) -> float:
        return float(np.linalg.norm(self.scene.end_effector() - self.goal))

    def success(self) -> bool:
        return self.distance() <= self.radius

    def object_poses(self) -> dict[str, np.ndarray]:
        return {"goal": np.array([*self.goal, 0, 0, 0, 1], np.float32)}

    def expert(self) -> np.ndarray:
        """Straight to the goal, slowing down over the last step."""
        return (self.goal - self.scene.end_effector()) / 0.02

    def near_miss(self, rng: np.random.Generator):
        """A policy that heads for a point just outside the success radius and hovers there."""
        direction = rng.normal(size=3)
        offset = direction / np.linalg.norm(direction) * rng.uniform(1.1, 2.0) * self.radius
        return lambda: (self.constrain(self.goal + offset) - self.scene.end_effector()) / 0.02
