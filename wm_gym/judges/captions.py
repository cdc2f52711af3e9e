"""What is true in a frame of a physics twin? Relations of its state, each with a margin, 0 where it begins to hold."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Margin = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Physics states [N, S], end-effector positions [N, 3] in metres -> margins [N]; 1 is `SCALE` metres beyond 0."""

SCALE = 0.03
GOAL, BLOCK = slice(21, 23), slice(23, 25)  # of a Push state: x, y
FRONT, SLID = slice(21, 23), 23  # of a Drawer state
BALL = slice(21, 24)  # of a Reach state
FACES = 0.065  # between the centres of foot and block where they touch
BAR = 0.065  # from the drawer's front to its handle


def _far(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.linalg.norm(a - b, axis=1)


def _goal(state: np.ndarray) -> np.ndarray:
    return _far(state[:, BLOCK], state[:, GOAL])


def _gap(state: np.ndarray, hand: np.ndarray) -> np.ndarray:
    return np.abs(hand[:, :2] - state[:, BLOCK]).max(1) - FACES


def _handle(state: np.ndarray) -> np.ndarray:
    return state[:, FRONT] - np.stack([BAR + state[:, SLID], np.zeros(len(state))], axis=1)


PLACES: dict[str, Margin] = {
    "block": lambda s, h: s[:, BLOCK],
    "goal": lambda s, h: s[:, GOAL],
    "handle": lambda s, h: _handle(s),
    "hand": lambda s, h: h[:, :2],
}
"""Where things are: x, y [N, 2]."""


def _sides(a: str, b: str) -> dict[str, Margin]:
    """On which side of a thing another one is in the picture, where +x is down and +y right."""

    def side(axis: int, sign: int) -> Margin:
        return lambda s, h: sign * (PLACES[a](s, h) - PLACES[b](s, h))[:, axis] / SCALE

    return {
        f"{a} left of {b}": side(1, -1),
        f"{a} right of {b}": side(1, 1),
        f"{a} above {b}": side(0, -1),
        f"{a} below {b}": side(0, 1),
    }


# The first relation of each task is its success.
RELATIONS: dict[str, dict[str, Margin]] = {
    "push": {
        "on goal": lambda s, h: (0.035 - _goal(s)) / SCALE,
        "near goal": lambda s, h: (0.10 - _goal(s)) / SCALE,
        "far from goal": lambda s, h: (_goal(s) - 0.12) / SCALE,
        **_sides("block", "goal"),
        "hand touches block": lambda s, h: (0.006 - _gap(s, h)) / SCALE,
        "hand away from block": lambda s, h: (_gap(s, h) - 0.03) / SCALE,
        **_sides("hand", "block"),
        **_sides("hand", "goal"),
        "hand over goal": lambda s, h: (0.04 - _far(h[:, :2], s[:, GOAL])) / SCALE,
    },
    "drawer": {
        "open": lambda s, h: (s[:, SLID] - 0.08) / SCALE,
        "closed": lambda s, h: (0.012 - s[:, SLID]) / SCALE,
        "half open": lambda s, h: np.minimum(s[:, SLID] - 0.02, 0.08 - s[:, SLID]) / SCALE,
        "hand at handle": lambda s, h: (0.05 - _far(h[:, :2], _handle(s))) / SCALE,
        "hand away from handle": lambda s, h: (_far(h[:, :2], _handle(s)) - 0.08) / SCALE,
        **_sides("hand", "handle"),
    },
    "reach": {
        "hand at ball": lambda s, h: (0.05 - _far(h, s[:, BALL])) / SCALE,
        "hand near ball": lambda s, h: (0.10 - _far(h, s[:, BALL])) / SCALE,
        "hand far from ball": lambda s, h: (_far(h, s[:, BALL]) - 0.15) / SCALE,
    },
}
HELD_OUT = ("hand right of block", "block below goal", "hand right of handle", "hand near ball")
"""Relations that the judge is never taught, so that it can be measured on them."""


def margins(task: str, states: np.ndarray, hands: np.ndarray) -> dict[str, np.ndarray]:
    """The margin of each of a task's relations.

    Args:
        task: "push", "drawer" or "reach".
        states: Physics states [N, S].
        hands: End-effector positions [N, 3], metres.

    Returns:
        Margins [N] by the relations' names.

    Raises:
        ValueError: For a task without relations.
    """
    if task not in RELATIONS:
        raise ValueError(f"the task {task!r} has no captions; those of {', '.join(RELATIONS)} have")
    return {name: margin(states, hands) for name, margin in RELATIONS[task].items()}
