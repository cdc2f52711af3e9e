"""How does the gripper push without hitting? Planar inverse kinematics, and a path from rest to rest."""

from __future__ import annotations

from math import acos, atan2, hypot, pi
from typing import Any

import numpy as np

from wm_gym.physics.scene import ARM, SUBSTEPS, PandaScene, Vector

# The Panda's links, metres: shoulder above the table; shoulder to elbow and elbow to wrist, both with a 8.25 cm offset
# at the elbow; wrist to the gripper's axis; wrist to fingertips.
SHOULDER, UPPER_ARM, FOREARM, ELBOW, WRIST_OFFSET, HAND = 0.333, 0.316, 0.384, 0.0825, 0.088, 0.107 + 0.105
SHARE = [3 * (k / SUBSTEPS) ** 2 - 2 * (k / SUBSTEPS) ** 3 for k in range(1, SUBSTEPS + 1)]  # smoothstep


class PlanarScene(PandaScene):
    """A PandaScene whose arm stays in the upright plane through its base, so the joints follow from the position."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.client.setPhysicsEngineParameter(deterministicOverlappingPairs=1)

    def _joints_for(self, position: Vector) -> list[float]:
        return arm_angles(*position)

    def move(self, position: Vector) -> None:
        """Move the gripper to a position within one control step (0.1 s), starting and ending at rest."""
        self._forget_contacts()
        self.target = np.array(position, np.float64)
        start = np.array([state[0] for state in self.client.getJointStates(self.robot, ARM)])
        path = np.array([*arm_angles(*position), 0.0, 0.0]) - start
        for share in SHARE:
            self._drive((start + share * path).tolist(), 0.8)
            self.client.stepSimulation()

    def _forget_contacts(self) -> None:
        """Make what follows depend on poses and velocities alone, so that it can be continued from a physics state.

        PyBullet keeps contact points from step to step, and a change in the last bit may flip which ones it finds:
        drop them, and round what moves to a nanometre.
        """
        c = self.client
        links = [(body, -1) for body in self.movable] + [(body, 0) for body in self.sliders]
        for body, link in links:
            c.setCollisionFilterGroupMask(body, link, 0, 0)
        c.performCollisionDetection()
        for body, link in links:
            c.setCollisionFilterGroupMask(body, link, 1, -1)
        for body in self.movable:
            self.set_motion(body, self.motion(body).round(9))
        for body in self.sliders:
            self.slide(body, self.slid(body).round(9))


def arm_angles(x: float, y: float, z: float) -> list[float]:
    """The seven joint angles that put the fingertips at a position, pointing down, turned by pi / 2.

    The forearm does not twist, so the arm is two links in an upright plane and the law of cosines solves it.

    Args:
        x: Metres from the base.
        y: Metres from the base.
        z: Metres above the table.

    Raises:
        ValueError: Where the arm is too short or would fold too far.
    """
    out, up = hypot(x, y) - WRIST_OFFSET, z + HAND - SHOULDER  # the wrist seen from the shoulder
    upper, fore, reach = hypot(UPPER_ARM, ELBOW), hypot(FOREARM, ELBOW), hypot(out, up)
    if not 0.21 < reach < upper + fore:
        raise ValueError(
            f"the arm cannot put its fingertips at x={x:.3f}, y={y:.3f}, z={z:.3f} m: the wrist would be "
            f"{reach:.3f} m from the shoulder, and 0.21 to {upper + fore:.2f} m are possible"
        )
    elbow = acos((upper**2 + fore**2 - reach**2) / (2 * upper * fore)) - atan2(ELBOW, UPPER_ARM) - atan2(ELBOW, FOREARM)
    shoulder = atan2(out, up) - acos((upper**2 + reach**2 - fore**2) / (2 * upper * reach)) - atan2(ELBOW, UPPER_ARM)
    return [atan2(y, x), shoulder, 0.0, elbow - pi, 0.0, shoulder - elbow + pi, pi / 4 + atan2(y, x) - pi / 2]
