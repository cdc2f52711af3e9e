"""Which action was taken between two frames? A small network learned on real pairs, asked about generated ones.

held = Episodes.of(open_clips(HELD_OUT), 50)
inverse = fit_inverse(Episodes.of(open_clips(TRAIN), 50), held, views=world.tokenizer.round_trip)
inverse_accuracy(inverse, held, world.spec)
inverse_error({"world": learned(world), **control_worlds(learned(world), world.spec)}, held, inverse, (1, 10, 50))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torchmetrics.functional import r2_score

from wm_gym.common.statistics import Mean, mean
from wm_gym.evaluation.control_worlds import RollOut
from wm_gym.evaluation.episodes import Episodes
from wm_gym.evaluation.probes.state_decoder import FitOptions, fit_state_decoder
from wm_gym.models.inverse_dynamics import Pair
from wm_gym.worlds.spec import WorldSpec

Inverse = Callable[[np.ndarray], np.ndarray]
"""Pairs of frames uint8 [..., H, W, 6] (`pairs`) -> actions [..., A] (`StateDecoder.read`)."""


class OfTwo(nn.Module):
    """The network `Pair` of two frames that lie on each other: [B, 6, H, W] in [-1, 1] -> actions [B, A]."""

    def __init__(self, frame_size: tuple[int, int], action_dim: int):
        super().__init__()
        self.pair = Pair(frame_size, action_dim)

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        """The actions [B, A] of pairs [B, 6, H, W]."""
        return self.pair(seen.unflatten(1, (2, 3)))[:, 0]


class Pairs:
    """All (frame t, frame t+1) of Episodes as one array uint8 [N, H, W, 6], read when they are asked for."""

    def __init__(self, episodes: Episodes):
        self.frames, self.rows = episodes.clips.frames, episodes.rows[:, :-1].ravel()
        self.shape: tuple[int, ...] = (len(self.rows), *self.frames.shape[1:3], 2 * self.frames.shape[3])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, which: Any) -> np.ndarray:
        rows = self.rows[which]
        return np.concatenate([self.frames[rows], self.frames[rows + 1]], axis=-1)


def pairs(frames: np.ndarray) -> np.ndarray:
    """Frames [E, n+1, H, W, 3] -> each with the one after it, [E, n, H, W, 6]."""
    return np.concatenate([frames[:, :-1], frames[:, 1:]], axis=-1)


def fit_inverse(
    episodes: Episodes,
    held: Episodes,
    views: Callable[[np.ndarray], np.ndarray] | None = None,
    updates: int = 1000,
    batch: int = 64,
    seed: int = 0,
) -> Inverse:
    """Learn the actions of recorded episodes from their pairs of frames; returns `StateDecoder.read`.

    views: frames uint8 [N, H, W, 3] -> the same frames seen otherwise (the world's tokenizer's `round_trip`): half of
    each batch is shown so, so that a generated pair is not read wrong for how it is drawn.
    """

    def seen(some: np.ndarray) -> np.ndarray:
        assert views is not None
        return np.concatenate([views(some[..., :3]), views(some[..., 3:])], axis=-1)

    shown, known = Pairs(held), Pairs(episodes)
    some = np.linspace(0, len(shown) - 1, min(512, len(shown))).astype(int)
    actions, held_actions = (source.action.reshape(-1, source.action.shape[-1]) for source in (episodes, held))
    torch.manual_seed(seed)
    net = OfTwo((known.shape[1], known.shape[2]), actions.shape[1])
    options = FitOptions(seen if views else None, updates, batch, seed, net, rate=1e-2)
    return fit_state_decoder(known, actions, shown[some], held_actions[some], options).decoder.read


@dataclass(frozen=True)
class InverseAccuracy:
    """How well recorded actions are read from real pairs."""

    mae: dict[str, float]
    """By action dimension, in the action's unit."""
    r2: dict[str, float]
    """At most 1, 0 for always saying the mean."""
    strict: Mean
    """The share of steps with all dimensions within the tolerance."""


@dataclass(frozen=True)
class InverseError:
    """How wrongly the actions are read from made frames, means over episodes in the action's unit."""

    error: Mean
    excess: Mean
    """Less the same steps' error on the recording's frames."""


def inverse_accuracy(inverse: Inverse, episodes: Episodes, spec: WorldSpec, tolerance: float = 0.1) -> InverseAccuracy:
    """How well the recorded actions are read from real pairs: the floor of every error on generated ones.

    tolerance: of half a dimension's range.
    """
    found, true = inverse(pairs(episodes.frames)), episodes.action
    wrong, half = np.abs(found - true), np.subtract(spec.action_high, spec.action_low) / 2
    flat = [torch.from_numpy(np.asarray(x, np.float32).reshape(-1, x.shape[-1])) for x in (found, true)]
    r2 = np.atleast_1d(r2_score(flat[0], flat[1], multioutput="raw_values").numpy())
    return InverseAccuracy(
        mae={name: float(value) for name, value in zip(spec.action_names, wrong.mean((0, 1)))},
        r2={name: float(value) for name, value in zip(spec.action_names, r2)},
        strict=mean(episodes.means((wrong <= tolerance * half).all(-1).mean(1))),
    )


def inverse_error(
    roll_outs: dict[str, RollOut], episodes: Episodes, inverse: Inverse, horizons: tuple[int, ...] = (1, 10, 50)
) -> dict[str, dict[str, InverseError]]:
    """How wrongly actions are read from generated frames, beside real ones: do frames show what a world was given?

    The error of a step t is mean |action read from frames t-1 and t - recorded action| over dimensions, frame 0 the
    true start. Returns {name: {"at_1": InverseError, ...}}, up to each horizon from the one before it. Controls:
    `zero_action`, `frozen` and `shuffle`. ValueError for a horizon beyond the episodes.
    """
    n = episodes.action.shape[1]
    if not horizons or sorted(set(horizons)) != list(horizons) or not 1 <= horizons[0] <= horizons[-1] <= n:
        raise ValueError(f"horizons are {list(horizons)}, expected rising ones from 1 to {n}, the episodes' steps")
    frames = episodes.frames

    def wrong(shown: np.ndarray) -> np.ndarray:
        return np.abs(inverse(pairs(shown)) - episodes.action).mean(-1)

    real, result = wrong(frames), {}
    for name, roll_out in roll_outs.items():
        error = wrong(np.concatenate([frames[:, :1], roll_out(episodes)["frame"]], axis=1))
        result[name] = {
            f"at_{last}": InverseError(
                error=mean(episodes.means(error[:, first:last].mean(1))),
                excess=mean(episodes.means((error - real)[:, first:last].mean(1))),
            )
            for first, last in zip((0, *horizons), horizons)
        }
    return result
