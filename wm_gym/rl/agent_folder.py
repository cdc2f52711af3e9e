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
from dataclasses import dataclass
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

from wm_gym.files import atomic_folder, digest, recover, unchanged, write_text
from wm_gym.reading import read_tensors
from wm_gym.registration import registered
from wm_gym.rl.agent_config import (
    CONFIG_FILE,
    FORMAT_VERSION,
    PLANNER,
    Unallocated,
    decode_space,
    distinct_names,
    read_config,
)
from wm_gym.rl.recipe import algorithm, decode_policy_kwargs, encode_policy_kwargs, env_wrapper, hyperparameters

TENSORS_FILE, LEROBOT_CONFIG = "policy.safetensors", "config.json"
NOT_THE_ENVIRONMENTS = ("id", "env_id", "n_envs", "num_envs", "seed", "wrapper_class", "monitor_file", "start_method")
"""Keyword arguments of who makes an environment, which no file sets: some say where to write."""
PICKLES = (".zip", ".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt")


@dataclass
class Agent:
    """A trained policy and what is known about it."""

    policy: BasePolicy
    config: dict[str, Any]
    folder: Path | None = None

    @property
    def name(self) -> str:
        """Its folder's name, or its algorithm's where it has none."""
        return self.folder.name if self.folder else self.algo

    @property
    def algo(self) -> str:
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
            raise ValueError(f"{self.origin('env_kwargs')} is {kwargs!r}, expected arguments of its environment and "
                             f"none of {', '.join(NOT_THE_ENVIRONMENTS)}; do not trust this agent")
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
        return int(self.config.get("frame_stack") or 1)

    @property
    def env_wrapper(self):
        """The gymnasium.Wrapper class that its environment needs (DiscreteActions for DQN), or None."""
        return env_wrapper(self.config.get("env_wrapper"))

    def act(self, observation, deterministic: bool = True) -> np.ndarray:
        """Actions [B, A] (or [B]) for observations with a leading batch axis; clipped to the action space."""
        return self.predict(observation, deterministic=deterministic)[0]

    def predict(self, observation, state=None, deterministic: bool = True, active: np.ndarray | None = None) -> tuple:
        """The same, and the state to pass with the next observations; active bool [B]: whose actions are of use."""
        try:
            actions, state = self.policy.predict(observation, state=state, deterministic=deterministic)
            finite = np.isfinite(actions).all()
        except ValueError as error:
            if "constraint" not in str(error):  # of torch's distributions on their parameters: no NaN
                raise
            finite = False
        if not finite:
            raise ValueError(f"{self.folder / TENSORS_FILE if self.folder else self.name} gives actions that are not "
                             "finite: its weights are damaged; train the agent again or copy it back")
        return actions, state

    def to_sb3(self, env) -> BaseAlgorithm:
        """The Stable-Baselines3 model with these weights on an environment: train on, or export: `.save("x.zip")`."""
        kind = algorithm(self.algo)
        model = kind(
            self.config["policy"], env, policy_kwargs=decode_policy_kwargs(self.config["policy_kwargs"]),
            device=self.policy.device, **hyperparameters(self.config.get("hyperparameters") or {}),
        )
        model.policy.load_state_dict(self.policy.state_dict())
        return model


def save_agent(model: BaseAlgorithm, folder: str | Path, meta: dict[str, Any]) -> Path:
    """Write a model's policy and its card as an agent folder (`atomic_folder`); replaces an agent folder that is there.

    meta: algo, policy (SB3's name of it), env_id, and what else the card shall know (env_kwargs, env_wrapper,
    frame_stack, n_timesteps, seed, hyperparameters ...): plain values.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / CONFIG_FILE).is_file() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is there and is no agent folder (no {CONFIG_FILE}); choose another --out")
    config = {
        "format_version": FORMAT_VERSION,
        **meta,
        "trained_with": {"stable_baselines3": stable_baselines3.__version__, "torch": str(torch.__version__),
                         "date": time.strftime("%Y-%m-%d")},
        "policy_kwargs": encode_policy_kwargs(model.policy_kwargs),
        "observation_space": encode_space(model.observation_space),
        "action_space": encode_space(model.action_space),
    }
    from wm_gym.rl.card import write_card

    with atomic_folder(folder) as beside:
        write_text(beside / CONFIG_FILE, yaml.safe_dump(config, sort_keys=False))
        save_file(distinct_tensors(model.policy), beside / TENSORS_FILE)
        write_card(beside)
    return folder


def load_agent(source: str | Path | Agent, device: str = "cpu", allow_pickle: bool = False) -> Agent:
    """An agent from a folder, the name of a shipped one (`ppo-Reach-v0`) or a Hub id (`user/repository`).

    A folder may also be a policy that lerobot saved, and `module:name` a class, object or function with
    `predict(observation)` (see `wm_gym.rl.others`), whose module is imported.
    Raises FileNotFoundError where there is none, ValueError for a damaged one, and for a zip or another pickle unless
    allow_pickle=True: a pickle runs the code of whoever wrote it.
    """
    if isinstance(source, Agent):
        return source
    if ":" in str(source) and not Path(source).exists():
        from wm_gym.rl.others import load_callable

        return load_callable(str(source))
    folder = find_agent(source)
    if folder.is_file():
        return _load_pickle(folder, device, allow_pickle)
    return unchanged(folder, lambda folder: _load_folder(folder, device, allow_pickle))


def _load_folder(folder: Path, device: str, allow_pickle: bool) -> Agent:
    config = read_config(folder)
    if config is None and (folder / LEROBOT_CONFIG).is_file():
        from wm_gym.rl.lerobot_policy import is_lerobot, load_lerobot

        if is_lerobot(folder):
            return load_lerobot(folder, device)
    if config and config.get("algo") == PLANNER:
        from wm_gym.rl.planner import load_planner

        return load_planner(folder, config, device)
    if config is None or not (folder / TENSORS_FILE).is_file():
        pickles = sorted(p for p in folder.iterdir() if p.suffix in PICKLES)
        if pickles:
            return _load_pickle(pickles[0], device, allow_pickle)
        raise FileNotFoundError(
            f"{folder} is no agent: it lacks {CONFIG_FILE} or {TENSORS_FILE}; "
            "train one with `wm-gym agent train ppo --env wm_gym/Reach-v0 --out DIR`"
        )
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
    return ValueError(f"{folder / CONFIG_FILE} is damaged ({type(error).__name__}: {error}); train the agent "
                      "again or copy it back")


def build_policy(config: dict[str, Any], path: str | Path = CONFIG_FILE) -> BasePolicy:
    """The untrained Stable-Baselines3 policy that a config describes; only classes named in `wm_gym.rl.recipe`."""
    aliases = algorithm(config["algo"]).policy_aliases
    if config["policy"] not in aliases:
        raise ValueError(f"policy {config['policy']!r} is unknown to {config['algo']}; choose one of {sorted(aliases)}")
    return aliases[config["policy"]](
        decode_space(config["observation_space"], path, "observation_space"),
        decode_space(config["action_space"], path, "action_space"),
        lambda _: 0.0,  # a learning rate; training goes on through Agent.to_sb3
        **decode_policy_kwargs(config["policy_kwargs"]),
    )


def without_episode_shape(env_kwargs: dict[str, Any]) -> dict[str, Any]:
    """env_kwargs less those that say how episodes begin and end: a policy is measured in the env's own episodes."""
    shape = ("terminate_on_success", "success_threshold", "max_episode_steps", "starts")
    return {k: v for k, v in env_kwargs.items() if k not in shape}


def distinct_tensors(policy: BasePolicy) -> dict[str, torch.Tensor]:
    """The state dict with each tensor once: safetensors refuses the extractor that actor and critic share."""
    state = policy.state_dict()
    return {name: state[name].detach().cpu().contiguous() for name in distinct_names(policy)}


def find_agent(source: str | Path) -> Path:
    """The folder (or file) of an agent: a path, a name in the catalogue, or a Hub id (downloaded, no pickles)."""
    if recover(source).exists():
        return Path(source)
    shipped = catalogue()
    name = str(source).removeprefix("agents/").removeprefix("wm_gym/")
    if name in shipped:
        return shipped[name]
    if str(source).count("/") == 1 and not str(source).startswith((".", "/", "~")):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, HfHubHTTPError, LocalEntryNotFoundError

        try:
            return Path(snapshot_download(str(source), allow_patterns=["*.safetensors", "*.yml", "*.json", "*.md"]))
        except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
            cause = f" (and the Hub has none: {str(error).splitlines()[0]})"
    else:
        cause = ""
    raise FileNotFoundError(f"there is no agent {str(source)!r}{cause}; pass a folder or one of {sorted(shipped)}")


def digest_of_agent(source: str | Path) -> str:
    """What tells an agent from others in the same place: its tensors, or a planner's config; "" for no folder."""
    folder = Path(source) if ":" in str(source) and not Path(source).exists() else find_agent(source)
    files = [folder / name for name in (TENSORS_FILE, CONFIG_FILE)] + sorted(folder.glob("*.safetensors"))
    return digest(next(([file] for file in files if file.is_file()), [folder] if folder.is_file() else []))


def catalogue() -> dict[str, Path]:
    """Name -> folder of every shipped agent: `wm_gym/agents` (a wheel), then `agents` beside the package."""
    package = Path(__file__).resolve().parents[1]
    roots = [package / "agents"]
    if (package.parent / "setup.py").is_file():
        roots.append(package.parent / "agents")
    found: dict[str, Path] = {}
    for root in roots:
        for config in sorted(root.glob(f"*/{CONFIG_FILE}")):
            found.setdefault(config.parent.name, config.parent)
    return found


def encode_space(space: gym.Space) -> dict[str, Any]:
    """A Box, Discrete or Dict space as plain values; ValueError for another."""
    if isinstance(space, gym.spaces.Dict):
        return {"type": "Dict", "spaces": {k: encode_space(s) for k, s in space.spaces.items()}}
    if isinstance(space, gym.spaces.Discrete):
        return {"type": "Discrete", "n": int(space.n)}
    if isinstance(space, gym.spaces.Box):
        low, high = (np.unique(v).tolist() if len(np.unique(v)) == 1 else v.flatten().tolist()
                     for v in (space.low, space.high))
        return {"type": "Box", "shape": list(space.shape), "dtype": str(space.dtype), "low": low, "high": high}
    raise ValueError(f"{space} cannot be kept in an agent folder; it holds Box, Discrete and Dict spaces")


def _load_pickle(path: Path, device: str, allow_pickle: bool) -> Agent:
    """Stable-Baselines3's zip, only for those who trust it."""
    is_zip = path.suffix == ".zip"
    if not is_zip or not allow_pickle:
        instead = ("if you trust this Stable-Baselines3 zip: --trust, or load_agent(..., allow_pickle=True)" if is_zip
                   else "a policy of your own is evaluated as module:name of a class with predict(observation)")
        raise ValueError(
            f"{path} holds a pickle, which runs the code of whoever wrote it, so it is not loaded. An agent folder has "
            f"{CONFIG_FILE} and {TENSORS_FILE}; {instead}"
        )
    from stable_baselines3.common.save_util import load_from_zip_file

    data, parameters, _ = load_from_zip_file(path, device=device)
    policy = data["policy_class"](
        data["observation_space"], data["action_space"], lambda _: 0.0, **data["policy_kwargs"])
    policy.load_state_dict(parameters["policy"])
    policy.to(device)
    policy.set_training_mode(False)
    return Agent(policy, {"algo": path.stem.split("-")[0], "env_id": None}, path)
