"""How often is a judge of frames right? Its confusion matrix against physics' success on recordings."""

from __future__ import annotations

from typing import Any

import numpy as np
from tqdm import tqdm

from wm_gym.common.statistics import matched_table, rate
from wm_gym.data.clips import ClipData
from wm_gym.engine.rollout import roll_out
from wm_gym.engine.shared import load_engine
from wm_gym.evaluation.trust.coverage import auroc
from wm_gym.judges import Judge, Scores
from wm_gym.registration import is_twin, recorded_twin
from wm_gym.worlds.world import World


def measure_judge(
    judge: Judge | World, clips: ClipData, episodes: int | None = None, every: int = 1, progress: bool = False
) -> dict[str, Any]:
    """A judge, or the learned one of a World, on true frames beside what physics said of them.

    The first `episodes` episodes (default: all), every `every`-th frame of each and the last one; no first frames, for
    no action led to them. Returns {"judge", "threshold", "frames": `confusion` of single frames, "episodes": of
    episodes, in which a success is any judged frame's, with "matched" the `matched_table` of the judge and physics,
    "progress": {"success", "failure"} (mean progress of frames), "proposed": `proposal`}. ValueError where the
    recording tells no success.
    """
    ends = list(zip(clips.episode_offset[:-1], clips.episode_offset[1:]))[:episodes]
    if not ends:
        raise ValueError("the recording has no episodes to judge")
    truth = physics_success(clips, ends)
    rows = [np.unique([*np.arange(first + 1, end, every), end - 1]) for first, end in ends if end - first > 1]
    verdicts = []
    for some in tqdm(rows, desc="judging", unit="episode", disable=not progress):
        verdicts.append(
            learned_verdict(judge, clips, some)
            if isinstance(judge, World)
            else judge(clips.frames[some], np.repeat(clips.frames[some[0] - 1 : some[0]], len(some), 0))
        )
    right = [truth[some] for some in rows]
    every_truth, score = np.concatenate(right), np.concatenate([v.score for v in verdicts])
    says, come = np.concatenate([v.success for v in verdicts]), np.concatenate([v.progress for v in verdicts])
    done, said = (np.array([one.any() for one in many]) for many in (right, [v.success for v in verdicts]))
    best = np.array([v.score.max() for v in verdicts])
    return {
        "judge": "learned" if isinstance(judge, World) else judge.name,
        "recording": clips.meta["dataset"],
        "threshold": judge.spec.success_threshold if isinstance(judge, World) else judge.threshold,
        "every": every,
        "frames": confusion(says, every_truth, score),
        "episodes": confusion(said, done, best) | {"matched": matched_table(said, done)},
        "progress": {
            name: float(come[mask].mean()) if mask.any() else None
            for name, mask in (("success", every_truth), ("failure", ~every_truth))
        },
        "proposed": proposal(best, done),
    }


def confusion(says: np.ndarray, truth: np.ndarray, score: np.ndarray) -> dict[str, Any]:
    """Answers bool [N] beside the truth bool [N]: counts, accuracy, optimism = P(yes | failure), pessimism =
    P(no | success) and the AUROC of the scores [N], which no threshold decides (None where there is one truth only)."""
    return {
        "n": len(truth),
        "yes_success": int((says & truth).sum()),
        "yes_failure": int((says & ~truth).sum()),
        "no_success": int((~says & truth).sum()),
        "no_failure": int((~says & ~truth).sum()),
        "accuracy": rate(says == truth),
        "optimism": rate(says[~truth]),
        "pessimism": rate(~says[truth]),
        "auroc": auroc(score[~truth], score[truth]) if truth.any() and not truth.all() else None,
    }


def proposal(best: np.ndarray, done: np.ndarray) -> dict[str, Any] | None:
    """The threshold whose answers are right most often on the even episodes, successes and failures weighing alike,
    and its `confusion` on the odd ones; None where either half has no success or no failure.

    best float [E]: the highest score of each episode; done bool [E].
    """
    fit, held = slice(None, None, 2), slice(1, None, 2)
    if any(done[half].all() or not done[half].any() for half in (fit, held)):
        return None
    values = np.unique(best[fit])
    thresholds = np.concatenate([[values[0] - 1e-6], (values[1:] + values[:-1]) / 2])
    says = best[fit] > thresholds[:, None]
    balanced = says[:, done[fit]].mean(1) - says[:, ~done[fit]].mean(1)
    threshold = float(thresholds[balanced.argmax()])
    return {"threshold": threshold} | confusion(best[held] > threshold, done[held], best[held])


def learned_verdict(world: World, clips: ClipData, rows: np.ndarray) -> Scores:
    """What the world's head says after single steps to rows [n] of one episode from the true frames before them.

    Its score is the probability of success, which stands for progress, too.
    """
    offset = clips.episode_offset
    first = offset[np.searchsorted(offset, rows, side="right") - 1]
    context, score = np.minimum(rows - first, world.spec.context_frames), np.zeros(len(rows))
    engine = load_engine(world, "auto", "auto", decode=False)
    for length in np.unique(context):
        mine = rows[context == length]
        before = mine[:, None] + np.arange(-length, 0)
        score[context == length] = roll_out(
            world, clips.frames[before], clips.action[mine - 1][:, None], clips.proprioception[before], engine=engine
        )["success"][:, 0]
    return Scores(score, score, score > world.spec.success_threshold)


def physics_success(clips: ClipData, episodes: list[tuple[int, int]]) -> np.ndarray:
    """bool [N] of the recording's frames: its own next.success, or what its physics twin says of its physics states.

    ValueError where it has neither.
    """
    if clips.meta["has_success"]:
        return clips.success
    if clips.physics_state is None or not is_twin(clips.meta["env_id"]):
        raise ValueError(
            f"{clips.meta['dataset']} tells no success: it has neither next.success nor a twin's physics "
            "states; record one: wm-gym record wm_gym/PushPyBullet-v0 --episodes 100 --out DIR"
        )
    success = np.zeros(len(clips.frames), bool)
    with recorded_twin(clips.meta).unwrapped as env:
        for first, end in episodes:
            for row in range(first + 1, end):
                success[row] = env.reset(options={"physics_state": clips.physics_state[row]})[1]["success"]
    return success


def summary(found: dict[str, Any]) -> str:
    """The measurement in a few lines for a terminal."""
    lines = [
        f"{found['judge']}, threshold {found['threshold']:.4g}, on {found['recording']}",
        f"{'':10s} {'n':>7s} {'yes, right':>11s} {'yes, wrong':>11s} {'no, right':>11s} {'no, wrong':>11s} "
        f"{'accuracy':>9s} {'optimism':>9s} {'pessimism':>9s} {'AUROC':>6s}",
    ]
    for name in ("frames", "episodes", "proposed"):
        if row := found[name]:
            counts = [row[key] for key in ("yes_success", "yes_failure", "no_failure", "no_success")]
            shares = [row[key]["rate"] for key in ("accuracy", "optimism", "pessimism")] + [row["auroc"]]
            words = ["-" if share is None else f"{share:.3f}" for share in shares]
            columns = [f"{n:11d}" for n in counts] + [f"{word:>{w}s}" for word, w in zip(words, (9, 9, 9, 6))]
            lines.append(f"{name:10s} {row['n']:7d} {' '.join(columns)}")
    lines.append(
        f"proposed: threshold {found['proposed']['threshold']:.4g}, chosen on the even episodes, measured on the odd"
        if found["proposed"]
        else "no threshold is proposed: each half of the episodes needs successes and failures"
    )
    return "\n".join(lines)
