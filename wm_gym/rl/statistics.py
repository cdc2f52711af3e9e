"""How sure are we of a success rate, and of the difference of two from the same starts?"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np
from scipy.stats import binomtest

CONFIDENCE = 0.95
PAIRED_METHOD = "Newcombe 1998, method 10 (square-and-add, paired)"


def wilson_interval(successes: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's score interval of a binomial rate; (0, 1) for n = 0. ValueError unless 0 <= successes <= n."""
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} episodes is impossible; expected 0 <= successes <= n")
    if n == 0:
        return 0.0, 1.0
    interval = binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def rate(outcomes: Sequence[bool]) -> dict:
    """{"rate", "successes", "n", "low", "high"} of yes/no outcomes, Wilson's 95 % interval; rate None for n = 0."""
    n, successes = len(outcomes), int(np.sum(outcomes))
    low, high = wilson_interval(successes, n)
    return {"rate": successes / n if n else None, "successes": successes, "n": n, "low": low, "high": high}


def paired_difference(first: Sequence[bool], second: Sequence[bool], confidence: float = CONFIDENCE) -> dict:
    """rate(first) - rate(second) of outcomes paired by episode, with its interval.

    Newcombe (1998), "Improved confidence intervals for the difference between binomial proportions based on paired
    data", method 10: the Wilson limits of both rates, added in squares, less the pairs' correlation phi. Unlike a
    bootstrap it keeps a width where no pair disagrees. Also McNemar's exact p. ValueError for unequal lengths or none.
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    n = len(first)
    if first.shape != second.shape or not n:
        raise ValueError(f"outcomes of {first.shape} and {second.shape} episodes cannot be paired; "
                         "both need one outcome an episode, in the same order")
    both, only_first = int((first & second).sum()), int((first & ~second).sum())
    only_second, neither = int((~first & second).sum()), int((~first & ~second).sum())
    p1, p2 = first.mean(), second.mean()
    (low1, high1), (low2, high2) = (wilson_interval(int(x.sum()), n, confidence) for x in (first, second))
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
    cross = a * d - b * c
    if cross > 0:
        cross = max(cross - (a + b + c + d) / 2, 0.0)
    return cross / sqrt(margins)


def matched_table(world: Sequence[bool], physics: Sequence[bool]) -> dict:
    """The 2x2 table of one policy judged from the same starts in a learned world and in physics.

    optimism = P(world says success | physics says failure), pessimism = P(world says failure | physics says success).
    """
    world, physics = np.asarray(world, bool), np.asarray(physics, bool)
    return {
        "world": rate(world),
        "physics": rate(physics),
        "world_minus_physics": paired_difference(world, physics),
        "table": {
            "both": int((world & physics).sum()),
            "world_only": int((world & ~physics).sum()),
            "physics_only": int((~world & physics).sum()),
            "neither": int((~world & ~physics).sum()),
        },
        "optimism": rate(world[~physics]),
        "pessimism": rate(~world[physics]),
    }
