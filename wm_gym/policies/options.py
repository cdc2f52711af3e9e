"""Which options do cloning, planning and matched evaluation take? One frozen dataclass each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from wm_gym.common.options import Count, File, Json

if TYPE_CHECKING:
    from wm_gym.worlds.world import World

BASELINES = ("random", "no-op")
"""Policies that look at nothing: uniform in the action space, and zeros."""


@dataclass(frozen=True)
class CloneOptions:
    """How a policy is cloned from recordings (`clone_agent`)."""

    env_kwargs: Json | None = None
    'Keyword arguments for the environment, e.g. \'{"world": "my-world"}\'.'
    episodes: Count | None = None
    "Only the first so many (default: all; every tenth is held out)."
    updates: Count = 3000
    "Updates of the policy's weights."
    seed: int = 0
    "Draws the first weights and the batches."
    recipe_file: File | None = None
    "YAML whose ppo policy it is (default: wm_gym/policies/recipes/ppo.yml)."
    views: World | Annotated[str | Path, "WORLD"] | None = None
    "Show half of the frames as this world draws them, for a policy that it will judge."
    device: str = "auto"
    "Where the policy learns: auto, cpu or cuda."
    overwrite: bool = False
    "Replace an agent that is there."
    batch: Count = 128
    "Frames an update."
    learning_rate: float = 1e-3
    "The largest of the one-cycle schedule."
    progress: bool = True
    "Show a progress bar."


@dataclass(frozen=True)
class PlannerOptions:
    """How a planner uses what it searches (`WorldPlanner`); its config.yml holds these by name.

    One evaluation of the dynamics a step gives the mean of what may come, which is enough to compare actions.
    """

    uncertainty_penalty: Annotated[float, "L"] = 0.0
    "Taken off the reward per unit of the world's uncertainty."
    replan_every: Count = 3
    "Steps that are taken before the next search."
    sampling_steps: Count | None = 1
    "Evaluations of the dynamics a step that is looked ahead; in Python None for as many as the world takes."
    seed: int = 0
    "Actions follow from the frames and this seed alone."


@dataclass(frozen=True)
class MatchedOptions:
    """How a policy is measured in a world and in the environment it was learned from (`evaluate_matched`)."""

    deterministic: bool = True
    "Take the policy's most likely action instead of drawing one."
    baselines: tuple[str, ...] = BASELINES
    "Policies of BASELINES to measure in the environment from the same starts."
    baseline_episodes: Count | None = None
    "Episodes of each baseline (default: as many as of the policy)."
    workers: int | None = None
    "Processes for the environment; 0 for this one (default: one a core, 8 at most)."
    env_kwargs: Json | None = None
    "Keyword arguments for the environment."
    progress: bool = True
    "Show a progress bar."
