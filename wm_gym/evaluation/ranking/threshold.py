"""From which probability on does a world say success as often as physics does? Its judge, calibrated on policies."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wm_gym.common.statistics import matched_table
from wm_gym.evaluation.jobs import run_jobs
from wm_gym.evaluation.ranking.policies import measure, policy_job
from wm_gym.evaluation.trust.coverage import unbiased_threshold
from wm_gym.policies.loaders import load_agent
from wm_gym.worlds.world import World


def calibrate_judge(
    world: str | Path,
    agents: Sequence[str | Path],
    episodes: int = 400,
    seed: int = 0,
    workers: int | None = None,
    progress: bool = True,
    **options: Any,
) -> dict[str, Any]:
    """Set a world's success_threshold so that policies succeed as often in it as in its environment; writes spec.yaml.

    A policy that acts on an error of the world carries it on, so the threshold is found in closed loop: each agent
    from `episodes` matched starts in both. Policies that are judged by the world later must be others. What is measured
    is kept in `<world>.judging` until all is done, so the same call goes on after a kill.

    Args:
        world: A world's folder.
        agents: Folders.
        episodes: Matched starts an agent.
        seed: Of the starts.
        workers: Agents measured at once (default: one a core).
        progress: Show a bar.
        **options: Of `evaluate_matched`.

    Returns:
        {"threshold", "before", "policies", "episodes", and "was", "now": `matched_table`}.

    Raises:
        ValueError: Where none or all of the episodes are a success there, or success is not known in both.
    """
    folder, loaded = Path(world), [load_agent(agent) for agent in agents]
    spec, beside = World.from_pretrained(folder).spec, folder.with_name(folder.name + ".judging")
    jobs = [
        policy_job(agent, str(folder), beside, episodes, seed, options | {"terminate_on_success": False}, measure)
        for agent in loaded
    ]
    found = run_jobs(jobs, workers, None, progress)
    if unknown := [row for row in found if "table" not in row]:
        who = "the world" if "physics" in unknown[0] else unknown[0]["twin_id"]
        raise ValueError(
            f"{who} says no success, so there is no success_threshold to set; compare returns: wm-gym evaluate-policies"
        )
    rows = [row["per_episode"] for row in found]
    probability, physics = (
        np.concatenate([row[key] for row in rows]) for key in ("world_probability", "physics_success")
    )
    before, threshold = spec.success_threshold, unbiased_threshold(probability, physics.astype(bool))
    spec.success_threshold = threshold
    spec.save(folder)
    shutil.rmtree(beside)
    return {
        "threshold": threshold,
        "before": before,
        "policies": len(loaded),
        "episodes": episodes,
        "was": matched_table(probability > before, physics),
        "now": matched_table(probability > threshold, physics),
    }
