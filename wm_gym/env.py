"""How is one learned environment stepped through Gymnasium? A batch of one of `WorldCore`."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ClosedEnvironmentError

from wm_gym.common import accepted
from wm_gym.common.codec import leaves_of, map_leaves, one_of_batch
from wm_gym.common.copies import CopiesWhole
from wm_gym.common.options import takes, with_changes
from wm_gym.core import Observation, WorldCore
from wm_gym.options import EnvOptions
from wm_gym.worlds.world import World


class WorldEnv(CopiesWhole, gym.Env):
    """One episode at a time in a learned world.

    Observations are uint8 [H, W, 3] (see `EnvOptions.observation` for others), actions float32 [A] in the world's box.
    The reward is the sum of its terms. `info` holds:

    - `success`, `is_success` (bool) and `success_probability` (float);
    - `uncertainty` (float, the mean of the map) and `uncertainty_map` (float32 [h, w]: of each patch the expected
      |predicted - true latent| by now, in standard deviations of the latent);
    - `reward/<term>` (float) and `proprioception` (float32 [P]);
    - of a calibrated world `error_bound` (float: the mean error stays below it in 9 of 10 episodes like the
      calibration's) and `trust_horizon` (int: for so many further steps the error likely stays small, see
      `Calibration`);
    - with a judge other than the learned one `judge/score` and `judge/progress` (floats); success and the terms are
      then that judge's.

    Args:
        world: A World, a folder, a catalogue name or a Hub id.
        render_mode: "rgb_array" or None.
        options: See `EnvOptions`; its fields can also be given one by one.

    Raises:
        ValueError: For an option that is wrong, or that this world does not have.
        TypeError: For an option of another name.
        FileNotFoundError: Where the world is not found.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    @takes(EnvOptions)
    def __init__(
        self,
        world: World | str | Path | None = None,
        render_mode: str | None = None,
        *,
        options: EnvOptions | None = None,
        **changes: Any,
    ):
        check_render_mode(render_mode, self.metadata)
        options = with_changes(EnvOptions, options, changes)
        if options.max_episode_steps is None:
            options = with_changes(EnvOptions, options, {"max_episode_steps": time_limit_of_make()})
        self.core = WorldCore(world, render=render_mode == "rgb_array", options=options)
        self.render_mode, self._closed = render_mode, False
        self.metadata = {**self.metadata, "render_fps": self.core.spec.fps}
        self.observation_space = self.core.single_observation_space
        self.action_space = self.core.single_action_space
        self.task_description = self.core.spec.task_description

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: Restarts the stream of noise and starts; None goes on to the next episode of the same stream.
            options: One way to begin: {"image": uint8 [H, W, 3]} or {"image": [T, H, W, 3], "actions": [T-1, A]}, with
                "proprioception" [P] or [T, P] beside it or else estimated from the picture; {"episode": i, "t": k}
                from the bank of starts; {"world_state": env.get_state()}. None draws from the bank.

        Returns:
            The observation and the info.

        Raises:
            ValueError: For options that are none of these.
        """
        core, seed = self.core, accepted.seed(seed)
        core.reset(seeds=[seed], options=[options])
        super().reset(seed=seed)
        self._closed = False  # Stable-Baselines3's check_env closes, then goes on with a reset
        return self._observation(), slot_info(core.info(), 0)

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """One control step.

        Args:
            action: float32 [A], in the action space.

        Returns:
            The observation, the reward, terminated, truncated and the info.

        Raises:
            ResetNeeded: Where no episode is running.
            ValueError: For an action of another shape, not finite or outside the space.
        """
        core = self._open("step")
        if isinstance(self.action_space, gym.spaces.Box):
            batch = accepted.real("action", action)[None]
        else:
            batch = map_leaves(action, lambda leaf: accepted.real("action", leaf)[None])
        reward, terminated, truncated = core.step(batch)
        return self._observation(), reward.item(), terminated.item(), truncated.item(), slot_info(core.info(), 0)

    def chunk_step(self, actions: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Steps through several actions until they or the episode end.

        Args:
            actions: T actions, float32 [T, A] or as `gymnasium.vector` batches those of the space.

        Returns:
            As `step`: the last observation, the sum of the rewards, and the last info with the number of "steps".
        """
        self._open("chunk_step").require_reset("chunk_step")
        if isinstance(self.core.single_action_space, gym.spaces.Box):
            actions = accepted.real("a chunk", actions, "float32 [T, A]")
            if actions.ndim < 2 or not len(actions):
                raise ValueError(f"a chunk has shape {list(actions.shape)}, expected [T, A] with T >= 1")
        count = len(leaves_of(actions)[0])
        self.core.numbers_of(actions, np.ones(count, bool), row="step")  # all are looked at before the first is taken
        total = 0.0
        for steps in range(1, count + 1):
            observation, reward, terminated, truncated, info = self.step(
                one_of_batch(map_leaves(actions, np.asarray), steps - 1)
            )
            total += reward
            if terminated or truncated:
                break
        return observation, total, terminated, truncated, {**info, "steps": steps}

    def render(self) -> np.ndarray | None:
        """The current frame uint8 [H, W, 3]; None without render_mode="rgb_array"."""
        core = self._open("render")
        return core.render(0) if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """End the episode; stepping raises ClosedEnvironmentError until the next reset."""
        self._closed = True

    def get_state(self) -> dict[str, np.ndarray]:
        """Everything the future depends on (world state, seed, episode, step), as a dict of plain arrays."""
        return self._open("get_state").get_state(0)

    def set_state(self, state: dict[str, np.ndarray]) -> Observation:
        """Go on from a `get_state`, in this or another process, bit for bit; returns the observation there.

        `reset(options={"world_state": state})` begins a new episode there instead, with noise and step count of its
        own.

        Raises:
            ValueError: For a state that is incomplete, out of range or of another world.
        """
        self._open("set_state").set_state(0, state)
        return self._observation()

    @property
    def horizon(self) -> int:
        """Steps after which an episode is truncated; may be set, -1 for never."""
        return int(self._open("horizon").horizons[0])

    @horizon.setter
    def horizon(self, steps: int) -> None:
        self._open("horizon").set_horizon(steps)

    _max_episode_steps = horizon  # the name lerobot's evaluation asks for

    @property
    def compute_reward(self) -> Callable[[Any, Any, Any], Any]:
        """Of a world with goals: what (achieved_goal, desired_goal, info) pay in its source, one or a batch of them.

        It is the registered environment's own function, which hindsight replay (HER) asks for. Elsewhere there is no
        such attribute.
        """
        return self.core.compute_reward

    def _observation(self) -> Observation:
        return one_of_batch(self.core.observation(), 0)

    def _open(self, what: str) -> WorldCore:
        if self._closed:
            raise ClosedEnvironmentError(f"{what} was called after close; call reset() or make a new environment")
        return self.core


def slot_info(info: dict[str, np.ndarray], slot: int) -> dict[str, Any]:
    """One slot's info: Python numbers and bools, and arrays without the batch axis."""
    return {key: values[slot] if values.ndim > 1 else values[slot].item() for key, values in info.items()}


def check_render_mode(render_mode: str | None, metadata: dict[str, Any]) -> None:
    """ValueError for a render mode that is not of the metadata's."""
    if render_mode is not None and render_mode not in metadata["render_modes"]:
        raise ValueError(f"render_mode={render_mode!r} is unknown; choose one of {metadata['render_modes']} or None")


def time_limit_of_make() -> int | None:
    """The max_episode_steps that `gymnasium.make` is about to enforce, None outside of it.

    `make` (Gymnasium 1.4) gives the limit to its TimeLimit wrapper alone: neither the constructor's arguments nor
    `env.spec` hold it, so it is read from the running call. Without it an episode that the user asked to be longer
    would end at the world's horizon, and `chunk_step` would run past a shorter limit.
    """
    frame = inspect.currentframe()
    for _ in range(5):
        frame = frame and frame.f_back
        if frame and frame.f_code.co_name == "make" and frame.f_globals["__name__"] == "gymnasium.envs.registration":
            limit = frame.f_locals.get("max_episode_steps")
            return frame.f_locals["env_spec"].max_episode_steps if limit is None else limit
    return None
