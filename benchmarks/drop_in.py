"""Do policies that plain Stable-Baselines3 trained in an environment earn as much in a world of it?

    python benchmarks/drop_in.py WORLD --steps 500 1000 2000 4000 6000 10000 20000 50000

Each policy is trained in the source of the world for so many steps, with the recipe for numbers and its own seed, saved
as Stable-Baselines3's own zip, and put into the world unchanged: the same 100 starts in both.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from common import Bar, command, write_results
from scipy.stats import pearsonr
from stable_baselines3.common.vec_env import DummyVecEnv

from wm_gym.engine.shared import load_world
from wm_gym.policies.loaders import load_agent
from wm_gym.policies.matched import evaluate_matched
from wm_gym.policies.recipe import algorithm, load_recipe, sb3_arguments

EPISODES = 100
BARS = {
    "drop_in_CartPole-v1": [
        Bar("policies", lambda found: len(found["policies"]), 8, show="{}"),
        Bar("correlation of returns, lower end of its 95 % interval", ("correlation", "low"), 0.8),
        Bar("correlation of returns", ("correlation", "r")),
    ]
}


def judged(args: argparse.Namespace, steps: int, seed: int, folder: Path) -> dict[str, float]:
    """One policy: trained in the environment, measured there and in the world."""
    spec = load_world(args.world).spec
    recipe = load_recipe(args.algo, "vector")
    env = DummyVecEnv([lambda: gym.make(spec.twin)] * recipe["n_envs"])
    env.seed(seed)
    arguments = sb3_arguments(args.algo, recipe, env.observation_space)
    model = algorithm(args.algo)(env=env, seed=seed, device="cpu", **arguments)
    model.learn(steps)
    env.close()
    path = folder / f"{args.algo}-{seed}.zip"
    model.save(path)
    agent = load_agent(path, allow_pickle=True)
    returns = evaluate_matched(agent, args.world, None, EPISODES, 99, baselines=(), workers=0)["returns"]
    row = {"steps": steps, "seed": seed, "world": returns["world"]["mean"], "environment": returns["physics"]["mean"]}
    print(row, flush=True)
    return row


def main() -> None:
    parser = command(__doc__, BARS)
    parser.add_argument("world", help="a world with its source's spaces")
    parser.add_argument("--algo", default="ppo")
    parser.add_argument("--steps", type=int, nargs="+", default=[500, 1000, 2000, 4000, 6000, 10_000, 20_000, 50_000])
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        rows = [judged(args, steps, 100 + i, Path(scratch)) for i, steps in enumerate(args.steps)]
    world, truth = (np.array([row[side] for row in rows]) for side in ("world", "environment"))
    found = pearsonr(world, truth)
    low, high = found.confidence_interval()
    write_results(
        f"drop_in_{load_world(args.world).spec.twin}",
        {
            "algo": args.algo,
            "episodes": EPISODES,
            "trained_on": load_world(args.world).spec.trained_on,
            "policies": rows,
            "correlation": {"r": float(found.statistic), "low": float(low), "high": float(high)},
            "mean_absolute_difference": float(np.abs(world - truth).mean()),
        },
    )


if __name__ == "__main__":
    main()
