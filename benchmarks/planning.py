"""Does planning in the world alone succeed in physics, and how fast is a decision? Beside the simulator as the model.

    wm-gym agent plan Push-v0 --out runs/planner
    python benchmarks/planning.py runs/planner --episodes 100

The same search with the rendered PyBullet twin as the model is timed in turns with it, one core for both: it sets the
twin to the true state, steps and draws every sequence of actions, and sums physics' own rewards.
"""

from __future__ import annotations

import argparse

import gymnasium as gym
import numpy as np
from common import write_results
from timing import alternate, ratio

from wm_gym.registration import physics_twin
from wm_gym.rl.agent_folder import load_agent
from wm_gym.rl.evaluate import evaluate_matched, summary
from wm_gym.rl.planner import DISCOUNT, PlannerAgent


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
    """Decisions a second of the search in the world and in the twin."""
    planner, env = agent.policy, gym.make(twin, render_mode="rgb_array", disable_env_checker=True).unwrapped
    frame, _ = env.reset(seed=10_000)
    frames = np.repeat(frame[None], planner.world.spec.context_frames + 1, axis=0)
    state, box = env.get_physics_state(), planner.action_space

    def in_world() -> int:
        planner.plan(frames)
        return 1

    def in_twin() -> int:
        planner.search.best(lambda actions: twin_score(env, state, actions), box.low, box.high,
                            np.random.default_rng(0))
        return 1

    rates = alternate({"world": in_world, "twin": in_twin}, rounds, seconds)
    env.close()
    return {"decisions_per_second": {name: round(float(np.median(each)), 3) for name, each in rates.items()},
            "faster_by": ratio(rates, "world", "twin")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("planner", help="an agent folder of wm-gym agent plan")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    agent = load_agent(args.planner)
    twin = physics_twin(agent.policy.world.spec)
    timed = speed(agent, twin, args.rounds, 4.0)
    results = evaluate_matched(agent, agent.world, twin, args.episodes, args.seed, baselines=())
    print(summary(results))
    del results["per_episode"]
    write_results(f"planning_{results['world_name']}", {"search": agent.config["search"], **timed, "success": results})


if __name__ == "__main__":
    main()
