"""Which judge is right about imagined episodes? Learned heads, a goal picture, a sentence, and a state oracle.

    for task in Push Drawer Reach; do
        wm-gym record wm_gym/${task}PyBullet-v0 --episodes 300 --seed 100 --out data/${task,,}-mix
        wm-gym record wm_gym/${task}PyBullet-v0 --episodes 100 --seed 900 --out data/${task,,}-held; done
    python benchmarks/studies/judges.py data --out runs/judges

Each shipped world imagines what the held-out recordings' actions do; a judge says success if it does at any step. Truth
is what physics said of the same actions. The goal picture is the last frame of one success; the oracle reads positions
off the frames with a network trained on physics' and applies the task's own rule.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import Bar, command, write_results

PROMPTS = {
    "push": "the yellow block is on the blue disc",
    "drawer": "the drawer is open",
    "reach": "the gripper is at the green ball",
}
RULES = {
    "push": ("on goal", [21, 22, 23, 24]),
    "drawer": ("open", [21, 22, 23]),
    "reach": ("hand at ball", [21, 22, 23]),
}
STEPS = 50
BARS = {
    "judges": [
        Bar(
            f"{task}, right about episodes, {judge}",
            (task, "judges", judge, "episodes", "accuracy", "rate"),
            show="{:.1%}",
        )
        for task in PROMPTS
        for judge in ("learned", "text", "state oracle", "goal picture")
    ]
}


def study(task: str, folder: Path, out: Path, updates: int, seed: int = 0) -> dict:
    """Every judge on one world's roll-outs of the held-out recordings' actions."""
    import numpy as np
    from PIL import Image

    from wm_gym.common.statistics import median
    from wm_gym.data import open_clips
    from wm_gym.engine.shared import load_world
    from wm_gym.evaluation.control_worlds import learned
    from wm_gym.evaluation.episodes import Episodes
    from wm_gym.evaluation.judges.confusion import confusion
    from wm_gym.evaluation.probes.state_decoder import fit_state_decoder
    from wm_gym.judges import Judge, make_judge
    from wm_gym.judges.captions import RELATIONS

    world = load_world(f"{task.title()}-v0")
    taught, held = (open_clips(folder / f"{task}-{name}") for name in ("mix", "held"))
    recorded = Episodes.of(held, min(STEPS, int(np.diff(held.episode_offset).min()) - 1))
    made = learned(world)(recorded)
    truth = held.success[recorded.rows[:, 1:]]
    relation, columns = RULES[task]
    hand = taught.proprioception.shape[1]
    states = [
        np.concatenate([x.proprioception, np.asarray(x.physics_state)[:, columns]], 1).astype(np.float32)
        for x in (taught, held)
    ]
    rows = np.random.default_rng(seed).choice(len(held.frames), 1000, replace=False)
    fitted = fit_state_decoder(
        taught.frames,
        states[0],
        held.frames[np.sort(rows)],
        states[1][np.sort(rows)],
        world.tokenizer.round_trip,
        updates=updates,
        seed=seed,
    )

    class Oracle(Judge):
        name, threshold = "state oracle", 0.0

        def look(self, frames, starts):
            read = fitted.decoder.read(frames)
            state = np.zeros((len(frames), max(columns) + 1), np.float32)
            state[:, columns] = read[:, hand:]
            margin = RELATIONS[task][relation](state, read[:, :hand])
            return margin, (margin / 8 + 1).clip(0, 1)

    done = np.flatnonzero(taught.success)
    picture = out / f"{task}.png"
    Image.fromarray(taught.frames[done[len(done) // 2]]).save(picture)
    judges = {
        "goal picture": make_judge(f"goal:{picture}", world),
        "text": make_judge(f"text:{PROMPTS[task]}"),
        "state oracle": Oracle(),
    }
    result = {"learned": _row(made["success"], made["success"] > world.spec.success_threshold, truth, confusion)}
    frames = made["frame"].reshape(-1, *made["frame"].shape[2:])
    for name, judge in judges.items():
        verdict = judge(frames, np.repeat(recorded.frames[:, 0], truth.shape[1], axis=0))
        result[name] = _row(verdict.score.reshape(truth.shape), verdict.success.reshape(truth.shape), truth, confusion)
    return {
        "episodes": len(recorded),
        "steps": int(truth.shape[1]),
        "succeed": float(truth.any(1).mean()),
        "oracle_error": fitted.median_error,
        "judges": result,
        "uncertainty": median(made["uncertainty"].mean((1, 2, 3))),
    }


def _row(score, says, truth, confusion) -> dict:
    return {
        "episodes": confusion(says.any(1), truth.any(1), score.max(1)),
        "steps": confusion(says.ravel(), truth.ravel(), score.ravel()),
    }


def main() -> None:
    parser = command(__doc__, BARS)
    parser.add_argument("data", type=Path, help="the folder of the recordings TASK-mix and TASK-held")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", default=list(PROMPTS), choices=list(PROMPTS))
    parser.add_argument("--reader-updates", type=int, default=2000, help="of the oracle's network (default: 2000)")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    write_results("judges", {task: study(task, args.data, args.out, args.reader_updates) for task in args.tasks})


if __name__ == "__main__":
    main()
