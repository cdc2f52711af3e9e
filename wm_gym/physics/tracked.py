"""What must a measurement know of the object that a task moves? One description a task, `tracked` of its twin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from wm_gym.common.records import Undefined

SEEN = 0.3  # of the pixels that physics shows: with fewer the object is lost; and of those at the start: out of sight
OFF, TURNED = 0.002, np.radians(3)  # metres and radians of a perturbation


@dataclass(frozen=True)
class TrackedObject:
    """Where an object's pose is in the physics state, and how it is found in a picture.

    A twin says so with an attribute `tracked`; everything in `wm_gym.evaluation` that asks for an object takes it.
    """

    position: tuple[int, ...]
    """Columns of the physics state that are the object's position, metres."""
    width: float
    """Of the workspace, metres: the error of an object that is not found."""
    mask: Callable[[np.ndarray], np.ndarray]
    """Frames uint8 [..., H, W, 3] -> bool [..., H, W]: the object's pixels."""
    turn: tuple[int, int] | None = None
    """Columns that are z and w of its quaternion; None for what does not turn."""
    symmetry: int = 1
    """It looks the same this many times in a whole turn (4: a square)."""
    gap: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    """End-effector and object [..., D] -> metres between them, below 0 where one is in the other; None: not known."""
    joints: int = 21
    """So many leading columns of the physics state are the robot's."""
    hand: int = 2
    """So many leading dimensions of proprioception are the end-effector's position, metres, and so many leading
    dimensions of the action move it along them."""

    @property
    def read(self) -> int:
        """How many leading columns of `states` a state decoder is to read: end-effector and object position."""
        return self.hand + len(self.position)

    def states(self, source: Any) -> np.ndarray:
        """The states of a recording or of Episodes.

        Args:
            source: Has `physics_state` [..., S] and `proprioception` [..., P].

        Returns:
            float32 [..., D]: end-effector, object, and sin, cos of symmetry x yaw of an object that turns.
        """
        state, hand = np.asarray(source.physics_state), source.proprioception[..., : self.hand]
        parts = [hand, state[..., list(self.position)]]
        if self.turn:
            yaw = 2 * np.arctan2(state[..., self.turn[0]], state[..., self.turn[1]])
            parts += [np.sin(self.symmetry * yaw)[..., None], np.cos(self.symmetry * yaw)[..., None]]
        return np.concatenate(parts, axis=-1).astype(np.float32)

    def yaw_error(self, found: np.ndarray, true: np.ndarray) -> np.ndarray:
        """The angle between the turns of two `states`.

        Args:
            found: `states` [..., D].
            true: `states` [..., D].

        Returns:
            Degrees [...], 0 to 180 / symmetry.

        Raises:
            ValueError: Where the object does not turn or the states lack the turn.
        """
        if self.turn is None or min(found.shape[-1], true.shape[-1]) < self.read + 2:
            raise ValueError(
                f"states have {found.shape[-1]} and {true.shape[-1]} columns and turn is {self.turn}; "
                f"expected {self.read + 2} columns of an object that turns: train the decoder on all "
                "columns of TrackedObject.states"
            )
        yaw, true_yaw = (np.arctan2(x[..., self.read], x[..., self.read + 1]) for x in (found, true))
        return np.degrees(np.abs(np.angle(np.exp(1j * (yaw - true_yaw))))) / self.symmetry

    def perturbed(self, state: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A physics state [S] with the object 2 mm off in a random direction and turned by 3 degrees, either way.

        What has one coordinate goes forward: a shut drawer cannot be more shut.
        """
        off, angle = np.array(state, np.float64), rng.uniform(0, 2 * np.pi)
        way = np.array([np.cos(angle), np.sin(angle)])
        off[list(self.position[:2])] += OFF * (way if len(self.position) > 1 else 1)
        if self.turn:
            turn = np.arctan2(*off[list(self.turn)]) + rng.choice([-1, 1]) * TURNED / 2
            off[list(self.turn)] = np.sin(turn), np.cos(turn)
        return off

    def in_sight(self, episodes: Any) -> np.ndarray:
        """Where physics shows 0.3 of the pixels that it showed at the start, so that it can be read: bool [E, n+1]."""
        area = self.mask(episodes.frames).sum((-2, -1))
        return area >= np.maximum(SEEN * area[:, :1], 1)

    def followed(
        self, decoder: Callable[[np.ndarray], np.ndarray], made: np.ndarray, episodes: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where end-effector and object are in made frames.

        Args:
            decoder: Frames -> [..., D], as `fit_state_decoder` learns the first `read` columns of `states`, or all.
            made: Frames uint8 [E, n, H, W, 3].
            episodes: The Episodes of physics that they are of.

        Returns:
            `states` [E, n+1, D], row 0 those of physics; and lost bool [E, n+1]: less than 0.3 of the object's pixels
            that physics shows (never where physics shows none).
        """
        lost = self.mask(made).sum((-2, -1)) < SEEN * self.mask(episodes.frames[:, 1:]).sum((-2, -1))
        found = decoder(made)
        found = np.concatenate([self.states(episodes)[:, :1, : found.shape[-1]], found], axis=1)
        return found, np.concatenate([np.zeros((len(made), 1), bool), lost], axis=1)


def tracked_by(env: gym.Env) -> TrackedObject:
    """The object that a twin's task moves; Undefined where the twin names none."""
    found = getattr(env.unwrapped, "tracked", None)
    if found is None:
        name = env.spec.id if env.spec else type(env.unwrapped).__name__
        raise Undefined(
            f"{name} names no object that its task moves; give its environment (a twin's Task) an "
            "attribute `tracked = TrackedObject(...)` from wm_gym.physics.tracked"
        )
    return found


def displacement(episodes: Any, tracked: TrackedObject) -> np.ndarray:
    """The object's distance from its start in physics, metres [E, n+1]."""
    position = episodes.physics_state[..., list(tracked.position)]
    return np.linalg.norm(position - position[:, :1], axis=-1)


def yellow(frames: np.ndarray) -> np.ndarray:
    """The yellow of the shipped tasks' objects: frames uint8 [..., H, W, 3] -> bool [..., H, W]."""
    r, g, b = np.moveaxis(frames.astype(np.int16), -1, 0)
    return (r > 120) & (g > 80) & (r - b > 70) & (g - b > 40)
