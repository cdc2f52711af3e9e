"""How does a policy act in an episode that is recorded?"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from wm_gym.collect.policies import MIX, is_scripted, source_of
from wm_gym.collect.source import make_env
from wm_gym.common.codec import batch_of_one, one_of_batch
from wm_gym.data.observed import name_of

if TYPE_CHECKING:
    from wm_gym.core import WorldCore
    from wm_gym.policies.agent import Agent
    from wm_gym.policies.source import Source

Act = Callable[[Any], Any]
"""From an observation to an action of the environment's own space."""


class Player(ABC):
    """A policy with the environment that it acts in."""

    env: gym.Env

    @property
    def shown(self) -> gym.Env:
        """The environment whose observations and actions are recorded."""
        return self.env

    def given(self, observation: Any) -> Any:
        """The last observation as the environment gave it, of the one that the policy saw."""
        return observation

    def taken(self, action: Any) -> Any:
        """The last action as the environment took it, of the one that the policy gave."""
        return action

    @abstractmethod
    def choose(self, rng: np.random.Generator) -> str | None:
        """Which of `MIX` acts in the episode that begins; None for a policy of its own."""

    @abstractmethod
    def begin(self, kind: str | None, rng: np.random.Generator, info: Mapping[str, Any]) -> Act:
        """How it acts in an episode of its environment, which was just reset and gave that info."""


class Script(Player):
    """One of the environment's scripts, random actions, or "mix", a share of each that it has."""

    def __init__(self, name: str, env: gym.Env, noise: float) -> None:
        self.name, self.env, self.noise = name, env, noise
        self.kinds = policy_kinds(env)
        if name != "mix" and name not in self.kinds:
            raise ValueError(
                f"{name_of(env)} has no policy {name!r}; it has {', '.join(self.kinds)}: give --policy {self.kinds[-1]}"
            )

    def choose(self, rng: np.random.Generator) -> str:
        """The script; drawn where it is "mix"."""
        if self.name != "mix":
            return self.name
        share = np.array([MIX[kind] for kind in self.kinds])
        return self.kinds[rng.choice(len(self.kinds), p=share / share.sum())]

    def begin(self, kind: str | None, rng: np.random.Generator, info: Mapping[str, Any]) -> Act:
        """What the script does, and actions drawn from the space where the environment has no scripts."""
        scripted, space = getattr(self.env.unwrapped, "scripted_policy", None), self.env.action_space
        if scripted is None:
            space.seed(int(rng.integers(2**31)))
            return lambda _: space.sample()
        act = scripted(kind, rng, noise=self.noise).act
        assert isinstance(space, gym.spaces.Box)
        low, high = space.low, space.high
        return lambda _: np.clip(np.asarray(act(), np.float32), low, high)


class AgentPlayer(Player):
    """An agent as it is in half of the episodes, and exploring in the others.

    It explores by drawing its actions. One that has none to draw (DQN, TD3, a function) is perturbed: by normal numbers
    of `noise` times half of the action's range, or, where actions are no bounded numbers, by a random one in its place
    with the probability `noise`.
    """

    def __init__(self, agent: Agent, env: gym.Env, noise: float) -> None:
        from stable_baselines3.common.policies import ActorCriticPolicy
        from stable_baselines3.sac.policies import SACPolicy

        self.agent, self.env = agent, env
        self.noise = 0.0 if isinstance(agent.policy, (ActorCriticPolicy, SACPolicy)) else noise

    def choose(self, rng: np.random.Generator) -> None:
        """None: it is no script."""

    def begin(self, kind: str | None, rng: np.random.Generator, info: Mapping[str, Any]) -> Act:
        """As it is or exploring, by a coin."""
        self.seed(rng)
        sure, state = bool(rng.random() < 0.5), None

        def act(seen: Any) -> Any:
            nonlocal state
            actions, state = self.agent.predict(batch_of_one(seen), state, deterministic=sure)
            return fitted(self.agent.name, one_of_batch(actions, 0), self.env.action_space)

        return act if sure else self.perturbed(act, rng)

    def seed(self, rng: np.random.Generator) -> None:
        """Let what the agent draws in this episode follow from it alone."""
        import torch

        from wm_gym.policies.callable import CallablePolicy

        torch.manual_seed(int(rng.integers(2**31)))
        if isinstance(self.agent.policy, CallablePolicy):
            self.agent.policy.seeds = np.random.default_rng(rng.integers(2**31))

    def perturbed(self, act: Act, rng: np.random.Generator) -> Act:
        """The same with `noise`."""
        noise, space = self.noise, self.env.action_space
        if not noise:
            return act
        if isinstance(space, gym.spaces.Box) and space.dtype.kind == "f" and space.is_bounded():
            half = (space.high - space.low) / 2

            def shaken(seen: Any) -> Any:
                moved = act(seen) + noise * half * rng.normal(size=space.shape)
                return np.clip(moved, space.low, space.high).astype(space.dtype)

            return shaken
        space.seed(int(rng.integers(2**31)))

        def replaced(seen: Any) -> Any:
            action = act(seen)  # also where it is not taken: who acts may count its steps
            return space.sample() if rng.random() < noise else action

        return replaced


class SeeingAgent(AgentPlayer):
    """An agent in an environment that is shown to it as its world shows it; in a physics twin also in imagination.

    In a twin it acts as it is, exploring, and in imagination in a third of the episodes each. What exploits an error of
    the world is done in imagination only: in physics the policy soon sees otherwise.
    """

    env: Source

    def __init__(
        self, agent: Agent, env_id: str, env_kwargs: Mapping[str, Any], noise: float, pictures: bool = True
    ) -> None:
        from wm_gym.common.registry import registered
        from wm_gym.engine.shared import load_world
        from wm_gym.policies.rollouts import endless_core
        from wm_gym.policies.source import as_seen, shown_kwargs
        from wm_gym.registration import is_twin

        world = None if agent.world is None else load_world(agent.world)
        shown = shown_kwargs(registered(env_id, "the environment to record"), world, agent)
        super().__init__(agent, as_seen(make_env(env_id, shown | dict(env_kwargs), pictures), world, agent), noise)
        self.imagination: WorldCore | None = endless_core(world, agent) if world and is_twin(env_id) else None

    @property
    def shown(self) -> gym.Env:
        """The environment without the world's view."""
        return self.env.env

    def given(self, observation: Any) -> Any:
        """What the environment gave."""
        return self.env.raw

    def taken(self, action: Any) -> Any:
        """What the environment took."""
        return self.env.taken

    def begin(self, kind: str | None, rng: np.random.Generator, info: Mapping[str, Any]) -> Act:
        """As it is, exploring or in imagination, drawn."""
        from wm_gym.policies.actor import Actor
        from wm_gym.policies.rollouts import start_of, world_options

        self.seed(rng)
        core = self.imagination
        manner = rng.choice(["seen", "exploring", "imagined"] if core else ["seen", "exploring"])
        actor = Actor(self.agent, self.env.action_space, deterministic=manner != "exploring")
        if core is None or manner != "imagined":
            seen: Act = lambda observation: one_of_batch(actor.act(batch_of_one(observation)), 0)
            return seen if manner == "seen" else self.perturbed(seen, rng)
        seed = int(rng.integers(2**31))
        core.reset(seeds=[seed], options=[world_options(core, start_of(self.env, seed))])

        def act(_: Any) -> Any:
            action = actor.act(core.observation())
            core.step(action)
            return one_of_batch(action, 0)

        return act


def players_of(
    names: tuple[str, ...], env_id: str, env_kwargs: Mapping[str, Any], noise: float, trust: bool, pictures: bool
) -> list[Player]:
    """Who acts for each name of a recording's policies; environments are shared where they are the same.

    Raises:
        ValueError: For a script that the environment has not, an agent that does not fit it, and for a zip without
            trust.
    """
    from wm_gym.policies.loaders import load_agent
    from wm_gym.policies.source import looks_otherwise
    from wm_gym.registration import is_twin

    agents = {name: load_agent(source_of(name), allow_pickle=trust) for name in names if not is_scripted(name)}
    seeing = {name for name, agent in agents.items() if is_twin(env_id) or looks_otherwise(agent)}
    shared = None if len(seeing) == len(names) else make_env(env_id, env_kwargs, pictures)
    players: list[Player] = []
    try:
        for name in names:
            if name in seeing:
                players.append(SeeingAgent(agents[name], env_id, env_kwargs, noise, pictures))
                continue
            assert shared is not None
            if name not in agents:
                players.append(Script(name, shared, noise))
            else:
                check_fits(agents[name], shared)
                players.append(AgentPlayer(agents[name], shared, noise))
    except BaseException:
        for env in [shared, *(player.env for player in players)]:
            if env is not None:
                env.close()
        raise
    return players


def policy_kinds(env: gym.Env) -> list[str]:
    """The scripts that can act in this environment; one without scripts has "random" alone."""
    return list(MIX) if hasattr(env.unwrapped, "scripted_policy") else ["random"]


def check_fits(agent: Agent, env: gym.Env) -> None:
    """ValueError for an agent that acts on other spaces than the environment's, or through wrappers."""
    shows = env.observation_space
    sees = getattr(agent.policy, "observation_space", None) or shows
    if agent.env_wrapper or agent.frame_stack > 1 or sees not in (shows, _channels_first(shows)):
        raise ValueError(
            f"{agent.name} acts on {sees}, as it is or through wrappers, and {name_of(env)} shows {shows}; give an "
            "agent of this environment, or of a world of it"
        )
    acts = getattr(agent.policy, "action_space", None) or env.action_space
    if type(acts) is not type(env.action_space) or acts.shape != env.action_space.shape:
        raise ValueError(
            f"{agent.name} gives actions of {acts}, and {name_of(env)} takes {env.action_space}; give an agent of this "
            "environment"
        )


def _channels_first(space: gym.Space) -> gym.Space:
    """A space as Stable-Baselines3 keeps it for a policy, which turns the pictures that it is shown."""
    from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
    from stable_baselines3.common.vec_env import VecTransposeImage

    if isinstance(space, gym.spaces.Dict):
        return gym.spaces.Dict({key: _channels_first(one) for key, one in space.spaces.items()})
    if isinstance(space, gym.spaces.Box) and is_image_space(space) and not is_image_space_channels_first(space):
        return VecTransposeImage.transpose_space(space)
    return space


def fitted(name: str, action: Any, space: gym.Space) -> Any:
    """An action that somebody's policy gave, in the space: clipped to a box of real numbers, else as it is.

    Raises:
        ValueError: For one of another shape or kind, and for one that is not finite.
    """
    if isinstance(space, gym.spaces.Box) and space.dtype.kind == "f":
        values = np.asarray(action)
        if values.shape == space.shape and values.dtype.kind in "fiub" and np.isfinite(values).all():
            return np.clip(values, space.low, space.high).astype(space.dtype)
    elif space.contains(action):
        return action
    raise ValueError(f"{name} gives the action {action!r}, expected one of {space}: it is of another environment")
