"""How does a policy act on batches of observations, in any action space?"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from wm_gym.common.codec import SpaceCodec
from wm_gym.policies.agent import Agent, Observation, batch_size
from wm_gym.policies.callable import ExternalPolicy
from wm_gym.policies.options import BASELINES
from wm_gym.wrappers import check_box, discrete_table


class Actor:
    """An agent, "random" (uniform) or "no-op" (zeros, or what is nearest) as one thing that acts on batches.

    Args:
        policy: An agent, or one of BASELINES.
        space: Of the actions that the environment takes.
        deterministic: Take the policy's most likely action instead of drawing one.
        seed: Of random actions.

    Raises:
        ValueError: For an unknown policy, and for an agent that acts in another space.
    """

    def __init__(self, policy: Agent | str, space: gym.Space, deterministic: bool = True, seed: int = 0):
        if isinstance(policy, str) and policy not in BASELINES:
            raise ValueError(f"policy {policy!r} is unknown; pass an agent or one of {BASELINES}")
        self.policy, self.space, self.deterministic = policy, space, deterministic
        self.rng = np.random.default_rng([seed, 1])
        self.table = _table(policy, space) if isinstance(policy, Agent) else None
        self.stack: list[np.ndarray] | None = None
        self.state: Any = None

    def act(self, observation: Observation, active: np.ndarray | None = None) -> Any:
        """A batch of actions as `gymnasium.vector` batches them.

        Args:
            observation: [B, ...], or a dict of such arrays.
            active: bool [B], whose actions are of use.
        """
        if not isinstance(self.policy, Agent):
            return self._baseline(batch_size(observation))
        seen = self._stacked(observation, self.policy.frame_stack)
        action, self.state = self.policy.predict(seen, self.state, self.deterministic, active)
        if self.table is not None:
            return self.table[action]
        return action.astype(self.space.dtype) if isinstance(self.space, gym.spaces.Box) else action

    def _baseline(self, count: int) -> Any:
        """Actions of what looks at nothing, by their numbers."""
        codec = SpaceCodec(self.space, pictures=False, part="the action space")
        low, high = codec.bounds
        if self.policy == "no-op":
            return codec.batch(np.clip(np.zeros((count, codec.size)), low, high).astype(np.float32))
        low = np.where(np.isfinite(low), low, np.minimum(high, 1) - 2)  # of width 2 where there is no bound
        high = np.where(np.isfinite(high), high, low + 2)
        return codec.batch(self.rng.uniform(low, high, (count, codec.size)).astype(np.float32))

    def _stacked(self, observation: Observation, n: int) -> Observation:
        """The last n observations along the last axis, zeros before the first (as SB3's VecFrameStack)."""
        if n == 1:
            return observation
        if not isinstance(observation, np.ndarray):
            raise ValueError("frame_stack > 1 is supported for image observations only; set frame_stack: 1")
        self.stack = [*(self.stack or [np.zeros_like(observation)] * n)[1:], observation]
        return np.concatenate(self.stack, axis=-1)


def _table(agent: Agent, space: gym.Space) -> np.ndarray | None:
    """The actions [n, A] that the numbers of an agent's Discrete space stand for in a box; None where none are needed.

    ValueError for an agent of another space.
    """
    if isinstance(agent.policy, ExternalPolicy) and agent.policy.action_space is None:
        agent.policy.action_space = space
    acts = agent.policy.action_space
    if isinstance(space, gym.spaces.Box) and isinstance(acts, gym.spaces.Discrete):
        return discrete_table(check_box(space))
    similar = isinstance(space, gym.spaces.Box) and isinstance(acts, gym.spaces.Box) and acts.shape == space.shape
    if acts != space and not similar:  # bounds may be others
        raise ValueError(
            f"the agent acts in {acts}, this environment in {space}; "
            "evaluate it in the environment that it was trained for, or in its twin"
        )
    return None
