"""Does a pushed object go where physics puts it, and does it move only when it is touched?"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import median_filter


def object_errors(
    made: np.ndarray, truth: np.ndarray, lost: np.ndarray, width: float, horizons: tuple[int, ...]
) -> dict[str, dict[str, float]]:
    """Position error of an object at each horizon, over episodes.

    made, truth [E, n+1, D] metres, row 0 the start; lost bool [E, n+1]: the object was not found there, which counts
    as `width` metres. Returns per horizon the median and 95th percentile in cm and the lost share.
    """
    result = {}
    for t in horizons:
        error = np.where(lost[:, t], width, np.linalg.norm(made[:, t] - truth[:, t], axis=-1))
        result[f"at_{t}"] = {
            "cm_median": 100 * float(np.median(error)),
            "cm_p95": 100 * float(np.quantile(error, 0.95)),
            "lost": float(lost[:, t].mean()),
        }
    return result


def contact_ratio(made: np.ndarray, truth: np.ndarray, touched: np.ndarray) -> float:
    """Displacement generated / true, summed along the true direction over the steps that touch (1 is right).

    made, truth [E, n+1, D]; touched bool [E, n], of the steps in which physics moves the object by contact.
    """
    step, true_step = np.diff(made, axis=1), np.diff(truth, axis=1)
    length = np.linalg.norm(true_step, axis=-1, keepdims=True)
    along = (step * true_step / np.maximum(length, 1e-9)).sum(-1)
    return float(along[touched].sum() / length[..., 0][touched].sum())


def motion_without_contact(made: np.ndarray, gap: np.ndarray, lost: np.ndarray, clear: float, still: float) -> float:
    """Share of the steps clear of the object in which it moves all the same.

    made [E, n+1, D], the object; gap [E, n+1] metres between the pusher and the object in the same frames; lost bool
    [E, n+1]: the object was not found there, nor is it looked for in the frames beside those (a lost object is counted
    as lost). A step is clear if the gap is above `clear` before and after it, and moves if the object does more than
    `still` metres.
    """
    known = ~lost
    known[:, 1:] &= ~lost[:, :-1]
    known[:, :-1] &= ~lost[:, 1:]
    far = known & (gap > clear)
    away = far[:, :-1] & far[:, 1:]
    moved = np.linalg.norm(np.diff(made, axis=1), axis=-1) > still
    return float((moved & away).sum() / max(away.sum(), 1))


def steady(positions: np.ndarray) -> np.ndarray:
    """Each position [E, n+1, D] as the median of itself and its neighbours in time: one stray reading is no motion."""
    return median_filter(positions, (1, 3, 1), mode="nearest")
