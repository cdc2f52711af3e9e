"""Does a world know where it is wrong? Its stated errors against true ones, alone and one step from the truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wm_gym.common.statistics import Rate, rate
from wm_gym.engine.base import Engine
from wm_gym.engine.shared import load_engine
from wm_gym.evaluation.episodes import Episodes
from wm_gym.evaluation.trust.calibrate import LEAST_STATED, Errors, at_the_start, in_batches, latent_roll, true_latents
from wm_gym.evaluation.trust.coverage import Ranks, Reliability, auroc, calibration, coverage, ranks_errors, reliability
from wm_gym.evaluation.trust.signals import StartCheck
from wm_gym.worlds.world import World

RARE = 0.02  # an epsilon that fewer patches miss, or keep, than this is left out: it has nothing to foretell


@dataclass(frozen=True)
class OfEpsilon:
    """How right the stated probability is that an error stays below an epsilon."""

    epsilon: float
    within: float
    """The base rate."""
    ece: float
    mce: float
    brier_skill: float | None


@dataclass(frozen=True)
class Dense:
    """How right the probabilities are that are stated of patches."""

    patches: int
    ece: float
    mce: float
    """Over all epsilons together, in 20 bins."""
    brier_skill: float
    """The mean over epsilons of 1 - Brier / that of this epsilon's base rate."""
    brier_skill_least: float
    epsilons: list[OfEpsilon]
    reliability: Reliability


@dataclass(frozen=True)
class Trust:
    """How often the trust horizon held where it was above 0."""

    moments: int
    kept: float | None


@dataclass(frozen=True)
class Kept:
    """What became of the calibration's three guarantees; None without a calibration."""

    coverage: dict[str, Rate] | None
    """Of the bound, up to each horizon."""
    limit: Rate | None
    """Of the episodes that pass the calibration's limit."""
    trust: Trust | None


@dataclass(frozen=True, kw_only=True)
class UncertaintyResult(Kept):
    """How well a world foretells its errors."""

    episodes: int
    dense: dict[str, Dense]
    """Of "autoregressive": whole roll-outs, and "teacher_forced": single steps from true frames."""
    ranks: dict[str, Ranks]
    """Of a frame's mean, by horizon."""


def uncertainty(
    world: World,
    episodes: Episodes,
    horizons: tuple[int, ...],
    engine: Engine | None = None,
    seed: int = 0,
    every: int = 5,
) -> UncertaintyResult:
    """How well a world foretells its errors under the episodes' actions, best of recordings it has never seen.

    Args:
        world: It.
        episodes: With their true frames.
        horizons: Steps.
        engine: That steps it (default: the fastest here).
        seed: Of the roll-outs.
        every: So many steps one is taken for the dense calibration.
    """
    engine = engine or load_engine(world, "auto", "auto", decode=False)
    stated, error, alone, led = [], [], [], []
    for some in in_batches(episodes):
        true, made = true_latents(world, some), latent_roll(world, some, some.rows[:, :1], engine, seed)
        wrong = np.abs(made["latent"] - true[:, 1:]).mean(2)
        stated.append(made["uncertainty"].mean((2, 3)))
        error.append(wrong.mean((2, 3)))
        alone.append((made["error_distribution"][:, every - 1 :: every], wrong[:, every - 1 :: every]))
        led.append(_one_step(world, some, true, engine, seed))
    found = Errors(np.maximum(np.concatenate(stated), LEAST_STATED), np.concatenate(error), np.nan)
    edges = world.uncertainty.edges.cpu().numpy()
    dense = {
        name: dense_calibration(
            np.concatenate([stated for stated, _ in pairs]), np.concatenate([wrong for _, wrong in pairs]), edges
        )
        for name, pairs in (("autoregressive", alone), ("teacher_forced", led))
    }
    return UncertaintyResult(
        episodes=len(episodes),
        dense=dense,
        ranks=ranks_errors(found.stated, found.error, horizons, seed),
        **vars(kept(world, found, horizons)),
    )


def kept(world: World, found: Errors, horizons: tuple[int, ...]) -> Kept:
    """What became of the calibration's three guarantees."""
    calibrated = world.calibration
    if calibrated is None:
        return Kept(None, None, None)
    n = found.error.shape[1]
    stated, wrong = at_the_start(found.stated), at_the_start(found.error > calibrated.tolerance)
    steps = calibrated.trust_horizon(stated.ravel()).reshape(stated.shape)
    trusting, until = steps > 0, np.minimum(np.arange(n + 1) + steps, n)
    count = np.cumsum(wrong, axis=1)  # wrong frames among steps t .. until: none, where the guarantee was kept
    right = np.take_along_axis(count, until, 1) == at_the_start(count[:, :-1])
    return Kept(
        coverage=coverage(found.error, found.stated, calibrated.factor, horizons),
        limit=rate(found.stated.max(1) > calibrated.limit),
        trust=Trust(int(trusting.sum()), float(right[trusting].mean()) if trusting.any() else None),
    )


def dense_calibration(error_distribution: np.ndarray, error: np.ndarray, edges: np.ndarray) -> Dense:
    """Are a patch's stated probabilities P(error <= epsilon) right, for each epsilon that is an edge of the histogram?

    Epsilons that less than 2 % of the patches keep, or miss, are left out.

    Args:
        error_distribution: [E, n, bins, h, w].
        error: [E, n, h, w].
        edges: [bins - 1].

    Raises:
        ValueError: Where no epsilon is left.
    """
    stated = np.clip(np.cumsum(error_distribution, axis=2)[:, :, :-1], 0, 1)
    within = error[:, :, None] <= edges[:, None, None]
    shares = within.mean((0, 1, 3, 4))
    of_each, used = [], np.flatnonzero((shares > RARE) & (shares < 1 - RARE))
    if not len(used):
        raise ValueError(
            f"no epsilon of {edges.round(3).tolist()} separates the errors of {error.size} patches; train "
            "the uncertainty on this world: wm-gym calibrate WORLD DATASET --refit"
        )
    for k in used:
        numbers = calibration(stated[:, :, k], within[:, :, k])
        of_each.append(OfEpsilon(float(edges[k]), float(shares[k]), numbers.ece, numbers.mce, numbers.brier_skill))
    pooled = calibration(stated[:, :, used], within[:, :, used])
    skills = [each.brier_skill for each in of_each if each.brier_skill is not None]  # all: both outcomes are there
    return Dense(
        patches=int(error.size),
        ece=pooled.ece,
        mce=pooled.mce,
        brier_skill=float(np.mean(skills)),
        brier_skill_least=float(np.min(skills)),
        epsilons=of_each,
        reliability=reliability(stated[:, :, used], within[:, :, used]),
    )


@dataclass(frozen=True)
class ShiftSeen:
    """AUROC of `StartCheck`'s score, and of each of its signs, for a shift."""

    score: float
    unrest: float
    novelty: float


def detects_shifts(
    check: StartCheck, usual: tuple[np.ndarray, np.ndarray], shifted: dict[str, tuple[np.ndarray, np.ndarray]]
) -> dict[str, ShiftSeen]:
    """AUROC of `StartCheck`'s score, and of each of its signs, for {shift: (frames, proprioception)} against usual."""
    known = check.score(*usual)
    return {
        name: ShiftSeen(**{sign: auroc(known[sign], values) for sign, values in check.score(*pictures).items()})
        for name, pictures in shifted.items()
    }


def teacher_forced_errors(world: World, episodes: Episodes) -> np.ndarray:
    """Mean error [E] of one-step predictions from true frames: what shows a shift that no picture does."""
    engine = load_engine(world, "auto", "auto", decode=False)
    wrong = _one_step(world, episodes, true_latents(world, episodes), engine, 0, every=1)[1]
    return wrong.mean((1, 2, 3))


def _one_step(
    world: World, episodes: Episodes, true: np.ndarray, engine: Engine, seed: int, every: int = 10
) -> tuple[np.ndarray, np.ndarray]:
    """Error distribution [E, m, bins, h, w] and error [E, m, h, w] of single steps from every so many true frames."""
    context, n, distributions, errors = world.spec.context_frames, episodes.action.shape[1], [], []
    for t in range(0, n, every):
        rows = episodes.rows[:, max(0, t + 1 - context) : t + 1]
        made = latent_roll(world, episodes, rows, engine, seed, slice(t, t + 1))
        distributions.append(made["error_distribution"][:, 0])
        errors.append(np.abs(made["latent"][:, 0] - true[:, t + 1]).mean(1))
    return np.stack(distributions, 1), np.stack(errors, 1)
