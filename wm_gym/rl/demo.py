"""What does wm-gym do, in one command? Trains in the shipped world, checks in physics, writes a film and a report."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from wm_gym.common.files import write_json
from wm_gym.policies.films import matched_clips, side_by_side, write_video
from wm_gym.policies.loaders import load_agent
from wm_gym.policies.matched import evaluate_matched, save_results, summary
from wm_gym.rl.callbacks import CURVE_FILE, read_curve
from wm_gym.rl.report import write_report
from wm_gym.rl.train import train_agent
from wm_gym.worlds.catalogue import catalogue_folders

DEMO_ENV = "wm_gym/Reach-v0"
HARDER = "ppo-Push-v0", "wm_gym/Push-v0"
"""A shipped agent and its world: contact, which takes longer to learn than a demo may last."""


def demo(
    out: str | Path = "outputs/demo",
    minutes: float = 6.0,
    seed: int = 0,
    env_id: str = DEMO_ENV,
    algo: str = "ppo",
    episodes: int = 100,
    timesteps: int = 120_000,
) -> Path:
    """Train from scratch inside a learned world, evaluate there and in physics; returns the report's path.

    The shipped Push agent is evaluated in both as well. A recipe's checks in physics are left out: no simulator takes
    part. minutes: the training ends then at the latest. Writes OUT/report.html, side-by-side.mp4 and .gif, results.json
    and the agent folder OUT/agent. Raises ValueError where the world is not shipped or has no physics twin.
    """
    out = Path(out)
    name = env_id.removeprefix("wm_gym/")
    if name not in catalogue_folders():
        raise ValueError(
            f"the world {env_id!r} is not in the catalogue {sorted(catalogue_folders())}; the demo needs "
            "one with a physics twin: train it with `wm-gym train DATASET --out envs/NAME-v0`"
        )
    timings: dict[str, float] = {}
    _say(f"1/4  training a {algo.upper()} policy from pixels inside {env_id}; no simulator is involved")
    started = time.monotonic()
    folder = train_agent(
        algo,
        env_id,
        out / "agent",
        timesteps,
        seed,
        max_minutes=minutes,
        overwrite=True,
        recipe={"physics_check": None},
    )
    timings["training"] = time.monotonic() - started

    _say(f"2/4  the same policy in the learned world and in PyBullet, {episodes} matched starts")
    started = time.monotonic()
    results = evaluate_matched(folder, env_id, None, episodes, seed, baselines=("random",), baseline_episodes=episodes)
    save_results(folder, results)
    write_json(out / "results.json", results)
    timings["evaluation"] = time.monotonic() - started
    print(summary(results), flush=True)

    _say(f"3/4  a shipped policy on a harder task, {HARDER[0]}: pushing a block, in both")
    started = time.monotonic()
    harder = evaluate_matched(*HARDER, None, episodes, seed, baselines=())
    timings["evaluation of the shipped agent"] = time.monotonic() - started
    print(summary(harder), flush=True)

    _say("4/4  film and report")
    started = time.monotonic()
    agent = load_agent(folder)
    frames = side_by_side(matched_clips(agent, env_id, None, episodes=4, seed=seed + 1))
    film = write_video(out / "side-by-side.gif", frames, 10)
    write_video(out / "side-by-side.mp4", frames, 10)
    timings["film"] = time.monotonic() - started
    curve = read_curve(out / "agent.training" / CURVE_FILE)
    report = write_report(out / "report.html", results, curve, agent.config, film, timings, harder)
    print(f"\nreport: {report.resolve()}\nfilm:   {film.resolve()}\nagent:  {folder.resolve()}", flush=True)
    return report


def _say(text: str) -> None:
    print(f"\n{text}", file=sys.stderr, flush=True)
