"""What does each section of a trust report say? HTML from the measurements; what is undefined is called so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from markupsafe import Markup

from wm_gym.common.page import fill, picture
from wm_gym.common.records import Blank
from wm_gym.evaluation.judges.attribution import JudgeErrors
from wm_gym.evaluation.metrics.drift import DriftResult
from wm_gym.evaluation.metrics.perceptual import Looks
from wm_gym.evaluation.metrics.survival import Survival
from wm_gym.evaluation.metrics.violations import Broken
from wm_gym.evaluation.ranking.agreement import Agreement, Correlation
from wm_gym.evaluation.ranking.gating import Gating
from wm_gym.evaluation.ranking.policies import CONTROLS, RETURN, PoliciesResult, PredictionPowered, policy_figure
from wm_gym.evaluation.report import figures as figures
from wm_gym.evaluation.report.control import control, inverse
from wm_gym.evaluation.report.fields import every_field
from wm_gym.evaluation.report.films import films, pair
from wm_gym.evaluation.report.found import Found, result_types
from wm_gym.evaluation.report.numbers import Cell, Row, cell, name_of, number, percent, rows_of, share_cell, step_of
from wm_gym.evaluation.report.summary import seconds_of, violation_floor
from wm_gym.evaluation.suite.tasks import FidelityResult, PhysicsIQResult, ShiftsResult, ViolationsResult, WorstEvent
from wm_gym.evaluation.trust.coverage import Ranks
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
DRAWN = ("world", "tokenizer", "frozen")
GAINED: tuple[Literal["pearson", "optimism", "wrong"], ...] = ("pearson", "optimism", "wrong")


def setting_line(found: Found) -> str:
    """What was measured, on what, in one line; empty where that is not known."""
    words = {
        "world_folder": "world {}",
        "twin": "physics twin {}",
        "episodes": "{} held-out episodes",
        "horizon": "{} steps",
        "fps": "{:g} frames a second",
        "seed": "seed {}",
        "trained_on": "trained on {}",
    }
    known = {key: value for key, value in vars(found.setting).items() if value is not None}
    parts = [say.format(known[key]) for key, say in words.items() if key in known]
    return "; ".join(parts) + "." if known else ""


def side_by_side(data: dict[str, np.ndarray], found: Found) -> Markup:
    """Films of physics, the world and its uncertainty."""
    trusted = found.trust_horizon if found.setting.calibration else None
    return films(data["physics"], data["world"], data["uncertainty"], found.setting.fps or 10, trusted)


def drift(data: DriftResult, found: Found) -> Markup:
    """How long it lasts: survival, errors over time, and the table at each horizon."""
    survival = figures.survival(data.time_to_failure)
    return fill(
        "report/drift.html",
        whose=f"{data.agent}'s" if data.agent else "random",
        survival=picture(survival, "share of roll-outs still right over time, with 95 % bands"),
        errors=picture(figures.over_horizons(data.at), "median error of the object by horizon"),
        lives=rows_of(data.time_to_failure, lambda one: [_life(one), Cell(f"{one.failed} of {one.episodes}")]),
        rows=[line for key in sorted(data.at, key=seconds_of) for line in _drift_rows(data, key)],
    )


def _life(life: Survival) -> Cell:
    return cell(None, 1, life.undefined or "") if life.median_s is None else Cell(f"{life.median_s:g} s")


def _drift_rows(data: DriftResult, key: str) -> list[Row]:
    counted = data.counted[key]
    head = (
        f"after {seconds_of(key):g} s: {counted['successes']} of {counted['n']} episodes count "
        "(physics has moved the object and shows it)"
    )
    rows = rows_of(
        data.at[key],
        lambda one: [
            cell(one.object_cm),
            cell(one.end_effector_cm),
            cell(one.lost),
            cell(one.displacement, 2),
            cell(one.mask_iou, 2),
            cell(one.colour_distance),
            cell(one.psnr_db),
        ],
    )
    return [Row(head, columns=8), *rows]


def fidelity(data: FidelityResult, found: Found) -> Markup:
    """PSNR, SSIM, ST-LPIPS and FVD at each horizon, with floors and controls."""
    known = {key: one for key, one in data.fvd.items() if not isinstance(one, Blank)}
    blanks = [one.undefined for one in data.fvd.values() if isinstance(one, Blank)]
    looks, steps = {} if isinstance(data.looks, Blank) else data.looks, data.horizons
    at = [looks[f"at_{t}"] for t in steps] if looks else []
    distances = {name: [one.of[name] for one in known.values()] for name in (*DRAWN, "floor")} if known else {}
    return fill(
        "report/fidelity.html",
        episodes=data.episodes,
        why=data.looks.undefined if isinstance(data.looks, Blank) else "",
        psnr=_lines(at, lambda one: one.psnr_db, "PSNR, dB", steps),
        lpips=_lines(at, lambda one: one.st_lpips, "ST-LPIPS", steps),
        looks_head=["", *(f"{what} at {t}" for what in ("PSNR, dB,", "SSIM", "ST-LPIPS") for t in steps)],
        looks=rows_of({name: [each[name] for each in at] for name in DRAWN} if at else {}, _looks),
        fvd=next(iter(known.values()), None),
        distances_head=["", *(f"FVD, steps to {step_of(key)}" for key in known)],
        distances=rows_of(distances, lambda values: [cell(value, 0) for value in values]),
        no_fvd=blanks[0] if blanks else "",
    )


def _lines(
    at: list[dict[str, Looks]], number_of: Callable[[Looks], float], label: str, steps: list[int]
) -> Markup | str:
    if not at:
        return ""
    numbers = {name: [number_of(each[name]) for each in at] for name in DRAWN}
    return picture(figures.fidelity_lines(numbers, label, steps), f"{label} by step")


def _looks(at: list[Looks]) -> list[Cell]:
    return [
        *(cell(one.psnr_db) for one in at),
        *(cell(one.ssim, 3) for one in at),
        *(cell(one.st_lpips, 3) for one in at),
    ]


def judge(data: JudgeErrors, found: Found) -> Markup:
    """Errors of the learned judge and of the dynamics, apart."""
    means = {
        "learned, world's frames": "both at once",
        "learned, true frames": "its judge alone",
        "physics, world's frames": "its dynamics alone",
        "physics, true frames": "the reading's floor",
    }
    return fill(
        "report/judge.html",
        episodes=data.episodes,
        successes=percent(data.physics["rate"]),
        rows=[
            Row(name, [Cell(means[name]), cell(one.wrong), cell(one.optimism), cell(one.pessimism)])
            for name, one in data.judgements.items()
        ],
    )


def physics_iq(data: PhysicsIQResult, found: Found) -> Markup:
    """Physics-IQ's score and its parts."""
    return fill(
        "report/physics_iq.html",
        episodes=data.episodes,
        other=", ".join(f"{key} x {value:g}" for key, value in data.other_take.items()),
        rows=rows_of(
            data.of,
            lambda one: [
                cell(one.score),
                cell(one.spatiotemporal_iou, 2),
                cell(one.spatial_iou, 2),
                cell(one.weighted_spatial_iou, 2),
                cell(one.mse, 4),
            ],
        ),
    )


def uncertainty(data: UncertaintyResult, found: Found) -> Markup:
    """Reliability, ranks against the clock, coverage and the guarantees."""
    calibrated = found.setting.calibration
    share = 1 - calibrated.alpha if calibrated else None
    drawn = [
        picture(figures.reliability_diagram(data.dense), "reliability diagram of patch errors"),
        picture(figures.ranks_lines(data.ranks), "rank correlation of uncertainty and error by step"),
    ]
    if data.coverage:
        drawn.append(picture(figures.coverage_dots(data.coverage, share), "coverage of the error bound by step"))
    return fill(
        "report/uncertainty.html",
        episodes=data.episodes,
        drawn=drawn,
        dense=rows_of(
            data.dense,
            lambda one: [
                cell(one.ece, 3),
                cell(one.mce, 3),
                cell(one.brier_skill, 2),
                cell(one.brier_skill_least, 2),
                Cell(f"{one.patches:,}"),
            ],
        ),
        ranks=rows_of(
            {f"step {step_of(key)}": one for key, one in data.ranks.items()},
            lambda one: [*(cell(rho, 2, CONSTANT) for rho in (one.at, one.up_to, one.clock)), _gain(one)],
        ),
        kept=_kept(data, share),
    )


def _kept(data: UncertaintyResult, share: float | None) -> list[Row]:
    """What became of the guarantees; nothing without a calibration."""
    if not data.coverage or not data.limit or not data.trust or share is None:
        return []
    least, trust = Cell(f"at least {percent(share)}"), data.trust
    held = Cell(percent(trust.kept, 1), f"{trust.moments:,} moments, no interval")
    return [
        *(
            Row(f"error within the bound up to step {step_of(key)}", [cell(stat), least])
            for key, stat in data.coverage.items()
        ),
        Row("episodes that pass the limit of uncertainty", [cell(data.limit), Cell(f"at most {percent(1 - share)}")]),
        Row("moments at which the trust horizon held", [held, least]),
    ]


def _gain(one: Ranks) -> Cell:
    if one.gain_low is None or one.up_to is None or one.clock is None:
        return cell(None, 2, CONSTANT)
    return Cell(f"{one.up_to - one.clock:+.2f}", f"{one.gain_low:.2f} to {number(one.gain_high, 2)}")


def shifts(data: ShiftsResult, found: Found) -> Markup:
    """AUROC of visible and hidden shifts."""
    scores = {name: None if isinstance(one, Blank) else one.score for name, one in data.visible.items()}
    hidden = {name: None if isinstance(one, Blank) else one.auroc for name, one in data.hidden.items()}
    return fill(
        "report/shifts.html",
        starts=data.starts,
        bars=picture(figures.shift_bars(scores, hidden), "AUROC of each shift"),
        rows=rows_of(
            data.visible,
            lambda one: (
                [cell(None, 2, one.undefined)] * 3
                if isinstance(one, Blank)
                else [cell(one.score, 2), cell(one.unrest, 2), cell(one.novelty, 2)]
            ),
        ),
        blanks={name: one.undefined for name, one in data.hidden.items() if isinstance(one, Blank)},
    )


def violations(data: ViolationsResult, found: Found) -> Markup:
    """Rates by class beside the floor, the detector's own quality and the worst frames."""
    rows, floor = data.violations, violation_floor(data.violations)
    beside = [name for name in ("world", floor) if name]
    drawn = [(kind, {name: rows[name][kind].episodes for name in beside}) for kind in rows["world"]]
    figure = figures.intervals(drawn, "episodes with a violation, %", 100, limits=(-3, None))
    return fill(
        "report/violations.html",
        episodes=data.episodes,
        steps=data.steps,
        floor=name_of(floor) if floor else "not measured",
        intervals=picture(figure, "violations by class"),
        rows=[
            Row(
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
        ],
        quality=rows_of(
            data.detector or {},
            lambda one: [cell(one.recall), share_cell(one.precision, "it found nothing"), Cell(str(one.false_events))],
        ),
        worst=_gallery(data.worst, (found.films or {}).get("worst_frames", ())),
    )


def _excess(own: Broken) -> Cell:
    if own.excess_median is None:
        return cell(None, 2, "no event")
    return Cell(f"{own.excess_median:.2f} {own.unit}", f"worst {number(own.excess_worst, 2)} {own.unit}")


def _gallery(worst: list[WorstEvent], frames: Sequence[np.ndarray] | np.ndarray) -> list[tuple[WorstEvent, str]]:
    """Up to 12 of the worst events, each with the address of its picture."""
    return [(one, pair(*frames[one.frame])) for one in worst if 0 <= one.frame < len(frames)][:12]


def policies(data: PoliciesResult, found: Found) -> Markup:
    """The scatter of success rates and how far the two agree."""
    return fill(
        "report/policies.html",
        count=len(data.policies),
        episodes=data.episodes,
        scatter=picture(policy_figure(data.policies), f"{data.by} in the world over {data.by} in physics"),
        each=[
            Row(one["agent"], [Cell(one["world_name"]), cell(one["world"]), cell(one["physics"])])
            for one in data.policies
        ],
        rows=rows_of(
            _judges(data),
            lambda one: [
                _correlation(one["all"]),
                _correlation(one["within_band"]),
                Cell(f"{one['mmrv']:.3f}", f"perfect world {one['perfect_world']['mmrv']:.3f}"),
                share_cell(one["optimism"], "by return" if data.by == RETURN else "physics never fails"),
                share_cell(one["pessimism"], "by return" if data.by == RETURN else "physics never succeeds"),
            ],
        ),
        share=next((percent(one["keep"]) for one in data.gating.values() if not isinstance(one, Blank)), ""),
        blanks=_not_asked(data),
        by_return=data.by == RETURN,
        gating=rows_of(
            {name: one for name, one in data.gating.items() if not isinstance(one, Blank)},
            lambda gate: [*(_gained(gate, what) for what in GAINED), cell(gate["wrong"], 2, "all right, or all wrong")],
        ),
        powered=rows_of(
            {name: one for name, one in data.prediction_powered.items() if not isinstance(one, Blank)},
            lambda one: _powered(one, 1 if data.by == RETURN else 100),
        ),
    )


def _powered(one: PredictionPowered, scale: float) -> list[Cell]:
    """What few starts in physics say of a rate (in %), or of a return, alone and beside many in the world."""
    alone, beside = one["physics_alone"], one["with_the_world"]
    return [
        Cell(str(one["pairs"])),
        *(each for how in (alone, beside) for each in (cell(scale * how["half_width"]), cell(how["holds"]))),
    ]


def _not_asked(data: PoliciesResult) -> dict[str, str]:
    """Why, of what was not asked of all policies together."""
    found: dict[str, Any] = {name: getattr(data, name)["all"] for name in ("perturbed", "drawn", "gating")}
    found["prediction-powered inference"] = data.prediction_powered["all"]
    return {name_of(name): one.undefined for name, one in found.items() if isinstance(one, Blank)}


def _judges(data: PoliciesResult) -> dict[str, Agreement]:
    """The agreement of each world, and below it of physics as a judge where something is otherwise."""
    judges: dict[str, Agreement] = {}
    for name, one in data.agreement.items():
        judges[name] = one
        for judge_name, what in CONTROLS.items():
            other = data.control(judge_name)[name]
            if not isinstance(other, Blank):
                judges[f"{name}: {what}"] = other
    return judges


def _gained(gate: Gating, what: Literal["pearson", "optimism", "wrong"]) -> Cell:
    gain = gate["gain"][what]
    if gain is None:
        return cell(None, 2, "it does not vary, or nothing fails")
    return Cell(
        f"{number(gate['all'][what], 3)} to {number(gate['kept'][what], 3)}",
        f"{gain['gain']:+.3f}: {gain['low']:+.3f} to {gain['high']:+.3f}",
    )


def _correlation(one: Correlation) -> Cell:
    if one["pearson"] is None:
        return cell(None, 2, one["undefined"] or "")
    between = one["undefined"] if one["low"] is None else f"{one['low']:.2f} to {number(one['high'], 2)}"
    return Cell(f"{one['pearson']:.2f}", f"{between}, {one['policies']} policies")


Section = Callable[[Any, Found], Markup]
SECTIONS: dict[str, tuple[str, Section]] = {
    "films": ("What it looks like", side_by_side),
    "drift": ("How long does it stay right?", drift),
    "agent_drift": ("And under an agent's actions?", drift),
    "fidelity": ("How close are its frames?", fidelity),
    "control": ("Does it obey?", control),
    "inverse": ("Which actions do its frames show?", inverse),
    "judge": ("Does it know success when it sees it?", judge),
    "physics_iq": ("Does it move where, when and as much as physics?", physics_iq),
    "uncertainty": ("Does it know where it is wrong?", uncertainty),
    "shifts": ("Does it notice another scene?", shifts),
    "violations": ("Which laws of physics does it break?", violations),
    "policies": ("Does it judge policies as physics does?", policies),
}
"""Title and content of each measurement's section, in the order of the page."""


def all_sections() -> dict[str, tuple[str, Section]]:
    """`SECTIONS`, and `every_field` for each measurement that is not among them."""
    return SECTIONS | {
        name: (name.replace("_", " ").capitalize(), every_field) for name in result_types() if name not in SECTIONS
    }
