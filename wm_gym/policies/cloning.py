"""How is a policy learned from recordings alone? Behaviour cloning of a dataset's actions into a recipe's policy."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import is_image_space

from wm_gym.common.files import check_free
from wm_gym.common.options import with_changes
from wm_gym.common.registry import find_spec
from wm_gym.data import ClipData, join_clips, open_clips
from wm_gym.engine.shared import load_world
from wm_gym.models.tokenizer import redrawn, to_float, to_uint8
from wm_gym.policies.config import CONFIG_FILE
from wm_gym.policies.folder import save_agent
from wm_gym.policies.options import CloneOptions
from wm_gym.policies.recipe import algorithm, load_recipe, sb3_arguments
from wm_gym.registration import is_learned
from wm_gym.sb3 import make_sb3_env
from wm_gym.training.segments import every_tenth
from wm_gym.training.supervised import fit_supervised
from wm_gym.worlds.world import World

ALGO = "ppo"  # whose policy it is: `wm-gym agent train ppo --init CLONE` goes on from it


def clone_agent(
    datasets: str | Path | Sequence[str | Path],
    env_id: str,
    out: str | Path,
    options: CloneOptions | None = None,
    **changes: Any,
) -> Path:
    """Train PPO's policy to repeat the actions of datasets from their frames.

    The loss is the squared error of the policy's mean action. With `views` half of each batch is shown as that world
    draws it, so that the policy acts alike on a camera's pictures and on the world's, which judges it then.

    Args:
        datasets: One or several, recorded or imagined, whose frames and actions are of the same shape. Every tenth
            episode is held out; its error goes to config.yml.
        env_id: Whose observation and action space the policy has, and whose recipe shapes it.
        out: The agent folder to write.
        options: `CloneOptions`; None for the defaults.
        **changes: Some of its fields, e.g. updates=1000.

    Returns:
        The agent folder.

    Raises:
        FileExistsError: Where `out` is there.
        ValueError: Where the environment is not seen in pixels of the dataset's size, its actions or the world's
            pictures are others, and for fewer than 2 episodes.
    """
    options = with_changes(CloneOptions, options, changes)
    find_spec(env_id)
    out = Path(out)
    check_free(out, options.overwrite, CONFIG_FILE, ": it is no agent folder")
    datasets = [datasets] if isinstance(datasets, (str, Path)) else list(datasets)
    clips = join_clips([_shown(open_clips(dataset, progress=options.progress)) for dataset in datasets])
    named = " + ".join(Path(dataset).name for dataset in datasets)
    count = min(options.episodes or len(clips), len(clips))
    if count < 2:
        raise ValueError(f"{named}: {count} episode to learn from; expected at least 2, one of them held out")
    world = _drawing_world(options, clips)
    model, policy_name = _new_model(env_id, clips, options)
    policy = model.policy
    assert isinstance(policy, ActorCriticPolicy)  # PPO's
    held = every_tenth(count)
    rows, shown = (clips.transitions(np.flatnonzero(which)) for which in (~held, held))
    started = time.monotonic()
    _fit(policy, clips, rows, options, world)
    made = {
        "dataset": named,
        "episodes": int((~held).sum()),
        "updates": options.updates,
        **({"views": world.spec.name} if world else {}),
        "held_out_squared_error": round(_error(policy, clips, shown), 5),
    }
    return save_agent(model, out, _identity(env_id, policy_name, made, time.monotonic() - started, options))


def _drawing_world(options: CloneOptions, clips: ClipData) -> World | None:
    """The world that draws half of the frames; ValueError where it draws another size."""
    world = load_world(options.views) if options.views else None
    if world and list(clips.frames.shape[1:3]) != list(world.spec.frame_size):
        raise ValueError(
            f"the world {world.spec.name!r} draws {world.spec.frame_size} pixels, the dataset shows "
            f"{list(clips.frames.shape[1:3])}; pass views of a world that was trained on such pictures"
        )
    return world


def _new_model(env_id: str, clips: ClipData, options: CloneOptions) -> tuple[BaseAlgorithm, str]:
    """The untrained model for an environment's spaces, and its policy's name."""
    recipe = load_recipe(ALGO, env_id, options.recipe_file)
    env = make_sb3_env(env_id, 1, options.seed, **(options.env_kwargs or {}))
    try:
        _check_spaces(env.observation_space, env.action_space, clips, env_id)
        arguments = sb3_arguments(ALGO, recipe, env.observation_space)
        shape = {key: arguments[key] for key in ("policy", "policy_kwargs")}
        return algorithm(ALGO)(env=env, seed=options.seed, device=options.device, **shape), arguments["policy"]
    finally:
        env.close()


def _identity(env_id: str, policy: str, made: dict[str, Any], seconds: float, options: CloneOptions) -> dict[str, Any]:
    """What config.yml says of a clone."""
    return {
        "algo": ALGO,
        "policy": policy,
        "env_id": env_id,
        "env_kwargs": dict(options.env_kwargs or {}),
        "learned": is_learned(find_spec(env_id)),
        "env_wrapper": None,
        "frame_stack": 1,
        "seed": options.seed,
        "init": None,
        "cloned_from": made,
        "n_timesteps_before": 0,
        "n_timesteps": 0,
        "training_seconds": round(seconds, 1),
        "hyperparameters": {"learning_rate": options.learning_rate},
        "n_envs": 1,
    }


def _shown(clips: ClipData) -> ClipData:
    """Frames and actions alone, so that recordings which know different things beside them can be joined."""
    nothing = np.zeros((len(clips.frames), 0), np.float32)
    meta = clips.meta | {
        "action_names": [],
        "action_bounds": "data",
        "proprioception_names": [],
        "reward_terms": [],
        "has_success": False,
        "env_id": None,
        "camera": "",
    }
    return replace(clips, proprioception=nothing, reward=nothing, physics_state=None, meta=meta)


def _check_spaces(observation: gym.Space, action: gym.Space, clips: ClipData, env_id: str) -> None:
    height, width = clips.frames.shape[1:3]
    shapes = ((height, width, 3), (3, height, width))
    if not is_image_space(observation) or observation.shape not in shapes:
        raise ValueError(
            f"{env_id} shows {observation}; a policy is cloned from pixels of the dataset's size, "
            f"{height} x {width} x 3"
        )
    if not isinstance(action, gym.spaces.Box) or action.shape != clips.action.shape[1:]:
        raise ValueError(
            f"{env_id} takes {action}, the dataset's actions are {list(clips.action.shape[1:])}; "
            "record that environment"
        )


def _means(policy: ActorCriticPolicy, frames: np.ndarray) -> torch.Tensor:
    """The mean action [B, A] of frames uint8 [B, H, W, 3]."""
    pictures = torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2))).to(policy.device)
    distribution = policy.get_distribution(pictures).distribution
    assert not isinstance(distribution, list)  # that of a MultiDiscrete
    return distribution.mean


def _fit(
    policy: ActorCriticPolicy, clips: ClipData, rows: np.ndarray, options: CloneOptions, world: World | None
) -> None:
    rng, batch = np.random.default_rng(options.seed), options.batch

    def loss(update: int) -> torch.Tensor:
        chosen = np.sort(rng.choice(rows, batch))
        frames, wanted = clips.frames[chosen], torch.from_numpy(clips.action[chosen]).to(policy.device)
        if world:
            drawn = rng.permutation(batch) < batch // 2
            frames[drawn] = to_uint8(redrawn(world.tokenizer, to_float(torch.from_numpy(frames[drawn])))).numpy()
        return (_means(policy, frames) - wanted).square().mean()

    policy.set_training_mode(True)
    rate, updates, progress = options.learning_rate, options.updates, options.progress
    fit_supervised(policy, loss, updates, rate, weight_decay=1e-3, name="cloning", progress=progress)
    policy.set_training_mode(False)


@torch.inference_mode()
def _error(policy: ActorCriticPolicy, clips: ClipData, rows: np.ndarray) -> float:
    def total(piece: np.ndarray) -> float:
        means = _means(policy, clips.frames[piece]).cpu().numpy()
        return ((means - clips.action[piece]) ** 2).mean(1).sum()

    return float(sum(map(total, np.array_split(rows, -(-len(rows) // 512)))) / len(rows))
