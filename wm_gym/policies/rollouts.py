"""How does one policy run in a learned world (a batch), and in the environment it was learned from (one at a time)?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wm_gym.common.codec import batch_of_one, one_of_batch
from wm_gym.core import WorldCore
from wm_gym.data.observed import physics_state_of, success_of
from wm_gym.physics.tracked import tracked_by
from wm_gym.policies.actor import Actor
from wm_gym.policies.agent import Agent, Observation
from wm_gym.policies.source import Source, observation_mode
from wm_gym.worlds.world import World

WORLD_BATCH = 100


@dataclass
class Start:
    """Where an episode begins in both: what the environment shows there."""

    seed: int
    observation: Any
    """As the environment gives it."""
    frame: np.ndarray | None = None
    """uint8 [H, W, 3] of the world's size; None where nobody needs one."""
    proprioception: np.ndarray | None = None
    """float32 [P], where there is one."""
    physics_state: np.ndarray | None = None
    """float64 [S], the simulator's, where it gives one away."""


@dataclass
class Outcome:
    """How one episode ended."""

    success: bool | None
    """None where nobody says."""
    steps: int
    reward: float
    """The sum over its steps."""
    uncertainty: float | None = None
    """The largest of any step, in a learned world that draws."""
    probability: float = 0.0
    """The largest success probability of any step, in a learned world."""


def start_seeds(episodes: int, seed: int) -> list[int]:
    """Episode i's seed depends on (seed, i) only."""
    return [int(np.random.SeedSequence([seed, i]).generate_state(1)[0]) for i in range(episodes)]


def draw_start(env: Source, seed: int, frames: bool = True) -> tuple[Start, Observation]:
    """Reset an environment with a seed; its start, with a frame where asked, and the observation the policy sees."""
    observation, _ = env.reset(seed=seed)
    return start_of(env, seed, frames), observation


def start_of(env: Source, seed: int, frames: bool = True) -> Start:
    """Where an environment is right now, as the start of an episode of this seed."""
    return Start(seed, env.raw, env.frame if frames else None, env.pose, physics_state_of(env))


def run_source(
    policy: Agent | str,
    env: Source,
    seeds: list[int],
    deterministic: bool = True,
    progress: Callable[[], object] = lambda: None,
    *,
    frames: bool = True,
    perturbed: bool = False,
) -> tuple[list[Outcome], list[Start]]:
    """One episode a seed in the environment, one after the other.

    Args:
        policy: An agent, or one of BASELINES.
        env: What `make_source` made.
        seeds: Of the starts.
        deterministic: Take the policy's most likely action instead of drawing one.
        progress: Called after each episode.
        frames: Whether starts are to have frames.
        perturbed: Begin where the object is a little off (`TrackedObject`); in an environment whose state cannot be
            set, with one random action instead of the policy's first.

    Returns:
        How each episode ended, and the starts as they were drawn.

    Raises:
        Undefined: For perturbed starts of a simulator whose task has no object.
    """
    outcomes, starts = [], []
    for seed in seeds:
        actor = Actor(policy, env.action_space, deterministic, seed)
        start, observation = draw_start(env, seed, frames)
        first = None
        if perturbed:
            rng = np.random.default_rng([seed, 2])
            if start.physics_state is None:
                first = Actor("random", env.action_space, seed=int(rng.integers(2**31)))
            else:
                state = tracked_by(env).perturbed(start.physics_state, rng)
                observation, _ = env.reset(options={"physics_state": state})
        outcomes.append(_episode(actor, env, observation, first))
        starts.append(start)
        progress()
    return outcomes, starts


def _episode(actor: Actor, env: Source, observation: Any, first: Actor | None) -> Outcome:
    """One episode of an environment that has been reset; `first` takes the first step, where it is one."""
    outcome, over = Outcome(None, 0, 0.0), False
    while not over:
        seen = batch_of_one(observation)
        action = actor.act(seen)  # asked in any case: it remembers what it saw
        if first is not None:
            action, first = first.act(seen), None
        observation, reward, terminated, truncated, info = env.step(one_of_batch(action, 0))
        outcome.steps, outcome.reward = outcome.steps + 1, outcome.reward + float(reward)
        if (said := success_of(info)) is not None:
            outcome.success = bool(outcome.success) or said
        over = terminated or truncated
    return outcome


def run_world(
    policy: Agent | str,
    world: World,
    starts: list[Start],
    horizon: int,
    deterministic: bool = True,
    progress: Callable[[], object] = lambda: None,
    **engine: Any,
) -> list[Outcome]:
    """One episode a start in the learned world, up to WORLD_BATCH at a time.

    Args:
        policy: An agent, or one of BASELINES.
        world: The world.
        starts: Of `run_source`.
        horizon: Steps after which an episode ends.
        deterministic: Take the policy's most likely action instead of drawing one.
        progress: Called as each episode ends.
        **engine: backend, device and precision of `make_engine`, or other options of `WorldCore`.
    """
    outcomes: list[Outcome] = []
    for first in range(0, len(starts), WORLD_BATCH):
        some = starts[first : first + WORLD_BATCH]
        core = WorldCore(world, len(some), observation=observation_mode(policy), max_episode_steps=horizon, **engine)
        core.reset(seeds=[s.seed for s in some], options=[world_options(core, s) for s in some])
        outcomes += _run_batch(Actor(policy, core.single_action_space, deterministic, some[0].seed), core, progress)
    return outcomes


def imagined_return(policy: Agent | str, world: World, episodes: int, seed: int = 0) -> float:
    """The mean return of as many episodes in a learned world, from starts of its bank.

    Args:
        policy: An agent, or one of BASELINES.
        world: The world.
        episodes: How many, all at once.
        seed: Of the starts.
    """
    core = WorldCore(world, episodes, observation=observation_mode(policy))
    core.reset(seeds=start_seeds(episodes, seed))
    made = _run_batch(Actor(policy, core.single_action_space, True, seed), core, lambda: None)
    return float(np.mean([one.reward for one in made]))


def _run_batch(actor: Actor, core: WorldCore, progress: Callable[[], object]) -> list[Outcome]:
    """One episode in every slot of a core that has been reset."""
    n = core.num_envs
    success, active = np.zeros(n, bool), np.ones(n, bool)
    steps, total, uncertainty, probability = np.zeros(n, np.int64), np.zeros(n), np.zeros(n), np.zeros(n)
    while active.any():
        reward, terminated, truncated = core.step(actor.act(core.observation(), active), active)
        info = core.info()
        if core.knows_success:
            success |= info["is_success"] & active
            probability = np.maximum(probability, np.where(active, info["success_probability"], 0))
        if core.draws:
            uncertainty = np.maximum(uncertainty, np.where(active, info["uncertainty"], 0))
        steps, total = steps + active, total + reward
        over = (terminated | truncated) & active
        active &= ~over
        for _ in range(int(over.sum())):
            progress()
    return [
        Outcome(
            bool(success[i]) if core.knows_success else None,
            int(steps[i]),
            float(total[i]),
            float(uncertainty[i]) if core.draws else None,
            float(probability[i]),
        )
        for i in range(n)
    ]


def endless_core(world: World | str | Path, policy: Agent | str, **options: Any) -> WorldCore:
    """One slot of the learned world as the policy sees it, which goes on after success and past the horizon."""
    endless: dict[str, Any] = {"observation": observation_mode(policy), "max_episode_steps": -1, "terminate": False}
    return WorldCore(world, 1, **(endless | options))


def world_options(core: WorldCore, start: Start) -> dict[str, Any]:
    """Reset options that begin the learned world where the environment began."""
    seen = core.spec.codec("observation")
    picture = {} if start.frame is None or not core.draws else {"image": start.frame}
    if seen is not None and seen.size:
        return {"observation": start.observation, **picture}
    knows = start.proprioception is not None and core.spec.proprioception_dim
    return picture | ({"proprioception": start.proprioception} if knows else {})
