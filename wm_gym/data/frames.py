"""How are frames of several recordings, or some of one, read without copying them all into memory?"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np


class Frames(Protocol):
    """Frames uint8 [N, H, W, 3], read by rows: an array, a memory map, or a view of some."""

    @property
    def shape(self) -> tuple[int, ...]:
        """[N, H, W, 3]."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> np.ndarray: ...


class JoinedFrames:
    """Several frame arrays [N, H, W, 3] as one, read by slices and integer arrays."""

    def __init__(self, parts: list[Frames]) -> None:
        self.parts, self.ends = parts, np.cumsum([len(part) for part in parts])
        self.shape = (int(self.ends[-1]), *parts[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        rows = np.arange(len(self))[rows]
        out = np.empty((*rows.shape, *self.shape[1:]), np.uint8)
        which = np.searchsorted(self.ends, rows, side="right")
        for number, part in enumerate(self.parts):
            mask = which == number
            if mask.any():
                out[mask] = part[rows[mask] - (self.ends[number] - len(part))]
        return out


class SelectedFrames:
    """Some rows of a frame array [N, H, W, 3], read by slices and integer arrays."""

    def __init__(self, frames: Frames, rows: np.ndarray) -> None:
        self.frames, self.rows = frames, rows
        self.shape = (len(rows), *frames.shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> np.ndarray:
        return np.asarray(self.frames[self.rows[rows]])
