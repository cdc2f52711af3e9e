"""What do the agents' tests learn? A dot that goes to another one, and a PPO small enough to do it at once."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
from stable_baselines3 import PPO

import wm_gym  # noqa: F401
from wm_gym.policies.features import SpatialSoftmaxCNN


class DotReach(gym.Env):
    """A white dot moves to a red one in a 36x36 picture: a real task that a policy solves from pixels in seconds."""

    def __init__(self, state: bool = False):
        pixels = gym.spaces.Box(0, 255, (36, 36, 3), np.uint8)
        agent = gym.spaces.Box(-1, 1, (2,), np.float32)
        self.state = state
        self.observation_space = gym.spaces.Dict({"pixels": pixels, "agent_pos": agent}) if state else pixels
        self.action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.dot, self.goal = self.np_random.uniform(-0.8, 0.8, (2, 2))
        self.steps = 0
        return self._observe(), {}

    def step(self, action):
        before = np.linalg.norm(self.dot - self.goal)
        self.dot = np.clip(self.dot + 0.2 * np.clip(action, -1, 1), -0.8, 0.8)
        after = np.linalg.norm(self.dot - self.goal)
        self.steps += 1
        success = bool(after < 0.25)
        reward = float(3 * (before - after) + success)
        return self._observe(), reward, success, self.steps >= 15, {"is_success": success}

    def _observe(self):
        picture = np.zeros((36, 36, 3), np.uint8)
        for (x, y), colour in ((self.goal, (255, 0, 0)), (self.dot, (255, 255, 255))):
            row, column = int(18 + 18 * y), int(18 + 18 * x)
            picture[row - 2 : row + 3, column - 2 : column + 3] = colour
        return {"pixels": picture, "agent_pos": self.dot.astype(np.float32)} if self.state else picture


def small_ppo(env, policy="CnnPolicy", **kwargs) -> PPO:
    network = dict(features_extractor_class=SpatialSoftmaxCNN, features_extractor_kwargs=dict(channels=[4, 4, 4]))
    return PPO(
        policy,
        env,
        n_steps=8,
        batch_size=8,
        n_epochs=1,
        device="cpu",
        seed=0,
        policy_kwargs={**network, "net_arch": [8]},
        **kwargs,
    )
