"""How are measurements of a world drawn? One small matplotlib figure a measurement, in one colour a roll-out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from wm_gym.common.page import GREY, PHYSICS, WORLD, axes
from wm_gym.common.statistics import Rate
from wm_gym.evaluation.metrics.drift import Drifted
from wm_gym.evaluation.metrics.survival import Survival
from wm_gym.evaluation.report.numbers import Stat, middle_of, name_of, step_of
from wm_gym.evaluation.report.summary import seconds_of
from wm_gym.evaluation.trust.coverage import Ranks
from wm_gym.evaluation.trust.uncertainty import Dense

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Middle = tuple[float | None, float | None, float | None]

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


def survival(curves: Mapping[str, Survival]) -> Figure:
    """Share of roll-outs that are still right, with 95 % bands, from `time_to_failure` by roll-out."""
    figure, (axis,) = axes(1, SIZE)
    for name, curve in curves.items():
        low, high, surviving = (100 * np.array(values) for values in (curve.low, curve.high, curve.surviving))
        alpha, width, front = (0.22, 2.2, 3) if name == "world" else (0.09, 1.4, 2)
        look: dict[str, Any] = {"color": _colour(name)}
        axis.fill_between(curve.seconds, low, high, linewidth=0, step="post", alpha=alpha, **look)
        look |= {"linewidth": width, "label": name_of(name), "zorder": front}
        axis.plot(curve.seconds, surviving, drawstyle="steps-post", **look)
    axis.set(ylim=(-2, 103), xlim=(0, None), xlabel="seconds", ylabel="roll-outs still right, %")
    _legend(axis)
    return figure


def over_horizons(at: Mapping[str, Mapping[str, Drifted]]) -> Figure:
    """The object's error against the horizon, by roll-out, with 95 % intervals."""
    keys = sorted(at, key=seconds_of)
    names = list(at[keys[0]])
    figure, (axis,) = axes(1, SIZE)
    for i, name in enumerate(names):
        beside = 1 + 0.02 * (i - len(names) / 2)
        points = [(seconds_of(key) * beside, middle_of(at[key][name].object_cm)) for key in keys]
        _dots(axis, points, _colour(name), name_of(name), "o-")
    axis.set(xlabel="seconds", ylabel="object's error, cm", ylim=(0, None), xticks=[seconds_of(key) for key in keys])
    _legend(axis)
    return figure


def fidelity_lines(numbers: Mapping[str, Sequence[float]], label: str, steps: Sequence[int]) -> Figure:
    """One of fidelity's numbers against the step, by roll-out."""
    figure, (axis,) = axes(1, SIZE)
    for name, values in numbers.items():
        width = 2.2 if name == "world" else 1.4
        axis.plot(values, "o-", color=_colour(name), linewidth=width, markersize=5, label=name_of(name))
    axis.set_xticks(range(len(steps)), [str(t) for t in steps])
    axis.set(xlabel="step", ylabel=label)
    _legend(axis)
    return figure


def intervals(
    rows: Sequence[tuple[str, Mapping[str, Stat | None]]],
    label: str,
    times: float = 1.0,
    line: float | None = None,
    limits: tuple[float | None, float | None] = (None, None),
) -> Figure:
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


def _interval(axis: Axes, y: float, stat: Stat | None, name: str, times: float) -> None:
    middle, low, high = middle_of(stat) if stat else (None, None, None)
    if middle is None:
        axis.text(0.02, y, "undefined", color=GREY, fontsize=8, va="center", transform=axis.get_yaxis_transform())
        return
    if low is not None and high is not None:
        axis.plot(
            [times * low, times * high], [y, y], color=_colour(name), linewidth=5, alpha=0.3, solid_capstyle="round"
        )
    axis.plot(times * middle, y, "o", color=_colour(name), markersize=6)


def reliability_diagram(dense: Mapping[str, Dense]) -> Figure:
    """Observed against stated probability; the larger a dot, the more predictions it stands for."""
    figure, (axis,) = axes(1, (4.6, 4.2))
    axis.plot([0, 100], [0, 100], color=GREY, linewidth=1)
    for (name, found), colour, words in zip(dense.items(), (WORLD, "#5f9e6e"), ("whole roll-outs", "single steps")):
        bars = found.reliability
        used = [(x, y, n) for x, y, n in zip(bars.stated, bars.observed, bars.n) if x is not None and y is not None]
        stated, observed = [100 * x for x, _, _ in used], [100 * y for _, y, _ in used]
        most = max(n for *_, n in used)
        axis.plot(stated, observed, color=colour, linewidth=1.4)
        sizes = [10 + 110 * n / most for *_, n in used]
        axis.scatter(stated, observed, sizes, color=colour, label=f"{words} ({name})", zorder=3)
    axis.set(xlim=(-2, 102), ylim=(-2, 102), xlabel="stated probability, %", ylabel="observed frequency, %")
    axis.set_aspect("equal")
    _legend(axis)
    return figure


def ranks_lines(ranks: Mapping[str, Ranks]) -> Figure:
    """Spearman's rho of uncertainty and error, and of the step counter and error, by horizon."""
    figure, (axis,) = axes(1, SIZE)
    for rhos, label, colour, style in (
        ([row.up_to for row in ranks.values()], "uncertainty, all steps so far", WORLD, "o-"),
        ([row.clock for row in ranks.values()], "step counter, all steps so far", GREY, "o-"),
        ([row.at for row in ranks.values()], "uncertainty, at that step", "#7a5ea8", "o--"),
    ):
        known = {i: rho for i, rho in enumerate(rhos) if rho is not None}
        if known:
            axis.plot(list(known), list(known.values()), style, color=colour, label=label, markersize=5)
    axis.axhline(0, color=GREY, linewidth=1)
    axis.set_xticks(range(len(ranks)), [str(step_of(key)) for key in ranks])
    axis.set(xlabel="step", ylabel="Spearman's rho with the error", ylim=(None, 1.02))
    _legend(axis)
    return figure


def coverage_dots(coverage: Mapping[str, Rate], guaranteed: float | None) -> Figure:
    """Share of episodes within the bound up to each horizon, with 95 % intervals and what is guaranteed."""
    figure, (axis,) = axes(1, SIZE)
    if guaranteed is not None:
        axis.axhline(100 * guaranteed, color=GREY, linewidth=1, label=f"guaranteed, {100 * guaranteed:.0f} %")
    points = [(float(i), middle_of(stat)) for i, stat in enumerate(coverage.values())]
    _dots(axis, points, WORLD, "within the bound", "o", times=100)
    axis.set_xticks(range(len(coverage)), [str(step_of(key)) for key in coverage])
    axis.set(xlabel="at all steps up to", ylabel="episodes, %", ylim=(-2, 104), xlim=(-0.5, len(coverage) - 0.5))
    _legend(axis)
    return figure


def shift_bars(visible: Mapping[str, float | None], hidden: Mapping[str, float | None]) -> Figure:
    """AUROC of each shift, from chance at 0.5: what one picture shows, and what only motion shows; None: undefined."""
    rows = [(name, score, WORLD) for name, score in visible.items()]
    rows += [(f"{name} (hidden)", score, "#7a5ea8") for name, score in hidden.items()]
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


def _dots(
    axis: Axes, points: Sequence[tuple[float, Middle]], colour: str, label: str, style: str, times: float = 1.0
) -> None:
    """Points with error bars; a point without an interval has none, and what is undefined no point."""
    known = [
        (x, middle, middle if low is None else low, middle if high is None else high)
        for x, (middle, low, high) in points
        if middle is not None
    ]
    x, middle, low, high = np.reshape(known, (-1, 4)).T * np.array([[1], [times], [times], [times]])
    look: dict[str, Any] = {"color": colour, "capsize": 3, "markersize": 5, "linewidth": 1.4, "label": label}
    axis.errorbar(x, middle, yerr=[middle - low, high - middle], fmt=style, **look)


def _legend(axis: Axes) -> None:
    axis.legend(frameon=False, fontsize=8.5)


def _colour(name: str) -> str:
    return COLOURS.get(name, GREY)
