"""What is the environment that is recorded, and what does it say of itself?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec

from wm_gym.common.codec import SpaceCodec
from wm_gym.common.space_data import to_data
from wm_gym.data.observed import draws, ends_on_success

MAX_STEPS = 1000  # where the environment has no horizon of its own


class Description(TypedDict):
    """What info.json says of the environment."""

    action_space: str
    action_low: list[float] | None
    action_high: list[float] | None
    action_names: list[str] | None
    action_unit: str
    proprioception_names: list[str] | None
    proprioception_unit: str
    horizon: int
    task_description: str
    fps: float
    success_ends: bool
    spaces: dict[str, Any]


def make_env(env_id: str, env_kwargs: Mapping[str, Any] | None = None, pictures: bool = True) -> gym.Env:
    """A registered environment (`import_env`) for recording: pictures on, a horizon, twins without early end."""
    from wm_gym.common.registry import registered

    kwargs, spec = dict(env_kwargs or {}), registered(env_id, "the environment to record")
    if ends_on_success(spec):
        kwargs.setdefault("terminate_on_success", False)  # whole episodes: what happens after success counts too
    if pictures and draws(spec):
        kwargs.setdefault("render_mode", "rgb_array")
    env = gym.make(spec, **kwargs)
    if _spec(env).max_episode_steps is None and getattr(env.unwrapped, "horizon", None) is None:
        env = gym.wrappers.TimeLimit(env, MAX_STEPS)
    return env


def import_env(env_id: str) -> None:
    """Have an environment registered whose id somebody typed.

    Raises:
        ValueError: Naming the id and the next thing to try.
    """
    from wm_gym.common.registry import find_spec

    try:
        find_spec(env_id)
    except gym.error.UnregisteredEnv as error:
        raise ValueError(
            f"unknown environment {env_id!r} ({error}); give the id of a registered environment, with "
            f"its module where that is not imported by itself: module:Name-v0"
        ) from None


def describe(env: gym.Env, actions: SpaceCodec, observations: SpaceCodec | None) -> Description:
    """What info.json says of the environment."""
    base: Any = env.unwrapped
    space = env.action_space
    horizon = _spec(env).max_episode_steps or getattr(base, "horizon", None) or MAX_STEPS
    low, high = actions.bounds
    names, proprioception = (getattr(base, f"{what}_names", None) for what in ("action", "proprioception"))
    if names is None and not isinstance(space, gym.spaces.Box):
        names = actions.names
    if observations and observations.size and len(proprioception or ()) != observations.size:
        proprioception = observations.names
    spaces = {"action": space, **({"observation": env.observation_space} if observations else {})}
    return {
        "action_space": f"{space}, stored one-hot" if isinstance(space, gym.spaces.Discrete) else str(space),
        "action_low": _bounds(low),
        "action_high": _bounds(high),
        "action_names": None if names is None else list(names),
        "action_unit": str(getattr(base, "action_unit", "")),
        "proprioception_names": None if proprioception is None else list(proprioception),
        "proprioception_unit": str(getattr(base, "proprioception_unit", "")),
        "horizon": int(horizon),
        "task_description": str(getattr(base, "task_description", _spec(env).id)),
        "fps": float(env.metadata.get("render_fps") or 10),
        "success_ends": ends_on_success(_spec(env)),
        "spaces": {what: to_data(one) for what, one in spaces.items()},
    }


def _spec(env: gym.Env) -> EnvSpec:
    """How the environment was made, which one made by `gym.make` knows."""
    assert env.spec is not None
    return env.spec


def _bounds(values: np.ndarray) -> list[float] | None:
    values = np.asarray(values, np.float64)
    return values.tolist() if np.isfinite(values).all() else None  # JSON has no infinity
