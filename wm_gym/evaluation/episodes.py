"""From which starts, under which actions, is a world measured? Pieces of one length, cut from a recording."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from wm_gym.common.records import Undefined
from wm_gym.data.clips import ClipData


@dataclass(frozen=True)
class Episodes:
    """E starts, the actions taken from there and what physics made of them; row 0 is the start.

    Arrays are read from the recording when they are asked for: a selection costs nothing.
    """

    clips: ClipData
    rows: np.ndarray
    """int64 [E, n+1], of the recording."""
    action: np.ndarray
    """float32 [E, n, A]: the recorded ones, or others that a world is asked about (`acting`)."""

    @classmethod
    def of(cls, clips: ClipData, steps: int, every: int | None = None) -> Episodes:
        """The first `steps` steps of each episode; with `every`, pieces that begin every so many rows of it.

        Undefined where no episode is long enough.
        """
        length = np.diff(clips.episode_offset)
        starts = [
            np.arange(first, first + n - steps, every or n)
            for first, n in zip(clips.episode_offset[:-1], length)
            if n > steps
        ]
        if not starts:
            raise Undefined(
                f"no held-out episode has {steps} steps (the longest has {length.max() - 1}); record "
                "longer ones: wm-gym record ENV_ID --episodes N --out DIR --env-kwargs "
                f"'{{\"max_episode_steps\": {steps}}}'"
            )
        rows = np.concatenate(starts)[:, None] + np.arange(steps + 1)
        return cls(clips, rows, clips.action[rows[:, :-1]])

    @classmethod
    def whole(cls, clips: ClipData, most: int) -> Episodes:
        """The episodes of a recording, as long as half of them are and `most` at most; shorter ones are left out."""
        return cls.of(clips, max(1, min(most, int(np.median(np.diff(clips.episode_offset))) - 1)))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def frames(self) -> np.ndarray:
        """uint8 [E, n+1, H, W, 3]."""
        return self.clips.frames[self.rows]

    @property
    def proprioception(self) -> np.ndarray:
        """float32 [E, n+1, P]."""
        return self.clips.proprioception[self.rows]

    @property
    def physics_state(self) -> np.ndarray:
        """float64 [E, n+1, S]; Undefined where the recording holds none."""
        if self.clips.physics_state is None:
            raise Undefined(
                f"{self.clips.meta.get('dataset', 'the recording')} holds no physics states; record a "
                "physics twin: wm-gym record wm_gym/PushPyBullet-v0 --episodes N --out DIR"
            )
        return np.asarray(self.clips.physics_state)[self.rows]

    @property
    def number(self) -> np.ndarray:
        """int64 [E]: which episode of the recording each piece is from."""
        return np.searchsorted(self.clips.episode_offset, self.rows[:, 0], side="right") - 1

    def select(self, which: np.ndarray) -> Episodes:
        """Those of a mask [E], or of indices."""
        return replace(self, rows=self.rows[which], action=self.action[which])

    def acting(self, action: np.ndarray) -> Episodes:
        """The same starts under other actions [E, m, A], m <= n; ValueError for other shapes."""
        e, n, a = self.action.shape
        if action.ndim != 3 or (len(action), action.shape[2]) != (e, a) or not 1 <= action.shape[1] <= n:
            raise ValueError(f"actions of shape {list(action.shape)}; expected [{e}, 1 to {n} steps, {a}]")
        return replace(self, rows=self.rows[:, : action.shape[1] + 1], action=np.asarray(action, np.float32))

    def others(self, seed: int = 0) -> np.ndarray:
        """For each piece the index of a random one from another episode; Undefined where there is one episode."""
        number, rng = self.number, np.random.default_rng(seed)
        if not np.ptp(number):
            raise Undefined(
                f"all {len(self)} pieces are from episode {number[0]}: nothing to shuffle with; record "
                "at least 2 episodes"
            )
        return np.array([rng.choice(np.flatnonzero(number != own)) for own in number])

    def means(self, values: np.ndarray) -> np.ndarray:
        """Mean [episodes] of values [E] over the pieces of each episode: an episode is what is independent."""
        _, group = np.unique(self.number, return_inverse=True)
        return np.bincount(group, values) / np.bincount(group)
