"""Where is the end-effector in this picture? A small network trained on real frames, its own error stated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from wm_gym.common.options import with_changes
from wm_gym.data.frames import Frames
from wm_gym.models.tokenizer import to_float
from wm_gym.training.supervised import fit_supervised


class StateDecoder(nn.Module):
    """Frames uint8 [B, H, W, C] -> state [B, D] in the units that it was trained on."""

    def __init__(self, frame_size: tuple[int, int], state_dim: int, width: int = 32, net: nn.Module | None = None):
        super().__init__()
        cells = (frame_size[0] // 8) * (frame_size[1] // 8)
        self.net = net or nn.Sequential(
            nn.Conv2d(3, width, 5, stride=2, padding=2),
            nn.SiLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Conv2d(2 * width, 2 * width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(2 * width * cells, 256),
            nn.SiLU(),
            nn.Linear(256, state_dim),
        )
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.register_buffer("mean", torch.zeros(state_dim))
        self.register_buffer("std", torch.ones(state_dim))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """The states [B, D] of frames uint8 [B, H, W, C]."""
        return self.net(to_float(frames)) * self.std + self.mean

    @torch.inference_mode()
    def read(self, frames: np.ndarray) -> np.ndarray:
        """[..., H, W, C] -> [..., D], in pieces of 512 frames."""
        flat = torch.from_numpy(np.ascontiguousarray(frames.reshape(-1, *frames.shape[-3:])))
        states = torch.cat([self(piece) for piece in flat.split(512)])
        return states.numpy().reshape(*frames.shape[:-3], -1)


@dataclass
class DecoderReport:
    """The decoder's own error on real frames it was not trained on."""

    decoder: StateDecoder
    median_error: float
    p95_error: float


@dataclass(frozen=True)
class FitOptions:
    """Options of `fit_state_decoder`."""

    views: Callable[[np.ndarray], np.ndarray] | None = None
    """Gives another view of the same frames (the tokenizer's reconstructions): half of each batch is shown so, which
    keeps the decoder from reading reconstruction artefacts as motion."""
    updates: int = 3000
    batch: int = 64
    seed: int = 0
    net: nn.Module | None = None
    """Another network, [B, C, H, W] in [-1, 1] -> [B, D]."""
    rate: float = 1e-3
    """The highest learning rate."""


def fit_state_decoder(
    frames: Frames,
    states: np.ndarray,
    held_frames: np.ndarray,
    held_states: np.ndarray,
    options: FitOptions | None = None,
    **changes: Any,
) -> DecoderReport:
    """Train a state decoder on real frames.

    Args:
        frames: [N, H, W, C].
        states: Of them, [N, D].
        held_frames: That its own error is measured on.
        held_states: Of those.
        options: `FitOptions`.
        **changes: Fields of `FitOptions` by name.

    Returns:
        The decoder with its Euclidean errors on the held-out frames.
    """
    chosen = with_changes(FitOptions, options, changes)
    batch, rng = chosen.batch, np.random.default_rng(chosen.seed)
    torch.manual_seed(chosen.seed)
    decoder = StateDecoder((frames.shape[1], frames.shape[2]), states.shape[1], net=chosen.net)
    decoder.mean.copy_(torch.from_numpy(states.mean(0)))
    decoder.std.copy_(torch.from_numpy(states.std(0).clip(1e-4)))
    decoder = decoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it

    def loss(update: int) -> torch.Tensor:
        rows = np.sort(rng.integers(0, len(frames), batch))
        pictures = frames[rows]
        if chosen.views is not None:
            pictures = np.concatenate([pictures[: batch // 2], chosen.views(pictures[batch // 2 :])])
        both = decoder(torch.from_numpy(pictures)), torch.from_numpy(states[rows])
        predicted, true = ((state - decoder.mean) / decoder.std for state in both)
        return F.smooth_l1_loss(predicted, true, beta=0.1)

    fit_supervised(decoder, loss, chosen.updates, chosen.rate, name="state decoder")
    decoder.eval().requires_grad_(False)
    error = np.linalg.norm(decoder.read(held_frames) - held_states, axis=1)
    return DecoderReport(decoder, float(np.median(error)), float(np.quantile(error, 0.95)))
