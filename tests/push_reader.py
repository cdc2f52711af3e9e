"""What reads hand and block off a Push picture in no time? Two colours' centroids, fitted to the recorded positions."""

from __future__ import annotations

import numpy as np

from wm_gym.physics.tracked import yellow


def orange(frames: np.ndarray) -> np.ndarray:
    """The foot's colour: frames uint8 [..., H, W, 3] -> bool [..., H, W]."""
    r, g, b = np.moveaxis(frames.astype(np.int16), -1, 0)
    return (r > 110) & (r - g > 60) & (r - b > 60)


def features(frames: np.ndarray) -> np.ndarray:
    """[..., H, W, 3] -> float64 [..., 12]: per colour 1, x, y, xy, xx, yy of the centroid in [-1, 1]."""
    y, x = np.mgrid[-1 : 1 : frames.shape[-3] * 1j, -1 : 1 : frames.shape[-2] * 1j]
    parts = []
    for mask in (orange(frames), yellow(frames)):
        n = np.maximum(mask.sum((-2, -1)), 1)
        u, v = (mask * x).sum((-2, -1)) / n, (mask * y).sum((-2, -1)) / n
        parts += [np.ones_like(u), u, v, u * v, u * u, v * v]
    return np.stack(parts, axis=-1)


def fit_reader(frames: np.ndarray, states: np.ndarray):
    """Least squares from frames [..., H, W, 3] to states [..., D]; returns what does it for any frames."""
    seen = features(frames)
    weights = np.linalg.lstsq(seen.reshape(-1, seen.shape[-1]), states.reshape(-1, states.shape[-1]), rcond=None)[0]
    return lambda pictures: features(pictures) @ weights
