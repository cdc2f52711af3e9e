"""How good is the violation detector? Violations drawn by the physics twin itself, into recorded episodes.

A recorded episode's physics states are changed from some step on and drawn again, so what the frames then show is known
to break one law: at which step, and by how much.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from wm_gym.common.records import Undefined
from wm_gym.common.statistics import Rate, rate
from wm_gym.evaluation.control_worlds import recorded
from wm_gym.evaluation.episodes import Episodes
from wm_gym.evaluation.metrics.violations import CLEAR, UNITS, WHOLE, Detector, Event
from wm_gym.physics.tracked import TrackedObject

LASTS = 6  # steps that a violation lasts, but for a teleport, which is one
JUMP, SLIDE = (0.04, 0.10), (0.01, 0.016)  # metres: of a teleport, and of a step without contact
STRAY, TWIN = 0.04, 0.13  # metres: the robot from where it should be at least, and a second object from the first
GROWN, AWAY = 0.012, 2.0  # metres to each side that the object grows or shrinks; out of the picture
LATE = 2  # steps after a violation in which finding it still counts
TRIES = 200


@dataclass(frozen=True)
class Injected:
    """Frames uint8 [E, n, H, W, 3] of episodes, each with a violation of `kind` in its steps first .. last (from 1)."""

    kind: str
    frames: np.ndarray
    first: np.ndarray
    last: np.ndarray
    which: np.ndarray
    """int64 [E]: which of the episodes asked for they are; those without room for the violation are left out."""


@dataclass(frozen=True)
class _Scene:
    """One recorded episode: frames [n+1, H, W, 3], physics states [n+1, S], hand and object [n+1, D] in metres, the
    object's pixels [n+1], and the lowest and highest place [D] of the object in the whole recording."""

    frames: np.ndarray
    states: np.ndarray
    hand: np.ndarray
    thing: np.ndarray
    area: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, one: Episodes, tracked: TrackedObject) -> _Scene:
        frames, states, columns = one.frames[0], one.physics_state[0], list(tracked.position)
        places = np.asarray(one.clips.physics_state)[:, columns]
        return cls(
            frames,
            states,
            one.proprioception[0][:, : tracked.hand],
            states[:, columns],
            tracked.mask(frames).sum((-2, -1)),
            places.min(0),
            places.max(0),
        )


class Injector:
    """Draws violations of every class with a physics twin (render_mode="rgb_array").

    The twin is to have `set_physics_state`, as wm-gym's own do, and a `TrackedObject`.
    """

    def __init__(self, env: gym.Env, tracked: TrackedObject, seed: int = 0):
        self.env: Any = env.unwrapped
        self.tracked, self.rng = tracked, np.random.default_rng(seed)

    def inject(self, kind: str, episodes: Episodes) -> Injected:
        """One violation of a class in each episode that has room for it."""
        if kind not in UNITS:
            raise ValueError(f"violation {kind!r} is unknown; choose one of {tuple(UNITS)}")
        steps = 1 if kind == "teleport" else LASTS
        drawn, first, which = [], [], []
        for e in range(len(episodes)):
            scene = _Scene.of(episodes.select(np.array([e])), self.tracked)
            for start in self.rng.permutation(np.arange(2, len(scene.states) - steps))[:TRIES]:
                changed = self._changed(kind, scene, int(start))
                if changed is not None:
                    drawn.append(changed[1:])
                    first.append(int(start))
                    which.append(e)
                    break
        if not drawn:
            raise ValueError(
                f"none of {len(episodes)} episodes has room for the violation {kind!r}; record more, or longer ones"
            )
        begun = np.array(first)
        return Injected(kind, np.stack(drawn), begun, begun + steps - 1, np.array(which))

    def _changed(self, kind: str, scene: _Scene, start: int) -> np.ndarray | None:
        """All frames with the violation from a step on; None where it cannot begin there."""
        window, made = slice(start, start + LASTS), scene.frames.copy()
        states, hand, thing, area = scene.states, scene.hand, scene.thing, scene.area
        if kind == "off its kinematics":
            far = [
                t
                for t in range(len(hand) - LASTS)
                if np.linalg.norm(hand[t : t + LASTS] - hand[window], axis=1).min() > STRAY
            ]
            if not far:
                return None
            elsewhere = int(self.rng.choice(far))
            for k in range(LASTS):
                state = states[start + k].copy()
                state[: self.tracked.joints] = states[elsewhere + k, : self.tracked.joints]
                made[start + k] = self._draw(state)
            return made
        if (area[max(start - 2, 0) : start + LASTS] < WHOLE * area[0]).any():
            return None  # the object is hidden: nobody could tell
        angle = self.rng.uniform(0, 2 * np.pi)
        way = np.array([np.cos(angle), np.sin(angle)])
        offsets = np.zeros((len(states), 2))
        if kind == "teleport":
            offsets[start:] = way * self.rng.uniform(*JUMP)
            return self._moved(scene, offsets, slice(start - 1, len(states)), clear=0.0)
        if kind == "motion without contact":
            offsets[window] = way * self.rng.uniform(*SLIDE) * np.arange(1, LASTS + 1)[:, None]
            offsets[window.stop :] = offsets[window.stop - 1]
            return self._moved(scene, offsets, slice(start - 1, start + LASTS), clear=2 * CLEAR)
        for t in range(start, start + LASTS):
            if kind == "interpenetration":
                made[t] = self._drawn_at(states[t], hand[t] + 0.02 * way)
            elif kind == "disappearance":
                made[t] = self._drawn_at(states[t], thing[t] + AWAY)
            elif kind == "duplication":
                other = self._drawn_at(states[t], thing[t] + TWIN * way)
                mask = self.tracked.mask(other)
                if mask.sum() < WHOLE * area[0]:
                    return None
                made[t][mask] = other[mask]
            else:
                made[t] = self._resized(states[t], thing[t], scene.frames[t], larger=angle > np.pi)
        return made

    def _moved(self, scene: _Scene, offsets: np.ndarray, window: slice, clear: float) -> np.ndarray | None:
        """Frames with the object off by offsets [n+1, 2]; None where it would leave the places it is recorded at in the
        window, or the hand would be nearer to it than `clear` metres."""
        moved = scene.thing + offsets
        inside = (moved[window] >= scene.low).all() and (moved[window] <= scene.high).all()
        if self.tracked.gap is None:
            raise Undefined("the twin does not say how far the end-effector is from its object (`TrackedObject.gap`)")
        apart = np.minimum(self.tracked.gap(scene.hand, moved), self.tracked.gap(scene.hand, scene.thing))[window]
        if not inside or (apart < clear).any():
            return None
        return np.stack(
            [
                self._drawn_at(state, place) if (offset != 0).any() else frame
                for state, place, offset, frame in zip(scene.states, moved, offsets, scene.frames)
            ]
        )

    def _resized(self, state: np.ndarray, place: np.ndarray, frame: np.ndarray, larger: bool) -> np.ndarray:
        """The object larger or smaller by `GROWN` to each side: the union of displaced drawings, or what they share."""
        corners = GROWN * np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])
        drawn = [self._drawn_at(state, place + corner) for corner in corners]
        masks = [self.tracked.mask(one) for one in drawn]
        made = frame.copy()
        if larger:
            for one, mask in zip(drawn, masks):
                made[mask] = one[mask]
            return made
        gone = self.tracked.mask(frame) & ~np.logical_and.reduce(masks)
        made[gone] = self._drawn_at(state, place + AWAY)[gone]
        return made

    def _drawn_at(self, state: np.ndarray, place: np.ndarray) -> np.ndarray:
        state = state.copy()
        state[list(self.tracked.position)] = place
        return self._draw(state)

    def _draw(self, state: np.ndarray) -> np.ndarray:
        self.env.set_physics_state(state)
        return self.env.render()


@dataclass(frozen=True)
class DetectorQuality:
    """How well a detector finds the violations of a class."""

    recall: Rate
    """Of injected violations, those of which an event of their class overlaps the steps, or begins up to 2 later."""
    false_events: int
    precision: float | None
    """Of all events that are theirs or wrong, those that are theirs."""


def detector_quality(
    detector: Detector,
    injector: Injector,
    episodes: Episodes,
    through: Callable[[np.ndarray], np.ndarray] = lambda frames: frames,
) -> dict[str, DetectorQuality]:
    """How good a detector is per class, and over all classes ("all"), on episodes that it was not fitted on.

    Each class is injected into every episode with room for it. Wrong are events in untouched episodes, and those
    before the violation begins in a touched one. through: frames [n, H, W, 3] -> frames, a tokenizer's round trip.
    """

    def events(frames: np.ndarray, some: Episodes) -> dict[str, list[Event]]:
        return detector.events(detector.severities(detector.read(np.stack([through(x) for x in frames]), some)))

    clean = events(recorded(episodes)["frame"], episodes)
    result: dict[str, DetectorQuality] = {}
    found_all: list[bool] = []
    false_all = sum(map(len, clean.values()))
    for kind in UNITS:
        made = injector.inject(kind, episodes)
        detected = events(made.frames, episodes.select(made.which))
        found = np.zeros(len(made.first), bool)
        for event in detected[kind]:
            i = event.episode
            found[i] |= event.first <= made.last[i] + LATE and event.last >= made.first[i]
        early = sum(event.last < made.first[event.episode] - 1 for some in detected.values() for event in some)
        false = len(clean[kind])
        result[kind] = DetectorQuality(rate(found), false, float(found.sum() / max(found.sum() + false, 1)))
        found_all += found.tolist()
        false_all += early
    hits = sum(found_all)
    return result | {"all": DetectorQuality(rate(found_all), false_all, hits / max(hits + false_all, 1))}
