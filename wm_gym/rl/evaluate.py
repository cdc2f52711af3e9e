"""How good is a policy, in the learned world and in physics from the same starts?"""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecFrameStack
from tqdm import tqdm

from wm_gym.registration import find_spec, is_learned
from wm_gym.rl.agent_folder import Agent, load_agent
from wm_gym.rl.rollout import BASELINES, Outcome, Start, make_twin, run_twin, run_world, start_seeds
from wm_gym.rl.statistics import matched_table, rate
from wm_gym.sb3 import make_sb3_env
from wm_gym.shared import load_world
from wm_gym.world import World

RESULTS_FILE = "results.json"
PART = 5  # episodes a worker takes at a time


def evaluate_agent(agent: Agent | str | Path, env_id: str, episodes: int = 100, seed: int = 0, *,
                   env_kwargs: dict[str, Any] | None = None, video: str | Path | None = None, save: bool = False,
                   **options) -> dict[str, Any]:
    """Measure an agent in any registered environment.

    env_id a learned world that has a physics twin, or the twin of the world that the agent was trained in: the same
    policy in both from matched starts, see `evaluate_matched`. Any other id: in that environment alone. video: an mp4
    or GIF of some episodes. save: keep the results in the agent's folder (results.json and the card).
    """
    agent = load_agent(agent)
    spec = find_spec(env_id)
    world, twin_id = _world_and_twin(agent, spec, env_kwargs or {})
    if world is not None and twin_id:
        results = evaluate_matched(agent, world, twin_id, episodes, seed, **options)
    else:
        results = evaluate_alone(agent, env_id, episodes, seed, env_kwargs=env_kwargs, **options)
    if video:
        from wm_gym.rl.video import film_alone, film_matched

        if world is not None and twin_id:
            film_matched(agent, world, twin_id, video, seed=seed)
        else:
            film_alone(agent, env_id, video, seed=seed, env_kwargs=env_kwargs)
        results["video"] = str(video)
    if save and agent.folder:
        save_results(agent.folder, results)
    return results


def evaluate_matched(agent: Agent | str | Path, world: World | str | Path, twin_id: str | None = None,
                     episodes: int = 400, seed: int = 0, *, deterministic: bool = True,
                     baselines: tuple[str, ...] = BASELINES, baseline_episodes: int | None = None,
                     workers: int | None = None, backend: str = "auto", device: str = "auto",
                     progress: bool = True) -> dict[str, Any]:
    """The same policy from the same starts in a learned world and in its physics twin.

    Episode i begins where the twin does with a seed of (seed, i); the world begins from the twin's picture and
    proprioception. An agent trained in a learned world sees the twin through that world's tokenizer. An episode
    succeeds if its environment says so (the world's learned head, the twin's distance) within the twin's horizon.

    baselines: "random" and "no-op", in the twin from the same starts (baseline_episodes of them, default all).
    workers: processes for the twin (0: this one). Returns success rates with Wilson's 95 % intervals, their paired
    difference, the 2x2 table, optimism and pessimism, and lists an episode each.
    """
    agent, world = load_agent(agent), load_world(world)
    twin_id = twin_id or world.spec.twin
    if not twin_id:
        raise ValueError(f"the world {world.spec.name!r} names no physics twin; pass twin_id, or evaluate_alone(...)")
    horizon = find_spec(twin_id).max_episode_steps or world.spec.horizon
    seeds, few = start_seeds(episodes, seed), start_seeds(baseline_episodes or episodes, seed)
    started = time.monotonic()
    with _Bar(progress) as bar:
        jobs = {"agent": (agent, seeds), **{name: (name, few) for name in baselines}}
        physics = {name: _in_twin(policy, world, twin_id, horizon, s, deterministic, workers, bar.begin(f"physics, {name}", len(s)))
                   for name, (policy, s) in jobs.items()}
        outcomes, starts = physics["agent"]
        imagined = run_world(agent, world, starts, horizon, deterministic, backend, device,
                             bar.begin("learned world", episodes))
    return {
        "agent": str(agent.folder) if agent.folder else agent.algo,
        "world": world.spec.name,
        "twin": twin_id,
        "episodes": episodes,
        "seed": seed,
        "horizon": horizon,
        "deterministic": deterministic,
        **matched_table([o.success for o in imagined], [o.success for o in outcomes]),
        "world_steps": _steps(imagined),
        "physics_steps": _steps(outcomes),
        "baselines": {name: rate([o.success for o in physics[name][0]]) for name in baselines},
        "seconds": round(time.monotonic() - started, 1),
        "per_episode": {
            "seed": seeds,
            "world_success": [o.success for o in imagined], "physics_success": [o.success for o in outcomes],
            "world_steps": [o.steps for o in imagined], "physics_steps": [o.steps for o in outcomes],
            "world_reward": [round(o.reward, 4) for o in imagined], "physics_reward": [round(o.reward, 4) for o in outcomes],
        },
    }


def evaluate_alone(agent: Agent | str | Path, env_id: str, episodes: int = 100, seed: int = 0, *,
                   env_kwargs: dict[str, Any] | None = None, deterministic: bool = True, n_envs: int | None = None) -> dict[str, Any]:
    """An agent in one environment: success rate where its info has `is_success`, rewards and lengths."""
    agent = load_agent(agent)
    kwargs = {**_shared_kwargs(agent, env_id), **(env_kwargs or {})}
    n_envs = min(episodes, n_envs or (50 if is_learned(find_spec(env_id)) else 2))
    env = make_sb3_env(env_id, n_envs, seed, wrapper_class=agent.env_wrapper, **kwargs)
    if agent.frame_stack > 1:
        env = VecFrameStack(env, agent.frame_stack)
    successes: list[bool | None] = []

    def note(local: dict, _: dict) -> None:
        if local["done"] and local["episode_counts"][local["i"]] < local["episode_count_targets"][local["i"]]:
            successes.append(local["info"].get("is_success", local["info"].get("success")))

    started = time.monotonic()
    try:
        rewards, lengths = evaluate_policy(agent.policy, env, episodes, deterministic, callback=note,
                                           return_episode_rewards=True)
    finally:
        env.close()
    known = [bool(s) for s in successes if s is not None]
    return {
        "agent": str(agent.folder) if agent.folder else agent.algo,
        "env": env_id, "episodes": episodes, "seed": seed, "deterministic": deterministic,
        "success": rate(known) if known else None,
        "reward": {"mean": float(np.mean(rewards)), "std": float(np.std(rewards))},
        "steps": {"mean": float(np.mean(lengths))},
        "seconds": round(time.monotonic() - started, 1),
    }


def save_results(folder: str | Path, results: dict[str, Any]) -> None:
    """Write results.json (beside and renamed) into an agent folder, and its card anew."""
    from wm_gym.rl.card import write_card

    path = Path(folder) / RESULTS_FILE
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(json.dumps(results) + "\n")
    beside.rename(path)
    write_card(folder)


def summary(results: dict[str, Any]) -> str:
    """The results in a few lines for a terminal."""
    if "table" not in results:
        success = f"success {_percent(results['success'])}, " if results["success"] else ""
        return f"{results['env']}: {success}reward {results['reward']['mean']:.2f}, {results['steps']['mean']:.0f} steps an episode"
    difference = results["world_minus_physics"]
    lines = [
        f"{results['episodes']} matched starts, {results['world']} and {results['twin']}",
        f"  success in the learned world   {_percent(results['world'] if isinstance(results['world'], dict) else results['world_success'])}",
        f"  success in physics             {_percent(results['physics'])}",
        f"  world minus physics            {100 * difference['difference']:+.1f} points "
        f"[{100 * difference['low']:+.1f}, {100 * difference['high']:+.1f}] ({difference['method']})",
    ]
    lines += [f"  {name + ' policy in physics':30s} {_percent(r)}" for name, r in results["baselines"].items()]
    return "\n".join(lines)


def _percent(r: dict) -> str:
    return f"{100 * r['rate']:.1f} % [{100 * r['low']:.1f}, {100 * r['high']:.1f}] ({r['successes']}/{r['n']})" if r["n"] else "none"


def _steps(outcomes: list[Outcome]) -> dict:
    """Mean length of the episodes that succeeded."""
    steps = [o.steps for o in outcomes if o.success]
    return {"mean_of_successes": float(np.mean(steps)) if steps else None}


def _world_and_twin(agent: Agent, spec: gym.envs.registration.EnvSpec, env_kwargs: dict) -> tuple[World | None, str | None]:
    """The learned world and its twin that an id stands for, (None, None) where the id is neither of a pair."""
    if is_learned(spec):
        source = {**spec.kwargs, **(agent.config.get("env_kwargs") or {}), **env_kwargs}.get("world") \
            if spec.id.endswith("/World-v0") else {**spec.kwargs, **env_kwargs}["world"]
        world = load_world(source)
        return world, world.spec.twin
    if agent.config.get("learned") and agent.env_id:
        own = find_spec(agent.env_id)
        world = load_world({**own.kwargs, **(agent.config.get("env_kwargs") or {})}["world"])
        if world.spec.twin == spec.id:
            return world, spec.id
    return None, None


def _shared_kwargs(agent: Agent, env_id: str) -> dict:
    """The env_kwargs of the training that hold for another id too (the observation), all of them for the same."""
    kwargs = dict(agent.config.get("env_kwargs") or {})
    return kwargs if env_id == agent.env_id else {k: v for k, v in kwargs.items() if k == "observation"}


# ---------------------------------------------------------------- physics in worker processes


def _in_twin(policy, world, twin_id, horizon, seeds, deterministic, workers, progress) -> tuple[list[Outcome], list[Start]]:
    """Run the twin in processes (spawned: forking after torch or OpenVINO has threads hangs), or here for workers=0."""
    workers = min(os.cpu_count() or 1, 8) if workers is None else workers
    if workers < 2 or len(seeds) <= 2 * PART or (isinstance(policy, Agent) and policy.folder is None):
        env = make_twin(twin_id, world, policy, horizon)
        try:
            return run_twin(policy, env, seeds, deterministic, progress)
        finally:
            env.close()
    name = policy if isinstance(policy, str) else str(policy.folder)
    learned = world.folder if isinstance(policy, Agent) and policy.config.get("learned") else None
    parts = [seeds[i:i + PART] for i in range(0, len(seeds), PART)]
    with ProcessPoolExecutor(workers, get_context("spawn"), _begin_worker, (name, learned, twin_id, horizon)) as pool:
        futures = {pool.submit(_work, part, deterministic): k for k, part in enumerate(parts)}
        done: dict[int, tuple] = {}
        for future in as_completed(futures):
            done[futures[future]] = future.result()
            for _ in parts[futures[future]]:
                progress()
    return sum((done[k][0] for k in range(len(parts))), []), sum((done[k][1] for k in range(len(parts))), [])


_worker: dict[str, Any] = {}


def _begin_worker(name: str, world, twin_id: str, horizon: int) -> None:
    import torch

    torch.set_num_threads(1)
    policy = name if name in BASELINES else load_agent(name)
    _worker.update(policy=policy, env=make_twin(twin_id, load_world(world) if world else None, policy, horizon))


def _work(seeds: list[int], deterministic: bool) -> tuple[list[Outcome], list[Start]]:
    return run_twin(_worker["policy"], _worker["env"], seeds, deterministic)


class _Bar:
    """One tqdm bar a phase."""

    def __init__(self, show: bool):
        self.show, self.bar = show, None

    def __enter__(self) -> "_Bar":
        return self

    def begin(self, what: str, total: int):
        self.__exit__()
        self.bar = tqdm(total=total, desc=what, unit="episode", disable=not self.show)
        return self.bar.update

    def __exit__(self, *_) -> None:
        if self.bar is not None:
            self.bar.close()
