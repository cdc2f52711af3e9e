"""Does it move where, when and as much as it should? Physics-IQ's metrics between two videos of one scene.

Motamed et al. 2025, "Do generative video models understand physical principles?". "v" in the score is the variance
between two real takes: in a simulator, which repeats itself exactly, two takes under slightly different parameters.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from wm_gym.evaluation.metrics.drift import iou

ALPHA, THRESHOLD, SQUARE = 0.3, 10, np.ones((5, 5), bool)
BINOMIAL = np.array([1, 4, 6, 4, 1])  # / 16: the 5 x 5 Gaussian of their OpenCV call
GREY = np.array([4899, 9617, 1868])  # / 2^14: Rec. 601
METRICS = ("spatiotemporal_iou", "spatial_iou", "weighted_spatial_iou", "mse")


def motion_masks(frames: np.ndarray) -> np.ndarray:
    """Where each frame differs from the running average of those before: uint8 [T, H, W, 3] -> bool [T, H, W].

    Grey, 5 x 5 Gaussian, average with weight 0.3 for the newest, |difference| > 10, opened and closed by 5 x 5. The
    first mask is empty. ValueError for another shape or type.
    """
    frames = np.asarray(frames)
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not len(frames):
        raise ValueError(f"frames are {frames.dtype} {list(frames.shape)}; expected uint8 [T, H, W, 3]")
    grey = (frames.astype(np.int64) @ GREY + 2**13) >> 14
    for axis in (1, 2):
        grey = ndimage.correlate1d(grey, BINOMIAL, axis=axis, mode="mirror")
    grey = (grey + 128) >> 8
    masks, average = np.zeros(grey.shape, bool), grey[0].astype(float)
    for mask, now in zip(masks[1:], grey[1:]):
        average += ALPHA * (now - average)
        moved = np.abs(now - np.rint(average)) > THRESHOLD
        mask[:] = _opened_and_closed(moved)
    return masks


def compare(made: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Physics-IQ's four numbers of one video against another, frames uint8 [T, H, W, 3] of one shape.

    spatiotemporal_iou: mean over frames of the masks' IoU (1 where both are empty); spatial_iou: of the masks of all
    frames together; weighted_spatial_iou: sum min / sum max of the masks' means over time; mse: on [0, 1].
    """
    made, truth = np.asarray(made), np.asarray(truth)
    if made.shape != truth.shape:
        raise ValueError(f"videos of {list(made.shape)} and {list(truth.shape)}; expected the same shape")
    a, b = motion_masks(made), motion_masks(truth)
    together = iou(np.any(a, 0)[None], np.any(b, 0)[None])
    least, most = np.minimum(a.mean(0), b.mean(0)).sum(), np.maximum(a.mean(0), b.mean(0)).sum()
    return {
        "spatiotemporal_iou": float(iou(a, b).mean()),
        "spatial_iou": float(together[0]),
        "weighted_spatial_iou": float(least / most) if most else 1.0,
        "mse": float(((made / 255 - truth / 255) ** 2).mean()),
    }


def score(made: list[dict[str, float]], variance: list[dict[str, float]]) -> float:
    """100 clip(1/3 [ST/ST_v + S/S_v + WS/WS_v] - (MSE - MSE_v)) in [0, 100], of the means over videos of `compare`.

    made: of generated videos against a real take; variance: of another real take against it. ValueError where the
    takes share no motion, or for no video.
    """
    if not made or not variance:
        raise ValueError(f"{len(made)} comparisons and {len(variance)} between takes; expected at least one of each")
    m, v = ({name: np.mean([row[name] for row in rows]) for name in METRICS} for rows in (made, variance))
    if not all(v[name] > 0 for name in METRICS[:3]):
        raise ValueError("the two takes never move in the same place: their overlap is no measure of physics' variance")
    ratios = [m[name] / v[name] for name in METRICS[:3]]
    return float(100 * np.clip(np.mean(ratios) - (m["mse"] - v["mse"]), 0, 1))


def _opened_and_closed(mask: np.ndarray) -> np.ndarray:
    """Eroded, dilated twice and eroded; what lies outside the picture counts neither way."""
    dilated = ndimage.binary_dilation(ndimage.binary_erosion(mask, SQUARE, border_value=1), SQUARE, iterations=2)
    return ndimage.binary_erosion(dilated, SQUARE, border_value=1)
