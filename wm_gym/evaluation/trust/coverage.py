"""Are stated probabilities and error bounds right? Calibration, detection of shifts, bounds that hold an episode."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
import torch
from scipy.stats import mannwhitneyu, spearmanr
from torchmetrics.functional.classification import binary_calibration_error

from wm_gym.common.statistics import Rate, rate

BINS = 20
STRICTEST = 0.999  # a threshold beyond it would hang on rounding


@dataclass(frozen=True)
class Calibrated:
    """How far stated probabilities are from the frequencies."""

    n: int
    ece: float
    """sum_m |B_m| / n |acc - conf| over 20 bins of equal width."""
    mce: float
    """max_m |acc - conf|."""
    brier: float
    """Mean squared error."""
    brier_skill: float | None
    """1 - brier / that of the constant base rate (> 0 is better than it); None where all outcomes are equal."""
    undefined: str | None
    """Why there is no skill; None where there is."""


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram's bars: means of 20 bins; NaN where one is empty (None as a report reads it)."""

    stated: list[float | None]
    observed: list[float | None]
    n: list[int]


@dataclass(frozen=True)
class Ranks:
    """Spearman's rho of uncertainty and error; None where one side does not vary."""

    at: float | None
    """Over episodes at the horizon, where the clock knows nothing."""
    up_to: float | None
    """Over all steps up to it of all episodes."""
    clock: float | None
    """The same with the step counter for the uncertainty."""
    gain_low: float | None
    gain_high: float | None
    """95 % bootstrap interval over episodes of up_to - clock."""


def calibration(confidence: np.ndarray, correct: np.ndarray) -> Calibrated:
    """How far stated probabilities are from the frequencies, over any number of predictions (all axes are pooled).

    Args:
        confidence: In [0, 1], the stated probability that `correct` holds.
        correct: bool, as many.

    Raises:
        ValueError: For other numbers, ranges, NaN or nothing at all.
    """
    p, y = np.asarray(confidence, float).ravel(), np.asarray(correct, bool).ravel()
    if p.shape != y.shape or not len(p) or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(
            f"{len(p)} confidences and {len(y)} outcomes; expected as many of both, at least one, and "
            "confidences in [0, 1]"
        )
    stated, held = torch.from_numpy(p), torch.from_numpy(y.astype(int))
    brier, base = float(((p - y) ** 2).mean()), float(y.mean() * (1 - y.mean()))
    return Calibrated(
        n=len(p),
        ece=float(binary_calibration_error(stated, held, BINS, "l1")),
        mce=float(binary_calibration_error(stated, held, BINS, "max")),
        brier=brier,
        brier_skill=1 - brier / base if base else None,
        undefined=None if base else f"all {len(y)} outcomes are {bool(y[0])}: there is no skill",
    )


def reliability(confidence: np.ndarray, correct: np.ndarray) -> Reliability:
    """A reliability diagram's bars of predictions, all axes pooled."""
    p, y = np.asarray(confidence, float).ravel(), np.asarray(correct, bool).ravel()
    bins = np.minimum((p * BINS).astype(int), BINS - 1)
    n = np.bincount(bins, minlength=BINS)
    with np.errstate(invalid="ignore"):
        stated, observed = np.bincount(bins, p, BINS) / n, np.bincount(bins, y, BINS) / n
    return Reliability(stated.tolist(), observed.tolist(), n.tolist())


def auroc(usual: np.ndarray, shifted: np.ndarray) -> float:
    """P(score of a shifted one > score of a usual one), ties half: 0.5 is chance. ValueError for none of a kind."""
    if not len(usual) or not len(shifted):
        raise ValueError(f"{len(usual)} usual and {len(shifted)} shifted scores; expected at least one of each")
    return float(mannwhitneyu(shifted, usual).statistic / (len(usual) * len(shifted)))


def ranks_errors(
    uncertainty: np.ndarray, errors: np.ndarray, horizons: tuple[int, ...], seed: int = 0, resamples: int = 1000
) -> dict[str, Ranks]:
    """Does uncertainty rank the errors, and better than the step counter does? By horizon ("at_{h}").

    Args:
        uncertainty: [E, n] of steps 1 .. n.
        errors: [E, n].
        horizons: Steps, 1 to n.
        seed: Of the bootstrap.
        resamples: Of the bootstrap.

    Raises:
        ValueError: For other shapes or a horizon outside 1 .. n.
    """
    u, e = np.asarray(uncertainty, float), np.asarray(errors, float)
    if u.shape != e.shape or u.ndim != 2 or not all(1 <= h <= u.shape[1] for h in horizons):
        raise ValueError(
            f"uncertainty {u.shape}, errors {e.shape}, horizons {horizons}; expected [episodes, steps] "
            "twice and horizons within the steps"
        )
    rng, clock = np.random.default_rng(seed), np.broadcast_to(np.arange(u.shape[1]), u.shape)
    result: dict[str, Ranks] = {}
    for h in horizons:
        gains = []
        for _ in range(resamples):
            rows = rng.integers(0, len(u), len(u))
            own, other = (_spearman(x[rows, :h], e[rows, :h]) for x in (u, clock))
            if own is not None and other is not None:
                gains.append(own - other)
        low, high = np.quantile(gains, [0.025, 0.975]) if gains else (None, None)
        result[f"at_{h}"] = Ranks(
            at=_spearman(u[:, h - 1], e[:, h - 1]),
            up_to=_spearman(u[:, :h], e[:, :h]),
            clock=_spearman(clock[:, :h], e[:, :h]),
            gain_low=low,
            gain_high=high,
        )
    return result


def conformal_factor(errors: np.ndarray, stated: np.ndarray, alpha: float = 0.1) -> float:
    """q such that error_t <= q * stated_t at every step of a further episode with probability >= 1 - alpha.

    Split conformal with an episode as the unit, for the steps of one are not exchangeable: the ceil((n + 1)(1 - alpha))
    smallest of the scores max_t error_t / stated_t. errors >= 0 and stated > 0, [E, n], of episodes that the stated
    error was not fitted on. The guarantee holds for episodes like them, not under a shift. ValueError for other shapes
    or values, and for too few episodes (9 are needed for alpha = 0.1).
    """
    scores = _scores(errors, stated)
    return float(np.sort(scores)[conformal_rank(len(scores), alpha) - 1])


def conformal_rank(n: int, alpha: float) -> int:
    """The k for which a further score is <= the k-th smallest of n with probability >= 1 - alpha.

    ceil((n + 1)(1 - alpha)); ValueError where that is more than n.
    """
    rank = ceil(round((n + 1) * (1 - alpha), 9))
    if rank > n:
        raise ValueError(
            f"{n} episodes are too few for a {1 - alpha:.0%} bound; expected at least "
            f"{ceil(round((1 - alpha) / alpha, 9))}"
        )
    return rank


def unbiased_threshold(probability: np.ndarray, physics: np.ndarray) -> float:
    """The threshold above which as many of the probabilities [N] lie as episodes succeed in physics, bool [N].

    Between the two probabilities that it parts, and `STRICTEST` at most. ValueError where physics knows one outcome.
    """
    successes = int(physics.sum())
    if not 0 < successes < len(physics):
        raise ValueError(
            f"physics calls {successes} of {len(physics)} episodes a success; a threshold is set by "
            "policies that succeed at times: give worse or better ones, or more episodes"
        )
    falling = np.sort(probability)[::-1]
    return round(float(min(falling[successes - 1 : successes + 1].mean(), STRICTEST)), 4)


def coverage(errors: np.ndarray, stated: np.ndarray, factor: float, horizons: tuple[int, ...]) -> dict[str, Rate]:
    """Share of episodes [E, n] whose error stays below factor * stated at all steps up to each horizon (`rate`)."""
    return {
        f"up_to_{h}": rate(_scores(np.asarray(errors)[:, :h], np.asarray(stated)[:, :h]) <= factor) for h in horizons
    }


def _scores(errors: np.ndarray, stated: np.ndarray) -> np.ndarray:
    """max_t error_t / stated_t of each episode [E]."""
    e, s = np.asarray(errors, float), np.asarray(stated, float)
    if e.shape != s.shape or e.ndim != 2 or not e.size or not ((e >= 0).all() and (s > 0).all()):
        raise ValueError(
            f"errors {e.shape} and stated errors {s.shape}; expected [episodes, steps] twice, errors >= 0 "
            "and stated errors > 0"
        )
    return (e / s).max(1)


def _spearman(x: np.ndarray, y: np.ndarray) -> float | None:
    x, y = x.ravel(), y.ravel()
    return float(spearmanr(x, y).statistic) if np.ptp(x) and np.ptp(y) else None
