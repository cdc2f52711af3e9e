"""What makes a task of a twin? A subclass of Task in a file of its own, named in `TASKS`, is an environment."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np

from wm_gym.physics.scene import STEP, Camera, PandaScene
from wm_gym.physics.tracked import TrackedObject
from wm_gym.physics.urdf import Tool


class Task(ABC):
    """Objects, starts, rewards, success and scripted experts of one task, in metres and the robot's frame.

    The constructor adds the task's bodies to the scene and sets `must_see`, those that the camera has to show when
    an episode starts. Everything an episode depends on besides the robot is in `state()`.
    """

    description: str
    """What the robot is asked to do, one sentence."""
    camera: Camera
    action_dim: int = 3
    """3 moves the gripper in space, 2 over the table."""
    low: np.ndarray
    high: np.ndarray
    """The corners of the box that the gripper stays in, float64 [action_dim]."""
    height: float = 0.0
    """Of the fingertips where action_dim is 2."""
    radius: float
    """Success is a `distance()` of no more than this."""
    scene_class: type[PandaScene] = PandaScene
    """PlanarScene where the gripper touches things."""
    tool: Tool | None = None
    """What the closed gripper holds."""
    noise_scale: float = 1.0
    """Scales the disturbance of the "noisy" policy."""
    must_see: list[int]
    tracked: TrackedObject | None = None
    """The object that the task moves, for the measurements; None where it moves none."""

    def __init__(self, scene: PandaScene):
        self.scene = scene

    @abstractmethod
    def reset(self, rng: np.random.Generator) -> np.ndarray:
        """Draw and place the objects; returns where the gripper starts, float64 [3]."""

    @abstractmethod
    def state(self) -> np.ndarray:
        """The task's part of the physics state, float64 [S]."""

    @abstractmethod
    def set_state(self, state: np.ndarray) -> None:
        """Go on from a `state()`."""

    @abstractmethod
    def distance(self) -> float:
        """How far from the goal, metres."""

    @abstractmethod
    def object_poses(self) -> dict[str, np.ndarray]:
        """Position and quaternion of every object that matters, float32 [7]."""

    @abstractmethod
    def expert(self) -> np.ndarray:
        """The next action of a policy that succeeds, float64 [action_dim], full scale 1."""

    @abstractmethod
    def near_miss(self, rng: np.random.Generator) -> Callable[[], np.ndarray]:
        """Draw a deliberate failure for this episode: a function that gives the next action."""

    def potentials(self) -> dict[str, float]:
        """Reward terms as potentials: each step's reward is what they gained.

        Where "success" is none of them, every step at the goal pays 1: that suits a task whose way there pays more
        than its few steps at the goal.
        """
        return {"progress": -10.0 * self.distance()}

    def success(self) -> bool:
        """Whether the distance is within the radius."""
        return self.distance() <= self.radius

    def command(self, action: np.ndarray) -> np.ndarray:
        """Where an action [action_dim] sends the gripper, at most 2 cm from where it was sent last: float64 [3]."""
        move = STEP * np.array([*action, *[0.0] * (3 - len(action))])
        return self.constrain(self.scene.target + move / max(1.0, float(np.linalg.norm(move)) / STEP))

    def constrain(self, target: np.ndarray) -> np.ndarray:
        """The nearest place in the workspace, float64 [3]."""
        inside = np.clip(target[: self.action_dim], self.low, self.high)
        return inside if self.action_dim == 3 else np.array([*inside, self.height])
