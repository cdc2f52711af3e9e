"""Does a world know where it is wrong? Its stated errors against true ones, alone and one step from the truth."""

from __future__ import annotations

import numpy as np

from wm_gym.common.statistics import rate
from wm_gym.engine.base import Engine
from wm_gym.engine.rollout import roll_out
from wm_gym.engine.shared import load_engine
from wm_gym.evaluation.episodes import Episodes
from wm_gym.evaluation.trust.calibrate import LEAST_STATED, Errors, latent_roll, true_latents
from wm_gym.evaluation.trust.coverage import auroc, calibration, coverage, ranks_errors, reliability
from wm_gym.evaluation.trust.signals import StartCheck
from wm_gym.worlds.world import World

RARE = 0.02  # an epsilon that fewer patches miss, or keep, than this is left out: it has nothing to foretell


def uncertainty(
    world: World,
    episodes: Episodes,
    horizons: tuple[int, ...],
    engine: Engine | None = None,
    seed: int = 0,
    every: int = 5,
    batch: int = 64,
) -> dict:
    """How well a world foretells its errors under the episodes' actions, best of recordings it has never seen.

    Returns {"dense": {"autoregressive", "teacher_forced"}: `dense_calibration` of every so many steps, whole roll-outs
    and single steps from true frames; "ranks": `ranks_errors` of a frame's mean at each horizon, with the step counter
    as the control; "coverage": of the calibrated bound, up to each horizon, and "limit": how many episodes pass the
    calibration's limit; "trust": how often `trust_horizon` kept its word where it was above 0}; the last three are
    None without a calibration.
    """
    engine = engine or load_engine(world, "auto", "auto", decode=False)
    stated, error, alone, led = [], [], [], []
    for part in np.array_split(np.arange(len(episodes)), -(-len(episodes) // batch)):
        some = episodes.select(part)
        true, made = true_latents(world, some), latent_roll(world, some, engine, seed)
        wrong = np.abs(made["latent"] - true[:, 1:]).mean(2)
        stated.append(made["uncertainty"].mean((2, 3)))
        error.append(wrong.mean((2, 3)))
        alone.append((made["error_distribution"][:, every - 1 :: every], wrong[:, every - 1 :: every]))
        led.append(_one_step(world, some, true, engine, seed))
    found = Errors(np.maximum(np.concatenate(stated), LEAST_STATED), np.concatenate(error), np.nan)
    edges = world.uncertainty.edges.cpu().numpy()
    dense = {
        name: dense_calibration(*(np.concatenate(values) for values in zip(*pairs)), edges)
        for name, pairs in (("autoregressive", alone), ("teacher_forced", led))
    }
    return {
        "episodes": len(episodes),
        "dense": dense,
        "ranks": ranks_errors(found.stated, found.error, horizons, seed),
        **kept(world, found, horizons),
    }


def kept(world: World, found: Errors, horizons: tuple[int, ...]) -> dict:
    """What became of the calibration's three guarantees: {"coverage", "limit", "trust"}, None without a calibration."""
    calibrated = world.calibration
    if calibrated is None:
        return dict.fromkeys(("coverage", "limit", "trust"))
    n = found.error.shape[1]
    stated = np.concatenate([np.zeros((len(found.stated), 1)), found.stated], axis=1)
    wrong = np.concatenate([np.zeros((len(found.stated), 1), bool), found.error > calibrated.tolerance], axis=1)
    steps = calibrated.trust_horizon(stated.ravel()).reshape(stated.shape)
    trusting, until = steps > 0, np.minimum(np.arange(n + 1) + steps, n)
    count = np.cumsum(wrong, axis=1)  # wrong frames among steps t .. until: none, where the guarantee was kept
    before = np.concatenate([np.zeros((len(wrong), 1), int), count[:, :-1]], axis=1)
    right = np.take_along_axis(count, until, 1) == before
    trust = {"moments": int(trusting.sum()), "kept": float(right[trusting].mean()) if trusting.any() else None}
    return {
        "coverage": coverage(found.error, found.stated, calibrated.factor, horizons),
        "limit": rate(found.stated.max(1) > calibrated.limit),
        "trust": trust,
    }


def dense_calibration(error_distribution: np.ndarray, error: np.ndarray, edges: np.ndarray) -> dict:
    """Are a patch's stated probabilities P(error <= epsilon) right, for each epsilon that is an edge of the histogram?

    error_distribution [E, n, bins, h, w], error [E, n, h, w], edges [bins - 1]. Returns {"patches", "ece", "mce": over all epsilons
    together, in 20 bins; "brier_skill": the mean over epsilons of 1 - Brier / that of this epsilon's base rate, and
    "brier_skill_least"; "epsilons": for each {"epsilon", "within": the base rate, "ece", "mce", "brier_skill"};
    "reliability"}. Epsilons that less than 2 % of the patches keep, or miss, are left out.
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
        of_each.append(
            {
                "epsilon": float(edges[k]),
                "within": float(shares[k]),
                **{key: numbers[key] for key in ("ece", "mce", "brier_skill")},
            }
        )
    pooled = calibration(stated[:, :, used], within[:, :, used])
    skills = [each["brier_skill"] for each in of_each]
    return {
        "patches": int(error.size),
        "ece": pooled["ece"],
        "mce": pooled["mce"],
        "brier_skill": float(np.mean(skills)),
        "brier_skill_least": float(np.min(skills)),
        "epsilons": of_each,
        "reliability": reliability(stated[:, :, used], within[:, :, used]),
    }


def detects_shifts(
    check: StartCheck, usual: tuple[np.ndarray, np.ndarray], shifted: dict[str, tuple[np.ndarray, np.ndarray]]
) -> dict[str, dict[str, float]]:
    """AUROC of `StartCheck`'s score, and of each of its signs, for {shift: (frames, proprioception)} against usual."""
    known = check.score(*usual)
    return {
        name: {sign: auroc(known[sign], values) for sign, values in check.score(*pictures).items()}
        for name, pictures in shifted.items()
    }


def teacher_forced_errors(world: World, episodes: Episodes, engine: Engine | None = None, seed: int = 0) -> np.ndarray:
    """Mean error [E] of one-step predictions from true frames: what shows a shift that no picture does."""
    engine = engine or load_engine(world, "auto", "auto", decode=False)
    wrong = _one_step(world, episodes, true_latents(world, episodes), engine, seed, every=1)[1]
    return wrong.mean((1, 2, 3))


def _one_step(
    world: World, episodes: Episodes, true: np.ndarray, engine: Engine, seed: int, every: int = 10
) -> tuple[np.ndarray, np.ndarray]:
    """Error distribution [E, m, bins, h, w] and error [E, m, h, w] of single steps from every so many true frames."""
    context, n, distributions, errors = world.spec.context_frames, episodes.action.shape[1], [], []
    for t in range(0, n, every):
        rows = episodes.rows[:, max(0, t + 1 - context) : t + 1]
        made = roll_out(
            world,
            episodes.clips.frames[rows],
            episodes.action[:, t : t + 1],
            episodes.clips.proprioception[rows],
            seed,
            engine,
            also=("latent", "error_distribution"),
        )
        distributions.append(made["error_distribution"][:, 0])
        errors.append(np.abs(made["latent"][:, 0] - true[:, t + 1]).mean(1))
    return np.stack(distributions, 1), np.stack(errors, 1)
