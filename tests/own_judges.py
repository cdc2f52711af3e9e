"""Judges of the tests' own, entered into wm_gym.judges.JUDGES: redness, and one that fails while a file is there."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wm_gym.judges import JUDGES, Judge, JudgeError


class Redness(Judge):
    """red:THRESHOLD. The mean of the red channel in [0, 1]; counts the frames that it is shown."""

    def __init__(self, threshold: str):
        self.name, self.threshold, self.shown = "red", float(threshold), 0

    def look(self, frames, starts):
        self.shown += len(frames)
        red = frames[..., 0].mean((1, 2)) / 255
        return red, red


class Flaky(Redness):
    """flaky:FILE. Redness that fails at its `after`-th look if the file is there."""

    def __init__(self, file: str, after: int = 0):
        super().__init__("2")
        self.file, self.after, self.looks, self.remember = Path(file), after, 0, 0

    def look(self, frames, starts):
        self.looks += 1
        if self.looks > self.after and self.file.exists():
            raise JudgeError("the judge 'flaky' is away")
        return super().look(frames, starts)


def enter(monkeypatch) -> None:
    monkeypatch.setitem(JUDGES, "red", "own_judges:Redness")
    monkeypatch.setitem(JUDGES, "flaky", "own_judges:Flaky")


def frames_of(*reds: int, size: int = 64) -> np.ndarray:
    """uint8 [N, size, size, 3], each of one red."""
    frames = np.zeros((len(reds), size, size, 3), np.uint8)
    frames[..., 0] = np.array(reds)[:, None, None]
    return frames
