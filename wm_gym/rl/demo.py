"""What does wm-gym do, in one command? Trains in the shipped world, checks in physics, writes a film and a report."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wm_gym.common.files import write_json
from wm_gym.common.options import with_changes
from wm_gym.policies.films import matched_clips, side_by_side, write_video
from wm_gym.policies.loaders import load_agent
from wm_gym.policies.matched import evaluate_matched, save_results, summary
from wm_gym.rl.callbacks import CURVE_FILE, read_curve
from wm_gym.rl.options import DemoOptions
from wm_gym.rl.report import write_report
from wm_gym.rl.train import train_agent
from wm_gym.worlds.catalogue import catalogue_folders

HARDER = "ppo-Push-v0", "wm_gym/Push-v0"
"""A shipped agent and its world: contact, which takes longer to learn than a demo may last."""


def demo(out: str | Path = "outputs/demo", options: DemoOptions | None = None, **changes: Any) -> Path:
    """Train from scratch inside a learned world, and evaluate there and in physics.

    The shipped Push agent is evaluated in both as well. A recipe's checks in physics are left out: no simulator takes
    part in the training. OUT gets report.html, side-by-side.mp4 and .gif, results.json and the agent folder `agent`.

    Args:
        out: The folder to write.
        options: `DemoOptions`; None for the defaults.
        **changes: Some of its fields, e.g. minutes=3.

    Returns:
        The report's path.

    Raises:
        ValueError: Where the world is not shipped or has no physics twin.
    """
    options, out = with_changes(DemoOptions, options, changes), Path(out)
    env_id, episodes, seed = options.env_id, options.episodes, options.seed
    if env_id.removeprefix("wm_gym/") not in catalogue_folders():
        raise ValueError(
            f"the world {env_id!r} is not in the catalogue {sorted(catalogue_folders())}; the demo needs "
            "one with a physics twin: train it with `wm-gym train DATASET --out envs/NAME-v0`"
        )
    timings: dict[str, float] = {}
    training = f"1/4  training a {options.algo.upper()} policy from pixels inside {env_id}; no simulator is involved"
    with _phase(timings, "training", training):
        folder = train_agent(
            options.algo,
            env_id,
            out / "agent",
            timesteps=options.timesteps,
            seed=seed,
            max_minutes=options.minutes,
            overwrite=True,
            recipe={"physics_check": None},
        )
    with _phase(timings, "evaluation", f"2/4  the same policy in both, {episodes} matched starts"):
        few: dict[str, Any] = {"baselines": ("random",), "baseline_episodes": episodes}
        results = evaluate_matched(folder, env_id, None, episodes, seed, **few)
        save_results(folder, results)
        write_json(out / "results.json", results)
    print(summary(results), flush=True)
    harder_task = f"3/4  a shipped policy on a harder task, {HARDER[0]}: pushing a block, in both"
    with _phase(timings, "evaluation of the shipped agent", harder_task):
        harder = evaluate_matched(*HARDER, None, episodes, seed, baselines=())
    print(summary(harder), flush=True)
    with _phase(timings, "film", "4/4  film and report"):
        frames = side_by_side(matched_clips(folder, env_id, None, episodes=4, seed=seed + 1))
        film = write_video(out / "side-by-side.gif", frames, 10)
        write_video(out / "side-by-side.mp4", frames, 10)
    curve, config = read_curve(out / "agent.training" / CURVE_FILE), load_agent(folder).config
    report = write_report(out / "report.html", results, curve, config, film, timings, harder)
    print(f"\nreport: {report.resolve()}\nfilm:   {film.resolve()}\nagent:  {folder.resolve()}", flush=True)
    return report


@contextmanager
def _phase(timings: dict[str, float], name: str, said: str) -> Iterator[None]:
    """Say what begins, and note its seconds."""
    print(f"\n{said}", file=sys.stderr, flush=True)
    started = time.monotonic()
    yield
    timings[name] = time.monotonic() - started
