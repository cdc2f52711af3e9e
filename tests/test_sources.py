"""Is a world of an environment of other packages its drop-in twin? Each is tried where its extra is installed."""

import importlib.util
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import FilterObservation

from wm_gym.collect.record import record
from wm_gym.common.registry import find_spec
from wm_gym.training import train

FEW = {"pose_updates": 20, "outcome_updates": 20, "pose_width": 16, "checkpoint_every": 20}


@dataclass(frozen=True)
class Source:
    """An environment of an extra."""

    extra: str
    package: str
    """The module whose absence skips its test."""
    env_id: str
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    wrapper: Any = None
    """Registered with the environment, where its own observation is no space of numbers."""


UNDRAWN = {"render_mode": None}  # a machine without a display or EGL records it too
SOURCES = [
    Source("classic", "pygame", "CartPole-v1"),
    Source("mujoco", "mujoco", "Hopper-v5", UNDRAWN),
    Source("panda", "panda_gym", "panda_gym:PandaReach-v3", {"render_width": 64, "render_height": 64}),
    Source("pusht", "gym_pusht", "gym_pusht/PushT-v0", {"obs_type": "state"}),
    Source("dmc", "shimmy", "shimmy:dm_control/cartpole-balance-v0", UNDRAWN),
    Source("atari", "ale_py", "ale_py:ALE/Pong-v5", {"obs_type": "ram"}),
    Source("metaworld", "metaworld", "metaworld:Meta-World/MT1", {"env_name": "reach-v3"} | UNDRAWN),
    Source(
        "minigrid",
        "minigrid",
        "minigrid:MiniGrid-Empty-5x5-v0",
        wrapper=FilterObservation.wrapper_spec(filter_keys=["image", "direction"]),
    ),
]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.extra)
def test_a_world_is_the_drop_in_twin(source, tmp_path):
    if importlib.util.find_spec(source.package) is None:
        pytest.skip(f"{source.package} is not installed: pip install 'wm-gym[{source.extra}]'")
    env_id, kwargs = source.env_id, source.env_kwargs
    if source.wrapper:
        spec, env_id = find_spec(env_id), f"wm_gym_test/{source.extra}-v0"
        gym.register(env_id, spec.entry_point, kwargs=spec.kwargs, additional_wrappers=(source.wrapper,))
    options = {"policy": "random", "workers": 0, "size": (16, 16), "progress": False}
    data = record(env_id, steps=40, out=tmp_path / "data", env_kwargs=kwargs, **options)
    folder = str(train(data, tmp_path / "world", preset="state", overrides=FEW, progress=False))
    truth, world = gym.make(find_spec(env_id), **kwargs), gym.make("wm_gym/World-v0", world=folder)
    try:
        assert world.observation_space == truth.observation_space and world.action_space == truth.action_space
        check_env(world.unwrapped, skip_render_check=True)
        observation, _ = truth.reset(seed=0)
        world.reset(seed=0, options={"observation": observation})
        world.action_space.seed(0)
        for _ in range(5):
            observation, reward, terminated, truncated, _ = world.step(world.action_space.sample())
            assert truth.observation_space.contains(observation) and np.isfinite(reward)
            if terminated or truncated:
                world.reset()
    finally:
        truth.close()
        world.close()
        gym.registry.pop("wm_gym_test/minigrid-v0", None)
