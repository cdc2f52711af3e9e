"""How can a twin differ from the one that was recorded? Changes of its looks and physics, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Shift:
    """How a twin differs from the one that recordings come from; the default differs in nothing."""

    size: float = 1.0
    """Of the loose objects: a factor on their width, their height stays."""
    colour: tuple[float, float, float] | None = None
    """Of the loose objects, RGB in [0, 1]."""
    light: tuple[float, float, float] = (0.2, -0.2, 1.0)
    """Direction that the light comes from."""
    ambient: float = 0.6
    """Light that comes from everywhere."""
    yaw: float = 0.0
    """Degrees that the camera is turned."""
    pitch: float = 0.0
    """Degrees that the camera is raised."""
    stranger: bool = False
    """An object that no recording shows lies somewhere on the table; nothing collides with it."""
    wanderer: bool = False
    """The same object, which moves in a circle by itself, whatever the robot does."""
    mass: float = 1.0
    """Of the loose objects: a factor."""
    friction: float = 1.0
    """Of the loose objects: a factor."""


VISIBLE = {
    "size": Shift(size=1.35),
    "colour": Shift(colour=(0.55, 0.2, 0.75)),
    "lighting": Shift(light=(-0.8, 0.5, 0.6), ambient=0.4),
    "camera": Shift(yaw=6.0, pitch=4.0),
    "stranger": Shift(stranger=True),
}
"""Shifts that one picture shows."""
HIDDEN = {"mass": Shift(mass=4.0), "friction": Shift(friction=0.3)}
"""Shifts that only motion shows."""
SHIFTS = {**VISIBLE, **HIDDEN, "wanderer": Shift(wanderer=True)}
"""The wanderer is the distractor of `wm_gym.evaluation.metrics.control`: no action moves it."""
OF_LOOSE_OBJECTS = ("size", "colour", "mass", "friction")


def as_shift(shift: Shift | Mapping[str, Any] | str | None) -> Shift:
    """The Shift that is meant.

    Args:
        shift: A Shift, one of the names in `SHIFTS`, some fields of `Shift`, or None for no shift.

    Raises:
        ValueError: For another name or field.
    """
    if shift is None or isinstance(shift, Shift):
        return shift or Shift()
    known = [field.name for field in fields(Shift)]
    if isinstance(shift, str):
        if shift not in SHIFTS:
            raise ValueError(
                f"shift={shift!r} is unknown; choose one of {sorted(SHIFTS)}, or give some of the fields {known}"
            )
        return SHIFTS[shift]
    if unknown := sorted(set(shift) - set(known)):
        raise ValueError(f"shift has no {unknown}; it has {known}")
    return Shift(**shift)
