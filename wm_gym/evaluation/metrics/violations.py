"""Which laws of physics do frames break, how often and how badly? Read off the frames, beside the twin's replay.

    floor = through(recorded, world.tokenizer)
    detector = Detector.fit(floor, calibration_episodes, tracked, decoder.read)
    violations({"world": learned(world), "floor": floor}, episodes, detector)

Not seen in one picture of a planar task: floating.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from wm_gym.common.statistics import Rate, rate
from wm_gym.evaluation.control_worlds import RollOut
from wm_gym.evaluation.episodes import Episodes
from wm_gym.evaluation.metrics.contact import steady
from wm_gym.physics.tracked import SEEN, TrackedObject

UNITS = {
    "off its kinematics": "cm",
    "teleport": "cm",
    "motion without contact": "cm",
    "interpenetration": "cm",
    "disappearance": "share",
    "duplication": "share",
    "change of size": "share",
}
"""Each class of violation, and what its severity is in (a share is of the object's pixels)."""
QUANTILE = 0.995  # of each severity on frames that break nothing, above which a frame is suspect
JUMPED = 1.25  # times the highest such step is a teleport: one frame alone tells of it
GONE = 1 - SEEN  # of its pixels are missing where an object has disappeared; with fewer it has changed its size
LASTING = 3  # so many suspect frames in a row are an event, but for a teleport
CLEAR = 0.015  # metres between end-effector and object: from farther away it is not touched within a step
SHOWN, WHOLE = 0.5, 0.8  # shares of the object's pixels at the start that must be seen for a question to be asked
NEAR = 0.02  # metres between where the object is and where physics has it, for their sizes to be compared


@dataclass(frozen=True)
class Readings:
    """What made frames show after a start, and what physics shows at the same times; metres and pixels."""

    hand: np.ndarray
    thing: np.ndarray
    """[E, n+1, D], row 0 is the true start."""
    step: np.ndarray
    """[E, n]: how far the object has moved, the lesser of what network and pixels say."""
    middle: np.ndarray
    """[E, n, D]: where the middle of the object's pixels is."""
    area: np.ndarray
    second: np.ndarray
    """[E, n]: pixels of the object in all, and of the largest piece at least its width away from the main one.

    Nearer pieces are what is seen of one object on both sides of an arm.
    """
    true_hand: np.ndarray
    true_thing: np.ndarray
    true_area: np.ndarray
    true_second: np.ndarray
    start_area: np.ndarray
    """[E, 1]"""

    @property
    def apart(self) -> np.ndarray:
        """[E, n]: metres between where the network and the object's pixels say that it is."""
        return np.linalg.norm(self.middle - self.thing[:, 1:], axis=-1)


@dataclass(frozen=True)
class Replay:
    """What physics did beside made frames: those of `Episodes` that a detector reads, each [E, n+1, ...]."""

    frames: np.ndarray
    physics_state: np.ndarray
    proprioception: np.ndarray


@dataclass(frozen=True)
class Event:
    """One violation: the piece it is in, its first and last step (from 1) and its highest excess over the limit."""

    episode: int
    first: int
    last: int
    excess: float


@dataclass(frozen=True)
class Detector:
    """Tells violations from what the reading of frames itself gets wrong: a limit a class, fitted on right frames."""

    tracked: TrackedObject
    decoder: Callable[[np.ndarray], np.ndarray]
    place: np.ndarray
    """[3, D]: the middle of the object's pixels (row, column, 1) to its position in metres."""
    unsure: float
    """Metres between the two readings of the position, above which nothing is said of it."""
    limits: dict[str, float]

    @classmethod
    def fit(cls, right: RollOut, episodes: Episodes, tracked: TrackedObject, decoder: Callable) -> Detector:
        """Limits from frames that break nothing: physics' own, as a world's tokenizer draws them.

        decoder: frames -> end-effector and object [..., D] in metres (`StateDecoder.read`), learned on other episodes.
        ValueError where the object is never seen.
        """
        made = right(episodes)["frame"]
        middle, seen = _middles(tracked.mask(made))
        position = tracked.states(episodes)[:, 1:, tracked.hand : tracked.read]
        if not seen.any():
            raise ValueError("the object is seen in none of the frames; is `mask` of the twin's TrackedObject right?")
        place = np.linalg.lstsq(middle[seen], position[seen], rcond=None)[0]
        readings = cls(tracked, decoder, place, np.inf, {}).read(made, episodes)
        draft = cls(tracked, decoder, place, float(np.quantile(readings.apart[seen], 0.99)), {})
        severities = draft.severities(readings)
        limits = {
            name: float(np.nanquantile(values, QUANTILE)) if np.isfinite(values).any() else np.inf
            for name, values in severities.items()
        }
        limits["teleport"] = JUMPED * float(np.nanmax(severities["teleport"]))
        limits["disappearance"] = max(limits["disappearance"], GONE)
        return cls(tracked, decoder, place, draft.unsure, limits)

    def read(self, made: np.ndarray, episodes: Episodes | Replay) -> Readings:
        """Readings of made frames uint8 [E, n, H, W, 3]."""
        tracked = self.tracked
        truth = tracked.states(episodes)[..., : tracked.read]
        found = np.concatenate([truth[:, :1], self.decoder(made)[..., : tracked.read]], axis=1)
        mask, true_mask = tracked.mask(made), tracked.mask(episodes.frames)
        width = widths(true_mask[:, :1])
        thing, middle = found[..., tracked.hand :], _middles(mask)[0] @ self.place
        middles = np.concatenate([_middles(true_mask[:, :1])[0] @ self.place, middle], axis=1)
        return Readings(
            hand=found[..., : tracked.hand],
            thing=thing,
            step=np.minimum(_steps(thing), _steps(middles)),
            middle=middle,
            area=mask.sum((-2, -1)),
            second=second_pieces(mask, width),
            true_hand=truth[..., : tracked.hand],
            true_thing=truth[..., tracked.hand :],
            true_area=true_mask[:, 1:].sum((-2, -1)),
            true_second=second_pieces(true_mask[:, 1:], width),
            start_area=true_mask[:, :1].sum((-2, -1)),
        )

    def severities(self, r: Readings) -> dict[str, np.ndarray]:
        """How badly each law is broken after each step, [E, n] in `UNITS`; NaN where nothing can be said."""
        sure = (r.area > 0) & (r.apart <= self.unsure) & (r.area >= SEEN * r.start_area)
        still_there = sure & np.pad(sure, ((0, 0), (1, 0)), constant_values=True)[:, :-1]
        step = 100 * r.step
        share = r.area / np.maximum(r.true_area, 1)
        near = np.linalg.norm(r.middle - r.true_thing[:, 1:], axis=-1) < NEAR
        same = near & (r.area > 0) & (r.true_area >= WHOLE * r.start_area)
        found = {
            "off its kinematics": 100 * np.linalg.norm(r.hand - r.true_hand, axis=-1)[:, 1:],
            "teleport": np.where(still_there, step, np.nan),
            "motion without contact": np.full(step.shape, np.nan),
            "interpenetration": np.full(step.shape, np.nan),
            "disappearance": np.where(r.true_area >= SHOWN * r.start_area, np.maximum(1 - share, 0), np.nan),
            "duplication": np.where(r.true_second == 0, r.second / r.start_area, np.nan),
            "change of size": np.where(same, np.abs(share - 1), np.nan),
        }
        if self.tracked.gap is not None:
            gap = self.tracked.gap(r.hand, r.thing)
            clear = np.minimum(gap, self.tracked.gap(r.true_hand, r.thing)) > CLEAR  # as read and as commanded
            open_view = clear & np.pad(r.area >= WHOLE * r.start_area, ((0, 0), (1, 0)), constant_values=True)
            away = still_there & open_view[:, 1:] & open_view[:, :-1]  # what passes before an object seems to move it
            found["motion without contact"] = np.where(away, step, np.nan)
            found["interpenetration"] = np.where(sure, 100 * np.maximum(-gap[:, 1:], 0), np.nan)
        return found

    def events(self, severities: dict[str, np.ndarray]) -> dict[str, list[Event]]:
        """Violations of each class. A jump is a teleport and no motion without contact; what is gone has no size."""
        suspect = {name: np.nan_to_num(values, nan=-1.0) > self.limits[name] for name, values in severities.items()}
        suspect["motion without contact"] &= ~suspect["teleport"]
        suspect["change of size"] &= ~suspect["disappearance"] & ~suspect["duplication"]
        return {
            name: [
                Event(e, a + 1, b, float(severities[name][e, a:b].max() - self.limits[name]))
                for e, a, b in _runs(mask)
                if b - a >= (1 if name == "teleport" else LASTING)
            ]
            for name, mask in suspect.items()
        }


@dataclass(frozen=True)
class Broken:
    """How often a law is broken, and how badly."""

    per_100_frames: float
    """Events."""
    episodes: Rate
    """Of the episodes with one."""
    excess_median: float | None
    excess_worst: float | None
    """Over the detector's limit, in `unit`; None without an event."""
    unit: str
    abstained: float
    """The share of frames of which nothing could be said."""


def violations(roll_outs: dict[str, RollOut], episodes: Episodes, detector: Detector) -> dict[str, dict[str, Broken]]:
    """How often each law is broken in each roll-out's frames, by name and class, under the recorded actions."""
    result: dict[str, dict[str, Broken]] = {}
    for name, roll_out in roll_outs.items():
        severities = detector.severities(detector.read(roll_out(episodes)["frame"], episodes))
        result[name] = {}
        for kind, events in detector.events(severities).items():
            excess = [event.excess for event in events]
            result[name][kind] = Broken(
                per_100_frames=100 * len(events) / severities[kind].size,
                episodes=rate(np.isin(np.arange(len(episodes)), [event.episode for event in events])),
                excess_median=float(np.median(excess)) if excess else None,
                excess_worst=max(excess, default=None),
                unit=UNITS[kind],
                abstained=float(np.isnan(severities[kind]).mean()),
            )
    return result


def _middles(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(row, column, 1) of the middle of masks [..., H, W] -> [..., 3], and where there is one, bool [...]."""
    area = mask.sum((-2, -1))
    rows, columns = np.arange(mask.shape[-2]), np.arange(mask.shape[-1])
    some = np.maximum(area, 1)
    return np.stack(
        [(mask.sum(-1) * rows).sum(-1) / some, (mask.sum(-2) * columns).sum(-1) / some, np.ones_like(some, float)],
        axis=-1,
    ), area > 0


def widths(mask: np.ndarray) -> np.ndarray:
    """Pixels of the longer side of the box around each mask [..., H, W]."""
    return np.maximum(mask.any(-1).sum(-1), mask.any(-2).sum(-1))


def second_pieces(mask: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Pixels of the largest connected piece of masks [E, n, H, W] whose middle is width [E, 1] from the main one's."""
    flat = mask.reshape(-1, *mask.shape[-2:])
    joined = np.zeros((3, 3, 3), int)
    joined[1] = 1  # pieces are connected within a picture, corners too
    labels, _ = ndimage.label(flat, joined)
    second = np.zeros(len(flat), int)
    for i, (one, far) in enumerate(zip(labels, np.broadcast_to(width, mask.shape[:2]).ravel())):
        pieces, sizes = np.unique(one[one > 0], return_counts=True)
        if len(pieces) > 1:
            middles = np.array(ndimage.center_of_mass(one > 0, one, pieces))
            apart = np.linalg.norm(middles - middles[sizes.argmax()], axis=1)
            second[i] = sizes[apart >= far].max(initial=0)
    return second.reshape(mask.shape[:2])


def _steps(positions: np.ndarray) -> np.ndarray:
    """Metres [E, n] from each position [E, n+1, D] to the next."""
    return np.linalg.norm(np.diff(steady(positions), axis=1), axis=-1)


def _runs(mask: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """(row, first, end) of each run of True in the rows of a mask [E, n]."""
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    for row, first, end in zip(*np.nonzero(edges == 1), np.nonzero(edges == -1)[1]):
        yield int(row), int(first), int(end)
