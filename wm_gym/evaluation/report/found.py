"""What does a folder of measurements hold? Their records; None for what was not measured."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from wm_gym.evaluation.judges.attribution import JudgeErrors
from wm_gym.evaluation.metrics.drift import DriftResult
from wm_gym.evaluation.metrics.survival import Survival
from wm_gym.evaluation.ranking.policies import PoliciesResult
from wm_gym.evaluation.suite.results import (
    ControlResult,
    FidelityResult,
    InverseResult,
    PhysicsIQResult,
    Setting,
    ShiftsResult,
    ViolationsResult,
)
from wm_gym.evaluation.trust.uncertainty import UncertaintyResult


@dataclass(frozen=True)
class Found:
    """The measurements of one world, by the names of their files."""

    setting: Setting = Setting()
    films: dict[str, np.ndarray] | None = None
    """"world", "physics", "uncertainty" and, maybe, "worst_frames"."""
    fidelity: FidelityResult | None = None
    drift: DriftResult | None = None
    agent_drift: DriftResult | None = None
    control: ControlResult | None = None
    inverse: InverseResult | None = None
    judge: JudgeErrors | None = None
    physics_iq: PhysicsIQResult | None = None
    violations: ViolationsResult | None = None
    uncertainty: UncertaintyResult | None = None
    shifts: ShiftsResult | None = None
    policies: PoliciesResult | None = None
    undefined: dict[str, str] = field(default_factory=dict)
    """Why, of those that are undefined."""

    def lifetime(self, name: str) -> Survival | None:
        """`time_to_failure` of a roll-out; None where it was not measured."""
        return self.drift.time_to_failure.get(name) if self.drift else None

    @property
    def trust_horizon(self) -> int:
        """The trust horizon from a start, in steps; 0 without a calibration."""
        calibrated = self.setting.calibration
        return int(calibrated.trust_horizon(np.zeros(1))[0]) if calibrated else 0
