"""How does a network learn to read actions off video? From recordings with actions, a part of them if asked."""

from __future__ import annotations

import numpy as np
import torch

from wm_gym.data.clips import ClipData
from wm_gym.models.inverse_dynamics import InverseDynamics, flushed_denormals
from wm_gym.models.tokenizer import Codec, redrawn, to_float
from wm_gym.training.segments import every_tenth
from wm_gym.training.supervised import fit_supervised

RATES = {"transformer": 3e-3, "flow": 3e-3}  # the others: 1e-2


def split_labels(clips: ClipData, labels: float = 1.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Episodes (taught, held out): every tenth is held out; of the others a share `labels`, at least 2, is taught."""
    numbers, held = np.arange(len(clips)), every_tenth(len(clips))
    taught = np.random.default_rng(seed).permutation(numbers[~held])
    return np.sort(taught[: max(2, round(labels * len(taught)))]), numbers[held]


@flushed_denormals()
def fit_inverse_dynamics(
    clips: ClipData,
    episodes: np.ndarray,
    kind: str = "transformer",
    tokenizer: Codec | None = None,
    updates: int = 2000,
    window: int = 9,
    batch: int = 16,
    seed: int = 0,
    progress: bool = True,
    watched: np.ndarray | None = None,
) -> InverseDynamics:
    """Learn the actions of some episodes of a recording from their frames.

    tokenizer: half of each batch is seen as it draws the frames, so that generated video is not read wrong for how it
    is drawn. watched: episodes whose video alone "latent" learns from (default: the same). ValueError where the
    recording has no actions or no episode of `window` frames.
    """
    latent = kind == "latent"
    if not clips.action.shape[1]:
        raise ValueError(
            f"{clips.meta['dataset']} has no actions to learn from; give recordings with actions, or "
            "latent ones: --kind latent --labels 0"
        )
    starts = _windows(clips, watched if latent and watched is not None else episodes, window)
    rng = np.random.default_rng([seed, 4])
    torch.manual_seed(seed)
    model = InverseDynamics(
        kind,
        list(clips.frames.shape[1:3]),
        clips.action.shape[1],
        0 if latent else clips.proprioception.shape[1],
        window,
    )
    rows = clips.transitions(episodes)
    poses = clips.proprioception[:, : model.config.pose_dim]
    for name, values in (("action", clips.action[rows]), ("pose", poses[rows])):
        getattr(model, f"{name}_mean").copy_(torch.from_numpy(values.mean(0)))
        getattr(model, f"{name}_std").copy_(torch.from_numpy(values.std(0).clip(1e-4)))

    def loss(update: int) -> torch.Tensor:
        seen = np.sort(rng.choice(starts, batch))[:, None] + np.arange(window)
        frames = to_float(torch.from_numpy(clips.frames[seen]))
        if tokenizer is not None:
            frames[batch // 2 :] = redrawn(tokenizer, frames[batch // 2 :])
        return model.loss(frames, *map(torch.from_numpy, (clips.action[seen[:, :-1]], poses[seen])))

    name = f"inverse dynamics ({kind})"
    fit_supervised(model, loss, updates, RATES.get(kind, 1e-2), largest_gradient=1.0, name=name, progress=progress)
    model.eval().requires_grad_(False)
    if latent:
        told = torch.from_numpy(clips.action[rows])
        model.reader.fit_probe(latents_of(model, clips, rows), (told - model.action_mean) / model.action_std)
    else:
        model.motion.copy_(torch.from_numpy(fit_motion(clips, rows)))
    return model


def _windows(clips: ClipData, episodes: np.ndarray, window: int) -> np.ndarray:
    """First rows of all windows in some episodes."""
    offset = clips.episode_offset
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
    parts = np.array_split(rows, -(-len(rows) // 256))
    return torch.cat(
        [
            model.reader.latent(
                to_float(torch.from_numpy(np.stack([clips.frames[part], clips.frames[part + 1]], axis=1)))
            )[:, 0]
            for part in parts
        ]
    )


def without_probe(model: InverseDynamics, clips: ClipData, episodes: np.ndarray) -> InverseDynamics:
    """The same "latent" model, whose actions are its latents, three standard deviations of them being 1."""
    rows = clips.transitions(episodes)
    made = InverseDynamics(**{**model.config, "action_dim": model.reader.size})
    made.load_state_dict(
        {
            **made.state_dict(),
            **{
                key: value
                for key, value in model.state_dict().items()
                if not key.startswith(("reader.probe", "action_", "motion"))
            },
        }
    )
    made.reader.probe.weight.data = torch.eye(made.reader.size)
    made.reader.probe.bias.data = torch.zeros(made.reader.size)
    found = latents_of(model, clips, rows)
    made.action_std.copy_(1 / (3 * found.std(0)))
    made.action_mean.copy_(-found.mean(0) * made.action_std)
    return made.eval().requires_grad_(False)


def fit_motion(clips: ClipData, rows: np.ndarray) -> np.ndarray:
    """What an action does to the pose, float32 [A+1, P], the last row a constant, by least squares.

    Thrice, each time without the steps in which the robot did something else: stopped at a wall, say.
    """
    told = np.concatenate([clips.action[rows], np.ones((len(rows), 1), np.float32)], axis=1)
    moved, kept = clips.proprioception[rows + 1] - clips.proprioception[rows], np.ones(len(rows), bool)
    for _ in range(3):
        motion = np.linalg.lstsq(told[kept], moved[kept], rcond=None)[0]
        wrong = np.linalg.norm(moved - told @ motion, axis=1)
        kept = wrong <= 2 * np.median(wrong) + 1e-6
    return motion.astype(np.float32)
