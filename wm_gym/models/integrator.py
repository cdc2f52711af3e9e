"""How does a state of numbers move? s' = s + f(s, a) in the code of the state; what is discrete stays discrete."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

LIMITS = {"width": 4096, "layers": 16}
"""The largest network that a config.json may ask for."""
LARGEST = float(torch.finfo(torch.float32).max)
"""A bound that bounds nothing."""


class Integrator(nn.Module):
    """The network f, scaled by how far each number of the code moves in a step, and what numbers a state can have:
    within bounds, some of them integers or one-hot choices.

    Args:
        sizes: "width" and "layers" of f, "groups": [[begin, end], ...] of the one-hot choices of the state, and
            "whole": the places of its integers.
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
        width, layers, self.groups, whole = checked(sizes, dim)
        widths = [code_dim + action_dim, *[width] * (layers - 1)]
        body = [part for a, b in zip(widths, widths[1:]) for part in (nn.Linear(a, b), nn.SiLU())]
        last = nn.Linear(widths[-1], code_dim)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.net = nn.Sequential(*body, last)
        self.register_buffer("step", torch.ones(code_dim))
        mask = torch.zeros(dim, dtype=torch.bool)
        mask[whole] = True
        self.register_buffer("whole", mask, persistent=False)
        self.register_buffer("low", torch.full((dim,), -LARGEST))
        self.register_buffer("high", torch.full((dim,), LARGEST))

    def forward(self, code: Tensor, action: Tensor) -> Tensor:
        """What is added to a state's code [B, C] under a coded action [B, A]: its change [B, C]."""
        return self.step * self.net(torch.cat([code, action], dim=1))

    def snap(self, state: Tensor) -> Tensor:
        """States [B, P] within bounds, integers rounded, choices one-hot; gradients pass as if nothing was done."""
        snapped = state.clamp(self.low, self.high)
        snapped = torch.where(self.whole, snapped.round(), snapped)
        parts, done = [], 0
        for begin, end in self.groups:
            chosen = snapped[:, begin:end].argmax(1, keepdim=True)
            parts += [snapped[:, done:begin], torch.zeros_like(snapped[:, begin:end]).scatter(1, chosen, 1.0)]
            done = end
        snapped = torch.cat([*parts, snapped[:, done:]], dim=1) if parts else snapped
        return state + (snapped - state).detach()


def checked(sizes: Mapping[str, Any], dim: int) -> tuple[int, int, list[tuple[int, int]], list[int]]:
    """Width, layers, groups and whole places of an integrator's sizes; ValueError for what is wrong.

    Args:
        sizes: As `Integrator` takes them.
        dim: Numbers of the state.
    """
    try:
        width, layers = (int(sizes[key]) for key in ("width", "layers"))
        groups = [(int(begin), int(end)) for begin, end in sizes["groups"]]
        whole = [int(place) for place in sizes["whole"]]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"integrator is {sizes!r}, expected width, layers, groups and whole ({error!r})") from None
    if not 1 <= width <= LIMITS["width"] or not 2 <= layers <= LIMITS["layers"]:
        raise ValueError(
            f"integrator has width {width} and {layers} layers, expected 1 to {LIMITS['width']} and 2 to 16"
        )
    edges = [edge for group in groups for edge in group]
    ordered = all(a < b if i % 2 == 0 else a <= b for i, (a, b) in enumerate(zip(edges, edges[1:])))
    if not ordered or any(not 0 <= place <= dim for place in edges) or any(not 0 <= place < dim for place in whole):
        raise ValueError(f"integrator has groups {groups} and whole {whole}, expected ordered places in 0..{dim - 1}")
    return width, layers, groups, whole


def discrete_places(groups: Sequence[Sequence[int]]) -> list[int]:
    """The places of the numbers of one-hot choices."""
    return [place for begin, end in groups for place in range(begin, end)]
