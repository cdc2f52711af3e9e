"""How long is a roll-out right? Time to failure with a survival curve; what never fails is censored, not dropped."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from scipy.stats import CensoredData, ecdf


@dataclass(frozen=True)
class Survival:
    """Kaplan-Meier survival of roll-outs."""

    episodes: int
    failed: int
    median_s: float | None
    """Seconds after which half have failed; None where more than half outlast the roll-out."""
    seconds: list[float]
    surviving: list[float]
    low: list[float]
    high: list[float]
    """The curve, a point a step, with its 95 % interval (log-log Greenwood)."""
    undefined: str | None
    """Why there is no median; None where there is one."""


def time_to_failure(errors: np.ndarray, threshold: float, fps: float) -> Survival:
    """The survival of roll-outs whose failure is the first error above a threshold.

    Args:
        errors: [E, n] after steps 1 .. n; inf where the object is lost.
        threshold: In the same unit.
        fps: Steps a second.

    Raises:
        ValueError: For other shapes, NaN or no episode.
    """
    e = np.asarray(errors, float)
    if e.ndim != 2 or not e.size or np.isnan(e).any():
        raise ValueError(
            f"errors of shape {e.shape}, {int(np.isnan(e).sum())} NaN; expected [episodes, steps], "
            "at least one of each, and inf where the object is lost"
        )
    n = e.shape[1]
    wrong = e > threshold
    failed = wrong.any(1)
    sample = CensoredData(uncensored=wrong[failed].argmax(1) + 1, right=np.full(int((~failed).sum()), n))
    survival = ecdf(sample).sf
    steps = np.arange(n + 1)
    surviving = survival.evaluate(steps)
    with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no interval before the first failure: the curve is 1 there
        interval = survival.confidence_interval(0.95, method="log-log")
    low, high = (
        np.where(np.isnan(curve := side.evaluate(steps)), surviving, curve) for side in (interval.low, interval.high)
    )
    half = np.flatnonzero(surviving <= 0.5)
    return Survival(
        episodes=len(e),
        failed=int(failed.sum()),
        median_s=float(half[0] / fps) if len(half) else None,
        seconds=(steps / fps).tolist(),
        surviving=surviving.tolist(),
        low=low.tolist(),
        high=high.tolist(),
        undefined=None
        if len(half)
        else f"{1 - failed.mean():.0%} of {len(e)} roll-outs outlast their {n / fps:g} s: no median",
    )
