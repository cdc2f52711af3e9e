"""Push: slide a block over the table to a goal disc with the square foot that the gripper holds."""

from __future__ import annotations

import numpy as np

from wm_gym.physics.glide import GlidingScene
from wm_gym.physics.scene import Camera, Tool

FOOT, BLOCK = 0.07, 0.06  # widths, metres
BESIDE = (FOOT + BLOCK) / 2  # between the centres when foot and block touch face to face
HEIGHT = 0.179  # of the fingertips: the foot then hangs 4 mm above the table
STEP = 0.02


class PushTask:
    """Planar: actions move the foot in x and y. What it cannot reach it cannot push, so nothing leaves the picture."""

    scene_class = GlidingScene
    tool = Tool(width=FOOT, height=0.03, length=0.20)
    camera = Camera(target=(0.485, 0.0, 0.03), distance=1.6, yaw=90, pitch=-50, fov=16.5)
    description = "Push the yellow block onto the blue disc."
    low, high = np.array([0.33, -0.135]), np.array([0.63, 0.135])
    block_low, block_high = np.array([0.40, -0.06]), np.array([0.56, 0.06])
    goal_low, goal_high = np.array([0.37, -0.10]), np.array([0.59, 0.10])
    push_at_least = 0.10
    action_dim = 2
    radius = 0.035

    def __init__(self, scene: GlidingScene):
        self.scene = scene
        self.block = scene.box([0.5, 0, 0.02], [BLOCK / 2, BLOCK / 2, 0.02], [0.95, 0.75, 0.1, 1], mass=0.3,
                               solid=True, friction=1.6)
        self.disc = scene.cylinder(0.055, 0.002, [0.1, 0.3, 0.9, 1])
        self.must_see = [self.block, self.disc]
        self.goal = np.zeros(2)

    def reset(self, rng: np.random.Generator) -> np.ndarray:
        """Draw block, goal and foot, in two of five episodes right behind the block; returns where the gripper starts."""
        while True:
            block, goal = rng.uniform(self.block_low, self.block_high), rng.uniform(self.goal_low, self.goal_high)
            yaw, behind = rng.uniform(-0.3, 0.3), rng.uniform() < 0.4
            foot = rng.uniform(self.low, self.high)
            if behind:
                foot = block - _unit(goal - block) * (BESIDE * 1.35) + rng.uniform(-0.015, 0.015, 2)
            apart = np.abs(foot - block).max()
            if np.linalg.norm(goal - block) >= self.push_at_least and apart > BESIDE + 0.02 and \
                    (foot == self.constrain(np.array([*foot, 0]))[:2]).all():
                break
        self.set_state(np.array([*goal, *block, 0.02, 0, 0, np.sin(yaw / 2), np.cos(yaw / 2), *[0.0] * 6]))
        return np.array([*foot, HEIGHT])

    def state(self) -> np.ndarray:
        """The goal's x, y and the block's motion: float64 [15]."""
        return np.array([*self.goal, *self.scene.motion(self.block)])

    def set_state(self, state: np.ndarray) -> None:
        self.goal = np.array(state[:2], np.float64)
        self.scene.place(self.disc, [*self.goal, 0.001])
        self.scene.set_motion(self.block, state[2:])

    def constrain(self, target: np.ndarray) -> np.ndarray:
        return np.array([*np.clip(target[:2], self.low, self.high), HEIGHT])

    def move(self, action: np.ndarray) -> np.ndarray:
        """A displacement in metres for an action [2] of full scale 1."""
        return np.array([*action, 0.0])

    def potentials(self) -> dict[str, float]:
        """progress: -10 x block to goal; approach: -1 x foot to block."""
        return {"progress": -10.0 * self.distance(),
                "approach": -float(np.linalg.norm(self._foot() - self._block()))}

    def distance(self) -> float:
        return float(np.linalg.norm(self.goal - self._block()))

    def success(self) -> bool:
        return self.distance() <= self.radius

    def object_poses(self) -> dict[str, np.ndarray]:
        return {"block": self.scene.pose(self.block).astype(np.float32),
                "goal": np.array([*self.goal, 0, 0, 0, 0, 1], np.float32)}

    def expert(self) -> np.ndarray:
        return self._push_to(self.goal)

    def near_miss(self, rng: np.random.Generator):
        """A policy that pushes the block to a place just outside the goal, or past it."""
        angle = rng.uniform(0, 2 * np.pi)
        beside = self.goal + np.array([np.cos(angle), np.sin(angle)]) * rng.uniform(1.3, 2.2) * self.radius
        return lambda: self._push_to(beside)

    def _foot(self) -> np.ndarray:
        return self.scene.end_effector()[:2]

    def _block(self) -> np.ndarray:
        return self.scene.pose(self.block)[:2]

    def _push_to(self, goal: np.ndarray) -> np.ndarray:
        """Go round the block to the face that looks away from the goal, then push straight at the goal."""
        foot, block = self._foot(), self._block()
        way = goal - block
        if np.linalg.norm(way) < 0.006:
            return np.zeros(2)
        face = np.zeros(2)
        axis = int(np.argmax(np.abs(way)))
        face[axis] = -np.sign(way[axis])  # from the block to where the foot must be
        offset = foot - block
        along, across = offset @ face, offset - (offset @ face) * face
        if along > BESIDE - 0.01 and np.linalg.norm(across) < 0.02:  # behind it: push
            pushing = along < BESIDE + 0.006
            aim = block + way + face * BESIDE if pushing else block + face * BESIDE
            step = aim - foot
            if pushing:  # stay on the line through the block's centre
                step = _unit(way) * min(STEP, np.linalg.norm(way)) - 0.3 * across
        elif along > BESIDE + 0.008:  # far enough behind: line up
            step = block + face * (BESIDE + 0.02) - foot
        else:  # beside it or in front: keep clear of it on the way round
            side = _unit(across) if np.linalg.norm(across) > 1e-6 else np.array([face[1], face[0]])
            clear = BESIDE + 0.022
            if np.linalg.norm(across) < clear - 0.004:
                step = side * (clear - across @ side)
            else:
                step = face * (BESIDE + 0.02 - along) + side * (clear - across @ side)
        return step / STEP


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(np.linalg.norm(vector), 1e-9)
