"""How is a policy kept and loaded without running anybody's code? A folder: safetensors + config.yml + card.

    agents/ppo-Reach-v0/
      README.md            the card, with the measured numbers
      config.yml           algorithm, policy and its arguments, spaces, environment, hyperparameters
      policy.safetensors   the tensors
      results.json         what `wm-gym agent evaluate` measured (where it was)

Stable-Baselines3's own zip holds cloudpickle, which runs code when it is loaded and breaks between Python versions:
it is only an export (`agent.to_sb3(env).save(...)`), and refused by `load_agent` unless you say allow_pickle=True.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import stable_baselines3
import torch
import yaml
from safetensors.torch import save_file
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy

from wm_gym.common.files import atomic_folder, write_text
from wm_gym.common.reading import read_tensors
from wm_gym.policies.agent import TENSORS_FILE, Agent
from wm_gym.policies.card import write_card
from wm_gym.policies.config import CONFIG_FILE, FORMAT_VERSION, Unallocated, decode_space, distinct_names
from wm_gym.policies.recipe import algorithm, decode_policy_kwargs, encode_policy_kwargs, env_wrapper


def save_agent(model: BaseAlgorithm, folder: str | Path, meta: dict[str, Any]) -> Path:
    """Write a model's policy and its card as an agent folder, in the place of one that is there.

    Args:
        model: A model of Stable-Baselines3.
        folder: Where to write.
        meta: Plain values for config.yml: algo, policy (SB3's name of it), env_id, and what else the card shall know
            (env_kwargs, env_wrapper, frame_stack, n_timesteps, seed, hyperparameters ...).

    Returns:
        The folder.

    Raises:
        FileExistsError: Where something else lies there.
        ValueError: For a policy that the folder cannot hold.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / CONFIG_FILE).is_file() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is there and is no agent folder (no {CONFIG_FILE}); choose another --out")
    config = {
        "format_version": FORMAT_VERSION,
        **meta,
        "trained_with": {
            "stable_baselines3": stable_baselines3.__version__,
            "torch": str(torch.__version__),
            "date": time.strftime("%Y-%m-%d"),
        },
        "policy_kwargs": encode_policy_kwargs(model.policy_kwargs),
        "observation_space": encode_space(model.observation_space),
        "action_space": encode_space(model.action_space),
    }
    with atomic_folder(folder) as beside:
        write_text(beside / CONFIG_FILE, yaml.safe_dump(config, sort_keys=False))
        save_file(distinct_tensors(model.policy), beside / TENSORS_FILE)
        write_card(beside)
    return folder


def read_agent(folder: Path, config: dict[str, Any], device: str = "cpu") -> Agent:
    """The agent of a folder whose config.yml says what `config` does; ValueError where it is damaged."""
    path = folder / CONFIG_FILE
    try:
        env_wrapper(config.get("env_wrapper"))
        with Unallocated():
            like = build_policy(config, path)
    except Exception as error:  # Stable-Baselines3 asserts, and torch has errors of its own
        raise error if str(error).startswith(str(path)) else _damaged(folder, error) from error
    state = like.state_dict()
    tensors = read_tensors(folder / TENSORS_FILE, {name: state[name].shape for name in distinct_names(like)}, path)
    policy = build_policy(config, path)
    policy.load_state_dict(tensors, strict=False)  # one name of a shared tensor sets it under all its names
    policy.to(device)
    policy.set_training_mode(False)
    return Agent(policy, config, folder)


def _damaged(folder: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{folder / CONFIG_FILE} is damaged ({type(error).__name__}: {error}); train the agent again or copy it back"
    )


def build_policy(config: dict[str, Any], path: str | Path = CONFIG_FILE) -> BasePolicy:
    """The untrained policy that a config describes; only classes named in `wm_gym.policies.recipe`."""
    aliases = algorithm(config["algo"]).policy_aliases
    if config["policy"] not in aliases:
        raise ValueError(f"policy {config['policy']!r} is unknown to {config['algo']}; choose one of {sorted(aliases)}")
    return aliases[config["policy"]](
        decode_space(config["observation_space"], path, "observation_space"),
        decode_space(config["action_space"], path, "action_space"),
        lambda _: 0.0,  # a learning rate; training goes on through Agent.to_sb3
        **decode_policy_kwargs(config["policy_kwargs"]),
    )


def distinct_tensors(policy: BasePolicy) -> dict[str, torch.Tensor]:
    """The state dict with each tensor once: safetensors refuses the extractor that actor and critic share."""
    state = policy.state_dict()
    return {name: state[name].detach().cpu().contiguous() for name in distinct_names(policy)}


def encode_space(space: gym.Space) -> dict[str, Any]:
    """A Box, Discrete or Dict space as plain values; ValueError for another."""
    if isinstance(space, gym.spaces.Dict):
        return {"type": "Dict", "spaces": {k: encode_space(s) for k, s in space.spaces.items()}}
    if isinstance(space, gym.spaces.Discrete):
        return {"type": "Discrete", "n": int(space.n)}
    if isinstance(space, gym.spaces.Box):
        low, high = (
            np.unique(v).tolist() if len(np.unique(v)) == 1 else v.flatten().tolist() for v in (space.low, space.high)
        )
        return {"type": "Box", "shape": list(space.shape), "dtype": str(space.dtype), "low": low, "high": high}
    raise ValueError(f"{space} cannot be kept in an agent folder; it holds Box, Discrete and Dict spaces")
