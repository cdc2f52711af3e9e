"""Does uncertainty pay when a world judges policies? Its uncertain episodes against the others, by a paired test."""

from __future__ import annotations

from typing import NotRequired, TypedDict

import numpy as np

from wm_gym.evaluation.ranking.agreement import mmrv
from wm_gym.evaluation.trust.coverage import auroc

RESAMPLES = 2000


class JudgedRates(TypedDict):
    """Success rates in a world against those in physics; None where one side does not vary, or nothing fails."""

    pearson: float | None
    mmrv: float
    optimism: float | None
    wrong: float
    """Share of outcomes that are not physics'."""


class Gain(TypedDict):
    """Kept - all, with its 95 % bootstrap interval over starts."""

    gain: float
    low: float
    high: float


class Gating(TypedDict):
    """Success rates from the least uncertain episodes against those from all."""

    wrong: float | None
    """AUROC of uncertainty for episodes whose outcome in the world is not physics'."""
    keep: float
    all: JudgedRates
    kept: JudgedRates
    gain: dict[str, Gain | None]
    """By number of `JudgedRates`; None where a side is undefined."""
    false_success: NotRequired[dict[str, float | None]]
    """AUROC by which uncertainty, or length alone, finds the world's false successes."""


def gating(world: np.ndarray, physics: np.ndarray, uncertainty: np.ndarray, keep: float = 0.8, seed: int = 0) -> Gating:
    """Success rates from the least uncertain episodes, against those from all; outcomes bool [k, n] of k policies.

    uncertainty [k, n]: the largest of each episode in the world. For each policy the share `keep` of its episodes with
    the least is kept, in the world only: physics' rates are of all. ValueError for other shapes, NaN, or keep outside
    (0, 1).
    """
    w, p, u = np.asarray(world, bool), np.asarray(physics, bool), np.asarray(uncertainty, float)
    if not w.shape == p.shape == u.shape or w.ndim != 2 or not np.isfinite(u).all() or not 0 < keep < 1:
        raise ValueError(
            f"outcomes {w.shape} and {p.shape}, uncertainty {u.shape} ({int((~np.isfinite(u)).sum())} not "
            f"finite), keep={keep}; expected three [policies, episodes], and keep in (0, 1)"
        )
    rng, wrong = np.random.default_rng(seed), w != p
    draws = [
        _both(w[:, rows], p[:, rows], u[:, rows], keep) for rows in rng.integers(0, w.shape[1], (RESAMPLES, w.shape[1]))
    ]
    everything, kept = _both(w, p, u, keep)
    drawn = np.array([_gains(*pair) for pair in draws])
    gain: dict[str, Gain | None] = dict.fromkeys(everything)
    for name, value, values in zip(gain, _gains(everything, kept), drawn.T):
        if np.isfinite(value):
            low, high = np.quantile(values[np.isfinite(values)], [0.025, 0.975])
            gain[name] = {"gain": float(value), "low": float(low), "high": float(high)}
    return {
        "wrong": auroc(u[~wrong], u[wrong]) if wrong.any() and not wrong.all() else None,
        "keep": keep,
        "all": everything,
        "kept": kept,
        "gain": gain,
    }


def _both(w: np.ndarray, p: np.ndarray, u: np.ndarray, keep: float) -> tuple[JudgedRates, JudgedRates]:
    """The numbers of all episodes, and of those kept."""
    count = max(1, round(keep * w.shape[1]))
    chosen = np.zeros(w.shape, bool)
    np.put_along_axis(chosen, np.argsort(u, axis=1, kind="stable")[:, :count], True, axis=1)
    return _numbers(w, p, np.ones(w.shape, bool)), _numbers(w, p, chosen)


def _gains(everything: JudgedRates, kept: JudgedRates) -> np.ndarray:
    """Kept - all of each number, NaN where one is None."""
    return np.array([*kept.values()], float) - np.array([*everything.values()], float)


def _numbers(w: np.ndarray, p: np.ndarray, chosen: np.ndarray) -> JudgedRates:
    rates, real = (w & chosen).sum(1) / chosen.sum(1), p.mean(1)
    failed = ~p & chosen
    varied = len(rates) > 2 and np.ptp(rates) > 0 and np.ptp(real) > 0
    return {
        "pearson": float(np.corrcoef(rates, real)[0, 1]) if varied else None,
        "mmrv": mmrv(rates, real),
        "optimism": float(w[failed].mean()) if failed.any() else None,
        "wrong": float((w != p)[chosen].mean()),
    }
