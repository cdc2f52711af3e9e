"""What is one environment of a batch to those who ask for it by index? (`call`, `get_attr`, `env_method`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ClosedEnvironmentError

from wm_gym.common import accepted
from wm_gym.common.copies import CopiesWhole

if TYPE_CHECKING:
    from wm_gym.core import WorldCore


def set_attributes(name: str, slots: Sequence[Slot], values: Sequence[Any]) -> None:
    """Set an attribute of several environments, each to its own value; of none if one of the values is wrong."""
    if name in ("horizon", "_max_episode_steps"):
        values = [accepted.limit(name, value) for value in values]
    for slot, value in zip(slots, values):
        setattr(slot, name, value)


class Batch(CopiesWhole):
    """What the environments that step several episodes at once have in common."""

    spec: EnvSpec | None
    render_mode: str | None
    metadata: dict[str, Any]
    made_by: str
    """What makes another one, for the error."""
    _core: WorldCore | None

    @property
    def core(self) -> WorldCore:
        """What steps the world; ClosedEnvironmentError after `close`."""
        return self._open("core")

    def _open(self, what: str) -> WorldCore:
        if self._core is None:
            raise ClosedEnvironmentError(f"{what} was called after close; make a new one with {self.made_by}")
        return self._core


class Slot:
    """One environment of a WorldVectorEnv or WorldVecEnv, with the attributes of a WorldEnv.

    Attributes that are not the world's can be set freely (`set_attr`). It cannot be stepped alone.
    """

    def __init__(self, batch: Batch, index: int):
        self._batch, self._index = batch, index
        core = batch.core
        self.render_mode, self.metadata = batch.render_mode, batch.metadata
        self.observation_space, self.action_space = core.single_observation_space, core.single_action_space
        self.task_description = core.spec.task_description

    @property
    def unwrapped(self) -> Slot:
        """Itself."""
        return self

    @property
    def spec(self) -> EnvSpec | None:
        """The batch's."""
        return self._batch.spec

    @property
    def horizon(self) -> int:
        """Steps after which the episode is truncated; may be set, -1 for never."""
        return int(self._batch.core.horizons[self._index])

    @horizon.setter
    def horizon(self, steps: int) -> None:
        self._batch.core.set_horizon(steps, self._index)

    _max_episode_steps = horizon  # the name lerobot's evaluation asks for

    @property
    def compute_reward(self) -> Callable[[Any, Any, Any], Any]:
        """`WorldEnv.compute_reward`."""
        return self._batch.core.compute_reward

    @property
    def np_random_seed(self) -> int:
        """The seed of its streams."""
        return int(self._batch.core.seeds[self._index])

    @property
    def elapsed_steps(self) -> int:
        """Steps since the last reset."""
        return int(self._batch.core.steps[self._index])

    def render(self) -> np.ndarray | None:
        """The current frame uint8 [H, W, 3]; None without render_mode="rgb_array"."""
        return self._batch.core.render(self._index) if self.render_mode == "rgb_array" else None

    def get_state(self) -> dict[str, np.ndarray]:
        """`WorldEnv.get_state` of this environment."""
        return self._batch.core.get_state(self._index)

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """`WorldEnv.set_state` of this environment."""
        self._batch.core.set_state(self._index, state)

    def has_wrapper_attr(self, name: str) -> bool:
        """Whether there is such an attribute."""
        return hasattr(self, name)

    def get_wrapper_attr(self, name: str) -> Any:
        """An attribute."""
        return getattr(self, name)

    def set_wrapper_attr(self, name: str, value: Any) -> None:
        """Set an attribute."""
        setattr(self, name, value)
