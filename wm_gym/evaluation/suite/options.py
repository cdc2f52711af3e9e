"""What can be chosen about an evaluation? Stated once: for Python, the command line and the docs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from wm_gym.common.options import Colour, Count


@dataclass(frozen=True)
class Size:
    """How much is recorded and measured."""

    episodes: Count = 200
    """Episodes of the world's horizon."""
    long_episodes: Count = 100
    """Episodes of 30 s, for the drift."""
    guarantee_episodes: Count = 1000
    """Episodes that the calibration's guarantees are tested on; 1,000 tell 90 % from 87 %."""
    decoder_episodes: Count = 400
    """Episodes that the state decoder learns from."""
    decoder_updates: Count = 3000
    """Updates of the state decoder's training."""
    starts: Count = 200
    """Starts of each shift."""


@dataclass(frozen=True)
class EvaluateOptions:
    """Options of `evaluate`."""

    twin: Annotated[str, "ENV_ID"] | None = None
    """Id of the environment, a physics twin or any other (default: the one that the world was recorded in)."""
    out: Annotated[str | Path, "DIR"] | None = None
    """Folder of the results (default: NAME-evaluation; goes on there)."""
    only: Annotated[Sequence[str], "TASK"] | None = None
    """Measure some tasks only, such as fidelity, drift or films; an unknown name is answered with the list (default:
    all, agent_drift with an agent)."""
    agent: Annotated[str | Path, "AGENT"] | None = None
    """A policy under whose actions the drift is measured too ("agent_drift")."""
    size: Size = Size()
    """How much is recorded and measured."""
    seed: int = 0
    """Draws the starts."""
    workers: Count | None = None
    """Tasks measured at once; the numbers do not depend on it (default: one a core)."""
    ray: Annotated[str, "ADDRESS"] | None = None
    """Measure on a Ray cluster: auto, ray://HOST:10001, or local (a cluster of `workers` CPUs here).

    The world must lie under the same path there."""
    progress: bool = True
    """Show a bar."""


@dataclass(frozen=True)
class ProbeOptions:
    """Options of `probe`."""

    direction: Literal["left", "right", "up", "down"] | None = None
    """Direction in the picture (default: the one that the prompt names)."""
    n: Count = 20
    """Videos, and as many of each control."""
    colour: Colour = (242, 191, 26)
    """Colour of the block (default: 242,191,26, the yellow of wm-gym's)."""
    frames: Count = 25
    """Frames of each video."""
    steps: Count = 25
    """Denoising evaluations."""
    device: str = "cpu"
    """Where the video model runs."""
    seed: int = 0
    """Seed of the first video."""
