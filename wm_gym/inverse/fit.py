"""How does a network learn to read actions off video? From recordings with actions, a part of them if asked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from wm_gym.common.options import with_changes
from wm_gym.data.clips import ClipData
from wm_gym.inverse.options import FitOptions
from wm_gym.models.inverse_dynamics import InverseDynamics, Latent, flushed_denormals
from wm_gym.models.tokenizer import Codec, redrawn, to_float
from wm_gym.training.segments import every_tenth
from wm_gym.training.supervised import fit_supervised

RATES = {"transformer": 3e-3, "flow": 3e-3}  # the others: 1e-2


def split_labels(clips: ClipData, labels: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Episodes (trained on, held out): every tenth is held out; of the others a share `labels`, at least 2, is used."""
    numbers, held = np.arange(len(clips)), every_tenth(len(clips))
    trained = np.random.default_rng(seed).permutation(numbers[~held])
    return np.sort(trained[: max(2, round(labels * len(trained)))]), numbers[held]


@flushed_denormals()
def fit_inverse_dynamics(
    clips: ClipData,
    episodes: np.ndarray,
    kind: str = "transformer",
    tokenizer: Codec | None = None,
    watched: np.ndarray | None = None,
    options: FitOptions | None = None,
    **changes: Any,
) -> InverseDynamics:
    """Learn the actions of some episodes of a recording from their frames.

    Args:
        clips: The recording.
        episodes: Those whose actions are learned.
        kind: One of `wm_gym.models.inverse_dynamics.KINDS`.
        tokenizer: Half of each batch is seen as it draws the frames, so that generated video is not read wrong for
            how it is drawn.
        watched: Episodes whose video alone "latent" learns from; the same by default.
        options: The rest, by their defaults.
        changes: Fields of `FitOptions`, such as updates=200.

    Raises:
        ValueError: Where the recording has no actions or no episode of `window` frames.
    """
    of = with_changes(FitOptions, options, changes)
    latent = kind == "latent"
    if not clips.action.shape[1]:
        raise ValueError(
            f"{clips.meta['dataset']} has no actions to learn from; give recordings with actions, or "
            "latent ones: --kind latent --labels 0"
        )
    starts = _windows(clips, watched if latent and watched is not None else episodes, of.window)
    torch.manual_seed(of.seed)
    rows = clips.transitions(episodes)
    model = _new(clips, rows, kind, of.window)
    _train(model, clips, starts, tokenizer, of)
    if latent:
        given = torch.from_numpy(clips.action[rows])
        _latent(model).fit_probe(latents_of(model, clips, rows), (given - model.action_mean) / model.action_std)
    else:
        model.motion.copy_(torch.from_numpy(fit_motion(clips, rows)))
    return model


def _new(clips: ClipData, rows: np.ndarray, kind: str, window: int) -> InverseDynamics:
    """An untrained network for the recording, which standardises by some of its rows."""
    height, width = clips.frames.shape[1:3]
    pose_dim = 0 if kind == "latent" else clips.proprioception.shape[1]
    model = InverseDynamics(kind, (height, width), clips.action.shape[1], pose_dim, window)
    poses = clips.proprioception[rows, :pose_dim]
    for mean, std, values in (
        (model.action_mean, model.action_std, clips.action[rows]),
        (model.pose_mean, model.pose_std, poses),
    ):
        mean.copy_(torch.from_numpy(values.mean(0)))
        std.copy_(torch.from_numpy(values.std(0).clip(1e-4)))
    return model


def _train(
    model: InverseDynamics, clips: ClipData, starts: np.ndarray, tokenizer: Codec | None, of: FitOptions
) -> None:
    rng = np.random.default_rng([of.seed, 4])
    kind, poses = model.config.kind, clips.proprioception[:, : model.config.pose_dim]

    def loss(update: int) -> torch.Tensor:
        seen = np.sort(rng.choice(starts, of.batch))[:, None] + np.arange(of.window)
        frames = to_float(torch.from_numpy(clips.frames[seen]))
        if tokenizer is not None:
            frames[of.batch // 2 :] = redrawn(tokenizer, frames[of.batch // 2 :])
        return model.loss(frames, *map(torch.from_numpy, (clips.action[seen[:, :-1]], poses[seen])))

    rate = RATES.get(kind, 1e-2)
    name = f"inverse dynamics ({kind})"
    fit_supervised(model, loss, of.updates, rate, largest_gradient=1.0, name=name, progress=of.progress)
    model.eval().requires_grad_(False)


def _latent(model: InverseDynamics) -> Latent:
    """The part of a model of the kind "latent" that reads latent actions."""
    assert isinstance(model.reader, Latent)
    return model.reader


def _windows(clips: ClipData, episodes: Iterable[int], window: int) -> np.ndarray:
    """First rows of all windows in some episodes."""
    episodes, offset = list(episodes), clips.episode_offset
    starts = [np.arange(offset[e], offset[e + 1] - window + 1) for e in episodes if offset[e + 1] - offset[e] >= window]
    if not starts:
        raise ValueError(
            f"none of {len(episodes)} episodes has {window} frames; record longer ones, or read fewer at "
            "a time (--window)"
        )
    return np.concatenate(starts)


@torch.inference_mode()
def latents_of(model: InverseDynamics, clips: ClipData, rows: np.ndarray) -> torch.Tensor:
    """Latent actions [N, Z] from rows [N] of a recording to the next ones, by a model of the kind "latent"."""
    parts, reader = np.array_split(rows, -(-len(rows) // 256)), _latent(model)
    pairs = (np.stack([clips.frames[part], clips.frames[part + 1]], axis=1) for part in parts)
    return torch.cat([reader.latent(to_float(torch.from_numpy(pair)))[:, 0] for pair in pairs])


def without_probe(model: InverseDynamics, clips: ClipData, episodes: np.ndarray) -> InverseDynamics:
    """The same "latent" model, whose actions are its latents, three standard deviations of them being 1."""
    rows, size = clips.transitions(episodes), _latent(model).size
    made = InverseDynamics(**{**model.config, "action_dim": size})
    of_actions = ("reader.probe", "action_", "motion")
    kept = {key: value for key, value in model.state_dict().items() if not key.startswith(of_actions)}
    made.load_state_dict(made.state_dict() | kept)
    probe = _latent(made).probe
    probe.weight.data, probe.bias.data = torch.eye(size), torch.zeros(size)
    found = latents_of(model, clips, rows)
    made.action_std.copy_(1 / (3 * found.std(0)))
    made.action_mean.copy_(-found.mean(0) * made.action_std)
    return made.eval().requires_grad_(False)


def fit_motion(clips: ClipData, rows: np.ndarray) -> np.ndarray:
    """What an action does to the pose, float32 [A+1, P], the last row a constant, by least squares.

    Thrice, each time without the steps in which the robot did something else: stopped at a wall, say.
    """
    given = np.concatenate([clips.action[rows], np.ones((len(rows), 1), np.float32)], axis=1)
    moved, kept = clips.proprioception[rows + 1] - clips.proprioception[rows], np.ones(len(rows), bool)
    for _ in range(3):
        motion = np.linalg.lstsq(given[kept], moved[kept], rcond=None)[0]
        wrong = np.linalg.norm(moved - given @ motion, axis=1)
        kept = wrong <= 2 * np.median(wrong) + 1e-6
    return motion.astype(np.float32)
