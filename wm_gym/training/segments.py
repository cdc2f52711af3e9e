"""Which pieces of the recordings make a batch? Segments that never cross an episode's end, keyed by the update."""

from dataclasses import dataclass

import numpy as np
import torch

from wm_gym.data.clips import ClipData
from wm_gym.training.rare import SHARE


@dataclass
class Segments:
    """B segments of K context rows and n transitions; row K-1 is the present."""

    rows: np.ndarray
    """int64 [B, K + n] rows of the dataset."""
    first: np.ndarray
    """int64 [B] row of the pinned first frame."""
    steps: int

    @property
    def moves(self) -> np.ndarray:
        """Rows [B, n + 1] from the present on."""
        return self.rows[:, -self.steps - 1 :]


class SegmentSampler:
    """Draws segments from a split of the episodes; the same (seed, stage, update, rank) gives the same batch.

    latest_share: this part of a batch comes from the latest of several joined recordings (0: all rows alike).
    rare: bool [N], transitions by the row that they begin at; `SHARE` of the segments of a batch end with one of them.
    """

    def __init__(
        self,
        clips: ClipData,
        context: int,
        episodes: np.ndarray,
        latest_share: float = 0.0,
        rare: np.ndarray | None = None,
    ):
        self.context, self.latest_share, self.rare = context, latest_share, rare
        start, end = clips.episode_offset[:-1], clips.episode_offset[1:]
        length = (end - start)[episodes]
        self.start = np.repeat(start[episodes], length)
        self.end = np.repeat(end[episodes], length)
        self.rows = np.concatenate([np.arange(start[e], end[e]) for e in episodes])
        self.latest = self.rows >= clips.meta.get("latest_row", 0)
        if not (length > 1).any():
            raise ValueError("no episode has two frames: there is nothing to learn motion from; record longer episodes")

    def draw(self, rng: np.random.Generator, batch: int, steps: int) -> Segments:
        """A batch of segments; `steps` shrinks to the longest episode where none is long enough."""
        steps = int(min(steps, (self.end - self.rows).max() - 1))
        usable = self.rows + steps < self.end
        rare = usable if self.rare is None else usable & self.rare[np.minimum(self.rows + steps, self.end) - 1]
        few = round(batch * SHARE) if self.rare is not None and rare.any() else 0
        parts, rest = [(rare, few)] if few else [], batch - few
        latest = [(usable & self.latest, round(rest * self.latest_share))]
        latest += [(usable & ~self.latest, rest - latest[0][1])]
        both = self.latest_share and all(mask.any() for mask, _ in latest)
        parts += latest if both else [(usable, rest)]
        at = np.concatenate([rng.choice(np.flatnonzero(mask), count) for mask, count in parts])
        now, start = self.rows[at], self.start[at]
        offsets = np.arange(1 - self.context, steps + 1)
        rows = np.maximum(now[:, None] + offsets, start[:, None])
        earlier = rng.integers(start, now + 1)
        return Segments(rows, np.where(rng.random(batch) < 0.5, start, earlier), steps)


def split_episodes(clips: ClipData) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the training and held-out episodes (every 20th; a lone episode serves as both)."""
    episodes = np.arange(len(clips.episode_offset) - 1)
    held = episodes[10::20] if len(episodes) > 10 else episodes[-1:]
    train = np.setdiff1d(episodes, held)
    return (train if len(train) else episodes), held


def every_tenth(count: int) -> np.ndarray:
    """bool [count]: every tenth episode, of fewer the last, which a network that reads or clones is not taught on."""
    return np.arange(count) % 10 == min(10, count) - 1


def update_generators(seed: int, stage: int, update: int, rank: int = 0) -> tuple[np.random.Generator, torch.Generator]:
    """The two random streams of one update, so that resuming needs no generator state."""
    sequence = np.random.SeedSequence([seed, stage, update, rank])
    seed = int(sequence.generate_state(1, np.uint64)[0] >> 1)
    return np.random.default_rng(sequence), torch.Generator().manual_seed(seed)
