"""Which actions come next, by trying many in a model? CEM and MPPI over sequences of actions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from wm_gym.common.options import Count
from wm_gym.common.reading import Table, one_of, real, whole

METHODS = ("cem", "mppi")
MOST_STEPS = 10**8  # that a search may imagine
RANGES: Table = {
    "method": one_of(*METHODS),
    "horizon": whole(1, 1000),
    "candidates": whole(2, 65536),
    "iterations": whole(1, 1000),
    "elites": whole(2, 65536),
    "hold": whole(1, 1000),
    "temperature": real(0, 1e6, above=True),
    "spread": real(0, 1e6, above=True),
}
"""What a search out of a file may be."""
Score = Callable[[np.ndarray], np.ndarray]
"""Actions float32 [N, H, A] -> what each sequence is worth, float [N]."""


@dataclass(frozen=True)
class Search:
    """How sequences of actions are searched; ValueError for what cannot be.

    Each iteration draws sequences around a mean, clips them to the action space, scores them, and moves mean and spread
    to the best. "cem" keeps elites and shifts the start (iCEM, Pinneri et al. 2020); "mppi" weighs the elites by
    exp((score - best) / temperature) (Williams et al. 2017, as in TD-MPC, Hansen et al. 2022).
    """

    method: Literal["cem", "mppi"] = "cem"
    "The cross-entropy method, or model-predictive path integrals."
    horizon: Count = 12
    "Steps that are looked ahead."
    candidates: Count = 64
    "Sequences of actions that are tried at a time."
    iterations: Count = 2
    "Times that they are tried."
    elites: Count = 8
    "The best sequences, which the next iteration is drawn around: 2 to `candidates`."
    hold: Count = 3
    "Steps that an action of a sequence is held."
    temperature: float = 0.1
    "Of mppi's weights, in units of the score."
    spread: float = 0.7
    "The first standard deviation, in half widths of the action space."

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method is {self.method!r}, expected one of {METHODS}")
        for name in ("horizon", "iterations", "hold"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        if not 2 <= self.elites <= self.candidates:
            raise ValueError(f"elites is {self.elites}, expected 2 to candidates = {self.candidates}")
        if (steps := self.horizon * self.candidates * self.iterations) > MOST_STEPS:
            raise ValueError(
                f"horizon x candidates x iterations is {steps:,}, expected at most {MOST_STEPS:,} "
                "imagined steps for one search"
            )
        for name in ("temperature", "spread"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a finite number > 0")

    @property
    def knots(self) -> int:
        """How many actions a sequence is made of."""
        return -(-self.horizon // self.hold)

    def best(
        self, score: Score, low: np.ndarray, high: np.ndarray, rng: np.random.Generator, guess: np.ndarray | None = None
    ) -> np.ndarray:
        """The best sequence of actions that was found: of cem the best of all, of mppi the last iteration's mean.

        Args:
            score: What sequences are worth.
            low: The least action [A].
            high: The largest action [A].
            rng: What sequences are drawn with.
            guess: Where the search begins [H, A]; None for the middle of the box.

        Returns:
            Actions float32 [H, A].

        Raises:
            ValueError: For a score that is not finite.
        """
        half, middle = (high - low) / 2, (high + low) / 2
        mean = np.tile(middle, (self.knots, 1)) if guess is None else guess[:: self.hold]
        std = np.tile(self.spread * half, (self.knots, 1))
        kept, best, best_value = mean[None], np.empty(0, np.float32), -np.inf
        for _ in range(self.iterations):
            drawn = rng.normal(mean, std, (self.candidates - len(kept), *mean.shape))
            knots = np.concatenate([kept, np.clip(drawn, low, high)])
            actions = knots.repeat(self.hold, axis=1)[:, : self.horizon].astype(np.float32)
            values = np.asarray(score(actions), np.float64)
            if not np.isfinite(values).all():
                raise ValueError(
                    f"the score of {int((~np.isfinite(values)).sum())} of {len(values)} sequences of "
                    "actions is not finite; look at the world's frames with wm-gym evaluate WORLD"
                )
            order = np.argsort(-values)[: self.elites]
            if values[order[0]] > best_value:
                best, best_value = actions[order[0]], values[order[0]]
            elite, kept = knots[order], knots[order[: max(1, self.elites // 4)]]
            weights = np.ones(len(order))
            if self.method == "mppi":
                weights = np.exp((values[order] - values[order[0]]) / self.temperature)
            weights = (weights / weights.sum())[:, None, None]
            mean = (weights * elite).sum(0)
            std = np.sqrt((weights * (elite - mean) ** 2).sum(0)) + 0.05 * half
        return best if self.method == "cem" else mean.repeat(self.hold, axis=0)[: self.horizon].astype(np.float32)
