"""How long does a world stay right? Object, its yaw, end-effector, colour and picture after 5, 15 and 30 s.

Episodes of 30 s come from a twin with a longer horizon (its scripts go on at the goal; "random" keeps moving things):

    wm-gym record wm_gym/PushPyBullet-v0 --episodes 100 --policy random --seed 7 --out data/push-30s \\
        --env-kwargs '{"max_episode_steps": 300}'
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from wm_gym.common.metrics import psnr
from wm_gym.common.records import Undefined
from wm_gym.common.statistics import Mean, Median, Rate, mean, median, rate
from wm_gym.evaluation.control_worlds import RollOut
from wm_gym.evaluation.episodes import Episodes
from wm_gym.evaluation.metrics.survival import Survival, time_to_failure
from wm_gym.physics.tracked import TrackedObject, displacement

MOVED = 0.05  # metres that physics must have moved the object for an episode to count
UNLIKE = 100.0  # colour distance of an object that is not found: from black to white in CIELAB


@dataclass(frozen=True)
class Drifted:
    """How far a world has drifted at a horizon, over the episodes that count there."""

    object_cm: Median
    """Position error; an object that is not found is wrong by the workspace's width."""
    end_effector_cm: Median
    lost: Rate
    displacement: Median
    """The object's way from its start, made / true."""
    mask_iou: Mean
    """Made mask of the object against the true one."""
    colour_distance: Mean
    """CIELAB Delta E 1976 of the masks' mean colours, 100 where the object is lost."""
    psnr_db: Mean
    yaw_deg: Median | None = None
    """Where the turn is read; up to the object's symmetry, so 0 to 45 for a square, and a lost object is wrong by the
    most. `recorded` shows what reading it costs, and `frozen` is last, not `shuffle`: pushes turn all blocks alike."""


@dataclass(frozen=True)
class DriftResult:
    """How long worlds stay right; worlds and controls by name."""

    at: dict[str, dict[str, Drifted]]
    """By horizon ("5s") and name."""
    counted: dict[str, Rate]
    """Of the episodes that count, by horizon."""
    time_to_failure: dict[str, Survival]
    """Of the object's error, over the episodes in which it is moved at any time; none fails where physics does not
    show it."""
    agent: str = ""
    """Under whose actions; empty for recorded ones."""


@dataclass(frozen=True)
class _Truth:
    """What physics did in E episodes of n steps."""

    episodes: Episodes
    way: np.ndarray
    """[E, n+1]: metres of the object from its start."""
    seen: np.ndarray
    counts: np.ndarray
    """bool [E, n+1]: physics shows the object, and counts the episode."""

    @classmethod
    def of(cls, episodes: Episodes, tracked: TrackedObject) -> _Truth:
        way, seen = displacement(episodes, tracked), tracked.in_sight(episodes)
        return cls(episodes, way, seen, (way >= MOVED) & seen)

    @property
    def moving(self) -> _Truth:
        """Of the episodes in which the object is moved at any time."""
        moves = np.flatnonzero((self.way >= MOVED).any(1))
        return _Truth(self.episodes.select(moves), self.way[moves], self.seen[moves], self.counts[moves])


def drift(
    roll_outs: dict[str, RollOut],
    episodes: Episodes,
    tracked: TrackedObject,
    decoder: Callable[[np.ndarray], np.ndarray],
    fps: float,
    seconds: tuple[float, ...] = (5, 15, 30),
    threshold: float = 0.03,
) -> DriftResult:
    """The drift of closed-loop roll-outs under recorded actions from physics, at so many seconds of simulated time.

    At each horizon those episodes count in which physics has then moved the object >= 5 cm from its start, so that a
    frozen frame is wrong in all of them, and shows it (behind the arm nobody could read it). Beside the world put
    `recorded` (the decoder's floor), `through(recorded, tokenizer)` (what the tokenizer can draw), `physics` with
    `tracked.perturbed` (the chaos floor) and the controls.

    Args:
        roll_outs: Worlds by name.
        episodes: Of the horizons' length at least.
        tracked: The object.
        decoder: Frames -> end-effector and object [..., D] in metres, the first `tracked.read` columns of
            `tracked.states` (`StateDecoder.read`); one that reads all columns gives the object's turn as well.
        fps: Steps a second.
        seconds: Horizons.
        threshold: Metres that the object may be off before a roll-out has failed.

    Raises:
        ValueError: Where the episodes are shorter than a horizon.
        Undefined: Where none of them counts at one.
    """
    steps = {f"{s:g}s": round(s * fps) for s in seconds}
    n = episodes.action.shape[1]
    if not all(1 <= t <= n for t in steps.values()):
        raise ValueError(
            f"seconds are {list(seconds)}, expected 1 step to {n / fps:g} s, the episodes' {n} steps at "
            f"{fps:g} fps; record longer ones: wm-gym record ENV_ID --episodes N --out DIR --env-kwargs "
            f"'{{\"max_episode_steps\": {max(steps.values())}}}'"
        )
    truth = _Truth.of(episodes.acting(episodes.action[:, : max(steps.values())]), tracked)
    for name, t in steps.items():
        if not truth.counts[:, t].any():
            raise Undefined(
                f"physics moves the object {100 * MOVED:g} cm and shows it in none of {len(truth.way)} episodes "
                f"at_{name}; record more, or others: wm-gym record ENV_ID --policy expert"
            )
    result = DriftResult(
        {name: {} for name in steps}, {name: rate(truth.counts[:, t]) for name, t in steps.items()}, {}
    )
    truth = truth.moving
    for name, roll_out in roll_outs.items():
        off, life = _drifted(roll_out(truth.episodes)["frame"], truth, tracked, decoder, steps)
        for horizon, numbers in off.items():
            result.at[horizon][name] = numbers
        result.time_to_failure[name] = time_to_failure(life, threshold, fps)
    return result


def _drifted(
    made: np.ndarray, truth: _Truth, tracked: TrackedObject, decoder: Callable, steps: dict[str, int]
) -> tuple[dict[str, Drifted], np.ndarray]:
    """The drift of made frames by horizon, and the object's error [E, n] in metres, inf where it is lost."""
    states, frames = tracked.states(truth.episodes), truth.episodes.frames
    found, lost = tracked.followed(decoder, made, truth.episodes)
    turn = tracked.yaw_error(found, states) if found.shape[-1] > tracked.read else None
    found = found[..., : tracked.read]
    hand, error = (
        np.linalg.norm((found - states[..., : tracked.read])[..., part], axis=-1)
        for part in (slice(tracked.hand), slice(tracked.hand, None))
    )
    life = np.where(truth.seen, np.where(lost, np.inf, error), 0)[:, 1:]
    error = np.where(lost, tracked.width, error)
    own = np.linalg.norm((found - found[:, :1])[..., tracked.hand :], axis=-1)
    result = {}
    for horizon, t in steps.items():
        on = truth.counts[:, t]
        pictures, true = made[on, t - 1], frames[on, t]
        masks, true_masks = tracked.mask(pictures), tracked.mask(true)
        colour = np.linalg.norm(mean_lab(pictures, masks) - mean_lab(true, true_masks), axis=-1)
        result[horizon] = Drifted(
            object_cm=median(100 * error[on, t]),
            end_effector_cm=median(100 * hand[on, t]),
            lost=rate(lost[on, t]),
            displacement=median(own[on, t] / truth.way[on, t]),
            mask_iou=mean(iou(masks, true_masks)),
            colour_distance=mean(np.where(lost[on, t], UNLIKE, colour)),
            psnr_db=mean(psnr(pictures, true)),
            yaw_deg=None if turn is None else median(np.where(lost, 180 / tracked.symmetry, turn)[on, t]),
        )
    return result, life


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union [E] of masks [E, H, W]; 1 where both are empty."""
    both, either = (a & b).sum((1, 2)), (a | b).sum((1, 2))
    return np.where(either > 0, both / np.maximum(either, 1), 1.0)


def mean_lab(frames: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """CIELAB colour [E, 3] of the mean sRGB colour under masks [E, H, W] of frames uint8 [E, H, W, 3]; NaN for none.

    White is D65 (IEC 61966-2-1 for sRGB, ISO/CIE 11664-4 for L*, a*, b*).
    """
    with np.errstate(invalid="ignore"):
        rgb = (frames * masks[..., None]).sum((1, 2)) / masks.sum((1, 2))[:, None] / 255
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = linear @ np.array([[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]])
    f = xyz / [0.9505, 1.0, 1.089]
    f = np.where(f > (6 / 29) ** 3, np.cbrt(f), f / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)
