"""How does a policy that was made elsewhere act in our environments? As `module:name` of what has a predict."""

from __future__ import annotations

import copy
import inspect
import os
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, NoReturn

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from wm_gym.common.codec import leaves_of, map_leaves, one_of_batch
from wm_gym.common.files import digest
from wm_gym.common.registry import import_typed
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
            Actions float32 [B, A], or as they are where the action space is no box or not known, and the state to pass
            with the next observations.

        Raises:
            ValueError: For actions that do not fit the environment.
        """
        n = batch_size(observation)
        begins = np.full(n, state is None) if state is None or episode_start is None else np.array(episode_start, bool)
        actions, state = self.act(observation, state, begins)
        space = self.action_space
        if space is None:
            return actions, state
        if not isinstance(space, gym.spaces.Box):
            for i in range(n):
                if not space.contains(one := one_of_batch(actions, i)):
                    raise ValueError(f"{self.name} gives the action {one!r}, this environment takes {space}")
            return actions, state
        actions = np.asarray(actions, np.float32)
        if actions.shape != (n, *space.shape):
            raise ValueError(
                f"{self.name} gives actions of shape {list(actions.shape[1:])}, this environment takes "
                f"{list(space.shape)}: evaluate it in the environment that it was made for"
            )
        if not np.isfinite(actions).all():
            bad = ~np.isfinite(actions).reshape(n, -1).all(1)
            raise ValueError(f"{self.name} gives an action that is not finite: {actions[bad][0].tolist()}")
        return np.clip(actions, space.low, space.high), state

    @abstractmethod
    def act(self, observation: Observation, state: Any, begins: np.ndarray) -> tuple[Any, Any]:
        """Actions [B, A] and the next state; begins bool [B]: whose episode begins here."""


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

    It is given uint8 [H, W, 3] (or whatever else its environment shows) and returns an action, or (action, anything) as
    in Stable-Baselines3. A class, or a function without arguments that returns such an object or function, makes a new
    one for every episode, by a `seed` where it takes one; an object with `reset()` is copied for every environment and
    reset when an episode begins; anything else is shared by all.
    """

    def __init__(self, name: str, target: Any):
        super().__init__(name)
        self.target, self.makes, self.seeds = target, _makes(target), np.random.default_rng(0)

    def act(self, observation: Observation, state: Any, begins: np.ndarray) -> tuple[Any, Any]:
        """Each environment's action is asked for by itself; the state is a tuple of who acts where."""
        n = len(begins)
        owners: list[Any] = list(state) if state is not None else [None] * n
        actions = []
        for i in range(n):
            if begins[i]:
                owners[i] = self._begun(owners[i])
            action = getattr(owners[i], "predict", owners[i])(one_of_batch(observation, i))
            actions.append(map_leaves(action[0] if isinstance(action, tuple) else action, _numbers))
        if len(shapes := {tuple(leaf.shape for leaf in leaves_of(action)) for action in actions}) > 1:
            raise ValueError(f"{self.name} gives actions of several shapes: {sorted(shapes)}")
        return _batched(actions), tuple(owners)

    def _begun(self, owner: Any) -> Any:
        """Who acts in an episode that begins, in an environment whose last episode was `owner`'s."""
        if self.makes:
            made = self.target(**self._seed())
            if not (hasattr(made, "predict") or callable(made)):
                raise ValueError(
                    f"{self.name} makes a {type(made).__name__}, expected an object with predict(observation) or a "
                    "function of an observation"
                )
            return made
        if not hasattr(self.target, "reset"):
            return self.target
        owner = copy.deepcopy(self.target) if owner is None else owner
        owner.reset()
        return owner

    def _seed(self) -> dict[str, int]:
        """The seed of who is made, where it takes one."""
        takes = "seed" in _parameters(self.target)
        return {"seed": int(self.seeds.integers(2**31))} if takes else {}


def load_callable(source: str) -> ExternalAgent:
    """The agent that a `module:name` is, imported from here or from the working directory: its code runs.

    Args:
        source: Names a class or an object with `predict`, a function, or one that makes such. Its attribute
            `observation` says what it looks at: "pixels" (the default), "pixels+state" or "latent".

    Raises:
        ValueError: Where there is no such thing.
    """
    target = _target(source)
    config = external_config("callable", getattr(target, "observation", "pixels"))
    return ExternalAgent(CallablePolicy(source, target), config)


def digest_of_callable(source: str) -> str:
    """A digest of the file that a `module:name` is written in, which is imported; "" where it has none."""
    _target(source)
    path = getattr(sys.modules[source.partition(":")[0]], "__file__", None)
    return digest([Path(path)]) if path else ""


def _target(source: str) -> Any:
    """What a `module:name` names."""
    module, _, name = source.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        import_typed(module)
        target: Any = sys.modules[module]
        for part in name.split("."):
            target = getattr(target, part)
    except (ModuleNotFoundError, AttributeError, ValueError) as error:
        raise ValueError(
            f"there is no policy {source!r} ({error}); give module:name of a class, an object with "
            "predict(observation), or a function"
        ) from error
    finally:
        sys.path.remove(os.getcwd())
    called = any("__call__" in vars(one) for one in target.__mro__) if isinstance(target, type) else callable(target)
    if not (hasattr(target, "predict") or called):
        raise ValueError(
            f"{source!r} is a {type(target).__name__} without predict(observation); give a class or an "
            "object with it, or a function"
        )
    return target


def _makes(target: Any) -> bool:
    """Whether a target is called for a policy, and is none itself: a class, or a function that needs no argument."""
    if isinstance(target, type) or hasattr(target, "predict"):
        return isinstance(target, type)
    return inspect.isfunction(target) and not any(
        one.default is one.empty and one.kind is not one.VAR_KEYWORD and name != "seed"
        for name, one in _parameters(target).items()
    )


def _parameters(target: Any) -> Any:
    """The parameters of what is called; none where they are not known."""
    try:
        return inspect.signature(target).parameters
    except (TypeError, ValueError):
        return {}


def _numbers(action: Any) -> np.ndarray:
    """An action's numbers, real ones as float32."""
    values = np.asarray(action)
    return values.astype(np.float32) if values.dtype.kind == "f" else values


def _batched(actions: list[Any]) -> Any:
    """Actions of one form as one, with a leading axis."""
    if isinstance(actions[0], dict):
        return {key: _batched([action[key] for action in actions]) for key in actions[0]}
    if isinstance(actions[0], tuple):
        return tuple(_batched(list(part)) for part in zip(*actions))
    return np.stack(actions)


def external_config(algo: str, observation: str) -> dict[str, Any]:
    """The config of an agent that looks at "pixels", "pixels+state" or "latent"; ValueError for anything else."""
    if observation not in OBSERVATIONS:
        raise ValueError(f"the policy looks at {observation!r}, expected one of {OBSERVATIONS}")
    return {"algo": algo, "env_id": None, "env_kwargs": {} if observation == "pixels" else {"observation": observation}}
