"""What may be said of a world's error from its uncertainty? The numbers that `wm-gym calibrate` measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from wm_gym.common.files import write_json
from wm_gym.common.reading import Rule, check, many, read_mapping, real, text, whole

CALIBRATION_FILE = "calibration.json"
NUMBER = real(0, 1e9)
TRUST = Rule("1 to 10,000 rows of [uncertainty, steps], none negative", many(many(NUMBER, 2, 2), 1, 10_000).holds)
RANGES = {
    "alpha": real(0, 1, above=True),
    "factor": NUMBER,
    "limit": NUMBER,
    "tolerance": NUMBER,
    "trust": TRUST,
    "episodes": whole(0, 10**12),
    "steps": whole(0, 10**12),
    "measured_on": text(100_000),
}
"""What each field of `calibration.json` may be."""


@dataclass(frozen=True)
class Calibration:
    """Holds for episodes like those it was measured on: their policy, their looks, their physics.

    An error is the mean over a frame of |predicted - true latent|, an uncertainty what the world expects it to be.
    """

    alpha: float
    """What is said below holds in 1 - alpha of such episodes."""
    factor: float
    """error <= factor * uncertainty at every step of an episode, in 1 - alpha of them (split conformal)."""
    limit: float
    """The uncertainty that 1 - alpha of the episodes never pass: beyond it the world is not to be trusted."""
    tolerance: float
    """The error of a picture that is one step late; a larger one counts as wrong."""
    trust: list[list[float]]
    """Rows of [uncertainty, steps]: from there the error stays below the tolerance for so many steps, in 1 - alpha."""
    episodes: int
    steps: int
    measured_on: str
    """Which recording, and which policy acted in it."""

    def __post_init__(self) -> None:
        table = np.asarray(self.trust, float)
        if not 0 < self.alpha < 1 or table.ndim != 2 or table.shape[1] != 2 or (np.diff(table[:, 0]) <= 0).any():
            raise ValueError(
                f"a calibration with alpha={self.alpha} and trust of shape {list(table.shape)}; expected "
                "alpha in (0, 1) and rows of [uncertainty, steps], the uncertainty rising; measure it "
                "again: wm-gym calibrate WORLD DATASET"
            )

    def trust_horizon(self, uncertainty: np.ndarray) -> np.ndarray:
        """Further steps that may be trusted, int64 [B], at uncertainties [B]: those of the last row not above them."""
        uncertainties, steps = np.asarray(self.trust, float).T
        return steps[np.maximum(np.searchsorted(uncertainties, uncertainty, side="right") - 1, 0)].astype(np.int64)

    def save(self, folder: Path) -> None:
        """Write `calibration.json` into a world's folder."""
        write_json(folder / CALIBRATION_FILE, asdict(self), indent=1)

    @classmethod
    def load(cls, folder: Path) -> Calibration | None:
        """The calibration of a world's folder, None where it has none; ValueError where the file is damaged."""
        path = folder / CALIBRATION_FILE
        if not path.is_file():
            return None
        try:
            return cls(**check(path, read_mapping(path), RANGES, needed=tuple(RANGES)))
        except ValueError as error:
            raise ValueError(
                f"{path} is no calibration: {error}; remove it, or measure it again: wm-gym calibrate WORLD DATASET"
            ) from error
