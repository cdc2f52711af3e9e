"""What did a training inside a learned world give? One HTML file that holds its pictures and needs no network."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import numpy as np

from wm_gym.common.files import atomic_file, write_text
from wm_gym.common.page import GREY, PHYSICS, WORLD, axes, data_uri, fill, page, picture
from wm_gym.policies.card import matched_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_report(
    path: str | Path,
    results: dict[str, Any],
    curve: list[dict[str, float]],
    config: dict[str, Any],
    film: str | Path | None = None,
    timings: dict[str, float] | None = None,
    harder: dict[str, Any] | None = None,
) -> Path:
    """Write the page: headline numbers, the film, the learning curve, all numbers with their intervals.

    Args:
        path: The HTML file to write.
        results: Of `evaluate_matched`.
        curve: Of `read_curve`.
        config: The agent's.
        film: A GIF.
        timings: Seconds a phase.
        harder: `evaluate_matched` of another, shipped agent.

    Returns:
        The file.
    """
    path = Path(path)
    body = fill(
        "agent.html",
        results=results,
        config=config,
        env_id=quote(config["env_id"]),
        tiles=_tiles(results, config),
        film=data_uri(Path(film).read_bytes(), "image/gif") if film else None,
        curve=picture(learning_curve(curve), "learning curve: success rate and reward against environment steps"),
        rates=picture(rates_figure(results), "success rates with 95 % intervals"),
        rows=matched_rows(results),
        timings=timings,
        harder=harder,
        harder_rates=harder and picture(rates_figure(harder), "success rates of the shipped agent with 95 % intervals"),
    )
    write_text(path, page(f"{results['world_name']}: trained in imagination, checked in physics", body))
    return path


def learning_curve(curve: list[dict[str, float]]) -> Figure:
    """Success rate and reward an episode against steps."""
    figure, (left, right) = axes(2, (9.2, 3.3))
    steps = [row["steps"] / 1000 for row in curve]
    left.plot(steps, [100 * row["success_rate"] for row in curve], color=WORLD, linewidth=2)
    left.set(ylim=(0, 103), ylabel="success, %", title="success while exploring")
    right.plot(steps, [row["episode_reward"] for row in curve], color=WORLD, linewidth=2)
    right.set(ylim=(0, None), ylabel="reward an episode", title="reward")
    for axis in (left, right):
        axis.set_xlabel("environment steps, thousands")
    if len(curve) > 1:
        text, end = f"{curve[-1]['seconds'] / 60:.1f} min", (steps[-1], 100 * curve[-1]["success_rate"])
        left.annotate(text, end, (-4, -16), textcoords="offset points", ha="right", color=GREY, fontsize=9)
    return figure


def rates_figure(results: dict[str, Any]) -> Figure:
    """Success rates as dots with their 95 % intervals."""
    rows = [("policy, learned world", results["world"], WORLD), ("policy, physics", results["physics"], PHYSICS)]
    rows += [(f"{name}, physics", rate, GREY) for name, rate in results["baselines"].items()]
    figure, (axis,) = axes(1, (9.2, 0.7 + 0.45 * len(rows)))
    for y, (_, rate, colour) in enumerate(reversed(rows)):
        interval = [100 * rate["low"], 100 * rate["high"]]
        axis.plot(interval, [y, y], color=colour, linewidth=5, alpha=0.3, solid_capstyle="round")
        axis.plot(100 * rate["rate"], y, "o", color=colour, markersize=8)
    axis.set_yticks(range(len(rows)), [label for label, *_ in reversed(rows)])
    axis.set(xlim=(-2, 102), ylim=(-0.6, len(rows) - 0.4), xlabel="success, %")
    axis.grid(axis="y", visible=False)
    return figure


def improvement_plot(notes: list[dict[str, Any]], path: Path) -> None:
    """Write a PNG: success of each round's agent in its world and outside, against the steps that were recorded there.

    Returns stand for success where one of the two knows none.
    """
    figure, (axis,) = axes(1, (6.4, 3.6))
    steps, by_success = [note["physics_steps"] / 1000 for note in notes], all("world" in note for note in notes)
    for side, label, colour in (("world", "learned world", WORLD), ("physics", "environment", PHYSICS)):
        found = [note[side] if by_success else note["returns"][side] for note in notes]
        rows = [[one.get("rate", one.get("mean")), one["low"], one["high"]] for one in found]
        middle, low, high = (100 if by_success else 1) * np.array(rows, float).T  # no interval of one episode: nan
        axis.errorbar(steps, middle, [middle - low, high - middle], fmt="o-", color=colour, capsize=3, label=label)
    axis.set(xlabel="environment steps recorded, thousands", ylabel="success, %" if by_success else "return")
    if by_success:
        axis.set(ylim=(0, 103))
    axis.legend(frameon=False)
    with atomic_file(path) as beside:
        figure.savefig(beside, dpi=170)


def _tiles(results: dict[str, Any], config: dict[str, Any]) -> list[tuple[str, str, str]]:
    def share(rate: dict[str, Any]) -> str:
        return f"{100 * rate['rate']:.0f} %"

    physics, chance = results["physics"], results["baselines"].get("random")
    minutes, steps = (config.get("training_seconds") or 0) / 60, f"{config['n_timesteps']:,} steps"
    tiles = [
        ("physics", share(physics), f"success in physics, {physics['successes']} of {physics['n']} episodes"),
        ("world", share(results["world"]), "success in the learned world, same starts"),
        ("", f"{minutes:.1f} min", f"of training, {steps}, none of them in the simulator"),
    ]
    if chance:
        what = f"success of random actions in physics ({chance['successes']} of {chance['n']})"
        tiles.append(("", share(chance), what))
    return tiles
