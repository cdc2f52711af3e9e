"""How wrong is a world when it says how sure it is? Its roll-outs beside recordings, and a calibration from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.stats import CensoredData, ecdf
from tqdm import tqdm

from wm_gym.common.files import clear
from wm_gym.data import open_clips
from wm_gym.data.clips import ClipData, join_clips
from wm_gym.engine.artefacts import digest_of
from wm_gym.engine.base import Engine
from wm_gym.engine.rollout import roll_out
from wm_gym.engine.shared import load_engine
from wm_gym.evaluation.episodes import Episodes
from wm_gym.evaluation.trust.coverage import conformal_factor, conformal_rank, unbiased_threshold
from wm_gym.models.tokenizer import to_float
from wm_gym.training.presets import PRESETS, Preset
from wm_gym.training.stages import train_uncertainty
from wm_gym.training.trainer import alone_in, begin_run, claim
from wm_gym.worlds.calibration import Calibration
from wm_gym.worlds.world import World

TRUST_ROWS = 12
BATCH = 64  # episodes rolled out together
LEAST_STATED = 1e-6  # no stated error is smaller
FEWEST = 20  # episodes of either outcome that a judge's threshold is set by


@dataclass(frozen=True)
class Errors:
    """What a world said and what was true, of E episodes after steps 1 .. n."""

    stated: np.ndarray
    """[E, n], the uncertainty: the expected mean over a frame of |predicted - true latent|."""
    error: np.ndarray
    """[E, n], that mean."""
    late: float
    """The same mean between true frames one step apart."""
    success: np.ndarray | None = None
    """[E], the largest success probability that it stated at any step."""


def calibrate(
    world: str | Path,
    datasets: Sequence[str | Path],
    refit: bool = False,
    alpha: float = 0.1,
    seed: int = 0,
    cpu: bool = False,
    progress: bool = True,
    sizes: Preset | None = None,
) -> Calibration:
    """Measure a world's calibration on recordings that it was not trained on, and write it into the world's folder.

    Its success_threshold is then where as many of the episodes succeed in the world as in the recordings (it stays
    where fewer than 20 succeed, or fail, and in a world that knows no success): success at any step is success, so at
    0.5 a judge that errs either way says yes too often. Episodes shorter than the world's horizon are left out,
    or where most are, those shorter than the median. A refit that was killed goes on with the same call in
    `<world>.calibrating`.

    Args:
        world: A world's folder.
        datasets: Recordings.
        refit: First train its uncertainty anew, on the even episodes, and measure on the odd ones.
        alpha: The guarantees hold in 1 - alpha of such episodes.
        seed: Of the roll-outs and of the training.
        cpu: Train on the CPU even where there is a GPU.
        progress: Show bars.
        sizes: Of the training (default: preset "small").

    Raises:
        ValueError: For a world without pictures, where too few episodes remain, and where a killed refit was of other
            recordings, weights or sizes.
    """
    folder, judged = Path(world), World.from_pretrained(world)
    if not judged.spec.draws:
        raise ValueError(
            f"{world} was trained without pictures and states no uncertainty, so there is nothing to calibrate; train "
            "it with another preset, e.g. wm-gym train DATASET --preset small --out WORLD"
        )
    height, width = judged.spec.frame_size
    opened = partial(open_clips, camera=judged.spec.camera or None, size=(height, width), progress=progress)
    clips = join_clips([opened(one) for one in datasets])
    episodes = Episodes.whole(clips, judged.spec.horizon)
    if not refit:
        return _measured(folder, judged, clips, episodes, alpha, seed, progress)
    beside, sizes = folder.with_name(folder.name + ".calibrating"), sizes or PRESETS["small"]
    asked = {
        "dataset": clips.meta["dataset_hash"],
        "seed": seed,
        **asdict(sizes),
        "weights": {name: digest_of(part) for name, part in judged.modules().items() if name != "uncertainty"},
    }
    with alone_in(beside):
        claim(beside, asked, again=f"repeat the old arguments to resume it, or start over: rm -r {beside}")
        train_uncertainty(begin_run(beside, sizes, seed, cpu, progress), judged, clips, np.arange(0, len(clips), 2))
        made = _measured(folder, judged, clips, episodes.select(episodes.number % 2 == 1), alpha, seed, progress)
        clear(beside)
    return made


def _measured(
    folder: Path, world: World, clips: ClipData, episodes: Episodes, alpha: float, seed: int, progress: bool
) -> Calibration:
    """Calibrate on episodes of a recording, and save the world with what was found."""
    found = errors(world.at_rest(), episodes, seed=seed, progress=progress)
    succeeded = clips.success[episodes.rows[:, 1:]].any(1)
    judges = world.spec.success_threshold <= 1  # above it: trained without success, it never calls any
    if judges and found.success is not None and min(succeeded.sum(), (~succeeded).sum()) >= FEWEST:
        world.spec.success_threshold = unbiased_threshold(found.success, succeeded)
    made = calibration_of(
        found,
        alpha,
        f"{len(episodes)} episodes of {Path(clips.meta['dataset']).name}, dataset {clips.meta['dataset_hash'][:12]}",
    )
    replace(world, calibration=made).save_pretrained(folder)
    return made


def calibration_of(found: Errors, alpha: float, measured_on: str) -> Calibration:
    """The numbers of a calibration; ValueError for too few episodes (9 are needed for alpha = 0.1)."""
    factor = conformal_factor(found.error, found.stated, alpha)
    highest = np.sort(found.stated.max(1))
    limit = float(highest[conformal_rank(len(highest), alpha) - 1])
    count, steps = found.error.shape
    return Calibration(alpha, factor, limit, found.late, trust_table(found, alpha), count, steps, measured_on)


def errors(world: World, episodes: Episodes, seed: int = 0, progress: bool = False) -> Errors:
    """Roll-outs under the episodes' actions beside their true latents."""
    engine = load_engine(world, "auto", "auto", decode=False)
    stated, error, late, success = [], [], [], []
    for some in tqdm(in_batches(episodes), desc="calibrating", disable=not progress):
        true, made = true_latents(world, some), latent_roll(world, some, some.rows[:, :1], engine, seed)
        stated.append(made["uncertainty"].mean((2, 3)))
        error.append(np.abs(made["latent"] - true[:, 1:]).mean((2, 3, 4)))
        late.append(np.abs(true[:, 1:] - true[:, :-1]).mean())
        success.append(made["success"].max(1))
    return Errors(
        np.maximum(np.concatenate(stated), LEAST_STATED),
        np.concatenate(error),
        float(np.mean(late)),
        np.concatenate(success),
    )


def in_batches(episodes: Episodes) -> list[Episodes]:
    """The episodes in parts of at most `BATCH`."""
    parts = np.array_split(np.arange(len(episodes)), -(-len(episodes) // BATCH))
    return [episodes.select(part) for part in parts]


def at_the_start(values: np.ndarray) -> np.ndarray:
    """Values [E, n] of steps with a column of zeros before them, [E, n+1]: at its start no episode is wrong."""
    return np.pad(values, ((0, 0), (1, 0)))


def latent_roll(
    world: World, episodes: Episodes, rows: np.ndarray, engine: Engine, seed: int, steps: slice = slice(None)
) -> dict[str, np.ndarray]:
    """`roll_out` from rows [E, T] of the recording under the actions of some steps.

    With "latent" [E, n, C, h, w] and "error_distribution" [E, n, bins, h, w].
    """
    frames, poses = episodes.clips.frames[rows], episodes.clips.proprioception[rows]
    also = ("latent", "error_distribution")
    return roll_out(world, frames, episodes.action[:, steps], poses, seed, engine, also=also)


@torch.inference_mode()
def true_latents(world: World, episodes: Episodes) -> np.ndarray:
    """Of the recorded frames, float32 [E, n + 1, C, h, w]."""
    device = next(world.tokenizer.parameters()).device
    pictures = (to_float(torch.from_numpy(frames)).to(device) for frames in episodes.frames)
    return np.stack([world.tokenizer.encode(some).cpu().numpy() for some in pictures])


def trust_table(found: Errors, alpha: float) -> list[list[float]]:
    """`Calibration.trust`: for how long, from an uncertainty, the error stays below that of a picture one step late.

    Kaplan-Meier over all moments of all episodes whose uncertainty is in a bin (the start of an episode is the first
    bin), for the end of a recording says nothing of what would have come.
    """
    n = found.error.shape[1]
    stated, wrong = at_the_start(found.stated), at_the_start(found.error > found.late)
    failure = np.where(wrong, np.arange(n + 1), n + 1)
    failure = np.minimum.accumulate(failure[:, ::-1], axis=1)[:, ::-1]  # the first one from each moment on
    further, fails = np.minimum(failure, n) - np.arange(n + 1), failure <= n
    edges = np.unique(np.quantile(found.stated, np.linspace(0, 1, TRUST_ROWS)[:-1]))
    place = np.searchsorted(edges, stated, side="right")
    rows = []
    for k, edge in enumerate([0.0, *edges]):
        mine = place == k
        if mine.any():
            rows.append([float(edge), int(_trust_steps(further[mine], fails[mine], alpha))])
    steps = np.minimum.accumulate([steps for _, steps in rows])
    return [[edge, int(steps)] for (edge, _), steps in zip(rows, steps)]


def _trust_steps(further: np.ndarray, fails: np.ndarray, alpha: float) -> int:
    """The most steps without failure in 1 - alpha of cases that fail, or are last seen right, after so many."""
    if not fails.any():
        return int(further.max())
    survival = ecdf(CensoredData(uncensored=further[fails], right=further[~fails])).sf
    enough = np.flatnonzero(survival.evaluate(np.arange(further.max() + 1)) >= 1 - alpha)
    return int(enough[-1]) if len(enough) else 0
