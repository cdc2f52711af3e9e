"""How is a Gymnasium environment recorded to a LeRobotDataset, in parallel, resumable, the same whatever the workers?

Workers simulate whole episodes; this process encodes and writes them in order. Stop it with Ctrl-C or kill it:
the dataset stays valid, and the same call goes on where it ended.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from wm_gym.collect.episodes import EpisodeSpec, RecordedEpisode
from wm_gym.collect.options import RecordOptions
from wm_gym.collect.parallel import simulate
from wm_gym.collect.policies import AGENT, Policies
from wm_gym.collect.source import Description, import_env
from wm_gym.common.options import with_changes
from wm_gym.common.processes import Interrupts
from wm_gym.data.formats.lerobot_resume import tidy
from wm_gym.data.formats.lerobot_schema import (
    CAMERA,
    INFO_PATH,
    DatasetError,
    Feature,
    feature,
    read_info,
    video_feature,
)
from wm_gym.data.formats.lerobot_writer import LeRobotWriter

MOST_EPISODES = 10**9


def record(
    env_id: str,
    episodes: int | None = None,
    policy: str = "mix",
    *,
    out: str | Path,
    options: RecordOptions | None = None,
    **changes: Any,
) -> Path:
    """Record episodes of a registered environment into a LeRobotDataset folder.

    Args:
        env_id: Its id.
        episodes: How many the folder is to hold; None where the options say how many `steps`.
        policy: expert, noisy, random, near-miss, mix (of those the environment has: without scripted policies that is
            random alone); agent:FOLDER, a trained agent, a Stable-Baselines3 FILE.zip (which the options must trust) or
            module:name of a function or class: half of the episodes as it is, half exploring; in a physics twin with a
            world a third each, and a third with the actions that it takes where its world imagines the episode. Several
            act in a share of the episodes each: "random:0.3,agent:FOLDER:0.7".
        out: The folder, which is returned.
        options: The rest, by their defaults.
        changes: Fields of `RecordOptions`, such as seed=1.

    Raises:
        ValueError: For an unknown id or policy, or a folder recorded with other arguments.
        KeyboardInterrupt: After what was simulated is written.
    """
    options, out = with_changes(RecordOptions, options, changes), Path(out)
    policies = Policies.parse(policy)
    if (episodes is None) == (options.steps is None):
        raise ValueError(f"episodes is {episodes} and steps {options.steps}; give the one or the other")
    if episodes is not None and (int(episodes) != episodes or episodes < 1):
        raise ValueError(f"episodes is {episodes!r}, expected a whole number of at least 1")
    enough = _Enough(episodes, options.steps)
    kwargs = dict(options.env_kwargs or {})
    seed, noise, pictures = int(options.seed), float(options.noise), options.pictures
    spec = EpisodeSpec(env_id, kwargs, policy, seed, noise, options.size, pictures, options.trust)
    asked = _asked(spec, policies)
    if (out / INFO_PATH).exists():
        _check_resume(out, asked, options.resume)
        if enough.at(*_held(read_info(out))):  # nothing to write: others may read it at the same time
            tidy(out)
            return out
    import_env(env_id)
    _write(out, spec, asked, enough, options)
    return out


def _write(out: Path, spec: EpisodeSpec, asked: dict[str, Any], enough: _Enough, options: RecordOptions) -> None:
    """Simulate what is still missing, and write it."""
    with Interrupts() as interrupts, contextlib.ExitStack() as stack:
        writer = None
        if (out / INFO_PATH).exists():
            writer = stack.enter_context(LeRobotWriter(out, shard_frames=options.shard_frames))
        first, steps = _held(read_info(out)) if writer else (0, 0)
        if enough.at(first, steps):
            return
        made = simulate(spec, range(first, enough.episodes or MOST_EPISODES), options.workers, interrupts, options.ray)
        stream = stack.enter_context(contextlib.closing(made))
        bar = stack.enter_context(_bar(options.progress, first, enough.episodes, spec.env_id))
        for describe, episode in stream:
            if writer is None:
                writer = stack.enter_context(_new_writer(out, asked, describe, episode, options.shard_frames))
            _add(writer, episode, spec.env_id)
            bar.update(1)
            first, steps = first + 1, steps + len(episode.frames) - 1
            if interrupts.seen or enough.at(first, steps):
                break
        if interrupts.seen:
            bar.close()
            _interrupted(out, writer, enough)


class _Enough(NamedTuple):
    """How much a recording is to hold."""

    episodes: int | None
    steps: int | None

    def at(self, episodes: int, steps: int) -> bool:
        """Whether so many episodes and environment steps are enough."""
        return episodes >= self.episodes if self.episodes is not None else steps >= (self.steps or 0)


def _held(info: Mapping[str, Any]) -> tuple[int, int]:
    """The episodes and environment steps of a recording; an episode's last row has no step."""
    return info["total_episodes"], info["total_frames"] - info["total_episodes"]


def _asked(spec: EpisodeSpec, policies: Policies) -> dict[str, Any]:
    """What info.json says of the call, and what going on with a recording has to agree with."""
    asked = {
        "env_id": spec.env_id,
        "env_kwargs": spec.env_kwargs,
        "policy": policies.text,
        "seed": spec.seed,
        "noise": spec.noise,
        "size": list(spec.size) if spec.size is not None else None,
        "pictures": spec.pictures,
    }
    return asked | ({"agent_weights": digests} if (digests := policies.digests()) else {})


def _interrupted(out: Path, writer: LeRobotWriter | None, enough: _Enough) -> None:
    """Put in place what was simulated, and let the interrupt go through."""
    done, of = 0, f" of {enough.episodes}" if enough.episodes else ""
    if writer is not None:
        writer.flush()
        done = writer.num_episodes
    print(
        f"interrupted: {out} holds {done}{of} episodes and is valid; the same command goes on from there"
        if done
        else f"interrupted before the first episode; nothing is in {out}"
    )
    raise KeyboardInterrupt


def _add(writer: LeRobotWriter, episode: RecordedEpisode, env_id: str) -> None:
    """Write one episode; reward terms that this one never had are zero."""
    for key in writer.features:
        if key.startswith("next.reward.") and key not in episode.columns:
            episode.columns[key] = episode.columns["next.reward"] * 0
    try:
        writer.add_episode(episode.columns, {CAMERA: episode.frames}, episode.task)
    except DatasetError as error:
        raise DatasetError(f"{env_id}: {error}") from None


def _new_writer(
    out: Path, asked: Mapping[str, Any], describe: Description, episode: RecordedEpisode, shard_frames: int
) -> LeRobotWriter:
    """The writer of a new dataset, whose features are those of its first episode."""
    fps = int(describe["fps"]) if describe["fps"] == int(describe["fps"]) else describe["fps"]
    names = {"action": describe["action_names"], "observation.state": describe["proprioception_names"]}
    height, width = episode.frames.shape[1:3]
    features: dict[str, Feature] = {CAMERA: video_feature(height, width, fps)}
    for key, value in episode.columns.items():
        features[key] = feature(value.dtype.name, value.shape[1], names.get(key))
    notes = {
        **asked,
        **{key: value for key, value in describe.items() if key != "fps"},
        "reward_terms": episode.reward_terms,
        "success": "next.success" in episode.columns,
        "policy_kinds": list(Policies.parse(asked["policy"]).kinds),
    }
    return LeRobotWriter(out, fps, features, extra={"wm_gym": notes}, shard_frames=shard_frames)


def _check_resume(out: Path, asked: Mapping[str, Any], resume: bool) -> None:
    info = read_info(out)
    if not resume:
        raise ValueError(
            f"{out} holds a dataset of {info['total_episodes']} episodes already; go on with it "
            f"(resume=True) or give another folder"
        )
    there = info.get("wm_gym")
    if there is None:
        raise ValueError(f"{out} holds a dataset that was not recorded by wm-gym; give another folder")
    older = {"agent_weights": asked.get("agent_weights"), "pictures": True}  # older versions did not write them down
    there = older | there
    if str(there.get("policy")).startswith(AGENT):  # but where the agent lay
        there |= {"policy": Policies.parse(there["policy"]).text}
    for key, value in asked.items():
        if there.get(key) != value:
            raise ValueError(
                f"{out} was recorded with {key}={there.get(key)!r}, now {key}={value!r}; use the same "
                f"arguments to go on with it, or give another folder"
            )


def _bar(progress: bool, first: int, episodes: int | None, env_id: str) -> tqdm:
    return tqdm(total=episodes, initial=first, unit="episode", desc=f"recording {env_id}", disable=not progress)
