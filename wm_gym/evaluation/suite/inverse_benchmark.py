"""How well are actions read off real, generated, noisy and occluded video, and what are they worth in physics?"""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from tqdm import tqdm

from wm_gym.common.records import Blank, or_blank
from wm_gym.common.statistics import Rate, mean, rate
from wm_gym.data.clips import ClipData
from wm_gym.evaluation.control_worlds import learned, noisy
from wm_gym.evaluation.episodes import Episodes
from wm_gym.evaluation.trust.injected import Injector
from wm_gym.inverse.fit import fit_motion
from wm_gym.inverse.labeller import Rejected, VideoLabeller
from wm_gym.physics.tracked import TrackedObject, tracked_by
from wm_gym.registration import is_twin, recorded_twin
from wm_gym.worlds.world import World

STRICT = 0.1  # of half an action's range: an action read so nearly is right
CARRIED_OUT = 0.05  # of the longest move: a robot that moves so nearly as its action says has carried it out
TOUCH = 0.004  # metres between hand and object
HORIZONS = (10, 50, 150)  # steps: 1, 5 and 15 s at 10 Hz
NOISES = (10, 25)  # standard deviations, of 255 levels
BROKEN = 50  # episodes of which impossible videos are made
KINDS = ("teleport", "off its kinematics", "disappearance", "duplication")
PATCH = 0.25  # of the frame's sides: the grey square that hides what lies under it


def benchmark(
    labellers: dict[str, VideoLabeller],
    clips: ClipData,
    world: World | None = None,
    episodes: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Each labeller on a recording that it was not taught on, and on what a world makes of the same actions.

    Returns {name: {"kind", "taught_on": episodes, "reading": {condition: `reading`}, "replay": {"real", "generated",
    "recorded, where the world succeeds": `rate`}, "rejected": {video: `rate`}}}. Conditions: real frames, the same with
    noise and with a grey square, and generated ones up to `HORIZONS`, each beside real ones of the same steps. Replay:
    of the episodes that succeed in the recording, or are judged a success in the world, the share that succeeds in
    physics by the actions read off them. Rejected: the share of videos that the labeller refuses; of real and generated
    ones it should be none, of those that no robot could have filmed (`impossible`) all.
    """
    n = min(HORIZONS[-1], int(np.diff(clips.episode_offset).max()) - 1)
    asked = Episodes.of(clips, n)
    if episodes:
        asked = asked.select(np.arange(min(episodes, len(asked))))
    env = recorded_twin(clips.meta).unwrapped if is_twin(clips.meta["env_id"]) else None
    frames, touching, wrong = asked.frames, _touching(asked, env), impossible(asked, env, seed)
    wrong["real"] = frames
    views = _views(frames, n, seed)
    replays: dict[str, tuple[np.ndarray | None, np.ndarray]]  # video (None: the recorded actions), and episodes
    replays = {"real": (frames, np.flatnonzero(clips.success[asked.rows[:, 1:]].any(1)))}
    if world is not None:
        made = learned(world)(asked)
        wrong["generated"] = generated = np.concatenate([frames[:, :1], made["frame"]], axis=1)
        for first, last in zip((0, *HORIZONS), [h for h in HORIZONS if h <= n]):
            span = f"steps {first + 1} to {last}"
            views[f"generated, {span}"], views[f"real, {span}"] = (generated, (first, last)), (frames, (first, last))
        judged = np.flatnonzero((made["success"] > world.spec.success_threshold).any(1))
        replays |= {"generated": (generated, judged), "recorded, where the world succeeds": (None, judged)}
    found = {}
    for name, labeller in tqdm(labellers.items(), desc="inverse dynamics"):
        videos = {id(video): video for video, _ in views.values()}
        read = {key: np.stack([labeller.read(one) for one in video]) for key, video in videos.items()}
        carried_out = _carried_out(labeller, asked)
        found[name] = {
            "kind": labeller.network.config["kind"],
            "taught_on": labeller.about["episodes"],
            "reading": {
                view: reading(read[id(video)], asked, labeller, carried_out, touching, span)
                for view, (video, span) in views.items()
            },
            "replay": {
                how: _replayed(labeller, asked, env, asked.action if video is None else read[id(video)], which)
                for how, (video, which) in replays.items()
            }
            if env is not None
            else {},
            "rejected": {
                what: rate([rejects(labeller, video) for video in videos]) for what, videos in sorted(wrong.items())
            },
        }
    if env is not None:
        env.close()
    return found


def _views(frames: np.ndarray, n: int, seed: int) -> dict[str, tuple[np.ndarray, tuple[int, int]]]:
    """Real frames, the same with noise and with a grey square, each with the steps to read."""
    rng = np.random.default_rng(seed)
    views = {"real": frames, **{f"noise of {level} levels": noisy(frames, level, rng) for level in NOISES}}
    return {name: (shown, (0, n)) for name, shown in (*views.items(), ("occluded", _occluded(frames, rng)))}


def readings(labeller: VideoLabeller, clips: ClipData, numbers: np.ndarray) -> dict[str, Any]:
    """`reading` of some whole episodes of a recording, at the length of the shortest."""
    length = np.diff(clips.episode_offset)[numbers].min()
    rows = clips.episode_offset[numbers][:, None] + np.arange(length)
    asked = Episodes(clips, rows, clips.action[rows[:, :-1]])
    return reading(
        np.stack([labeller.read(one) for one in asked.frames]), asked, labeller, _carried_out(labeller, asked)
    )


def reading(
    found: np.ndarray,
    asked: Episodes,
    labeller: VideoLabeller,
    carried_out: np.ndarray,
    touching: np.ndarray | None = None,
    span: tuple[int, int | None] = (0, None),
) -> dict[str, Any]:
    """How near actions that were read are to the recorded ones.

    Args:
        found: The actions read [E, n, A].
        asked: Their episodes.
        labeller: Has the actions' range.
        carried_out: bool [E, n], the steps in which the robot did as its action says (a command at a wall, or too long,
            cannot be seen).
        touching: bool [E, n], those in which hand and object touch, where it is known.
        span: The steps first .. last that count.

    Returns:
        {"r2": the lowest of the dimensions that vary, at most 1, 0 for always saying the mean, None where none varies,
        "r2_carried_out" of the steps that were carried out, "strict": the share of steps with all dimensions within 0.1
        of half their range (`mean` over episodes), "strict_carried_out"; "strict_touching" and "r2_touching" of steps
        that were carried out while hand and object touch}.
    """
    part = slice(*span)
    found, true, carried_out = found[:, part], asked.action[:, part], carried_out[:, part]
    half = np.subtract(labeller.about["action_high"], labeller.about["action_low"]) / 2
    right = (np.abs(found - true) <= STRICT * half).all(-1)
    result = {
        "steps": int(right.size),
        "carried_out": float(carried_out.mean()),
        "r2": _r2(found, true, np.ones_like(carried_out)),
        "r2_carried_out": _r2(found, true, carried_out),
        "strict": mean(asked.means(right.mean(1))),
        "strict_carried_out": float(right[carried_out].mean()),
    }
    if touching is not None:
        some = touching[:, part] & carried_out
        result |= {
            "touching": float(touching[:, part].mean()),
            "r2_touching": _r2(found, true, some),
            "strict_touching": float(right[some].mean()) if some.any() else None,
        }
    return result


def _r2(found: np.ndarray, true: np.ndarray, which: np.ndarray) -> float | None:
    found, true = found[which], true[which]
    varying = true.var(0) > 1e-12 if len(true) else np.zeros(true.shape[1], bool)
    if not varying.any():
        return None
    return float((1 - ((found - true) ** 2).mean(0)[varying] / true.var(0)[varying]).min())


def _carried_out(labeller: VideoLabeller, asked: Episodes) -> np.ndarray:
    """bool [E, n]: the robot moved as its action says; everywhere, where the recording tells no pose."""
    moved = np.diff(asked.proprioception, axis=1)
    if not moved.shape[-1]:
        return np.ones(asked.action.shape[:2], bool)
    motion = labeller.network.motion.numpy()
    if not motion.shape[1]:  # "latent" knows no poses
        motion = fit_motion(asked.clips, asked.rows[:, :-1].ravel())
    wrong = np.linalg.norm(moved - (asked.action @ motion[:-1] + motion[-1]), axis=-1)
    return wrong <= CARRIED_OUT * np.linalg.norm(moved, axis=-1).max()


def _tracked(env: gym.Env | None) -> TrackedObject | None:
    """The object that a twin's task moves; None where nobody knows."""
    found = or_blank(partial(tracked_by, env)) if env is not None else None
    return None if isinstance(found, Blank) else found


def _touching(asked: Episodes, env: gym.Env | None) -> np.ndarray | None:
    """bool [E, n]: hand and object touch before or after the step; None where nobody knows."""
    tracked = _tracked(env)
    if tracked is None or tracked.gap is None:
        return None
    thing = asked.physics_state[..., list(tracked.position)]
    near = tracked.gap(asked.proprioception[..., : tracked.hand], thing) < TOUCH
    return near[:, 1:] | near[:, :-1]


def _occluded(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    made, (height, width) = frames.copy(), frames.shape[2:4]
    h, w = round(PATCH * height), round(PATCH * width)
    for one in made:
        y, x = rng.integers(height - h + 1), rng.integers(width - w + 1)
        one[:, y : y + h, x : x + w] = 128
    return made


def _replayed(labeller: VideoLabeller, asked: Episodes, env: gym.Env, actions: np.ndarray, which: np.ndarray) -> Rate:
    """How often actions [E, n, A] succeed in the twin from the starts of some episodes."""
    low, high = (np.array(labeller.about[key], np.float32) for key in ("action_low", "action_high"))
    return rate([succeeds(env, asked.physics_state[e, 0], np.clip(actions[e], low, high)) for e in which])


def succeeds(env: gym.Env, physics_state: np.ndarray, actions: np.ndarray) -> bool:
    """Whether actions [n, A] succeed in a twin from a physics state."""
    env.reset(options={"physics_state": physics_state})
    return any(env.step(action)[-1]["success"] for action in actions)


def impossible(asked: Episodes, env: gym.Env | None, seed: int = 0) -> dict[str, np.ndarray]:
    """Videos uint8 [N, n+1, H, W, 3] that no robot could have filmed, of up to `BROKEN` episodes, by what is wrong.

    "spliced": another episode from the middle on. Where a twin with a `TrackedObject` can draw them, also those of
    `KINDS`.
    """
    asked = asked.select(np.arange(min(BROKEN, len(asked))))
    frames, half = asked.frames, asked.action.shape[1] // 2
    made = {}
    if np.ptp(asked.number):
        made["spliced"] = np.concatenate([frames[:, :half], frames[asked.others(seed)][:, half:]], axis=1)
    if env is not None and (tracked := _tracked(env)):
        injector = Injector(env, tracked, seed)
        for kind in KINDS:
            some = injector.inject(kind, asked)
            made[kind] = np.concatenate([frames[some.which][:, :1], some.frames], axis=1)
    return made


def rejects(labeller: VideoLabeller, video: np.ndarray) -> bool:
    """Whether the labeller refuses a video uint8 [T, H, W, 3]."""
    try:
        labeller.label(video)
    except Rejected:
        return True
    return False


def reading_text(conditions: dict[str, dict[str, Any]]) -> str:
    """The readings as a table for a terminal; "done": of steps in which the robot did as its action says.

    "-" is undefined: no such step is known, or no action varies in them.
    """
    lines = [f"{'':32s} {'R2':>6s} {'R2 done':>8s} {'strict':>7s} {'done':>7s} {'touching':>9s}"]
    for name, row in conditions.items():
        strict = row["strict"]["mean"]
        shares = (row["r2"], row["r2_carried_out"], strict, row["strict_carried_out"], row.get("strict_touching"))
        lines.append(
            f"{name:32s} "
            + " ".join("-".rjust(w) if v is None else f"{v:{w}.3f}" for v, w in zip(shares, (6, 8, 7, 7, 9)))
        )
    return "\n".join(lines)
