"""The physics twins as Gymnasium environments: one robot, one camera, one task."""

from __future__ import annotations

from collections.abc import Mapping
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ClosedEnvironmentError, ResetNeeded

from wm_gym.common import accepted, spaces
from wm_gym.common.copies import CopiesWhole
from wm_gym.physics import SCRIPTED_KINDS, TASKS
from wm_gym.physics.scene import STEP
from wm_gym.physics.shift import Shift, as_shift
from wm_gym.worlds.starts import bank_place

if TYPE_CHECKING:
    from wm_gym.physics.task import Task
    from wm_gym.worlds.starts import StartBank

MIN_PIXELS = 8  # of 64 x 64, that a body must show when an episode starts
ACCEPTED = "{'physics_state': vector} or {'episode': i, 't': k} (of the start bank)"
WANDERING = 0.6  # share of the random episodes
ORBIT, TURN = 0.04, 0.15  # metres and radians a step: the circle of a wanderer, 6 mm a step
JOINTS = 21  # leading entries of a physics state that belong to the robot
FAR = 1e6  # no entry of a physics state is larger: beyond, Bullet takes bodies out of the simulation for good


class PandaTwin(CopiesWhole, gym.Env):
    """A Panda task in PyBullet at 10 Hz; actions are end-effector displacements in [-1, 1], times 2 cm.

    `info` holds success and is_success (bool), proprioception float32 [3] (the end-effector, metres), object_poses (a
    position and a quaternion float32 [7] each) and, of a step, reward/<term>.

    Args:
        task: One of `wm_gym.physics.TASKS`.
        render_mode: "rgb_array" or None.
        observation: "pixels" for frames uint8 [H, W, 3], "pixels+state" for {"pixels", "agent_pos" float32 [3]} with
            the end-effector's x, y, z in metres.
        size: Height and width of a frame.
        terminate_on_success: Success ends the episode.
        starts: A world folder whose start bank serves reset(options={"episode", "t"}).
        renderer: "auto", "tiny" or "egl".
        shift: One of `wm_gym.physics.shift.SHIFTS`, or some of `Shift`'s fields: how it differs from what recordings
            show.

    Raises:
        ValueError: For an option that is none of these.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(
        self,
        task: str = "reach",
        render_mode: str | None = None,
        observation: str = "pixels",
        size: int = 64,
        terminate_on_success: bool = True,
        starts: str | None = None,
        renderer: str = "auto",
        shift: Shift | Mapping[str, Any] | str | None = None,
    ):
        self._made_with = dict(locals())  # so far the arguments
        del self._made_with["self"]
        if task not in TASKS:
            raise ValueError(f"task {task!r} is unknown; choose one of {sorted(TASKS)}")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode={render_mode!r} is unknown; choose None or 'rgb_array'")
        if observation not in ("pixels", "pixels+state"):
            raise ValueError(f"observation={observation!r} is unknown; choose 'pixels' or 'pixels+state'")
        kind: type[Task] = resolve_name(TASKS[task].entry_point)
        self.render_mode, self.observation, self.starts = render_mode, observation, starts
        self.terminate_on_success = terminate_on_success
        self.horizon, self.task_description = TASKS[task].max_episode_steps, kind.description
        self.tracked = kind.tracked
        self._id = TASKS[task].env_id
        self.scene = kind.scene_class(kind.camera, size, renderer, kind.tool, as_shift(shift))
        self.task = kind(self.scene)
        self.scene.check_shift()
        self._stranger = self.scene.add_stranger()
        self.action_names = ["dx", "dy", "dz"][: kind.action_dim]
        self.proprioception_names = ["end_effector.x", "end_effector.y", "end_effector.z"]
        self.action_unit, self.proprioception_unit = "2 cm, the displacement's norm at most 1", "m"
        self._box = self.action_space = spaces.action_space([-1.0] * kind.action_dim, [1.0] * kind.action_dim)
        self.observation_space = (
            spaces.pixels_space(size, size)
            if observation == "pixels"
            else spaces.pixels_and_state_space(size, size, len(self.proprioception_names))
        )
        self._frame: np.ndarray | None = None
        self._closed = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: Of the starts that are drawn; None goes on with the same stream.
            options: {"physics_state": float64 [S]} or {"episode": i, "t": k} of the start bank; None draws a start.

        Returns:
            The observation and the info.

        Raises:
            ValueError: For options that are none of these.
        """
        self._check_open()
        seed, state = accepted.seed(seed), self._asked_state(accepted.options("reset options", options))
        if state is not None:
            self.set_physics_state(state)
        super().reset(seed=seed)
        if state is None:
            self._draw_start()
        return self._observation(), self._info({})

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Command one displacement.

        Args:
            action: float32 [A] in [-1, 1].

        Returns:
            The observation, the reward, terminated, False and the info.

        Raises:
            ResetNeeded: Where there was no reset.
            ValueError: For an action of another shape, not finite or outside the space.
        """
        self._check_open()
        if self._frame is None:
            raise ResetNeeded("step() before reset(): call env.reset() first")
        action = spaces.check_action(action, self._box)
        before = self.task.potentials()
        self.scene.move(self.task.command(action.astype(np.float64)))
        if self.scene.shift.wanderer:
            self._steps_wandered += 1
            self._stand_stranger()
        self._frame = self.scene.render()
        success = self.task.success()
        terms = {name: value - before[name] for name, value in self.task.potentials().items()}
        terms.setdefault("success", float(success))
        return (
            self._observation(),
            float(sum(terms.values())),
            bool(success and self.terminate_on_success),
            False,
            self._info(terms),
        )

    def render(self) -> np.ndarray | None:
        """The camera's frame, uint8 [H, W, 3]; None without render_mode="rgb_array"."""
        self._check_open()
        return None if self.render_mode is None or self._frame is None else self._frame.copy()

    def close(self) -> None:
        """End the simulation; stepping raises ClosedEnvironmentError from here on."""
        if not self._closed:
            self._closed = True
            self.scene.close()

    def get_physics_state(self) -> np.ndarray:
        """Robot joints, velocities and commanded position, then the task's objects: float64 [S]."""
        self._check_open()
        return np.concatenate([self.scene.joints(), self.task.state()])

    def set_physics_state(self, state: Any) -> None:
        """Go on from a state of `get_physics_state`.

        Raises:
            ValueError: Where it can be no such state; then nothing has changed.
        """
        before = self.get_physics_state()
        expected = (
            f"[{len(before)}] for {self._id}, finite numbers within +-{FAR:g}: give what get_physics_state() "
            "of this environment returned"
        )
        state = accepted.numbers("physics_state", state, before.shape, np.float64, expected)
        if (far := np.flatnonzero(np.abs(state) > FAR)).size:
            raise ValueError(f"physics_state is {state[far[0]]:g} at index {far[0]}, expected {expected}")
        self._put(state)
        if not np.isfinite(self.get_physics_state()).all():  # a quaternion of zeros
            self._put(before)
            raise ValueError(f"physics_state is one that the simulator makes NaN of, expected {expected}")
        self._place_stranger()
        self._frame = self.scene.render()

    def _put(self, state: np.ndarray) -> None:
        self.scene.set_joints(state[:JOINTS])
        self.task.set_state(state[JOINTS:])

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or a pickle carries: how it was made, its physics state, and all else but the simulator.

        It goes on bit for bit; between a reset and the first step, where Bullet still holds contacts of the episode
        before, as a twin made anew does, which is micrometres off.
        """
        kept = {key: value for key, value in vars(self).items() if key not in ("scene", "task")}
        return kept | {"_physics": None if self._closed else self.get_physics_state()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Go on in a simulator of its own."""
        state = dict(state)
        physics = state.pop("_physics")
        PandaTwin.__init__(self, **state["_made_with"])
        vars(self).update(state)
        if physics is None:
            self.scene.close()
            return
        self._put(physics)
        if self._stranger is not None and self._frame is not None:
            self._stand_stranger()

    def scripted_policy(self, kind: str, rng: np.random.Generator, noise: float = 0.3) -> ScriptedPolicy:
        """A scripted policy for this episode.

        Args:
            kind: One of `wm_gym.physics.SCRIPTED_KINDS`.
            rng: Of its noise and choices.
            noise: How much of it, as a share of the full action.
        """
        return ScriptedPolicy(self, kind, rng, noise)

    def _asked_state(self, options: dict[str, Any]) -> Any:
        """The physics state that reset's options ask for, None where they ask for nothing."""
        if unknown := sorted(set(options) - {"physics_state", "episode", "t"}, key=str):
            raise ValueError(f"reset options {unknown} are unknown; a twin takes {ACCEPTED}")
        if set(options) not in (set(), {"physics_state"}, {"episode"}, {"episode", "t"}):
            raise ValueError(f"reset options {sorted(options)} are no way to begin an episode; give one of {ACCEPTED}")
        if "physics_state" in options and options["physics_state"] is None:
            raise ValueError(
                f"physics_state is None, expected a vector; without options a start is drawn, or give {ACCEPTED}"
            )
        if "episode" not in options:
            return options.get("physics_state")
        bank = self._bank()
        assert bank.physics_state is not None  # `_bank` refuses one without
        return bank.physics_state[bank.index(*bank_place(options, bank))]

    def _draw_start(self) -> None:
        """Draw starts until the camera sees at least 8 pixels of every body that matters."""
        for _ in range(200):
            self.scene.teleport(self.task.reset(self.np_random))
            if min(self.scene.visible_pixels(self.task.must_see)) >= MIN_PIXELS:
                break
        self._place_stranger()
        self._frame = self.scene.render()

    def _place_stranger(self) -> None:
        """Anywhere on the table, the same place for the same physics state; a wanderer's way begins there."""
        if self._stranger is not None:
            rng = np.random.default_rng(np.round(1e5 * np.abs(self.task.state())).astype(np.uint64))
            for _ in range(50):  # until the arm does not hide it
                self._stranger_at = rng.uniform(self.task.low[:2], self.task.high[:2])
                self.scene.place(self._stranger, [*self._stranger_at, 0.03])
                if self.scene.visible_pixels([self._stranger])[0] >= MIN_PIXELS:
                    break
            self._angle, self._steps_wandered = rng.uniform(0, 2 * np.pi), 0

    def _stand_stranger(self) -> None:
        """Put the stranger where it has come to: a wanderer's circle depends on the start's physics state alone."""
        if self._stranger is None:
            return
        angle = self._angle + TURN * self._steps_wandered
        way = np.array([np.cos(angle) - np.cos(self._angle), np.sin(angle) - np.sin(self._angle)])
        self.scene.place(self._stranger, [*(self._stranger_at + ORBIT * way), 0.03])

    def _observation(self) -> Any:
        assert self._frame is not None  # drawn by reset and step
        if self.observation == "pixels":
            return self._frame.copy()
        return {"pixels": self._frame.copy(), "agent_pos": self.scene.end_effector().astype(np.float32)}

    def _info(self, terms: dict[str, float]) -> dict[str, Any]:
        success = self.task.success()
        return {
            "success": success,
            "is_success": success,
            "proprioception": self.scene.end_effector().astype(np.float32),
            "object_poses": self.task.object_poses(),
            **{f"reward/{k}": v for k, v in terms.items()},
        }

    def _bank(self) -> StartBank:
        from wm_gym.worlds.catalogue import catalogue_folders
        from wm_gym.worlds.spec import WorldSpec
        from wm_gym.worlds.starts import StartBank

        worlds = (
            [self.starts]
            if self.starts
            else [folder for folder in catalogue_folders().values() if WorldSpec.load(folder).twin == self._id]
        )
        if not worlds:
            raise ValueError(
                f"no shipped world has {self._id} as its twin, so there is no start bank; pass "
                "starts='WORLD_FOLDER' to gym.make"
            )
        bank = StartBank.load(worlds[0])
        if bank.physics_state is None:
            raise ValueError(f"the start bank of {worlds[0]} holds no physics states, so no twin can start from it")
        return bank

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedEnvironmentError("the environment is closed; make a new one with gym.make")


class ScriptedPolicy:
    """expert, noisy (expert with a persistent disturbance), random or near-miss (a deliberate failure).

    random is smooth noise in some episodes; in the others the gripper heads for random places, half of them around an
    object: the arm passes in front of things and shoves them at every angle, which no expert does.
    """

    def __init__(self, env: PandaTwin, kind: str, rng: np.random.Generator, noise: float):
        if kind not in SCRIPTED_KINDS:
            raise ValueError(f"policy {kind!r} is unknown; choose one of {SCRIPTED_KINDS}")
        self.env, self.kind, self.rng = env, kind, rng
        noise *= env.task.noise_scale
        self.noise = noise if kind != "noisy" else noise * rng.uniform(1, 5)
        self.drift = np.zeros(env.task.action_dim)
        self.aim = env.task.near_miss(rng) if kind == "near-miss" else env.task.expert
        self.wanders = kind == "random" and rng.uniform() < WANDERING
        self.place, self.steps_left = np.zeros_like(self.drift), 0

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(
            "a scripted policy looks at its own twin and cannot be copied or pickled; ask the copied twin "
            "for one: twin.scripted_policy(kind, rng)"
        )

    def act(self) -> np.ndarray:
        """The next action, float32 [A] in [-1, 1]."""
        shape = self.drift.shape
        if self.wanders:
            return self._wander()
        if self.kind == "random":
            self.drift = 0.8 * self.drift + 0.6 * self.rng.normal(size=shape)
            return np.clip(self.drift, -1, 1).astype(np.float32)
        action = self.aim()
        action = action / max(1.0, np.abs(action).max())
        if self.kind == "noisy":
            self.drift = 0.7 * self.drift + 0.7 * self.noise * self.rng.normal(size=shape)
            action = action + self.drift
        elif self.kind == "near-miss":
            action = action + 0.2 * self.noise * self.rng.normal(size=shape)
        return np.clip(action, -1, 1).astype(np.float32)

    def _wander(self) -> np.ndarray:
        """Towards a place; another one when it is reached, or after 25 steps."""
        task, at = self.env.task, self.env.scene.end_effector()[: len(self.drift)]
        if self.steps_left == 0 or np.linalg.norm(self.place - at) < 0.015:
            self.place, self.steps_left = self.rng.uniform(task.low, task.high), 25
            if self.rng.uniform() < 0.5:
                objects = [pose[: len(at)] for pose in task.object_poses().values()]
                near = objects[self.rng.integers(len(objects))] + self.rng.normal(scale=0.06, size=len(at))
                self.place = np.clip(near, task.low, task.high)
        self.steps_left -= 1
        way = (self.place - at) / STEP
        action = way / max(1.0, np.linalg.norm(way)) + 0.15 * self.rng.normal(size=len(at))
        return np.clip(action, -1, 1).astype(np.float32)
