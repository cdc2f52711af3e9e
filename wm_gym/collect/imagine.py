"""How do synthetic demonstrations come about? A policy acts in a world; what succeeds becomes a recording."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from tqdm import tqdm

from wm_gym.collect.options import ImagineOptions
from wm_gym.common import spaces
from wm_gym.common.options import with_changes
from wm_gym.core import WorldCore
from wm_gym.data.clips import ClipData, open_clips
from wm_gym.engine.shared import load_world
from wm_gym.inverse.labeller import ActionMeaning, LabelledWriter, Rejected, VideoLabeller, new_folder
from wm_gym.policies.actor import Actor
from wm_gym.policies.agent import Agent, batch_size
from wm_gym.policies.loaders import load_agent
from wm_gym.policies.options import BASELINES
from wm_gym.policies.rollouts import WORLD_BATCH, start_seeds
from wm_gym.policies.source import observation_mode
from wm_gym.worlds.world import World
from wm_gym.wrappers import check_box

DIRECTIVE = "directive:"


@dataclass
class ImaginedEpisode:
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

    def __init__(self, text: str, space: gym.spaces.Box) -> None:
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

    def act(self, observation: Any, active: np.ndarray | None = None) -> np.ndarray:
        """The action [B, A] for observations with a leading batch axis."""
        return np.tile(self.action, (batch_size(observation), 1))


def imagine_episodes(
    world: World | str | Path,
    policy: str | Path | Agent,
    episodes: int,
    seed: int = 0,
    starts: ClipData | None = None,
    progress: bool = True,
    **options: Any,
) -> Iterator[ImaginedEpisode]:
    """Imagine episodes, up to 100 at a time, each until the judge says success or the world's horizon.

    Args:
        world: A world, its folder, its Hub id, or the name of a shipped one.
        policy: An agent or planner (folder, or the name of a shipped one), "random", "no-op" or "directive:NUMBERS".
        episodes: How many.
        seed: Draws the starts and random actions.
        starts: Recordings whose first frames are taken in turn; the world's own starts by default.
        progress: Show a bar.
        options: Of `WorldCore`, such as reward.

    Raises:
        ValueError: For a policy that is none, or is of another action space.
    """
    world, chosen = load_world(world), _policy(policy)
    mode = observation_mode(chosen)
    for first in tqdm(range(0, episodes, WORLD_BATCH), desc="imagining", unit="batch", disable=not progress):
        n = min(WORLD_BATCH, episodes - first)
        seeds = start_seeds(first + n, seed)[first:]
        core = WorldCore(world, n, observation=mode, **options)
        begins = starts is not None and [_begin(world, starts, (first + i) % len(starts)) for i in range(n)]
        core.reset(seeds=seeds, options=begins or None)
        space = core.single_action_space
        if isinstance(chosen, str) and chosen.startswith(DIRECTIVE):
            yield from _episodes(core, Directive(chosen, check_box(space)))
        else:
            yield from _episodes(core, Actor(chosen, space, seed=seeds[0]))


def _policy(policy: str | Path | Agent) -> str | Agent:
    """The agent, or the name of what needs none."""
    if isinstance(policy, Agent):
        return policy
    name = str(policy)
    return name if name in BASELINES or name.startswith(DIRECTIVE) else load_agent(policy)


def _begin(world: World, starts: ClipData, episode: int) -> dict[str, Any]:
    row = starts.episode_offset[episode]
    if starts.frames.shape[1:3] != tuple(world.spec.frame_size):
        raise ValueError(
            f"{starts.meta['dataset']} has frames of {starts.frames.shape[1]} x {starts.frames.shape[2]}, "
            f"the world's are {world.spec.frame_size[0]} x {world.spec.frame_size[1]}: resize them"
        )
    pose = starts.proprioception[row]
    known = 0 < len(pose) == world.spec.proprioception_dim  # else it is read off the picture
    return {"image": np.asarray(starts.frames[row]), **({"proprioception": pose} if known else {})}


def _episodes(core: WorldCore, actor: Actor | Directive) -> list[ImaginedEpisode]:
    starts = [(core.render(i), pose) for i, pose in enumerate(core.info()["proprioception"])]
    steps: list[list[tuple]] = [[] for _ in starts]
    active = np.ones(core.num_envs, bool)
    while active.any():
        actions = actor.act(core.observation(), active)
        numbers = core.numbers_of(actions, active)
        _, terminated, truncated = core.step(actions, active)
        info = core.info()
        for i in np.flatnonzero(active).tolist():
            told = (info[key][i] for key in ("is_success", "uncertainty", "proprioception"))
            steps[i].append((core.render(i), numbers[i], *told))
        active &= ~(terminated | truncated)
    return [_episode(*start, made) for start, made in zip(starts, steps)]


def _episode(frame: np.ndarray, pose: np.ndarray, steps: list[tuple]) -> ImaginedEpisode:
    frames, taken, success, uncertainty, poses = map(list, zip(*steps))
    return ImaginedEpisode(
        np.stack([frame, *frames]), np.stack(taken), np.array(success), np.array(uncertainty), np.stack([pose, *poses])
    )


@dataclass(frozen=True)
class Filter:
    """Which imagined episodes become demonstrations."""

    successes: bool = True
    """Those alone that the judge calls a success."""
    max_uncertainty: float = np.inf
    """Those in which the world's uncertainty never passes this."""
    labeller: VideoLabeller | None = None
    """Those alone whose video it believes, with the actions that it reads there, not those taken."""

    def actions(self, one: ImaginedEpisode) -> np.ndarray:
        """The actions [T-1, A] of an episode that passes; Rejected with the reason where it does not."""
        if self.successes and not one.success.any():
            raise Rejected("the judge sees no success")
        if one.uncertainty.max() > self.max_uncertainty:
            raise Rejected(
                f"the world's uncertainty is {one.uncertainty.max():.3g}, more than {self.max_uncertainty:.3g}, "
                f"at step {int(one.uncertainty.argmax()) + 1}"
            )
        return one.taken if self.labeller is None else self.labeller.label(one.frames)


def write_imagined(
    episodes: Iterable[ImaginedEpisode], world: World | str | Path, out: str | Path, filter: Filter = Filter()
) -> tuple[int, dict[int, str]]:
    """Write those that pass as a LeRobotDataset v3.0.

    Beside frames and actions it holds "observation.state" (the predicted pose), "next.success", and the world's
    "uncertainty".

    Returns:
        How many were written, and {episode left out: why}.

    Raises:
        FileExistsError: Where `out` is there.
        ValueError: Where the labeller's actions are others than the world's.
    """
    spec, labeller = load_world(world).spec, filter.labeller
    if labeller and len(labeller.about["action_low"]) != spec.action_dim:
        raise ValueError(
            f"the inverse dynamics read {len(labeller.about['action_low'])} actions, the world "
            f"{spec.name!r} takes {spec.action_dim}; train them on recordings of the same robot"
        )
    about: ActionMeaning = {
        "action_names": spec.action_names or [f"action_{i}" for i in range(spec.action_dim)],
        "action_low": spec.action_low,
        "action_high": spec.action_high,
        "action_unit": spec.action_unit,
    }
    height, width = spec.frame_size
    columns = {"next.success": ["success"], "uncertainty": ["uncertainty"]}
    if spec.proprioception_dim:
        columns["observation.state"] = spec.proprioception_names
    kept = 0
    rejected: dict[int, str] = {}
    with LabelledWriter(new_folder(out), (height, width), about, spec.fps, columns) as writer:
        for i, one in enumerate(episodes):
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
    options: ImagineOptions | None = None,
    **changes: Any,
) -> tuple[int, dict[int, str]]:
    """Imagine demonstrations and write them to `out`: start frames + policy -> video -> actions -> filtered.

    Args:
        world: As `imagine_episodes` takes it.
        policy: As `imagine_episodes` takes it.
        out: The folder to write.
        episodes: How many are imagined.
        options: The rest, by their defaults.
        changes: Fields of `ImagineOptions`, such as certain=True.

    Returns:
        How many were written, and {episode left out: why}.

    Raises:
        FileExistsError: Where `out` is there.
        ValueError: For `certain` where the world is not calibrated, and as `imagine_episodes` and `write_imagined` say.
    """
    world, of = load_world(world), with_changes(ImagineOptions, options, changes)
    limit = np.inf
    if of.certain:
        if world.calibration is None:
            raise ValueError(
                f"the world {world.spec.name!r} is not calibrated, so nobody knows which uncertainty is usual: "
                "wm-gym calibrate WORLD DATASET"
            )
        limit = world.calibration.limit
    starts, labeller = of.starts, of.labeller
    if isinstance(starts, (str, Path)):
        starts = open_clips(starts, size=world.spec.frame_size)
    if isinstance(labeller, (str, Path)):
        labeller = VideoLabeller.load(labeller)
    made = imagine_episodes(
        world, policy, episodes, of.seed, starts, of.progress, reward=of.reward, reward_kwargs=of.reward_kwargs
    )
    return write_imagined(made, world, out, Filter(not of.keep_failures, limit, labeller))
