"""Which options does a training of a world take? Read by `train`, the command line and the docs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from wm_gym.common.options import FrameSize, Overrides


@dataclass(frozen=True)
class TrainOptions:
    """How a world is trained."""

    preset: str = "small"
    """Sizes of the networks and length of each stage: tiny (seconds, for tests), small (a CPU in an hour or two), base
    (a GPU), finetune (minutes, with init) or adapter (with base)."""
    seed: int = 0
    """The one seed of the whole training."""
    camera: Annotated[str, "KEY"] | None = None
    """Which camera, by its short or whole name, e.g. wrist_left (default: the first)."""
    size: FrameSize | None = None
    """Height and width that frames are resized to, on a command line as 64 or 96x160 (default: as they are)."""
    overrides: Overrides | None = None
    """Fields of the preset to change, e.g. dynamics_updates=2000."""
    name: str | None = None
    """What the world is called (default: the name of its folder)."""
    init: Annotated[str | Path, "WORLD"] | None = None
    """A trained world to go on from, with the preset finetune and more recordings.

    It keeps its networks' sizes and
    normalisation, and the weights of each stage with 0 updates. One that was trained on video alone learns to follow
    actions from then on."""
    overwrite: bool = False
    """Start anew where the world or its training is there."""
    progress: bool = True
    """Show progress bars and the numbers of early reports."""
    cpu: bool = False
    """Leave the GPUs alone."""
    filters: Sequence[Annotated[str | Path, "FILE.json"]] = ()
    """Filter lists that `wm-gym data curate` wrote, one for each dataset that has any."""
    action_free: bool = False
    """Train on the video alone, without actions and proprioception; a later training with init, on
    episodes that have some, adds them."""
    base: str | Path | None = None
    """A pretrained video pipeline, a folder or a Hub id, on which the world is an adapter, with preset adapter."""
    prompt: str = ""
    """The text that goes with every frame, for a base with a text encoder (Wan)."""
    skip_damaged: bool = False
    """Leave out episodes that cannot be read, with a warning that names them; without it they are an error."""
