"""Do policies learn from pixels, and do their keypoints say where things are?"""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from dot_reach import DotReach, small_ppo
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

import wm_gym  # noqa: F401
from wm_gym.policies.features import SpatialSoftmaxCNN
from wm_gym.policies.recipe import load_recipe, sb3_arguments


@pytest.mark.slow
def test_the_recipe_learns_from_pixels():
    """PPO with the shipped recipe (fewer environments) goes from chance to most episodes on a small real task."""
    env = make_vec_env(DotReach, 16, seed=0)
    recipe = {**load_recipe("ppo", "any"), "n_steps": 32}
    model = PPO(env=env, seed=0, device="cpu", **sb3_arguments("ppo", recipe, env.observation_space))
    before = success_rate(model)
    model.learn(12_000)
    assert before < 0.4
    assert success_rate(model) > 0.85


def success_rate(model, episodes: int = 60) -> float:
    env, wins = DotReach(), 0
    for seed in range(episodes):
        observation, over = env.reset(seed=10_000 + seed)[0], False
        while not over:
            observation, _, terminated, truncated, info = env.step(model.predict(observation, deterministic=True)[0])
            over = terminated or truncated
        wins += info["is_success"]
    return wins / episodes


def test_keypoints_say_where_things_are():
    """A bright spot moved to the right moves the expected x of a map that sees it, and not its y."""
    import torch

    from wm_gym.policies.features import SpatialSoftmax

    layer = SpatialSoftmax(1, 9, 9)
    maps = torch.zeros(2, 1, 9, 9)
    maps[0, 0, 4, 4] = maps[1, 0, 4, 8] = 50.0
    assert torch.allclose(layer(maps), torch.tensor([[0.0, 0.0], [1.0, 0.0]]), atol=1e-5)


def test_extractor_takes_dict_observations_and_names_what_it_cannot():
    env = make_vec_env(lambda: DotReach(state=True), 2)
    model = small_ppo(env, "MultiInputPolicy")
    assert model.policy.features_extractor.features_dim == 2 * 4 + 2
    model.learn(16)
    with pytest.raises(ValueError, match="MlpPolicy"):
        SpatialSoftmaxCNN(gym.spaces.Box(-1, 1, (4,), np.float32))
