"""Does planning in the world alone succeed in physics, and how fast is a decision? Beside the simulator as the model.

    wm-gym agent plan Push-v0 --out runs/planner
    python benchmarks/studies/planning.py runs/planner --against ppo-Push-v0 --episodes 100

The planner and a trained policy run in physics from the same starts, planned in the world from rendered pictures alone.
Decisions a second: the search in the world, in turns with the same search with the rendered PyBullet twin as its model,
which is set to the true state, steps and draws every sequence of actions, and sums physics' own rewards.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import gymnasium as gym
import numpy as np
import torch
from common import Bar, command, write_results
from timing import alternate, ratio

from wm_gym.common.statistics import rate
from wm_gym.policies.agent import Agent
from wm_gym.policies.card import percent
from wm_gym.policies.loaders import load_agent
from wm_gym.policies.planner import DISCOUNT, PlannerAgent
from wm_gym.policies.rollouts import run_source, start_seeds
from wm_gym.policies.source import make_source, source_of

BARS = {
    "planning_Push-v0": [
        Bar(
            "success in physics, planned in the world alone",
            ("in_physics", 0, "success", "rate"),
            least=0.8,
            show="{:.1%}",
        ),
        Bar("a decision as often as with the rendered twin as the model", ("faster_by", "median"), least=10),
        Bar("success in physics of ppo-Push-v0, same starts", ("in_physics", 1, "success", "rate"), show="{:.1%}"),
    ]
}


def twin_score(env: gym.Env, state: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """What sequences of actions [N, H, A] are worth in physics from a state [S], every step rendered: [N]."""
    worth = np.zeros(len(actions))
    for n, sequence in enumerate(actions):
        env.set_physics_state(state)
        for t, action in enumerate(sequence):
            _, reward, terminated, *_ = env.step(action)
            worth[n] += DISCOUNT**t * reward
            if terminated:
                break
    return worth


def speed(agent: PlannerAgent, twin: str, rounds: int, seconds: float) -> dict:
    """Decisions a second of the search in the world, from a full memory of pictures, and in the twin."""
    planner, env = agent.policy, gym.make(twin, render_mode="rgb_array", disable_env_checker=True).unwrapped
    frame, _ = env.reset(seed=10_000)
    frames = np.repeat(frame[None], planner.world.spec.context_frames + 1, axis=0)
    state, box = env.get_physics_state(), planner.action_space

    def in_world() -> int:
        planner.plan(frames)
        return 1

    def in_twin() -> int:
        planner.search.best(
            lambda actions: twin_score(env, state, actions), box.low, box.high, np.random.default_rng(0)
        )
        return 1

    rates = alternate({"world": in_world, "twin": in_twin}, rounds, seconds)
    env.close()
    return {
        "decisions_per_second": {name: [round(r, 3) for r in each] for name, each in rates.items()},
        "faster_by": ratio(rates, "world", "twin"),
    }


def in_physics(agent: Agent, twin: str, seeds: list[int]) -> dict:
    """Success of an agent in the twin, and how long an episode takes (the twin's own time included)."""
    env, started = make_source(twin, agent.world, agent), time.perf_counter()
    outcomes, _ = run_source(agent, env, seeds, progress=lambda: print(".", end="", flush=True))
    env.close()
    success = rate([o.success for o in outcomes])
    print(f" {agent.name} in physics: {percent(success)}")
    return {
        "agent": agent.name,
        "success": success,
        "steps_to_success": float(np.mean([o.steps for o in outcomes if o.success])),
        "seconds_an_episode": (time.perf_counter() - started) / len(seeds),
        "per_episode": [o.success for o in outcomes],
    }


def main() -> None:
    parser = command(__doc__, BARS)
    parser.add_argument("planner", help="an agent folder of wm-gym agent plan")
    parser.add_argument("--against", default=None, help="a trained agent of the same world")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the starts, as of wm-gym agent evaluate (default: 0)")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    agent = load_agent(args.planner)
    twin, seeds = source_of(agent.policy.world.spec)[0], start_seeds(args.episodes, args.seed)
    timed = speed(agent, twin, args.rounds, 4.0)
    print(timed)
    agents = [agent, *([load_agent(args.against)] if args.against else [])]
    write_results(
        f"planning_{agent.policy.world.spec.name}",
        {
            "planner": {key: agent.config[key] for key in ("search", "replan_every", "sampling_steps")},
            "seed": args.seed,
            **timed,
            "in_physics": [in_physics(each, twin, seeds) for each in agents],
        },
    )


if __name__ == "__main__":
    main()
