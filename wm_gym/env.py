"""How is one learned environment stepped through Gymnasium? A batch of one of `WorldCore`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.error import ClosedEnvironmentError

from wm_gym.common import accepted, spaces
from wm_gym.common.copies import CopiesWhole
from wm_gym.core import WorldCore
from wm_gym.judges import Judge
from wm_gym.worlds.world import World


class WorldEnv(CopiesWhole, gym.Env):
    """One episode at a time in a learned world.

    world: a World, a folder, a catalogue name or a Hub id. observation: "pixels" (uint8 [H, W, 3]), "pixels+state"
    ({"pixels", "agent_pos" float32 [P]}) or "latent" (float32 [C*h*w], the decoder is skipped). Actions: float32 [A]
    in the world's box; ValueError outside it. max_episode_steps: None for the world's horizon, -1 for no limit.
    starts: "first" begins episodes where recorded ones began, "any" also in their middle. success_threshold: the
    probability above which the judge's answer is yes, None for the world's. uncertainty_penalty (of the reward, a unit
    of uncertainty) and truncate_on_uncertainty: see `WorldCore`. backend, device and precision: what steps the world
    (see `wm_gym.make_engine`). reward: which judge pays and says success, "learned" (the world's heads), "goal:IMAGE",
    another of `wm_gym.judges`, a Judge, or a list of judges that must agree; reward_kwargs: its options.

    info: success and is_success (bool), success_probability, uncertainty (float, the mean of the map), uncertainty_map
    float32 [h, w] (of each patch the expected |predicted - true latent| by now, in standard deviations of the latent),
    reward/<term> (floats; the reward is their sum) and proprioception float32 [P]; with a judge other than the learned
    one judge/score and judge/progress (floats), success and the terms being that judge's; of a calibrated world also
    error_bound (float: what the mean error stays below in 9 of 10 episodes like the calibration's) and trust_horizon
    (int: for so many further steps the error likely stays small, see `Calibration`).
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(
        self,
        world: World | str | Path | None = None,
        render_mode: str | None = None,
        observation: str = "pixels",
        backend: str = "auto",
        device: str = "auto",
        precision: str = "auto",
        max_episode_steps: int | None = None,
        terminate_on_success: bool = True,
        starts: str = "first",
        success_threshold: float | None = None,
        uncertainty_penalty: float = 0.0,
        truncate_on_uncertainty: bool = False,
        reward: str | Judge | Sequence[str | Judge] = "learned",
        reward_kwargs: dict | None = None,
    ):
        check_render_mode(render_mode, self.metadata)
        if max_episode_steps is None:
            max_episode_steps = time_limit_of_make()
        self.core = WorldCore(
            world,
            1,
            observation=observation,
            backend=backend,
            device=device,
            precision=precision,
            max_episode_steps=max_episode_steps,
            terminate_on_success=terminate_on_success,
            starts=starts,
            success_threshold=success_threshold,
            uncertainty_penalty=uncertainty_penalty,
            truncate_on_uncertainty=truncate_on_uncertainty,
            reward=reward,
            reward_kwargs=reward_kwargs,
        )
        self.render_mode, self._closed = render_mode, False
        self.metadata = {**self.metadata, "render_fps": self.core.spec.fps}
        self.observation_space = self.core.single_observation_space
        self.action_space = self.core.single_action_space
        self.task_description = self.core.spec.task_description

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Begin an episode; without a seed the next one of the same stream.

        options: {"image": uint8 [H, W, 3]} or {"image": [T, H, W, 3], "actions": [T-1, A]}, with "proprioception" [P]
        or [T, P] beside it or else estimated from the picture; {"episode": i, "t": k} from the bank of starts;
        {"world_state": env.get_state()}. Raises ValueError for anything else.
        """
        core, seed = self.core, accepted.seed(seed)
        core.reset(seeds=[seed], options=[options])
        super().reset(seed=seed)
        self._closed = False  # Stable-Baselines3's check_env closes, then goes on with a reset
        return self._observation(), slot_info(core.info(), 0)

    def step(self, action):
        """One control step; raises ResetNeeded where there is no running episode."""
        core = self._open("step")
        reward, terminated, truncated = core.step(accepted.real("action", action)[None])
        return (
            self._observation(),
            float(reward[0]),
            bool(terminated[0]),
            bool(truncated[0]),
            slot_info(core.info(), 0),
        )

    def chunk_step(self, actions):
        """Step through float32 [T, A] until they or the episode end.

        Returns (observation, sum of rewards, terminated, truncated, info of the last step with the number of "steps").
        """
        self._open("chunk_step").require_reset("chunk_step")
        actions = accepted.real("a chunk", actions, "float32 [T, A]")
        if actions.ndim != 2 or not len(actions):
            raise ValueError(f"a chunk has shape {list(actions.shape)}, expected [T, A] with T >= 1")
        actions = spaces.check_actions(actions, self.action_space, len(actions), row="step")
        total = 0.0
        for steps, action in enumerate(actions, 1):
            observation, reward, terminated, truncated, info = self.step(action)
            total += reward
            if terminated or truncated:
                break
        return observation, total, terminated, truncated, {**info, "steps": steps}

    def render(self):
        """The current frame uint8 [H, W, 3]; None without render_mode="rgb_array"."""
        core = self._open("render")
        return core.render(0) if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """End the episode; stepping raises ClosedEnvironmentError until the next reset."""
        self._closed = True

    def get_state(self) -> dict[str, np.ndarray]:
        """Everything the future depends on (world state, seed, episode, step), as a dict of plain arrays."""
        return self._open("get_state").get_state(0)

    def set_state(self, state: dict[str, np.ndarray]):
        """Go on from a `get_state`, in this or another process, bit for bit; returns the observation there.

        (`reset(options={"world_state": state})` begins a new episode there, with noise and step count of its own.)
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

    def _observation(self):
        observation = self.core.observation()
        return {k: v[0] for k, v in observation.items()} if isinstance(observation, dict) else observation[0]

    def _open(self, what: str) -> WorldCore:
        if self._closed:
            raise ClosedEnvironmentError(f"{what} was called after close; call reset() or make a new environment")
        return self.core


def slot_info(info: dict[str, np.ndarray], slot: int) -> dict[str, Any]:
    """One slot's info: Python numbers and bools, and arrays without the batch axis."""
    return {key: values[slot] if values.ndim > 1 else values[slot].item() for key, values in info.items()}


def check_render_mode(render_mode: str | None, metadata: dict) -> None:
    if render_mode is not None and render_mode not in metadata["render_modes"]:
        raise ValueError(f"render_mode={render_mode!r} is unknown; choose one of {metadata['render_modes']} or None")


def time_limit_of_make() -> int | None:
    """The max_episode_steps that `gymnasium.make` is about to enforce, None outside of it.

    Gymnasium (1.4) keeps the limit to its TimeLimit wrapper. The environment has to know it too: otherwise it would
    end at the world's horizon an episode that the user asked to be longer, and `chunk_step` would run past a shorter.
    """
    frame = sys._getframe(1)
    for _ in range(4):
        frame = frame and frame.f_back
        if frame and frame.f_code.co_name == "make" and frame.f_globals["__name__"] == "gymnasium.envs.registration":
            asked = frame.f_locals.get("max_episode_steps")
            return frame.f_locals["env_spec"].max_episode_steps if asked is None else asked
    return None
