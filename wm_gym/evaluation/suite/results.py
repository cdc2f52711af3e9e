"""What does each task of an evaluation give? The records that the suite writes and the trust report reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from wm_gym.common.records import Blank
from wm_gym.common.statistics import Mean
from wm_gym.evaluation.judges.attribution import JudgeErrors
from wm_gym.evaluation.metrics.control import DeltaPsnr, DirectionsResult, DistractorResult, LossRatio, Rest
from wm_gym.evaluation.metrics.drift import DriftResult
from wm_gym.evaluation.metrics.perceptual import Looks
from wm_gym.evaluation.metrics.violations import Broken
from wm_gym.evaluation.probes.inverse import InverseAccuracy, InverseError
from wm_gym.evaluation.ranking.policies import PoliciesResult
from wm_gym.evaluation.trust.injected import DetectorQuality
from wm_gym.evaluation.trust.uncertainty import ShiftSeen, UncertaintyResult
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


@dataclass(frozen=True)
class Distances:
    """Frechet Video Distances from true clips that end at one step."""

    n: int
    frames: int
    features: str
    of: dict[str, float]
    """By name; "floor" are other true clips."""


@dataclass(frozen=True)
class FidelityResult:
    """How close frames are to the true ones, by horizon ("at_{t}") and name."""

    episodes: int
    horizons: list[int]
    looks: dict[str, dict[str, Looks]] | Blank
    fvd: dict[str, Distances | Blank]


@dataclass(frozen=True)
class ControlResult:
    """What worlds and controls make of actions; None for what an earlier version did not measure."""

    delta_psnr: dict[str, DeltaPsnr] | None = None
    loss_ratio: dict[str, LossRatio] | None = None
    directions: DirectionsResult | None = None
    no_op: dict[str, Rest] | None = None
    distractor: DistractorResult | Blank | None = None


@dataclass(frozen=True)
class InverseResult:
    """Which actions the frames show: real ones, and by name those that were made, up to each horizon."""

    real: InverseAccuracy
    made: dict[str, dict[str, InverseError]]


@dataclass(frozen=True)
class PhysicsIQ:
    """Physics-IQ's score and the means of its parts."""

    score: float
    spatiotemporal_iou: Mean
    spatial_iou: Mean
    weighted_spatial_iou: Mean
    mse: Mean


@dataclass(frozen=True)
class PhysicsIQResult:
    """Physics-IQ against physics; the other take is a twin with other parameters, by so many times."""

    episodes: int
    other_take: dict[str, float]
    of: dict[str, PhysicsIQ]


@dataclass(frozen=True)
class WorstEvent:
    """One of the violations that exceed their limit most."""

    kind: str
    severity: float
    unit: str
    episode: int
    step: int
    frame: int
    """Which of the worst frames of the films shows it."""
    over_limit: float | None = None
    """The severity in multiples of the limit."""


@dataclass(frozen=True)
class ViolationsResult:
    """Which laws are broken, by name and class."""

    episodes: int
    steps: int
    violations: dict[str, dict[str, Broken]]
    limits: dict[str, float | None] = field(default_factory=dict)
    detector: dict[str, DetectorQuality] | None = None
    worst: list[WorstEvent] = field(default_factory=list)
    per_100_frames: dict[str, float] = field(default_factory=dict)
    """All classes together, by name."""


@dataclass(frozen=True)
class HiddenShift:
    """AUROC of one-step errors on true frames for a shift that no picture shows."""

    auroc: float


@dataclass(frozen=True)
class ShiftsResult:
    """Which shifts are noticed."""

    starts: int
    """Usual ones, and as many shifted ones each."""
    visible: dict[str, ShiftSeen | Blank]
    hidden: dict[str, HiddenShift | Blank]


RESULTS: dict[str, Any] = {
    "fidelity": FidelityResult,
    "drift": DriftResult,
    "agent_drift": DriftResult,
    "control": ControlResult,
    "inverse": InverseResult,
    "judge": JudgeErrors,
    "physics_iq": PhysicsIQResult,
    "violations": ViolationsResult,
    "uncertainty": UncertaintyResult,
    "shifts": ShiftsResult,
    "policies": PoliciesResult,
}
"""The record of each measurement, by the name of its file; "policies" is `evaluate_policies`'."""
