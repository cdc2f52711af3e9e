"""What does each section of a trust report say? HTML from the measurements; what is undefined is called so."""

from __future__ import annotations

from typing import Literal

import numpy as np

from wm_gym.common.page import picture, text
from wm_gym.common.records import Blank
from wm_gym.evaluation.judges.attribution import JudgeErrors
from wm_gym.evaluation.metrics.drift import DriftResult
from wm_gym.evaluation.metrics.perceptual import Looks
from wm_gym.evaluation.metrics.survival import Survival
from wm_gym.evaluation.metrics.violations import Broken
from wm_gym.evaluation.ranking.agreement import Agreement, Correlation
from wm_gym.evaluation.ranking.gating import Gating
from wm_gym.evaluation.ranking.policies import CONTROLS, PoliciesResult, PredictionPowered, policy_figure
from wm_gym.evaluation.report import figures as figures
from wm_gym.evaluation.report.figures import name_of
from wm_gym.evaluation.report.films import pair
from wm_gym.evaluation.report.found import Found
from wm_gym.evaluation.report.numbers import cell, group, note, number, percent, row, share_cell, table
from wm_gym.evaluation.report.summary import seconds_of, violation_floor
from wm_gym.evaluation.suite.results import (
    Distances,
    FidelityResult,
    PhysicsIQResult,
    ShiftsResult,
    ViolationsResult,
    WorstEvent,
)
from wm_gym.evaluation.trust.coverage import Ranks
from wm_gym.evaluation.trust.injected import DetectorQuality
from wm_gym.evaluation.trust.uncertainty import UncertaintyResult

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
    setting = {key: value for key, value in vars(found.setting).items() if value is not None}
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
    return text("; ".join(say.format(setting[key]) for key, say in words.items() if key in setting)) + "."


def drift(data: DriftResult, found: Found) -> str:
    """How long it lasts: survival, errors over time, and the table at each horizon."""
    whose, lives = f"{data.agent}'s" if data.agent else "random", data.time_to_failure
    rows = [line for key in sorted(data.at, key=seconds_of) for line in _drift_rows(data, key)]
    head = ["", "object, cm", "end-effector, cm", "lost", "way, of physics'", "mask IoU", "colour, Delta E", "PSNR, dB"]
    life_rows = [
        row(name_of(name), [_life_cell(life), f"<td>{life.failed} of {life.episodes}</td>"], name)
        for name, life in lives.items()
    ]
    return f"""<p>The world goes on alone under {text(whose)} actions, recorded in physics. A roll-out has failed at the
first moment at which the object is farther from where physics has it than the threshold (3 cm by default), or lost.</p>
<div class="figures">{picture(figures.survival(lives), "share of roll-outs still right over time, with 95 % bands")}
{
        picture(
            figures.over_horizons(data.at, lambda one: one.object_cm, "object's error, cm"),
            "median error of the object by horizon",
        )
    }</div>
{table(["", "median time to failure", "failed"], life_rows)}
{table(head, rows)}
{
        note(
            "Medians and means with 95 % intervals below them; lost: Wilson. Floors: physics is what the decoder makes of "
            "true frames, the tokenizer what the best world with these latents could draw, perturbed what chaos alone does to "
            "an object put 2 mm and 3 degrees off. First frame repeated: what any world must beat."
        )
    }"""


def _drift_rows(data: DriftResult, key: str) -> list[str]:
    counted = data.counted[key]
    lines = [
        group(
            f"after {seconds_of(key):g} s: {counted['successes']} of {counted['n']} episodes count "
            "(physics has moved the object and shows it)",
            8,
        )
    ]
    for name, one in data.at[key].items():
        cells = [
            cell(one.object_cm),
            cell(one.end_effector_cm),
            cell(one.lost),
            cell(one.displacement, 2),
            cell(one.mask_iou, 2),
            cell(one.colour_distance),
            cell(one.psnr_db),
        ]
        lines.append(row(name_of(name), cells, name))
    return lines


def _life_cell(life: Survival) -> str:
    return cell(None, 1, life.undefined or "") if life.median_s is None else f"<td>{life.median_s:g} s</td>"


def fidelity(data: FidelityResult, found: Found) -> str:
    """PSNR, SSIM, ST-LPIPS and FVD at each horizon, with floors and controls."""
    if isinstance(data.looks, Blank):
        looks = f"<p>PSNR, SSIM and ST-LPIPS are undefined: {text(data.looks.undefined)}</p>"
    else:
        looks = _looks(data.looks, data.horizons)
    return f"""<p>{data.episodes} held-out episodes, same starts and actions, beside the true frames.</p>
{looks}
{_distances(data.fvd)}
{
        note(
            "Means, without intervals. No world can look better than its tokenizer, whose round trip of the true frames "
            "stands beside it; a frozen frame is right until something moves. PSNR stops at 68 dB, a copy."
        )
    }"""


def _looks(looks: dict[str, dict[str, Looks]], steps: list[int]) -> str:
    """Figures and a table of how like the true frames the frames look."""
    names, at = ("world", "tokenizer", "frozen"), [looks[f"at_{t}"] for t in steps]
    rows = [
        row(
            name_of(name),
            [cell(one[name].psnr_db, 1) for one in at]
            + [cell(one[name].ssim, 3) for one in at]
            + [cell(one[name].st_lpips, 3) for one in at],
            name,
        )
        for name in names
    ]
    psnr = figures.fidelity_lines(looks, lambda one: one.psnr_db, "PSNR, dB", steps, names)
    lpips = figures.fidelity_lines(looks, lambda one: one.st_lpips, "ST-LPIPS", steps, names)
    head = ["", *(f"{what} at {t}" for what in ("PSNR, dB,", "SSIM", "ST-LPIPS") for t in steps)]
    return f"""<div class="figures">{picture(psnr, "PSNR, dB by step")}{picture(lpips, "ST-LPIPS by step")}</div>
{table(head, rows)}"""


def _distances(fvd: dict[str, Distances | Blank]) -> str:
    """A table of FVD: of clips that end at each horizon."""
    blanks = [one.undefined for one in fvd.values() if isinstance(one, Blank)]
    known = {key: one for key, one in fvd.items() if not isinstance(one, Blank)}
    if not known:
        return f"<p>FVD is undefined: {text(blanks[0])}</p>" if blanks else ""
    first = next(iter(known.values()))
    rows = [
        row(
            "other true videos (floor)" if name == "floor" else name_of(name),
            [cell(one.of[name], 0) for one in known.values()],
            name,
        )
        for name in ("world", "tokenizer", "frozen", "floor")
    ]
    head = [f"FVD, steps to {key.removeprefix('at_')}" for key in known]
    return f"""<h3>Do they move like videos?</h3>
<p>Frechet Video Distance of {first.n} clips of {first.frames} frames, {text(first.features)}. It depends on
that number: compare with the floor beside it and with nothing else.</p>
{table(["", *head], rows)}"""


def judge(data: JudgeErrors, found: Found) -> str:
    """Errors of the learned judge and of the dynamics, apart."""
    means = {
        "learned, world's frames": "both at once",
        "learned, true frames": "its judge alone",
        "physics, world's frames": "its dynamics alone",
        "physics, true frames": "the reading's floor",
    }
    rows = [
        row(name, [f"<td>{means[name]}</td>", cell(one.wrong), cell(one.optimism), cell(one.pessimism)])
        for name, one in data.judgements.items()
    ]
    return f"""<p>{data.episodes} held-out episodes, the recorded actions; physics calls
{percent(data.physics["rate"])} of them a success. The world's own judge is asked about its frames and about single
steps from true ones, physics' judge about the object where a network reads it off both.</p>
{table(["judge, frames", "wrong is", "episodes wrong", "optimism", "pessimism"], rows)}"""


def physics_iq(data: PhysicsIQResult, found: Found) -> str:
    """Physics-IQ's score and its parts."""
    rows = [
        row(
            name_of(name),
            [
                cell(one.score),
                cell(one.spatiotemporal_iou, 2),
                cell(one.spatial_iou, 2),
                cell(one.weighted_spatial_iou, 2),
                cell(one.mse, 4),
            ],
            name,
        )
        for name, one in data.of.items()
    ]
    other = ", ".join(f"{text(key)} x {value:g}" for key, value in data.other_take.items())
    return f"""<p>Where, when and how much things move, against physics, in per cent of what another take of the same
scene gets ({other}); {data.episodes} episodes.</p>
{table(["", "score", "when and where (IoU)", "where", "how much", "MSE"], rows)}"""


def uncertainty(data: UncertaintyResult, found: Found) -> str:
    """Reliability, ranks against the clock, coverage and the guarantees."""
    calibrated = found.setting.calibration
    share = 1 - calibrated.alpha if calibrated else None
    drawn = [
        picture(figures.reliability_diagram(data.dense), "reliability diagram of patch errors"),
        picture(figures.ranks_lines(data.ranks), "rank correlation of uncertainty and error by step"),
    ]
    if data.coverage:
        drawn.append(picture(figures.coverage_dots(data.coverage, share), "coverage of the error bound by step"))
    dense = [
        row(
            {"autoregressive": "whole roll-outs", "teacher_forced": "single steps from true frames"}.get(name, name),
            [
                cell(one.ece, 3),
                cell(one.mce, 3),
                cell(one.brier_skill, 2),
                cell(one.brier_skill_least, 2),
                f"<td>{one.patches:,}</td>",
            ],
        )
        for name, one in data.dense.items()
    ]
    ranks = [
        row(
            f"step {key.split('_')[-1]}",
            [cell(one.at, 2, CONSTANT), cell(one.up_to, 2, CONSTANT), cell(one.clock, 2, CONSTANT), _gain(one)],
        )
        for key, one in data.ranks.items()
    ]
    return f"""<p>{data.episodes} episodes. For every patch the world states how likely its error is to stay below
each of several bounds; dots on the diagonal are honest. The step counter is the control: errors grow with time, and to
say so is no knowledge.</p>
<div class="figures">{"".join(drawn)}</div>
{table(["patches", "ECE", "MCE", "Brier skill", "least, of a bound", "n"], dense)}
{table(["Spearman's rho", "at that step", "up to it", "step counter, up to it", "gain over the counter"], ranks)}
{_kept(data, share)}"""


def _kept(data: UncertaintyResult, share: float | None) -> str:
    if not data.coverage or not data.limit or not data.trust or share is None:
        return (
            '<p class="missing">Coverage, limit and trust horizon are undefined: this world has no calibration. '
            "<code>wm-gym calibrate WORLD DATASET</code> makes one.</p>"
        )
    least = f"<td>at least {percent(share)}</td>"
    rows = [
        row(f"error within the bound up to step {key.split('_')[-1]}", [cell(stat), least])
        for key, stat in data.coverage.items()
    ]
    rows.append(
        row("episodes that pass the limit of uncertainty", [cell(data.limit), f"<td>at most {percent(1 - share)}</td>"])
    )
    moments = f"<small>{data.trust.moments:,} moments, no interval</small>"
    rows.append(
        row("moments at which the trust horizon held", [f"<td>{percent(data.trust.kept, 1)}{moments}</td>", least])
    )
    return table(["", "measured", "guaranteed"], rows)


def _gain(one: Ranks) -> str:
    if one.gain_low is None or one.up_to is None or one.clock is None:
        return cell(None, 2, CONSTANT)
    between = f"<small>{one.gain_low:.2f} to {number(one.gain_high, 2)}</small>"
    return f"<td>{one.up_to - one.clock:+.2f}{between}</td>"


def shifts(data: ShiftsResult, found: Found) -> str:
    """AUROC of visible and hidden shifts."""
    scores = {name: None if isinstance(one, Blank) else one.score for name, one in data.visible.items()}
    hidden = {name: None if isinstance(one, Blank) else one.auroc for name, one in data.hidden.items()}
    rows = [
        row(
            name,
            [cell(None, 2, one.undefined)] * 3
            if isinstance(one, Blank)
            else [cell(one.score, 2), cell(one.unrest, 2), cell(one.novelty, 2)],
        )
        for name, one in data.visible.items()
    ]
    blanks = {name: one.undefined for name, one in data.hidden.items() if isinstance(one, Blank)}
    return f"""<p>{data.starts} usual and {data.starts} shifted starts each. AUROC is the chance that a shifted
one scores higher than a usual one. Looks are seen in one picture, mass and friction only from what single steps get
wrong.</p>
<div class="figures">{picture(figures.shift_bars(scores, hidden), "AUROC of each shift")}
{table(["from one picture", "score", "unrest", "novelty"], rows) if rows else ""}</div>
{"".join(note(f"A shift of {name} is undefined: {why}") for name, why in blanks.items())}
{
        note(
            "No intervals. The score is the larger of two signs: unrest, what changes while the robot rests, and novelty, "
            "how far the strangest piece of the picture is from all starts that the world knows."
        )
    }"""


def violations(data: ViolationsResult, found: Found) -> str:
    """Rates by class beside the floor, the detector's own quality and the worst frames."""
    rows, floor = data.violations, violation_floor(data.violations)
    beside = [name for name in ("world", floor) if name]
    drawn = [(kind, {name: rows[name][kind].episodes for name in beside}) for kind in rows["world"]]
    lines = [
        row(
            kind,
            [
                cell(own.episodes),
                cell(rows[floor][kind].episodes) if floor else cell(None, 0, "no floor measured"),
                cell(own.per_100_frames, 2),
                _excess(own),
                share_cell(own.abstained, ""),
            ],
        )
        for kind, own in rows["world"].items()
    ]
    worst_frames = found.films.get("worst_frames") if found.films else None
    return f"""<p>{data.episodes} episodes of {data.steps} steps, read off the frames. The floor is
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
{_detector(data.detector)}
{_gallery(data.worst, worst_frames)}"""


def _excess(own: Broken) -> str:
    if own.excess_median is None:
        return cell(None, 2, "no event")
    unit = text(own.unit)
    return f"<td>{own.excess_median:.2f} {unit}<small>worst {number(own.excess_worst, 2)} {unit}</small></td>"


def _detector(quality: dict[str, DetectorQuality] | None) -> str:
    if not quality:
        return note("How good the detector is has not been measured here.")
    rows = [
        row(kind, [cell(one.recall), share_cell(one.precision, "it found nothing"), f"<td>{one.false_events}</td>"])
        for kind, one in quality.items()
    ]
    return f"""<details><summary>How good is the detector? Violations that physics was made to draw</summary>
{table(["", "recall", "precision", "false events"], rows)}</details>"""


def _gallery(worst: list[WorstEvent], frames: np.ndarray | None) -> str:
    shown = [] if frames is None else [(one, frames[one.frame]) for one in worst if 0 <= one.frame < len(frames)]
    if not shown:
        return ""
    parts = [
        f'<figure><img alt="{text(one.kind)}: the world, physics" src="{pair(*frame)}"><figcaption>'
        f"<b>{text(one.kind)}</b>, {one.severity:.2f} {text(one.unit)} over the limit<br>"
        f"episode {text(one.episode)}, step {text(one.step)}</figcaption></figure>"
        for one, frame in shown[:12]
    ]
    return (
        f'<h3>The worst frames: the world on the left, physics on the right</h3>\n<div class="gallery">'
        f"{''.join(parts)}</div>"
    )


def policies(data: PoliciesResult, found: Found) -> str:
    """The scatter of success rates and how far the two agree."""
    share = data.gating["all"]["keep"]
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
        for one in data.policies
    ]
    return f"""<p>{len(data.policies)} independently trained policies, {data.episodes} matched starts each. A dot
on the line is a policy that the world judges as physics does.</p>
{picture(policy_figure(data.policies), "success in the world over success in physics")}
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
{table(["", "Pearson's r", "optimism", "outcomes wrong", "AUROC for wrong outcomes"], _gate_rows(data.gating))}
{
        note(
            f"All episodes, and the {percent(share)} of each policy with the least uncertainty; gains with 95 % intervals "
            "over starts, paired."
        )
    }
{_powered(data.prediction_powered)}"""


def _powered(found: dict[str, PredictionPowered | Blank]) -> str:
    """What few starts in physics say of a rate, alone and beside many in the world."""
    rows = [
        row(
            name,
            [
                f"<td>{one['pairs']}</td>",
                *(
                    cell(100 * how["half_width"]) + cell(how["holds"])
                    for how in (one["physics_alone"], one["with_the_world"])
                ),
            ],
        )
        for name, one in found.items()
        if not isinstance(one, Blank)
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


def _judges(data: PoliciesResult) -> list[tuple[str, Agreement]]:
    """(name, agreement) of each world, and below it of physics as a judge where something is otherwise."""
    pairs: list[tuple[str, Agreement]] = []
    for name, one in data.agreement.items():
        pairs.append((name, one))
        for control, what in CONTROLS.items():
            other = data.control(control)[name]
            if not isinstance(other, Blank):
                pairs.append((f"{name}: {what}", other))
    return pairs


def _gate_rows(gating: dict[str, Gating]) -> list[str]:
    """What is gained by the least uncertain episodes, a row a world."""
    return [
        row(
            name,
            [_gained(gate, what) for what in ("pearson", "optimism", "wrong")]
            + [cell(gate["wrong"], 2, "all right, or all wrong")],
        )
        for name, gate in gating.items()
    ]


def _gained(gate: Gating, what: Literal["pearson", "optimism", "wrong"]) -> str:
    gain = gate["gain"][what]
    if gain is None:
        return cell(None, 2, "it does not vary, or nothing fails")
    return (
        f"<td>{number(gate['all'][what], 3)} to {number(gate['kept'][what], 3)}"
        f"<small>{gain['gain']:+.3f}: {gain['low']:+.3f} to {gain['high']:+.3f}</small></td>"
    )


def _correlation(one: Correlation) -> str:
    if one["pearson"] is None:
        return cell(None, 2, one["undefined"] or "")
    between = one["undefined"] if one["low"] is None else f"{one['low']:.2f} to {one['high']:.2f}"
    return f"<td>{one['pearson']:.2f}<small>{text(between)}, {one['policies']} policies</small></td>"


def with_care(found: Found) -> str:
    """What these numbers do not say."""
    calibrated = found.setting.calibration
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
