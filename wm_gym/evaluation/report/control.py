"""Does it obey? A trust report's sections on what the world makes of actions."""

from __future__ import annotations

from markupsafe import Markup

from wm_gym.common.page import fill, picture
from wm_gym.common.records import Blank
from wm_gym.common.statistics import Ratio
from wm_gym.evaluation.metrics.control import DeltaPsnr, DirectionsResult, DistractorResult
from wm_gym.evaluation.report import figures as figures
from wm_gym.evaluation.report.found import Found
from wm_gym.evaluation.report.numbers import (
    Cell,
    Row,
    cell,
    name_of,
    number,
    percent,
    rows_of,
    share_cell,
    stated,
    step_of,
)
from wm_gym.evaluation.suite.tasks import ControlResult, InverseResult


def control(data: ControlResult, found: Found) -> Markup:
    """Delta-PSNR, loss ratio, directions, rest and the distractor."""
    sent, moving = data.directions, data.distractor
    carried = sent.carried_out_by_physics if sent else None
    shown = moving if isinstance(moving, DistractorResult) else None
    return fill(
        "report/control.html",
        delta_psnr=rows_of(
            data.delta_psnr or {},
            lambda one: [cell(one.random), cell(one.shuffled), cell(one.mirrored), cell(one.psnr_true_db)],
        ),
        lost=_lost(data.delta_psnr) if data.delta_psnr else "",
        loss_ratio=rows_of(data.loss_ratio or {}, lambda one: [_ratio(one.ratio, "no loss")]),
        directions=_directions(sent) if sent else [],
        within_45=_within_45(sent) if sent else "",
        carried_out=f" Only commands that physics carries out count: {stated(carried)} of {carried['n']}."
        if carried
        else "",
        no_op=rows_of(
            data.no_op or {},
            lambda one: [
                cell(one.frame_change, 2),
                cell(one.flicker, 2),
                cell(one.frames_cm, 2, "not predicted"),
                cell(one.proprioception_cm, 2, "not predicted"),
            ],
        ),
        distractor=rows_of(
            shown.of if shown else {},
            lambda one: [_ratio(one.attributed, "nothing changes"), _ratio(one.moved, "nothing moves")],
        ),
        counted=f"{stated(shown.counted)} of {shown.counted['n']}" if shown else "",
        without_physics=data.without_physics,
        no_distractor=moving.undefined if isinstance(moving, Blank) else "",
    )


def _lost(of: dict[str, DeltaPsnr]) -> Markup:
    others = {name: one for name, one in of.items() if name != "physics"}
    drawn = [
        ("random", {name: one.random for name, one in others.items()}),
        ("shuffled", {name: one.shuffled for name, one in others.items()}),
        ("mirrored", {name: one.mirrored for name, one in others.items()}),
    ]
    figure = figures.intervals(drawn, "PSNR lost under other actions, dB", line=0)
    return picture(figure, "PSNR lost under other actions, with 95 % intervals")


def _ratio(stat: Ratio, why: str) -> Cell:
    if stat["ratio"] is None:
        return cell(None, 2, why)
    between = "" if stat["low"] is None else f"{stat['low']:.2f} to {number(stat['high'], 2)}"
    return Cell(f"{stat['ratio']:.2f}", between)


def _within_45(data: DirectionsResult) -> Markup:
    drawn = [
        (words, {name: sources[source].within_45 for name, sources in data.of.items() if source in sources})
        for source, words in (("frames", "read off frames"), ("proprioception", "stated pose"))
    ]
    shown = [(words, stats) for words, stats in drawn if stats]
    figure = figures.intervals(shown, "within 45 degrees of the command, %", 100, limits=(-3, 103))
    return picture(figure, "commands carried out within 45 degrees, with 95 % intervals")


def _directions(data: DirectionsResult) -> list[Row]:
    return [
        Row(
            f"{name_of(name)}, {'read off frames' if source == 'frames' else 'stated pose'}",
            [
                cell(one.same_side),
                cell(one.within_45),
                share_cell(one.chance_within_45, "one start only"),
                cell(one.along_cm),
            ],
            "world" * (name == "world"),
        )
        for name, sources in data.of.items()
        for source, one in sources.items()
    ]


def inverse(data: InverseResult, found: Found) -> Markup:
    """The actions that frames show."""
    keys = list(data.made["world"])
    return fill(
        "report/inverse.html",
        real="; ".join(
            f"{name}: mean error {error:.3f}, R² {data.real.r2[name]:.2f}" for name, error in data.real.mae.items()
        ),
        strict=percent(data.real.strict["mean"]),
        head=["", *(f"up to step {step_of(key)}" for key in keys)],
        rows=rows_of(data.made, lambda errors: [cell(errors[key].excess, 3) for key in keys]),
    )
