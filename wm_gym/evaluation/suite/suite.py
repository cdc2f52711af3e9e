"""How far can this world be trusted? Every measurement of a world beside its environment, a result a file.

    wm-gym evaluate WORLD --twin ENV_ID

The twin is any Gymnasium environment with the world's spaces. A simulator that gives its physics state away
(`get_physics_state`, `reset(options={"physics_state"})`) and says what object its task moves (`tracked`, see
`wm_gym.physics.tracked`) is asked for more. What a twin lacks leaves the tasks that need it undefined, with the reason.
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from wm_gym.common.files import atomic_file, check_same, write_json
from wm_gym.common.options import with_changes
from wm_gym.common.records import Blank, Undefined, from_json
from wm_gym.common.registry import find_spec, registered
from wm_gym.evaluation.jobs import Job, run_jobs
from wm_gym.evaluation.kept import read_kept, renamed, upgraded
from wm_gym.evaluation.suite.context import Context
from wm_gym.evaluation.suite.options import EvaluateOptions, Size
from wm_gym.evaluation.suite.setting import Setting
from wm_gym.evaluation.suite.tasks import TASKS, ViolationsResult, WorstEvent
from wm_gym.physics.tracked import displacement
from wm_gym.policies.loaders import load_agent
from wm_gym.worlds.catalogue import find_world
from wm_gym.worlds.spec import SPEC_FILE, WorldSpec

ASKED_FILE, SETTING_FILE, FILMS_FILE = "asked.json", "setting.json", "films.npz"
FILMS, FILMED = "films", 8  # no task, but asked for like one; so many episodes


def evaluate(world: str | Path, options: EvaluateOptions | None = None, **changes: Any) -> Path:
    """Measure all `TASKS` of a world (or `only` some) and keep each result in `out`/<task>.json.

    What has been measured is not measured again.

    Args:
        world: A world's folder, its Hub id, or the name of a shipped one.
        options: `EvaluateOptions`.
        **changes: Fields of `EvaluateOptions` by name.

    Returns:
        The folder of the results.

    Raises:
        ValueError: For an unknown task, a world that names no environment, and an `out` that was begun with another
            twin, other weights, sizes or seeds.
    """
    chosen = with_changes(EvaluateOptions, options, changes)
    folder = find_world(world).resolve()
    tasks, context = _chosen_tasks(chosen), _context(folder, chosen)
    _check_begun(context)
    write_json(context.out / SETTING_FILE, asdict(setting(context)), indent=1)
    measured = [task for task in tasks if task != FILMS]
    for task in measured:
        with contextlib.suppress(Undefined):  # the task will say so
            prepare(context, task)
    run_jobs([_job(context, task) for task in measured], chosen.workers, chosen.ray, chosen.progress)
    if FILMS in tasks:
        with contextlib.suppress(Undefined):  # as the other tasks say
            write_films(context)
    return context.out


def _chosen_tasks(options: EvaluateOptions) -> list[str]:
    """Names of the tasks to measure, FILMS among them."""
    known = [*TASKS, FILMS]
    if options.only is None:
        return [task for task in known if options.agent or task != "agent_drift"]
    if unknown := sorted(set(options.only) - set(known)):
        raise ValueError(f"tasks {unknown} are unknown; choose of {known}")
    if "agent_drift" in options.only and not options.agent:
        raise ValueError("agent_drift is the drift under an agent's actions: pass its folder (--agent AGENT)")
    return list(options.only)


def _context(folder: Path, options: EvaluateOptions) -> Context:
    """The evaluation context of a world's folder."""
    spec = WorldSpec.load(folder)
    if twin := options.twin:
        find_spec(twin)
    elif twin := spec.twin:
        registered(twin, f"{folder / SPEC_FILE}: twin")
    else:
        raise ValueError(f"{folder} names no environment; pass the id of one with its spaces (--twin ENV_ID)")
    out = Path(options.out or f"{Path(spec.name).name}-evaluation").resolve()  # here, whatever the file calls the world
    agent = load_agent(options.agent).folder if options.agent else None
    return Context(folder, twin, out, options.size, options.seed, str(agent.resolve()) if agent else "")


def _check_begun(context: Context) -> None:
    """Write down what is measured; ValueError where the folder was begun with something else."""
    calibration = context.world.calibration
    check_same(
        context.out / ASKED_FILE,
        {
            "twin": context.twin,
            "size": asdict(context.size),
            "seed": context.seed,
            "weights": context.weights,
            "success_threshold": context.world.spec.success_threshold,
            "calibration": calibration and asdict(calibration),
        },
        f"choose another --out, or start over: rm -r {context.out}",
        renamed=renamed,
    )


def _job(context: Context, task: str) -> Job:
    """The job that measures a task."""
    return Job(
        context.out / f"{task}.json",
        f"{__name__}:{measure.__name__}",
        {
            **asdict(context),
            "folder": str(context.folder),
            "out": str(context.out),
            "agent": context.agent if task == "agent_drift" else "",
            "task": task,
            "weights": context.weights,
        },
    )


def measure(
    folder: str, twin: str, out: str, size: dict[str, int], seed: int, agent: str, task: str, weights: dict[str, str]
) -> dict[str, Any]:
    """One task's result as JSON can write it; {"undefined": why} where the twin lacks what it needs.

    Args:
        weights: Say which world was meant.

    Raises:
        ValueError: Where the world's folder holds other weights.
    """
    context = Context(Path(folder), twin, Path(out), Size(**size), seed, agent)
    if weights != context.weights:
        raise ValueError(f"{folder} holds other weights than were asked about: {context.weights}, not {weights}")
    try:
        prepare(context, task)
        return asdict(TASKS[task].measure(context))
    except Undefined as reason:
        return asdict(Blank(str(reason)))


def prepare(context: Context, task: str) -> None:
    """Make what a task needs of a context, so that tasks measured at once find it there."""
    for need in TASKS[task].needs:
        getattr(context, need)


def setting(context: Context) -> Setting:
    """What the results are about."""
    spec = context.world.spec
    return Setting(
        world=spec.name,
        world_folder=str(context.folder),
        twin=context.twin,
        episodes=context.size.episodes,
        fps=spec.fps,
        horizon=spec.horizon,
        seed=context.seed,
        trained_on=spec.trained_on,
        calibration=context.world.calibration,
    )


def write_films(context: Context) -> None:
    """What a report shows, `films.npz`: "world" and "physics" uint8 [E, n+1, H, W, 3], "uncertainty" float16.

    Of the episodes in which the object moves most; with "worst_frames" uint8 [k, 2, H, W, 3], world and physics of
    `violations.json`'s worst events, where it is there.
    """
    some = context.held.select(np.arange(min(FILMED, len(context.held))))
    with contextlib.suppress(Undefined):  # nothing is tracked
        moved = displacement(context.held, context.tracked)[:, -1]
        some = context.held.select(np.sort(np.argsort(-moved, kind="stable")[:FILMED]))
    made, start = context.acting(some), some.frames[:, :1]
    films = {
        "world": np.concatenate([start, made["frame"]], axis=1),
        "physics": some.frames,
        "uncertainty": made["uncertainty"].astype(np.float16),
    }
    if worst := _worst_events(context.out / "violations.json"):
        asked = context.violation_episodes
        imagined, real = context.acting(asked)["frame"], asked.frames
        films["worst_frames"] = np.stack(
            [(imagined[event.episode, event.step - 1], real[event.episode, event.step]) for event in worst]
        )
    with atomic_file(context.out / FILMS_FILE) as beside:
        np.savez_compressed(beside, **films)  # type: ignore[arg-type]  # no film is called allow_pickle


def _worst_events(path: Path) -> list[WorstEvent]:
    """Of a kept result of the violations; none where there is none."""
    value = upgraded("violations", read_kept(path)["result"]) if path.is_file() else {"undefined": "not measured"}
    found = from_json(ViolationsResult | Blank, value, str(path))
    return [] if isinstance(found, Blank) else found.worst
