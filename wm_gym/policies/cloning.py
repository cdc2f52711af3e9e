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
from stable_baselines3.common.preprocessing import is_image_space
from tqdm import tqdm

from wm_gym.common.registry import find_spec
from wm_gym.data import ClipData, join_clips, open_clips
from wm_gym.engine.shared import load_world
from wm_gym.models.tokenizer import redrawn, to_float, to_uint8
from wm_gym.policies.config import CONFIG_FILE
from wm_gym.policies.folder import save_agent
from wm_gym.policies.recipe import algorithm, load_recipe, sb3_arguments
from wm_gym.registration import is_learned
from wm_gym.sb3 import make_sb3_env
from wm_gym.training.schedule import one_cycle
from wm_gym.training.segments import every_tenth
from wm_gym.worlds.world import World

ALGO = "ppo"  # whose policy it is: `wm-gym agent train ppo --init CLONE` goes on from it


def clone_agent(
    datasets: str | Path | Sequence[str | Path],
    env_id: str,
    out: str | Path,
    updates: int = 3000,
    episodes: int | None = None,
    seed: int = 0,
    *,
    env_kwargs: dict[str, Any] | None = None,
    recipe_file: str | Path | None = None,
    batch: int = 128,
    learning_rate: float = 1e-3,
    views: World | str | Path | None = None,
    device: str = "auto",
    progress: bool = True,
    overwrite: bool = False,
) -> Path:
    """Train PPO's policy to repeat the actions of datasets from their frames; returns the agent folder `out`.

    The squared error of the policy's mean action, on frames of the first `episodes` episodes (default: all; every tenth
    is held out, its error goes to config.yml). Of several datasets, recorded or imagined, frames and actions have to be
    of the same shape, nothing else. env_id: whose observation and action space the policy has, and whose
    recipe shapes it. views: half of each batch is shown as this world draws it, so that the policy acts alike on a
    camera's pictures and on the world's, which judges it then. Raises FileExistsError where `out` is there, ValueError
    where the environment is not seen in pixels of the dataset's size, its actions or the world's pictures are others,
    and for fewer than 2 episodes.
    """
    find_spec(env_id)
    out, is_agent = Path(out), (Path(out) / CONFIG_FILE).is_file()
    if out.exists() and not (overwrite and is_agent):
        raise FileExistsError(
            f"{out} is there; choose another --out"
            + (", or pass --overwrite" if is_agent else ": it is no agent folder")
        )
    datasets = [datasets] if isinstance(datasets, (str, Path)) else list(datasets)
    clips = join_clips([_shown(open_clips(dataset, progress=progress)) for dataset in datasets])
    named = " + ".join(Path(dataset).name for dataset in datasets)
    count = min(episodes or len(clips), len(clips))
    if count < 2:
        raise ValueError(f"{named}: {count} episode to learn from; expected at least 2, one of them held out")
    world = load_world(views) if views else None
    if world and list(clips.frames.shape[1:3]) != list(world.spec.frame_size):
        raise ValueError(
            f"the world {world.spec.name!r} draws {world.spec.frame_size} pixels, the dataset shows "
            f"{list(clips.frames.shape[1:3])}; pass views of a world that was trained on such pictures"
        )
    recipe = load_recipe(ALGO, env_id, recipe_file)
    env = make_sb3_env(env_id, 1, seed, **(env_kwargs or {}))
    try:
        _check_spaces(env.observation_space, env.action_space, clips, env_id)
        arguments = sb3_arguments(ALGO, recipe, env.observation_space)
        model = algorithm(ALGO)(
            arguments["policy"], env, policy_kwargs=arguments["policy_kwargs"], seed=seed, device=device
        )
    finally:
        env.close()
    held = every_tenth(count)
    rows, shown = (clips.transitions(np.flatnonzero(which)) for which in (~held, held))
    started = time.monotonic()
    _fit(model.policy, clips, rows, updates, batch, learning_rate, seed, progress, world)
    return save_agent(
        model,
        out,
        {
            "algo": ALGO,
            "policy": arguments["policy"],
            "env_id": env_id,
            "env_kwargs": dict(env_kwargs or {}),
            "learned": is_learned(find_spec(env_id)),
            "env_wrapper": None,
            "frame_stack": 1,
            "seed": seed,
            "init": None,
            "cloned_from": {
                "dataset": named,
                "episodes": int((~held).sum()),
                "updates": updates,
                **({"views": world.spec.name} if world else {}),
                "held_out_squared_error": round(_error(model.policy, clips, shown), 5),
            },
            "n_timesteps_before": 0,
            "n_timesteps": 0,
            "training_seconds": round(time.monotonic() - started, 1),
            "hyperparameters": {"learning_rate": learning_rate},
            "n_envs": 1,
        },
    )


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


def _means(policy, frames: np.ndarray) -> torch.Tensor:
    """The mean action [B, A] of frames uint8 [B, H, W, 3]."""
    pictures = torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2))).to(policy.device)
    return policy.get_distribution(pictures).distribution.mean


def _fit(
    policy,
    clips: ClipData,
    rows: np.ndarray,
    updates: int,
    batch: int,
    learning_rate: float,
    seed: int,
    progress: bool,
    world: World | None,
) -> None:
    rng = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=learning_rate, weight_decay=1e-3)
    schedule = one_cycle(optimizer, learning_rate, updates)
    policy.set_training_mode(True)
    for _ in tqdm(range(updates), desc="cloning", mininterval=1.0, disable=not progress):
        chosen = np.sort(rng.choice(rows, batch))
        frames, wanted = clips.frames[chosen], torch.from_numpy(clips.action[chosen]).to(policy.device)
        if world:
            drawn = rng.permutation(batch) < batch // 2
            frames[drawn] = to_uint8(redrawn(world.tokenizer, to_float(torch.from_numpy(frames[drawn])))).numpy()
        loss = (_means(policy, frames) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    policy.set_training_mode(False)


@torch.inference_mode()
def _error(policy, clips: ClipData, rows: np.ndarray) -> float:
    pieces = np.array_split(rows, -(-len(rows) // 512))
    return float(
        sum(
            ((_means(policy, clips.frames[piece]).cpu().numpy() - clips.action[piece]) ** 2).mean(1).sum()
            for piece in pieces
        )
        / len(rows)
    )
