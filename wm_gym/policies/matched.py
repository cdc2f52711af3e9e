"""How good is a policy, in the learned world and in the environment it was learned from, from the same starts?"""

from __future__ import annotations

import time
import warnings
from dataclasses import fields
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack

from wm_gym.common.files import write_json
from wm_gym.common.options import with_changes
from wm_gym.common.registry import find_spec
from wm_gym.common.statistics import matched_table, mean, rate
from wm_gym.core import WorldCore
from wm_gym.data.observed import success_of
from wm_gym.engine.shared import load_world
from wm_gym.policies.agent import Agent
from wm_gym.policies.callable import ExternalAgent
from wm_gym.policies.card import RESULTS_FILE, matched_rows, percent, write_card
from wm_gym.policies.loaders import load_agent
from wm_gym.policies.options import MatchedOptions
from wm_gym.policies.rollouts import Outcome, run_world, start_seeds
from wm_gym.policies.source import observation_mode, source_of
from wm_gym.policies.workers import SourceRuns, episodes_bar
from wm_gym.registration import is_learned, registered_source
from wm_gym.sb3 import make_sb3_env
from wm_gym.worlds.world import World


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
        env_id: A learned world whose environment is registered, or the environment that the agent's world was learned
            from: the same policy in both from matched starts, see `evaluate_matched`. Any other id: in that alone.
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
    world, twin_id = _world_and_source(agent, spec, env_kwargs or {})
    if twin_id == spec.id:
        options["env_kwargs"] = env_kwargs
    if video:  # before the episodes, not after them
        from wm_gym.policies.films import check_suffix, film_alone, matched_clips, side_by_side, write_video

        check_suffix(video)
        if twin_id:
            WorldCore(world, render=True)  # says what it cannot draw
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
    """The same policy from the same starts in a learned world and in the environment that it was learned from.

    Episode i begins where the environment does with a seed of (seed, i); the world begins from what it shows there. An
    agent that looks at frames and was trained in a learned world sees the environment through that world's tokenizer.
    Both end after the environment's horizon at the latest. "physics" in the results is the environment.

    Args:
        agent: An agent, its folder, or what else `load_agent` takes.
        world: A World, a folder, a catalogue name or a Hub id.
        twin_id: The id of any registered environment that takes a seed; None for the one that the world names.
        episodes: How many.
        seed: Of the starts.
        options: `MatchedOptions`; None for the defaults.
        **changes: Some of its fields, and the engine's options, as of `run_world`.

    Returns:
        "returns": means of both with 95 % intervals, and of their paired differences. Where both say success: the rates
        with Wilson's intervals, their paired difference, the 2x2 table, optimism and pessimism. Lists with an entry an
        episode.

    Raises:
        ValueError: Where the world names no environment and none is given, and where it has other spaces.
    """
    own = {field.name for field in fields(MatchedOptions)} & changes.keys()
    options = with_changes(MatchedOptions, options, {name: changes.pop(name) for name in own})
    agent, named, world = load_agent(agent), world if isinstance(world, World) else str(world), load_world(world)
    draws = WorldCore(world, observation=observation_mode(agent), **changes).draws
    source = SourceRuns(*source_of(world.spec, twin_id), named, options, draws, dict(options.env_kwargs or {}))
    seeds, few = (start_seeds(n, seed) for n in (episodes, options.baseline_episodes or episodes))
    started = time.monotonic()
    outcomes, starts = source.run(agent, seeds)
    chance = {name: source.run(name, few)[0] for name in options.baselines}
    with episodes_bar("learned world", episodes, options.progress) as bar:
        in_world = run_world(agent, world, starts, source.horizon, options.deterministic, bar.update, **changes)
    return {
        "agent": agent.name,
        "world_name": world.spec.name,
        "twin_id": source.id,
        "episodes": episodes,
        "seed": seed,
        "horizon": source.horizon,
        "deterministic": options.deterministic,
        **_compared(in_world, outcomes),
        **{f"{side}_steps": _steps(made) for side, made in (("world", in_world), ("physics", outcomes))},
        "baselines": {name: rate(_successes(made)) for name, made in chance.items() if _say_success(made)},
        "baseline_returns": {name: mean([o.reward for o in made]) for name, made in chance.items()},
        "seconds": round(time.monotonic() - started, 1),
        "per_episode": {"seed": seeds, **_per_episode(in_world, outcomes)},
    }


def _compared(world: list[Outcome], physics: list[Outcome]) -> dict[str, Any]:
    """Returns, and success where it is known, in both."""
    earned = {side: np.array([o.reward for o in made]) for side, made in (("world", world), ("physics", physics))}
    returns = {side: mean(values) for side, values in earned.items()}
    returns["world_minus_physics"] = mean(earned["world"] - earned["physics"])
    if not _say_success(physics):
        return {"returns": returns}
    if not _say_success(world):
        return {"physics": rate(_successes(physics)), "returns": returns}
    return {**matched_table(_successes(world), _successes(physics)), "returns": returns}


def _say_success(outcomes: list[Outcome]) -> bool:
    return any(o.success is not None for o in outcomes)


def _successes(outcomes: list[Outcome]) -> list[bool]:
    return [bool(o.success) for o in outcomes]


def _per_episode(world: list[Outcome], physics: list[Outcome]) -> dict[str, list]:
    """Lists with an entry an episode; no success of a side that knows none, no uncertainty where nothing is drawn."""
    stated = [o.uncertainty for o in world if o.uncertainty is not None]
    sides = {"world": world, "physics": physics}
    return {
        **{f"{side}_success": _successes(made) for side, made in sides.items() if _say_success(made)},
        **{f"{side}_steps": [o.steps for o in made] for side, made in sides.items()},
        **{f"{side}_reward": [round(o.reward, 4) for o in made] for side, made in sides.items()},
        **({"world_uncertainty": [round(value, 5) for value in stated]} if stated else {}),
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
            successes.append(success_of(local["info"]))

    started = time.monotonic()
    try:
        if isinstance(agent, ExternalAgent):
            if isinstance(env.action_space, (gym.spaces.Dict, gym.spaces.Tuple)):
                raise ValueError(
                    f"{env_id} takes {env.action_space}, which Stable-Baselines3 does not step; evaluate {agent.name} "
                    "in a world of it, which steps the environment too: --env wm_gym/World-v0"
                )
            agent.policy.action_space = env.action_space
        rewards, lengths = evaluate_policy(
            agent.policy, env, episodes, deterministic, callback=note, return_episode_rewards=True
        )
    finally:
        env.close()
    known = [s for s in successes if s is not None]
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
    if "world_name" not in results:
        success = f"success {percent(results['success'])}, " if results["success"] else ""
        return (
            f"{results['env']}, {results['episodes']} episodes: {success}reward {results['reward']['mean']:.2f}, "
            f"{results['steps']['mean']:.1f} steps an episode"
        )
    title = f"{results['episodes']} matched starts, {results['world_name']} and {results['twin_id']}"
    return "\n".join([title, *(f"  {what:54s} {number}" for what, number in matched_rows(results))])


def _steps(outcomes: list[Outcome]) -> dict[str, float | None]:
    """Mean length of the episodes, and of those that succeeded."""
    steps = [o.steps for o in outcomes if o.success]
    return {
        "mean": float(np.mean([o.steps for o in outcomes])),
        "mean_of_successes": float(np.mean(steps)) if steps else None,
    }


def _world_and_source(agent: Agent, spec: gym.envs.registration.EnvSpec, env_kwargs: dict) -> tuple[Any, str | None]:
    """The learned world and the environment that an id stands for; None where the id is neither of a pair."""
    if is_learned(spec):
        kwargs = {**spec.kwargs, **agent.kwargs_for(spec.id), **env_kwargs}
        if "world" not in kwargs:
            raise ValueError(f"{spec.id} needs to know which world: pass env_kwargs={{'world': 'FOLDER'}}")
        known = load_world(kwargs["world"]).spec
        if known.twin and registered_source(known) is None:
            warnings.warn(
                f"{known.twin}, where the world was recorded, is not registered: the policy is measured in the world "
                "alone; --import MODULE registers it",
                stacklevel=3,
            )
        return kwargs["world"], registered_source(known)
    if agent.world is not None and registered_source(load_world(agent.world).spec) == spec.id:
        return agent.world, spec.id
    return None, None
