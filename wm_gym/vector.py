"""How are many learned environments stepped as one Gymnasium VectorEnv? Autoreset and batched infos."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from torch import Tensor

from wm_gym import resets
from wm_gym.common import accepted
from wm_gym.common.codec import map_leaves
from wm_gym.common.options import takes
from wm_gym.core import Array, Observation, WorldCore
from wm_gym.env import check_render_mode
from wm_gym.options import EnvOptions
from wm_gym.slots import Batch, Slot, set_attributes
from wm_gym.worlds.world import World


class WorldVectorEnv(Batch, VectorEnv):
    """A batch of episodes in a learned world, stepped by one call of the engine.

    Observations, actions and infos are `WorldEnv`'s with a leading batch axis B. Actions may be tensors.

    Args:
        num_envs: Number of environments B.
        world: A World, a folder, a catalogue name or a Hub id.
        render_mode: "rgb_array" or None.
        autoreset_mode: What happens where an episode has ended: "NextStep" resets it with the next step, "SameStep" at
            once, "Disabled" leaves it to `reset(options={"reset_mask": ...})`.
        output: "numpy", or "torch" for observations, rewards and ends as tensors on the engine's device, so that a
            policy there takes them without a trip through the host; infos are NumPy's all the same.
        options: See `EnvOptions`; its fields can also be given one by one.

    Raises:
        ValueError: For an option that is wrong, or that this world does not have.
        TypeError: For an option of another name.
        FileNotFoundError: Where the world is not found.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10, "autoreset_mode": AutoresetMode.NEXT_STEP}
    made_by = "gym.make_vec"

    @takes(EnvOptions)
    def __init__(
        self,
        num_envs: int = 1,
        *,
        world: World | str | Path | None = None,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        output: str = "numpy",
        options: EnvOptions | None = None,
        **changes: Any,
    ):
        check_render_mode(render_mode, self.metadata)
        self.autoreset_mode = as_autoreset_mode(autoreset_mode)
        self._core = WorldCore(
            world, num_envs, output=output, render=render_mode == "rgb_array", options=options, **changes
        )
        self.num_envs, self.render_mode = num_envs, render_mode
        self.metadata = {**self.metadata, "render_fps": self.core.spec.fps, "autoreset_mode": self.autoreset_mode}
        self.single_observation_space = self.core.single_observation_space
        self.single_action_space = self.core.single_action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.envs = tuple(Slot(self, i) for i in range(num_envs))

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode everywhere, or in some of the environments.

        Args:
            seed: An int gives environment i the seed + i, a list one each, None the next episode of each stream.
            options: "reset_mask" (bool [B]) says where; the others are `WorldEnv.reset`'s with a leading batch axis.

        Returns:
            The observations and the infos.

        Raises:
            ValueError: For seeds or options that are wrong; then nothing has changed.
        """
        core = self._open("reset")
        seeds = accepted.seeds(seed, self.num_envs)
        options = accepted.options("reset options", options)
        mask = None
        if "reset_mask" in options:
            mask = accepted.flags("options['reset_mask']", options.pop("reset_mask"), self.num_envs)
        core.reset(mask, seeds, resets.split_options(options, self.num_envs))
        super().reset(seed=None if np.asarray(seed).ndim else accepted.seed(seed))
        everywhere = np.ones(self.num_envs, bool)
        return core.observation(), masked(core.info(), everywhere if mask is None else mask)

    def step(self, actions: Any) -> tuple[Observation, Array, Array, Array, dict[str, Any]]:
        """One control step everywhere; the autoreset mode says what happens where an episode has ended.

        Args:
            actions: float32 [B, A], an array or a tensor.

        Returns:
            The observations, rewards float64 [B], terminated bool [B], truncated bool [B] and the infos.

        Raises:
            ResetNeeded: Where there was no reset, or with "Disabled" where an episode has ended.
            ValueError: For actions of another shape, not finite or outside the space.
        """
        core, mode = self._open("step"), self.autoreset_mode
        core.require_reset("step")
        over = core.ended.copy() if mode == AutoresetMode.NEXT_STEP else np.zeros(self.num_envs, bool)
        if over.all():
            reward, (terminated, truncated) = np.zeros(self.num_envs), np.zeros((2, self.num_envs), bool)
        else:
            actions = actions.detach().cpu().numpy() if isinstance(actions, Tensor) else actions
            reward, terminated, truncated = core.step(actions, active=~over)
        extra: dict[str, Any] = {}
        if mode == AutoresetMode.NEXT_STEP and over.any():
            core.reset(over)
        if mode == AutoresetMode.SAME_STEP and (done := terminated | truncated).any():
            extra = self._final(done)
            core.reset(done)
        info = masked(core.info(), np.ones(self.num_envs, bool))
        if core.output == "torch":
            ends = [torch.from_numpy(x).to(core.engine.device) for x in (reward, terminated, truncated)]
            return core.observation(), ends[0], ends[1], ends[2], info | extra
        return core.observation(), reward, terminated, truncated, info | extra

    def _final(self, done: np.ndarray) -> dict[str, Any]:
        """The last observation and info of the episodes that ended in this step, before they are reset."""
        observation, last = self.core.observation(), np.full(self.num_envs, None, object)
        for i in np.flatnonzero(done).tolist():
            last[i] = slot_observation(observation, i)
        return {
            "final_obs": last,
            "_final_obs": done.copy(),
            "final_info": masked(self.core.info(), done),
            "_final_info": done.copy(),
        }

    def render(self) -> tuple[np.ndarray, ...] | None:
        """One frame uint8 [H, W, 3] an environment; None without render_mode="rgb_array"."""
        core = self._open("render")
        return tuple(map(core.render, range(self.num_envs))) if self.render_mode == "rgb_array" else None

    def close_extras(self, **kwargs: Any) -> None:
        """Let go of the world; everything but another `close` is a ClosedEnvironmentError from here on."""
        self._core = None

    # --- one environment of the batch --------------------------------------------------------------------------------

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Call a method of every environment, or read an attribute of it; a value an environment."""
        self._open(name)
        values = [getattr(slot, name) for slot in self.envs]
        return tuple(value(*args, **kwargs) if callable(value) else value for value in values)

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """An attribute of every environment; a value an environment."""
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

    def set_state(self, state: Mapping[str, Any]) -> Observation:
        """Go on from a `get_state`, bit for bit; returns the observations there.

        Raises:
            ValueError: For a state that is incomplete, out of range or of another world; then nothing has changed.
        """
        core = self._open("set_state")
        core.set_states(range(self.num_envs), resets.split_state(state, self.num_envs))
        return core.observation()

    def branch(
        self, source: int, targets: int | Iterable[int], seeds: int | Iterable[int] | None = None
    ) -> Observation:
        """Fork one environment into others; returns the observations.

        Args:
            source: The number of the environment that is copied.
            targets: Those that go on from its state.
            seeds: One a target, for noise of its own; None for the noise of the source.
        """
        core = self._open("branch")
        core.branch(source, targets, seeds)
        return core.observation()


def as_autoreset_mode(mode: AutoresetMode | str) -> AutoresetMode:
    """An AutoresetMode from itself, its value ("NextStep") or its name ("NEXT_STEP")."""
    for known in AutoresetMode:
        if mode in (known, known.value, known.name):
            return known
    raise ValueError(f"autoreset_mode={mode!r} is unknown; choose one of {[m.value for m in AutoresetMode]}")


def slot_observation(observation: Any, slot: int) -> Any:
    """A copy of one slot's observation."""
    return map_leaves(
        observation, lambda values: values[slot].clone() if isinstance(values, Tensor) else values[slot].copy()
    )


def masked(info: dict[str, np.ndarray], mask: np.ndarray) -> dict[str, np.ndarray]:
    """Gymnasium's batched info: every key with its mask `_key`, zeros where the mask is False."""
    batched = {}
    for key, values in info.items():
        values[~mask] = 0
        batched[key], batched[f"_{key}"] = values, mask.copy()
    return batched
