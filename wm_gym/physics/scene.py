"""How does a Panda on a table move and look? PyBullet with low-polygon drawing, inverse kinematics and one camera."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pybullet

from wm_gym.physics import urdf
from wm_gym.physics.shift import OF_LOOSE_OBJECTS, Shift

STEP = 0.02  # metres, the longest displacement of one control step
SUBSTEPS = 24  # of 1/240 s: 10 Hz control
ARM = [0, 1, 2, 3, 4, 5, 6, 9, 10]  # seven joints and two fingers
GRASP_LINK = 11  # the point between the fingertips
FOOT_LINK = 13  # the foot of the tool that the gripper holds
REST = [0.0, -0.2, 0.0, -2.2, 0.0, 2.0, 0.785, 0.0, 0.0]
LOWER = [-2.8, -1.7, -2.8, -3.0, -2.8, -0.01, -2.8, 0.0, 0.0]
UPPER = [2.8, 1.7, 2.8, -0.07, 2.8, 3.7, 2.8, 0.04, 0.04]
DOWN = (1.0, 0.0, 0.0, 0.0)  # quaternion of a gripper that points down

UNSHIFTED = Shift()
Vector = Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Camera:
    """A fixed camera: what it looks at (metres), from how far, yaw and pitch in degrees, vertical field of view."""

    target: tuple[float, float, float]
    distance: float
    yaw: float
    pitch: float
    fov: float = 38.0


class PandaScene:
    """A Franka Panda with a closed gripper pointing down, and whatever a task adds."""

    def __init__(
        self,
        camera: Camera,
        size: int = 64,
        renderer: str = "auto",
        tool: urdf.Tool | None = None,
        shift: Shift = UNSHIFTED,
    ):
        self.client, self.shift = _Client(), shift
        self.size, self.renderer = size, _renderer(self.client, renderer)
        self.movable: list[int] = []  # free bodies that physics moves
        self.sliders: list[int] = []  # bodies whose link 0 slides along x
        self.client.setGravity(0, 0, -9.81)
        self.view = self.client.computeViewMatrixFromYawPitchRoll(
            camera.target, camera.distance, camera.yaw + shift.yaw, camera.pitch + shift.pitch, 0, 2
        )
        self.projection = self.client.computeProjectionMatrixFOV(camera.fov, 1.0, 0.1, 4.0)
        self.robot = self.client.loadURDF(str(urdf.low_polygon_panda(tool)), useFixedBase=True)
        for link in range(-1, self.client.getNumJoints(self.robot)):
            colour = [0.93, 0.93, 0.95, 1] if link < 8 else [0.25, 0.25, 0.3, 1] if link == 8 else [0.85, 0.25, 0.1, 1]
            self.client.changeVisualShape(self.robot, link, rgbaColor=colour)
        self.box([0.4, 0, -0.02], [0.6, 0.7, 0.02], [0.55, 0.5, 0.45, 1], solid=True)
        self.target = np.zeros(3)

    # bodies
    def box(
        self,
        position: Vector,
        half_extents: Sequence[float],
        colour: Sequence[float],
        mass: float = 0.0,
        solid: bool = False,
        friction: float = 0.5,
    ) -> int:
        """Add a box.

        Args:
            position: Of its middle, metres.
            half_extents: Half its width, depth and height, metres.
            colour: RGBA in [0, 1].
            mass: Kilograms; 0 for what does not move.
            solid: Whether it collides.
            friction: The coefficient of a solid one.

        Returns:
            The body's number.
        """
        c, shift = self.client, self.shift
        if mass:
            mass, friction = mass * shift.mass, friction * shift.friction
            half_extents = [*(shift.size * half for half in half_extents[:2]), half_extents[2]]
            colour = [*shift.colour, 1] if shift.colour else colour
        body = c.createMultiBody(
            mass,
            c.createCollisionShape(c.GEOM_BOX, halfExtents=half_extents) if solid else -1,
            c.createVisualShape(c.GEOM_BOX, halfExtents=half_extents, rgbaColor=colour),
            position,
        )
        if solid:
            c.changeDynamics(body, -1, lateralFriction=friction)
        if mass:
            self.movable.append(body)
        return body

    def ball(self, radius: float, colour: Sequence[float]) -> int:
        """Add a ball that is only drawn."""
        return self._picture(self.client.GEOM_SPHERE, radius=radius, rgbaColor=colour)

    def cylinder(self, radius: float, length: float, colour: Sequence[float]) -> int:
        """Add an upright cylinder that is only drawn."""
        return self._picture(self.client.GEOM_CYLINDER, radius=radius, length=length, rgbaColor=colour)

    def _picture(self, shape: int, **look: Any) -> int:
        return self.client.createMultiBody(0, -1, self.client.createVisualShape(shape, **look))

    def slider(self, boxes: Sequence[urdf.Box], travel: float, friction: float) -> int:
        """Add boxes that slide together along -x by 0 to `travel` metres against a friction in newtons.

        Returns the body's number; `place` puts it somewhere, `slid` and `slide` say how far it is.
        """
        body = self.client.loadURDF(str(urdf.slider(boxes, travel)), useFixedBase=True)
        self.client.setJointMotorControl2(body, 0, self.client.VELOCITY_CONTROL, targetVelocity=0, force=friction)
        self.sliders.append(body)
        return body

    def slid(self, body: int) -> np.ndarray:
        """How far a slider is out, metres, and its speed: float64 [2]."""
        return np.array(self.client.getJointState(body, 0)[:2])

    def slide(self, body: int, state: Vector) -> None:
        """Put a slider where `slid` said it was."""
        self.client.resetJointState(body, 0, *state)

    def place(self, body: int, position: Vector, orientation: Vector = (0, 0, 0, 1)) -> None:
        """Put a body somewhere: metres, and a quaternion."""
        self.client.resetBasePositionAndOrientation(body, position, orientation)

    def pose(self, body: int) -> np.ndarray:
        """Position and quaternion, float64 [7]."""
        position, orientation = self.client.getBasePositionAndOrientation(body)
        return np.array([*position, *orientation])

    def motion(self, body: int) -> np.ndarray:
        """Position, quaternion, linear and angular velocity, float64 [13]."""
        linear, angular = self.client.getBaseVelocity(body)
        return np.array([*self.pose(body), *linear, *angular])

    def set_motion(self, body: int, motion: np.ndarray) -> None:
        """Put a body where `motion` said it was, moving as it did."""
        self.place(body, motion[:3], motion[3:7])
        self.client.resetBaseVelocity(body, motion[7:10], motion[10:13])

    # robot
    def end_effector(self) -> np.ndarray:
        """Measured position between the fingertips, metres, float64 [3]."""
        return np.array(self.client.getLinkState(self.robot, GRASP_LINK, computeForwardKinematics=True)[4])

    def foot(self) -> np.ndarray:
        """Measured position of the middle of the tool's foot, metres, float64 [3]."""
        return np.array(self.client.getLinkState(self.robot, FOOT_LINK, computeForwardKinematics=True)[4])

    def _joints_for(self, position: Vector) -> list[float]:
        return list(
            self.client.calculateInverseKinematics(
                self.robot,
                GRASP_LINK,
                position,
                DOWN,
                lowerLimits=LOWER,
                upperLimits=UPPER,
                jointRanges=[high - low for low, high in zip(LOWER, UPPER)],
                restPoses=REST,
                maxNumIterations=100,
                residualThreshold=1e-6,
            )
        )

    def teleport(self, position: Vector) -> None:
        """Put the gripper at a position, at rest."""
        for joint, angle in zip(ARM, REST):
            self.client.resetJointState(self.robot, joint, angle)
        for _ in range(4):
            for joint, angle in zip(ARM[:7], self._joints_for(position)):
                self.client.resetJointState(self.robot, joint, angle)
        self.target = np.array(position, np.float64)

    def move(self, position: Vector) -> None:
        """Drive the gripper towards a position for one control step (0.1 s)."""
        self.target = np.array(position, np.float64)
        self._drive([*self._joints_for(position)[:7], 0.0, 0.0], 0.25)
        for _ in range(SUBSTEPS):
            self.client.stepSimulation()

    def _drive(self, angles: list[float], gain: float) -> None:
        """Set the motors of the joints and fingers to angles."""
        self.client.setJointMotorControlArray(
            self.robot,
            ARM,
            self.client.POSITION_CONTROL,
            targetPositions=angles,
            forces=[300.0] * 7 + [50.0] * 2,
            positionGains=[gain] * 9,
            velocityGains=[1.0] * 9,
        )

    def joints(self) -> np.ndarray:
        """Joint angles, velocities and the commanded position, float64 [21]."""
        states = self.client.getJointStates(self.robot, ARM)
        return np.array([s[0] for s in states] + [s[1] for s in states] + self.target.tolist())

    def set_joints(self, state: np.ndarray) -> None:
        """Put the robot where `joints` said it was."""
        for joint, angle, velocity in zip(ARM, state[:9], state[9:18]):
            self.client.resetJointState(self.robot, joint, angle, velocity)
        self.target = np.array(state[18:21])

    # shift
    def check_shift(self) -> None:
        """Raise ValueError where the shift changes loose objects and there are none."""
        names = [name for name in OF_LOOSE_OBJECTS if getattr(self.shift, name) != getattr(UNSHIFTED, name)]
        if names and not self.movable:
            raise ValueError(f"the shift changes {names} of loose objects, and this task has none")

    def add_stranger(self) -> int | None:
        """A green post that no recording shows, where the shift asks for it; `place` puts it somewhere."""
        if not (self.shift.stranger or self.shift.wanderer):
            return None
        return self.box([0, 0, 0], [0.015, 0.015, 0.03], [0.1, 0.7, 0.25, 1])

    # picture
    def render(self) -> np.ndarray:
        """What the camera sees, uint8 [size, size, 3]."""
        pixels = self.client.getCameraImage(
            self.size,
            self.size,
            self.view,
            self.projection,
            shadow=0,
            lightDirection=self.shift.light,
            lightAmbientCoeff=self.shift.ambient,
            renderer=self.renderer,
            flags=self.client.ER_NO_SEGMENTATION_MASK,
        )[2]
        return np.asarray(pixels, np.uint8).reshape(self.size, self.size, 4)[..., :3].copy()

    def visible_pixels(self, bodies: list[int]) -> list[float]:
        """How many pixels of a 64 x 64 picture each body shows, whatever the scene's own size."""
        body_of = np.asarray(
            self.client.getCameraImage(self.size, self.size, self.view, self.projection, renderer=self.renderer)[4]
        )
        return [float((body_of == body).sum()) * (64 / self.size) ** 2 for body in bodies]

    def close(self) -> None:
        """End the simulation."""
        self.client.disconnect()


class _Client:
    """PyBullet's functions bound to one simulation (bullet_client.BulletClient also prints to stdout)."""

    def __init__(self) -> None:
        self._process, self._id = os.getpid(), pybullet.connect(pybullet.DIRECT)

    def disconnect(self) -> None:
        """End the simulation, once, and in the process that began it: PyBullet gives its number to the next one."""
        if self._id >= 0 and self._process == os.getpid():
            pybullet.disconnect(self._id)
        self._id = -1

    __del__ = disconnect

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(
            "a PyBullet simulation cannot be copied or pickled by itself; copy the environment that it "
            "belongs to: copy.deepcopy(env)"
        )

    def __getattr__(self, name: str) -> Any:
        value = getattr(pybullet, name)
        return functools.partial(value, physicsClientId=self._id) if callable(value) else value


def _renderer(client: _Client, name: str) -> int:
    """TinyRenderer, or OpenGL through the EGL plugin where an NVIDIA device is."""
    if name not in ("auto", "tiny", "egl"):
        raise ValueError(f"renderer={name!r} is unknown; choose 'auto', 'tiny' or 'egl'")
    if name == "egl" or (name == "auto" and Path("/dev/nvidia0").exists()):
        import importlib.util

        plugin = importlib.util.find_spec("eglRenderer")
        loaded = client.loadPlugin(plugin.origin, "_eglRendererPlugin") if plugin else -1
        if loaded >= 0:
            return client.ER_BULLET_HARDWARE_OPENGL
        if name == "egl":
            raise RuntimeError("renderer='egl' could not load PyBullet's EGL plugin; use renderer='tiny'")
    return client.ER_TINY_RENDERER
