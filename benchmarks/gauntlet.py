"""Does learning inside a world replace learning in the environment, for environments that nobody prepared?

    python benchmarks/gauntlet.py [ROW ...] --work runs/gauntlet --seeds 0 1 2

A row an environment (`ROWS`): `wm-gym learn` with a budget of environment steps; the same algorithm with the same
hyperparameters in the environment itself, with as many steps and to its plateau; random actions. Each agent is measured
in 100 episodes of the environment. Scale: random 0, plateau 1. Every measurement is kept in --work, so the same command
goes on after a kill. The rows' packages are the extras named beside them.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from common import RESULTS, Bar, command, read_results, write_results
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor, VecNormalize

from wm_gym.common.files import write_json
from wm_gym.common.reading import read_mapping
from wm_gym.common.statistics import mean
from wm_gym.policies.recipe import algorithm, entry_of_source, load_recipe, sb3_arguments
from wm_gym.rl.learn import learn

NAME, EPISODES = "gauntlet", 100


@dataclass(frozen=True)
class Row:
    """An environment, and what is spent on it."""

    env_id: str
    algo: str
    steps: int
    """Environment steps for `learn`, and for the algorithm alone."""
    plateau: int
    """Environment steps after which the algorithm alone gains no more."""
    timesteps: int
    """Imagined steps of each round's agent."""
    rounds: int = 3
    module: str = ""
    """Imported first; it registers the id."""


ROWS = {
    "CartPole-v1": Row("CartPole-v1", "ppo", 4_000, 100_000, 60_000, rounds=2),
    "Pendulum-v1": Row("Pendulum-v1", "sac", 2_000, 20_000, 10_000),
    "PandaReach-v3": Row("PandaReach-v3", "sac", 1_500, 8_000, 10_000, rounds=2, module="panda_gym"),
    "Pusher-v5": Row("Pusher-v5", "sac", 5_000, 50_000, 10_000),
    "MiniGrid-Empty-8x8": Row("Gauntlet/MiniGrid-Empty-8x8-v0", "ppo", 4_000, 20_480, 40_000, module="gauntlet_envs"),
    "ball_in_cup-catch": Row("dm_control/ball_in_cup-catch-v0", "sac", 10_000, 100_000, 20_000, module="shimmy"),
}


def score(of: str) -> Any:
    """A function of the results: the mean score of a row's seeds."""
    return lambda found: found["rows"].get(of, {}).get("score", {}).get("mean")


def short_of_equal(of: str) -> Any:
    """A function of the results: the score of learning less that of as many steps in the environment."""
    return lambda found: found["rows"].get(of, {}).get("score_minus_equal_steps", {}).get("mean")


BARS = {
    NAME: [
        *(Bar(f"{name}: score", score(name), 0.9) for name in ROWS),
        *(Bar(f"{name}: score over as many steps in the environment", short_of_equal(name), 0.0) for name in ROWS),
        Bar("environments", lambda found: len(found["rows"]), 8, show="{}"),
    ]
}


def kept(path: Path, make: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """What a file holds, made where it is not there."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        found = make(*arguments)
        write_json(path, {**found, "minutes": round((time.monotonic() - started) / 60, 2)})
    return read_mapping(path)


def measured(policy: Any, row: Row, seed: int) -> dict[str, float]:
    """The return of a policy, or of random actions where it is None, in the environment."""
    env = gym.make(row.env_id)
    env.action_space.seed(seed)
    if policy is None:
        returns = []
        for episode in range(EPISODES):
            env.reset(seed=seed * 100_000 + episode)
            total, over = 0.0, False
            while not over:
                _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
                total, over = total + float(reward), terminated or truncated
            returns.append(total)
    else:
        env.reset(seed=seed + 50_000)
        returns, _ = evaluate_policy(policy, env, EPISODES, return_episode_rewards=True, warn=False)
    env.close()
    return {"return": float(np.mean(returns)), "std": float(np.std(returns))}


def alone(row: Row, steps: int, seed: int) -> dict[str, float]:
    """The algorithm in the environment itself, for so many steps."""
    recipe = load_recipe(row.algo, entry_of_source(row.algo, gym.make(row.env_id)))
    env = DummyVecEnv([lambda: gym.make(row.env_id)] * recipe["n_envs"])
    env.seed(seed)
    env = VecMonitor(env)
    if recipe.get("normalize"):
        env = VecNormalize(env, norm_obs=False, gamma=recipe["gamma"])
    arguments = sb3_arguments(row.algo, recipe, env.observation_space)
    model = algorithm(row.algo)(env=env, seed=seed, device="cpu", **arguments)
    model.learn(steps)
    env.close()
    return measured(model, row, seed)


def learned(row: Row, seed: int, out: Path) -> dict[str, Any]:
    """`wm-gym learn`, and its agent in the environment."""
    found = learn(
        row.env_id,
        row.steps,
        out,
        algo=row.algo,
        rounds=row.rounds,
        timesteps=row.timesteps,
        seed=seed,
        evaluations=EPISODES,
        progress=False,
    )
    return {
        "return": found["environment"]["mean"],
        "std": found["environment"]["std"],
        "return_in_world": found["world"]["mean"],
        "steps": found["steps_used"],
        "rounds": found["per_round"],
    }


def run_row(name: str, seeds: list[int], work: Path) -> dict[str, Any]:
    """All measurements of a row."""
    row, per_seed = ROWS[name], []
    if row.module:
        importlib.import_module(row.module)
    for seed in seeds:
        folder = work / name / str(seed)
        found = {
            "random": kept(folder / "random.json", measured, None, row, seed),
            "learned": kept(folder / "learned.json", learned, row, seed, folder / "learn"),
            "plateau": kept(folder / "plateau.json", alone, row, row.plateau, seed),
            "equal_steps": kept(folder / "equal.json", alone, row, row.steps, seed),
        }
        per_seed.append({"seed": seed, **found})
        print(name, seed, {what: round(one["return"], 2) for what, one in found.items()}, flush=True)
    low, high = (np.mean([one[what]["return"] for one in per_seed]) for what in ("random", "plateau"))
    scores = {
        what: [(one[what]["return"] - low) / (high - low) for one in per_seed] for what in ("learned", "equal_steps")
    }
    return {
        "algo": row.algo,
        "steps": row.steps,
        "plateau_steps": row.plateau,
        "share_of_plateau_steps": row.steps / row.plateau,
        "score": mean(scores["learned"]),
        "score_of_equal_steps": mean(scores["equal_steps"]),
        "score_minus_equal_steps": mean(np.subtract(scores["learned"], scores["equal_steps"])),
        "minutes": mean([one["learned"]["minutes"] for one in per_seed]),
        "seeds": per_seed,
    }


def main() -> None:
    parser = command(__doc__, BARS)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)} (default: all)")
    parser.add_argument("--work", type=Path, default=Path("runs/gauntlet"), help="where measurements are kept")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = (read_results(NAME) or {}).get("rows", {})
    for name in args.rows or ROWS:
        rows[name] = run_row(name, args.seeds, args.work)
        RESULTS.mkdir(exist_ok=True)
        write_results(NAME, {"rows": rows})


if __name__ == "__main__":
    main()
