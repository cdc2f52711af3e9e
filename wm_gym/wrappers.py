"""Which wrappers put other learners and other pictures on a world? Discrete actions, the tokenizer's round trip."""

from __future__ import annotations


import gymnasium as gym
import numpy as np
from gymnasium import spaces


def discrete_table(box: spaces.Box) -> np.ndarray:
    """float32 [2A+1, A]: nothing, then for each axis its highest and its lowest value with the others at rest."""
    rest = np.clip(0.0, box.low, box.high).astype(np.float32)
    table = np.tile(rest, (2 * len(rest) + 1, 1))
    for axis in range(len(rest)):
        table[2 * axis + 1, axis], table[2 * axis + 2, axis] = box.high[axis], box.low[axis]
    return table


def check_box(space: spaces.Space) -> spaces.Box:
    if not isinstance(space, spaces.Box) or len(space.shape) != 1:
        raise ValueError(f"DiscreteActions needs a Box action space of shape [A], this environment has {space}")
    return space


class DiscreteActions(gym.ActionWrapper, gym.utils.RecordConstructorArgs):
    """A Box of A axes as Discrete(2A + 1): 0 does nothing, 2k+1 and 2k+2 push axis k to its highest and lowest.

    For learners with discrete actions (DQN). `wm_gym.sb3.make_sb3_env` takes it as wrapper_class.
    """

    def __init__(self, env: gym.Env):
        gym.utils.RecordConstructorArgs.__init__(self)
        gym.ActionWrapper.__init__(self, env)
        self.table = discrete_table(check_box(env.action_space))
        self.action_space = spaces.Discrete(len(self.table))

    def action(self, action: int) -> np.ndarray:
        if action not in self.action_space:
            raise ValueError(f"action is {action!r}, expected an integer in 0..{len(self.table) - 1}")
        return self.table[int(action)].copy()


class TokenizerRoundTrip(gym.ObservationWrapper, gym.utils.RecordConstructorArgs):
    """Show a physics environment's frames as the world's tokenizer draws them.

    A policy trained in the world then sees the same kind of picture in both. The observation is the frame uint8
    [H, W, 3], or a dict with it at "pixels"; other sizes than the world's raise ValueError.
    """

    def __init__(self, env: gym.Env, world, device: str = "cpu"):
        from wm_gym.shared import load_engine, load_world

        gym.utils.RecordConstructorArgs.__init__(self, world=world, device=device)
        gym.ObservationWrapper.__init__(self, env)
        world = load_world(world)
        self._engine = load_engine(world, "torch", device, decode=True)
        space, size = env.observation_space, (*world.spec.frame_size, 3)
        pixels = space["pixels"] if isinstance(space, spaces.Dict) and "pixels" in space.spaces else space
        if pixels.shape != size or pixels.dtype != np.uint8:
            raise ValueError(f"TokenizerRoundTrip needs frames uint8 {list(size)} of the world {world.spec.name!r}, "
                             f"the environment's observation space is {space}")

    def observation(self, observation):
        if isinstance(observation, dict):
            return {**observation, "pixels": self._draw(observation["pixels"])}
        return self._draw(observation)

    def _draw(self, frame: np.ndarray) -> np.ndarray:
        return self._engine.render(self._engine.encode(frame[None, None])).cpu().numpy()[0].copy()
