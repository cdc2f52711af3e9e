"""What does a state pay that the recordings do not hold? A reward that explores, for worlds of numbers."""

from __future__ import annotations

import numpy as np
import torch

from wm_gym.worlds.world import World

NOVELTY = "novelty"
"""The `reward` of `EnvOptions` that this is, and its only term."""
NEIGHBOURS = 12


class Novelty:
    """log(1 + the mean distance to the nearest recorded states), as in active pre-training (arXiv 2103.04551, eq. 5).

    The recorded states are the world's bank of starts; distances are those of the coded numbers, in units of the
    median of the recorded states' own.

    Raises:
        ValueError: For a world without numbers, or without a bank.
    """

    def __init__(self, world: World) -> None:
        starts = world.starts
        if not world.spec.proprioception_dim or len(starts) <= NEIGHBOURS:
            raise ValueError(
                f"reward={NOVELTY!r} compares states of numbers with recorded ones, and the world {world.spec.name!r} "
                f"has {world.spec.proprioception_dim} numbers and {len(starts)} starts; take another reward"
            )
        self.code = world.dynamics.pose_code
        with torch.inference_mode():
            self.known = self.code(torch.from_numpy(np.array(starts.proprioception)[:, -1]))
            own = _nearest(self.known[:512], self.known, NEIGHBOURS + 1)[:, 1:].mean(1)  # without itself
        self.unit = float(own[own > 0].median()) if (own > 0).any() else 1.0

    @torch.inference_mode()
    def __call__(self, states: np.ndarray) -> np.ndarray:
        """The novelty float64 [B] of states float32 [B, P]."""
        far = _nearest(self.code(torch.from_numpy(states)), self.known, NEIGHBOURS).mean(1)
        return torch.log1p(far / self.unit).double().numpy()


def _nearest(states: torch.Tensor, known: torch.Tensor, count: int) -> torch.Tensor:
    """The distances [B, count] to the nearest of known states, ascending."""
    return torch.cdist(states, known).topk(count, dim=1, largest=False).values
