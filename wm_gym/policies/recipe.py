"""Which hyperparameters does an algorithm train an environment with? YAML in rl_zoo3's keys -> SB3 arguments."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import yaml
from stable_baselines3 import DQN, PPO, SAC, HerReplayBuffer
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor, NatureCNN
from stable_baselines3.common.utils import LinearSchedule
from torch import nn

from wm_gym.policies.features import SpatialSoftmaxCNN
from wm_gym.worlds.goals import has_goals

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {"ppo": PPO, "sac": SAC, "dqn": DQN}
EXTRACTORS = {c.__name__: c for c in (SpatialSoftmaxCNN, NatureCNN, CombinedExtractor, FlattenExtractor)}
ACTIVATIONS = {c.__name__: c for c in (nn.ReLU, nn.Tanh, nn.ELU, nn.SiLU, nn.GELU, nn.LeakyReLU)}
BUFFERS = {"HerReplayBuffer": HerReplayBuffer}
CLASSES: dict[str, Mapping[str, type]] = {"features_extractor_class": EXTRACTORS, "activation_fn": ACTIVATIONS}
"""Names that a recipe or a downloaded agent may use for classes, as of `BUFFERS`: nothing else is imported for them."""

WRAPPERS = ("wm_gym.wrappers", "gymnasium.wrappers")
"""The modules whose wrappers they may name; no other is imported."""

ENV_KEYS = {
    "n_timesteps",
    "policy",
    "n_envs",
    "frame_stack",
    "normalize",
    "env_wrapper",
    "env_kwargs",
    "policy_kwargs",
    "physics_check",
}


def algorithm(name: str) -> type[BaseAlgorithm]:
    """The SB3 class of "ppo", "sac" or "dqn"; ValueError for another."""
    if name not in ALGORITHMS:
        raise ValueError(f"algorithm {name!r} is unknown; choose one of {sorted(ALGORITHMS)}")
    return ALGORITHMS[name]


def load_recipe(algo: str, env_id: str, path: str | Path | None = None) -> dict[str, Any]:
    """The hyperparameters of an algorithm in an environment: the entry of its id, else the file's `default`.

    Args:
        algo: "ppo", "sac" or "dqn".
        env_id: Whose entry.
        path: A YAML file in rl_zoo3's keys; None for recipes/<algo>.yml.

    Raises:
        FileNotFoundError: Where there is no such file.
        ValueError: Where it has neither entry.
    """
    algorithm(algo)
    path = Path(path or Path(__file__).parent / "recipes" / f"{algo}.yml")
    if not path.is_file():
        raise FileNotFoundError(f"there is no recipe file {path}; write one like {Path(__file__).parent / 'recipes'}")
    entries = yaml.safe_load(path.read_text()) or {}
    recipe = entries.get(env_id.split(":")[-1], entries.get("default"))
    if not isinstance(recipe, dict):
        raise ValueError(f"{path} has no entry {env_id!r} and no `default`; it has {sorted(entries)}")
    return dict(recipe)


def entry_of_source(algo: str, env: gym.Env) -> str:
    """The entry for an environment of numbers that has none of its own: "goal" where hindsight helps, else "vector"."""
    relabels = has_goals(env.observation_space) and hasattr(env.unwrapped, "compute_reward")
    return "goal" if algo == "sac" and relabels else "vector"


def sb3_arguments(algo: str, recipe: dict[str, Any], space: gym.Space) -> dict[str, Any]:
    """Keyword arguments for the SB3 class (policy and policy_kwargs among them) on an observation space."""
    policy, policy_kwargs = policy_for(space, recipe.get("policy", "CnnPolicy"), recipe.get("policy_kwargs") or {})
    return {"policy": policy, "policy_kwargs": decode_policy_kwargs(policy_kwargs), **hyperparameters(recipe)}


def hyperparameters(recipe: dict[str, Any]) -> dict[str, Any]:
    """What of a recipe the algorithm itself takes, rl_zoo3's `lin_` rates as schedules, a replay buffer by its name.

    Raises:
        ValueError: For a replay buffer that is not in `BUFFERS`.
    """
    taken = {k: _schedule(v) for k, v in recipe.items() if k not in ENV_KEYS}
    buffer = taken.get("replay_buffer_class")
    if buffer is not None and buffer not in BUFFERS:
        raise ValueError(f"replay_buffer_class: {buffer!r} is unknown; choose one of {sorted(BUFFERS)}")
    return taken | ({} if buffer is None else {"replay_buffer_class": BUFFERS[buffer]})


def gentler(recipe: dict[str, Any], factor: float = 0.2) -> dict[str, Any]:
    """The recipe with its learning rate times `factor`: for going on from a policy that is good already."""
    rate = recipe.get("learning_rate")
    if rate is None:
        return recipe
    rate = f"lin_{factor * float(rate[4:]):g}" if str(rate).startswith("lin_") else factor * float(rate)
    return {**recipe, "learning_rate": rate}


def policy_for(space: gym.Space, policy: str, policy_kwargs: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The policy name that fits the space: an image, a Dict or a vector (which needs no image extractor)."""
    if isinstance(space, gym.spaces.Dict):
        return "MultiInputPolicy", policy_kwargs
    if is_image_space(space):
        return policy, policy_kwargs
    dropped = ("features_extractor_class", "features_extractor_kwargs")
    return "MlpPolicy", {k: v for k, v in policy_kwargs.items() if k not in dropped}


def decode_policy_kwargs(policy_kwargs: dict[str, Any]) -> dict[str, Any]:
    """Class names -> classes; ValueError for a name that is not in `CLASSES`."""
    decoded = dict(policy_kwargs)
    for key, known in CLASSES.items():
        if key in decoded:
            if decoded[key] not in known:
                raise ValueError(f"{key}: {decoded[key]!r} is unknown; choose one of {sorted(known)}")
            decoded[key] = known[decoded[key]]
    return decoded


def encode_policy_kwargs(policy_kwargs: dict[str, Any]) -> dict[str, Any]:
    """Classes -> class names, for config.yml; ValueError for a class of your own (only its zip can hold it)."""
    encoded = {}
    for key, value in policy_kwargs.items():
        if isinstance(value, type):
            if value.__name__ not in CLASSES.get(key, {}):
                raise ValueError(
                    f"policy_kwargs[{key!r}] is {value.__name__}, which an agent folder cannot name; "
                    f"choose one of {sorted(CLASSES.get(key, {}))}, or keep the agent as a zip with model.save()"
                )
            value = value.__name__
        encoded[key] = list(value) if isinstance(value, tuple) else value
    return encoded


def env_wrapper(path: str | None) -> Callable[[gym.Env], gym.Env] | None:
    """The wrapper class of a dotted path in `WRAPPERS`, None for None; ValueError for any other."""
    if not path:
        return None
    module, _, name = str(path).rpartition(".")
    home = next((one for one in WRAPPERS if f"{module}.".startswith(f"{one}.")), None)
    if home is None:
        raise ValueError(
            f"env_wrapper {path!r} is not of {' or '.join(WRAPPERS)}, as wm_gym.wrappers.DiscreteActions "
            "is; what a file says is not imported"
        )
    importlib.import_module(home)
    wrapper = getattr(sys.modules.get(module), name, None)
    if not (isinstance(wrapper, type) and issubclass(wrapper, gym.Wrapper)):
        raise ValueError(f"env_wrapper {path!r} is not a gymnasium.Wrapper, e.g. wm_gym.wrappers.DiscreteActions")
    return wrapper


def _schedule(value: Any) -> Any:
    """rl_zoo3's `lin_3e-4`: from the value to 0 over the training."""
    if isinstance(value, str) and value.startswith("lin_"):
        return LinearSchedule(float(value[4:]), 0.0, 1.0)
    return value
