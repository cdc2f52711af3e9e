"""How well does the text judge know what is true of a frame? By relation, in taught and in other words.

    for task in Push Drawer Reach; do
        wm-gym record wm_gym/${task}PyBullet-v0 --episodes N --seed 100 --out data/${task,,}-mix     # 1,000, 500, 300
        wm-gym record wm_gym/${task}PyBullet-v0 --episodes M --seed 900 --out data/${task,,}-held    # 200, 100, 100
    done
    python benchmarks/studies/text_judge.py data                      # the shipped weights
    python benchmarks/studies/text_judge.py data --train runs/text    # train others, then ask them

The AUROC and the share of right answers of up to 40 sentences a relation, on 1,500 held-out frames a task. Relations in
`HELD_OUT` were never taught.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from common import Bar, command, write_results

FRAMES, SENTENCES = 1500, 40
STAGES = (
    (("push", "drawer", "push", "reach"), 1.0),
    (("reach", "push", "reach", "drawer"), 0.5),
    (("drawn", "push", "drawn", "reach", "drawer"), 0.3),
)  # scenes in turn, and the share of the updates
BARS = {
    "text_judge": [
        *(
            Bar(f"AUROC of relations, {words}", ("auroc", words))
            for words in ("taught", "other words", "relations not taught")
        ),
        *(
            Bar(f"AUROC of success, {task}, taught words", ("success", task, "taught", "auroc"))
            for task in ("push", "drawer", "reach")
        ),
    ]
}


def train(data: Path, out: Path, updates: int) -> Path:
    """Push in every second update; then Reach alone in most, also with the hand put anywhere. Saved in fp16."""
    from wm_gym.data import open_clips
    from wm_gym.engine.shared import load_world
    from wm_gym.judges.text_training import Scenes, fit_text_margin

    tokenizers = {task: load_world(f"{task.title()}-v0").tokenizer for task in ("push", "drawer", "reach")}
    scenes = {
        task: Scenes.of(task, open_clips(data / f"{task}-mix"), tokenizer) for task, tokenizer in tokenizers.items()
    }
    scenes["drawn"] = Scenes.drawn("reach", 12_000, tokenizers["reach"])
    model = None
    for i, (order, share) in enumerate(STAGES):
        model = fit_text_margin(
            [scenes[task] for task in order],
            round(share * updates),
            seed=i,
            init=model,
            rate=3e-3 if model is None else 1.5e-3,
        )
    model.half().save_pretrained(out)
    return out


@torch.inference_mode()
def ask(model, task: str, data: Path, rng: np.random.Generator) -> dict:
    """Each relation of a task: {"true": share of frames, "taught" and "other" words: AUROC and accuracy, means}."""
    from wm_gym.data import open_clips
    from wm_gym.evaluation.trust.coverage import auroc
    from wm_gym.judges.captions import margins
    from wm_gym.judges.text_model import embed
    from wm_gym.judges.wordings import sentences
    from wm_gym.models.tokenizer import to_float

    clips = open_clips(data / f"{task}-held")
    rows = np.sort(rng.choice(len(clips.frames), FRAMES, replace=False))
    seen = model.encode(to_float(torch.from_numpy(clips.frames[rows])))
    found = {}
    for name, margin in margins(task, np.asarray(clips.physics_state)[rows], clips.proprioception[rows]).items():
        truth = margin > 0
        found[name] = {"true": float(truth.mean())}
        for words, taught in (("taught", True), ("other", False)):
            said = sentences(name, taught)
            said = [said[i] for i in rng.choice(len(said), min(SENTENCES, len(said)), replace=False)]
            weights, bias = model.ask(torch.from_numpy(embed(said)))
            score = (seen @ weights.T + bias).numpy()
            found[name][words] = {
                "sentences": len(said),
                "accuracy": float(((score > 0) == truth[:, None]).mean()),
                "auroc": float(np.mean([auroc(one[~truth], one[truth]) for one in score.T])),
            }
    return found


def main() -> None:
    parser = command(__doc__, BARS)
    parser.add_argument("data", type=Path, help="the folder of the recordings TASK-mix and TASK-held")
    parser.add_argument("--train", type=Path, default=None, metavar="OUT")
    parser.add_argument("--updates", type=int, default=6000)
    args = parser.parse_args()
    from wm_gym.judges.captions import HELD_OUT, RELATIONS
    from wm_gym.judges.text import WEIGHTS
    from wm_gym.judges.text_model import TextMargin

    weights = train(args.data, args.train, args.updates) if args.train else WEIGHTS
    model, rng = TextMargin.from_pretrained(weights, torch_dtype=torch.float32).eval(), np.random.default_rng(0)
    found = {task: ask(model, task, args.data, rng) for task in RELATIONS}
    rows = [(name, row) for task in found.values() for name, row in task.items()]
    known = [row for name, row in rows if name not in HELD_OUT]
    write_results(
        "text_judge",
        {
            "auroc": {
                "taught": float(np.mean([row["taught"]["auroc"] for row in known])),
                "other words": float(np.mean([row["other"]["auroc"] for row in known])),
                "relations not taught": float(
                    np.mean([row["taught"]["auroc"] for name, row in rows if name in HELD_OUT])
                ),
            },
            "success": {task: next(iter(found[task].values())) for task in found},
            "relations": found,
        },
    )


if __name__ == "__main__":
    main()
