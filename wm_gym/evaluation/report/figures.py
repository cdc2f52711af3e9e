"""How are measurements of a world drawn? One small figure a measurement, in one colour a roll-out; matplotlib figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wm_gym.common.page import GREY, PHYSICS, WORLD, axes
from wm_gym.evaluation.report.numbers import middle_of
from wm_gym.evaluation.report.summary import seconds_of

NAMES = {
    "world": "the world",
    "physics": "physics",
    "tokenizer": "physics through the tokenizer",
    "physics through the tokenizer": "physics through the tokenizer",
    "perturbed": "physics, start perturbed",
    "frozen": "first frame repeated",
    "zero_action": "world given zero actions",
    "mirrored": "world given mirrored actions",
}
COLOURS = {
    "world": WORLD,
    "physics": PHYSICS,
    "tokenizer": "#dda15e",
    "physics through the tokenizer": "#dda15e",
    "perturbed": "#7a5ea8",
    "frozen": GREY,
    "zero_action": "#b58a8a",
    "mirrored": "#5f9e6e",
}
SIZE = (4.6, 3.3)


def name_of(name: str) -> str:
    """A roll-out in words."""
    return NAMES.get(name, name)


def survival(curves: Mapping[str, Mapping[str, Any]]):
    """Share of roll-outs that are still right, with 95 % bands, from `time_to_failure` by roll-out."""
    figure, (axis,) = axes(1, SIZE)
    for name, curve in curves.items():
        main = name == "world"
        axis.fill_between(
            curve["seconds"],
            _percent(curve["low"]),
            _percent(curve["high"]),
            linewidth=0,
            step="post",
            alpha=0.22 if main else 0.09,
            color=_colour(name),
        )
        axis.plot(
            curve["seconds"],
            _percent(curve["surviving"]),
            drawstyle="steps-post",
            color=_colour(name),
            linewidth=2.2 if main else 1.4,
            label=name_of(name),
            zorder=3 if main else 2,
        )
    axis.set(ylim=(-2, 103), xlim=(0, None), xlabel="seconds", ylabel="roll-outs still right, %")
    _legend(axis)
    return figure


def over_horizons(drift: Mapping[str, Any], metric: str, label: str, times: float = 1.0):
    """One of drift's numbers against the horizon, by roll-out, with 95 % intervals."""
    keys = sorted((key for key in drift if key.startswith("at_")), key=seconds_of)
    roll_outs = list(drift[keys[0]])
    figure, (axis,) = axes(1, SIZE)
    for i, name in enumerate(roll_outs):
        points = [
            (seconds_of(key) * (1 + 0.02 * (i - len(roll_outs) / 2)), middle_of(drift[key][name][metric]))
            for key in keys
        ]
        points = [(x, stat) for x, stat in points if stat[0] is not None]
        _dots(
            axis,
            [x for x, _ in points],
            [[times * v if v is not None else None for v in stat] for _, stat in points],
            _colour(name),
            name_of(name),
            "o-",
        )
    axis.set(xlabel="seconds", ylabel=label, ylim=(0, None), xticks=[seconds_of(key) for key in keys])
    _legend(axis)
    return figure


def fidelity_lines(found: Mapping[str, Any], metric: str, label: str, roll_outs: Sequence[str]):
    """One of fidelity's numbers against the step, by roll-out."""
    figure, (axis,) = axes(1, SIZE)
    steps = found["horizons"]
    for name in roll_outs:
        axis.plot(
            range(len(steps)),
            [found[f"at_{t}"][name][metric] for t in steps],
            "o-",
            color=_colour(name),
            linewidth=2.2 if name == "world" else 1.4,
            markersize=5,
            label=name_of(name),
        )
    axis.set(xticks=range(len(steps)), xticklabels=steps, xlabel="step", ylabel=label)
    _legend(axis)
    return figure


def intervals(
    rows: Sequence[tuple[str, Mapping[str, Mapping[str, Any] | None]]],
    label: str,
    times: float = 1.0,
    line: float | None = None,
    limits: tuple[float | None, float | None] = (None, None),
):
    """Dots with their 95 % intervals: (name, statistic by roll-out) a row, top to bottom.

    line: where a vertical line stands for chance or zero.
    """
    roll_outs = list(dict.fromkeys(name for _, stats in rows for name in stats))
    figure, (axis,) = axes(1, (4.6, 0.9 + (0.16 + 0.15 * len(roll_outs)) * len(rows)))
    for y, (_, stats) in enumerate(reversed(rows)):
        for k, (name, stat) in enumerate(stats.items()):
            _interval(axis, y + 0.6 * ((len(stats) - 1) / 2 - k) / max(len(stats), 1), stat, name, times)
    if line is not None:
        axis.axvline(line, color=GREY, linewidth=1)
    axis.set_yticks(range(len(rows)), [name for name, _ in reversed(rows)])
    axis.set(ylim=(-0.6, len(rows) - 0.4), xlabel=label, xlim=limits)
    axis.grid(axis="y", visible=False)
    for name in roll_outs:
        axis.plot([], [], "o", color=_colour(name), label=name_of(name), markersize=6)
    figure.legend(frameon=False, fontsize=8.5, loc="outside upper center", ncols=2)
    return figure


def _interval(axis, y: float, stat: Mapping[str, Any] | None, name: str, times: float) -> None:
    middle, low, high = middle_of(stat) if stat else (None, None, None)
    if middle is None:
        axis.text(0.02, y, "undefined", color=GREY, fontsize=8, va="center", transform=axis.get_yaxis_transform())
        return
    if low is not None:
        axis.plot(
            [times * low, times * high], [y, y], color=_colour(name), linewidth=5, alpha=0.3, solid_capstyle="round"
        )
    axis.plot(times * middle, y, "o", color=_colour(name), markersize=6)


def reliability_diagram(dense: Mapping[str, Mapping[str, Any]]):
    """Observed against stated probability; the larger a dot, the more predictions it stands for."""
    figure, (axis,) = axes(1, (4.6, 4.2))
    axis.plot([0, 100], [0, 100], color=GREY, linewidth=1)
    for (name, found), colour, words in zip(dense.items(), (WORLD, "#5f9e6e"), ("whole roll-outs", "single steps")):
        bars = found["reliability"]
        used = [(100 * x, 100 * y, n) for x, y, n in zip(bars["stated"], bars["observed"], bars["n"]) if n]
        x, y, n = zip(*used)
        axis.plot(x, y, color=colour, linewidth=1.4)
        axis.scatter(x, y, [10 + 110 * k / max(n) for k in n], color=colour, label=f"{words} ({name})", zorder=3)
    axis.set(xlim=(-2, 102), ylim=(-2, 102), xlabel="stated probability, %", ylabel="observed frequency, %")
    axis.set_aspect("equal")
    _legend(axis)
    return figure


def ranks_lines(ranks: Mapping[str, Mapping[str, Any]]):
    """Spearman's rho of uncertainty and error, and of the step counter and error, by horizon."""
    figure, (axis,) = axes(1, SIZE)
    steps = [int(key.split("_")[-1]) for key in ranks]
    for key, label, colour, style in (
        ("up_to", "uncertainty, all steps so far", WORLD, "o-"),
        ("clock", "step counter, all steps so far", GREY, "o-"),
        ("at", "uncertainty, at that step", "#7a5ea8", "o--"),
    ):
        points = [(i, row[key]) for i, row in enumerate(ranks.values()) if row[key] is not None]
        if points:
            axis.plot(*zip(*points), style, color=colour, label=label, markersize=5)
    axis.axhline(0, color=GREY, linewidth=1)
    axis.set(
        xticks=range(len(steps)),
        xticklabels=steps,
        xlabel="step",
        ylabel="Spearman's rho with the error",
        ylim=(None, 1.02),
    )
    _legend(axis)
    return figure


def coverage_dots(coverage: Mapping[str, Mapping[str, Any]], guaranteed: float | None):
    """Share of episodes within the bound up to each horizon, with 95 % intervals and what is guaranteed."""
    figure, (axis,) = axes(1, SIZE)
    if guaranteed is not None:
        axis.axhline(100 * guaranteed, color=GREY, linewidth=1, label=f"guaranteed, {100 * guaranteed:.0f} %")
    _dots(
        axis,
        range(len(coverage)),
        [[100 * v for v in middle_of(stat)] for stat in coverage.values()],
        WORLD,
        "within the bound",
        "o",
    )
    axis.set(
        xticks=range(len(coverage)),
        xticklabels=[key.split("_")[-1] for key in coverage],
        xlabel="at all steps up to",
        ylabel="episodes, %",
        ylim=(-2, 104),
        xlim=(-0.5, len(coverage) - 0.5),
    )
    _legend(axis)
    return figure


def shift_bars(visible: Mapping[str, Mapping[str, float]], hidden: Mapping[str, Mapping[str, float]]):
    """AUROC of each shift, from chance at 0.5: what one picture shows, and what only motion shows."""
    rows = [(name, row["score"], WORLD) for name, row in visible.items()]
    rows += [(f"{name} (hidden)", row["auroc"], "#7a5ea8") for name, row in hidden.items()]
    figure, (axis,) = axes(1, (4.6, 0.8 + 0.36 * len(rows)))
    for y, (_, score, colour) in enumerate(reversed(rows)):
        if score is None:
            axis.text(0.5, y, " undefined", color=GREY, fontsize=9, va="center")
            continue
        axis.barh(y, score - 0.5, left=0.5, color=colour, height=0.6)
        axis.text(max(score, 0.5) + 0.01, y, f"{score:.2f}", fontsize=9, va="center")
    axis.axvline(0.5, color=GREY, linewidth=1)
    axis.set_yticks(range(len(rows)), [name for name, *_ in reversed(rows)])
    lowest = min([score for _, score, _ in rows if score is not None], default=0.5)
    axis.set(xlim=(min(0.45, lowest - 0.05), 1.08), xlabel="AUROC (0.5 is chance)")
    axis.grid(axis="y", visible=False)
    return figure


def _dots(axis, x, stats, colour: str, label: str, style: str) -> None:
    """Points with error bars; a point without an interval has none."""
    middles = [middle for middle, *_ in stats]
    below = [middle - low if low is not None else 0 for middle, low, _ in stats]
    above = [high - middle if high is not None else 0 for middle, _, high in stats]
    axis.errorbar(
        list(x),
        middles,
        yerr=[below, above],
        fmt=style,
        color=colour,
        capsize=3,
        markersize=5,
        linewidth=1.4,
        label=label,
    )


def _legend(axis) -> None:
    axis.legend(frameon=False, fontsize=8.5)


def _percent(values: Sequence[float]) -> list[float]:
    return [100 * value for value in values]


def _colour(name: str) -> str:
    return COLOURS.get(name, GREY)
