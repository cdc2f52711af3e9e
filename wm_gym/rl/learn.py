"""How does one command learn an environment? Record, train a world, train an agent in it, check it, and again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from wm_gym.collect.record import record
from wm_gym.collect.source import import_env, make_env
from wm_gym.common.files import check_same, write_json
from wm_gym.common.options import with_changes
from wm_gym.common.reading import read_mapping
from wm_gym.data import LeRobotReader
from wm_gym.data.observed import observation_codec
from wm_gym.engine.shared import load_world
from wm_gym.novelty import NOVELTY
from wm_gym.policies.agent import Agent
from wm_gym.policies.config import CONFIG_FILE
from wm_gym.policies.loaders import load_agent
from wm_gym.policies.matched import evaluate_matched
from wm_gym.policies.recipe import entry_of_source
from wm_gym.policies.rollouts import imagined_return
from wm_gym.rl.learn_page import write_learn_page
from wm_gym.rl.options import LearnOptions
from wm_gym.rl.train import train_agent
from wm_gym.training import train
from wm_gym.training.presets import sizes_of

NOTES_FILE, PAGE_FILE, ASKED_FILE = "learn.json", "learn.html", "asked.json"
FIRST_SHARE = 0.4
"""Of the environment steps that are random; the rounds after share what is left."""
IMAGINED = 100
"""Episodes in the newest world that say which of two agents is the better one."""


def learn(
    env_id: str, steps: int, out: str | Path, options: LearnOptions | None = None, **changes: Any
) -> dict[str, Any]:
    """Learn a world of an environment, and in it an agent for that environment.

    Round 1 records random actions, every later one the best agent so far; each trains a world on all recordings
    (OUT/world-r) and in that world alone an agent (OUT/agent-r) that goes on from the best one. The better of the two,
    in the newest world, is the best one then. As long as no recorded step was paid unlike the others
    and none ended the task, agents are trained to go where the recordings have not been (`wm_gym.novelty`). At last the
    best agent is measured in the environment. What is there already is kept, so the same call goes on after a kill.

    Args:
        env_id: The id of an environment whose observations are numbers, registered or `module:id`.
        steps: Environment steps that are recorded in all, at least; the measurement is not counted in.
        out: The folder to write.
        options: `LearnOptions`; None for the defaults.
        **changes: Some of its fields, e.g. seed=1.

    Returns:
        What OUT/learn.json holds, of which OUT/learn.html is a page: an entry a round, and the return of the best agent
        in the environment.

    Raises:
        ValueError: For an environment that this cannot learn, and where `out` was begun with other arguments.
    """
    options, out = with_changes(LearnOptions, options, changes), Path(out)
    import_env(env_id)
    algo, entry = _method(env_id, options)
    own = ("rounds", "timesteps", "imagined_steps", "seed", "env_kwargs", "preset", "size", "overrides")
    out.mkdir(parents=True, exist_ok=True)
    asked = {"env_id": env_id, "steps": steps, "algo": algo} | {name: getattr(options, name) for name in own}
    check_same(out / ASKED_FILE, asked, "repeat the old arguments to go on, or choose another --out")
    done = read_mapping(out / NOTES_FILE)["per_round"] if (out / NOTES_FILE).is_file() else []
    best = out
    for r in range(1, options.rounds + 1):
        if r > len(done):
            if done and not _in_time(done, options.minutes):
                break
            done.append(_round(r, env_id, (algo, entry), _share(r, steps, options.rounds), best, out, options))
            write_json(out / NOTES_FILE, {**asked, "per_round": done}, indent=1)
        best = out / done[r - 1]["agent"]
    world = out / f"world-{len(done)}"
    notes = {
        **asked,
        "per_round": done,
        "evaluations": options.evaluations,
        "best": str(best),
        "world_folder": str(world),
        "steps_used": sum(note["steps"] for note in done),
        "minutes": round(_seconds(done) / 60, 1),
        **_measured(load_agent(best), world, env_id, out, options),
    }
    write_json(out / NOTES_FILE, notes, indent=1)
    write_learn_page(out / PAGE_FILE, notes, load_world(world), [out / f"data-{r}" for r in range(1, len(done) + 1)])
    return notes


def _seconds(done: list[dict[str, Any]]) -> float:
    """What rounds took."""
    return sum(sum(note["seconds"].values()) for note in done)


def _in_time(done: list[dict[str, Any]], minutes: float | None) -> bool:
    """Whether another round that takes as long as the last one would end in time."""
    return minutes is None or _seconds(done) + _seconds(done[-1:]) <= 60 * minutes


def _method(env_id: str, options: LearnOptions) -> tuple[str, str]:
    """The algorithm, SAC for boxes of actions and PPO for others, and the entry of its recipe.

    Raises:
        ValueError: Where no world can be learned without pictures.
    """
    env = make_env(env_id, options.env_kwargs, pictures=False)
    try:
        codec = observation_codec(env)
        if codec is None or codec.layout is not None or not codec.size:
            raise ValueError(
                f"the observation of {env_id} is {env.observation_space}; learn takes numbers without pictures so far: "
                "record and train it with wm-gym record and wm-gym train"
            )
        algo = options.algo or ("sac" if isinstance(env.action_space, gym.spaces.Box) else "ppo")
        return algo, entry_of_source(algo, env)
    finally:
        env.close()


def _share(r: int, steps: int, rounds: int) -> int:
    """The environment steps that a round records."""
    first = steps if rounds == 1 else round(steps * FIRST_SHARE)
    return first if r == 1 else -(-(steps - first) // (rounds - 1))


def _round(
    r: int, env_id: str, method: tuple[str, str], steps: int, before: Path, out: Path, options: LearnOptions
) -> dict[str, Any]:
    """Record, train a world, train an agent that goes on from the one before; returns what learn.json says of it."""
    began = time.monotonic()
    data, world, agent = (out / f"{what}-{r}" for what in ("data", "world", "agent"))
    policy = "random" if r == 1 else f"agent:{before}"
    shared: dict[str, Any] = {"seed": options.seed * 1000 + r, "progress": options.progress}
    shown: dict[str, Any] = {"pictures": sizes_of(options.preset, options.overrides).draws, "size": options.size}
    record(env_id, policy=policy, out=data, steps=steps, workers=0, env_kwargs=options.env_kwargs, **shown, **shared)
    datasets, recorded = [out / f"data-{i}" for i in range(1, r + 1)], time.monotonic()
    if not (world / "spec.yaml").is_file() or world.with_name(world.name + ".training").exists():
        train(datasets, world, preset=options.preset, overrides=options.overrides, name=world.name, **shared)
    trained = time.monotonic()
    explores, goes_on = not _says_task(datasets), r > 1 and _says_task(datasets[:-1])
    if not (agent / CONFIG_FILE).is_file():
        horizon = min(options.imagined_steps, load_world(world).spec.horizon)
        train_agent(
            method[0],
            "wm_gym/World-v0",
            agent,
            timesteps=options.timesteps,
            resume=True,
            init=before if goes_on else None,
            env_kwargs={
                "world": str(world),
                "starts": "any",
                "max_episode_steps": horizon,
                **({"reward": NOVELTY} if explores else {}),
            },
            recipe_id=method[1],
            device="cpu",
            **shared,
        )
    imagined = {one.name: _imagined(one, world) for one in ([before] if goes_on else []) + [agent]}
    spent = {"record": recorded - began, "world": trained - recorded, "agent": time.monotonic() - trained}
    reader = LeRobotReader(data)
    return {
        "round": r,
        "steps": int(reader.offset[-1]) - len(reader),
        "return_recorded": _return(reader),
        "explores": explores,
        "return_imagined": imagined,
        "agent": max(imagined, key=lambda name: imagined[name]),
        "seconds": {what: round(value, 1) for what, value in spent.items()},
    }


def _imagined(agent: Path, world: Path) -> float:
    return round(imagined_return(load_agent(agent), load_world(world), IMAGINED), 4)


def _says_task(datasets: list[Path]) -> bool:
    """Whether some recorded step is paid unlike the others, succeeds, or ends the task."""
    seen = set[tuple[float, ...]]()
    for dataset in datasets:
        reader = LeRobotReader(dataset)
        keys = [key for key in ("next.reward", "next.terminated", "next.success") if key in reader.features]
        stepped = np.ones(int(reader.offset[-1]), bool)
        stepped[reader.offset[1:] - 1] = False
        columns = np.hstack([np.reshape(values, (len(stepped), -1)) for values in reader.columns(keys).values()])
        seen |= {tuple(row) for row in np.unique(columns[stepped].astype(np.float64), axis=0)[:2].tolist()}
    return len(seen) > 1


def _return(reader: LeRobotReader) -> float:
    """The mean return of the recorded episodes."""
    rewards = reader.columns(["next.reward"])["next.reward"].ravel()
    return round(float(rewards.sum() / len(reader)), 4)


def _measured(agent: Agent, world: Path, env_id: str, out: Path, options: LearnOptions) -> dict[str, Any]:
    """The agent's return in the environment and in its world, from the same starts."""
    beside = out / f"measured-{world.name}.json"  # with more --minutes there may be another world, and agent, later
    if not beside.is_file():
        quiet: dict[str, Any] = {"baselines": (), "workers": 0, "progress": options.progress}
        quiet["env_kwargs"] = options.env_kwargs
        found = evaluate_matched(agent, world, env_id, options.evaluations, options.seed + 10_000, **quiet)
        sides = {"environment": _side(found, "physics"), "world": _side(found, "world")}
        write_json(beside, sides | {"world_minus_environment": found["returns"]["world_minus_physics"]})
    found = read_mapping(beside)
    return {key: found[key] for key in ("environment", "world", "world_minus_environment")}


def _side(found: dict[str, Any], side: str) -> dict[str, float]:
    """The returns of one side of a matched evaluation."""
    returns = found["per_episode"][f"{side}_reward"]
    steps = found[f"{side}_steps"]["mean"]
    return {"mean": float(np.mean(returns)), "std": float(np.std(returns)), "steps": steps}
