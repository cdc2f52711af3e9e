"""How do agent and world get better together? Train in the world, record in the twin what the agent does, finetune."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wm_gym.collect.record import record
from wm_gym.common.files import check_same, digest, write_json
from wm_gym.common.reading import read_mapping
from wm_gym.common.registry import find_spec
from wm_gym.data import LeRobotReader
from wm_gym.engine.shared import load_world
from wm_gym.policies.card import RESULTS_FILE
from wm_gym.policies.loaders import load_agent
from wm_gym.policies.matched import evaluate_matched, save_results
from wm_gym.policies.recipe import gentler, load_recipe
from wm_gym.registration import physics_twin
from wm_gym.rl.report import improvement_plot
from wm_gym.rl.train import train_agent
from wm_gym.training import train
from wm_gym.worlds.world import digest_of_world

ASKED_FILE, NOTES_FILE, PLOT_FILE = "asked.json", "improve.json", "improve.png"


def improve(
    world: str | Path,
    datasets: list[str | Path],
    out: str | Path,
    rounds: int = 2,
    *,
    twin_id: str | None = None,
    algo: str = "ppo",
    timesteps: int | None = None,
    more_timesteps: int | None = None,
    episodes: int = 200,
    evaluations: int = 100,
    seed: int = 0,
    recipe_file: str | Path | None = None,
    preset: str = "finetune",
    overrides: dict | None = None,
    progress: bool = True,
) -> Path:
    """Improve a world and an agent in turns; returns the folder `out`.

    Round r trains an agent inside the world (OUT/agent-r; the first for `timesteps`, each later one for
    `more_timesteps` from the one before, at a fifth of the learning rate), measures it in world and twin from
    `evaluations` matched starts, records `episodes` episodes of it in the twin (OUT/data-r) and finetunes the world on
    `datasets` and all recordings of the rounds (OUT/world-r+1); the last round ends with its measurement.
    OUT/improve.json counts the physics steps of recordings and of the recipe's physics checks, OUT/improve.png plots
    success in world and physics against them. What is there already is kept, so the same call goes on after a kill.
    Raises ValueError where the world names no twin, and where `out` was begun with other arguments, all but `rounds`.
    """
    out, spec = Path(out), load_world(world).spec
    name, twin_id = spec.name, twin_id or physics_twin(spec)
    if not twin_id:
        raise ValueError(f"the world {name!r} names no physics twin; pass --twin ID")
    horizon = find_spec(twin_id).max_episode_steps
    spent = sum(int(reader.offset[-1]) - len(reader) for reader in map(LeRobotReader, datasets))
    notes: list[dict[str, Any]] = []
    out.mkdir(parents=True, exist_ok=True)
    check_same(
        out / ASKED_FILE,
        {
            "world": str(world),
            "world_weights": digest_of_world(world),
            "datasets": [str(one) for one in datasets],
            "twin": twin_id,
            "algo": algo,
            "timesteps": timesteps,
            "more_timesteps": more_timesteps,
            "episodes": episodes,
            "evaluations": evaluations,
            "seed": seed,
            "recipe": digest([Path(recipe_file)]) if recipe_file else "",
            "preset": preset,
            "overrides": overrides,
        },
        "repeat the old arguments to go on, or choose another --out",
    )
    for r in range(1, rounds + 1):
        agent = out / f"agent-{r}"
        if not (agent / "config.yml").is_file():
            recipe, steps, before = {}, timesteps, None
            if r > 1:
                recipe = gentler(load_recipe(algo, f"wm_gym/{name}", recipe_file))
                steps, before = more_timesteps or timesteps, out / f"agent-{r - 1}"
            train_agent(
                algo,
                "wm_gym/World-v0",
                agent,
                steps,
                seed + r,
                resume=True,
                init=before,
                progress=progress,
                env_kwargs={"world": str(world)},
                recipe=recipe,
                recipe_file=recipe_file,
                recipe_id=f"wm_gym/{name}",
            )
        spent += load_agent(agent).config["physics_check_steps"]
        if not (agent / RESULTS_FILE).is_file():
            save_results(
                agent, evaluate_matched(agent, world, twin_id, evaluations, seed, baselines=(), progress=progress)
            )
        results = read_mapping(agent / RESULTS_FILE, finite=False)
        notes.append(
            {
                "round": r,
                "world_folder": str(world),
                "agent_folder": str(agent),
                "physics_steps": spent,
                **{key: results[key] for key in ("world", "physics", "world_minus_physics", "optimism")},
            }
        )
        write_json(out / NOTES_FILE, notes, indent=1)
        improvement_plot(notes, out / PLOT_FILE)
        if r == rounds:
            break
        data, better = out / f"data-{r}", out / f"world-{r + 1}"
        record(twin_id, episodes, policy=f"agent:{agent}", out=data, seed=seed + 1000 * r, progress=progress)
        spent += episodes * horizon
        if not (better / "spec.yaml").is_file() or better.with_name(better.name + ".training").exists():
            train(
                [*datasets, *(out / f"data-{i}" for i in range(1, r + 1))],
                better,
                preset=preset,
                seed=seed + r,
                overrides=overrides,
                name=name,
                init=world,
                size=tuple(spec.frame_size),
                progress=progress,
            )
        world = better
    return out
