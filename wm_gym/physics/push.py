"""Push: slide a block over the table to a goal disc with the square foot that the gripper holds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wm_gym.physics.planar_ik import PlanarScene
from wm_gym.physics.scene import STEP, Camera
from wm_gym.physics.task import Task
from wm_gym.physics.tracked import TrackedObject, yellow
from wm_gym.physics.urdf import Tool

FOOT_WIDTH, BLOCK_WIDTH = 0.07, 0.06  # metres
BESIDE = (FOOT_WIDTH + BLOCK_WIDTH) / 2  # between the centres when foot and block touch face to face
CLEAR = BESIDE + 0.01  # per axis, where a foot can pass a block that is turned a little
AROUND = 0.075  # radius of the way round the block that the reward counts


def apart(foot: np.ndarray, block: np.ndarray) -> np.ndarray:
    """Metres [...] between the faces of foot and block, upright squares at [..., 2]; below 0 they overlap."""
    return np.abs(foot - block).max(-1) - BESIDE


class PushTask(Task):
    """Planar: actions move the foot in x and y. What it cannot reach it cannot push, so nothing leaves the picture."""

    scene_class = PlanarScene
    tool = Tool(width=FOOT_WIDTH, height=0.03, length=0.28)
    camera = Camera(target=(0.485, 0.0, 0.03), distance=1.6, yaw=90, pitch=-50, fov=16.5)
    description = "Push the yellow block onto the blue disc."
    low, high = np.array([0.31, -0.135]), np.array([0.64, 0.135])
    block_low, block_high = np.array([0.40, -0.06]), np.array([0.55, 0.06])
    goal_low, goal_high = np.array([0.37, -0.10]), np.array([0.59, 0.10])
    push_at_least = 0.10
    action_dim = 2
    height = 0.259  # the foot then hangs 4 mm above the table
    radius = 0.035
    noise_scale = 0.5
    tracked = TrackedObject(
        position=(23, 24),
        turn=(28, 29),
        symmetry=4,
        mask=yellow,  # after 21 joints and the goal
        gap=apart,
        width=float(np.linalg.norm(high - low)),
    )

    def __init__(self, scene: PlanarScene):
        super().__init__(scene)
        self.block = scene.box(
            [0.5, 0, 0.02],
            [BLOCK_WIDTH / 2, BLOCK_WIDTH / 2, 0.02],
            [0.95, 0.75, 0.1, 1],
            mass=0.3,
            solid=True,
            friction=1.6,
        )
        self.disc = scene.cylinder(0.055, 0.002, [0.1, 0.3, 0.9, 1])
        self.must_see = [self.block, self.disc]
        self.goal = np.zeros(2)

    def reset(self, rng: np.random.Generator) -> np.ndarray:
        """Draw block, goal and foot, in two of five episodes right behind the block; returns the gripper's start."""
        behind, yaw = rng.uniform() < 0.4, rng.uniform(-0.3, 0.3)
        while True:
            block, goal = rng.uniform(self.block_low, self.block_high), rng.uniform(self.goal_low, self.goal_high)
            foot = rng.uniform(self.low, self.high)
            if behind:
                foot = block - _unit(goal - block) * BESIDE * rng.uniform(1.5, 2.1) + rng.uniform(-0.015, 0.015, 2)
            apart = np.abs(foot - block).max()
            if (
                np.linalg.norm(goal - block) >= self.push_at_least
                and apart > BESIDE + 0.02
                and (foot == self.constrain(np.array([*foot, 0]))[:2]).all()
            ):
                break
        self.set_state(np.array([*goal, *block, 0.02, 0, 0, np.sin(yaw / 2), np.cos(yaw / 2), *[0.0] * 6]))
        return np.array([*foot, self.height])

    def state(self) -> np.ndarray:
        """The goal's x, y and the block's motion: float64 [15]."""
        return np.array([*self.goal, *self.scene.motion(self.block)])

    def set_state(self, state: np.ndarray) -> None:
        """Put goal and block where `state` said they were."""
        self.goal = np.array(state[:2], np.float64)
        self.scene.place(self.disc, [*self.goal, 0.001])
        self.scene.set_motion(self.block, state[2:])

    def potentials(self) -> dict[str, float]:
        """progress: -10 x block to goal; approach: -4 x the foot's way round the block to its place behind; success."""
        offset, way = self._foot() - self._block(), self.goal - self._block()
        behind = np.arccos(np.clip(-_unit(offset) @ _unit(way), -1.0, 1.0))  # 0 there, pi on the goal's side
        round_it = AROUND * behind * min(1.0, self.distance() / 0.05)  # at the goal no side is the right one
        return {
            "progress": -10.0 * self.distance(),
            "approach": -4.0 * float(max(np.linalg.norm(offset) - AROUND, 0.0) + round_it),
            "success": float(self.success()),
        }

    def distance(self) -> float:
        """From the block to the goal, metres."""
        return float(np.linalg.norm(self.goal - self._block()))

    def object_poses(self) -> dict[str, np.ndarray]:
        """The block's and the goal's, float32 [7]."""
        return {
            "block": self.scene.pose(self.block).astype(np.float32),
            "goal": np.array([*self.goal, 0, 0, 0, 0, 1], np.float32),
        }

    def expert(self) -> np.ndarray:
        """The next action of pushing the block to the goal."""
        return self._push_to(self.goal)

    def near_miss(self, rng: np.random.Generator) -> Callable[[], np.ndarray]:
        """A policy that pushes the block to a place just outside the goal, short of it or beside it."""
        direction = rng.normal(size=2)
        direction *= np.sign(direction @ (self._block() - self.goal))
        beside = self.goal + _unit(direction) * rng.uniform(1.35, 2.2) * self.radius
        return lambda: self._push_to(beside)

    def _foot(self) -> np.ndarray:
        return self.scene.end_effector()[:2]

    def _block(self) -> np.ndarray:
        return self.scene.pose(self.block)[:2]

    def _push_to(self, goal: np.ndarray) -> np.ndarray:
        """Get behind the block, on a face that looks away from the goal, and push towards the goal from there."""
        foot, block = self._foot(), self._block()
        way = goal - block
        if np.linalg.norm(way) < 0.01:
            return np.zeros(2)
        for axis in np.argsort(-np.abs(way)):  # the face to push on: the one touched already, else the farther way
            out = -np.sign(way[axis]) * np.eye(2)[axis]  # from the block to the foot
            along, across = (foot - block) @ out, foot - block - ((foot - block) @ out) * out
            if BESIDE - 0.012 < along < BESIDE + 0.025 and np.abs(across).max() < 0.02 and abs(way[axis]) > 0.008:
                push = np.clip(way, -0.6 * abs(way[axis]), 0.6 * abs(way[axis]))  # within what friction carries
                push[axis] = way[axis]
                return (_unit(push) * min(STEP, np.linalg.norm(push)) - 0.3 * across) / STEP
        behind = [
            block - np.sign(way[axis]) * np.eye(2)[axis] * (BESIDE + 0.018)
            for axis in np.argsort(-np.abs(way))
            if abs(way[axis]) > 0.012
        ]
        reachable = [point for point in behind if (np.clip(point, self.low, self.high) == point).all()]
        end = (reachable or behind or [foot])[0]
        return (self._way_round(foot, block, end) - foot) / STEP

    def _way_round(self, foot: np.ndarray, block: np.ndarray, end: np.ndarray) -> np.ndarray:
        """The first point of the shortest way from the foot to `end` over the corners around the block."""
        offset = foot - block
        if np.abs(offset).max() < CLEAR:  # too near to turn: back off
            axis = int(np.argmax(np.abs(offset)))
            return block + np.where(np.arange(2) == axis, np.sign(offset) * (CLEAR + 0.012), offset)
        corners = [
            np.clip(block + np.array([a, b]) * (CLEAR + 0.008), self.low, self.high) for a in (-1, 1) for b in (-1, 1)
        ]
        ways = [[end], *([c, end] for c in corners), *([c, d, end] for c in corners for d in corners if d is not c)]

        def length(way: list[np.ndarray]) -> float:
            return sum(_length_clear_of(block, a, b) for a, b in zip([foot, *way], way))

        return min(ways, key=length)[0]


def _length_clear_of(block: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """Distance from a to b, 10 m more where the foot would touch the block on the way."""
    points = a + np.linspace(0.0, 1.0, 12)[:, None] * (b - a)
    touches = (np.abs(points - block).max(1) < CLEAR - 0.001).any()
    return float(np.linalg.norm(b - a)) + 10.0 * touches


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(np.linalg.norm(vector), 1e-9)
