"""How does a policy see the environment that a world was learned from? As that world would show it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec

from wm_gym.common import spaces
from wm_gym.common.codec import SpaceCodec
from wm_gym.common.records import Undefined
from wm_gym.common.registry import find_spec, registered
from wm_gym.data.observed import draws, name_of, observation_codec, picture_of, proprioception_of
from wm_gym.data.resize import resized
from wm_gym.engine.shared import load_engine, load_world
from wm_gym.policies.agent import Agent
from wm_gym.policies.config import PLANNER
from wm_gym.registration import is_twin
from wm_gym.worlds.spec import WorldSpec
from wm_gym.worlds.world import World


def observation_mode(policy: Agent | str) -> str:
    """What the policy looks at, one of `OBSERVATIONS`; what plans looks at frames."""
    if not isinstance(policy, Agent):
        return "auto"
    return "pixels" if policy.algo == PLANNER else policy.env_kwargs.get("observation", "auto")


def source_of(spec: WorldSpec, env_id: str | None = None) -> tuple[str, int]:
    """The id of the environment that a world was learned from, or the given one, and its horizon.

    Args:
        spec: Of the world.
        env_id: An id that somebody typed; None for the one that the world names, which must be registered.

    Raises:
        ValueError: Where neither says one.
    """
    if not env_id and not spec.twin:
        raise ValueError(
            f"the world {spec.name!r} does not say in which environment it was recorded; give its id (twin_id, --twin)"
        )
    found = find_spec(env_id) if env_id else registered(spec.twin, f"the twin of the world {spec.name!r}")
    return found.id, found.max_episode_steps or spec.horizon


class Source(gym.Wrapper):
    """An environment as a policy of a world of it sees it: its observations, or frames of the world's size.

    Args:
        env: What `gym.make` made.
        world: The world; None for the environment as it is.
        mode: "source" (the environment's own spaces), or "pixels", "pixels+state" or "latent", whose actions are the
            numbers that the world takes.
        drawn: Whether the frames that are seen go through the world's tokenizer, as the world draws them.

    Raises:
        ValueError: Where the world has other spaces or takes another number of actions.
        Undefined: For `drawn` where the observation has no picture.
    """

    raw: Any
    """The last observation as the environment gave it."""
    pose: np.ndarray | None
    """The numbers of it, or beside it, float32 [P]."""
    taken: Any
    """The last action as the environment took it."""

    def __init__(self, env: gym.Env, world: World | None = None, mode: str = "source", drawn: bool = False):
        super().__init__(env)
        self.mode, self.drawn, self.size = mode, drawn, None if world is None else tuple(world.spec.frame_size)
        self.codec = observation_codec(env)
        self._acts: SpaceCodec | None = None
        if world is None:
            return
        if mode == "source":
            self._check_spaces(world.spec)
        else:
            self._show(world.spec)
        if drawn and mode == "source" and not (self.codec and self.codec.layout):
            raise Undefined(f"the observation of {name_of(env)} has no picture that the world could draw")
        self._engine = load_engine(world, "torch", "cpu", True) if drawn or mode == "latent" else None

    def _check_spaces(self, spec: WorldSpec) -> None:
        for what in ("observation", "action"):
            has, codec = getattr(self.env, f"{what}_space"), spec.codec(what)
            if codec is not None and has != codec.space:
                raise ValueError(
                    f"{name_of(self.env)} has the {what} space {has}, the world {spec.name!r} {codec.space}; take the "
                    "environment that the world was learned from"
                )

    def _show(self, spec: WorldSpec) -> None:
        """The spaces of a policy that does not see the environment's own."""
        height, width = spec.frame_size
        self.observation_space = {
            "pixels": spaces.pixels_space(height, width),
            "pixels+state": spaces.pixels_and_state_space(height, width, spec.proprioception_dim),
            "latent": spaces.vector_space(int(np.prod(spec.latent_shape))),
        }[self.mode]
        acts = SpaceCodec(self.env.action_space, False, f"{name_of(self.env)}: the action space")
        if acts.size != spec.action_dim:
            raise ValueError(
                f"{name_of(self.env)} takes {acts.size} numbers as an action, the world {spec.name!r} "
                f"{spec.action_dim}; take the environment that the world was learned from"
            )
        own = self.env.action_space
        if not (isinstance(own, gym.spaces.Box) and own.dtype.kind == "f" and len(own.shape) == 1):
            self._acts, self.action_space = acts, spaces.action_space(spec.action_low, spec.action_high)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode, as the environment does it."""
        self.raw, info = self.env.reset(seed=seed, options=options)
        return self._seen(info), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """The environment's step."""
        self.taken = action if self._acts is None else self._acts.element(np.asarray(action, np.float32))
        self.raw, reward, terminated, truncated, info = self.env.step(self.taken)
        return self._seen(info), reward, terminated, truncated, info

    @property
    def frame(self) -> np.ndarray:
        """What the environment shows now, uint8 [H, W, 3] of the world's size."""
        picture = picture_of(self.env, self.raw, self.codec)
        return picture if self.size is None else resized(picture, self.size)

    def _seen(self, info: dict[str, Any]) -> Any:
        """The last observation as the policy sees it."""
        self.pose = proprioception_of(self.raw, info, self.codec)
        if self.mode == "source" and not (self.drawn and self._engine):
            return self.raw
        if self.mode == "latent":
            assert self._engine
            return self._engine.encode(self.frame[None, None])["latents"][0, -1].flatten().cpu().numpy()
        frame = self.frame
        if self.drawn:
            assert self._engine
            frame = self._engine.render(self._engine.encode(frame[None, None])).cpu().numpy()[0].copy()
        if self.mode == "pixels":
            return frame
        if self.mode == "pixels+state":
            return {"agent_pos": self.pose, "pixels": frame}
        assert self.codec and self.codec.layout
        layout = self.codec.layout
        return self.codec.element(self.codec.numbers(self.raw), resized(frame, (layout.height, layout.width))[None])


def make_source(
    env_id: str,
    world: World | str | Path | None,
    policy: Agent | str,
    horizon: int | None = None,
    *,
    frames: bool = True,
    drawn: bool | None = None,
    **kwargs: Any,
) -> Source:
    """The environment that a world was learned from, as the policy is used to see it (`as_seen`).

    Args:
        env_id: Its id.
        world: Which world.
        policy: An agent, or one of BASELINES.
        horizon: Steps after which an episode ends (default: the environment's own).
        frames: Whether frames are asked for, of `Source.frame`, where the policy sees none.
        drawn: Frames through the tokenizer or not, whatever the policy is used to.
        **kwargs: Keyword arguments of the environment.

    Raises:
        ValueError: Where the world is none of this environment.
    """
    spec, judged = find_spec(env_id), None if world is None else load_world(world)
    kwargs = shown_kwargs(spec, judged, policy) | kwargs
    if (frames or _mode(judged, policy) != "source") and draws(spec):
        kwargs.setdefault("render_mode", "rgb_array")
    env = gym.make(spec, max_episode_steps=horizon, disable_env_checker=True, **kwargs)
    return as_seen(env, judged, policy, drawn)


def as_seen(env: gym.Env, world: World | None, policy: Agent | str, drawn: bool | None = None) -> Source:
    """An environment as the policy is used to see it.

    An agent trained in a learned world gets frames through that world's tokenizer; baselines, agents trained in the
    environment and planners, which encode what they see, get them as they are.

    Args:
        env: What `gym.make` made of an id and `shown_kwargs`.
        world: Which world; None for the environment as it is.
        policy: An agent, or one of BASELINES.
        drawn: Frames through the tokenizer or not, whatever the policy is used to.

    Raises:
        ValueError: Where the world is none of this environment.
    """
    return Source(env, world, _mode(world, policy), _is_used_to_drawn(world, policy) if drawn is None else drawn)


def looks_otherwise(agent: Agent) -> bool:
    """Whether an agent of a learned world sees the world's environment otherwise than that shows itself."""
    world = None if agent.world is None else load_world(agent.world)
    return _mode(world, agent) != "source" or _is_used_to_drawn(world, agent)


def shown_kwargs(spec: EnvSpec, world: World | None, policy: Agent | str) -> dict[str, Any]:
    """Keyword arguments with which a physics twin shows what a world of it does; none for another environment."""
    if world is None or not is_twin(spec.id):
        return {}
    mode, seen = _mode(world, policy), world.spec.codec("observation")
    with_state = mode == "pixels+state" or (mode == "source" and seen and seen.size)
    return {"observation": "pixels+state" if with_state else "pixels", "size": world.spec.frame_size[0]}


def _mode(world: World | None, policy: Agent | str) -> str:
    """What the policy looks at in a world, one of `OBSERVATIONS` but "auto"; without a world the environment's own."""
    return "source" if world is None else world.spec.observed(observation_mode(policy))


def _is_used_to_drawn(world: World | None, policy: Agent | str) -> bool:
    """Whether the policy is used to frames as the world draws them."""
    if world is None or not isinstance(policy, Agent) or not policy.config.get("learned") or policy.algo == PLANNER:
        return False
    seen = world.spec.codec("observation")
    return _mode(world, policy) != "source" or bool(seen and seen.layout)
