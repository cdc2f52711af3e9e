"""What does each section of a trust report say? HTML from the measurements; what is undefined is called so."""

from __future__ import annotations

from typing import Any

from wm_gym.common.page import picture, text
from wm_gym.evaluation.ranking.policies import CONTROLS, policy_figure
from wm_gym.evaluation.report import figures as figures
from wm_gym.evaluation.report.figures import name_of
from wm_gym.evaluation.report.films import pair
from wm_gym.evaluation.report.numbers import cell, group, note, percent, row, share_cell, table
from wm_gym.evaluation.report.summary import Found, calibration, seconds_of, violation_floor

STYLE = """
main { max-width: 1040px; } h3 { font-size: 16px; margin: 14px 0 6px; } ul, ol { margin: 0 0 8px; padding-left: 20px; }
li { margin: 0 0 6px; } .tile b { font-size: 26px; }
.next li { margin-bottom: 14px; } .next small { white-space: normal; margin: 2px 0 0; } .next pre { margin-top: 4px; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; }
.numbers { font-size: 14.5px; } .numbers th { font-weight: 500; } .numbers tr:first-child th { color: var(--soft); }
.numbers td { white-space: nowrap; } .numbers small.why { white-space: normal; min-width: 15ch; }
.numbers tr > th:first-child { min-width: 110px; position: sticky; left: 0; background: #fff; }
.numbers .world > th:first-child, .numbers .world td { background: #eef4fb; }
.numbers .world th { color: var(--world); }
.numbers tr.group > th:first-child { background: #f6f6f4; font-weight: 600; padding-top: 10px; }
.films { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 18px; }
figure { margin: 0; } figure img { width: 100%; image-rendering: pixelated; border-radius: 4px; }
figure.film div { display: grid; grid-template-columns: repeat(3, 1fr); font-size: 13.5px; color: var(--soft); }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); gap: 14px; margin: 10px 0; }
figcaption { font-size: 13px; color: var(--soft); line-height: 1.35; margin-top: 4px; }
figcaption b { color: var(--ink); }
section > img { max-width: min(100%, 560px); margin: 6px 0; }
.missing { color: var(--soft); } .figures { align-items: start; }
"""
CONSTANT = "one side does not vary"


def setting_line(found: Found) -> str:
    """What was measured, on what, in one line (HTML)."""
    setting = found["setting"]
    if not setting:
        return (
            "There is no <code>setting.json</code> in the folder: which world, twin and recording this was is not "
            "known. <code>wm-gym evaluate WORLD</code> writes it."
        )
    words = {
        "world_folder": "world {}",
        "twin": "physics twin {}",
        "episodes": "{} held-out episodes",
        "horizon": "{} steps",
        "fps": "{} frames a second",
        "seed": "seed {}",
        "trained_on": "trained on {}",
    }
    return text("; ".join(say.format(setting[key]) for key, say in words.items() if setting.get(key) is not None)) + "."


def drift(found: Found) -> str:
    """How long it lasts under random actions."""
    return _drift(found["drift"], "random")


def agent_drift(found: Found) -> str:
    """How long it lasts under an agent's actions."""
    return _drift(found["agent_drift"], f"{found['agent_drift']['agent']}'s")


def _drift(data: dict[str, Any], whose: str) -> str:
    """Survival, errors over time, and the table at each horizon."""
    keys = sorted((key for key in data if key.startswith("at_")), key=seconds_of)
    lives = data["time_to_failure"]
    rows = [line for key in keys for line in _drift_rows(data, key)]
    head = ["", "object, cm", "end-effector, cm", "lost", "way, of physics'", "mask IoU", "colour, Delta E", "PSNR, dB"]
    life_rows = [
        row(name_of(name), [_life_cell(life), f"<td>{life['failed']} of {life['episodes']}</td>"], name)
        for name, life in lives.items()
    ]
    return f"""<p>The world goes on alone under {text(whose)} actions, recorded in physics. A roll-out has failed at the
first moment at which the object is farther from where physics has it than the threshold (3 cm by default), or lost.</p>
<div class="figures">{picture(figures.survival(lives), "share of roll-outs still right over time, with 95 % bands")}
{picture(figures.over_horizons(data, "object_cm", "object's error, cm"), "median error of the object by horizon")}</div>
{table(["", "median time to failure", "failed"], life_rows)}
{table(head, rows)}
{
        note(
            "Medians and means with 95 % intervals below them; lost: Wilson. Floors: physics is what the decoder makes of "
            "true frames, the tokenizer what the best world with these latents could draw, perturbed what chaos alone does to "
            "an object put 2 mm and 3 degrees off. First frame repeated: what any world must beat."
        )
    }"""


def _drift_rows(data: dict, key: str) -> list[str]:
    counted = data["counted"][key]
    lines = [
        group(
            f"after {seconds_of(key):g} s: {counted['successes']} of {counted['n']} episodes count "
            "(physics has moved the object and shows it)",
            8,
        )
    ]
    for name, stats in data[key].items():
        cells = [
            cell(stats["object_cm"]),
            cell(stats["end_effector_cm"]),
            cell(stats["lost"]),
            cell(stats["displacement"], 2),
            cell(stats["mask_iou"], 2),
            cell(stats["colour_distance"]),
            cell(stats["psnr_db"]),
        ]
        lines.append(row(name_of(name), cells, name))
    return lines


def _life_cell(life: dict) -> str:
    return (
        cell(life["median_s"], 1, life["undefined"] or "")
        if life["median_s"] is None
        else f"<td>{life['median_s']:g} s</td>"
    )


def fidelity(found: Found) -> str:
    """PSNR, SSIM, ST-LPIPS and FVD at each horizon, with floors and controls."""
    data = found["fidelity"]
    steps, why = data["horizons"], data.get("undefined")
    roll_outs = ("world", "tokenizer", "frozen")
    rows = (
        []
        if why
        else [
            row(
                name_of(name),
                [
                    cell(data[f"at_{t}"][name][metric], digits)
                    for metric, digits in (("psnr_db", 1), ("ssim", 3), ("st_lpips", 3))
                    for t in steps
                ],
                name,
            )
            for name in roll_outs
        ]
    )
    looks = (
        f"<p>PSNR, SSIM and ST-LPIPS are undefined: {text(why)}</p>"
        if why
        else "".join(
            (
                '<div class="figures">',
                *(
                    picture(figures.fidelity_lines(data, metric, label, roll_outs), f"{label} by step")
                    for metric, label in (("psnr_db", "PSNR, dB"), ("st_lpips", "ST-LPIPS"))
                ),
                "</div>",
                table(["", *(f"{what} at {t}" for what in ("PSNR, dB,", "SSIM", "ST-LPIPS") for t in steps)], rows),
            )
        )
    )
    return f"""<p>{data["episodes"]} held-out episodes, same starts and actions, beside the true frames.</p>
{looks}
{_distances(data)}
{
        note(
            "Means, without intervals. No world can look better than its tokenizer, whose round trip of the true frames "
            "stands beside it; a frozen frame is right until something moves. PSNR stops at 68 dB, a copy."
        )
    }"""


def _distances(data: dict[str, Any]) -> str:
    """A table of FVD: of clips that end at each horizon."""
    found = {key: one for key, one in data.items() if key.startswith("fvd_")}
    if not found:
        return ""
    first = next(iter(found.values()))
    if "undefined" in first:
        return f"<p>FVD is undefined: {text(first['undefined'])}</p>"
    names = ("world", "tokenizer", "frozen", "floor")
    rows = [
        row(
            "other true videos (floor)" if name == "floor" else name_of(name),
            [cell(one[name], 0) for one in found.values()],
            name,
        )
        for name in names
    ]
    head = [f"FVD, steps to {key.rsplit('_', 1)[1]}" for key in found]
    return f"""<h3>Do they move like videos?</h3>
<p>Frechet Video Distance of {first["n"]} clips of {first["frames"]} frames, {text(first["features"])}. It depends on
that number: compare with the floor beside it and with nothing else.</p>
{table(["", *head], rows)}"""


def judge(found: Found) -> str:
    """Errors of the learned judge and of the dynamics, apart."""
    data = found["judge"]
    means = {
        "learned, world's frames": "both at once",
        "learned, true frames": "its judge alone",
        "physics, world's frames": "its dynamics alone",
        "physics, true frames": "the reading's floor",
    }
    rows = [
        row(name, [f"<td>{means[name]}</td>", cell(one["wrong"]), cell(one["optimism"]), cell(one["pessimism"])])
        for name, one in data["judgements"].items()
    ]
    return f"""<p>{data["episodes"]} held-out episodes, the recorded actions; physics calls
{percent(data["physics"]["rate"])} of them a success. The world's own judge is asked about its frames and about single
steps from true ones, physics' judge about the object where a network reads it off both.</p>
{table(["judge, frames", "wrong is", "episodes wrong", "optimism", "pessimism"], rows)}"""


def physics_iq(found: Found) -> str:
    """Physics-IQ's score and its parts."""
    data = found["physics_iq"]
    parts = ("spatiotemporal_iou", "spatial_iou", "weighted_spatial_iou", "mse")
    rows = [
        row(
            name_of(name), [cell(each["score"]), *(cell(each[part], 4 if part == "mse" else 2) for part in parts)], name
        )
        for name, each in data.items()
        if isinstance(each, dict) and "score" in each
    ]
    other = ", ".join(f"{text(key)} x {value:g}" for key, value in data["other_take"].items())
    return f"""<p>Where, when and how much things move, against physics, in per cent of what another take of the same
scene gets ({other}); {data["episodes"]} episodes.</p>
{table(["", "score", "when and where (IoU)", "where", "how much", "MSE"], rows)}"""


def uncertainty(found: Found) -> str:
    """Reliability, ranks against the clock, coverage and the kept word."""
    data, calibrated = found["uncertainty"], calibration(found)
    share = 1 - calibrated.alpha if calibrated else None
    drawn = [
        picture(figures.reliability_diagram(data["dense"]), "reliability diagram of patch errors"),
        picture(figures.ranks_lines(data["ranks"]), "rank correlation of uncertainty and error by step"),
    ]
    if data["coverage"]:
        drawn.append(picture(figures.coverage_dots(data["coverage"], share), "coverage of the error bound by step"))
    dense = [
        row(
            {"autoregressive": "whole roll-outs", "teacher_forced": "single steps from true frames"}.get(name, name),
            [
                cell(one["ece"], 3),
                cell(one["mce"], 3),
                cell(one["brier_skill"], 2),
                cell(one["brier_skill_least"], 2),
                f"<td>{one['patches']:,}</td>",
            ],
        )
        for name, one in data["dense"].items()
    ]
    ranks = [
        row(
            f"step {key.split('_')[-1]}",
            [
                cell(one["at"], 2, CONSTANT),
                cell(one["up_to"], 2, CONSTANT),
                cell(one["clock"], 2, CONSTANT),
                _gain(one),
            ],
        )
        for key, one in data["ranks"].items()
    ]
    return f"""<p>{data["episodes"]} episodes. For every patch the world states how likely its error is to stay below
each of several bounds; dots on the diagonal are honest. The step counter is the control: errors grow with time, and to
say so is no knowledge.</p>
<div class="figures">{"".join(drawn)}</div>
{table(["patches", "ECE", "MCE", "Brier skill", "least, of a bound", "n"], dense)}
{table(["Spearman's rho", "at that step", "up to it", "step counter, up to it", "gain over the counter"], ranks)}
{_kept(data, share)}"""


def _kept(data: dict[str, Any], share: float | None) -> str:
    if not data["coverage"] or share is None:
        return (
            '<p class="missing">Coverage, limit and trust horizon are undefined: this world has no calibration. '
            "<code>wm-gym calibrate WORLD DATASET</code> makes one.</p>"
        )
    rows = [
        row(
            f"error within the bound up to step {key.split('_')[-1]}",
            [cell(stat), f"<td>at least {percent(share)}</td>"],
        )
        for key, stat in data["coverage"].items()
    ]
    rows.append(
        row(
            "episodes that pass the limit of uncertainty",
            [cell(data["limit"]), f"<td>at most {percent(1 - share)}</td>"],
        )
    )
    rows.append(
        row(
            "moments at which the trust horizon kept its word",
            [
                f"<td>{percent(data['trust']['kept'], 1)}<small>{data['trust']['moments']:,} moments, no interval</small></td>",
                f"<td>at least {percent(share)}</td>",
            ],
        )
    )
    return table(["", "measured", "guaranteed"], rows)


def _gain(one: dict[str, Any]) -> str:
    if one["gain_low"] is None or one["up_to"] is None or one["clock"] is None:
        return cell(None, 2, CONSTANT)
    return f"<td>{one['up_to'] - one['clock']:+.2f}<small>{one['gain_low']:.2f} to {one['gain_high']:.2f}</small></td>"


def shifts(found: Found) -> str:
    """AUROC of visible and hidden shifts."""
    data = found["shifts"]
    visible, hidden = data.get("visible") or {}, data.get("hidden") or {}
    rows = [row(name, [cell(one[key], 2) for key in ("score", "unrest", "novelty")]) for name, one in visible.items()]
    return f"""<p>{data["starts"]} usual and {data["starts"]} shifted starts each. AUROC is the chance that a shifted
one scores higher than a usual one. Looks are seen in one picture, mass and friction only from what single steps get
wrong.</p>
<div class="figures">{picture(figures.shift_bars(visible, hidden), "AUROC of each shift")}
{table(["from one picture", "score", "unrest", "novelty"], rows) if rows else ""}</div>
{
        note(
            "No intervals. The score is the larger of two signs: unrest, what changes while the robot rests, and novelty, "
            "how far the strangest piece of the picture is from all starts that the world knows."
        )
    }"""


def violations(found: Found) -> str:
    """Rates by class beside the floor, the detector's own quality and the worst frames."""
    data = found["violations"]
    rows, floor = data["violations"], violation_floor(data["violations"])
    beside = [name for name in ("world", floor) if name]
    drawn = [(kind, {name: rows[name][kind]["episodes"] for name in beside}) for kind in rows["world"]]
    lines = [
        row(
            kind,
            [
                cell(own["episodes"]),
                cell(rows[floor][kind]["episodes"]) if floor else cell(None, 0, "no floor measured"),
                cell(own["per_100_frames"], 2),
                _excess(own),
                share_cell(own["abstained"], ""),
            ],
        )
        for kind, own in rows["world"].items()
    ]
    return f"""<p>{data["episodes"]} episodes of {data["steps"]} steps, read off the frames. The floor is
{text(name_of(floor)) if floor else "not measured"}: it breaks no law, so what is found there is the detector's
mistake.</p>
{picture(figures.intervals(drawn, "episodes with a violation, %", 100, limits=(-3, None)), "violations by class")}
{table(["", "episodes", "floor", "in 100 frames", "excess over the limit", "frames nothing is said of"], lines)}
{
        note(
            "A share is of the pixels that the object has at the start. Nothing is said where the object is hidden or its "
            "two readings disagree; only classes whose interval lies above that of the floor count as broken."
        )
    }
{_detector(data.get("detector"))}
{_gallery(data.get("worst") or [], found.get("films", {}).get("worst_frames"))}"""


def _excess(own: dict[str, Any]) -> str:
    if own["excess_median"] is None:
        return cell(None, 2, "no event")
    return (
        f"<td>{own['excess_median']:.2f} {text(own['unit'])}"
        f"<small>worst {own['excess_worst']:.2f} {text(own['unit'])}</small></td>"
    )


def _detector(quality: dict[str, Any] | None) -> str:
    if not quality:
        return note("How good the detector is has not been measured here.")
    rows = [
        row(
            kind,
            [cell(one["recall"]), share_cell(one["precision"], "it found nothing"), f"<td>{one['false_events']}</td>"],
        )
        for kind, one in quality.items()
    ]
    return f"""<details><summary>How good is the detector? Violations that physics was made to draw</summary>
{table(["", "recall", "precision", "false events"], rows)}</details>"""


def _gallery(worst: list[dict[str, Any]], frames) -> str:
    shown = [one for one in worst if frames is not None and 0 <= one["frame"] < len(frames)]
    if not shown:
        return ""
    parts = [
        f'<figure><img alt="{text(one["class"])}: the world, physics" '
        f'src="{pair(*frames[one["frame"]])}"><figcaption><b>{text(one["class"])}</b>, {one["severity"]:.2f} '
        f"{text(one['unit'])} over the limit<br>episode {text(one['episode'])}, step {text(one['step'])}"
        "</figcaption></figure>"
        for one in shown[:12]
    ]
    return (
        f'<h3>The worst frames: the world on the left, physics on the right</h3>\n<div class="gallery">'
        f"{''.join(parts)}</div>"
    )


def policies(found: Found) -> str:
    """The scatter of success rates and how far the two agree."""
    data = found["policies"]
    share = data["gating"]["all"]["keep"]
    rows = [
        row(
            label,
            [
                _correlation(one["all"]),
                _correlation(one["within_band"]),
                f"<td>{one['mmrv']:.3f}<small>perfect world {one['perfect_world']['mmrv']:.3f}</small></td>",
                share_cell(one["optimism"], "physics never fails"),
                share_cell(one["pessimism"], "physics never succeeds"),
            ],
        )
        for label, one in _judges(data)
    ]
    each = [
        row(one["agent"], [f"<td>{text(one['world_name'])}</td>", cell(one["world"]), cell(one["physics"])])
        for one in data["policies"]
    ]
    return f"""<p>{len(data["policies"])} independently trained policies, {data["episodes"]} matched starts each. A dot
on the line is a policy that the world judges as physics does.</p>
{picture(policy_figure(data["policies"]), "success in the world over success in physics")}
<details><summary>Each policy</summary>{table(["", "world", "in the world", "in physics"], each)}</details>
{table(["", "Pearson's r", "of those at 20 to 80 %", "MMRV", "optimism", "pessimism"], rows)}
{
        note(
            "Intervals: Wilson for rates, Fisher z for r. MMRV: mean maximum rank violation, 0 is best; beside it what "
            "physics gets against itself. Optimism: failures in physics that the world takes for successes. Perturbed: the "
            "same starts in physics, the object 2 mm and 3 degrees off; what it gets wrong is chaos, not the world."
        )
    }
<h3>Does it pay to count only the episodes of which the world is sure?</h3>
{table(["", "Pearson's r", "optimism", "outcomes wrong", "AUROC for wrong outcomes"], _gate_rows(data["gating"]))}
{
        note(
            f"All episodes, and the {percent(share)} of each policy with the least uncertainty; gains with 95 % intervals "
            "over starts, paired."
        )
    }
{_powered(data["prediction_powered"])}"""


def _powered(found: dict[str, Any]) -> str:
    """What few starts in physics say of a rate, alone and beside many in the world."""
    rows = [
        row(
            name,
            [
                f"<td>{one['pairs']}</td>",
                *(
                    cell(100 * one[how]["half_width"]) + cell(one[how]["holds"])
                    for how in ("physics_alone", "with_the_world")
                ),
            ],
        )
        for name, one in found.items()
        if "undefined" not in one
    ]
    return (
        ""
        if not rows
        else f"""<h3>How many starts in physics does the world save?</h3>
{table(["", "starts in physics", "alone: ± points", "holds", "with the world: ± points", "holds"], rows)}
{
            note(
                "Prediction-powered inference: the rest of the starts in the world only. Holds: the share of policies whose 95 % "
                "interval holds the rate of all starts in physics."
            )
        }"""
    )


def _judges(data: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """(name, agreement) of each world, and below it of physics as a judge where something is otherwise."""
    pairs = []
    for name, one in data["agreement"].items():
        pairs.append((name, one))
        pairs += [
            (f"{name}: {what}", data[control][name])
            for control, what in CONTROLS.items()
            if "undefined" not in data[control][name]
        ]
    return pairs


def _gate_rows(gating: dict[str, Any]) -> list[str]:
    """What is gained by the least uncertain episodes, a row a world."""
    return [
        row(
            name,
            [_gained(gate, what) for what in ("pearson", "optimism", "wrong")]
            + [cell(gate["wrong"], 2, "all right, or all wrong")],
        )
        for name, gate in gating.items()
    ]


def _gained(gate: dict[str, Any], what: str) -> str:
    gain = gate["gain"][what]
    if gain is None:
        return cell(None, 2, "it does not vary, or nothing fails")
    return (
        f"<td>{gate['all'][what]:.3f} to {gate['kept'][what]:.3f}<small>{gain['gain']:+.3f}: {gain['low']:+.3f} to "
        f"{gain['high']:+.3f}</small></td>"
    )


def _correlation(one: dict[str, Any]) -> str:
    if one["pearson"] is None:
        return cell(None, 2, one["undefined"])
    between = one["undefined"] if one["low"] is None else f"{one['low']:.2f} to {one['high']:.2f}"
    return f"<td>{one['pearson']:.2f}<small>{text(between)}, {one['policies']} policies</small></td>"


def with_care(found: Found) -> str:
    """What these numbers do not say."""
    calibrated = calibration(found)
    sentences = (
        [
            f"The bound, the limit and the trust horizon hold for episodes like those of the calibration "
            f"({calibrated.measured_on}): the same policies, looks and physics. Under a shift the guarantee lapses, and "
            "nothing here says by how much.",
            f"The calibration rests on {calibrated.episodes} episodes; with few, the guaranteed share itself is uncertain.",
        ]
        if calibrated
        else ["This world has no calibration: no bound and no horizon are guaranteed."]
    )
    sentences += [
        "Physics is a simulator here, not a robot: nothing on this page says that what works in this world works "
        "on hardware.",
        "Positions are read off frames by a network. It was taught on true frames and the tokenizer's, and may "
        "misread a world's mistakes; an object that is hidden is not read at all.",
        "Directions were asked for the axes that move the end-effector. Rotation and gripper, contact forces and "
        "sounds were not asked.",
        "Floating cannot be seen in one picture.",
        "Intervals are 95 %, over episodes, of one trained world with one seed; another training gives other "
        "numbers. Several claims are read off one recording, without a correction for their number.",
    ]
    return (
        "<section id='care'><h2>Read this with care</h2><ul>"
        + "".join(f"<li>{text(sentence)}</li>" for sentence in sentences)
        + "</ul></section>"
    )
