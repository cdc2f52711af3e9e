"""What does reaching a goal pay? The `compute_reward` of the environment that a world was recorded in."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec

from wm_gym.common.registry import registered
from wm_gym.worlds.spec import WorldSpec

KEYS = ("observation", "achieved_goal", "desired_goal")
"""The parts of an observation with goals, as gymnasium-robotics, panda-gym and Stable-Baselines3 name them."""
TRIED = 20
"""Steps of the environment that say whether it pays just that."""

_made: dict[str, SourceReward | ValueError] = {}
_making = threading.Lock()  # two threads that ask make it once


def has_goals(space: gym.Space) -> bool:
    """Whether an observation says which goal is achieved and which is desired."""
    return isinstance(space, gym.spaces.Dict) and set(KEYS) <= set(space.spaces)


class Goals:
    """What reaching goals pays in a world.

    Args:
        spec: Its source is the registered environment that it names, made at the first use in this process.
        learned: Whether steps pay what the world has learned; else what the source computes, where the source itself
            pays just that.
    """

    def __init__(self, spec: WorldSpec, learned: bool) -> None:
        self.env_id, self.world = spec.twin, spec.name
        self._paid = False if learned else None

    def compute_reward(self, achieved_goal: Any, desired_goal: Any, info: Any) -> Any:
        """The source's own, of one goal or a batch of them as it takes them.

        Raises:
            ValueError: Where the source is not registered, cannot be made, or has no such function.
        """
        return self._source().compute_reward(achieved_goal, desired_goal, info)

    def paid(self, observations: dict[str, np.ndarray], active: np.ndarray) -> np.ndarray | None:
        """What steps pay, each computed by itself as the source does.

        Args:
            observations: Where they led, with a leading batch axis B.
            active: bool [B], which were made.

        Returns:
            float64 [B], 0 where none was made; None where steps pay what the world has learned.
        """
        if self._paid is None:  # once: a later import changes nothing
            self._paid = False
            with contextlib.suppress(ValueError):
                self._paid = self._source().is_paid
        if not self._paid:
            return None
        values, compute = np.zeros(len(active)), self._source().compute_reward
        for i in np.flatnonzero(active):
            values[i] = compute(observations["achieved_goal"][i], observations["desired_goal"][i], {})
        return values

    def _source(self) -> SourceReward:
        return source_reward(self.env_id, f"the source of the world {self.world!r}, whose compute_reward is asked for,")


def source_reward(env_id: str | None, asked: str) -> SourceReward:
    """The reward of goals of a registered environment, made once a process.

    Args:
        env_id: Its id, or None where nobody knows it.
        asked: What it is, for the error.

    Raises:
        ValueError: Where it is not registered, cannot be made, or has no such reward.
    """
    spec = registered(env_id, asked)
    with _making:
        if spec.id not in _made:
            _made[spec.id] = _make(spec)
    made = _made[spec.id]
    if isinstance(made, ValueError):
        raise made
    return made


class SourceReward:
    """The reward of goals of an environment, which is made for it alone."""

    def __init__(self, env: gym.Env) -> None:
        self.compute_reward = env.get_wrapper_attr("compute_reward")
        self.is_paid = all(np.isclose(reward, self.compute_reward(*goals, {}), 1e-5) for reward, *goals in _steps(env))
        """Whether a step of the environment pays just that, as Stable-Baselines3's checker asks for."""


def _make(spec: EnvSpec) -> SourceReward | ValueError:
    try:
        return SourceReward(gym.make(spec, disable_env_checker=True))
    except (gym.error.Error, ImportError, TypeError, AttributeError) as error:
        return ValueError(
            f"{spec.id} gives no compute_reward ({type(error).__name__}: {error}), so there is no hindsight replay in "
            "worlds of it; install what it needs, or train without HerReplayBuffer"
        )


def _steps(env: gym.Env) -> list[tuple[float, Any, Any]]:
    """The reward, the achieved and the desired goal of some random steps."""
    env.reset(seed=0)
    env.action_space.seed(0)
    steps = []
    for _ in range(TRIED):
        seen, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        steps.append((float(reward), seen["achieved_goal"], seen["desired_goal"]))
        if terminated or truncated:
            env.reset()
    return steps
