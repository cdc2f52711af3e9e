"""Which options does the training of inverse dynamics take?"""

from __future__ import annotations

from dataclasses import dataclass

from wm_gym.common.options import Count


@dataclass(frozen=True)
class FitOptions:
    """How long inverse dynamics are trained, and on what at once."""

    updates: Count = 2000
    """Steps of the optimizer."""
    window: Count = 9
    """Frames that are looked at together."""
    batch: Count = 16
    """Windows an update."""
    seed: int = 0
    """Draws the first weights and the batches."""
    progress: bool = True
    """Show a bar."""
