"""How sure are we of a rate, a mean or a median, and of the difference of two rates from the same starts?"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import TypeAlias, TypedDict, final

import numpy as np
from scipy.stats import binomtest, quantile_test, sem, t

CONFIDENCE = 0.95
PAIRED_METHOD = "Newcombe 1998, method 10 (square-and-add, paired)"
Outcomes: TypeAlias = "Sequence[bool] | np.ndarray"
Values: TypeAlias = "Sequence[float] | np.ndarray"


@final
class Rate(TypedDict):
    """A share of yes/no outcomes with Wilson's 95 % interval; rate is None for n = 0."""

    rate: float | None
    successes: int
    n: int
    low: float
    high: float


@final
class Mean(TypedDict):
    """A mean with Student's interval; low and high are None for n < 2."""

    mean: float
    n: int
    low: float | None
    high: float | None


@final
class Median(TypedDict):
    """A median with its exact interval, None where the values are too few for one, and their 95th percentile."""

    median: float
    n: int
    low: float | None
    high: float | None
    p95: float


@final
class Ratio(TypedDict):
    """A ratio of means with its bootstrap interval; None for all but n where it is undefined."""

    ratio: float | None
    n: int
    low: float | None
    high: float | None


class Difference(TypedDict):
    """A difference of two paired rates with its interval."""

    difference: float
    low: float
    high: float
    method: str
    mcnemar_exact_p: float


class Matched(TypedDict):
    """One policy's outcomes from the same starts in a world and in physics."""

    world: Rate
    physics: Rate
    world_minus_physics: Difference
    table: dict[str, int]
    optimism: Rate
    pessimism: Rate


def wilson_interval(successes: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's score interval of a binomial rate; (0, 1) for n = 0.

    Raises:
        ValueError: Unless 0 <= successes <= n.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} episodes is impossible; expected 0 <= successes <= n")
    if n == 0:
        return 0.0, 1.0
    interval = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def rate(outcomes: Outcomes) -> Rate:
    """The rate of yes/no outcomes, with Wilson's 95 % interval; rate None for n = 0."""
    n, successes = len(outcomes), int(np.sum(outcomes))
    low, high = wilson_interval(successes, n)
    return {"rate": successes / n if n else None, "successes": successes, "n": n, "low": low, "high": high}


def mean(values: Values, confidence: float = CONFIDENCE) -> Mean:
    """The mean of independent values, with Student's interval; low and high None for n < 2.

    Raises:
        ValueError: For no value.
    """
    x = _values(values)
    half = t.ppf((1 + confidence) / 2, len(x) - 1) * sem(x) if len(x) > 1 else None
    middle = float(x.mean())
    return {
        "mean": middle,
        "n": len(x),
        "low": None if half is None else float(middle - half),
        "high": None if half is None else float(middle + half),
    }


def median(values: Values, confidence: float = CONFIDENCE) -> Median:
    """The median of independent values, with its interval and their 95th percentile.

    The interval is the exact one between two of the values (of a binomial count), whatever their distribution; low and
    high are None where they are too few for it (6 are needed for 95 %).

    Raises:
        ValueError: For no value.
    """
    x = _values(values)
    found = quantile_test(x, q=0, p=0.5).confidence_interval(confidence)
    low, high = (float(side) if np.isfinite(side) else None for side in found)
    return {"median": float(np.median(x)), "n": len(x), "low": low, "high": high, "p95": float(np.quantile(x, 0.95))}


def ratio(above: Values, below: Values, confidence: float = CONFIDENCE) -> Ratio:
    """The ratio of the means of paired values; None for all but n where those below are all 0.

    The interval is a bootstrap's over pairs (percentile, 2,000 draws of seed 0), None for n < 2.

    Raises:
        ValueError: For unequal lengths, no value, or negative ones below.
    """
    a, b = _values(above), _values(below)
    if len(a) != len(b) or (b < 0).any():
        raise ValueError(
            f"{len(a)} values above and {len(b)} below, the smallest {b.min():g}; expected pairs, those below not "
            "negative"
        )
    if not b.any():
        return {"ratio": None, "n": len(b), "low": None, "high": None}
    found: Ratio = {"ratio": float(a.mean() / b.mean()), "n": len(b), "low": None, "high": None}
    if len(b) > 1:
        rows = np.random.default_rng(0).integers(0, len(b), (2000, len(b)))
        rows = rows[b[rows].any(1)]
        drawn = a[rows].mean(1) / b[rows].mean(1)
        found["low"], found["high"] = map(float, np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2]))
    return found


def _values(values: Values) -> np.ndarray:
    x = np.asarray(values, float)
    if x.ndim != 1 or not len(x) or not np.isfinite(x).all():
        raise ValueError(
            f"values of shape {list(x.shape)}, {int((~np.isfinite(x)).sum())} not finite; expected at "
            "least one finite number"
        )
    return x


def paired_difference(first: Outcomes, second: Outcomes, confidence: float = CONFIDENCE) -> Difference:
    """The difference rate(first) - rate(second) of outcomes paired by episode, with its interval.

    Newcombe (1998), "Improved confidence intervals for the difference between binomial proportions based on paired
    data", method 10: the Wilson limits of both rates, added in squares, less the pairs' correlation phi. Unlike a
    bootstrap it keeps a width where no pair disagrees. Also McNemar's exact p.

    Raises:
        ValueError: For unequal lengths or no pair.
    """
    one, two = np.asarray(first, bool), np.asarray(second, bool)
    n = len(one)
    if one.shape != two.shape or not n:
        raise ValueError(
            f"outcomes of {one.shape} and {two.shape} episodes cannot be paired; "
            "both need one outcome an episode, in the same order"
        )
    both, only_first = int((one & two).sum()), int((one & ~two).sum())
    only_second, neither = int((~one & two).sum()), int((~one & ~two).sum())
    p1, p2 = one.mean(), two.mean()
    (low1, high1), (low2, high2) = (wilson_interval(int(x.sum()), n, confidence) for x in (one, two))
    phi = _phi(both, only_first, only_second, neither)
    below = (p1 - low1) ** 2 - 2 * phi * (p1 - low1) * (high2 - p2) + (high2 - p2) ** 2
    above = (p2 - low2) ** 2 - 2 * phi * (p2 - low2) * (high1 - p1) + (high1 - p1) ** 2
    discordant = only_first + only_second
    return {
        "difference": float(p1 - p2),
        "low": float(p1 - p2 - sqrt(max(below, 0.0))),
        "high": float(p1 - p2 + sqrt(max(above, 0.0))),
        "method": PAIRED_METHOD,
        "mcnemar_exact_p": float(binomtest(only_first, discordant).pvalue) if discordant else 1.0,
    }


def _phi(a: int, b: int, c: int, d: int) -> float:
    """Correlation of the 2x2 table, pulled towards 0 by n/2 where it is positive (Newcombe 1998); 0 if a margin is."""
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    if not margins:
        return 0.0
    cross = float(a * d - b * c)
    if cross > 0:
        cross = max(cross - (a + b + c + d) / 2, 0.0)
    return cross / sqrt(margins)


def matched_table(world: Outcomes, physics: Outcomes) -> Matched:
    """The 2x2 table of one policy judged from the same starts in a learned world and in physics.

    optimism = P(world says success | physics says failure), pessimism = P(world says failure | physics says success).
    """
    w, p = np.asarray(world, bool), np.asarray(physics, bool)
    return {
        "world": rate(w),
        "physics": rate(p),
        "world_minus_physics": paired_difference(w, p),
        "table": {
            "both": int((w & p).sum()),
            "world_only": int((w & ~p).sum()),
            "physics_only": int((~w & p).sum()),
            "neither": int((~w & ~p).sum()),
        },
        "optimism": rate(w[~p]),
        "pessimism": rate(~w[p]),
    }
