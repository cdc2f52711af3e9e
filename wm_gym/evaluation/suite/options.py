"""What can be chosen about an evaluation? Stated once: for Python, the command line and the docs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Size:
    """How much is recorded and measured."""

    episodes: int = 200
    """Of the world's horizon."""
    long_episodes: int = 100
    """Of 30 s, for the drift."""
    guarantee_episodes: int = 1000
    """That the calibration's guarantees are held against: 1,000 tell 90 % from 87 %."""
    decoder_episodes: int = 400
    """That the state decoder learns from."""
    decoder_updates: int = 3000
    """Of the state decoder's training."""
    starts: int = 200
    """Of each shift."""


@dataclass(frozen=True)
class EvaluateOptions:
    """Options of `evaluate`."""

    twin: str | None = None
    """Id of the physics twin (default: the twin that the world names)."""
    out: str | Path | None = None
    """Folder of the results (default: NAME-evaluation; goes on there)."""
    only: Sequence[str] | None = None
    """Names of `TASKS`, such as fidelity or drift, and films (default: all, agent_drift with an agent)."""
    agent: str | Path | None = None
    """Folder of a policy, under whose actions the drift is measured too ("agent_drift")."""
    size: Size = Size()
    seed: int = 0
    workers: int | None = None
    """Tasks measured at once (default: one a core)."""
    ray: str | None = None
    """Address of a Ray cluster to measure on instead, where the world must lie under the same path."""
    progress: bool = True
    """Whether to show a bar."""
