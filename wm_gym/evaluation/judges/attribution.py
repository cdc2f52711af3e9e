"""When a world is wrong about success, is it its judge or its dynamics? Two judges, on true frames and on its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np

from wm_gym.common.statistics import Rate, matched_table, rate
from wm_gym.engine.base import Engine
from wm_gym.engine.rollout import roll_out
from wm_gym.evaluation.control_worlds import RollOut
from wm_gym.evaluation.episodes import Episodes
from wm_gym.physics.tracked import TrackedObject
from wm_gym.worlds.world import World


@dataclass(frozen=True)
class Judged:
    """How often a judge of success is wrong."""

    wrong: Rate
    optimism: Rate
    pessimism: Rate
    """As in `matched_table`."""


@dataclass(frozen=True)
class JudgeErrors:
    """Whose success is called right."""

    episodes: int
    physics: Rate
    """Of successes."""
    judgements: dict[str, Judged]
    """By "judge, frames"."""


def judge_errors(
    world: World,
    acting: RollOut,
    episodes: Episodes,
    twin: gym.Env,
    tracked: TrackedObject,
    decoder: Callable[[np.ndarray], np.ndarray],
    engine: Engine | None = None,
    seed: int = 0,
) -> JudgeErrors:
    """Whose success is called right under recorded actions, by the learned judge and by physics' own?

    The learned judge (the world's head) is asked about the world's roll-outs and about single steps from true frames,
    physics' judge about the states that `decoder` decodes from the world's frames and from true ones: its object is put
    where they show it (`reset(options={"physics_state"})`), one that is lost is no success. So "learned, true frames"
    is the judge's error alone, "physics, world's frames" that of the dynamics alone, "physics, true frames" the floor
    of the reading. An episode succeeds if any step does.
    """
    truth: np.ndarray = episodes.clips.success[episodes.rows[:, 1:]].any(1)
    made, threshold = acting(episodes), world.spec.success_threshold
    found, lost = tracked.followed(decoder, made["frame"], episodes)
    judgements: dict[str, np.ndarray] = {
        "learned, world's frames": np.any(made["success"] > threshold, 1),
        "learned, true frames": np.any(_one_step_success(world, episodes, engine, seed) > threshold, 1),
        "physics, world's frames": physics_judgements(twin, episodes, tracked, found[:, 1:], lost[:, 1:]),
        "physics, true frames": physics_judgements(
            twin, episodes, tracked, decoder(episodes.frames[:, 1:]), ~tracked.in_sight(episodes)[:, 1:]
        ),
    }
    tables = {name: matched_table(says, truth) for name, says in judgements.items()}
    return JudgeErrors(
        len(truth),
        rate(truth),
        {
            name: Judged(rate(says != truth), tables[name]["optimism"], tables[name]["pessimism"])
            for name, says in judgements.items()
        },
    )


def physics_judgements(
    twin: gym.Env, episodes: Episodes, tracked: TrackedObject, read: np.ndarray, gone: np.ndarray
) -> np.ndarray:
    """bool [E]: does the twin call any step a success with its object where `read` [E, n, D] puts it?

    gone bool [E, n]: where nothing is read.
    """
    env: Any = twin.unwrapped
    states = episodes.physics_state[:, 1:].copy()
    states[..., list(tracked.position)] = read[..., tracked.hand : tracked.read]
    return np.array(
        [
            any(env.reset(options={"physics_state": state})[1]["success"] for state in some[~away])
            for some, away in zip(states, gone)
        ]
    )


def _one_step_success(world: World, episodes: Episodes, engine: Engine | None, seed: int) -> np.ndarray:
    """The judge's probabilities [E, n] after single steps from true frames."""
    clips, context, success = episodes.clips, world.spec.context_frames, []
    for t in range(episodes.action.shape[1]):
        rows, action = episodes.rows[:, max(0, t + 1 - context) : t + 1], episodes.action[:, t : t + 1]
        made = roll_out(world, clips.frames[rows], action, clips.proprioception[rows], seed, engine)
        success.append(made["success"][:, 0])
    return np.stack(success, 1)
