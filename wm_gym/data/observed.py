"""What does one observation of a Gymnasium environment show? Its picture, its numbers, its simulator's state."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec

from wm_gym.common.codec import SpaceCodec
from wm_gym.common.space_data import UnsupportedSpace
from wm_gym.data.bars import bars


def observation_codec(env: gym.Env) -> SpaceCodec | None:
    """The numbers and the picture of an environment's observations; None, with a warning, where they have none."""
    try:
        return SpaceCodec(env.observation_space, part=f"{name_of(env)}: the observation space")
    except UnsupportedSpace as error:
        warnings.warn(f"pictures alone are recorded: {error}", stacklevel=2)
        return None


def picture_of(env: gym.Env, observation: Any, codec: SpaceCodec | None) -> np.ndarray:
    """What is seen, uint8 [H, W, 3]: the observation's picture, else the rendered one, else its numbers as bars.

    Args:
        env: The environment, just reset or stepped.
        observation: What it gave.
        codec: Of `observation_codec`.

    Raises:
        ValueError: Where there is none of the three.
    """
    pixels: Any = observation.get("pixels") if isinstance(observation, dict) else observation
    if codec and codec.layout:
        pixels = codec.frame(observation)
    if isinstance(pixels, dict):  # several cameras: the first
        pixels = next(iter(pixels.values()))
    if isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and pixels.shape[2:] == (3,):
        return np.array(pixels)
    rendered = _rendered(env)
    if isinstance(rendered, np.ndarray) and rendered.shape[2:] == (3,):
        return np.array(rendered, np.uint8)
    if codec and codec.size:
        return bars(codec.numbers(observation))
    raise ValueError(
        f"{name_of(env)} gives no picture: neither its observation nor render() in render_mode 'rgb_array' is "
        "a uint8 [H, W, 3] array, and its observation holds no numbers"
    )


def _rendered(env: gym.Env) -> Any:
    """What the environment draws of itself; None where it was made without."""
    if env.render_mode != "rgb_array":
        return None
    try:
        return env.render()
    except Exception as error:  # simulators have errors of their own
        raise ValueError(
            f"{name_of(env)} cannot draw itself here ({type(error).__name__}: {error}). For MuJoCo without a "
            "display set MUJOCO_GL=egl or MUJOCO_GL=osmesa; what is learned of numbers alone needs no picture: "
            """--env-kwargs '{"render_mode": null}'"""
        ) from error


def proprioception_of(observation: Any, info: Mapping[str, Any], codec: SpaceCodec | None) -> np.ndarray | None:
    """The numbers of an observation float32 [P], else those that stand beside it; None where there are none."""
    if codec and codec.size:
        return codec.numbers(observation)
    value = info.get("proprioception")
    if value is None and isinstance(observation, dict):
        value = observation.get("agent_pos")
    return None if value is None else np.array(value, np.float32).reshape(-1)


def success_of(info: Mapping[str, Any]) -> bool | None:
    """Whether an environment says that its task has succeeded; None where it does not say."""
    said = info.get("success", info.get("is_success"))
    return None if said is None else bool(said)


def physics_state_of(env: gym.Env) -> np.ndarray | None:
    """The simulator's state float64 [S]; None where it gives none away."""
    state = getattr(env.unwrapped, "get_physics_state", None)
    return None if state is None else np.array(state(), np.float64)


def draws(spec: EnvSpec) -> bool:
    """Whether an environment can be made with render_mode="rgb_array"."""
    return "rgb_array" in (getattr(_maker(spec), "metadata", None) or {}).get("render_modes", ("rgb_array",))


def ends_on_success(spec: EnvSpec) -> bool:
    """Whether an environment can be told that success does not end an episode (terminate_on_success=False)."""
    try:
        return "terminate_on_success" in inspect.signature(_maker(spec)).parameters
    except (TypeError, ValueError):
        return False


def _maker(spec: EnvSpec) -> Any:
    """The class or function that makes an environment."""
    entry = spec.entry_point
    return gym.envs.registration.load_env_creator(entry) if isinstance(entry, str) else entry


def name_of(env: gym.Env) -> str:
    """The id of an environment, or its class's name where it was made without one."""
    return env.spec.id if env.spec else type(env.unwrapped).__name__
