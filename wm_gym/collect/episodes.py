"""What does one recorded episode of any Gymnasium environment consist of?

An episode depends only on (seed, its number): worker count, order and resuming do not change it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec

from wm_gym.data.resize import resize_area

if TYPE_CHECKING:
    from wm_gym.core import WorldCore
    from wm_gym.policies.agent import Agent

MIX = {"expert": 0.2, "noisy": 0.3, "random": 0.3, "near-miss": 0.2}  # shares of --policy mix
POLICIES = (*MIX, "mix")
KINDS = (*MIX, "agent")  # what the column policy_kind counts
AGENT = "agent:"  # a policy that is a trained agent: agent:FOLDER
MAX_STEPS = 1000  # where the environment has no horizon of its own


Act = Callable[[Any], Any]
"""From an observation to an action of the environment's own space."""
Row = tuple[np.ndarray, np.ndarray | None, np.ndarray | None]
"""What one observation gives: frame, proprioception, state of the physics."""


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
        self.imagination: WorldCore | None = None
        if policy.startswith(AGENT):
            self.agent, self.env, self.imagination = agent_env(policy.removeprefix(AGENT), env_id, spec.env_kwargs)
        else:
            self.env = make_env(env_id, spec.env_kwargs)
        self.kinds = policy_kinds(self.env)
        if self.agent is None and policy != "mix" and policy not in self.kinds:
            self.env.close()
            raise ValueError(
                f"{env_id} has no policy {policy!r}; it has {', '.join(self.kinds)}: give --policy {self.kinds[-1]}"
            )
        self.action_space = self.env.action_space
        self.encode_action, low, high = action_encoding(self.env)
        self.describe = describe(self.env, low, high)

    def rollout(self, episode: int) -> RecordedEpisode:
        """The episode of that number."""
        env_seed, policy_seed = np.random.SeedSequence([self.spec.seed, episode]).generate_state(2, np.uint32)
        rng = np.random.default_rng(policy_seed)
        kind = self._choose(rng)
        observation, info = self.env.reset(seed=int(env_seed % 2**31))
        act = self._policy(kind, rng) if self.agent is None else self._actor(self.agent, rng, info)
        rows, infos = [self._row(observation, info)], [info]
        steps: list[tuple[np.ndarray, float, Any]] = []
        over = False
        while not over:
            action = act(observation)
            encoded = self.encode_action(action)
            observation, reward, terminated, truncated, info = self.env.step(action)
            rows.append(self._row(observation, info))
            steps.append((encoded, self._number("reward", reward), info.get("success", info.get("is_success"))))
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
            act = scripted(kind, rng, noise=self.spec.noise).act
            space = self._box()
            return lambda _: np.clip(np.asarray(act(), np.float32), space.low, space.high)
        self.action_space.seed(int(rng.integers(2**31)))
        return lambda _: self.action_space.sample()

    def _box(self) -> gym.spaces.Box:
        """The action space, where scripts or an agent act."""
        assert isinstance(self.action_space, gym.spaces.Box)
        return self.action_space

    def _actor(self, agent: Agent, rng: np.random.Generator, info: Mapping[str, Any]) -> Act:
        """The agent on what it sees, exploring, or on what its world imagines meanwhile: each in a third of episodes.

        What exploits an error of the world is done in imagination only: in physics the policy soon sees otherwise.
        """
        import torch

        from wm_gym.policies.rollouts import Actor, Start, one_in_batch, world_options

        torch.manual_seed(int(rng.integers(2**31)))
        core = self.imagination
        manner = rng.choice(["seen", "exploring", "imagined"] if core else ["seen", "exploring"])
        actor = Actor(agent, self._box(), deterministic=manner != "exploring")
        if core is None or manner != "imagined":
            return lambda seen: actor.act(one_in_batch(seen))[0]
        seed = int(rng.integers(2**31))
        frame: Any = self.env.render()
        twin: Any = self.env.unwrapped
        start = Start(seed, frame, info["proprioception"], twin.get_physics_state())
        core.reset(seeds=[seed], options=[world_options(core.world, start)])

        def act(_: Any) -> np.ndarray:
            action = actor.act(core.observation())
            core.step(action)
            return action[0]

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
        state = getattr(self.env.unwrapped, "get_physics_state", None)
        physics = None if state is None else np.array(state(), np.float64)
        return self._frame(observation), _proprioception(observation, info), physics

    def _frame(self, observation: Any) -> np.ndarray:
        pixels: Any = observation.get("pixels") if isinstance(observation, dict) else observation
        if self.agent is not None:  # it sees the frames through its world's tokenizer; what is recorded is the camera's
            pixels = self.env.render()
        if isinstance(pixels, dict):  # several cameras: the first
            pixels = next(iter(pixels.values()))
        if not (
            isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[-1] == 3
        ):
            pixels = self.env.render()
            if pixels is None or np.ndim(pixels) != 3:
                raise ValueError(
                    f"{self.spec.env_id} gives no picture: neither its observation nor render() in "
                    f"render_mode 'rgb_array' is a uint8 [H, W, 3] array"
                )
        frame = np.array(pixels, np.uint8)
        if self.spec.size is not None and frame.shape[:2] != tuple(self.spec.size):
            frame = resize_area(frame[None], self.spec.size)[0]
        return frame

    def _assemble(
        self, kind: str, rows: list[Row], steps: list[tuple[np.ndarray, float, Any]], infos: list[dict[str, Any]]
    ) -> RecordedEpisode:
        frames, proprioception, physics = zip(*rows)
        actions, rewards, successes = zip(*steps)
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
    entry: Any = spec.entry_point
    if isinstance(entry, str):
        entry = gym.envs.registration.load_env_creator(entry)
    if "terminate_on_success" in _parameters(entry):
        kwargs.setdefault("terminate_on_success", False)  # whole episodes: what happens after success counts too
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
) -> tuple[Agent, gym.Env, WorldCore | None]:
    """An agent, its physics twin and the core of its world (None where it was trained in physics) for recording.

    Raises:
        ValueError: Where the environment is no twin of this package.
    """
    from wm_gym.policies.loaders import load_agent
    from wm_gym.policies.rollouts import endless_core, make_twin
    from wm_gym.registration import is_twin

    agent = load_agent(folder)
    if not is_twin(env_id):
        raise ValueError(
            f"an agent can be recorded in a physics twin only, {env_id} is none; give --policy random, or "
            f"one of wm_gym's PyBullet ids"
        )
    kwargs = {"terminate_on_success": False, **(env_kwargs or {})}
    horizon = kwargs.pop("max_episode_steps", None)
    twin = make_twin(env_id, agent.world, agent, horizon, **kwargs)
    return agent, twin, endless_core(agent.world, agent) if agent.world else None


def policy_kinds(env: gym.Env) -> list[str]:
    """The policies that can act in this environment; only those with scripts have more than "random"."""
    return list(MIX) if hasattr(env.unwrapped, "scripted_policy") else ["random"]


def action_encoding(env: gym.Env) -> tuple[Callable[[Any], np.ndarray], np.ndarray, np.ndarray]:
    """How actions become float32 vectors: (encode function, low [A], high [A]).

    Box is flattened, Discrete becomes one-hot; other spaces raise ValueError.
    """
    space = env.action_space
    if isinstance(space, gym.spaces.Discrete):
        n, start = int(space.n), int(space.start)
        eye = np.eye(n, dtype=np.float32)
        return lambda action: eye[int(action) - start], np.zeros(n), np.ones(n)
    if isinstance(space, gym.spaces.Box):
        return lambda action: np.asarray(action, np.float32).reshape(-1), space.low.reshape(-1), space.high.reshape(-1)
    raise ValueError(
        f"{_spec(env).id} has the action space {space}; only Box and Discrete can be recorded: wrap the "
        f"environment so that its actions are one of these"
    )


def describe(env: gym.Env, low: np.ndarray, high: np.ndarray) -> Description:
    """What info.json says of the environment; low and high bound its actions."""
    base: Any = env.unwrapped
    space = env.action_space
    horizon = _spec(env).max_episode_steps or getattr(base, "horizon", None) or MAX_STEPS
    names = getattr(base, "action_names", None)
    proprioception = getattr(base, "proprioception_names", None)
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
    }


def _spec(env: gym.Env) -> EnvSpec:
    """How the environment was made, which one made by `gym.make` knows."""
    assert env.spec is not None
    return env.spec


def _bounds(values: np.ndarray) -> list[float] | None:
    values = np.asarray(values, np.float64)
    return values.tolist() if np.isfinite(values).all() else None  # JSON has no infinity


def _parameters(entry: Any) -> Mapping[str, Any]:
    try:
        return inspect.signature(entry).parameters
    except (TypeError, ValueError):
        return {}


def _proprioception(observation: Any, info: Mapping[str, Any]) -> np.ndarray | None:
    value = info.get("proprioception")
    if value is None and isinstance(observation, dict):
        value = observation.get("agent_pos")
    return None if value is None else np.array(value, np.float32).reshape(-1)
