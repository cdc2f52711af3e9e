"""Which options has a learned environment? They stand here once, for every way of making one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from wm_gym.common import accepted
from wm_gym.common.spaces import OBSERVATIONS

if TYPE_CHECKING:
    from wm_gym.judges import Judge

STARTS = ("first", "any")


@dataclass(frozen=True)
class EnvOptions:
    """The options of a learned environment.

    `gym.make`, `gym.make_vec`, `make_sb3_env`, `WorldEnv`, `WorldVectorEnv` and `WorldVecEnv` take each of them as a
    keyword argument, or some of them together as `options=EnvOptions(...)`. An unknown name is a TypeError that lists
    the known ones, a wrong value a ValueError.
    """

    observation: str = "auto"
    """What a policy sees: "source" (the spaces, of actions too, of the environment that the world was recorded in),
    "pixels" (uint8 [H, W, 3]), "pixels+state" ({"pixels", "agent_pos" float32 [P]}) or "latent"
    (float32 [C*h*w], which skips the decoder). "auto" is "source" where the world knows those spaces, else "pixels"."""
    backend: str = "auto"
    """What steps the world: "auto" or one of `wm_gym.engine.BACKENDS`."""
    device: str = "auto"
    """Where: "auto", "cpu" or a CUDA device."""
    precision: str = "auto"
    """Of the networks: "auto", "fp32", "bf16" or "fp16"."""
    max_episode_steps: int | None = None
    """Steps after which an episode is truncated: None for the world's horizon, -1 for never."""
    terminate: bool = True
    """The end of the task, as the world has learned it, ends the episode, success or another."""
    terminate_on_success: bool = True
    """Success does, where the world's source ends no tasks itself."""
    starts: str = "first"
    """Where episodes begin: "first" where recorded ones began, "any" also in their middle."""
    success_threshold: float | None = None
    """The success probability in [0, 1] above which a step counts as a success; None for the world's."""
    uncertainty_penalty: float = 0.0
    """Taken from the reward for each unit of uncertainty (MOPO, Yu et al. 2020, eq. 4); at least 0."""
    truncate_on_uncertainty: bool = False
    """Truncate an episode where the uncertainty passes the limit of the world's calibration, which it then needs."""
    reward: str | Judge | Sequence[str | Judge] = "learned"
    """The judge that pays and says success: "learned" (the world's heads; where its source computes the reward from
    goals, that function), "novelty" (states that the recordings do not hold, `wm_gym.novelty`), "goal:IMAGE", another
    of `wm_gym.judges.JUDGES`, a `Judge`, or a list of judges that must agree."""
    reward_kwargs: Mapping[str, Any] | None = None
    """The judge's own options."""

    def __post_init__(self) -> None:
        if self.observation not in OBSERVATIONS:
            raise ValueError(f"observation={self.observation!r} is unknown; choose one of {OBSERVATIONS}")
        if self.starts not in STARTS:
            raise ValueError(f"starts={self.starts!r} is unknown; choose 'first' or 'any'")
        threshold = self.success_threshold
        if threshold is not None and not 0 <= accepted.number("success_threshold", threshold) <= 1:
            raise ValueError(f"success_threshold is {threshold}, expected a probability in [0, 1]")
        if accepted.number("uncertainty_penalty", self.uncertainty_penalty) < 0:
            raise ValueError(f"uncertainty_penalty is {self.uncertainty_penalty}, expected a finite number >= 0")
