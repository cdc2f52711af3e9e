"""What are labels worth after pretraining on video alone? Worlds from 1, 10 and 100 % of them, on Drawer.

    wm-gym record wm_gym/DrawerPyBullet-v0 --episodes 1000 --seed 100 --out data/drawer-mix
    wm-gym record wm_gym/DrawerPyBullet-v0 --episodes 200 --seed 900 --out data/drawer-held
    python benchmarks/studies/labels.py data/drawer-mix data/drawer-held --out runs/labels

"scratch" sees the labelled episodes only; "tokenizer" also has the tokenizer of the pretrained world; "pretrained" goes
on from that world, which has watched all episodes without their actions.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import Bar, command, write_results
from conditioning import ask, fit_reader

FRACTIONS = (0.01, 0.1, 1.0)
STARTS = ("scratch", "tokenizer", "pretrained")
SIZES = {
    "dynamics_batch": 32,
    "rollout_lengths": (2, 4, 8),
    "heads_updates": 0,
    "uncertainty_updates": 0,
    "report_every": 10**9,
    "tokenizer_updates": 1200,
    "pose_updates": 1500,
}
BARS = {
    "labels": [
        Bar(
            f"what true actions give after 4 steps, {fraction:.0%} of the labels, {way}, dB",
            lambda found, fraction=fraction, way=way: next(
                one["delta_psnr_shuffled"]["mean"]
                for one in found["worlds"]
                if (one["fraction"], one["way"]) == (fraction, way)
            ),
            show="{:.1f}",
        )
        for fraction in FRACTIONS
        for way in STARTS
    ]
}


def one(way: str, fraction: float, seed: int, args: argparse.Namespace) -> dict:
    """Train a world on some of the labels and ask it."""
    import numpy as np

    from wm_gym.data import open_clips
    from wm_gym.data.curation.selection import Selection
    from wm_gym.training import train
    from wm_gym.worlds.world import World

    file = args.out / f"{way}-{fraction}-{seed}.json"
    if file.is_file():
        return json.loads(file.read_text())
    clips = open_clips(args.dataset, progress=False)
    left_out = np.random.default_rng(seed).permutation(len(clips))[max(2, round(fraction * len(clips))) :]
    Selection(clips.meta["dataset_hash"], {int(e): ["labels"] for e in left_out}).save(file.with_suffix(".filter"))
    sizes = SIZES | {"dynamics_updates": args.updates}
    init = {"scratch": None, "tokenizer": args.out / "untrained", "pretrained": args.out / "watched"}[way]
    if init:
        sizes["tokenizer_updates"] = 0
    world = train(
        args.dataset,
        args.out / f"{way}-{fraction}-{seed}",
        overrides=sizes,
        seed=seed,
        init=init,
        filters=[file.with_suffix(".filter")],
        progress=False,
        cpu=True,
        overwrite=True,
    )
    result = {
        "way": way,
        "fraction": fraction,
        "episodes": len(clips) - len(left_out),
        "seed": seed,
        **ask(World.from_pretrained(world), args.held, args.out, 1.0),
    }
    file.write_text(json.dumps(result))
    shutil.rmtree(world)
    return result


def watch(args: argparse.Namespace) -> None:
    """The world that has watched, and one with its tokenizer but dynamics that have not."""
    from wm_gym.data import open_clips
    from wm_gym.training import train
    from wm_gym.training.build import new_world
    from wm_gym.training.presets import PRESETS
    from wm_gym.worlds.world import World

    watched = args.out / "watched"
    if not (watched / "spec.yaml").is_file():
        sizes = SIZES | {"dynamics_updates": args.watch_updates}
        train(args.dataset, watched, overrides=sizes, action_free=True, cpu=True)
    world = World.from_pretrained(watched)
    new = new_world(world.spec, PRESETS["small"], 1, world.starts)
    new.tokenizer.load_state_dict(world.tokenizer.state_dict())
    new.save_pretrained(args.out / "untrained")
    fit_reader(open_clips(args.dataset), args.held, world.tokenizer, args.out)


def main() -> None:
    parser = command(__doc__, BARS)
    parser.add_argument("dataset")
    parser.add_argument("held")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--updates", type=int, default=1000, help="of the dynamics with labels (default: 1000)")
    parser.add_argument("--watch-updates", type=int, default=2000, help="without (default: 2000)")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    watch(args)
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(args.workers, mp_context=get_context("spawn")) as pool:
        waiting = [
            pool.submit(one, way, fraction, seed, args)
            for seed in range(args.seeds)
            for fraction in FRACTIONS
            for way in STARTS
        ]
        results = [each.result() for each in waiting]
    write_results("labels", {"updates": args.updates, "watch_updates": args.watch_updates, "worlds": results})


if __name__ == "__main__":
    main()
