"""How good is a policy, in the learned world and in physics from the same starts?"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import as_completed
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack
from tqdm import tqdm

from wm_gym.common.files import write_json
from wm_gym.common.options import with_changes
from wm_gym.common.processes import Interrupts, begin_worker, one_thread, spawned_pool
from wm_gym.common.registry import find_spec
from wm_gym.common.statistics import matched_table, rate
from wm_gym.engine.shared import load_world
from wm_gym.policies.agent import Agent
from wm_gym.policies.callable import ExternalAgent
from wm_gym.policies.card import RESULTS_FILE, matched_rows, percent, write_card
from wm_gym.policies.loaders import load_agent
from wm_gym.policies.options import BASELINES, MatchedOptions
from wm_gym.policies.rollouts import Outcome, Start, make_twin, run_twin, run_world, start_seeds, twin_of
from wm_gym.registration import is_learned, physics_twin
from wm_gym.sb3 import make_sb3_env
from wm_gym.worlds.world import World

PART = 5  # episodes a worker takes at a time


def evaluate_agent(
    agent: Agent | str | Path,
    env_id: str,
    episodes: int = 100,
    seed: int = 0,
    *,
    env_kwargs: dict[str, Any] | None = None,
    video: str | Path | None = None,
    save: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Measure an agent in any registered environment.

    Args:
        agent: An agent, its folder, or what else `load_agent` takes.
        env_id: A learned world that has a physics twin, or the twin of the world that the agent was trained in: the
            same policy in both from matched starts, see `evaluate_matched`. Any other id: in that environment alone.
        episodes: How many.
        seed: Of the starts.
        env_kwargs: Keyword arguments for the environment.
        video: An mp4 or GIF of some episodes to write.
        save: Keep the results in the agent's folder (results.json and the card).
        **options: Of `evaluate_matched` or `evaluate_alone`.

    Returns:
        What `evaluate_matched` or `evaluate_alone` returns.

    Raises:
        ValueError: For a video of another suffix, and for a film of an agent that cannot be filmed.
    """
    agent, spec = load_agent(agent), find_spec(env_id)
    world, twin_id = _world_and_twin(agent, spec, env_kwargs or {})
    if video:  # before the episodes, not after them
        from wm_gym.policies.films import check_suffix, film_alone, matched_clips, side_by_side, write_video

        check_suffix(video)
        if not twin_id and agent.frame_stack > 1:
            raise ValueError(
                f"{agent.name} stacks {agent.frame_stack} frames, {env_id} has no twin: this cannot be "
                "filmed; leave the video out"
            )
    if twin_id:
        results = evaluate_matched(agent, world, twin_id, episodes, seed, **options)
    else:
        results = evaluate_alone(agent, env_id, episodes, seed, env_kwargs=env_kwargs, **options)
    if save and agent.folder and not isinstance(agent, ExternalAgent):  # before the film, which may fail
        save_results(agent.folder, results)
    if video and twin_id:
        engine = {k: options[k] for k in ("backend", "device", "precision", "deterministic") if k in options}
        frames = side_by_side(matched_clips(agent, world, twin_id, seed=seed, **engine))
        write_video(video, frames, load_world(world).spec.fps)
    elif video:
        film_alone(agent, env_id, video, seed=seed, env_kwargs=env_kwargs)
    return results


def evaluate_matched(
    agent: Agent | str | Path,
    world: World | str | Path,
    twin_id: str | None = None,
    episodes: int = 400,
    seed: int = 0,
    options: MatchedOptions | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """The same policy from the same starts in a learned world and in its physics twin.

    Episode i begins where the twin does with a seed of (seed, i); the world begins from the twin's picture and
    proprioception. An agent trained in a learned world sees the twin through that world's tokenizer. An episode
    succeeds if its environment says so (the world's learned head, the twin's distance) within the twin's horizon.

    Args:
        agent: An agent, its folder, or what else `load_agent` takes.
        world: A World, a folder, a catalogue name or a Hub id.
        twin_id: The id of the twin; None for the one that the world names.
        episodes: How many.
        seed: Of the starts.
        options: `MatchedOptions`; None for the defaults.
        **changes: Some of its fields, and the engine's options, as of `run_world`.

    Returns:
        Success rates with Wilson's 95 % intervals, their paired difference, the 2x2 table, optimism and pessimism, and
        lists with an entry an episode.

    Raises:
        ValueError: Where the world names no twin and none is given.
    """
    own = {field.name for field in fields(MatchedOptions)} & changes.keys()
    options = with_changes(MatchedOptions, options, {name: changes.pop(name) for name in own})
    agent, source, world = load_agent(agent), world if isinstance(world, World) else str(world), load_world(world)
    twin = _Twin(*twin_of(world.spec, twin_id), source, options)
    seeds, few = (start_seeds(n, seed) for n in (episodes, options.baseline_episodes or episodes))
    started = time.monotonic()
    outcomes, starts = twin.run(agent, seeds)
    chance = {name: twin.run(name, few)[0] for name in options.baselines}
    with _bar("learned world", episodes, options.progress) as bar:
        in_world = run_world(agent, world, starts, twin.horizon, options.deterministic, bar.update, **changes)
    return {
        "agent": agent.name,
        "world_name": world.spec.name,
        "twin_id": twin.id,
        "episodes": episodes,
        "seed": seed,
        "horizon": twin.horizon,
        "deterministic": options.deterministic,
        **matched_table([o.success for o in in_world], [o.success for o in outcomes]),
        **{f"{side}_steps": _steps(made) for side, made in (("world", in_world), ("physics", outcomes))},
        "baselines": {name: rate([o.success for o in made]) for name, made in chance.items()},
        "seconds": round(time.monotonic() - started, 1),
        "per_episode": {"seed": seeds, **_per_episode(in_world, outcomes)},
    }


def _per_episode(world: list[Outcome], physics: list[Outcome]) -> dict[str, list]:
    """Lists with an entry an episode."""
    return {
        "world_success": [o.success for o in world],
        "physics_success": [o.success for o in physics],
        "world_steps": [o.steps for o in world],
        "physics_steps": [o.steps for o in physics],
        "world_reward": [round(o.reward, 4) for o in world],
        "physics_reward": [round(o.reward, 4) for o in physics],
        "world_uncertainty": [round(o.uncertainty, 5) for o in world],
        "world_probability": [o.probability for o in world],
    }


def evaluate_alone(
    agent: Agent | str | Path,
    env_id: str,
    episodes: int = 100,
    seed: int = 0,
    *,
    env_kwargs: dict[str, Any] | None = None,
    deterministic: bool = True,
    n_envs: int | None = None,
) -> dict[str, Any]:
    """An agent in one environment: success rate where its info has `is_success`, rewards and lengths.

    Args:
        agent: An agent, its folder, or what else `load_agent` takes.
        env_id: The id of a registered environment.
        episodes: How many.
        seed: Of the environments.
        env_kwargs: Keyword arguments for the environment.
        deterministic: Take the policy's most likely action instead of drawing one.
        n_envs: Environments at once (default: 50 learned ones, 2 others, 1 of a policy that was made elsewhere).
    """
    agent = load_agent(agent)
    kwargs = {**agent.kwargs_for(env_id), **(env_kwargs or {})}
    at_once = 1 if isinstance(agent, ExternalAgent) else 50 if is_learned(find_spec(env_id)) else 2
    n_envs = min(episodes, n_envs or at_once)
    env: VecEnv = make_sb3_env(env_id, n_envs, seed, wrapper_class=agent.env_wrapper, **kwargs)
    if agent.frame_stack > 1:
        env = VecFrameStack(env, agent.frame_stack)
    successes: list[bool | None] = []

    def note(local: dict, _: dict) -> None:
        if local["done"] and local["episode_counts"][local["i"]] < local["episode_count_targets"][local["i"]]:
            successes.append(local["info"].get("is_success", local["info"].get("success")))

    started = time.monotonic()
    try:
        if isinstance(agent, ExternalAgent):
            if not isinstance(env.action_space, gym.spaces.Box):
                raise ValueError(f"{agent.name} gives actions of numbers, {env_id} takes {env.action_space}")
            agent.policy.action_space = env.action_space
        rewards, lengths = evaluate_policy(
            agent.policy, env, episodes, deterministic, callback=note, return_episode_rewards=True
        )
    finally:
        env.close()
    known = [bool(s) for s in successes if s is not None]
    return {
        "agent": agent.name,
        "env": env_id,
        "episodes": episodes,
        "seed": seed,
        "deterministic": deterministic,
        "success": rate(known) if known else None,
        "reward": {"mean": float(np.mean(rewards)), "std": float(np.std(rewards))},
        "steps": {"mean": float(np.mean(lengths))},
        "seconds": round(time.monotonic() - started, 1),
    }


def save_results(folder: str | Path, results: dict[str, Any]) -> None:
    """Write results.json into an agent folder, and its card anew."""
    write_json(Path(folder) / RESULTS_FILE, results)
    write_card(folder)


def summary(results: dict[str, Any]) -> str:
    """The results in a few lines for a terminal."""
    if "table" not in results:
        success = f"success {percent(results['success'])}, " if results["success"] else ""
        return (
            f"{results['env']}, {results['episodes']} episodes: {success}reward {results['reward']['mean']:.2f}, "
            f"{results['steps']['mean']:.1f} steps an episode"
        )
    title = f"{results['episodes']} matched starts, {results['world_name']} and {results['twin_id']}"
    return "\n".join([title, *(f"  {what:54s} {number}" for what, number in matched_rows(results))])


def _steps(outcomes: list[Outcome]) -> dict:
    """Mean length of the episodes that succeeded."""
    steps = [o.steps for o in outcomes if o.success]
    return {"mean_of_successes": float(np.mean(steps)) if steps else None}


def _world_and_twin(agent: Agent, spec: gym.envs.registration.EnvSpec, env_kwargs: dict) -> tuple[Any, str | None]:
    """The learned world and its twin that an id stands for; the twin is None where the id is neither of a pair."""
    if is_learned(spec):
        kwargs = {**spec.kwargs, **agent.kwargs_for(spec.id), **env_kwargs}
        if "world" not in kwargs:
            raise ValueError(f"{spec.id} needs to know which world: pass env_kwargs={{'world': 'FOLDER'}}")
        return kwargs["world"], physics_twin(load_world(kwargs["world"]).spec)
    if agent.world is not None and physics_twin(load_world(agent.world).spec) == spec.id:
        return agent.world, spec.id
    return None, None


# ---------------------------------------------------------------- physics in worker processes


@dataclass(frozen=True)
class _Twin:
    """Where policies are run in physics, and how."""

    id: str
    horizon: int
    source: World | str
    """The world whose tokenizer an agent trained in it sees the twin through."""
    options: MatchedOptions

    def run(self, policy: Agent | str, seeds: list[int]) -> tuple[list[Outcome], list[Start]]:
        """One episode a seed, in this process or in several, as pays."""
        name = policy if isinstance(policy, str) else "agent"
        with _bar(f"physics, {name}", len(seeds), self.options.progress) as bar:
            if self._pays(policy, seeds):
                return self._in_processes(policy, seeds, bar.update)
            env = make_twin(self.id, self.source, policy, self.horizon)
            try:
                return run_twin(policy, env, seeds, self.options.deterministic, bar.update)
            finally:
                env.close()

    def _pays(self, policy: Agent | str, seeds: list[int]) -> bool:
        """Whether processes pay: there are several, enough to do, and policy and world can be loaded by name."""
        if not isinstance(policy, str):
            if policy.folder is None or not policy.folder.is_dir() or not isinstance(self.source, str):
                return False
        workers = self.options.workers
        return len(seeds) > 4 * PART and ((os.cpu_count() or 1) if workers is None else workers) > 1

    def _in_processes(
        self, policy: Agent | str, seeds: list[int], progress: Callable[..., object]
    ) -> tuple[list[Outcome], list[Start]]:
        """Spawned, as forking after torch or OpenVINO has threads hangs; outcomes in the order of the seeds."""
        workers = self.options.workers or min(os.cpu_count() or 1, 8)
        named = (policy, None) if isinstance(policy, str) else (str(policy.folder), self.source)
        parts = [seeds[i : i + PART] for i in range(0, len(seeds), PART)]
        with Interrupts() as interrupts:
            with spawned_pool(workers, interrupts, _begin_worker, (*named, self.id, self.horizon)) as pool:
                with interrupts.ignored_by_children(), one_thread():
                    futures = [pool.submit(_work, part, self.options.deterministic) for part in parts]
                for future in as_completed(futures):
                    if interrupts.seen:
                        raise KeyboardInterrupt
                    progress(len(future.result()[0]))
        done = [future.result() for future in futures]
        return [o for outcomes, _ in done for o in outcomes], [s for _, starts in done for s in starts]


_worker: dict[str, Any] = {}


def _begin_worker(*arguments: Any) -> None:
    begin_worker()
    _worker["arguments"] = arguments


def _work(seeds: list[int], deterministic: bool) -> tuple[list[Outcome], list[Start]]:
    if "env" not in _worker:  # made here, not in the initializer, so that its error reaches the caller
        import torch

        torch.set_num_threads(1)
        name, source, twin_id, horizon = _worker["arguments"]
        policy = name if name in BASELINES else load_agent(name)
        _worker.update(policy=policy, env=make_twin(twin_id, source, policy, horizon))
    return run_twin(_worker["policy"], _worker["env"], seeds, deterministic)


def _bar(what: str, total: int, show: bool) -> tqdm:
    return tqdm(total=total, desc=what, unit="episode", disable=not show)
