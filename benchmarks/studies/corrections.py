"""Do the corrections of real data matter: the lag between actions and video, and angles that wrap? On DROID episodes.

    python benchmarks/studies/corrections.py ../shared/data/droid_lerobot --out runs/corrections

Four worlds a seed, on one tokenizer: as `wm-gym data curate` finds the data ("as found"), each action moved by a frame
either way, and angles taken for plain numbers ("not wrapped"). All are asked on their training scenes, each with
its own lag.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import Bar, command, write_results

VARIANTS = {"as found": 0, "one frame later": 1, "one frame earlier": -1, "not wrapped": 0}
SIZES = {
    "pose_updates": 1500,
    "dynamics_updates": 800,
    "heads_updates": 0,
    "uncertainty_updates": 0,
    "dynamics_batch": 32,
    "rollout_lengths": (2, 4),
    "report_every": 10**9,
}
FIRST = {"tokenizer_updates": 1500, "dynamics_updates": 0}
FRAME_SIZE = (64, 96)
HORIZONS = (1, 4, 10)
BARS = {
    "corrections": [
        Bar(
            f"what true actions give after 4 steps, {variant}, seed {seed}, dB",
            lambda found, variant=variant, seed=seed: next(
                one["4"]["shuffled"]["mean"]
                for one in found["worlds"]
                if (one["variant"], one["seed"]) == (variant, seed)
            ),
            show="{:.2f}",
        )
        for variant in VARIANTS
        for seed in (0, 1)
    ]
}


def one(variant: str, seed: int, dataset: str, out: Path) -> dict:
    """Train a variant and ask it."""
    from wm_gym.data import open_clips
    from wm_gym.data.curation.selection import Selection, select
    from wm_gym.engine.torch import TorchEngine
    from wm_gym.evaluation.control_worlds import learned
    from wm_gym.evaluation.episodes import Episodes
    from wm_gym.evaluation.metrics.control import delta_psnr
    from wm_gym.training.segments import split_episodes
    from wm_gym.training.trainer import train
    from wm_gym.worlds.world import World

    file = out / f"{variant.replace(' ', '-')}-{seed}.json"
    if file.is_file():
        return json.loads(file.read_text())
    if variant == "not wrapped":
        dataset = without_angles(Path(dataset), out / f"numbers-{seed}")
    plain = open_clips(dataset, size=FRAME_SIZE, progress=False)
    chosen = Selection(plain.meta["dataset_hash"], action_lag=VARIANTS[variant])
    chosen.save(file.with_suffix(".filter"))
    folder = train(
        dataset,
        file.with_suffix(""),
        size=FRAME_SIZE,
        seed=seed,
        overrides=SIZES | {"tokenizer_updates": 0},
        init=out / "frames",
        filters=[file.with_suffix(".filter")],
        progress=False,
        cpu=True,
        overwrite=True,
    )
    world, clips = World.from_pretrained(folder), select(plain, chosen)
    _, held = split_episodes(clips)
    scenes = select(clips, Selection(clips.meta["dataset_hash"], {int(e): ["held out"] for e in held}))
    result: dict = {"variant": variant, "seed": seed}
    for steps in HORIZONS:
        pieces = Episodes.of(scenes, steps, every=max(2, steps // 2))
        found = delta_psnr({"w": learned(world, TorchEngine(world))}, pieces, world.spec, steps)["w"]
        result[str(steps)] = {key: found[key] for key in ("psnr_true_db", "shuffled")}
    file.write_text(json.dumps(result))
    return result


def without_angles(dataset: Path, copy: Path) -> str:
    """A copy of a LeRobot dataset in which no component's name says that it is an angle."""
    shutil.copytree(dataset, copy, dirs_exist_ok=True)
    info = json.loads((copy / "meta" / "info.json").read_text())
    for key in ("action", "observation.state"):
        info["features"][key]["names"] = [f"{name}_number" for name in info["features"][key]["names"]]
    (copy / "meta" / "info.json").write_text(json.dumps(info))
    return str(copy)


def main() -> None:
    parser = command(__doc__, BARS)
    parser.add_argument("dataset")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if not (args.out / "frames" / "spec.yaml").is_file():  # a tokenizer, and dynamics that have learned nothing
        from wm_gym.training import train

        train(args.dataset, args.out / "frames", size=FRAME_SIZE, overrides=SIZES | FIRST, action_free=True, cpu=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(args.workers, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        waiting = [
            pool.submit(one, variant, seed, args.dataset, args.out)
            for seed in range(args.seeds)
            for variant in VARIANTS
        ]
        results = [each.result() for each in waiting]
    write_results("corrections", {"worlds": results})


if __name__ == "__main__":
    main()
