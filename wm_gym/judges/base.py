"""What is a judge? Something that looks at frames and says how far the task is done, the same for the same frames."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np


class JudgeError(RuntimeError):
    """A judge that cannot answer: a server that is away, a budget that is spent, an answer that is no score."""


@dataclass(frozen=True)
class Scores:
    """What a judge says of N frames."""

    score: np.ndarray
    """float64 [N], raw, in the judge's own unit; more is better."""
    progress: np.ndarray
    """float64 [N] in [0, 1]: 0 as far as ever, 1 done."""
    success: np.ndarray
    """bool [N]: the score is above the judge's threshold."""


class Judge(ABC):
    """Scores frames of the running episodes, each different frame once.

    A subclass sets the class attributes and writes `look`.
    """

    name = "judge"
    """What it is called in messages."""
    threshold: float = 0.5
    """Success is a score above it."""
    needs_start = False
    """Whether `look` needs the frame that each episode began with."""
    remember = 100_000
    """The scores of so many different frames are kept."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Judge:
        """Itself: its scores follow from the frames alone, so copies of an environment share it."""
        return self

    @abstractmethod
    def look(self, frames: np.ndarray, starts: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """The raw scores and the progress of frames.

        Args:
            frames: uint8 [N, H, W, 3].
            starts: The frame that each episode began with, like frames; None unless `needs_start`.

        Returns:
            Scores [N], more is better, and progress [N] in [0, 1].

        Raises:
            JudgeError: Where the judge fails.
        """

    def __call__(self, frames: np.ndarray, starts: np.ndarray | None = None) -> Scores:
        """The scores of frames; those that were scored before are not looked at again.

        Args:
            frames: uint8 [N, H, W, 3].
            starts: The frame that each episode began with, like frames; needed where `needs_start`.

        Raises:
            ValueError: For other shapes, and for starts that are needed and missing.
            JudgeError: Where the judge fails.
        """
        frames = check_frames(frames, "frames")
        if not self.needs_start:
            starts = None
        else:
            if starts is None:
                raise ValueError(f"the judge {self.name!r} compares with the start: pass starts, uint8 like the frames")
            starts = check_frames(starts, "starts")
            if starts.shape != frames.shape:
                raise ValueError(
                    f"starts are {list(starts.shape)}, expected one for each of the frames {list(frames.shape)}"
                )
        keys = [_key(frame, None if starts is None else starts[i]) for i, frame in enumerate(frames)]
        known: OrderedDict[bytes, tuple[float, float]] = vars(self).setdefault("_known", OrderedDict())
        fresh = {key: i for i, key in enumerate(keys) if key not in known}
        if fresh:
            rows = list(fresh.values())
            known.update(zip(fresh, self._look(frames[rows], None if starts is None else starts[rows])))
        score, progress = np.array([known[key] for key in keys]).reshape(-1, 2).T
        for key in keys:
            known.move_to_end(key)
        while len(known) > self.remember:
            known.popitem(last=False)
        return Scores(score.copy(), progress.copy(), score > self.threshold)

    def _look(self, frames: np.ndarray, starts: np.ndarray | None) -> list[tuple[float, float]]:
        score, progress = (np.asarray(x, np.float64) for x in self.look(frames, starts))
        if score.shape != (len(frames),) or progress.shape != (len(frames),):
            raise JudgeError(
                f"the judge {self.name!r} gave scores {list(score.shape)} and progress "
                f"{list(progress.shape)} for {len(frames)} frames, expected one each"
            )
        if not (np.isfinite(score).all() and np.isfinite(progress).all()):
            raise JudgeError(f"the judge {self.name!r} gave a score or progress that is not finite")
        return list(zip(score.tolist(), np.clip(progress, 0, 1).tolist()))


class AllOf(Judge):
    """Several judges at once: success where all agree, progress their mean, the score how many of them say success."""

    def __init__(self, judges: list[Judge]):
        if not judges:
            raise ValueError("reward=[] names no judge; give at least one, e.g. reward=['goal:goal.png']")
        self.judges, self.name, self.threshold = judges, " and ".join(j.name for j in judges), len(judges) - 0.5
        self.needs_start, self.remember = any(j.needs_start for j in judges), 0  # each has a memory of its own

    def look(self, frames: np.ndarray, starts: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """The number of judges that say success, and the mean of their progress."""
        scores = [judge(frames, starts) for judge in self.judges]
        return np.sum([s.success for s in scores], axis=0, dtype=float), np.mean([s.progress for s in scores], axis=0)


def check_frames(frames: np.ndarray, what: str) -> np.ndarray:
    """Frames as uint8 [N, H, W, 3]; ValueError for anything else."""
    frames = np.asarray(frames)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        raise ValueError(f"{what} are {frames.dtype} {list(frames.shape)}, expected uint8 [N, H, W, 3] RGB")
    return frames


def _key(frame: np.ndarray, start: np.ndarray | None) -> bytes:
    digest = blake2b(np.ascontiguousarray(frame).data, digest_size=16)
    if start is not None:
        digest.update(np.ascontiguousarray(start).data)
    return digest.digest()
