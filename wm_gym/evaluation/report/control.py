"""Does it obey? A trust report's sections on what the world makes of actions."""

from __future__ import annotations

from wm_gym.common.page import picture, text
from wm_gym.common.records import Blank
from wm_gym.common.statistics import Ratio
from wm_gym.evaluation.metrics.control import DeltaPsnr, DirectionsResult, DistractorResult, LossRatio, Rest
from wm_gym.evaluation.report import figures as figures
from wm_gym.evaluation.report.figures import name_of
from wm_gym.evaluation.report.found import Found
from wm_gym.evaluation.report.numbers import cell, note, percent, row, share_cell, stated, table
from wm_gym.evaluation.suite.results import ControlResult, InverseResult


def control(data: ControlResult, found: Found) -> str:
    """Delta-PSNR, directions and rest."""
    parts = [
        _delta_psnr(data.delta_psnr) if data.delta_psnr else "",
        _loss_ratio(data.loss_ratio) if data.loss_ratio else "",
        _directions(data.directions) if data.directions else "",
        _no_op(data.no_op) if data.no_op else "",
        _distractor(data.distractor) if data.distractor else "",
    ]
    return "\n".join(part for part in parts if part)


def _delta_psnr(of: dict[str, DeltaPsnr]) -> str:
    rows = [
        row(name_of(name), [cell(each) for each in (one.random, one.shuffled, one.mirrored, one.psnr_true_db)], name)
        for name, one in of.items()
    ]
    others = {name: one for name, one in of.items() if name != "physics"}
    drawn = [
        ("random", {name: one.random for name, one in others.items()}),
        ("shuffled", {name: one.shuffled for name, one in others.items()}),
        ("mirrored", {name: one.mirrored for name, one in others.items()}),
    ]
    figure = figures.intervals(drawn, "PSNR lost under other actions, dB", line=0)
    return f"""<h3>Does it matter which actions it is given?</h3>
<p>PSNR under the true actions less PSNR under others, four steps on by default. 0 dB is a world that does
not listen; the tokenizer's row is the most that a perfect world could show.</p>
{picture(figure, "PSNR lost under other actions, with 95 % intervals")}
{table(["", "random, dB", "another episode's, dB", "mirrored, dB", "PSNR with the true ones"], rows)}"""


def _loss_ratio(of: dict[str, LossRatio]) -> str:
    rows = [row(name_of(name), [_ratio(one.ratio, "no loss")], name) for name, one in of.items()]
    return f"""<h3>How much worse is it when given another episode's actions?</h3>
<p>Its squared error after one step then, over that under the true actions. 1 is a world that does not listen.</p>
{table(["", "shuffled / true"], rows)}"""


def _distractor(data: DistractorResult | Blank) -> str:
    if isinstance(data, Blank):
        return f"<h3>Does it take for its own what moves by itself?</h3><p>Undefined: {text(data.undefined)}</p>"
    rows = [
        row(name_of(name), [_ratio(one.attributed, "nothing changes"), _ratio(one.moved, "nothing moves")], name)
        for name, one in data.of.items()
    ]
    return f"""<h3>Does it take for its own what moves by itself?</h3>
<p>A post that no recording shows moves in a circle, away from the robot: {stated(data.counted)} of
{data.counted["n"]} starts show it so. Attributed is the share of what changes there that depends on the action;
moved is what changes, over what changes in physics. From one picture no world can know that something moves.</p>
{table(["", "attributed", "moved"], rows)}"""


def _ratio(stat: Ratio, why: str) -> str:
    if stat["ratio"] is None:
        return cell(None, 2, why)
    between = "" if stat["low"] is None else f"<small>{stat['low']:.2f} to {stat['high']:.2f}</small>"
    return f"<td>{stat['ratio']:.2f}{between}</td>"


def _directions(data: DirectionsResult) -> str:
    drawn = [
        (words, {name: sources[source].within_45 for name, sources in data.of.items() if source in sources})
        for source, words in (("frames", "read off frames"), ("proprioception", "stated pose"))
    ]
    drawn = [(words, stats) for words, stats in drawn if stats]
    figure = figures.intervals(drawn, "within 45 degrees of the command, %", 100, limits=(-3, 103))
    rows = [
        row(
            f"{name_of(name)}, {'read off frames' if source == 'frames' else 'stated pose'}",
            [
                cell(one.same_side),
                cell(one.within_45),
                share_cell(one.chance_within_45, "one start only"),
                cell(one.along_cm),
            ],
            name,
        )
        for name, sources in data.of.items()
        for source, one in sources.items()
    ]
    carried = data.carried_out_by_physics
    only = f" Only commands that physics carries out count: {stated(carried)} of {carried['n']}." if carried else ""
    return f"""<h3>Does it go where it is sent?</h3>
<p>One random direction a start, commanded at full scale.{text(only)}</p>
{picture(figure, "commands carried out within 45 degrees, with 95 % intervals")}
{table(["", "right side", "within 45 degrees", "by chance", "along the command, cm"], rows)}"""


def _no_op(of: dict[str, Rest]) -> str:
    rows = [
        row(
            name_of(name),
            [
                cell(one.frame_change, 2),
                cell(one.flicker, 2),
                cell(one.frames_cm, 2, "not predicted"),
                cell(one.proprioception_cm, 2, "not predicted"),
            ],
            name,
        )
        for name, one in of.items()
    ]
    return f"""<h3>Does nothing move under zero actions?</h3>
<p>The same starts under zero actions.</p>
{table(["", "change of the frame", "flicker", "end-effector read, cm", "end-effector stated, cm"], rows)}
{
        note(
            "Change and flicker: mean absolute difference to the start and to the frame before, of 255 levels. Drawing a "
            "start through the tokenizer changes it once: that is the floor. Displacements: medians."
        )
    }"""


def inverse(data: InverseResult, found: Found) -> str:
    """The actions that frames show."""
    keys = list(data.made["world"])
    rows = [
        row(name_of(name), [cell(errors[key].excess, 3) for key in keys], name) for name, errors in data.made.items()
    ]
    real = "; ".join(
        f"{text(name)}: mean error {error:.3f}, R² {data.real.r2[name]:.2f}" for name, error in data.real.mae.items()
    )
    return f"""<p>A network reads the action off two frames in a row. On true frames {real}; all within a tenth of the
range in {percent(data.real.strict["mean"])} of steps. On made frames its error is larger by:</p>
{table(["", *(f"up to step {key.split('_')[-1]}" for key in keys)], rows)}
{
        note(
            "In the action's unit, means over episodes with 95 % intervals; 0 is a world whose frames show the actions that "
            "it was given as plainly as true frames do."
        )
    }"""
