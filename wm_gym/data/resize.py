"""How is a picture made smaller without aliasing? By averaging the area that each new pixel covers."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np


def resize_area(frames: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """The frames in another size, each new pixel the mean of the area it covers (what OpenCV calls INTER_AREA).

    Args:
        frames: uint8 [T, H, W, C].
        size: (h, w) in pixels.

    Returns:
        uint8 [T, h, w, C].
    """
    height, width = frames.shape[1:3]
    rows, columns = _weights(height, size[0]), _weights(width, size[1])
    out = np.einsum("hH,tHWc->thWc", rows, frames.astype(np.float32), optimize=True)
    out = np.einsum("wW,thWc->thwc", columns, out, optimize=True)
    return np.rint(out).clip(0, 255).astype(np.uint8)


def resized(frame: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """One frame uint8 [H, W, C] in another size (h, w), as `resize_area` makes it; itself where it has that size."""
    return frame if frame.shape[:2] == tuple(size) else resize_area(frame[None], size)[0]


@functools.lru_cache(maxsize=16)
def _weights(old: int, new: int) -> np.ndarray:
    """Matrix float32 [new, old]: how much of each old pixel each new one covers, rows summing to 1."""
    edges = np.linspace(0, old, new + 1)
    cover = np.minimum(edges[1:, None], np.arange(1, old + 1)) - np.maximum(edges[:-1, None], np.arange(old))
    cover = np.clip(cover, 0, None)
    return (cover / cover.sum(1, keepdims=True)).astype(np.float32)
