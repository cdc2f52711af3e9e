"""How do agent and world get better together? Train in the world, record what the agent does outside, finetune."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wm_gym.collect.record import record
from wm_gym.common.files import check_same, digest, write_json
from wm_gym.common.options import with_changes
from wm_gym.common.reading import read_mapping
from wm_gym.data import LeRobotReader
from wm_gym.engine.shared import load_world
from wm_gym.policies.card import RESULTS_FILE
from wm_gym.policies.config import CONFIG_FILE
from wm_gym.policies.loaders import load_agent
from wm_gym.policies.matched import evaluate_matched, save_results
from wm_gym.policies.recipe import gentler, load_recipe
from wm_gym.policies.source import source_of
from wm_gym.rl.options import ImproveOptions
from wm_gym.rl.report import improvement_plot
from wm_gym.rl.train import train_agent
from wm_gym.training import train
from wm_gym.worlds.spec import WorldSpec
from wm_gym.worlds.world import digest_of_world

ASKED_FILE, NOTES_FILE, PLOT_FILE = "asked.json", "improve.json", "improve.png"


def improve(
    world: str | Path,
    datasets: Sequence[str | Path],
    out: str | Path,
    options: ImproveOptions | None = None,
    **changes: Any,
) -> Path:
    """Improve a world and an agent in turns.

    Round r trains an agent inside the world (OUT/agent-r; the first for `timesteps`, each later one for
    `more_timesteps` from the one before, at a fifth of the learning rate), measures it from `evaluations` matched
    starts in the world and in the environment it was learned from (a physics twin, or any other), records `episodes`
    episodes of it there (OUT/data-r) and finetunes the world on `datasets` and all recordings of the rounds
    (OUT/world-r+1); the last round ends with its measurement. OUT/improve.json counts the environment's steps in
    recordings and in the recipe's physics checks ("physics_steps"), OUT/improve.png plots success in both against
    them, or the return where there is no success. What is there already is kept, so the same call goes on after a kill.

    Args:
        world: The folder of a world, or the name of a shipped one.
        datasets: What the world was trained on.
        out: The folder to write.
        options: `ImproveOptions`; None for the defaults.
        **changes: Some of its fields, e.g. rounds=3.

    Returns:
        The folder `out`.

    Raises:
        ValueError: Where the world names no environment, and where `out` was begun with other arguments but `rounds`.
    """
    options = with_changes(ImproveOptions, options, changes)
    out, spec = Path(out), load_world(world).spec
    twin_id, _ = source_of(spec, options.twin_id)
    preset = options.preset or ("finetune" if spec.draws else "state")
    spent = sum(map(_steps, datasets))
    notes: list[dict[str, Any]] = []
    out.mkdir(parents=True, exist_ok=True)
    asked = _asked(world, datasets, twin_id, options) | {"preset": preset}
    check_same(out / ASKED_FILE, asked, "repeat the old arguments to go on, or choose another --out")
    for r in range(1, options.rounds + 1):
        agent = _trained(r, world, spec.name, out, options)
        spent += load_agent(agent).config["physics_check_steps"]
        note = {"round": r, "world_folder": str(world), "agent_folder": str(agent), "physics_steps": spent}
        notes.append(note | _measured(world, agent, twin_id, options))
        write_json(out / NOTES_FILE, notes, indent=1)
        improvement_plot(notes, out / PLOT_FILE)
        if r < options.rounds:
            data, seed = out / f"data-{r}", options.seed + 1000 * r
            record(twin_id, options.episodes, policy=f"agent:{agent}", out=data, seed=seed, progress=options.progress)
            spent += _steps(data)
            recorded = [*datasets, *(out / f"data-{i}" for i in range(1, r + 1))]
            world = _finetuned(out / f"world-{r + 1}", world, spec, recorded, preset, options.seed + r, options)
    return out


def _steps(dataset: str | Path) -> int:
    """The environment's steps that a recording holds."""
    reader = LeRobotReader(dataset)
    return int(reader.offset[-1]) - len(reader)


def _asked(world: str | Path, datasets: Sequence[str | Path], twin_id: str, options: ImproveOptions) -> dict[str, Any]:
    """What a run that goes on is held against."""
    own = ("algo", "timesteps", "more_timesteps", "episodes", "evaluations", "seed", "overrides")
    return {
        "world": str(world),
        "world_weights": digest_of_world(world),
        "datasets": [str(one) for one in datasets],
        "twin": twin_id,
        "recipe": digest([Path(options.recipe_file)]) if options.recipe_file else "",
        **{name: getattr(options, name) for name in own},
    }


def _trained(r: int, world: str | Path, name: str, out: Path, options: ImproveOptions) -> Path:
    """The agent of a round, trained in its world where it is not there yet."""
    agent = out / f"agent-{r}"
    if (agent / CONFIG_FILE).is_file():
        return agent
    recipe: dict[str, Any] = {}
    steps, before = options.timesteps, None
    if r > 1:
        recipe = gentler(load_recipe(options.algo, f"wm_gym/{name}", options.recipe_file))
        steps, before = options.more_timesteps or options.timesteps, out / f"agent-{r - 1}"
    return train_agent(
        options.algo,
        "wm_gym/World-v0",
        agent,
        timesteps=steps,
        seed=options.seed + r,
        resume=True,
        init=before,
        progress=options.progress,
        env_kwargs={"world": str(world)},
        recipe=recipe,
        recipe_file=options.recipe_file,
        recipe_id=f"wm_gym/{name}",
    )


def _measured(world: str | Path, agent: Path, twin_id: str, options: ImproveOptions) -> dict[str, Any]:
    """What improve.json says of an agent in the world and outside, measured where it is not yet."""
    if not (agent / RESULTS_FILE).is_file():
        quiet: dict[str, Any] = {"baselines": (), "progress": options.progress}
        save_results(agent, evaluate_matched(agent, world, twin_id, options.evaluations, options.seed, **quiet))
    results = read_mapping(agent / RESULTS_FILE, finite=False)
    known = ("world", "physics", "world_minus_physics", "optimism", "returns")
    return {key: results[key] for key in known if key in results}


def _finetuned(
    out: Path,
    world: str | Path,
    spec: WorldSpec,
    datasets: list[str | Path],
    preset: str,
    seed: int,
    options: ImproveOptions,
) -> Path:
    """The world of the next round, finetuned where it is not there yet."""
    if not (out / "spec.yaml").is_file() or out.with_name(out.name + ".training").exists():
        train(
            datasets,
            out,
            preset=preset,
            seed=seed,
            overrides=options.overrides,
            name=spec.name,
            init=world,
            size=tuple(spec.frame_size),
            progress=options.progress,
        )
    return out
