"""What does one recorded episode of any Gymnasium environment consist of?

An episode depends only on (seed, its number): worker count, order and resuming do not change it.
"""

import inspect
from dataclasses import dataclass

import numpy as np

MIX = {"expert": 0.2, "noisy": 0.3, "random": 0.3, "near-miss": 0.2}  # shares of --policy mix
POLICIES = (*MIX, "mix")
KINDS = (*MIX, "agent")  # what the column policy_kind counts
AGENT = "agent:"  # a policy that is a trained agent: agent:FOLDER
MAX_STEPS = 1000  # where the environment has no horizon of its own


@dataclass
class RecordedEpisode:
    """One episode: frames uint8 [L, H, W, 3], columns {feature: array [L, D]}, task text, and what the env says."""

    frames: np.ndarray
    columns: dict
    task: str
    reward_terms: list
    kind: str


class EpisodeSource:
    """Make the environment once and roll out episodes of it by number."""

    def __init__(self, env_id, env_kwargs, policy, seed, noise, size):
        self.env_id, self.policy, self.seed, self.noise, self.size = env_id, policy, seed, noise, size
        self.agent = self.imagination = None
        if policy.startswith(AGENT):
            self.agent, self.env, self.imagination = agent_env(policy.removeprefix(AGENT), env_id, env_kwargs)
        else:
            self.env = make_env(env_id, env_kwargs)
        self.kinds = policy_kinds(self.env)
        if self.agent is None and policy != "mix" and policy not in self.kinds:
            self.env.close()
            raise ValueError(
                f"{env_id} has no policy {policy!r}; it has {', '.join(self.kinds)}: give --policy {self.kinds[-1]}"
            )
        self.action_space = self.env.action_space
        self.act_size, self.encode_action, low, high = action_encoding(self.env)
        self.describe = describe(self.env, low, high)

    def rollout(self, episode):
        """Roll out episode number `episode` -> RecordedEpisode."""
        env_seed, policy_seed = np.random.SeedSequence([self.seed, episode]).generate_state(2, np.uint32)
        rng = np.random.default_rng(policy_seed)
        kind = self._choose(rng)
        observation, info = self.env.reset(seed=int(env_seed % 2**31))
        act = self._policy(kind, rng) if self.agent is None else self._actor(rng, info)
        rows, rewards, successes, infos = [self._row(observation, info)], [], [], [info]
        actions = []
        while True:
            action = act(observation)
            actions.append(self.encode_action(action))
            observation, reward, terminated, truncated, info = self.env.step(action)
            rows.append(self._row(observation, info))
            rewards.append(self._number("reward", reward))
            infos.append(info)
            successes.append(_success(info))
            if terminated or truncated:
                break
        return self._assemble(kind, rows, actions, rewards, successes, infos)

    def close(self):
        self.env.close()

    def _choose(self, rng):
        if self.policy != "mix":
            return "agent" if self.agent else self.policy
        share = np.array([MIX[kind] for kind in self.kinds])
        return self.kinds[rng.choice(len(self.kinds), p=share / share.sum())]

    def _policy(self, kind, rng):
        scripted = getattr(self.env.unwrapped, "scripted_policy", None)
        if scripted is not None:
            act = scripted(kind, rng, noise=self.noise).act
            low, high = self.action_space.low, self.action_space.high
            return lambda _: np.clip(np.asarray(act(), np.float32), low, high)
        self.action_space.seed(int(rng.integers(2**31)))
        return lambda _: self.action_space.sample()

    def _actor(self, rng, info):
        """The agent on what it sees, exploring, or on what its world imagines meanwhile: each in a third of episodes.

        What exploits an error of the world is done in imagination only: in physics the policy soon sees otherwise.
        """
        import torch

        from wm_gym.policies.rollouts import Actor, Start, one_in_batch, world_options

        torch.manual_seed(int(rng.integers(2**31)))
        manner = rng.choice(["seen", "exploring", "imagined"] if self.imagination else ["seen", "exploring"])
        actor = Actor(self.agent, self.action_space, deterministic=manner != "exploring")
        if manner != "imagined":
            return lambda seen: actor.act(one_in_batch(seen))[0]
        core, seed = self.imagination, int(rng.integers(2**31))
        start = Start(seed, self.env.render(), info["proprioception"], self.env.unwrapped.get_physics_state())
        core.reset(seeds=[seed], options=[world_options(core.world, start)])

        def act(_):
            action = actor.act(core.observation())
            core.step(action)
            return action[0]

        return act

    def _number(self, name, value):
        """A reward as a float, from an array of one number too; ValueError naming what is none."""
        try:
            return float(value.item() if hasattr(value, "item") else value)
        except (TypeError, ValueError, RuntimeError):  # NumPy's and torch's for several
            shape = f" of shape {list(np.shape(value))}" if np.ndim(value) else ""
            raise ValueError(
                f"{self.env_id}: {name} is {value!r}{shape}, expected a number or an array of one; wrap "
                "the environment so that each step gives one reward"
            ) from None

    def _row(self, observation, info):
        state = getattr(self.env.unwrapped, "get_physics_state", None)
        return (
            self._frame(observation),
            _proprioception(observation, info),
            None if state is None else np.array(state(), np.float64),
        )

    def _frame(self, observation):
        pixels = observation.get("pixels") if isinstance(observation, dict) else observation
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
                    f"{self.env_id} gives no picture: neither its observation nor render() in "
                    f"render_mode 'rgb_array' is a uint8 [H, W, 3] array"
                )
        frame = np.array(pixels, np.uint8)
        if self.size is not None and frame.shape[:2] != tuple(self.size):
            from wm_gym.data.resize import resize_area

            frame = resize_area(frame[None], self.size)[0]
        return frame

    def _assemble(self, kind, rows, actions, rewards, successes, infos):
        frames, proprioception, physics = zip(*rows)
        length = len(rows)
        last = np.zeros((1, self.act_size), np.float32)  # the last observation has no successor
        columns = {"action": np.concatenate([np.stack(actions).astype(np.float32), last])}
        if proprioception[0] is not None:
            columns["observation.state"] = np.stack(proprioception)
        columns["next.reward"] = np.array([*rewards, 0.0], np.float32)
        terms = sorted({key for info in infos for key in info if key.startswith("reward/")})
        for term in terms:
            values = [self._number(term, info.get(term, 0.0)) for info in infos[1:]]
            columns[f"next.reward.{term.removeprefix('reward/')}"] = np.array([*values, 0.0], np.float32)
        columns["next.done"] = np.arange(length) == length - 1
        if successes[0] is not None:
            flags = [bool(flag) for flag in successes]
            columns["next.success"] = np.array([*flags, flags[-1]])
        if physics[0] is not None:
            columns["physics_state"] = np.stack(physics)
        columns["policy_kind"] = np.full(length, KINDS.index(kind), np.int64)
        columns = {key: value.reshape(length, -1) for key, value in columns.items()}
        return RecordedEpisode(
            np.stack(frames),
            columns,
            self.describe["task_description"],
            [term.removeprefix("reward/") for term in terms],
            kind,
        )


def make_env(env_id, env_kwargs=None):
    """Make a registered environment (`import_env`) for recording: pictures on, a horizon, twins without early end."""
    import gymnasium as gym

    from wm_gym.common.registry import registered

    kwargs, spec = dict(env_kwargs or {}), registered(env_id, "the environment to record")
    entry = spec.entry_point
    if isinstance(entry, str):
        entry = gym.envs.registration.load_env_creator(entry)
    if "terminate_on_success" in _parameters(entry):
        kwargs.setdefault("terminate_on_success", False)  # whole episodes: what happens after success counts too
    kwargs.setdefault("render_mode", "rgb_array")
    env = gym.make(spec, **kwargs)
    if env.spec.max_episode_steps is None and getattr(env.unwrapped, "horizon", None) is None:
        env = gym.wrappers.TimeLimit(env, MAX_STEPS)
    return env


def import_env(env_id):
    """Have an environment registered whose id somebody typed.

    An id may name its module ("panda_gym:PandaReach-v3"); a namespace that is a module ("gym_pusht/PushT-v0") is
    imported by itself. Raises ValueError naming the id and the next thing to try.
    """
    import gymnasium as gym

    from wm_gym.common.registry import find_spec, import_typed

    module, _, name = env_id.rpartition(":")
    for module in filter(None, (module, name.rpartition("/")[0])):
        if name not in gym.registry:
            try:
                import_typed(module)
            except ModuleNotFoundError as error:
                if error.name != module:
                    raise
    try:
        find_spec(name)
    except gym.error.UnregisteredEnv as error:
        raise ValueError(
            f"unknown environment {env_id!r} ({error}); give the id of a registered environment, with "
            f"its module where that is not imported by itself: module:Name-v0"
        ) from None


def agent_env(folder, env_id, env_kwargs=None):
    """An agent, its physics twin and the core of its world (None where it was trained in physics) for recording.

    ValueError where the environment is no twin of this package.
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


def policy_kinds(env):
    """List the policies that can act in this environment; only those with scripts have more than "random"."""
    return list(MIX) if hasattr(env.unwrapped, "scripted_policy") else ["random"]


def action_encoding(env):
    """Say how actions become float32 vectors: (size, encode function, low [A], high [A]).

    Box is flattened, Discrete becomes one-hot; other spaces raise ValueError.
    """
    import gymnasium as gym

    space = env.action_space
    if isinstance(space, gym.spaces.Discrete):
        n, start = int(space.n), int(space.start)
        eye = np.eye(n, dtype=np.float32)
        return n, lambda action: eye[int(action) - start], np.zeros(n), np.ones(n)
    if isinstance(space, gym.spaces.Box):
        return (
            int(np.prod(space.shape)),
            lambda action: np.asarray(action, np.float32).reshape(-1),
            space.low.reshape(-1),
            space.high.reshape(-1),
        )
    raise ValueError(
        f"{env.spec.id} has the action space {space}; only Box and Discrete can be recorded: wrap the "
        f"environment so that its actions are one of these"
    )


def describe(env, low, high):
    """Collect what info.json says about the environment."""
    import gymnasium as gym

    base, space = env.unwrapped, env.action_space
    horizon = env.spec.max_episode_steps or getattr(base, "horizon", None) or MAX_STEPS
    names = getattr(base, "action_names", None)
    proprioception = getattr(base, "proprioception_names", None)
    return {
        "action_space": f"{space}, stored one-hot" if isinstance(space, gym.spaces.Discrete) else str(space),
        "action_low": _bounds(low),
        "action_high": _bounds(high),
        "action_names": None if names is None else list(names),
        "proprioception_names": None if proprioception is None else list(proprioception),
        "action_unit": str(getattr(base, "action_unit", "")),
        "proprioception_unit": str(getattr(base, "proprioception_unit", "")),
        "horizon": int(horizon),
        "fps": float(env.metadata.get("render_fps") or 10),
        "task_description": str(getattr(base, "task_description", env.spec.id)),
    }


def _bounds(values):
    values = np.asarray(values, np.float64)
    return values.tolist() if np.isfinite(values).all() else None  # JSON has no infinity


def _parameters(entry):
    try:
        return inspect.signature(entry).parameters
    except (TypeError, ValueError):
        return {}


def _proprioception(observation, info):
    value = info.get("proprioception")
    if value is None and isinstance(observation, dict):
        value = observation.get("agent_pos")
    return None if value is None else np.array(value, np.float32).reshape(-1)


def _success(info):
    return info.get("success", info.get("is_success"))
