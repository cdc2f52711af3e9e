"""What does a judge pay? The gain in progress since the step before, and 1 where it calls success."""

from __future__ import annotations

import numpy as np

from wm_gym.common import accepted
from wm_gym.judges.base import Judge

TERMS = ("progress", "success")  # of the reward
SEEN = ("judge/score", "judge/progress")  # in `info`
STATE = ("judge/start", "judge/progress")  # of a running episode


class JudgedReward:
    """Running episodes ("slots") before a judge: where each began, and how far it had come.

    The reward of a step is progress_t - progress_(t-1) + success_t, the potential-based form (Ng et al. 1999) of the
    twins' own. A judge that fails changes nothing here: the same step can be judged again.
    """

    def __init__(self, judge: Judge, num_envs: int, frame_size: tuple[int, int]):
        self.judge = judge
        self.starts = np.zeros((num_envs, *frame_size, 3), np.uint8)
        self.progress = np.zeros(num_envs)

    def begin(self, slots: np.ndarray, frames: np.ndarray) -> dict[str, np.ndarray]:
        """Begin episodes.

        Args:
            slots: int [n], where.
            frames: uint8 [n, H, W, 3], their first frames.

        Returns:
            What `info` says of them, each [n].

        Raises:
            JudgeError: Where the judge fails; then nothing has changed.
        """
        scores = self.judge(frames, frames)
        self.starts[slots], self.progress[slots] = frames, scores.progress
        return {"judge/score": scores.score, "judge/progress": scores.progress}

    def step(
        self, frames: np.ndarray, active: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, np.ndarray]]:
        """Judge one step.

        Args:
            frames: uint8 [B, H, W, 3], where it led.
            active: bool [B], the slots that made it.

        Returns:
            The reward's terms {"progress", "success"} float64 [B], success bool [B], and what `info` says; zeros where
            no step was made.

        Raises:
            JudgeError: Where the judge fails; then nothing has changed.
        """
        score, progress, success = np.zeros(len(active)), self.progress.copy(), np.zeros(len(active), bool)
        if active.any():
            found = self.judge(frames[active], self.starts[active])
            score[active], progress[active], success[active] = found.score, found.progress, found.success
        terms = {"progress": progress - self.progress, "success": success.astype(np.float64)}
        self.progress = progress
        return terms, success, {"judge/score": score, "judge/progress": progress.copy()}

    def get_state(self, slot: int) -> dict[str, np.ndarray]:
        """A slot's part of a saved state."""
        return {"judge/start": self.starts[slot].copy(), "judge/progress": np.array(self.progress[slot])}

    def check_state(self, state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The part of a saved state that `get_state` wrote; ValueError naming the key that is wrong."""
        start = accepted.frame("world_state['judge/start']", state["judge/start"], self.starts.shape[1:])
        return {
            "judge/start": start,
            "judge/progress": np.array(accepted.number("world_state['judge/progress']", state["judge/progress"])),
        }

    def set_state(self, slot: int, state: dict[str, np.ndarray]) -> None:
        """Go on from what `check_state` gave."""
        self.starts[slot], self.progress[slot] = state["judge/start"], state["judge/progress"]
