"""What does one recorded episode of any Gymnasium environment consist of?

An episode depends only on (seed, its number): worker count, order and resuming do not change it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec

from wm_gym.common.codec import SpaceCodec, batch_of_one, one_of_batch
from wm_gym.common.space_data import to_data
from wm_gym.data.observed import (
    draws,
    ends_on_success,
    observation_codec,
    physics_state_of,
    picture_of,
    proprioception_of,
    success_of,
)
from wm_gym.data.resize import resized

if TYPE_CHECKING:
    from wm_gym.core import WorldCore
    from wm_gym.policies.agent import Agent
    from wm_gym.policies.source import Source

MIX = {"expert": 0.2, "noisy": 0.3, "random": 0.3, "near-miss": 0.2}  # shares of --policy mix
POLICIES = (*MIX, "mix")
KINDS = (*MIX, "agent")  # what the column policy_kind counts
AGENT = "agent:"  # a policy that is a trained agent: agent:FOLDER
MAX_STEPS = 1000  # where the environment has no horizon of its own


Act = Callable[[Any], Any]
"""From an observation to an action of the environment's own space."""
Row = tuple[np.ndarray, np.ndarray | None, np.ndarray | None]
"""What one observation gives: frame, proprioception, state of the physics."""
Step = tuple[np.ndarray, float, Any, bool]
"""What one step gives: the action's numbers, the reward, success where the environment says, the end of the task."""


class Description(TypedDict):
    """What info.json says of the environment."""

    action_space: str
    action_low: list[float] | None
    action_high: list[float] | None
    action_names: list[str] | None
    action_unit: str
    proprioception_names: list[str] | None
    proprioception_unit: str
    horizon: int
    task_description: str
    fps: float
    success_ends: bool
    spaces: dict[str, Any]


@dataclass
class RecordedEpisode:
    """One episode of L observations."""

    frames: np.ndarray
    """uint8 [L, H, W, 3]."""
    columns: dict[str, np.ndarray]
    """{feature: [L, D]}."""
    task: str
    reward_terms: list[str]
    kind: str
    """The policy that acted, one of KINDS."""


@dataclass(frozen=True)
class EpisodeSpec:
    """Whose episodes are recorded: with an episode's number it says all that the episode depends on."""

    env_id: str
    env_kwargs: dict[str, Any]
    policy: str
    seed: int = 0
    noise: float = 0.3
    size: tuple[int, int] | None = None


class EpisodeSource:
    """An environment, made once, of which episodes are rolled out by number."""

    def __init__(self, spec: EpisodeSpec) -> None:
        self.spec, env_id, policy = spec, spec.env_id, spec.policy
        self.agent: Agent | None = None
        self.seen: Source | None = None
        self.imagination: WorldCore | None = None
        if policy.startswith(AGENT):
            self.agent, self.seen, self.imagination = agent_env(policy.removeprefix(AGENT), env_id, spec.env_kwargs)
        self.env = self.seen.env if self.seen else make_env(env_id, spec.env_kwargs)
        self.kinds = policy_kinds(self.env)
        if self.agent is None and policy != "mix" and policy not in self.kinds:
            self.env.close()
            raise ValueError(
                f"{env_id} has no policy {policy!r}; it has {', '.join(self.kinds)}: give --policy {self.kinds[-1]}"
            )
        self.action_space = self.env.action_space
        self.actions = SpaceCodec(self.action_space, pictures=False, part=f"{env_id}: the action space")
        self.observations = observation_codec(self.env)
        self.describe = describe(self.env, self.actions, self.observations)

    def rollout(self, episode: int) -> RecordedEpisode:
        """The episode of that number."""
        env_seed, policy_seed = np.random.SeedSequence([self.spec.seed, episode]).generate_state(2, np.uint32)
        rng = np.random.default_rng(policy_seed)
        kind = self._choose(rng)
        env = self.seen or self.env
        observation, info = env.reset(seed=int(env_seed % 2**31))
        act = self._actor(self.agent, self.seen, rng) if self.agent and self.seen else self._policy(kind, rng)
        rows, infos = [self._row(observation, info)], [info]
        steps: list[Step] = []
        over = False
        while not over:
            action = act(observation)
            observation, reward, terminated, truncated, info = env.step(action)
            encoded = self.actions.numbers(self.seen.taken if self.seen else action)
            rows.append(self._row(observation, info))
            steps.append((encoded, self._number("reward", reward), success_of(info), bool(terminated)))
            infos.append(info)
            over = terminated or truncated
        return self._assemble(kind, rows, steps, infos)

    def close(self) -> None:
        """Let go of the environment."""
        self.env.close()

    def _choose(self, rng: np.random.Generator) -> str:
        if self.spec.policy != "mix":
            return "agent" if self.agent else self.spec.policy
        share = np.array([MIX[kind] for kind in self.kinds])
        return self.kinds[rng.choice(len(self.kinds), p=share / share.sum())]

    def _policy(self, kind: str, rng: np.random.Generator) -> Act:
        scripted = getattr(self.env.unwrapped, "scripted_policy", None)
        if scripted is not None:
            act, space = scripted(kind, rng, noise=self.spec.noise).act, self.action_space
            assert isinstance(space, gym.spaces.Box)  # where scripts act
            return lambda _: np.clip(np.asarray(act(), np.float32), space.low, space.high)
        self.action_space.seed(int(rng.integers(2**31)))
        return lambda _: self.action_space.sample()

    def _actor(self, agent: Agent, env: Source, rng: np.random.Generator) -> Act:
        """The agent on what it sees or exploring, half of the episodes each; in a twin also on what its world imagines.

        Then each has a third. What exploits an error of the world is done in imagination only: in physics the policy
        soon sees otherwise.
        """
        import torch

        from wm_gym.policies.actor import Actor
        from wm_gym.policies.rollouts import start_of, world_options

        torch.manual_seed(int(rng.integers(2**31)))
        core = self.imagination
        manner = rng.choice(["seen", "exploring", "imagined"] if core else ["seen", "exploring"])
        actor = Actor(agent, env.action_space, deterministic=manner != "exploring")
        if core is None or manner != "imagined":
            return lambda seen: one_of_batch(actor.act(batch_of_one(seen)), 0)
        seed = int(rng.integers(2**31))
        core.reset(seeds=[seed], options=[world_options(core, start_of(env, seed))])

        def act(_: Any) -> Any:
            action = actor.act(core.observation())
            core.step(action)
            return one_of_batch(action, 0)

        return act

    def _number(self, name: str, value: Any) -> float:
        """A reward as a float, from an array of one number too; ValueError naming what is none."""
        try:
            return float(value.item() if hasattr(value, "item") else value)
        except (TypeError, ValueError, RuntimeError):  # NumPy's and torch's for several
            shape = f" of shape {list(np.shape(value))}" if np.ndim(value) else ""
            raise ValueError(
                f"{self.spec.env_id}: {name} is {value!r}{shape}, expected a number or an array of one; wrap "
                "the environment so that each step gives one reward"
            ) from None

    def _row(self, observation: Any, info: Mapping[str, Any]) -> Row:
        observation = self.seen.raw if self.seen else observation
        frame = picture_of(self.env, observation, self.observations)
        frame = frame if self.spec.size is None else resized(frame, self.spec.size)
        return frame, proprioception_of(observation, info, self.observations), physics_state_of(self.env)

    def _assemble(self, kind: str, rows: list[Row], steps: list[Step], infos: list[dict[str, Any]]) -> RecordedEpisode:
        frames, proprioception, physics = zip(*rows)
        actions, rewards, successes, ends = zip(*steps)
        length = len(rows)
        last = np.zeros_like(actions[0])  # the last observation has no successor
        columns: dict[str, np.ndarray] = {"action": np.stack([*actions, last]).astype(np.float32)}
        if proprioception[0] is not None:
            columns["observation.state"] = np.stack(proprioception)
        columns["next.reward"] = np.array([*rewards, 0.0], np.float32)
        keys = {key for info in infos for key in info if key.startswith("reward/")}
        terms = [key.removeprefix("reward/") for key in sorted(keys)]
        for term in terms:
            values = [self._number(f"reward/{term}", info.get(f"reward/{term}", 0.0)) for info in infos[1:]]
            columns[f"next.reward.{term}"] = np.array([*values, 0.0], np.float32)
        columns["next.done"] = np.arange(length) == length - 1
        columns["next.terminated"] = np.array([*ends, ends[-1]])
        if successes[0] is not None:
            flags = [bool(flag) for flag in successes]
            columns["next.success"] = np.array([*flags, flags[-1]])
        if physics[0] is not None:
            columns["physics_state"] = np.stack(physics)
        columns["policy_kind"] = np.full(length, KINDS.index(kind), np.int64)
        columns = {key: value.reshape(length, -1) for key, value in columns.items()}
        return RecordedEpisode(np.stack(frames), columns, self.describe["task_description"], terms, kind)


def make_env(env_id: str, env_kwargs: Mapping[str, Any] | None = None) -> gym.Env:
    """A registered environment (`import_env`) for recording: pictures on, a horizon, twins without early end."""
    from wm_gym.common.registry import registered

    kwargs, spec = dict(env_kwargs or {}), registered(env_id, "the environment to record")
    if ends_on_success(spec):
        kwargs.setdefault("terminate_on_success", False)  # whole episodes: what happens after success counts too
    if draws(spec):
        kwargs.setdefault("render_mode", "rgb_array")
    env = gym.make(spec, **kwargs)
    if _spec(env).max_episode_steps is None and getattr(env.unwrapped, "horizon", None) is None:
        env = gym.wrappers.TimeLimit(env, MAX_STEPS)
    return env


def import_env(env_id: str) -> None:
    """Have an environment registered whose id somebody typed.

    An id may name its module ("panda_gym:PandaReach-v3"); a namespace that is a module ("gym_pusht/PushT-v0") is
    imported by itself.

    Raises:
        ValueError: Naming the id and the next thing to try.
    """
    from wm_gym.common.registry import find_spec, import_typed

    module, _, name = env_id.rpartition(":")
    for named in filter(None, (module, name.rpartition("/")[0])):
        if name not in gym.registry:
            try:
                import_typed(named)
            except ModuleNotFoundError as error:
                if error.name != named:
                    raise
    try:
        find_spec(name)
    except gym.error.UnregisteredEnv as error:
        raise ValueError(
            f"unknown environment {env_id!r} ({error}); give the id of a registered environment, with "
            f"its module where that is not imported by itself: module:Name-v0"
        ) from None


def agent_env(
    folder: str, env_id: str, env_kwargs: Mapping[str, Any] | None = None
) -> tuple[Agent, Source, WorldCore | None]:
    """An agent, an environment as it sees it, and in a physics twin the core of its world (if it has one).

    Raises:
        ValueError: For an agent of another environment.
    """
    from wm_gym.common.registry import registered
    from wm_gym.engine.shared import load_world
    from wm_gym.policies.loaders import load_agent
    from wm_gym.policies.rollouts import endless_core
    from wm_gym.policies.source import as_seen, shown_kwargs
    from wm_gym.registration import is_twin

    agent = load_agent(folder)
    world = None if agent.world is None else load_world(agent.world)
    shown = shown_kwargs(registered(env_id, "the environment to record"), world, agent)
    env = as_seen(make_env(env_id, shown | dict(env_kwargs or {})), world, agent)
    if not agent.sees(env.observation_space):
        raise ValueError(
            f"{agent.name} does not see what {env_id} shows, {env.observation_space}; give an agent of this "
            "environment or of a world of it"
        )
    return agent, env, endless_core(world, agent) if world and is_twin(env_id) else None


def policy_kinds(env: gym.Env) -> list[str]:
    """The policies that can act in this environment; only those with scripts have more than "random"."""
    return list(MIX) if hasattr(env.unwrapped, "scripted_policy") else ["random"]


def describe(env: gym.Env, actions: SpaceCodec, observations: SpaceCodec | None) -> Description:
    """What info.json says of the environment."""
    base: Any = env.unwrapped
    space = env.action_space
    horizon = _spec(env).max_episode_steps or getattr(base, "horizon", None) or MAX_STEPS
    low, high = actions.bounds
    names, proprioception = (getattr(base, f"{what}_names", None) for what in ("action", "proprioception"))
    if names is None and not isinstance(space, gym.spaces.Box):
        names = actions.names
    if observations and observations.size and len(proprioception or ()) != observations.size:
        proprioception = observations.names
    spaces = {"action": space, **({"observation": env.observation_space} if observations else {})}
    return {
        "action_space": f"{space}, stored one-hot" if isinstance(space, gym.spaces.Discrete) else str(space),
        "action_low": _bounds(low),
        "action_high": _bounds(high),
        "action_names": None if names is None else list(names),
        "action_unit": str(getattr(base, "action_unit", "")),
        "proprioception_names": None if proprioception is None else list(proprioception),
        "proprioception_unit": str(getattr(base, "proprioception_unit", "")),
        "horizon": int(horizon),
        "task_description": str(getattr(base, "task_description", _spec(env).id)),
        "fps": float(env.metadata.get("render_fps") or 10),
        "success_ends": ends_on_success(_spec(env)),
        "spaces": {what: to_data(one) for what, one in spaces.items()},
    }


def _spec(env: gym.Env) -> EnvSpec:
    """How the environment was made, which one made by `gym.make` knows."""
    assert env.spec is not None
    return env.spec


def _bounds(values: np.ndarray) -> list[float] | None:
    values = np.asarray(values, np.float64)
    return values.tolist() if np.isfinite(values).all() else None  # JSON has no infinity
