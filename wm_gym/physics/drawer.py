"""Drawer: hook a peg behind the T-shaped handle of a drawer and pull it open, over the table."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wm_gym.physics.planar_ik import PlanarScene
from wm_gym.physics.scene import STEP, Camera
from wm_gym.physics.task import Task
from wm_gym.physics.tracked import TrackedObject, yellow
from wm_gym.physics.urdf import Box, Tool

PEG = 0.03  # width of the square peg, metres
BAR, THICK, NECK = 0.11, 0.014, 0.065  # the handle: length of its bar, thickness, how far it stands off the front
TRAY, TRAVEL = 0.14, 0.14  # width of the drawer, and how far it can be out
BEHIND = (THICK + PEG) / 2 + 0.004  # from the bar's middle to a peg behind it
END = (BAR + PEG) / 2  # from the bar's middle to a peg that touches its end
BESIDE = END + 0.008  # to one that passes it
INSIDE = BAR / 4 + 0.004  # from the neck to where a peg pulls


class DrawerTask(Task):
    """Planar: actions move the peg in x and y. The drawer slides along x, towards the robot to open."""

    scene_class = PlanarScene
    tool = Tool(width=PEG, height=0.03, length=0.28)
    camera = Camera(target=(0.485, 0.0, 0.03), distance=1.6, yaw=90, pitch=-50, fov=16.5)
    description = "Pull the drawer open by its handle."
    low, high = np.array([0.31, -0.135]), np.array([0.64, 0.135])
    front_low, front_high = np.array([0.585, -0.045]), np.array([0.615, 0.045])
    open_by = 0.10
    radius = 0.02
    action_dim = 2
    height = 0.259  # the peg then hangs 4 mm above the table
    noise_scale = 0.5
    tracked = TrackedObject(position=(23,), mask=yellow, width=TRAVEL)  # how far it is out, after 21 joints and a place

    def __init__(self, scene: PlanarScene):
        super().__init__(scene)
        yellow, green = [0.95, 0.75, 0.1, 1], [0.2, 0.45, 0.2, 1]
        self.drawer = scene.slider(
            [
                Box(
                    [0.01, 0, 0.02], [0.01, TRAY / 2, 0.018], green
                ),  # the front, then its bottom, the neck and the bar
                Box([0.02 + TRAY / 2, 0, 0.01], [TRAY / 2, TRAY / 2, 0.006], green),
                Box([-NECK / 2, 0, 0.016], [NECK / 2, THICK / 2, 0.012], yellow),
                Box([-NECK, 0, 0.016], [THICK / 2, BAR / 2, 0.012], yellow),
            ],
            travel=TRAVEL,
            friction=4.0,
        )
        self.cabinet = scene.box([0, 0, 0], [TRAY / 2 + 0.02, TRAY / 2 + 0.012, 0.012], [0.35, 0.38, 0.5, 1])
        self.must_see = [self.drawer]
        self.front = np.zeros(2)

    def reset(self, rng: np.random.Generator) -> np.ndarray:
        """Draw the drawer's place and the peg's, clear of the handle; returns where the gripper starts."""
        front = rng.uniform(self.front_low, self.front_high)
        while True:
            peg = rng.uniform(self.low, self.high)
            before = peg[0] < front[0] - NECK - BEHIND - 0.01
            beside = abs(peg[1] - front[1]) > BESIDE and peg[0] < front[0] - PEG
            if before or beside:
                self.set_state(np.array([*front, 0.0, 0.0]))
                return np.array([*peg, self.height])

    def state(self) -> np.ndarray:
        """Where the drawer stands (x, y of its front when shut), how far it is out and its speed: float64 [4]."""
        return np.array([*self.front, *self.scene.slid(self.drawer)])

    def set_state(self, state: np.ndarray) -> None:
        """Put the drawer where `state` said it was."""
        self.front = np.array(state[:2], np.float64)
        self.scene.place(self.drawer, [*self.front, 0])
        self.scene.place(self.cabinet, [self.front[0] + 0.04 + TRAY / 2, self.front[1], 0.045])
        self.scene.slide(self.drawer, state[2:])

    def distance(self) -> float:
        """How much of the opening is still missing, metres."""
        return max(0.0, self.open_by - float(self.scene.slid(self.drawer)[0]))

    def potentials(self) -> dict[str, float]:
        """progress: -10 x what is missing; approach: -4 x the peg's way round the bar's end to behind it; success."""
        return {
            "progress": -10.0 * self.distance(),
            "approach": -4.0 * min(map(self._way_behind, (-1, 1))),
            "success": float(self.success()),
        }

    def object_poses(self) -> dict[str, np.ndarray]:
        """The handle's, float32 [7]."""
        bar = self._bar()
        return {"handle": np.array([*bar, 0.016, 0, 0, 0, 1], np.float32)}

    def expert(self) -> np.ndarray:
        """The next action of pulling the drawer open."""
        return self._pull_to(self.open_by + 0.01)

    def near_miss(self, rng: np.random.Generator) -> Callable[[], np.ndarray]:
        """A policy that pulls the drawer out most of the way only."""
        short = rng.uniform(0.55, 0.9) * (self.open_by - self.radius)
        return lambda: self._pull_to(short)

    def _peg(self) -> np.ndarray:
        """Where the peg's foot is, x and y: an arm that presses on the shut drawer leans over it by centimetres."""
        return self.scene.foot()[:2]

    def _bar(self) -> np.ndarray:
        """The middle of the handle's bar, x and y."""
        return self.front - [NECK + self.scene.slid(self.drawer)[0], 0]

    def _way_behind(self, side: int) -> float:
        """Length of the shortest way to the place behind the bar on one side of the neck, metres."""
        peg, place = self._peg() - self._bar(), np.array([BEHIND, side * INSIDE])
        end = np.array([0.0, side * END])
        if peg[0] < 0:
            crossing = peg[1] - peg[0] * (place[1] - peg[1]) / (place[0] - peg[0])
            if side * crossing < END:
                return float(np.linalg.norm(peg - end) + np.linalg.norm(end - place))
        return float(np.linalg.norm(peg - place))

    def _pull_to(self, opening: float) -> np.ndarray:
        """Round the end of the bar, in behind it, and back with it until the drawer is out by `opening`."""
        peg, bar = self._peg(), self._bar()
        side = 1.0 if peg[1] > bar[1] else -1.0
        along, across = peg[0] - bar[0], side * (peg[1] - bar[1])
        missing = opening - self.scene.slid(self.drawer)[0]
        if along > BEHIND - 0.012 and across < INSIDE + 0.012:  # hooked
            if missing <= 0.001:
                return np.zeros(2)
            return np.array([-min(STEP, max(along - BEHIND, 0) + missing), 0.3 * side * (INSIDE - across)]) / STEP
        if along > BEHIND - 0.004:  # behind the bar, still beside it
            return np.array([bar[0] + BEHIND + 0.004 - peg[0], side * (INSIDE - across)]) / STEP
        if across > BESIDE - 0.006:  # beside it, still before
            return np.array([bar[0] + BEHIND + 0.006 - peg[0], side * (BESIDE + 0.004 - across)]) / STEP
        return np.array([min(bar[0] - BEHIND - 0.006 - peg[0], 0.0), side * (BESIDE + 0.01 - across)]) / STEP
