"""How are many learned environments stepped as one Gymnasium VectorEnv? Autoreset and batched infos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.error import ClosedEnvironmentError
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from wm_gym import resets
from wm_gym.common import accepted
from wm_gym.common.copies import CopiesWhole
from wm_gym.core import WorldCore
from wm_gym.env import check_render_mode
from wm_gym.judges import Judge
from wm_gym.slots import Slot, set_attributes
from wm_gym.worlds.world import World


class WorldVectorEnv(CopiesWhole, VectorEnv):
    """A batch of episodes in a learned world, stepped by one call of the engine.

    The arguments are `WorldEnv`'s, with num_envs, autoreset_mode ("NextStep", "SameStep" or "Disabled") and output:
    "torch" gives observations, rewards and ends as tensors on the engine's device, so that a policy there takes them
    without a trip through the host; infos are NumPy's all the same. Actions may be tensors in either case.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10, "autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(
        self,
        num_envs: int = 1,
        *,
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
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        output: str = "numpy",
    ):
        check_render_mode(render_mode, self.metadata)
        self.autoreset_mode = as_autoreset_mode(autoreset_mode)
        self.core = WorldCore(
            world,
            num_envs,
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
            output=output,
            reward=reward,
            reward_kwargs=reward_kwargs,
        )
        self.num_envs, self.render_mode = num_envs, render_mode
        self.metadata = {**self.metadata, "render_fps": self.core.spec.fps, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space = self.core.single_observation_space
        self.single_action_space = self.core.single_action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.envs = tuple(Slot(self, i) for i in range(num_envs))

    def reset(self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None):
        """Begin an episode everywhere, or where `options["reset_mask"]` (bool [B]) says.

        seed: an int gives slot i the seed + i, a list one a slot, None the next episode of each stream. The other
        options are `WorldEnv.reset`'s with a leading batch axis.
        """
        self._check_open("reset")
        seeds = accepted.seeds(seed, self.num_envs)
        options = accepted.options("reset options", options)
        mask = None
        if "reset_mask" in options:
            mask = accepted.flags("options['reset_mask']", options.pop("reset_mask"), self.num_envs)
        self.core.reset(mask, seeds, resets.split_options(options, self.num_envs))
        super().reset(seed=None if isinstance(seed, (list, tuple)) or np.ndim(seed) else accepted.seed(seed))
        everywhere = np.ones(self.num_envs, bool)
        return self.core.observation(), masked(self.core.info(), everywhere if mask is None else mask)

    def step(self, actions):
        """One control step everywhere; what happens where an episode has ended is the autoreset mode's matter."""
        self._check_open("step")
        core, mode = self.core, self.autoreset_mode
        core.require_reset("step")
        over = core.ended.copy() if mode == AutoresetMode.NEXT_STEP else np.zeros(self.num_envs, bool)
        if over.all():
            reward, (terminated, truncated) = np.zeros(self.num_envs), np.zeros((2, self.num_envs), bool)
        else:
            actions = actions.detach().cpu().numpy() if isinstance(actions, torch.Tensor) else actions
            reward, terminated, truncated = core.step(actions, active=~over)
        extra: dict[str, Any] = {}
        if mode == AutoresetMode.NEXT_STEP and over.any():
            core.reset(over)
        if mode == AutoresetMode.SAME_STEP and (done := terminated | truncated).any():
            extra = self._final(done)
            core.reset(done)
        info = masked(core.info(), np.ones(self.num_envs, bool))
        ends = reward, terminated, truncated
        if core.output == "torch":
            ends = tuple(torch.from_numpy(x).to(core.engine.device) for x in ends)
        return core.observation(), *ends, info | extra

    def _final(self, done: np.ndarray) -> dict[str, Any]:
        """The last observation and info of the episodes that ended in this step, before they are reset."""
        observation, last = self.core.observation(), np.full(self.num_envs, None, object)
        for i in np.flatnonzero(done):
            last[i] = slot_observation(observation, i)
        return {
            "final_obs": last,
            "_final_obs": done.copy(),
            "final_info": masked(self.core.info(), done),
            "_final_info": done.copy(),
        }

    def render(self) -> tuple[np.ndarray, ...] | None:
        """One frame uint8 [H, W, 3] an environment; None without render_mode="rgb_array"."""
        self._check_open("render")
        return tuple(slot.render() for slot in self.envs) if self.render_mode == "rgb_array" else None

    def close_extras(self, **kwargs: Any) -> None:
        self.core = None

    # --- one environment of the batch --------------------------------------------------------------------------------

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Call a method of every environment, or read an attribute of it; a value an environment."""
        self._check_open(name)
        values = [getattr(slot, name) for slot in self.envs]
        return tuple(value(*args, **kwargs) if callable(value) else value for value in values)

    def get_attr(self, name: str) -> tuple[Any, ...]:
        return self.call(name)

    def set_attr(self, name: str, values: list[Any] | tuple[Any, ...] | Any) -> None:
        """Set an attribute of every environment: a list or tuple gives each its own value."""
        if not isinstance(values, (list, tuple)):
            values = [values] * self.num_envs
        if len(values) != self.num_envs:
            raise ValueError(
                f"set_attr({name!r}) got {len(values)} values, expected one for each of the "
                f"{self.num_envs} environments"
            )
        set_attributes(name, self.envs, values)

    # --- state -------------------------------------------------------------------------------------------------------

    def get_state(self) -> dict[str, np.ndarray]:
        """Everything the future depends on, as a dict of arrays with a leading batch axis."""
        states = self.call("get_state")
        return {key: np.stack([state[key] for state in states]) for key in states[0]}

    def set_state(self, state: dict[str, np.ndarray]):
        """Go on from a `get_state`, bit for bit; returns the observations there."""
        self._check_open("set_state")
        self.core.set_states(range(self.num_envs), resets.split_state(state, self.num_envs))
        return self.core.observation()

    def branch(self, source: int, targets: list[int], seeds: list[int] | None = None):
        """Fork one environment into others (with noise of their own where `seeds` are given); returns observations."""
        self._check_open("branch")
        self.core.branch(source, targets, seeds)
        return self.core.observation()

    # --- small things ------------------------------------------------------------------------------------------------

    def _check_open(self, what: str) -> None:
        if self.core is None:
            raise ClosedEnvironmentError(f"{what} was called after close; make a new environment with gym.make_vec")


def as_autoreset_mode(mode: AutoresetMode | str) -> AutoresetMode:
    """An AutoresetMode from itself, its value ("NextStep") or its name ("NEXT_STEP")."""
    for known in AutoresetMode:
        if mode in (known, known.value, known.name):
            return known
    raise ValueError(f"autoreset_mode={mode!r} is unknown; choose one of {[m.value for m in AutoresetMode]}")


def slot_observation(observation, slot: int):
    """A copy of one slot's observation."""
    if isinstance(observation, dict):
        return {key: slot_observation(values, slot) for key, values in observation.items()}
    return observation[slot].clone() if isinstance(observation, torch.Tensor) else observation[slot].copy()


def masked(info: dict[str, np.ndarray], mask: np.ndarray) -> dict[str, np.ndarray]:
    """Gymnasium's batched info: every key with its mask `_key`, zeros where the mask is False."""
    batched = {}
    for key, values in info.items():
        values[~mask] = 0
        batched[key], batched[f"_{key}"] = values, mask.copy()
    return batched
