"""How does a policy that was made elsewhere act in our environments? As `module:name` of what has a predict."""

from __future__ import annotations

import copy
import importlib
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NoReturn, cast

import gymnasium as gym
import numpy as np
from gymnasium.vector.utils import concatenate, create_empty_array
from stable_baselines3.common.vec_env import VecEnv

from wm_gym.common.codec import one_of_batch
from wm_gym.common.spaces import OBSERVATIONS
from wm_gym.policies.agent import Agent, Observation, batch_size


class ExternalPolicy(ABC):
    """A policy that was not made here, with Stable-Baselines3's `predict`; its actions are checked, numbers clipped.

    `action_space` is that of the environment that it is put into, None before.
    """

    def __init__(self, name: str):
        self.name = name
        self.action_space: gym.Space | None = None

    def predict(
        self,
        observation: Observation,
        state: Any = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = True,
    ) -> tuple[Any, Any]:
        """Actions for a batch of observations.

        Args:
            observation: [B, ...], or a dict of such arrays.
            state: What the last call returned; None where all episodes begin.
            episode_start: bool [B], whose observation is the first of an episode.
            deterministic: Not looked at.

        Returns:
            Actions float32 [B, A], of another space as `gymnasium.vector` batches them, and the state to pass with the
            next observations.

        Raises:
            ValueError: For actions that do not fit the environment.
        """
        n = batch_size(observation)
        begins = np.full(n, state is None) if state is None or episode_start is None else np.array(episode_start, bool)
        chosen, state = self.act(observation, state, begins)
        space = self.action_space
        if space is not None and not isinstance(space, gym.spaces.Box):
            return self._batch(space, chosen), state
        if len(shapes := {np.shape(action) for action in chosen}) > 1:
            raise ValueError(f"{self.name} gives actions of several shapes: {sorted(shapes)}")
        actions = np.asarray(chosen, np.float32)
        if space is None:
            return actions, state
        if actions.shape != (n, *space.shape):
            raise ValueError(
                f"{self.name} gives actions of shape {list(actions.shape[1:])}, this environment takes "
                f"{list(space.shape)}: evaluate it in the environment that it was made for"
            )
        if not np.isfinite(actions).all():
            bad = ~np.isfinite(actions).reshape(n, -1).all(1)
            raise ValueError(f"{self.name} gives an action that is not finite: {actions[bad][0].tolist()}")
        return np.clip(actions, space.low, space.high), state

    def _batch(self, space: gym.Space, actions: Sequence[Any]) -> Any:
        """Actions of a space that is no box, as `gymnasium.vector` batches them; ValueError for one that is not in."""
        for action in actions:
            if not space.contains(action):
                raise ValueError(f"{self.name} gives the action {action!r}, this environment takes {space}")
        return concatenate(space, actions, cast(Any, create_empty_array(space, len(actions))))

    @abstractmethod
    def act(self, observation: Observation, state: Any, begins: np.ndarray) -> tuple[Any, Any]:
        """B actions and the next state; begins bool [B]: whose episode begins here."""


class ExternalAgent(Agent):
    """An agent that is evaluated, and neither trained nor saved here."""

    policy: ExternalPolicy

    @property
    def name(self) -> str:
        """Where it came from, as it was typed."""
        return self.policy.name

    def to_sb3(self, env: gym.Env | VecEnv) -> NoReturn:
        """ValueError: it is no policy of Stable-Baselines3."""
        raise ValueError(
            f"{self.name} is no policy of Stable-Baselines3 and cannot be trained on here; train one with "
            f"wm-gym agent train ppo"
        )


class CallablePolicy(ExternalPolicy):
    """An object with `predict(observation)`, or a function of an observation, one environment at a time.

    It is given one observation (uint8 [H, W, 3], a dict ...) and returns an action, or (action, anything) as in
    Stable-Baselines3. A class is made anew for every episode; an object with `reset()` is copied for every environment
    and reset when an episode begins; anything else is shared by all.
    """

    def __init__(self, name: str, target: Any):
        super().__init__(name)
        self.target = target

    def act(self, observation: Observation, state: Any, begins: np.ndarray) -> tuple[list[Any], Any]:
        """Each environment's action is asked for by itself; the state is a tuple of who acts where."""
        n = len(begins)
        owners: list[Any] = list(state) if state is not None else [None] * n
        actions = []
        for i in range(n):
            if begins[i]:
                owners[i] = self._begun(owners[i])
            action = getattr(owners[i], "predict", owners[i])(one_of_batch(observation, i))
            actions.append(action[0] if isinstance(action, tuple) else action)
        return actions, tuple(owners)

    def _begun(self, owner: Any) -> Any:
        """Who acts in an episode that begins, in an environment whose last episode was `owner`'s."""
        if isinstance(self.target, type):
            return self.target()
        if not hasattr(self.target, "reset"):
            return self.target
        owner = copy.deepcopy(self.target) if owner is None else owner
        owner.reset()
        return owner


def load_callable(source: str) -> ExternalAgent:
    """The agent that a `module:name` is, imported from here or from the working directory: its code runs.

    Args:
        source: Names a class or an object with `predict`, or a function. Its attribute `observation` says what it looks
            at: "pixels" (the default), "pixels+state" or "latent".

    Raises:
        ValueError: Where there is no such thing.
    """
    module, _, name = source.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        target = importlib.import_module(module)
        for part in name.split("."):
            target = getattr(target, part)
    except (ModuleNotFoundError, AttributeError) as error:
        raise ValueError(
            f"there is no policy {source!r} ({error}); give module:name of a class, an object with "
            "predict(observation), or a function"
        ) from error
    finally:
        sys.path.remove(os.getcwd())
    if not (hasattr(target, "predict") or callable(target) and not isinstance(target, type)):
        raise ValueError(
            f"{source!r} is a {type(target).__name__} without predict(observation); give a class or an "
            "object with it, or a function"
        )
    config = external_config("callable", getattr(target, "observation", "pixels"))
    return ExternalAgent(CallablePolicy(source, target), config)


def external_config(algo: str, observation: str) -> dict[str, Any]:
    """The config of an agent that looks at "pixels", "pixels+state" or "latent"; ValueError for anything else."""
    if observation not in OBSERVATIONS:
        raise ValueError(f"the policy looks at {observation!r}, expected one of {OBSERVATIONS}")
    return {"algo": algo, "env_id": None, "env_kwargs": {} if observation == "pixels" else {"observation": observation}}
