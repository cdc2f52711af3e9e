"""How does Stable-Baselines3 train in a world? A VecEnv over `WorldCore`, and one function that makes any VecEnv."""

import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecEnvWrapper, VecMonitor
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from wm_gym.common import accepted
from wm_gym.common.options import takes
from wm_gym.common.registry import find_spec
from wm_gym.core import WorldCore
from wm_gym.env import check_render_mode, slot_info
from wm_gym.options import EnvOptions
from wm_gym.registration import is_learned, is_twin
from wm_gym.slots import Batch, Slot, set_attributes
from wm_gym.vector import slot_observation
from wm_gym.worlds.world import World
from wm_gym.wrappers import DiscreteActions, JudgeReward, check_box, discrete_table

Indices = None | int | Iterable[int]


class WorldVecEnv(Batch, VecEnv):
    """A batch of episodes in a learned world as Stable-Baselines3 wants them; an ended episode is reset at once.

    Where an episode ends, infos[i] holds "terminal_observation" and "TimeLimit.truncated", and reset_infos[i] the info
    of the next one's start. Episodes are not monitored: `make_sb3_env` makes a monitored one.

    Args:
        num_envs: Number of environments B.
        world: A World, a folder, a catalogue name or a Hub id.
        render_mode: "rgb_array" or None.
        spec: The EnvSpec that it was made of, for those who ask for `spec`.
        options: See `EnvOptions`; its fields can also be given one by one.

    Raises:
        ValueError: For an option that is wrong, or that this world does not have.
        TypeError: For an option of another name.
        FileNotFoundError: Where the world is not found.
    """

    made_by = "make_sb3_env"

    @takes(EnvOptions)
    def __init__(
        self,
        num_envs: int = 1,
        *,
        world: World | str | Path | None = None,
        render_mode: str | None = None,
        spec: EnvSpec | None = None,
        options: EnvOptions | None = None,
        **changes: Any,
    ):
        metadata: dict[str, Any] = {"render_modes": ["rgb_array"]}
        check_render_mode(render_mode, metadata)
        self._core = WorldCore(world, num_envs, render=render_mode == "rgb_array", options=options, **changes)
        self.spec, self.render_mode = spec, render_mode
        self.actions: Any = None
        self.metadata = metadata | {"render_fps": self.core.spec.fps}
        self.envs = [Slot(self, i) for i in range(num_envs)]
        super().__init__(num_envs, self.core.single_observation_space, self.core.single_action_space)
        self.metadata = metadata | {"render_fps": self.core.spec.fps}  # the base class writes its own

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Environment i gets seed + i at the next reset; without a seed one is drawn."""
        return super().seed(accepted.seed(seed))

    def reset(self) -> VecEnvObs:
        """Begin an episode everywhere; seeds and options set before are used once."""
        core = self._open("reset")
        core.reset(seeds=list(self._seeds), options=self._options)
        self._reset_seeds()
        self._reset_options()
        self.reset_infos = self._infos()
        return core.observation()

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions float32 [B, A] of the next step."""
        self.actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step with the kept actions: observations, rewards float32 [B], done bool [B] and infos."""
        core = self._open("step")
        reward, terminated, truncated = core.step(self.actions)
        done, infos, observation = terminated | truncated, self._infos(), core.observation()
        limited = (truncated & ~terminated).tolist()
        for info, cut in zip(infos, limited):
            info["TimeLimit.truncated"] = cut
        if done.any():
            core.reset(done)
            last, observation, batch = observation, core.observation(), core.info()
            for i in np.flatnonzero(done).tolist():
                infos[i]["terminal_observation"] = slot_observation(last, i)
                self.reset_infos[i] = slot_info(batch, i)
        return observation, reward.astype(np.float32), done, infos

    def close(self) -> None:
        """Let go of the world; everything but another `close` is a ClosedEnvironmentError from here on."""
        self._core = None

    def get_images(self) -> Sequence[np.ndarray | None]:
        """One frame uint8 [H, W, 3] an environment (None without render_mode="rgb_array")."""
        self._open("get_images")
        return [slot.render() for slot in self.envs]

    def get_attr(self, attr_name: str, indices: Indices = None) -> list[Any]:
        """An attribute of each of some environments."""
        return [getattr(slot, attr_name) for slot in self._slots(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Indices = None) -> None:
        """Give an attribute of some environments one value."""
        slots = self._slots(indices)
        set_attributes(attr_name, slots, [value] * len(slots))

    def env_method(
        self, method_name: str, *method_args: Any, indices: Indices = None, **method_kwargs: Any
    ) -> list[Any]:
        """What a method of each of some environments returns."""
        return [getattr(slot, method_name)(*method_args, **method_kwargs) for slot in self._slots(indices)]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: Indices = None) -> list[bool]:
        """False for each of some environments: a batch has no wrappers inside."""
        return [False for _ in self._slots(indices)]

    def _slots(self, indices: Indices) -> list[Slot]:
        return [self.envs[i] for i in self._get_indices(indices)]

    def _infos(self) -> list[dict[str, Any]]:
        columns = {k: v.tolist() if v.ndim == 1 else v for k, v in self.core.info().items()}
        return [{key: column[i] for key, column in columns.items()} for i in range(self.num_envs)]


class VecDiscreteActions(VecEnvWrapper):
    """`DiscreteActions` for a VecEnv: a Box of A axes as Discrete(2A + 1)."""

    def __init__(self, venv: VecEnv):
        self.table = discrete_table(check_box(venv.action_space))
        super().__init__(venv, action_space=spaces.Discrete(len(self.table)))

    def reset(self) -> VecEnvObs:
        """Begin an episode everywhere."""
        return self.venv.reset()

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions of the next step, integers [B]; ValueError for anything else."""
        rows = accepted.real("action", actions)
        inside = (rows >= 0) & (rows < len(self.table))
        if rows.dtype.kind == "f" or rows.shape != (self.num_envs,) or not inside.all():
            raise ValueError(f"action is {actions!r}, expected integers [{self.num_envs}] in 0..{len(self.table) - 1}")
        self.venv.step_async(self.table[rows])

    def step_wait(self) -> VecEnvStepReturn:
        """Step with the kept actions."""
        return self.venv.step_wait()


def make_sb3_env(
    env_id: str,
    n_envs: int = 1,
    seed: int | None = None,
    *,
    wrapper_class: Callable[[gym.Env], gym.Env] | None = None,
    monitor_file: str | os.PathLike | None = None,
    start_method: str | None = None,
    **env_kwargs: Any,
) -> VecMonitor:
    """A monitored VecEnv of any registered id.

    A learned id is stepped as one batch (`WorldVecEnv`). Any other id, or a learned one under a wrapper_class other
    than DiscreteActions, is stepped as single environments: in processes where n_envs > 1, learned ones in this one.

    Args:
        env_id: An id that Gymnasium knows; "module:id" imports the module first.
        n_envs: Number of environments.
        seed: Environment i gets seed + i at its first reset.
        wrapper_class: Wraps each environment, e.g. `DiscreteActions`.
        monitor_file: A CSV file for every episode's reward and length.
        start_method: Of processes, as `SubprocVecEnv` takes it.
        **env_kwargs: The environment's own; for a learned id any field of `EnvOptions`. reward and reward_kwargs put a
            judge on any id that shows pixels (`JudgeReward` where it is not a learned one, stepped in this process).

    Raises:
        gymnasium.error.UnregisteredEnv: For an id that is not registered, naming those that are.
    """
    spec = find_spec(env_id)
    judging: dict[str, Any] = {}
    if not is_learned(spec) and "reward" in env_kwargs:
        judging = {key: env_kwargs.pop(key) for key in ("reward", "reward_kwargs") if key in env_kwargs}
        if is_twin(spec.id):  # an episode ends where the judge says so
            judging["terminate_on_success"] = env_kwargs.pop("terminate_on_success", True)
            env_kwargs["terminate_on_success"] = False
    discrete = wrapper_class is DiscreteActions
    if is_learned(spec) and (wrapper_class is None or discrete):
        env_kwargs = {"max_episode_steps": spec.max_episode_steps, **spec.kwargs, **env_kwargs}
        venv: VecEnv = WorldVecEnv(n_envs, spec=spec, **env_kwargs)
        venv = VecDiscreteActions(venv) if discrete else venv
    else:
        makers: list[Callable[[], gym.Env]] = [partial(_made, spec, wrapper_class, env_kwargs, judging)] * n_envs
        many = n_envs > 1 and not is_learned(spec) and not judging
        venv = SubprocVecEnv(makers, start_method=start_method) if many else DummyVecEnv(makers)
    if seed is not None:
        venv.seed(seed)
        venv.action_space.seed(seed)
    return VecMonitor(venv, None if monitor_file is None else os.fspath(monitor_file))


def _made(
    spec: EnvSpec, wrapper_class: Callable[[gym.Env], gym.Env] | None, kwargs: dict[str, Any], judging: dict[str, Any]
) -> gym.Env:
    """One environment, in this process or in another, where nothing is registered yet."""
    env = gym.make(spec, **kwargs)
    env = JudgeReward(env, **judging) if judging else env
    return wrapper_class(env) if wrapper_class else env
