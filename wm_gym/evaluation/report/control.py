"""Does it obey? A trust report's sections on what the world makes of actions."""

from __future__ import annotations

from typing import Any

from wm_gym.common.page import picture, text
from wm_gym.evaluation.report import figures as figures
from wm_gym.evaluation.report.figures import name_of
from wm_gym.evaluation.report.numbers import cell, note, percent, row, share_cell, stated, table
from wm_gym.evaluation.report.summary import Found


def control(found: Found) -> str:
    """Delta-PSNR, directions and rest."""
    data = found["control"]
    parts = [
        part(data[key])
        for key, part in (
            ("delta_psnr", _delta_psnr),
            ("loss_ratio", _loss_ratio),
            ("directions", _directions),
            ("no_op", _no_op),
            ("distractor", _distractor),
        )
        if data.get(key)
    ]
    return "\n".join(parts)


def _delta_psnr(roll_outs: dict[str, Any]) -> str:
    kinds = ("random", "shuffled", "mirrored")
    rows = [
        row(name_of(name), [cell(stats[kind]) for kind in (*kinds, "psnr_true_db")], name)
        for name, stats in roll_outs.items()
    ]
    drawn = [(kind, {name: roll_outs[name][kind] for name in roll_outs if name != "physics"}) for kind in kinds]
    figure = figures.intervals(drawn, "PSNR lost under other actions, dB", line=0)
    return f"""<h3>Does it matter which actions it is given?</h3>
<p>PSNR under the true actions less PSNR under others, four steps on unless asked otherwise. 0 dB is a world that does
not listen; the tokenizer's row is the most that a perfect world could show.</p>
{picture(figure, "PSNR lost under other actions, with 95 % intervals")}
{table(["", "random, dB", "another episode's, dB", "mirrored, dB", "PSNR with the true ones"], rows)}"""


def _loss_ratio(roll_outs: dict[str, Any]) -> str:
    rows = [row(name_of(name), [_ratio(stats["ratio"], "no loss")], name) for name, stats in roll_outs.items()]
    return f"""<h3>How much worse is it when given another episode's actions?</h3>
<p>Its squared error after one step then, over that under the true actions. 1 is a world that does not listen.</p>
{table(["", "shuffled / true"], rows)}"""


def _distractor(data: dict[str, Any]) -> str:
    if "undefined" in data:
        return f"<h3>Does it take for its own what moves by itself?</h3><p>Undefined: {text(data['undefined'])}</p>"
    rows = [
        row(
            name_of(name), [_ratio(each["attributed"], "nothing changes"), _ratio(each["moved"], "nothing moves")], name
        )
        for name, each in data.items()
        if name != "counted"
    ]
    return f"""<h3>Does it take for its own what moves by itself?</h3>
<p>A post that no recording shows moves in a circle, away from the robot: {stated(data["counted"])} of
{data["counted"]["n"]} starts show it so. Attributed is the share of what changes there that depends on the action;
moved is what changes, over what changes in physics. From one picture no world can know that something moves.</p>
{table(["", "attributed", "moved"], rows)}"""


def _ratio(stat: dict[str, Any], why: str) -> str:
    if stat["ratio"] is None:
        return cell(None, 2, why)
    between = "" if stat["low"] is None else f"<small>{stat['low']:.2f} to {stat['high']:.2f}</small>"
    return f"<td>{stat['ratio']:.2f}{between}</td>"


def _directions(data: dict[str, Any]) -> str:
    roll_outs = {name: rows for name, rows in data.items() if name != "carried_out_by_physics"}
    drawn = [
        (words, {name: rows[source]["within_45"] for name, rows in roll_outs.items() if source in rows})
        for source, words in (("frames", "read off frames"), ("proprioception", "stated pose"))
    ]
    drawn = [(words, stats) for words, stats in drawn if stats]
    figure = figures.intervals(drawn, "within 45 degrees of the command, %", 100, limits=(-3, 103))
    rows = [
        row(
            f"{name_of(name)}, {'read off frames' if source == 'frames' else 'stated pose'}",
            [
                cell(stats["same_side"]),
                cell(stats["within_45"]),
                share_cell(stats["chance_within_45"], "one start only"),
                cell(stats["along_cm"]),
            ],
            name,
        )
        for name, each in roll_outs.items()
        for source, stats in each.items()
    ]
    carried = data.get("carried_out_by_physics")
    asked = f" Only commands that physics carries out count: {stated(carried)} of {carried['n']}." if carried else ""
    return f"""<h3>Does it go where it is sent?</h3>
<p>One random direction a start, commanded at full scale.{text(asked)}</p>
{picture(figure, "commands carried out within 45 degrees, with 95 % intervals")}
{table(["", "right side", "within 45 degrees", "by chance", "along the command, cm"], rows)}"""


def _no_op(roll_outs: dict[str, Any]) -> str:
    rows = [
        row(
            name_of(name),
            [
                cell(stats["frame_change"], 2),
                cell(stats["flicker"], 2),
                *(cell(stats.get(source), 2, "not predicted") for source in ("frames", "proprioception")),
            ],
            name,
        )
        for name, stats in roll_outs.items()
    ]
    return f"""<h3>Does nothing move when nothing is asked?</h3>
<p>The same starts under zero actions.</p>
{table(["", "change of the frame", "flicker", "end-effector read, cm", "end-effector stated, cm"], rows)}
{
        note(
            "Change and flicker: mean absolute difference to the start and to the frame before, of 255 levels. Drawing a "
            "start through the tokenizer changes it once: that is the floor. Displacements: medians."
        )
    }"""


def inverse(found: Found) -> str:
    """The actions that frames show."""
    data = found["inverse"]
    keys = list(data["made"]["world"])
    rows = [
        row(name_of(name), [cell(stats[key]["excess"], 3) for key in keys], name)
        for name, stats in data["made"].items()
    ]
    real = "; ".join(
        f"{text(name)}: mean error {error:.3f}, R² {data['real']['r2'][name]:.2f}"
        for name, error in data["real"]["mae"].items()
    )
    return f"""<p>A network reads the action off two frames in a row. On true frames {real}; all within a tenth of the
range in {percent(data["real"]["strict"]["mean"])} of steps. On made frames its error is larger by:</p>
{table(["", *(f"up to step {key.split('_')[-1]}" for key in keys)], rows)}
{
        note(
            "In the action's unit, means over episodes with 95 % intervals; 0 is a world whose frames show the actions that "
            "it was given as plainly as true frames do."
        )
    }"""
