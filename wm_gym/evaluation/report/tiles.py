"""Which few numbers stand first on a trust report?"""

from __future__ import annotations

from wm_gym.common.page import tile
from wm_gym.evaluation.report.numbers import percent
from wm_gym.evaluation.report.summary import (
    Found,
    calibration,
    lifetime,
    longest,
    obeying,
    seconds_of,
    trust_horizon,
    violation_floor,
)


def tiles(found: Found) -> str:
    """The main numbers (HTML)."""
    return "".join(
        tile(*each)
        for rule in (_trust_tile, _life_tile, _lost_tile, _obeys_tile, _coverage_tile, _violation_tile)
        for each in rule(found)
    )


def _trust_tile(found: Found):
    if calibrated := calibration(found):
        steps, fps = trust_horizon(calibrated), found["setting"].get("fps")
        yield (
            "world",
            f"{steps / fps:g} s" if fps else f"{steps} steps",
            f"trust horizon from a start ({steps} steps, in {percent(1 - calibrated.alpha)} of episodes)",
        )


def _life_tile(found: Found):
    if world := lifetime(found, "world"):
        floor = lifetime(found, "perturbed")
        beside = "" if not floor else "; perturbed physics: " + _seconds(floor)
        end = world["seconds"][-1]
        yield ("world", _seconds(world, f"> {end:g} s"), f"until half of the roll-outs have the object wrong{beside}")


def _seconds(life: dict, otherwise: str = "no median") -> str:
    return otherwise if life["median_s"] is None else f"{life['median_s']:g} s"


def _lost_tile(found: Found):
    if "drift" in found:
        key = longest(found["drift"])
        world = found["drift"][key]["world"]
        yield (
            "",
            f"{world['object_cm']['median']:.1f} cm",
            f"off is the object after {seconds_of(key):g} s (median); "
            f"lost in {percent(world['lost']['rate'])} of {world['lost']['n']}",
        )


def _obeys_tile(found: Found):
    if rows := found.get("control", {}).get("directions", {}).get("world"):
        hits = obeying(rows)["within_45"]
        yield ("", percent(hits["rate"]), f"of {hits['n']} commands carried out within 45 degrees")


def _coverage_tile(found: Found):
    if kept := found.get("uncertainty", {}).get("coverage"):
        key, stat = list(kept.items())[-1]
        calibrated = calibration(found)
        wanted = f" (guaranteed: {percent(1 - calibrated.alpha)})" if calibrated else ""
        yield ("", percent(stat["rate"]), f"of {stat['n']} episodes within the error bound{wanted}")


def _violation_tile(found: Found):
    if "violations" not in found:
        return
    rows = found["violations"]["violations"]
    of = {name: sum(each["per_100_frames"] for each in rows[name].values()) for name in rows}
    floor = violation_floor(rows)
    yield (
        "",
        f"{of['world']:.2f}",
        "violations of physics in 100 frames" + (f" (floor: {of[floor]:.2f})" if floor else ""),
    )
