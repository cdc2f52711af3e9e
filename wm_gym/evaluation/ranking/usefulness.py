"""Which cheap number of a world tells how useful it is? Rank correlations over worlds of different quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import spearmanr

FEWEST = 4  # worlds: three are in one order or another by chance too often
RESAMPLES = 2000


def usefulness(
    metrics: Mapping[str, Sequence[float | None]], uses: Mapping[str, Sequence[float | None]], seed: int = 0
) -> dict[str, dict[str, dict]]:
    """Spearman's rho of each metric with each use over the same worlds, with 95 % bootstrap intervals over worlds.

    All numbers must grow with quality (negate errors), so that a metric that can be trusted has a rho near 1. None
    marks a world in which a number is undefined; it is left out of that pair. Returns {metric: {use: {"rho", "low",
    "high", "worlds", "undefined"}}}; fewer than 4 worlds or a side that does not vary leave the numbers None, and
    "undefined" says why. ValueError for lists of different lengths and numbers that are not finite.
    """
    lengths = {len(values) for values in (*metrics.values(), *uses.values())}
    if len(lengths) > 1:
        raise ValueError(f"lists of {sorted(lengths)} worlds; expected one value a world in each")
    return {
        name: {use: _rank_correlation(name, a, use, b, seed) for use, b in uses.items()} for name, a in metrics.items()
    }


def _rank_correlation(name: str, a: Sequence[float | None], use: str, b: Sequence[float | None], seed: int) -> dict:
    known = [(x, y) for x, y in zip(a, b) if x is not None and y is not None]
    x, y = np.array(known, float).reshape(-1, 2).T
    if not np.isfinite(x).all() or not np.isfinite(y).all():
        raise ValueError(f"{name} or {use} of some world is not finite; expected a number, or None where undefined")
    found = {"rho": None, "low": None, "high": None, "worlds": len(x), "undefined": None}
    if len(x) < FEWEST:
        return found | {"undefined": f"{len(x)} worlds; a rank correlation needs at least {FEWEST}"}
    for which, values in ((name, x), (use, y)):
        if not np.ptp(values):
            return found | {"undefined": f"all {len(x)} worlds have the same {which}"}
    draws = np.random.default_rng(seed).integers(0, len(x), (RESAMPLES, len(x)))
    rhos = [spearmanr(x[rows], y[rows]).statistic for rows in draws if np.ptp(x[rows]) and np.ptp(y[rows])]
    low, high = np.quantile(rhos, [0.025, 0.975])
    return found | {"rho": float(spearmanr(x, y).statistic), "low": float(low), "high": float(high)}
