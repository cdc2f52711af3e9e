"""Which other goals could recorded steps have had? For environments whose observation says its goal."""

from __future__ import annotations

import contextlib
from typing import Self

import numpy as np
import torch
from torch import Tensor

from wm_gym.common.codec import SpaceCodec
from wm_gym.common.space_data import from_data
from wm_gym.data.clips import ClipData
from wm_gym.training.rare import FEW
from wm_gym.worlds.goals import SourceReward, has_goals, source_reward

SHARE = 0.5
"""Of the recorded steps that get another goal."""
NEAR = 4.0
"""The largest deviation of a goal from what the step itself achieved, in steps of the achieved goal."""


class Hindsight:
    """Recorded numbers with other desired goals, on which the dynamics do not depend (Andrychowicz et al. 2017).

    A recording has one goal an episode, a world needs them everywhere. A third of the other goals were desired in other
    episodes, a third were achieved somewhere, and a third are near what the step itself achieves.

    Args:
        clips: The recordings.
        codec: Of their observations.
    """

    def __init__(self, clips: ClipData, codec: SpaceCodec) -> None:
        places = {leaf.path[0]: slice(leaf.start, leaf.start + leaf.size) for leaf in codec.leaves}
        self.codec, self.desired, self.achieved = codec, places["desired_goal"], places["achieved_goal"]
        numbers = clips.proprioception
        firsts = clips.episode_offset[:-1]
        self.pools = [np.array(numbers[firsts, self.desired]), np.array(numbers[:, self.achieved])]
        self.source: SourceReward | None = None
        with contextlib.suppress(ValueError):
            self.source = source_reward(clips.meta["env_id"], "the source of the recordings")
        rows = clips.transitions(range(len(clips)))
        moved = self.pools[1][rows + 1] - self.pools[1][rows]
        self.step = np.sqrt(np.square(moved).mean(0))
        paid = clips.reward[rows].sum(1)
        self.pays = self.source is not None and self.source.is_paid and clips.reward.shape[1] == 1
        """Whether the source says what steps with other goals pay."""
        known = [clips.terminated[rows + 1]]
        known.insert(0, clips.success[rows + 1] if clips.meta["has_success"] else np.full(len(rows), np.nan))
        self.flags = [_by_reward(paid, np.asarray(flag, np.float32)) for flag in known]

    @classmethod
    def of(cls, clips: ClipData) -> Self | None:
        """That of recordings; None where their observations say no goals of numbers, each for a whole episode."""
        space = clips.meta["spaces"].get("observation")
        if space is None or not has_goals(seen := from_data(space)):
            return None
        codec = SpaceCodec(seen)
        kinds = {leaf.path: (leaf.kind, leaf.size) for leaf in codec.leaves}
        same = kinds.get(("achieved_goal",)) == kinds.get(("desired_goal",))
        if not same or kinds.get(("desired_goal",), ("", 0))[0] != "real":
            return None
        made = cls(clips, codec)
        goals, lengths = clips.proprioception[:, made.desired], np.diff(clips.episode_offset)
        return made if (goals == np.repeat(made.pools[0], lengths, axis=0)).all() else None

    def other_goals(self, numbers: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Numbers [B, T, P], `SHARE` of the B with another desired goal, and which of them, bool [B]."""
        count = len(numbers)
        drawn = [pool[rng.integers(0, len(pool), count)] for pool in self.pools]
        off = self.step * rng.uniform(0, NEAR, (count, 1)) * rng.standard_normal((count, len(self.step)))
        drawn.append(numbers[:, -1, self.achieved].numpy() + off)
        goals = torch.from_numpy(np.choose(rng.integers(0, 3, (count, 1)), drawn).astype(np.float32))
        changed = torch.from_numpy(rng.random(count) < SHARE)
        made = numbers.clone()
        made[changed, :, self.desired] = goals[changed, None]
        return made, changed

    def outcome(self, after: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What steps to numbers [B, P] pay, and whether they succeed and end the task, float32 [B] each.

        The last two are read off the reward, where the recordings say one with the other; else they are NaN.
        """
        assert self.source is not None
        seen = self.codec.batch(after.numpy())
        infos = np.array([{} for _ in after])
        paid = np.asarray(self.source.compute_reward(seen["achieved_goal"], seen["desired_goal"], infos), np.float32)
        flags = [np.array([table.get(float(value), np.nan) for value in paid], np.float32) for table in self.flags]
        return torch.from_numpy(paid), torch.from_numpy(flags[0]), torch.from_numpy(flags[1])


def _by_reward(paid: np.ndarray, flag: np.ndarray) -> dict[float, float]:
    """The flag of each value of a reward [n] that always goes with the same; empty where it has more than `FEW`."""
    values = np.unique(paid)
    if len(values) > FEW:
        return {}
    seen = {float(value): np.unique(flag[paid == value]) for value in values}
    return {value: float(flags[0]) for value, flags in seen.items() if len(flags) == 1}
