"""How does a state of numbers move? s' = s + f(s, a) in the code of the state; what is discrete stays discrete."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

LIMITS = {"width": 4096, "layers": 16}
"""The largest network that a config.json may ask for."""
LARGEST = float(torch.finfo(torch.float32).max)
"""A bound that bounds nothing."""
MOST_LEVELS = 16
"""Values of an integer that is learned as a choice among them; one of more is a number."""
STAY = 3.0
"""Logit by which an integer that is a choice stays as it is, before anything is learned."""


class Integrator(nn.Module):
    """The network f, scaled by how far each number of the code moves in a step, and what numbers a state can have:
    within bounds, some of them integers or one-hot choices.

    Args:
        sizes: "width" and "layers" of f, "groups": [[begin, end], ...] of the one-hot choices of the state, "whole":
            the places of its integers, and "levels": {place: values} of those integers that take few values, which are
            learned as choices (none where it is absent).
        code_dim: Numbers of the state's code.
        action_dim: Numbers of the action's code.
        dim: Numbers of the state.

    Raises:
        ValueError: For sizes that are wrong.
    """

    step: Tensor
    whole: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, sizes: Mapping[str, Any], code_dim: int, action_dim: int, dim: int):
        super().__init__()
        width, layers, self.groups, whole, levels = checked(sizes, dim)
        self.levels = Levels(levels, dim) if levels else None
        more = self.levels.size if self.levels else 0
        widths = [code_dim + action_dim + more, *[width] * (layers - 1)]
        body = [part for a, b in zip(widths, widths[1:]) for part in (nn.Linear(a, b), nn.SiLU())]
        last = nn.Linear(widths[-1], code_dim + more)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.net = nn.Sequential(*body, last)
        self.register_buffer("step", torch.ones(code_dim))
        mask = torch.zeros(dim, dtype=torch.bool)
        mask[whole] = True
        self.register_buffer("whole", mask, persistent=False)
        self.register_buffer("low", torch.full((dim,), -LARGEST))
        self.register_buffer("high", torch.full((dim,), LARGEST))

    def forward(self, state: Tensor, code: Tensor, action: Tensor) -> tuple[Tensor, Tensor | None]:
        """What is added to the code [B, C] of states [B, P] under coded actions [B, A], and the logits of `levels`."""
        if self.levels is None:
            return self.step * self.net(torch.cat([code, action], dim=1)), None
        now = self.levels.encode(state)
        out = self.net(torch.cat([code, action, now], dim=1))
        return self.step * out[:, : code.shape[1]], out[:, code.shape[1] :] + STAY * now

    def snap(self, state: Tensor, logits: Tensor | None = None) -> Tensor:
        """States [B, P] within bounds, integers rounded, choices one-hot; gradients pass as if nothing was done.

        Args:
            state: What `forward` gave, added.
            logits: Of the levels, whose values are the likeliest ones.
        """
        if self.levels is not None and logits is not None:
            state = self.levels.decode(state, logits)
        snapped = state.clamp(self.low, self.high)
        snapped = torch.where(self.whole, snapped.round(), snapped)
        parts, done = [], 0
        for begin, end in self.groups:
            chosen = snapped[:, begin:end].argmax(1, keepdim=True)
            parts += [snapped[:, done:begin], torch.zeros_like(snapped[:, begin:end]).scatter(1, chosen, 1.0)]
            done = end
        snapped = torch.cat([*parts, snapped[:, done:]], dim=1) if parts else snapped
        return state + (snapped - state).detach()


class Levels(nn.Module):
    """Integers that take few values, each as a choice among them.

    Args:
        levels: The ascending values of each place of the state.
        dim: Numbers of the state.
    """

    table: Tensor
    index: Tensor
    real: Tensor
    taken: Tensor

    def __init__(self, levels: Mapping[int, Sequence[float]], dim: int):
        super().__init__()
        self.places, most = list(levels), max(map(len, levels.values()))
        sizes = [len(values) for values in levels.values()]
        self.size = sum(sizes)
        ends = list(itertools.accumulate(sizes, initial=0))
        index = [[begin + k if k < size else self.size for k in range(most)] for begin, size in zip(ends, sizes)]
        real = [most * i + k for i, size in enumerate(sizes) for k in range(size)]
        taken = {place: dim + i for i, place in enumerate(self.places)}
        filled = [[*values, *[math.inf] * (most - len(values))] for values in levels.values()]
        self.register_buffer("table", torch.tensor(filled), persistent=False)
        self.register_buffer("index", torch.tensor(index), persistent=False)
        self.register_buffer("real", torch.tensor(real), persistent=False)
        self.register_buffer("taken", torch.tensor([taken.get(p, p) for p in range(dim)]), persistent=False)

    def which(self, state: Tensor) -> Tensor:
        """The nearest level [B, n] of each place of states [B, P]."""
        return (state[:, self.places, None] - self.table).abs().argmin(2)

    def encode(self, state: Tensor) -> Tensor:
        """The levels of states [B, P], one-hot [B, size]."""
        chosen = self.which(state)[..., None] == torch.arange(self.table.shape[1], device=state.device)
        return chosen.to(state.dtype).flatten(1)[:, self.real]

    def padded(self, logits: Tensor) -> Tensor:
        """Logits [B, size] as [B, n, most], -inf where a place has fewer."""
        none = torch.full_like(logits[:, :1], -math.inf)
        return torch.cat([logits, none], dim=1)[:, self.index.flatten()].view(len(logits), *self.index.shape)

    def decode(self, state: Tensor, logits: Tensor) -> Tensor:
        """States [B, P] with the likeliest level of each place."""
        chosen = self.padded(logits).argmax(2, keepdim=True)
        values = self.table.expand(len(state), -1, -1).gather(2, chosen)[..., 0]
        return torch.cat([state, values.to(state)], dim=1)[:, self.taken]


def levels_of(numbers: np.ndarray, whole: Sequence[int]) -> dict[int, list[float]]:
    """The values of those places of states [N, P] in `whole` that take 2 to `MOST_LEVELS` of them."""
    found = {place: np.unique(numbers[:, place]).tolist() for place in whole}
    return {place: values for place, values in found.items() if 2 <= len(values) <= MOST_LEVELS}


def checked(
    sizes: Mapping[str, Any], dim: int
) -> tuple[int, int, list[tuple[int, int]], list[int], dict[int, list[float]]]:
    """Width, layers, groups, whole places and levels of an integrator's sizes; ValueError for what is wrong.

    Args:
        sizes: As `Integrator` takes them.
        dim: Numbers of the state.
    """
    try:
        width, layers = (int(sizes[key]) for key in ("width", "layers"))
        groups = [(int(begin), int(end)) for begin, end in sizes["groups"]]
        whole = [int(place) for place in sizes["whole"]]
        given = {int(place): [float(x) for x in values] for place, values in sizes.get("levels", {}).items()}
        levels = dict(sorted(given.items()))  # a saved config.json has its keys in another order
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"integrator is {sizes!r}, expected width, layers, groups and whole ({error!r})") from None
    if not 1 <= width <= LIMITS["width"] or not 2 <= layers <= LIMITS["layers"]:
        raise ValueError(
            f"integrator has width {width} and {layers} layers, expected 1 to {LIMITS['width']} and 2 to 16"
        )
    edges = [edge for group in groups for edge in group]
    ordered = all(a < b if i % 2 == 0 else a <= b for i, (a, b) in enumerate(zip(edges, edges[1:])))
    if not ordered or any(not 0 <= place <= dim for place in edges) or any(not 0 <= place < dim for place in whole):
        raise ValueError(f"integrator has groups {groups} and whole {whole}, expected ordered places in 0..{dim - 1}")
    few = all(
        2 <= len(v) <= MOST_LEVELS and v == sorted(set(v)) and abs(v[0]) + abs(v[-1]) < LARGEST for v in levels.values()
    )
    if not few or not set(levels) <= set(whole):
        raise ValueError(
            f"integrator has levels of {len(levels)} places, expected 2 to {MOST_LEVELS} ascending values of whole ones"
        )
    return width, layers, groups, whole, levels


def discrete_places(groups: Sequence[Sequence[int]]) -> list[int]:
    """The places of the numbers of one-hot choices."""
    return [place for begin, end in groups for place in range(begin, end)]
