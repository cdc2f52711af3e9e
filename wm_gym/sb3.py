"""How does Stable-Baselines3 train in a world? A VecEnv over `WorldCore`, and one function that makes any VecEnv."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.error import ClosedEnvironmentError
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecEnvWrapper, VecMonitor

from wm_gym.common import accepted
from wm_gym.common.copies import CopiesWhole
from wm_gym.common.registry import find_spec
from wm_gym.core import WorldCore
from wm_gym.env import check_render_mode, slot_info
from wm_gym.judges import Judge
from wm_gym.registration import is_learned, is_twin
from wm_gym.slots import Slot, set_attributes
from wm_gym.vector import slot_observation
from wm_gym.worlds.world import World
from wm_gym.wrappers import DiscreteActions, JudgeReward, check_box, discrete_table


class WorldVecEnv(CopiesWhole, VecEnv):
    """A batch of episodes in a learned world as Stable-Baselines3 wants them; an ended episode is reset at once.

    The arguments are `WorldVectorEnv`'s. Where an episode ends, infos[i] holds "terminal_observation" and
    "TimeLimit.truncated", and reset_infos[i] the info of the next one's start. Not monitored: see `make_sb3_env`.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        world: World | str | Path | None = None,
        render_mode: str | None = None,
        observation: str = "pixels",
        backend: str = "auto",
        device: str = "auto",
        precision: str = "auto",
        max_episode_steps: int | None = None,
        terminate_on_success: bool = True,
        starts: str = "first",
        success_threshold: float | None = None,
        uncertainty_penalty: float = 0.0,
        truncate_on_uncertainty: bool = False,
        reward: str | Judge | Sequence[str | Judge] = "learned",
        reward_kwargs: dict | None = None,
        spec: gym.envs.registration.EnvSpec | None = None,
    ):
        metadata = {"render_modes": ["rgb_array"]}
        check_render_mode(render_mode, metadata)
        self.core = WorldCore(
            world,
            num_envs,
            observation=observation,
            backend=backend,
            device=device,
            precision=precision,
            max_episode_steps=max_episode_steps,
            terminate_on_success=terminate_on_success,
            starts=starts,
            success_threshold=success_threshold,
            uncertainty_penalty=uncertainty_penalty,
            truncate_on_uncertainty=truncate_on_uncertainty,
            reward=reward,
            reward_kwargs=reward_kwargs,
        )
        self.spec, self.render_mode, self.actions = spec, render_mode, None
        self.metadata = metadata | {"render_fps": self.core.spec.fps}
        self.envs = [Slot(self, i) for i in range(num_envs)]
        super().__init__(num_envs, self.core.single_observation_space, self.core.single_action_space)
        self.metadata = metadata | {"render_fps": self.core.spec.fps}  # the base class writes its own

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Environment i gets seed + i at the next reset; without a seed one is drawn."""
        return super().seed(accepted.seed(seed))

    def reset(self):
        """Begin an episode everywhere; seeds and options set before are used once."""
        self._check_open("reset")
        self.core.reset(seeds=list(self._seeds), options=self._options)
        self._reset_seeds()
        self._reset_options()
        self.reset_infos = self._infos()
        return self.core.observation()

    def step_async(self, actions: np.ndarray) -> None:
        self.actions = actions

    def step_wait(self):
        self._check_open("step")
        core = self.core
        reward, terminated, truncated = core.step(self.actions)
        done, infos, observation = terminated | truncated, self._infos(), core.observation()
        limited = (truncated & ~terminated).tolist()
        for info, cut in zip(infos, limited):
            info["TimeLimit.truncated"] = cut
        if done.any():
            core.reset(done)
            fresh, batch = core.observation(), core.info()
            for i in np.flatnonzero(done):
                infos[i]["terminal_observation"] = slot_observation(observation, i)
                self.reset_infos[i] = slot_info(batch, i)
            observation = fresh
        return observation, reward.astype(np.float32), done, infos

    def close(self) -> None:
        self.core = None

    def get_images(self) -> list[np.ndarray | None]:
        """One frame uint8 [H, W, 3] an environment (None without render_mode="rgb_array")."""
        self._check_open("get_images")
        return [slot.render() for slot in self.envs]

    def get_attr(self, attr_name: str, indices=None) -> list[Any]:
        return [getattr(slot, attr_name) for slot in self._slots(indices)]

    def set_attr(self, attr_name: str, value: Any, indices=None) -> None:
        slots = self._slots(indices)
        set_attributes(attr_name, slots, [value] * len(slots))

    def env_method(self, method_name: str, *method_args, indices=None, **method_kwargs) -> list[Any]:
        return [getattr(slot, method_name)(*method_args, **method_kwargs) for slot in self._slots(indices)]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices=None) -> list[bool]:
        return [False for _ in self._slots(indices)]

    def _slots(self, indices) -> list[Slot]:
        return [self.envs[i] for i in self._get_indices(indices)]

    def _infos(self) -> list[dict[str, Any]]:
        columns = {k: v.tolist() if v.ndim == 1 else v for k, v in self.core.info().items()}
        return [{key: column[i] for key, column in columns.items()} for i in range(self.num_envs)]

    def _check_open(self, what: str) -> None:
        if self.core is None:
            raise ClosedEnvironmentError(f"{what} was called after close; make a new one with make_sb3_env")


class VecDiscreteActions(VecEnvWrapper):
    """`DiscreteActions` for a VecEnv: a Box of A axes as Discrete(2A + 1)."""

    def __init__(self, venv: VecEnv):
        self.table = discrete_table(check_box(venv.action_space))
        super().__init__(venv, action_space=spaces.Discrete(len(self.table)))

    def reset(self):
        return self.venv.reset()

    def step_async(self, actions: np.ndarray) -> None:
        rows = accepted.real("action", actions)
        inside = (rows >= 0) & (rows < len(self.table))
        if rows.dtype.kind == "f" or rows.shape != (self.num_envs,) or not inside.all():
            raise ValueError(f"action is {actions!r}, expected integers [{self.num_envs}] in 0..{len(self.table) - 1}")
        self.venv.step_async(self.table[rows])

    def step_wait(self):
        return self.venv.step_wait()


def make_sb3_env(
    env_id: str,
    n_envs: int = 1,
    seed: int | None = None,
    *,
    wrapper_class: Callable | None = None,
    monitor_file: str | os.PathLike | None = None,
    start_method: str | None = None,
    **env_kwargs,
) -> VecMonitor:
    """A monitored VecEnv of any registered id.

    A learned id is stepped as one batch (`WorldVecEnv`). Any other id, or a learned one under a wrapper_class other
    than DiscreteActions, is stepped as single environments: in processes where n_envs > 1, learned ones in this one.
    seed: environment i gets seed + i at its first reset. monitor_file: a CSV of every episode's reward and length.
    max_episode_steps and the other keyword arguments go to the environment; reward and reward_kwargs put a judge on any
    id that shows pixels (`JudgeReward` where it is not a learned one, stepped in this process). Raises
    gymnasium.error.UnregisteredEnv naming the ids there are.
    """
    spec = find_spec(env_id)
    judging = None
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
        makers = [_Maker(spec, wrapper_class, env_kwargs, judging)] * n_envs
        many = n_envs > 1 and not is_learned(spec) and not judging
        venv = SubprocVecEnv(makers, start_method=start_method) if many else DummyVecEnv(makers)
    if seed is not None:
        venv.seed(seed)
        venv.action_space.seed(seed)
    return VecMonitor(venv, None if monitor_file is None else os.fspath(monitor_file))


class _Maker:
    """Makes one environment, in this process or (pickled) in another, where nothing is registered yet."""

    def __init__(
        self, spec: gym.envs.registration.EnvSpec, wrapper_class: Callable | None, kwargs: dict, judging: dict | None
    ):
        self.spec, self.wrapper_class, self.kwargs, self.judging = spec, wrapper_class, kwargs, judging

    def __call__(self) -> gym.Env:
        env = gym.make(self.spec, **self.kwargs)
        env = JudgeReward(env, **self.judging) if self.judging else env
        return self.wrapper_class(env) if self.wrapper_class else env
