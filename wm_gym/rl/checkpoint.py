"""What must be on the disk for a killed training to go on? Model, optimizer, random streams, running episodes.

A checkpoint is a folder `checkpoint-<steps>` in the run directory (`atomic_folder`), so that the newest is
always whole. It holds Stable-Baselines3's zip (a pickle: our own run directory only, never a downloaded one).
"""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, VecMonitor, VecNormalize, unwrap_vec_wrapper

from wm_gym.common.files import atomic_folder
from wm_gym.sb3 import WorldVecEnv

MONITOR = ("episode_returns", "episode_lengths")
COLLECTED = (
    "num_timesteps",
    "_last_obs",
    "_last_episode_starts",
    "_last_original_obs",
    "_episode_num",
    "ep_info_buffer",
    "ep_success_buffer",
)  # what SB3's algorithms change while they collect


def save_checkpoint(model: BaseAlgorithm, run: Path) -> Path:
    """Write the checkpoint of `model.num_timesteps`, then remove the older ones."""
    final = run / f"checkpoint-{model.num_timesteps:09d}"
    with atomic_folder(final) as beside:
        model.save(beside / "model.zip")
        state: dict[str, Any] = {**_random_state(), **_env_state(env_of(model))}
        np.savez(beside / "state.npz", **state)
        if isinstance(model, OffPolicyAlgorithm):
            model.save_replay_buffer(beside / "replay_buffer.pkl")
        if normalize := model.get_vec_normalize_env():
            normalize.save(str(beside / "normalize.pkl"))
    for old in (*run.glob("checkpoint-*"), *run.glob(".checkpoint-*")):  # those that a kill left half written, too
        if old != final:
            shutil.rmtree(old)
    return final


def env_of(model: BaseAlgorithm) -> VecEnv:
    """The environments that a model trains in."""
    assert model.env is not None
    return model.env


def moment(model: BaseAlgorithm) -> dict[str, Any]:
    """What collecting steps changes, as it is now: `rewind` takes the model back here, as long as nothing was learned.

    A normalisation's statistics go on.
    """
    held = {key: copy.deepcopy(vars(model)[key]) for key in COLLECTED if key in vars(model)}
    return {"model": held, "state": {**_random_state(), **_env_state(env_of(model))}}


def rewind(model: BaseAlgorithm, held: dict[str, Any]) -> None:
    """Undo what was collected since `moment`; a second `rewind` to it is possible."""
    vars(model).update(copy.deepcopy(held["model"]))
    _set_random_state(held["state"])
    if any(key.startswith("env/") for key in held["state"]):
        _set_env_state(env_of(model), held["state"])


def latest_checkpoint(run: Path) -> Path | None:
    """The checkpoint with the most steps, or None."""
    return max(run.glob("checkpoint-*"), default=None)


def load_checkpoint(kind: type[BaseAlgorithm], checkpoint: Path, env: VecEnv, device: str, seed: int) -> BaseAlgorithm:
    """The model as it was, on a fresh environment.

    In a learned world the running episodes go on too, and an on-policy training on a CPU ends bit for bit where an
    uninterrupted one would; other environments, and frame-stacked or normalised ones, begin new episodes.
    """
    if (checkpoint / "normalize.pkl").is_file():
        assert isinstance(env, VecNormalize)  # as the recipe, which is the run's, says
        env = VecNormalize.load(str(checkpoint / "normalize.pkl"), env.venv)
    with np.load(checkpoint / "state.npz") as stored:
        state = dict(stored)
    running = any(key.startswith("env/") for key in state)
    model = kind.load(checkpoint / "model.zip", env=env, device=device, force_reset=not running)
    if running:
        _set_env_state(env_of(model), state)
    else:
        env_of(model).seed(seed + model.num_timesteps)  # not the same starts once more
    if isinstance(model, OffPolicyAlgorithm):
        model.load_replay_buffer(checkpoint / "replay_buffer.pkl")
    _set_random_state(state)
    return model


def _random_state() -> dict[str, np.ndarray]:
    """SB3 draws actions from torch's stream and shuffles minibatches with numpy's."""
    stream = np.random.get_state(legacy=False)["state"]
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {
        "random/torch": torch.get_rng_state().numpy(),
        "random/numpy": stream["key"],
        "random/position": np.array(stream["pos"]),
        **{f"random/cuda/{i}": one.numpy() for i, one in enumerate(cuda)},
    }


def _set_random_state(state: dict[str, np.ndarray]) -> None:
    torch.set_rng_state(torch.from_numpy(state["random/torch"]))
    for i in range(torch.cuda.device_count()):
        if (stream := state.get(f"random/cuda/{i}")) is not None:
            torch.cuda.set_rng_state(torch.from_numpy(stream), i)
    keys, position = state["random/numpy"], int(state["random/position"])
    np.random.set_state({"bit_generator": "MT19937", "state": {"key": keys, "pos": position}})


def _world(env: VecEnv) -> WorldVecEnv | None:
    """The batch of learned episodes under the wrappers; None where it, or a wrapper, keeps what we cannot."""
    if unwrap_vec_wrapper(env, VecFrameStack) or unwrap_vec_wrapper(env, VecNormalize):
        return None
    base = env.unwrapped if hasattr(env, "unwrapped") else env
    return base if isinstance(base, WorldVecEnv) else None


def _env_state(env: VecEnv) -> dict[str, np.ndarray]:
    world = _world(env)
    if world is None or world.core.ended.any():  # ended, and the next one could not be begun
        return {}
    slots = [world.core.get_state(i) for i in range(world.num_envs)]
    state = {f"env/{key}": np.stack([slot[key] for slot in slots]) for key in slots[0]}
    monitor = unwrap_vec_wrapper(env, VecMonitor)
    return state | {f"monitor/{key}": getattr(monitor, key) for key in MONITOR}


def _set_env_state(env: VecEnv, state: dict[str, np.ndarray]) -> None:
    world, monitor = _world(env), unwrap_vec_wrapper(env, VecMonitor)
    assert world is not None  # else `_env_state` had kept nothing
    arrays = {key.removeprefix("env/"): value for key, value in state.items() if key.startswith("env/")}
    for i in range(world.num_envs):
        world.core.set_state(i, {key: value[i] for key, value in arrays.items()})
    for key in MONITOR:
        setattr(monitor, key, state[f"monitor/{key}"].copy())
