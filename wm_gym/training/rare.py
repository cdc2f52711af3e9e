"""Which transitions are few but decide? Ends of the task, successes, and rewards that are not the usual one."""

import numpy as np

from wm_gym.data.clips import ClipData

SHARE = 0.25
"""Of a batch that is drawn from them, and the largest share of all transitions that is still called rare."""
FEW = 16
"""Values of a reward that are all there are; a reward of more is a number of any size."""


def rare_transitions(clips: ClipData) -> np.ndarray:
    """Bool [N], by the row that a transition begins at: whether it ends the task, is the first success, or is paid
    unlike most; each only where it is rare."""
    last = np.zeros(len(clips.terminated), bool)
    last[clips.episode_offset[1:] - 1] = True
    total, rare = int((~last).sum()), np.zeros(len(last), bool)
    for chosen in (_next(clips.terminated), _begins(clips), _unusual(clips.reward.sum(1))):
        chosen &= ~last
        if chosen.sum() <= SHARE * total:
            rare |= chosen
    return rare


def usual_rewards(clips: ClipData) -> tuple[np.ndarray, np.ndarray]:
    """The usual value of each reward term, and half of the smallest difference of others from it, float32 [R] each.

    The second is 0 where no value is usual, and very large where there is no other.
    """
    paid = np.asarray(clips.reward, np.float32)[clips.transitions(range(len(clips)))]
    usual, near = np.zeros(paid.shape[1], np.float32), np.zeros(paid.shape[1], np.float32)
    for i, column in enumerate(paid.T):
        values, counts = np.unique(column, return_counts=True)
        usual[i] = values[counts.argmax()]
        others = np.abs(np.delete(values, counts.argmax()) - usual[i])
        if counts.max() >= (1 - SHARE) * len(column):
            near[i] = others.min() / 2 if len(others) else 1e30
    return usual, near


def reward_bounds(clips: ClipData) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest value that each reward term can have, float32 [R] each.

    Those recorded, where they are few; else half of what lies between them is added on each side.
    """
    paid = np.asarray(clips.reward, np.float32)[clips.transitions(range(len(clips)))]
    low, high = paid.min(0), paid.max(0)
    margin = np.array([0.5 * (len(np.unique(column)) > FEW) for column in paid.T], np.float32) * (high - low)
    return low - margin, high + margin


def best_threshold(probability: np.ndarray, truth: np.ndarray) -> float:
    """The probability from which on to say yes, with the largest F1; 0.5 where no other is better.

    Args:
        probability: Of n events, float [n].
        truth: Which of them happened, bool [n].
    """
    order = np.argsort(-probability, kind="stable")
    sure, hits = probability[order].astype(np.float64), np.cumsum(truth[order])
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + truth.sum())
    f1[:-1][sure[:-1] == sure[1:]] = 0.0  # no threshold lies between equals
    best = np.flatnonzero(f1 >= f1.max(initial=0.0) - 1e-12)
    below = np.append(sure, 0.0)[best + 1]
    middles = (sure[best] + below) / 2
    return float(middles[np.argmin(np.abs(middles - 0.5))]) if len(middles) and truth.any() else 0.5


def _next(flags: np.ndarray) -> np.ndarray:
    return np.append(flags[1:], False).astype(bool)


def _begins(clips: ClipData) -> np.ndarray:
    """Transitions that lead to success from where there was none."""
    if not clips.meta["has_success"]:
        return np.zeros(len(clips.success), bool)
    success = np.nan_to_num(np.asarray(clips.success, np.float32)) > 0.5
    return _next(success) & ~success


def _unusual(reward: np.ndarray) -> np.ndarray:
    values, counts = np.unique(reward, return_counts=True)
    return reward != values[counts.argmax()]
