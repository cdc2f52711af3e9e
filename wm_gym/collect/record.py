"""How is a Gymnasium environment recorded to a LeRobotDataset, in parallel, resumable, the same whatever the workers?

Workers simulate whole episodes; this process encodes and writes them in order. Stop it with Ctrl-C or kill it:
the dataset stays valid, and the same call goes on where it ended.
"""

import contextlib
from pathlib import Path

from wm_gym.collect.episodes import AGENT, KINDS, POLICIES, import_env
from wm_gym.collect.parallel import simulate
from wm_gym.common.processes import Interrupts
from wm_gym.data.formats.lerobot_resume import tidy
from wm_gym.data.formats.lerobot_schema import CAMERA, INFO_PATH, DatasetError, feature, read_info, video_feature
from wm_gym.data.formats.lerobot_writer import LeRobotWriter


def record(
    env_id,
    episodes,
    policy="mix",
    *,
    out,
    seed=0,
    workers=None,
    noise=0.3,
    resume=True,
    env_kwargs=None,
    size=None,
    progress=True,
    shard_frames=2000,
):
    """Record `episodes` episodes of a registered environment into the LeRobotDataset folder `out`; returns its Path.

    policy: expert, noisy, random, near-miss, mix (of those the environment has: without scripted policies that is
    random alone), or agent:FOLDER, a trained agent in a physics twin: a third of the episodes each as it is,
    exploring, and with the actions that it takes where its world imagines the episode meanwhile. noise in [0, 1]
    perturbs "noisy". workers: processes, default one a core; 0 simulates in this process. resume: go on with what is in
    `out`. size (H, W): store frames resized by area. Episode i depends only on (seed, i). Raises ValueError for an
    unknown id, policy, or a folder recorded with other arguments.
    KeyboardInterrupt comes through after what was simulated is written.
    """
    out = Path(out)
    if policy not in POLICIES and not policy.startswith(AGENT):
        raise ValueError(f"unknown policy {policy!r}; give one of {', '.join(POLICIES)}, or {AGENT}FOLDER")
    if int(episodes) != episodes or episodes < 1:
        raise ValueError(f"episodes is {episodes!r}, expected a whole number of at least 1")
    env_kwargs = dict(env_kwargs or {})
    asked = {
        "env_id": env_id,
        "env_kwargs": env_kwargs,
        "policy": policy,
        "seed": int(seed),
        "noise": float(noise),
        "size": list(size) if size is not None else None,
    }
    if policy.startswith(AGENT):
        from wm_gym.policies.catalogue import digest_of_agent

        asked |= {"policy": _named(policy), "agent_weights": digest_of_agent(policy.removeprefix(AGENT))}
    if (out / INFO_PATH).exists():
        _check_resume(out, asked, resume)
        if read_info(out)["total_episodes"] >= episodes:  # nothing to write: others may read it at the same time
            tidy(out)
            return out
    import_env(env_id)
    source = (env_id, env_kwargs, policy, int(seed), float(noise), size)
    with Interrupts() as interrupts, contextlib.ExitStack() as stack:
        writer = None
        if (out / INFO_PATH).exists():
            writer = stack.enter_context(LeRobotWriter(out, shard_frames=shard_frames))
        first = writer.num_episodes if writer else 0
        if first >= episodes:
            return out
        numbers = range(first, episodes)
        stream = stack.enter_context(contextlib.closing(simulate(source, numbers, workers, interrupts)))
        bar = stack.enter_context(_bar(progress, first, episodes, env_id))
        for describe, episode in stream:
            if writer is None:
                fps, features = _features(describe, episode)
                extra = {"wm_gym": _extra(asked, describe, episode)}
                writer = stack.enter_context(LeRobotWriter(out, fps, features, extra=extra, shard_frames=shard_frames))
            _add(writer, episode, env_id)
            bar.update(1)
            if interrupts.seen:
                break
        if interrupts.seen:
            done = 0
            if writer is not None:
                writer.flush()
                done = writer.num_episodes
            bar.close()
            print(
                f"interrupted: {out} holds {done} of {episodes} episodes and is valid; the same command goes on "
                f"from there"
                if done
                else f"interrupted before the first episode; nothing is in {out}"
            )
            raise KeyboardInterrupt
    return out


def _add(writer, episode, env_id):
    """Write one episode; reward terms that this one never had are zero."""
    for key in writer.features:
        if key.startswith("next.reward.") and key not in episode.columns:
            episode.columns[key] = episode.columns["next.reward"] * 0
    try:
        writer.add_episode(episode.columns, {CAMERA: episode.frames}, episode.task)
    except DatasetError as error:
        raise DatasetError(f"{env_id}: {error}") from None


def _features(describe, episode):
    """Give (fps, features) of the dataset from its first episode."""
    fps = describe["fps"]
    fps = int(fps) if fps == int(fps) else fps
    names = {"action": describe["action_names"], "observation.state": describe["proprioception_names"]}
    features = {CAMERA: video_feature(*episode.frames.shape[1:3], fps)}
    for key, value in episode.columns.items():
        features[key] = feature(value.dtype.name, value.shape[1], names.get(key))
    return fps, features


def _extra(asked, describe, episode):
    """Give what info.json says under "wm_gym"."""
    return (
        asked
        | {
            key: describe[key]
            for key in (
                "action_space",
                "action_low",
                "action_high",
                "action_names",
                "action_unit",
                "proprioception_names",
                "proprioception_unit",
                "horizon",
                "task_description",
            )
        }
        | {
            "reward_terms": episode.reward_terms,
            "success": "next.success" in episode.columns,
            "policy_kinds": list(KINDS),
        }
    )


def _named(policy):
    """Name a policy as info.json does: an agent by its folder's name, for where it lies is nobody else's matter."""
    folder = Path(policy.removeprefix(AGENT))
    is_path = policy.startswith(AGENT) and (folder.is_absolute() or folder.exists())
    return AGENT + folder.resolve().name if is_path else policy


def _check_resume(out, asked, resume):
    info = read_info(out)
    if not resume:
        raise ValueError(
            f"{out} holds a dataset of {info['total_episodes']} episodes already; go on with it "
            f"(resume=True) or give another folder"
        )
    there = info.get("wm_gym")
    if there is None:
        raise ValueError(f"{out} holds a dataset that was not recorded by wm-gym; give another folder")
    older = {"agent_weights": asked.get("agent_weights")}  # older versions did not write them down
    there = older | there | {"policy": _named(str(there.get("policy")))}
    for key, value in asked.items():
        if there.get(key) != value:
            raise ValueError(
                f"{out} was recorded with {key}={there.get(key)!r}, now {key}={value!r}; use the same "
                f"arguments to go on with it, or give another folder"
            )


def _bar(progress, first, episodes, env_id):
    from tqdm import tqdm

    return tqdm(total=episodes, initial=first, unit="episode", desc=f"recording {env_id}", disable=not progress)
