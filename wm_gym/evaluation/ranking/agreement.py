"""Does a world rank policies as physics does? Statistics over success rates that both measured."""

from __future__ import annotations

from math import sqrt
from typing import Any, TypedDict

import numpy as np
from scipy.stats import PermutationMethod, norm, pearsonr, spearmanr

from wm_gym.common.statistics import Outcomes, Values

BAND = (0.2, 0.8)  # policies that neither always fail nor always succeed: the others make any world look right
FEWEST = 3  # with two, r is 1 or -1; an interval needs one more, for Fisher's z has the variance 1 / (k - 3)
RESAMPLES = 9999


class Correlation(TypedDict):
    """Pearson's r over policies, and how far it can be trusted; None where nothing can be said."""

    policies: int
    pearson: float | None
    low: float | None
    high: float | None
    bootstrap_low: float | None
    bootstrap_high: float | None
    permutation_p: float | None
    spearman: float | None
    largest_drop_one: float | None
    undefined: str | None


class MeanAgreement(TypedDict):
    """Mean MMRV and Pearson's r."""

    mmrv: float
    pearson: float | None


class SplitHalf(TypedDict):
    """Physics against itself; None where "undefined" says why."""

    mmrv: float | None
    pearson: float | None
    undefined: str | None


class Agreement(TypedDict):
    """How well a world's success rates stand in for physics'."""

    all: Correlation
    within_band: Correlation
    mmrv: float
    perfect_world: MeanAgreement
    granularity: float
    optimism: float | None
    pessimism: float | None


def mmrv(world: Values, real: Values) -> float:
    """Mean maximum rank violation in [0, 1] of policies' success rates in a world against the real ones (0 is best).

    MMRV = 1/k sum_i max_j |R_i - R_j| 1[(W_i < W_j) != (R_i < R_j)] (Li et al. 2024, "Evaluating Real-World Robot
    Manipulation Policies in Simulation", eq. 2). Not symmetric: the real gap weighs. ValueError unless both are finite,
    of one length, with a policy at least.
    """
    w, r = _rates(world, real)
    wrong = (w[:, None] < w) != (r[:, None] < r)
    return float((np.abs(r[:, None] - r) * wrong).max(1).mean())


def correlation(world: Values, real: Values, seed: int = 0) -> Correlation:
    """Pearson's r of success rates over independently trained policies, and how far it can be trusted.

    Returns {"policies", "pearson", "low", "high" (Fisher z, 95 %), "bootstrap_low", "bootstrap_high" (over policies),
    "permutation_p" (one-sided; exact where k! < 10,000), "spearman", "largest_drop_one" (the most that r changes when
    one policy is left out), "undefined"}. Fewer than 3 policies, or equal rates on one side, leave the numbers None, 3
    policies the intervals and the drop, and "undefined" says why; it is None otherwise. ValueError as in `mmrv`.
    """
    w, r = _rates(world, real)
    if why := _undefined(w, r):
        return _unknown(len(w), why)
    found, rng = pearsonr(w, r), np.random.default_rng(seed)
    chance = pearsonr(w, r, alternative="greater", method=PermutationMethod(n_resamples=RESAMPLES, rng=rng))
    result: Correlation = {
        **_unknown(len(w), f"{FEWEST} policies; an interval needs at least {FEWEST + 1}"),
        "pearson": float(found.statistic),
        "spearman": float(spearmanr(w, r).statistic),
        "permutation_p": float(chance.pvalue),
    }
    if len(w) == FEWEST:
        return result
    fisher = found.confidence_interval(0.95)
    low, high = np.quantile(_row_correlations(w, r, rng.integers(0, len(w), (RESAMPLES, len(w)))), [0.025, 0.975])
    rest = np.array([np.delete(np.arange(len(w)), i) for i in range(len(w))])
    drop = np.abs(_row_correlations(w, r, rest) - found.statistic).max()
    return {
        **result,
        "low": float(fisher.low),
        "high": float(fisher.high),
        "bootstrap_low": float(low),
        "bootstrap_high": float(high),
        "largest_drop_one": float(drop),
        "undefined": None,
    }


def agreement(world: np.ndarray, physics: np.ndarray, seed: int = 0) -> Agreement:
    """How well a world's success rates stand in for physics', from outcomes bool [k, n]: k policies, n matched starts.

    Returns {"all", "within_band": `correlation` of all policies and of those with 20-80 % in physics, "mmrv",
    "perfect_world": what a world that is physics itself gets at this n, measured with other starts (`perfect_world`),
    "granularity": the smallest MMRV above 0, "optimism", "pessimism": P(world succeeds | physics fails) and the
    reverse over all episodes, None where physics never fails (succeeds)}. ValueError unless both shapes are [k, n].
    """
    world, physics = np.asarray(world, bool), np.asarray(physics, bool)
    if world.shape != physics.shape or world.ndim != 2 or not world.size:
        raise ValueError(f"outcomes of shapes {world.shape} and {physics.shape}; expected two [policies, episodes]")
    w, r = world.mean(1), physics.mean(1)
    band = (r >= BAND[0]) & (r <= BAND[1])
    inside = (
        correlation(w[band], r[band], seed)
        if band.any()
        else _unknown(0, f"no policy has {BAND[0]:.0%} to {BAND[1]:.0%} success in physics")
    )
    return {
        "all": correlation(w, r, seed),
        "within_band": inside,
        "mmrv": mmrv(w, r),
        "perfect_world": perfect_world(r, world.shape[1], seed=seed),
        "granularity": 1 / world.size,
        "optimism": float(world[~physics].mean()) if not physics.all() else None,
        "pessimism": float((~world)[physics].mean()) if physics.any() else None,
    }


def agreement_of_returns(world: np.ndarray, physics: np.ndarray, seed: int = 0) -> Agreement:
    """How well a world's mean returns stand in for its environment's: of k policies, from returns [k, n] of n starts.

    As `agreement`, on returns that are `scaled`: an MMRV of 0.1 is a tenth of what lies between the worst and the best
    policy. No band of success, optimism or pessimism. ValueError unless both shapes are [k, n].
    """
    if np.shape(world) != np.shape(physics) or np.ndim(world) != 2 or not np.size(world):
        raise ValueError(
            f"returns of shapes {np.shape(world)} and {np.shape(physics)}; expected two [policies, episodes]"
        )
    world, physics = scaled(world, physics)
    w, r, spread = world.mean(1), physics.mean(1), physics.std(1) / sqrt(physics.shape[1])
    first, second = np.random.default_rng(seed).normal(r, spread, (2, 1000, len(r)))
    return {
        "all": correlation(w, r, seed),
        "within_band": _unknown(0, "returns have no band of success"),
        "mmrv": mmrv(w, r),
        "perfect_world": _mean_agreement(list(zip(first, second))),
        "granularity": 0.0,
        "optimism": None,
        "pessimism": None,
    }


def scaled(world: np.ndarray, physics: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns [k, n] of both, moved so that the policies' means in the environment go from 0 to 1."""
    world, physics = np.asarray(world, float), np.asarray(physics, float)
    low, span = physics.mean(1).min(), np.ptp(physics.mean(1)) or 1.0
    return (world - low) / span, (physics - low) / span


def perfect_world(rates: Values, episodes: int, draws: int = 1000, seed: int = 0) -> MeanAgreement:
    """Mean MMRV and Pearson's r between two measurements of the same rates, `episodes` other starts each.

    What remains is chance alone: no world can be distinguished from physics below this MMRV. pearson is None where the
    rates of every draw are equal.
    """
    rng = np.random.default_rng(seed)
    first, second = rng.binomial(episodes, np.asarray(rates, float), (2, draws, len(rates))) / episodes
    return _mean_agreement(list(zip(first, second)))


def split_half(outcomes: np.ndarray, splits: int = 200, seed: int = 0) -> SplitHalf:
    """Physics against itself: mean Pearson's r and MMRV between random halves of its outcomes or returns [k, n].

    Halves have half the episodes, so this is a lower bound of what a perfect world reaches at n. Numbers are None, and
    "undefined" says why, where no correlation can be given. ValueError for fewer than 2 episodes.
    """
    outcomes, rng = np.asarray(outcomes, float), np.random.default_rng(seed)
    n = outcomes.shape[1]
    if n < 2:
        raise ValueError(f"{n} episodes a policy cannot be halved; expected at least 2")
    if why := _undefined(outcomes.mean(1), outcomes.mean(1)):
        return {"pearson": None, "mmrv": None, "undefined": why}
    pairs = []
    for _ in range(splits):
        order = rng.permutation(n)
        pairs.append((outcomes[:, order[: n // 2]].mean(1), outcomes[:, order[n // 2 :]].mean(1)))
    found = _mean_agreement(pairs)
    return {**found, "undefined": None if found["pearson"] is not None else "every half has equal rates"}


def prediction_powered(
    world: Outcomes, paired_world: Outcomes, paired_real: Outcomes, confidence: float = 0.95, tuned: bool = False
) -> dict[str, float]:
    """The real success rate from many cheap episodes in the world and a few that reality judged too.

    rate = l mean(W) + mean(R - l W over the pairs) with l = 1, with a normal interval of both means' variances
    (Angelopoulos et al. 2023, "Prediction-powered inference"). tuned: l = cov(R, W) / ((1 + n/N) var(W)) of the n pairs
    beside N others, between 0 and 1, so that a poor world costs nothing (Angelopoulos et al. 2023, "PPI++"). world:
    outcomes of episodes without a pair. ValueError for unequal pairs, fewer than 2 of them or fewer than 2 episodes
    without.
    """
    many, w, r = (np.asarray(x, float) for x in (world, paired_world, paired_real))
    if w.shape != r.shape or len(w) < 2 or len(many) < 2:
        raise ValueError(
            f"{len(many)} episodes, {len(w)} and {len(r)} paired ones; expected at least 2 episodes and 2 "
            "pairs, with one outcome each from the world and from reality"
        )
    power, varies = 1.0, np.concatenate([many, w]).var(ddof=1)
    if tuned:
        power = float(np.clip(np.cov(r, w)[0, 1] / ((1 + len(w) / len(many)) * varies), 0, 1)) if varies else 0.0
    many, w = power * many, power * w
    rate = many.mean() + (r - w).mean()
    half = norm.ppf((1 + confidence) / 2) * sqrt(many.var(ddof=1) / len(many) + (r - w).var(ddof=1) / len(w))
    return {"rate": float(rate), "low": float(rate - half), "high": float(rate + half)}


def _rates(world: Values, real: Values) -> tuple[np.ndarray, np.ndarray]:
    w, r = np.asarray(world, float), np.asarray(real, float)
    if w.shape != r.shape or w.ndim != 1 or not len(w):
        raise ValueError(f"rates of shapes {w.shape} and {r.shape}; expected one rate a policy from both, same order")
    for side, values in (("world", w), ("real", r)):
        if not np.isfinite(values).all():
            raise ValueError(f"the {side} rate of policy {int(np.flatnonzero(~np.isfinite(values))[0])} is not finite")
    return w, r


def _mean_agreement(pairs: list[tuple[np.ndarray, np.ndarray]]) -> MeanAgreement:
    """Mean MMRV over pairs of rates, and mean r over those pairs in which both vary."""
    r = [pearsonr(a, b).statistic for a, b in pairs if len(a) >= FEWEST and np.ptp(a) and np.ptp(b)]
    return {"mmrv": float(np.mean([mmrv(a, b) for a, b in pairs])), "pearson": float(np.mean(r)) if r else None}


def _row_correlations(w: np.ndarray, r: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Pearson's r of each row of policies [m, j], less the rows in which one side does not vary."""
    w, r = w[rows], r[rows]
    varied = (np.ptp(w, axis=1) > 0) & (np.ptp(r, axis=1) > 0)
    return pearsonr(w[varied], r[varied], axis=1).statistic


def _unknown(policies: int, why: str) -> Correlation:
    """What `correlation` returns where nothing can be said."""
    nothing: Any = dict.fromkeys(Correlation.__annotations__)
    return nothing | {"policies": policies, "undefined": why}


def _undefined(w: np.ndarray, r: np.ndarray) -> str | None:
    """Why no correlation can be given; None if one can."""
    if len(w) < FEWEST:
        return f"{len(w)} policies; a correlation needs at least {FEWEST}"
    for side, values in (("the world", w), ("physics", r)):
        if not np.ptp(values):
            return f"all {len(values)} policies have the same rate in {side}, {values[0]:.3g}"
    return None
