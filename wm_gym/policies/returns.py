"""How much does a policy earn in a learned world, and in the environment that it was learned from?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from wm_gym.common.codec import batch_of_one, one_of_batch
from wm_gym.common.registry import find_spec, registered
from wm_gym.common.statistics import mean
from wm_gym.core import WorldCore
from wm_gym.data.resize import resized
from wm_gym.engine.shared import load_world
from wm_gym.policies.agent import Agent
from wm_gym.policies.loaders import load_agent
from wm_gym.policies.rollouts import WORLD_BATCH, start_seeds
from wm_gym.worlds.world import World


def evaluate_returns(
    agent: Agent | str | Path,
    world: World | str | Path,
    env_id: str | None = None,
    episodes: int = 100,
    seed: int = 0,
    *,
    env_kwargs: Mapping[str, Any] | None = None,
    deterministic: bool = True,
) -> dict[str, Any]:
    """The return of a policy in a world with its source's spaces, and in that source, from the same starts.

    Episode i begins where the environment does with a seed of (seed, i); the world begins from that observation, and
    where it draws from the picture there too.

    Args:
        agent: An agent that acts on the environment's observations, its folder, or what else `load_agent` takes.
        world: A World, a folder, a catalogue name or a Hub id.
        env_id: The id of a registered environment; None for the one that the world was recorded in.
        episodes: How many.
        seed: Of the starts.
        env_kwargs: Keyword arguments for the environment.
        deterministic: Take the policy's most likely action instead of drawing one.

    Returns:
        "world", "environment": {"mean", "std", "steps"}; "world_minus_environment": the `mean` of paired differences,
        with its 95 % interval; "per_episode": lists of both returns.

    Raises:
        ValueError: Where the world does not know its source's spaces, or the environment has others.
    """
    agent, world = load_agent(agent), load_world(world)
    ours = f"the environment of the world {world.spec.name!r}"
    spec = find_spec(env_id) if env_id else registered(world.spec.twin, ours)
    seeds = start_seeds(episodes, seed)
    core = WorldCore(world, min(episodes, WORLD_BATCH), observation="source")
    mode = {"render_mode": "rgb_array"} if core.draws else {}
    env = gym.make(spec, **{**mode, **(env_kwargs or {})})
    try:
        for what in ("observation", "action"):
            has, wants = getattr(env, f"{what}_space"), getattr(core, f"single_{what}_space")
            if has != wants:
                raise ValueError(f"{spec.id} has the {what} space {has}, the world {world.spec.name!r} {wants}")
        begun, found = zip(*(_episode(agent, env, one, core, deterministic) for one in seeds))
    finally:
        env.close()
    imagined = []
    for first in range(0, episodes, core.num_envs):
        some = range(first, min(first + core.num_envs, episodes))
        if len(some) < core.num_envs:
            core = WorldCore(world, len(some), observation="source")
        core.reset(seeds=[seeds[i] for i in some], options=[begun[i] for i in some])
        imagined += _batch(agent, core, deterministic)
    return _compared(agent.name, world.spec.name, spec.id, imagined, list(found))


Episode = tuple[float, int]
"""Return and steps."""


def _episode(
    agent: Agent, env: gym.Env, seed: int, core: WorldCore, deterministic: bool
) -> tuple[dict[str, Any], Episode]:
    """One episode in the environment: the reset options of the same start in the world, and what was earned."""
    observation, _ = env.reset(seed=seed)
    start = {"observation": observation}
    if core.draws:
        frame: Any = env.render()
        start["image"] = resized(np.asarray(frame), core.frame_size)
    total, steps, state, over = 0.0, 0, None, False
    while not over:
        action, state = agent.predict(batch_of_one(observation), state, deterministic)
        observation, reward, terminated, truncated, _ = env.step(one_of_batch(action, 0))
        total, steps, over = total + float(reward), steps + 1, terminated or truncated
    return start, (total, steps)


def _batch(agent: Agent, core: WorldCore, deterministic: bool) -> list[Episode]:
    """One episode in every slot of a core that has been reset."""
    active, total, steps, state = np.ones(core.num_envs, bool), np.zeros(core.num_envs), np.zeros(core.num_envs), None
    while active.any():
        actions, state = agent.predict(core.observation(), state, deterministic, active)
        reward, terminated, truncated = core.step(actions, active)
        total, steps = total + np.where(active, reward, 0.0), steps + active
        active = active & ~(terminated | truncated)
    return [(float(earned), int(length)) for earned, length in zip(total, steps)]


def _compared(agent: str, world: str, env_id: str, imagined: list[Episode], found: list[Episode]) -> dict[str, Any]:
    returns = {"world": np.array([r for r, _ in imagined]), "environment": np.array([r for r, _ in found])}
    steps = {"world": [n for _, n in imagined], "environment": [n for _, n in found]}
    per_side = {
        side: {"mean": float(r.mean()), "std": float(r.std()), "steps": float(np.mean(steps[side]))}
        for side, r in returns.items()
    }
    return {
        "agent": agent,
        "world_name": world,
        "env": env_id,
        "episodes": len(found),
        **per_side,
        "world_minus_environment": mean(returns["world"] - returns["environment"]),
        "per_episode": {side: [round(float(x), 5) for x in r] for side, r in returns.items()},
    }
