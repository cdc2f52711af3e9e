"""How far can this world be believed? Every measurement of a world beside its physics twin, an answer a file.

    wm-gym evaluate WORLD --twin ENV_ID

A twin is any Gymnasium environment with the world's spaces that gives `info["proprioception"]` and its physics state
away (`get_physics_state`, `reset(options={"physics_state"})`), and says what object its task moves (`tracked`, see
`wm_gym.physics.tracked`). What it lacks leaves the questions that need it undefined, with the reason.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from wm_gym.common.files import atomic_file, check_same, write_json
from wm_gym.common.registry import find_spec, registered
from wm_gym.evaluation.jobs import Job, run_jobs
from wm_gym.evaluation.suite.context import Lab, Size
from wm_gym.evaluation.suite.tasks import NEEDS, QUESTIONS
from wm_gym.physics.tracked import Lacking, displacement
from wm_gym.policies.loaders import load_agent
from wm_gym.worlds.catalogue import find_world
from wm_gym.worlds.spec import SPEC_FILE, WorldSpec

ASKED_FILE, SETTING_FILE, FILMS_FILE = "asked.json", "setting.json", "films.npz"
FILMS, FILMED = "films", 8  # not a question, but asked for like one; so many episodes


def evaluate(
    world: str | Path,
    twin: str | None = None,
    out: str | Path | None = None,
    only: Sequence[str] | None = None,
    agent: str | Path | None = None,
    size: Size = Size(),
    seed: int = 0,
    workers: int | None = None,
    ray: str | None = None,
    progress: bool = True,
) -> Path:
    """Ask a world all `QUESTIONS` (or `only` some) and keep each answer in `out`/<question>.json; returns `out`.

    twin: id of its physics twin (default: the one that the world names). out: a folder, by default
    `<world's name>-evaluation` here. agent: a policy's folder, under whose actions the drift is measured too
    ("agent_drift"). workers: questions asked at once (default: one a core). ray: on this cluster instead (`run_jobs`),
    where the world must lie under the same path. What is answered is not asked again. ValueError for an unknown
    question, a world without a twin, and an `out` that was begun with another twin, other weights, sizes or seeds.
    """
    folder = find_world(world).resolve()
    spec = WorldSpec.load(folder)
    known = [*QUESTIONS, FILMS]
    asked = [name for name in known if agent or name != "agent_drift"] if only is None else list(only)
    if unknown := sorted(set(asked) - set(known)):
        raise ValueError(f"questions {unknown} are unknown; choose of {known}")
    if "agent_drift" in asked and not agent:
        raise ValueError("agent_drift is the drift under an agent's actions: pass its folder (--agent AGENT)")
    if twin:
        find_spec(twin)
    elif twin := spec.twin:
        registered(twin, f"{folder / SPEC_FILE}: twin")
    else:
        raise ValueError(f"{folder} names no twin; pass the id of an environment with its spaces (--twin ENV_ID)")
    out = Path(out or f"{Path(spec.name).name}-evaluation").resolve()  # here, whatever the file calls the world
    lab = Lab(folder, twin, out, size, seed, str(load_agent(agent).folder.resolve()) if agent else "")
    promised = lab.world.calibration
    check_same(
        out / ASKED_FILE,
        {
            "twin": twin,
            "size": asdict(size),
            "seed": seed,
            "weights": lab.weights,
            "success_threshold": spec.success_threshold,
            "calibration": promised and asdict(promised),
        },
        f"choose another --out, or start over: rm -r {out}",
    )
    write_json(out / SETTING_FILE, setting(lab), indent=1)
    for name in asked:
        with contextlib.suppress(Lacking):  # the question will say so
            prepare(lab, name)
    about = {"folder": str(folder), "twin": twin, "out": str(out), "size": asdict(size), "seed": seed}
    jobs = [
        Job(
            out / f"{name}.json",
            f"{__name__}:{answer.__name__}",
            {**about, "agent": lab.agent if name == "agent_drift" else "", "question": name, "weights": lab.weights},
        )
        for name in asked
        if name != FILMS
    ]
    run_jobs(jobs, workers, ray, progress)
    if FILMS in asked:
        write_films(lab)
    return out


def answer(
    folder: str,
    twin: str,
    out: str,
    size: dict[str, int],
    seed: int,
    agent: str,
    question: str,
    weights: dict[str, str],
) -> dict[str, Any]:
    """One question's answer; {"undefined": why} where the twin lacks what it needs.

    weights say which world was meant; ValueError where its folder holds others.
    """
    lab = Lab(Path(folder), twin, Path(out), Size(**size), seed, agent)
    if weights != lab.weights:
        raise ValueError(f"{folder} holds other weights than were asked about: {lab.weights}, not {weights}")
    try:
        prepare(lab, question)
        return QUESTIONS[question](lab)
    except Lacking as error:
        return {"undefined": str(error)}


def prepare(lab: Lab, question: str) -> None:
    """Make what a question needs of a lab, so that questions asked at once find it there."""
    for need in NEEDS.get(question, ()):
        getattr(lab, need)


def setting(lab: Lab) -> dict[str, Any]:
    """What the answers are about."""
    spec, promised = lab.world.spec, lab.world.calibration
    return {
        "world": spec.name,
        "world_folder": str(lab.folder),
        "twin": lab.twin,
        "episodes": lab.size.episodes,
        "fps": spec.fps,
        "horizon": spec.horizon,
        "seed": lab.seed,
        "trained_on": spec.trained_on,
        "calibration": asdict(promised) if promised else None,
    }


def write_films(lab: Lab) -> None:
    """What a report shows, `films.npz`: "world" and "physics" uint8 [E, n+1, H, W, 3], "uncertainty" float16.

    Of the episodes in which the object moves most; with "worst_frames" uint8 [k, 2, H, W, 3], world and physics of
    `violations.json`'s worst events, where it is there.
    """
    some = lab.held.select(np.arange(min(FILMED, len(lab.held))))
    with contextlib.suppress(ValueError):  # nothing is tracked
        moved = displacement(lab.held, lab.tracked)[:, -1]
        some = lab.held.select(np.sort(np.argsort(-moved, kind="stable")[:FILMED]))
    made, start = lab.acting(some), some.frames[:, :1]
    films = {
        "world": np.concatenate([start, made["frame"]], axis=1),
        "physics": some.frames,
        "uncertainty": made["uncertainty"].astype(np.float16),
    }
    if (path := lab.out / "violations.json").is_file() and (worst := json.loads(path.read_text())["result"]["worst"]):
        asked = lab.asked_of_violations
        imagined, real = lab.acting(asked)["frame"], asked.frames
        films["worst_frames"] = np.stack(
            [(imagined[event["episode"], event["step"] - 1], real[event["episode"], event["step"]]) for event in worst]
        )
    with atomic_file(lab.out / FILMS_FILE) as beside:
        np.savez_compressed(beside, **films)
