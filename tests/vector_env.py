"""What do the tests of source spaces learn? Carts on a line, in numbers alone, and an environment of any spaces."""

import gymnasium as gym
import numpy as np


class CartEnv(gym.Env):
    """The cart is pushed left or right; the task ends where it leaves the line, and pays for being near the middle."""

    metadata = {"render_modes": []}

    def __init__(self):
        number = gym.spaces.Box(-np.inf, np.inf, (1,), np.float64)
        self.observation_space = gym.spaces.Dict({"place": number, "speed": number, "side": gym.spaces.Discrete(2)})
        self.action_space = gym.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.speed = self.np_random.uniform(-1, 1), 0.0
        return self._observation(), {}

    def step(self, action):
        self.speed = 0.9 * self.speed + 0.1 * (int(action) - 1)
        self.place += self.speed
        gone = abs(self.place) > 2
        return self._observation(), 1.0 - abs(self.place), bool(gone), False, {}

    def _observation(self):
        return {"place": np.array([self.place]), "speed": np.array([self.speed]), "side": np.int64(self.place > 0)}


class LeversEnv(gym.Env):
    """The cart is pushed by two levers, and says when it is in the middle, where the task ends."""

    metadata = {"render_modes": []}

    def __init__(self):
        self.observation_space = gym.spaces.Box(-5, 5, (2,), np.float32)
        self.action_space = gym.spaces.Dict(
            {"push": gym.spaces.Box(-1, 1, (1,), np.float32), "gear": gym.spaces.Discrete(2)}
        )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.speed = self.np_random.uniform(0.3, 1) * self.np_random.choice([-1, 1]), 0.0
        return self._observation(), {"success": False}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.speed = 0.1 * float(action["push"][0]) * (1 + int(action["gear"]))
        self.place += self.speed
        success = abs(self.place) < 0.2
        return self._observation(), -abs(self.place), success, False, {"success": success}

    def _observation(self):
        return np.array([self.place, self.speed], np.float32)


class SpaceEnv(gym.Env):
    """Draws observations of any space; takes any actions."""

    metadata = {"render_modes": []}

    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        return self.observation_space.sample(), float(self.np_random.uniform()), False, False, {}


class GoalEnv(gym.Env):
    """A point is pushed over a table to a goal; the reward is -1 until it is there, and the task ends there."""

    metadata = {"render_modes": []}

    def __init__(self, paid=None):
        point = gym.spaces.Box(-2, 2, (2,), np.float32)
        parts = {"observation": point, "achieved_goal": point, "desired_goal": point}
        self.observation_space = gym.spaces.Dict(parts)
        self.action_space = gym.spaces.Box(-1, 1, (2,), np.float32)
        self.paid = paid

    def compute_reward(self, achieved_goal, desired_goal, info):
        return -(np.linalg.norm(achieved_goal - desired_goal, axis=-1) > 0.2).astype(np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.goal = self.np_random.uniform(-1, 1, (2, 2)).astype(np.float32)
        return self._observation(), {}

    def step(self, action):
        self.place = np.clip(self.place + 0.2 * np.asarray(action, np.float32), -2, 2)
        reward = float(self.compute_reward(self.place, self.goal, {}))
        return self._observation(), self.paid or reward, reward == 0, False, {}

    def _observation(self):
        return {"observation": self.place.copy(), "achieved_goal": self.place.copy(), "desired_goal": self.goal.copy()}


gym.register("wm_gym_test/Cart-v0", "vector_env:CartEnv", max_episode_steps=30)
gym.register("wm_gym_test/Levers-v0", "vector_env:LeversEnv", max_episode_steps=12)
gym.register("wm_gym_test/Goal-v0", "vector_env:GoalEnv", max_episode_steps=20)
gym.register("wm_gym_test/PaidGoal-v0", "vector_env:GoalEnv", max_episode_steps=20, kwargs={"paid": 0.5})
