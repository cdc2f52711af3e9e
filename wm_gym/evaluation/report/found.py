"""What does a folder of measurements hold? Their records, by the names of their files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np

from wm_gym.evaluation.metrics.drift import DriftResult
from wm_gym.evaluation.metrics.survival import Survival
from wm_gym.evaluation.ranking.policies import PoliciesResult
from wm_gym.evaluation.suite.setting import Setting
from wm_gym.evaluation.suite.tasks import TASKS, ControlResult, ShiftsResult, ViolationsResult
from wm_gym.evaluation.trust.uncertainty import UncertaintyResult

T = TypeVar("T")


def result_types() -> dict[str, Any]:
    """The dataclass of each measurement's result, by the name of its file; "policies" is `evaluate_policies`'."""
    return {name: task.result for name, task in TASKS.items()} | {"policies": PoliciesResult}


class _Result(Generic[T]):
    """An attribute of `Found`: the result of its name, None where it was not measured; TypeError for another type."""

    def __init__(self, kind: type[T]) -> None:
        self.kind = kind

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, found: Found, owner: type | None = None) -> T | None:
        result = found.results.get(self.name)
        if result is not None and not isinstance(result, self.kind):
            raise TypeError(f"{self.name} is a {type(result).__name__}, expected a {self.kind.__name__}")
        return result


@dataclass(frozen=True)
class Found:
    """The measurements of one world."""

    setting: Setting = Setting()
    films: dict[str, np.ndarray] | None = None
    """"world", "physics", "uncertainty" and, maybe, "worst_frames"."""
    results: Mapping[str, Any] = field(default_factory=dict)
    """Of `result_types`, by name; those that were measured."""
    undefined: Mapping[str, str] = field(default_factory=dict)
    """Why, of those that are undefined."""

    # Those that the report's summary is drawn from.
    drift = _Result(DriftResult)
    control = _Result(ControlResult)
    violations = _Result(ViolationsResult)
    uncertainty = _Result(UncertaintyResult)
    shifts = _Result(ShiftsResult)
    policies = _Result(PoliciesResult)

    def lifetime(self, name: str) -> Survival | None:
        """`time_to_failure` of a roll-out; None where it was not measured."""
        return self.drift.time_to_failure.get(name) if self.drift else None

    @property
    def trust_horizon(self) -> int:
        """The trust horizon from a start, in steps; 0 without a calibration."""
        calibrated = self.setting.calibration
        return int(calibrated.trust_horizon(np.zeros(1))[0]) if calibrated else 0
