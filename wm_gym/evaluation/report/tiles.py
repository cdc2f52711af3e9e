"""Which few numbers stand first on a trust report?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from wm_gym.evaluation.metrics.survival import Survival
from wm_gym.evaluation.report.found import Found
from wm_gym.evaluation.report.numbers import percent
from wm_gym.evaluation.report.summary import longest, obedience, seconds_of, violation_floor

Tile: TypeAlias = tuple[str, str, str]
"""Whose it is ("world", "physics" or ""), a number, and what it is."""


def tiles(found: Found) -> list[Tile]:
    """The main numbers."""
    return [
        each
        for rule in (_trust_tile, _life_tile, _lost_tile, _obeys_tile, _coverage_tile, _violation_tile)
        for each in rule(found)
    ]


def _trust_tile(found: Found) -> Iterator[Tile]:
    if calibrated := found.setting.calibration:
        steps, fps = found.trust_horizon, found.setting.fps
        yield (
            "world",
            f"{steps / fps:g} s" if fps else f"{steps} steps",
            f"trust horizon from a start ({steps} steps, in {percent(1 - calibrated.alpha)} of episodes)",
        )


def _life_tile(found: Found) -> Iterator[Tile]:
    if world := found.lifetime("world"):
        floor = found.lifetime("perturbed")
        beside = "" if not floor else "; perturbed physics: " + _seconds(floor)
        end = world.seconds[-1]
        yield ("world", _seconds(world, f"> {end:g} s"), f"until half of the roll-outs have the object wrong{beside}")


def _seconds(life: Survival, otherwise: str = "no median") -> str:
    return otherwise if life.median_s is None else f"{life.median_s:g} s"


def _lost_tile(found: Found) -> Iterator[Tile]:
    if found.drift:
        key = longest(found.drift)
        world = found.drift.at[key]["world"]
        yield (
            "",
            f"{world.object_cm['median']:.1f} cm",
            f"off is the object after {seconds_of(key):g} s (median); "
            f"lost in {percent(world.lost['rate'])} of {world.lost['n']}",
        )


def _obeys_tile(found: Found) -> Iterator[Tile]:
    if obeyed := obedience(found):
        hits = obeyed.within_45
        yield ("", percent(hits["rate"]), f"of {hits['n']} commands carried out within 45 degrees")


def _coverage_tile(found: Found) -> Iterator[Tile]:
    if found.uncertainty and found.uncertainty.coverage:
        stat = list(found.uncertainty.coverage.values())[-1]
        calibrated = found.setting.calibration
        wanted = f" (guaranteed: {percent(1 - calibrated.alpha)})" if calibrated else ""
        yield ("", percent(stat["rate"]), f"of {stat['n']} episodes within the error bound{wanted}")


def _violation_tile(found: Found) -> Iterator[Tile]:
    if not found.violations:
        return
    rows = found.violations.violations
    of = {name: sum(each.per_100_frames for each in rows[name].values()) for name in rows}
    floor = violation_floor(rows)
    yield (
        "",
        f"{of['world']:.2f}",
        "violations of physics in 100 frames" + (f" (floor: {of[floor]:.2f})" if floor else ""),
    )
