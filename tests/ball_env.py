"""What do the recorder's tests record? A ball that is pushed towards a disc: small, fast, with scripted policies.

Registered as wm_gym_test/Ball-v0, so that worker processes make it from "ball_env:wm_gym_test/Ball-v0".
"""

import os
import time

import gymnasium as gym
import numpy as np


class BallEnv(gym.Env):
    """The ball moves by up to 0.1 of the picture a step; success within 0.1 of the disc."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
    action_names, proprioception_names, action_unit = ["x", "y"], ["x", "y"], "a tenth of the picture"
    task_description = "push the ball to the disc"

    def __init__(self, render_mode=None, terminate_on_success=True, size=32, break_at=None, crash=False):
        self.render_mode, self.terminate_on_success, self.size = render_mode, terminate_on_success, size
        self.break_at, self.crash = break_at, crash  # the chance a step of a NaN; end the process
        self.observation_space = gym.spaces.Box(0, 255, (size, size, 3), np.uint8)
        self.action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.ball, self.goal = self.np_random.uniform(0.1, 0.9, (2, 2))
        return self.render(), self._info(0.0)

    def step(self, action):
        time.sleep(float(os.environ.get("BALL_ENV_DELAY", 0)))
        if self.crash:
            os._exit(1)
        before = np.linalg.norm(self.ball - self.goal)
        self.ball = np.clip(self.ball + 0.1 * np.asarray(action, np.float64), 0, 1)
        if self.break_at is not None and self.np_random.uniform() < self.break_at:
            self.ball = self.ball * np.nan
        info = self._info(10 * (before - np.linalg.norm(self.ball - self.goal)))
        return (
            self.render(),
            sum(v for k, v in info.items() if k.startswith("reward/")),
            bool(info["success"] and self.terminate_on_success),
            False,
            info,
        )

    def _info(self, progress):
        success = bool(np.linalg.norm(self.ball - self.goal) < 0.1)
        return {
            "success": success,
            "reward/progress": float(progress),
            "reward/success": float(success),
            "proprioception": self.ball.astype(np.float32),
        }

    def get_physics_state(self):
        return np.concatenate([self.ball, self.goal])

    def scripted_policy(self, kind, rng, noise=0.3):
        return _Script(self, kind, rng, noise)

    def render(self):
        y, x = np.mgrid[: self.size, : self.size] / self.size
        frame = np.full((self.size, self.size, 3), (30, 60, 90), np.uint8)
        for place, colour in ((self.goal, (200, 40, 40)), (np.nan_to_num(self.ball), (240, 240, 80))):
            frame[np.hypot(x - place[0], y - place[1]) < 0.1] = colour
        return frame


class _Script:
    def __init__(self, env, kind, rng, noise):
        self.env, self.kind, self.rng, self.noise = env, kind, rng, noise

    def act(self):
        if self.kind == "random":
            return self.rng.uniform(-1, 1, 2).astype(np.float32)
        target = self.env.goal + (0.2 if self.kind == "near-miss" else 0.0)
        spread = self.noise if self.kind == "noisy" else 0.0
        return np.clip((target - self.env.ball) * 5 + self.rng.normal(0, spread, 2), -1, 1).astype(np.float32)


class CountEnv(gym.Env):
    """No picture in the observation, discrete actions, no success, no horizon: what a plain environment gives."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 15}

    def __init__(self, render_mode=None):
        self.render_mode = render_mode
        self.observation_space = gym.spaces.Box(0, 99, (1,), np.float32)
        self.action_space = gym.spaces.Discrete(3, start=1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count, self.end = 0, int(self.np_random.integers(3, 9))
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.count += int(action)
        return np.full(1, self.count, np.float32), float(action), self.count >= self.end, False, {}

    def render(self):
        return np.full((48, 36, 3), 10 * self.count, np.uint8)


class HopEnv(gym.Env):
    """A square that hops, seen alone; no simulator's state, no scripts, no success, and it ends at the edge."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, render_mode=None):
        self.render_mode = render_mode
        self.observation_space = gym.spaces.Box(0, 255, (32, 48, 3), np.uint8)
        self.action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = int(self.np_random.integers(16, 28))
        return self.render(), {}

    def step(self, action):
        self.place += 4 if action else -4
        return self.render(), 1.0, not 0 <= self.place <= 40, False, {}

    def render(self):
        frame = np.full((32, 48, 3), 40, np.uint8)
        frame[12:20, max(self.place, 0) : self.place + 8] = (220, 160, 60)
        return frame


gym.register("wm_gym_test/Hop-v0", "ball_env:HopEnv", max_episode_steps=12)
gym.register("wm_gym_test/Ball-v0", "ball_env:BallEnv", max_episode_steps=15)
gym.register("wm_gym_test/Count-v0", "ball_env:CountEnv")
