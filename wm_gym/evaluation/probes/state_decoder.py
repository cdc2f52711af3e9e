"""Where is the end-effector in this picture? A small network trained on real frames, its own error stated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from wm_gym.data.frames import Frames
from wm_gym.models.tokenizer import to_float
from wm_gym.training.schedule import one_cycle


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
        self.register_buffer("mean", torch.zeros(state_dim))
        self.register_buffer("std", torch.ones(state_dim))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
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


def fit_state_decoder(
    frames: Frames,
    states: np.ndarray,
    held_frames: np.ndarray,
    held_states: np.ndarray,
    views=None,
    updates: int = 3000,
    batch: int = 64,
    seed: int = 0,
    net: nn.Module | None = None,
    rate: float = 1e-3,
) -> DecoderReport:
    """Train on real frames [N, H, W, C] with states [N, D]; errors are Euclidean, on the held-out ones.

    `views(frames) -> frames` may return another view of the same frames (the tokenizer's reconstructions): half of
    each batch is shown so, which keeps the decoder from reading reconstruction artefacts as motion. net: [B, C, H, W]
    in [-1, 1] -> [B, D], another network; rate: the highest learning rate.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    decoder = StateDecoder(frames.shape[1:3], states.shape[1], net=net)
    decoder.mean.copy_(torch.from_numpy(states.mean(0)))
    decoder.std.copy_(torch.from_numpy(states.std(0).clip(1e-4)))
    decoder = decoder.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=rate, weight_decay=1e-4)
    schedule = one_cycle(optimizer, rate, updates)
    for _ in tqdm(range(updates), desc="state decoder", mininterval=2.0):
        rows = np.sort(rng.integers(0, len(frames), batch))
        pictures = frames[rows]
        if views is not None:
            pictures = np.concatenate([pictures[: batch // 2], views(pictures[batch // 2 :])])
        predicted = decoder(torch.from_numpy(pictures))
        loss = F.smooth_l1_loss(
            (predicted - decoder.mean) / decoder.std,
            (torch.from_numpy(states[rows]) - decoder.mean) / decoder.std,
            beta=0.1,
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    decoder.eval().requires_grad_(False)
    error = np.linalg.norm(decoder.read(held_frames) - held_states, axis=1)
    return DecoderReport(decoder, float(np.median(error)), float(np.quantile(error, 0.95)))
