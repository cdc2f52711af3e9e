"""Which options does a training of a world take? Read by `train`, the command line and the docs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class TrainOptions:
    """How a world is trained."""

    preset: str = "small"
    """Sizes of the networks and length of each stage: tiny (seconds, for tests), small (a CPU in an hour or two), base
    (a GPU), finetune (minutes, with init) or adapter (with base)."""
    seed: int = 0
    """The one seed of the whole training."""
    camera: str | None = None
    """Which camera, by its short or whole name, e.g. wrist_left; the first by default."""
    size: tuple[int, int] | None = None
    """(H, W) that frames are resized to; as they are stored by default."""
    overrides: Mapping[str, Any] | None = None
    """Fields of the preset to change, e.g. dynamics_updates=2000."""
    name: str | None = None
    """What the world is called; as its folder by default."""
    init: str | Path | None = None
    """A trained world to go on from, with preset finetune and more recordings. It keeps its networks' sizes and
    normalisation, and the weights of each stage with 0 updates. One that was trained on video alone learns to follow
    actions from then on."""
    overwrite: bool = False
    """Start anew where the world or its training is there."""
    progress: bool = True
    """Show progress bars and the numbers of early reports."""
    cpu: bool = False
    """Leave the GPUs alone."""
    filters: Sequence[str | Path] = ()
    """Filter lists that `wm-gym data curate` wrote, one for each dataset that has any."""
    action_free: bool = False
    """Leave out actions and proprioception, and train on the video alone."""
    base: str | Path | None = None
    """A pretrained video pipeline, a folder or a Hub id, on which the world is an adapter, with preset adapter."""
    prompt: str = ""
    """The text that the base's text encoder, where it has one, is given with every frame."""
    skip_damaged: bool = False
    """Leave out episodes that cannot be read, with a warning that names them."""
