"""What did a training inside a learned world give? One HTML file that holds its pictures and needs no network."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from typing import Any

from wm_gym.files import write_text
from wm_gym.rl.card import matched_rows

WORLD, PHYSICS, GREY = "#2f6fb5", "#c8641e", "#8a8f98"
"""One colour a side, in every figure."""

STYLE = """
:root { color-scheme: light; --ink: #1f2328; --soft: #5b626c; --line: #e3e5e8; --world: #2f6fb5; --physics: #c8641e; }
* { box-sizing: border-box; }
body { margin: 0; background: #f6f6f4; color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }
main { max-width: 960px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 8px; letter-spacing: -.01em; }
h2 { font-size: 20px; margin: 0 0 6px; }
p { margin: 0 0 12px; max-width: 72ch; }
.lead { color: var(--soft); font-size: 17px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 14px; margin: 24px 0; }
.tile, section { background: #fff; border: 1px solid var(--line); border-radius: 10px; }
.tile { padding: 14px 16px; }
.tile b { display: block; font-size: 30px; line-height: 1.15; font-weight: 650; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: 14px; }
.tile.world b { color: var(--world); } .tile.physics b { color: var(--physics); }
section { padding: 22px 24px; margin: 18px 0; }
img { max-width: 100%; height: auto; display: block; }
img.film { margin: 10px auto 4px; image-rendering: pixelated; border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
td, th { text-align: left; padding: 7px 8px; border-bottom: 1px solid var(--line); vertical-align: top; }
td:last-child { white-space: nowrap; }
table.cross { width: auto; margin-top: 6px; } table.cross td { text-align: right; min-width: 120px; }
.note { color: var(--soft); font-size: 14px; }
code { background: #f0f0ee; border-radius: 4px; padding: 1px 5px; font-size: 14px; }
pre { background: #f0f0ee; border-radius: 8px; padding: 12px 14px; overflow-x: auto; margin: 8px 0 0; }
pre code { padding: 0; background: none; }
"""


def write_report(path: str | Path, results: dict[str, Any], curve: list[dict[str, float]], config: dict[str, Any],
                 film: str | Path | None = None, timings: dict[str, float] | None = None,
                 harder: dict[str, Any] | None = None) -> Path:
    """Write the page: headline numbers, the film (a GIF), the learning curve, all numbers with their intervals.

    results: of `evaluate_matched`; curve: of `read_curve`; config: the agent's; timings: seconds a phase;
    harder: `evaluate_matched` of another, shipped agent.
    """
    path = Path(path)
    write_text(path, report_html(results, curve, config, film, timings, harder))
    return path


def report_html(results, curve, config, film=None, timings=None, harder=None) -> str:
    """The page as a string."""
    world, physics, points = results["world"], results["physics"], results["world_minus_physics"]
    minutes = (config.get("training_seconds") or 0) / 60
    tiles = [
        ("physics", f"{100 * physics['rate']:.0f} %", 
         f"success in physics, {physics['successes']} of {physics['n']} episodes"),
        ("world", f"{100 * world['rate']:.0f} %", "success in the learned world, same starts"),
        ("", f"{minutes:.1f} min", f"of training, {config['n_timesteps']:,} steps, none of them in the simulator"),
    ]
    if "random" in results["baselines"]:
        chance = results["baselines"]["random"]
        tiles.append(("", f"{100 * chance['rate']:.0f} %",
                      f"success of random actions in physics ({chance['successes']} of {chance['n']})"))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_text(results['world_name'])}: trained in imagination, checked in physics</title>
<style>{STYLE}</style></head><body><main>
<h1>Trained in imagination, checked in physics</h1>
<p class="lead">A {_text(config['algo'].upper())} policy learned from pixels inside
<code>{_text(config['env_id'])}</code>, a video world model that imagines every frame.
The same policy was then run in the simulator <code>{_text(results['twin_id'])}</code>,
which it had never seen.</p>
<div class="tiles">{''.join(_tile(*t) for t in tiles)}</div>
{_film_section(film)}
<section><h2>How it learned</h2>
<p>Share of the last 100 episodes that ended in success while exploring, and the reward of an episode. All of it
happened inside the learned world.</p>
{_picture(learning_curve(curve), 'learning curve: success rate and reward against environment steps')}</section>
<section><h2>Does it hold in physics?</h2>
<p>{results['episodes']} episodes began from the same picture in both. Bars are 95 % intervals.</p>
{_picture(rates_figure(results), 'success rates with 95 % intervals')}
{_cross(results['table'])}</section>
{_harder_section(harder)}
<section><h2>All numbers</h2>
<table>{''.join(f'<tr><td>{_text(w)}</td><td>{_text(n)}</td></tr>' for w, n in matched_rows(results))}</table>
<p class="note" style="margin-top:12px">In brackets: 95 % intervals. Rates: Wilson. Difference:
{_text(points['method'])}. Optimism is the share of physics failures that the world takes for successes, pessimism
the reverse. At most {results['horizon']} steps an episode,
{'deterministic' if results['deterministic'] else 'stochastic'} actions, seed {results['seed']}.</p></section>
<section><h2>Read this with care</h2>
<p>Physics here is a simulator, not a robot: nothing on this page says that the policy works on real hardware. The
policy sees the simulator's pictures through the world's tokenizer, the way it saw the imagined ones.
One training run with one seed; another seed gives other numbers.</p>
{_timings(timings)}
<p>Again, and with more episodes:</p>
<pre><code>wm-gym demo
wm-gym agent train {_text(config['algo'])} --env {_text(config['env_id'])} --out my-agent
wm-gym agent evaluate my-agent --env {_text(config['env_id'])} --episodes 400</code></pre></section>
</main></body></html>
"""


def learning_curve(curve: list[dict[str, float]]):
    """Success rate and reward an episode against steps; a matplotlib figure."""
    figure, (left, right) = axes(2, (9.2, 3.3))
    steps = [row["steps"] / 1000 for row in curve]
    left.plot(steps, [100 * row["success_rate"] for row in curve], color=WORLD, linewidth=2)
    left.set(ylim=(0, 103), ylabel="success, %", title="success while exploring")
    right.plot(steps, [row["episode_reward"] for row in curve], color=WORLD, linewidth=2)
    right.set(ylim=(0, None), ylabel="reward an episode", title="reward")
    for axis in (left, right):
        axis.set_xlabel("environment steps, thousands")
    if len(curve) > 1:
        ends = curve[-1]
        left.annotate(f"{ends['seconds'] / 60:.1f} min", (steps[-1], 100 * ends["success_rate"]), xytext=(-4, -16),
                      textcoords="offset points", ha="right", color=GREY, fontsize=9)
    return figure


def rates_figure(results: dict[str, Any]):
    """Success rates as dots with their 95 % intervals; a matplotlib figure."""
    rows = [("policy, learned world", results["world"], WORLD), ("policy, physics", results["physics"], PHYSICS)]
    rows += [(f"{name}, physics", rate, GREY) for name, rate in results["baselines"].items()]
    figure, (axis,) = axes(1, (9.2, 0.7 + 0.45 * len(rows)))
    for y, (label, rate, colour) in enumerate(reversed(rows)):
        axis.plot([100 * rate["low"], 100 * rate["high"]], [y, y], color=colour, linewidth=5, alpha=0.3,
                  solid_capstyle="round")
        axis.plot(100 * rate["rate"], y, "o", color=colour, markersize=8)
    axis.set_yticks(range(len(rows)), [label for label, *_ in reversed(rows)])
    axis.set(xlim=(-2, 102), ylim=(-0.6, len(rows) - 0.4), xlabel="success, %")
    axis.grid(axis="y", visible=False)
    return figure


def improvement_plot(notes: list[dict[str, Any]], path: Path) -> None:
    """Write a PNG: success of each round's agent in its world and in physics, against the physics steps recorded."""
    figure, (axis,) = axes(1, (6.4, 3.6))
    steps = [note["physics_steps"] / 1000 for note in notes]
    for side, colour in (("world", WORLD), ("physics", PHYSICS)):
        rates = [note[side] for note in notes]
        below, above = zip(*((100 * (r["rate"] - r["low"]), 100 * (r["high"] - r["rate"])) for r in rates))
        axis.errorbar(steps, [100 * r["rate"] for r in rates], fmt="o-", color=colour, capsize=3,
                      label={"world": "learned world", "physics": "physics"}[side], yerr=[below, above])
    axis.set(ylim=(0, 103), xlabel="physics steps recorded, thousands", ylabel="success, %")
    axis.legend(frameon=False)
    figure.savefig(path, dpi=170)


def axes(columns: int, size: tuple[float, float]):
    """A figure without a window, in the page's style."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, columns, squeeze=False)[0]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.spines[["left", "bottom"]].set_color("#c9cdd2")
        axis.tick_params(colors="#5b626c", labelsize=9)
        axis.grid(color="#eceef0")
        axis.set_axisbelow(True)
        axis.title.set_size(11)
    return figure, axes


def _picture(figure, description: str) -> str:
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=170)
    return f'<img alt="{_text(description)}" src="data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}">'


def _film_section(film: str | Path | None) -> str:
    if film is None:
        return ""
    data = base64.b64encode(Path(film).read_bytes()).decode()
    return f"""<section><h2>What it looks like</h2>
<p>Left: what the learned world imagines. Right: the simulator, given exactly the same actions from the same start.
The policy acts on the left.</p>
<img class="film" alt="learned world beside physics, same actions" src="data:image/gif;base64,{data}"></section>"""


def _harder_section(results: dict[str, Any] | None) -> str:
    if results is None:
        return ""
    return f"""<section><h2>A harder task: {_text(results['world_name'])}</h2>
<p>A shipped policy, trained inside its own learned world beforehand, from {results['episodes']} matched starts.</p>
{_picture(rates_figure(results), 'success rates of the shipped agent with 95 % intervals')}
{_cross(results['table'])}</section>"""


def _tile(kind: str, number: str, text: str) -> str:
    return f'<div class="tile {kind}"><b>{_text(number)}</b><span>{_text(text)}</span></div>'


def _cross(table: dict[str, int]) -> str:
    return f"""<table class="cross"><tr><th></th><th>physics: success</th><th>physics: failure</th></tr>
<tr><th>world: success</th><td>{table['both']}</td><td>{table['world_only']}</td></tr>
<tr><th>world: failure</th><td>{table['physics_only']}</td><td>{table['neither']}</td></tr></table>"""


def _timings(timings: dict[str, float] | None) -> str:
    if not timings:
        return ""
    phases = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in timings.items())
    return f'<p class="note">Time: {_text(phases)}; together {sum(timings.values()) / 60:.1f} minutes.</p>'


def _text(value: Any) -> str:
    return html.escape(str(value))
