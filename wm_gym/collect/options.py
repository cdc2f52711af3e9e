"""Which options do recording and imagining take? One frozen dataclass each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from wm_gym.common.options import Count, FrameSize, Json

if TYPE_CHECKING:
    from wm_gym.data.clips import ClipData
    from wm_gym.inverse.labeller import VideoLabeller
    from wm_gym.judges import Judge


@dataclass(frozen=True)
class RecordOptions:
    """How an environment is recorded (`record`)."""

    steps: Count | None = None
    """Environment steps that the folder is to hold at least, in place of a number of episodes."""
    seed: int = 0
    """Episode i depends only on (seed, i)."""
    workers: Count | None = None
    """Processes; the data do not depend on it (default: one a core).

    In Python 0 simulates in this process."""
    ray: Annotated[str, "ADDRESS"] | None = None
    """Simulate on a Ray cluster, with the same episodes: auto, ray://HOST:10001, or local (a cluster of `workers` CPUs
    here)."""
    noise: float = 0.3
    """How much the policy "noisy" perturbs the expert, 0 to 1, and how much a policy that draws no actions itself (a
    function, DQN) is perturbed in the half of its episodes that explore."""
    resume: bool = True
    """Go on with a recording that the folder holds."""
    env_kwargs: Json | None = None
    """Keyword arguments for gym.make, e.g. '{"size": 96}'."""
    size: FrameSize | None = None
    """Height and width that frames are resized to, on a command line as 64 or 96x160 (default: as they are)."""
    trust: bool = False
    """Load a Stable-Baselines3 zip, which runs the code of whoever wrote it."""
    pictures: bool = True
    """Record what is seen; without, the observation's numbers as bars, which takes no time to draw."""
    progress: bool = True
    """Show a bar."""
    shard_frames: int = 2000
    """Frames after which the writer begins new files."""


@dataclass(frozen=True)
class ImagineOptions:
    """How demonstrations are imagined, and which are kept (`imagine`)."""

    seed: int = 0
    """Draws the starts and random actions."""
    starts: ClipData | Annotated[str | Path, "DATASET"] | None = None
    """Recordings whose first frames are where episodes begin (default: the world's own starts)."""
    labeller: VideoLabeller | Annotated[str | Path, "IDM"] | None = None
    """Inverse dynamics (wm-gym idm train) that read the actions off the video and leave out episodes whose actions are
    unsure (default: the actions that the policy took)."""
    keep_failures: bool = False
    """Keep also what the judge calls no success."""
    certain: bool = False
    """Leave out episodes that are less certain than 9 of 10 of the world's calibration."""
    reward: Judge | Annotated[str, "JUDGE"] = "learned"
    """Who says success, e.g. learned or goal:IMAGE."""
    reward_kwargs: Json | None = None
    """Options of the judge."""
    progress: bool = True
    """Show a bar."""
