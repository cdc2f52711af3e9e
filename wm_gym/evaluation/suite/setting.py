"""What are the results of an evaluation about? The record that the suite writes and the trust report reads."""

from __future__ import annotations

from dataclasses import dataclass

from wm_gym.worlds.calibration import Calibration


@dataclass(frozen=True)
class Setting:
    """What the results are about; None where it is not known."""

    world: str | None = None
    world_folder: str | None = None
    twin: str | None = None
    episodes: int | None = None
    fps: float | None = None
    horizon: int | None = None
    seed: int | None = None
    trained_on: str | None = None
    calibration: Calibration | None = None
