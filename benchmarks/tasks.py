"""Do the physics tasks mean something? Success of random actions, none and the expert's, from the same starts.

python benchmarks/tasks.py
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import gymnasium as gym
import numpy as np
from common import Bar, command, write_results

import wm_gym  # noqa: F401
from wm_gym.common.statistics import rate
from wm_gym.physics import TASKS
from wm_gym.policies.rollouts import run_source, start_seeds
from wm_gym.policies.source import make_source

BARS = {
    "tasks": [
        Bar(f"{task}, success of {policy}", (task, policy, "rate"), most=0.05, show="{:.1%}")
        for task in ("reach", "push", "drawer")
        for policy in ("random", "no-op")
    ]
    + [
        Bar(f"{task}, success of the expert", (task, "expert", "rate"), show="{:.1%}")
        for task in ("reach", "push", "drawer")
    ]
}


def expert(env: gym.Env, seeds: list[int]) -> list[bool]:
    successes = []
    for seed in seeds:
        env.reset(seed=seed)
        policy, over, info = env.unwrapped.scripted_policy("expert", np.random.default_rng(seed)), False, {}
        while not over:
            _, _, terminated, truncated, info = env.step(policy.act())
            over = terminated or truncated
        successes.append(info["success"])
    return successes


def measure(task: str, episodes: int) -> dict:
    entry, seeds = TASKS[task], start_seeds(episodes, 2000)
    env = make_source(entry.env_id, None, "random", entry.max_episode_steps)
    policies = {name: [o.success for o in run_source(name, env, seeds)[0]] for name in ("random", "no-op")}
    policies["expert"] = expert(env, seeds)
    env.close()
    return {name: rate(successes) for name, successes in policies.items()}


def main() -> None:
    parser = command(__doc__, BARS)
    parser.add_argument("--episodes", type=int, default=400, help="(default: 400)")
    args = parser.parse_args()
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        rows = pool.map(measure, TASKS, [args.episodes] * len(TASKS))
        write_results("tasks", {"episodes": args.episodes, **dict(zip(TASKS, rows))})


if __name__ == "__main__":
    main()
