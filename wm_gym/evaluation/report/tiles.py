"""Which few numbers stand first on a trust report?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from wm_gym.evaluation.metrics.survival import Survival
from wm_gym.evaluation.report.found import Found
from wm_gym.evaluation.report.numbers import percent
from wm_gym.evaluation.report.summary import longest, obedience, violation_floor

Tile: TypeAlias = tuple[str, str, str]
"""Whose it is ("world", "physics" or ""), a number, and what it is."""


def tiles(found: Found) -> Iterator[Tile]:
    """The main numbers."""
    calibrated = found.setting.calibration
    if calibrated:
        steps, fps = found.trust_horizon, found.setting.fps
        yield (
            "world",
            f"{steps / fps:g} s" if fps else f"{steps} steps",
            f"trust horizon from a start ({steps} steps, in {percent(1 - calibrated.alpha)} of episodes)",
        )
    if life := found.lifetime("world"):
        floor = found.lifetime("perturbed")
        beside = f"; perturbed physics: {_seconds(floor, 'no median')}" if floor else ""
        words = f"until half of the roll-outs have the object wrong{beside}"
        yield ("world", _seconds(life, f"> {life.seconds[-1]:g} s"), words)
    if found.drift:
        seconds, rows = longest(found.drift)
        lost = rows["world"].lost
        yield (
            "",
            f"{rows['world'].object_cm['median']:.1f} cm",
            f"off is the object after {seconds:g} s (median); lost in {percent(lost['rate'])} of {lost['n']}",
        )
    if obeyed := obedience(found):
        hits = obeyed.within_45
        yield ("", percent(hits["rate"]), f"of {hits['n']} commands carried out within 45 degrees")
    if found.uncertainty and found.uncertainty.coverage:
        stat = list(found.uncertainty.coverage.values())[-1]
        wanted = f" (guaranteed: {percent(1 - calibrated.alpha)})" if calibrated else ""
        yield ("", percent(stat["rate"]), f"of {stat['n']} episodes within the error bound{wanted}")
    if found.violations:
        broken = found.violations.violations
        of = {name: sum(each.per_100_frames for each in broken[name].values()) for name in broken}
        name = violation_floor(broken)
        words = "violations of physics in 100 frames" + (f" (floor: {of[name]:.2f})" if name else "")
        yield ("", f"{of['world']:.2f}", words)


def _seconds(life: Survival, otherwise: str) -> str:
    return otherwise if life.median_s is None else f"{life.median_s:g} s"
