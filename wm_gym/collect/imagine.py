"""How do synthetic demonstrations come about? A policy acts in a world; what succeeds becomes a recording."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from wm_gym.common import spaces
from wm_gym.core import WorldCore
from wm_gym.data import ClipData
from wm_gym.engine.shared import load_world
from wm_gym.inverse.labeller import LabelledWriter, Rejected, VideoLabeller, new_folder
from wm_gym.judges import Judge
from wm_gym.policies.agent import Agent
from wm_gym.policies.loaders import load_agent
from wm_gym.policies.rollouts import BASELINES, WORLD_BATCH, Actor, Start, observation_mode, start_seeds, world_options
from wm_gym.worlds.world import World

DIRECTIVE = "directive:"


@dataclass
class Dream:
    """One imagined episode of T-1 steps."""

    frames: np.ndarray
    """uint8 [T, H, W, 3], the start first."""
    taken: np.ndarray
    """float32 [T-1, A]: the actions that the policy gave the world."""
    success: np.ndarray
    """bool [T-1]: what the judge says of each step."""
    uncertainty: np.ndarray
    """float [T-1], of the world."""
    pose: np.ndarray
    """float32 [T, P]: proprioception as the world predicts it."""


class Directive:
    """A policy that does the same all the time: "directive:0.5,-1" are the numbers of one action."""

    def __init__(self, text: str, space):
        try:
            action = [float(part) for part in text.removeprefix(DIRECTIVE).split(",")]
        except ValueError:
            action = []
        if len(action) != space.shape[0]:
            raise ValueError(
                f"the policy {text!r} is no directive of this world; write {space.shape[0]} numbers, e.g. "
                f"{DIRECTIVE}{','.join(['0.5'] * space.shape[0])}"
            )
        self.action = spaces.check_action(action, space)

    def act(self, observation, active: np.ndarray | None = None) -> np.ndarray:
        return np.tile(
            self.action, (len(next(iter(observation.values())) if isinstance(observation, dict) else observation), 1)
        )


def dream(
    world: World | str | Path,
    policy: str | Path | Agent,
    episodes: int,
    seed: int = 0,
    starts: ClipData | None = None,
    progress: bool = True,
    **options: Any,
) -> Iterator[Dream]:
    """Imagine episodes, up to 100 at a time, each until the judge says success or the world's horizon.

    policy: an agent or planner (folder, or the name of a shipped one), "random", "no-op" or "directive:NUMBERS".
    starts: recordings whose first frames are taken in turn (default: the world's own starts, drawn by the seed).
    options: of `WorldCore`, such as reward. ValueError for a policy that is none, or is of another action space.
    """
    world = load_world(world)
    if not isinstance(policy, Agent) and str(policy) not in BASELINES and not str(policy).startswith(DIRECTIVE):
        policy = load_agent(policy)
    mode = observation_mode(policy)
    for first in tqdm(range(0, episodes, WORLD_BATCH), desc="imagining", unit="batch", disable=not progress):
        n = min(WORLD_BATCH, episodes - first)
        seeds = start_seeds(first + n, seed)[first:]
        core = WorldCore(world, n, observation=mode, **options)
        core.reset(
            seeds=seeds,
            options=None
            if starts is None
            else [_begin(world, starts, (first + i) % len(starts), seeds[i]) for i in range(n)],
        )
        space = core.single_action_space
        actor = (
            Directive(policy, space)
            if isinstance(policy, str) and policy.startswith(DIRECTIVE)
            else Actor(policy, space, seed=seeds[0])
        )
        yield from _dreams(core, actor)


def _begin(world: World, starts: ClipData, episode: int, seed: int) -> dict:
    row = starts.episode_offset[episode]
    if starts.frames.shape[1:3] != tuple(world.spec.frame_size):
        raise ValueError(
            f"{starts.meta['dataset']} has frames of {starts.frames.shape[1]} x {starts.frames.shape[2]}, "
            f"the world's are {world.spec.frame_size[0]} x {world.spec.frame_size[1]}: resize them"
        )
    pose = starts.proprioception[row]
    if len(pose) != world.spec.proprioception_dim:  # it is then read off the picture
        return {"image": np.asarray(starts.frames[row])}
    return world_options(world, Start(seed, np.asarray(starts.frames[row]), pose, np.zeros(0)))


def _dreams(core: WorldCore, actor: Actor | Directive) -> list[Dream]:
    n = core.num_envs
    rows = [([core.render(i)], [], [], [], [core.info()["proprioception"][i]]) for i in range(n)]
    active = np.ones(n, bool)
    while active.any():
        actions = actor.act(core.observation(), active)
        actions[~active] = 0
        _, terminated, truncated = core.step(actions, active)
        info = core.info()
        for i in np.flatnonzero(active):
            for values, value in zip(
                rows[i],
                (core.render(i), actions[i], info["is_success"][i], info["uncertainty"][i], info["proprioception"][i]),
            ):
                values.append(value)
        active &= ~(terminated | truncated)
    return [
        Dream(np.stack(frames), np.stack(taken), np.array(success), np.array(doubt), np.stack(pose))
        for frames, taken, success, doubt, pose in rows
    ]


@dataclass(frozen=True)
class Filter:
    """Which dreams become demonstrations.

    successes: those alone that the judge calls a success. most_doubt: in which the world's uncertainty never passes
    this. labeller: those alone whose video it believes, with the actions that it reads there, not those taken.
    """

    successes: bool = True
    most_doubt: float = np.inf
    labeller: VideoLabeller | None = None

    def actions(self, one: Dream) -> np.ndarray:
        """The actions [T-1, A] of a dream that passes; Rejected with the reason where it does not."""
        if self.successes and not one.success.any():
            raise Rejected("the judge sees no success")
        if one.uncertainty.max() > self.most_doubt:
            raise Rejected(
                f"the world's uncertainty is {one.uncertainty.max():.3g}, more than {self.most_doubt:.3g}, "
                f"at step {int(one.uncertainty.argmax()) + 1}"
            )
        return one.taken if self.labeller is None else self.labeller.label(one.frames)


def write_dreams(
    dreams: Iterable[Dream], world: World | str | Path, out: str | Path, filter: Filter = Filter()
) -> tuple[int, dict[int, str]]:
    """Write those that pass as a LeRobotDataset v3.0; (how many, {dream left out: why}).

    Beside frames and actions it holds "observation.state" (the predicted pose), "next.success", and the world's
    "uncertainty". Raises FileExistsError where `out` is there, and ValueError where the labeller's actions are others
    than the world's.
    """
    spec, labeller = load_world(world).spec, filter.labeller
    if labeller and len(labeller.about["action_low"]) != spec.action_dim:
        raise ValueError(
            f"the inverse dynamics read {len(labeller.about['action_low'])} actions, the world "
            f"{spec.name!r} takes {spec.action_dim}; train them on recordings of the same robot"
        )
    about = {key: getattr(spec, key) for key in ("action_low", "action_high", "action_unit")}
    names = spec.action_names or [f"action_{i}" for i in range(spec.action_dim)]
    columns = {"next.success": ["success"], "uncertainty": ["uncertainty"]}
    if spec.proprioception_dim:
        columns["observation.state"] = spec.proprioception_names
    kept, rejected = 0, {}
    with LabelledWriter(
        new_folder(out), tuple(spec.frame_size), about | {"action_names": names}, spec.fps, columns
    ) as writer:
        for i, one in enumerate(dreams):
            try:
                actions = filter.actions(one)
            except Rejected as why:
                rejected[i] = str(why)
                continue
            pose = {"observation.state": one.pose[:-1]} if spec.proprioception_dim else {}
            writer.add(
                one.frames,
                actions,
                spec.task_description,
                **{"next.success": one.success[:, None], "uncertainty": one.uncertainty[:, None], **pose},
            )
            kept += 1
    return kept, rejected


def imagine(
    world: World | str | Path,
    policy: str | Path | Agent,
    out: str | Path,
    episodes: int,
    *,
    seed: int = 0,
    starts: ClipData | None = None,
    labeller: VideoLabeller | None = None,
    keep_failures: bool = False,
    certain: bool = False,
    reward: str | Judge = "learned",
    reward_kwargs: dict | None = None,
    progress: bool = True,
) -> tuple[int, dict[int, str]]:
    """Imagine demonstrations and write them to `out`: start frames + policy -> video -> actions -> filtered.

    certain: without the dreams that are in more doubt than 9 of 10 of the world's calibration were. The rest as
    `dream`, `Filter` and `write_dreams` say. ValueError for `certain` where the world is not calibrated.
    """
    world = load_world(world)
    if certain and world.calibration is None:
        raise ValueError(
            f"the world {world.spec.name!r} is not calibrated, so nobody knows how much doubt is usual: "
            "wm-gym calibrate WORLD DATASET"
        )
    limit = world.calibration.limit if certain else np.inf
    made = dream(world, policy, episodes, seed, starts, progress, reward=reward, reward_kwargs=reward_kwargs)
    return write_dreams(made, world, out, Filter(not keep_failures, limit, labeller))
