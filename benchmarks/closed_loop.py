"""Does a back-end tell the same story as eager torch? Long roll-outs with the same noise, and an agent's success.

    python benchmarks/closed_loop.py ppo-Push-v0 Push-v0

Per back-end and precision: the largest difference of one step's tensors from eager fp32, how far roll-outs part (same
start, actions and noise, the back-end's own frames fed back), and the difference in success of an agent over matched
starts (paired 95 % interval).
"""

from __future__ import annotations

import numpy as np
import torch
from common import Bar, command, write_results

from wm_gym.common.statistics import paired_difference, rate
from wm_gym.core import WorldCore
from wm_gym.engine import KNOWN, make_engine
from wm_gym.engine.shared import load_world
from wm_gym.policies.loaders import load_agent
from wm_gym.policies.rollouts import draw_start, run_world, start_seeds
from wm_gym.policies.source import make_source, source_of

REFERENCE = {"backend": "torch", "precision": "fp32"}
MARKS = (1, 10, 50, 100, 200)


def worst_step(found: dict) -> float:
    """The largest difference of one step's tensors from eager, over the fp32 back-ends; the frame is in grey levels."""
    rows = [row for name, row in found["backends"].items() if name.endswith("fp32") and name != "torch fp32"]
    return max(d for row in rows for key, d in row["one_step_largest_difference"].items() if key != "frame")


def success_lost(found: dict, end: str) -> float:
    """The outermost such end of the intervals of success minus eager's, over the bf16 back-ends."""
    ends = [row["success_minus_eager"][end] for name, row in found["backends"].items() if name.endswith("bf16")]
    return (min if end == "low" else max)(ends)


BARS = {
    "closed_loop_Push-v0": [
        Bar("largest difference of a step from eager, fp32 back-ends", worst_step, most=1e-4, show="{:.1e}"),
        Bar(
            "success minus eager's, bf16, lowest end of an interval",
            lambda found: success_lost(found, "low"),
            -0.05,
            0,
            "{:+.1%}",
        ),
        Bar(
            "success minus eager's, bf16, highest end of an interval",
            lambda found: success_lost(found, "high"),
            0,
            0.05,
            "{:+.1%}",
        ),
    ]
}


def one_step(world, engine: dict, batch: int = 8) -> dict[str, np.ndarray]:
    """All that one step gives, from the bank's starts and fixed noise."""
    rng, made = np.random.default_rng(0), make_engine(world, **engine)
    rows = np.arange(batch) % len(world.starts.frames)
    pose = world.starts.proprioception[rows] if world.spec.proprioception_dim else None
    state = make_engine(world, **REFERENCE).encode(world.starts.frames[rows], pose)
    action = rng.uniform(-1, 1, (batch, world.spec.action_dim)).astype(np.float32)
    noise = rng.normal(size=(batch, *made.noise_shape)).astype(np.float32)
    state = {key: value.to(made.device) for key, value in state.items()}
    state, out = made.step(state, *(torch.from_numpy(x).to(made.device) for x in (action, noise)))
    return {key: value.float().cpu().numpy() for key, value in (state | out).items()}


def roll_out(world, engine: dict, steps: int, batch: int = 16) -> np.ndarray:
    """Frames uint8 [steps, batch, H, W, 3] under random actions."""
    core = WorldCore(world, batch, max_episode_steps=-1, terminate_on_success=False, **engine)
    core.reset(seeds=list(range(batch)))
    rng, frames = np.random.default_rng(1), []
    for _ in range(steps):
        core.step(rng.uniform(-1, 1, (batch, core.spec.action_dim)).astype(np.float32))
        frames.append(core.observation())
    return np.stack(frames)


def main() -> None:
    parser = command(__doc__, BARS)
    parser.add_argument("agent")
    parser.add_argument("world")
    parser.add_argument("--episodes", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1000)
    args = parser.parse_args()
    world, agent = load_world(args.world), load_agent(args.agent)
    twin = make_source(source_of(world.spec)[0], world, agent)
    starts = [draw_start(twin, seed)[0] for seed in start_seeds(args.episodes, args.seed)]
    horizon = world.spec.horizon
    exact, story = one_step(world, REFERENCE), roll_out(world, REFERENCE, max(MARKS))
    wins = [o.success for o in run_world(agent, world, starts, horizon, **REFERENCE)]
    rows = {"torch fp32": {"success": rate(wins)}}
    for backend, needs in KNOWN.items():
        for precision in needs.precisions:
            engine, name = {"backend": backend, "precision": precision}, f"{backend} {precision}"
            try:
                step = one_step(world, engine)
            except (ValueError, ImportError, RuntimeError) as error:
                print(f"not measured: {name}: {error}")
                continue
            if engine == REFERENCE:
                continue
            apart = np.abs(roll_out(world, engine, max(MARKS)).astype(int) - story)
            won = [o.success for o in run_world(agent, world, starts, horizon, **engine)]
            rows[name] = {
                "one_step_largest_difference": {key: float(np.abs(exact[key] - step[key]).max()) for key in exact},
                "frames_mean_grey_levels": {t: round(float(apart[t - 1].mean()), 4) for t in MARKS},
                "frames_largest_grey_levels": {t: int(apart[t - 1].max()) for t in MARKS},
                "success": rate(won),
                "success_minus_eager": paired_difference(won, wins),
            }
    write_results(
        f"closed_loop_{world.spec.name}",
        {"agent": args.agent, "world": world.spec.name, "episodes": args.episodes, "backends": rows},
    )


if __name__ == "__main__":
    main()
