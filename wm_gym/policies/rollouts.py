"""How does one policy run in a learned world (a batch) and in physics (one episode at a time)?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from wm_gym.common.codec import batch_of_one
from wm_gym.common.registry import find_spec
from wm_gym.core import WorldCore
from wm_gym.engine.shared import load_engine, load_world
from wm_gym.physics.tracked import tracked_by
from wm_gym.policies.agent import Agent, Observation, batch_size
from wm_gym.policies.callable import ExternalPolicy
from wm_gym.policies.config import PLANNER
from wm_gym.policies.options import BASELINES
from wm_gym.registration import physics_twin
from wm_gym.worlds.spec import WorldSpec
from wm_gym.worlds.world import World
from wm_gym.wrappers import TokenizerRoundTrip, check_box, discrete_table

WORLD_BATCH = 100


@dataclass
class Start:
    """Where an episode begins in both: the twin's picture, pose and simulator state."""

    seed: int
    frame: np.ndarray
    proprioception: np.ndarray
    physics_state: np.ndarray


@dataclass
class Outcome:
    """How one episode ended."""

    success: bool
    steps: int
    reward: float
    uncertainty: float = 0.0
    probability: float = 0.0
    """The largest uncertainty and success probability of any step, in a learned world."""


class Actor:
    """An agent, "random" (uniform in the box) or "no-op" (zeros) as one thing that acts on batches of observations."""

    def __init__(self, policy: Agent | str, space: gym.Space, deterministic: bool = True, seed: int = 0):
        if isinstance(policy, str) and policy not in BASELINES:
            raise ValueError(f"policy {policy!r} is unknown; pass an agent or one of {BASELINES}")
        self.policy, self.space, self.deterministic = policy, check_box(space), deterministic
        self.rng = np.random.default_rng([seed, 1])
        self.table = None
        if isinstance(policy, Agent):
            if isinstance(policy.policy, ExternalPolicy) and policy.policy.action_space is None:
                policy.policy.action_space = self.space
            acts = policy.policy.action_space
            if isinstance(acts, gym.spaces.Discrete):
                self.table = discrete_table(self.space)
            elif acts is None or acts.shape != space.shape:
                raise ValueError(
                    f"the agent acts in {acts}, this environment in {space}; "
                    "evaluate it in the environment that it was trained for, or in its twin"
                )
        self.stack: list[np.ndarray] | None = None
        self.state: Any = None

    def act(self, observation: Observation, active: np.ndarray | None = None) -> np.ndarray:
        """float32 [B, A] for observations [B, ...] (a dict of them); active bool [B]: whose actions are of use."""
        if not isinstance(self.policy, Agent):
            shape = (batch_size(observation), *self.space.shape)
            if self.policy == "no-op":
                return np.clip(np.zeros(shape, np.float32), self.space.low, self.space.high)
            return self.rng.uniform(self.space.low, self.space.high, shape).astype(np.float32)
        seen = self._stacked(observation, self.policy.frame_stack)
        action, self.state = self.policy.predict(seen, self.state, self.deterministic, active)
        return action.astype(np.float32) if self.table is None else self.table[action]

    def _stacked(self, observation: Observation, n: int) -> Observation:
        """The last n observations along the last axis, zeros before the first (as SB3's VecFrameStack)."""
        if n == 1:
            return observation
        if isinstance(observation, dict):
            raise ValueError("frame_stack > 1 is supported for image observations only; set frame_stack: 1")
        self.stack = [*(self.stack or [np.zeros_like(observation)] * n)[1:], observation]
        return np.concatenate(self.stack, axis=-1)


def observation_mode(policy: Agent | str) -> str:
    """What the policy looks at, one of `OBSERVATIONS`."""
    return policy.env_kwargs.get("observation", "auto") if isinstance(policy, Agent) else "auto"


class LatentView(gym.ObservationWrapper):
    """A physics environment's frames as the world's latents float32 [C*h*w], for agents trained on those."""

    def __init__(self, env: gym.Env, world: World):
        super().__init__(env)
        self.engine = load_engine(world, "torch", "cpu", True)
        size = int(np.prod(world.spec.latent_shape))
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        """The latent of a frame uint8 [H, W, 3]."""
        return self.engine.encode(observation[None, None])["latents"][0, -1].flatten().cpu().numpy()


def twin_of(spec: WorldSpec, twin_id: str | None = None) -> tuple[str, int]:
    """The id of a world's physics twin, or the given one, and its horizon; ValueError where there is neither."""
    twin_id = twin_id or physics_twin(spec)
    if not twin_id:
        raise ValueError(
            f"the world {spec.name!r} names no physics twin (but {spec.twin!r}); give the id of one (twin_id, --twin)"
        )
    return twin_id, find_spec(twin_id).max_episode_steps or spec.horizon


def make_twin(
    twin_id: str, world: World | str | Path | None, policy: Agent | str, horizon: int | None = None, **kwargs: Any
) -> gym.Env:
    """The physics twin (render_mode="rgb_array") as the policy is used to see it.

    An agent trained in a learned world gets the twin's frames through that world's tokenizer; baselines, agents
    trained on physics and planners, which encode what they see, get them as they are.
    """
    mode = observation_mode(policy)
    kwargs = {"observation": mode if mode == "pixels+state" else "pixels", "render_mode": "rgb_array", **kwargs}
    if world is not None and (size := load_world(world).spec.frame_size[0]) != 64:
        kwargs["size"] = size
    env = gym.make(find_spec(twin_id), max_episode_steps=horizon, disable_env_checker=True, **kwargs)
    if world is None or isinstance(policy, str) or not policy.config.get("learned") or policy.algo == PLANNER:
        return env
    return LatentView(env, load_world(world)) if mode == "latent" else TokenizerRoundTrip(env, world)


def start_seeds(episodes: int, seed: int) -> list[int]:
    """Episode i's seed depends on (seed, i) only."""
    return [int(np.random.SeedSequence([seed, i]).generate_state(1)[0]) for i in range(episodes)]


def draw_start(env: gym.Env, seed: int) -> tuple[Start, Observation]:
    """Reset the twin with a seed; its start, and the observation as the policy sees it."""
    observation, info = env.reset(seed=seed)
    twin: Any = env.unwrapped  # a twin, registered or of one's own
    return Start(seed, frame_of(env), info["proprioception"], twin.get_physics_state()), observation


def frame_of(env: gym.Env) -> np.ndarray:
    """What an environment with render_mode="rgb_array" shows, uint8 [H, W, 3]."""
    frame = env.render()
    assert isinstance(frame, np.ndarray)
    return frame


def run_twin(
    policy: Agent | str,
    env: gym.Env,
    seeds: list[int],
    deterministic: bool = True,
    progress: Callable[[], object] = lambda: None,
    perturbed: bool = False,
) -> tuple[list[Outcome], list[Start]]:
    """One episode a seed in the twin, one after the other.

    Args:
        policy: An agent, or one of BASELINES.
        env: What `make_twin` made.
        seeds: Of the starts.
        deterministic: Take the policy's most likely action instead of drawing one.
        progress: Called after each episode.
        perturbed: Begin from starts whose object is a little off (`TrackedObject`).

    Returns:
        How each episode ended, and the starts as they were drawn.

    Raises:
        ValueError: For perturbed starts of a task that has no object.
    """
    outcomes, starts, tracked = [], [], tracked_by(env) if perturbed else None
    for seed in seeds:
        actor = Actor(policy, env.action_space, deterministic, seed)
        start, observation = draw_start(env, seed)
        if tracked:
            off = tracked.perturbed(start.physics_state, np.random.default_rng([seed, 2]))
            observation, _ = env.reset(options={"physics_state": off})
        steps, total, success, over = 0, 0.0, False, False
        while not over:
            observation, reward, terminated, truncated, info = env.step(actor.act(batch_of_one(observation))[0])
            steps, total, success = steps + 1, total + float(reward), success or bool(info["is_success"])
            over = terminated or truncated
        outcomes.append(Outcome(success, steps, total))
        starts.append(start)
        progress()
    return outcomes, starts


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
        starts: Of `run_twin`.
        horizon: Steps after which an episode ends.
        deterministic: Take the policy's most likely action instead of drawing one.
        progress: Called as each episode ends.
        **engine: backend, device and precision of `make_engine`, or other options of `WorldCore`.
    """
    outcomes: list[Outcome] = []
    for first in range(0, len(starts), WORLD_BATCH):
        some = starts[first : first + WORLD_BATCH]
        core = WorldCore(world, len(some), observation=observation_mode(policy), max_episode_steps=horizon, **engine)
        core.reset(seeds=[s.seed for s in some], options=[world_options(world, s) for s in some])
        outcomes += _run_batch(Actor(policy, core.single_action_space, deterministic, some[0].seed), core, progress)
    return outcomes


def _run_batch(actor: Actor, core: WorldCore, progress: Callable[[], object]) -> list[Outcome]:
    """One episode in every slot of a core that has been reset."""
    n = core.num_envs
    success, active = np.zeros(n, bool), np.ones(n, bool)
    steps, total, uncertainty, probability = np.zeros(n, np.int64), np.zeros(n), np.zeros(n), np.zeros(n)
    while active.any():
        actions = actor.act(core.observation(), active)
        actions[~active] = 0
        reward, terminated, truncated = core.step(actions, active)
        info = core.info()
        success |= info["is_success"] & active
        uncertainty = np.maximum(uncertainty, np.where(active, info["uncertainty"], 0))
        probability = np.maximum(probability, np.where(active, info["success_probability"], 0))
        steps, total = steps + active, total + reward
        over = (terminated | truncated) & active
        active &= ~over
        for _ in range(int(over.sum())):
            progress()
    rows = zip(success, steps, total, uncertainty, probability)
    return [Outcome(bool(s), int(t), *map(float, rest)) for s, t, *rest in rows]


def endless_core(world: World | str | Path, policy: Agent | str, **engine: Any) -> WorldCore:
    """One slot of the learned world as the policy sees it, which goes on after success and past the horizon."""
    return WorldCore(world, 1, observation=observation_mode(policy), max_episode_steps=-1, terminate=False, **engine)


def world_options(world: World, start: Start) -> dict[str, np.ndarray]:
    """Reset options that begin the learned world where the twin began."""
    pose = {"proprioception": start.proprioception} if world.spec.proprioception_dim else {}
    return {"image": start.frame, **pose}
