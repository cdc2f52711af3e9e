"""What is an agent? A policy, and what its config.yml says of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecEnv

from wm_gym.common.codec import leaves_of
from wm_gym.common.registry import registered
from wm_gym.policies.config import CONFIG_FILE
from wm_gym.policies.recipe import algorithm, decode_policy_kwargs, env_wrapper, hyperparameters

TENSORS_FILE = "policy.safetensors"
NOT_THE_ENVIRONMENTS = ("id", "env_id", "n_envs", "num_envs", "seed", "wrapper_class", "monitor_file", "start_method")
"""Keyword arguments of who makes an environment, which no file sets: some say where to write."""


Observation = np.ndarray | dict[str, np.ndarray]
"""What policies see, with a leading batch axis."""


def batch_size(observation: Observation) -> int:
    """The B of observations [B, ...]."""
    return len(leaves_of(observation)[0])


class Policy(Protocol):
    """What acts: a policy of Stable-Baselines3, or anything with its `predict`."""

    @property
    def action_space(self) -> gym.Space | None:
        """Where its actions lie; None where it takes whatever environment it is put into."""

    def predict(
        self,
        observation: Observation,
        state: Any = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, Any]:
        """Actions [B, A] for observations [B, ...], and the state to pass with the next ones."""


@dataclass
class Agent:
    """A policy and what is known about it."""

    policy: Policy
    config: dict[str, Any]
    """What its config.yml says, or would say."""
    folder: Path | None = None
    """Where it lies, if anywhere."""

    @property
    def name(self) -> str:
        """Its folder's name, or its algorithm's where it has none."""
        return self.folder.name if self.folder else self.algo

    @property
    def algo(self) -> str:
        """Its algorithm: "ppo", "sac", "dqn", "planner", "callable" or "lerobot"."""
        return self.config["algo"]

    def origin(self, key: str) -> str:
        """Where a value of its config comes from, as errors name it."""
        return f"{self.folder / CONFIG_FILE if self.folder else 'the config of ' + self.algo}: {key}"

    @property
    def env_id(self) -> str | None:
        """The environment that it was trained in."""
        return self.config.get("env_id")

    @property
    def env_kwargs(self) -> dict[str, Any]:
        """The keyword arguments of its environment, without those that shaped the training's episodes only."""
        kwargs = self.config.get("env_kwargs") or {}
        if not isinstance(kwargs, dict) or set(kwargs) & set(NOT_THE_ENVIRONMENTS):
            raise ValueError(
                f"{self.origin('env_kwargs')} is {kwargs!r}, expected arguments of its environment and "
                f"none of {', '.join(NOT_THE_ENVIRONMENTS)}; do not trust this agent"
            )
        return without_episode_shape(kwargs)

    def kwargs_for(self, env_id: str) -> dict[str, Any]:
        """Its keyword arguments that hold in an environment: all of them in its own, the observation in another."""
        own = env_id.split(":")[-1] == (self.env_id or "").split(":")[-1]
        return {key: value for key, value in self.env_kwargs.items() if own or key == "observation"}

    @property
    def world(self) -> Any:
        """The learned world that it was trained in (a folder, a name or a Hub id), or None."""
        if not (self.config.get("learned") and self.env_id):
            return None
        return {**registered(self.env_id, self.origin("env_id")).kwargs, **self.env_kwargs}.get("world")

    @property
    def frame_stack(self) -> int:
        """How many observations it sees at once."""
        return int(self.config.get("frame_stack") or 1)

    @property
    def env_wrapper(self) -> Callable[[gym.Env], gym.Env] | None:
        """The gymnasium.Wrapper class that its environment needs (DiscreteActions for DQN), or None."""
        return env_wrapper(self.config.get("env_wrapper"))

    def act(self, observation: Observation, deterministic: bool = True) -> np.ndarray:
        """Actions for a batch of observations, clipped to the action space.

        Args:
            observation: With a leading batch axis [B, ...], or a dict of such arrays.
            deterministic: Take the most likely action instead of drawing one.

        Returns:
            Actions [B, A], or [B] of a discrete space.

        Raises:
            ValueError: Where they are not finite: the weights are damaged.
        """
        return self.predict(observation, deterministic=deterministic)[0]

    def predict(
        self, observation: Observation, state: Any = None, deterministic: bool = True, active: np.ndarray | None = None
    ) -> tuple[np.ndarray, Any]:
        """The same, and the state to pass with the next observations; active bool [B]: whose actions are of use."""
        try:
            actions, state = self.policy.predict(observation, state=state, deterministic=deterministic)
            finite = all(np.isfinite(leaf).all() for leaf in leaves_of(actions))
        except ValueError as error:
            if "constraint" not in str(error):  # of torch's distributions on their parameters: no NaN
                raise
            finite = False
        if not finite:
            raise ValueError(
                f"{self.folder / TENSORS_FILE if self.folder else self.name} gives actions that are not "
                "finite: its weights are damaged; train the agent again or copy it back"
            )
        return actions, state

    def to_sb3(self, env: gym.Env | VecEnv) -> BaseAlgorithm:
        """The Stable-Baselines3 model with these weights on an environment, to train on or export: `.save("x.zip")`."""
        assert isinstance(self.policy, BasePolicy)  # other kinds of agent say that they have none
        kind = algorithm(self.algo)
        model = kind(
            self.config["policy"],
            env,
            policy_kwargs=decode_policy_kwargs(self.config["policy_kwargs"]),
            device=self.policy.device,
            **hyperparameters(self.config.get("hyperparameters") or {}),
        )
        model.policy.load_state_dict(self.policy.state_dict())
        return model


def without_episode_shape(env_kwargs: dict[str, Any]) -> dict[str, Any]:
    """env_kwargs less those that say how episodes begin and end: a policy is measured in the env's own episodes."""
    shape = ("terminate", "terminate_on_success", "success_threshold", "max_episode_steps", "starts")
    return {k: v for k, v in env_kwargs.items() if k not in shape}
