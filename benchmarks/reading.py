"""Is a dataset that does not fit into memory read fast enough to train on? Linux, as root (a memory cgroup).

    wm-gym record wm_gym/PushPyBullet-v0 --episodes 1000 --out data/push
    python benchmarks/reading.py data/push --size 96 --gigabytes 1.2

The process that trains may use so much memory, page cache included; the dataset's decoded frames must be larger. Per
stage of a training: the samples a second that reading its batches alone would give, and those that the rest of its
updates would.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from common import Bar, command, write_results

UPDATES = 100
STAGES = ("tokenizer", "dynamics", "heads")
BARS = {
    "reading": [
        Bar(f"samples read in the time of one trained, {stage}", ("samples_a_second", stage, "ratio"), least=2)
        for stage in STAGES
    ]
}


@contextmanager
def limited(memory: int):
    """A memory cgroup with a limit in bytes; yields its folder."""
    old = Path("/sys/fs/cgroup/memory")
    folder = (old if old.is_dir() else Path("/sys/fs/cgroup")) / f"wm-gym-{os.getpid()}"
    folder.mkdir()
    try:
        (folder / ("memory.limit_in_bytes" if old.is_dir() else "memory.max")).write_text(str(memory))
        yield folder
    finally:
        folder.rmdir()


def rates(batch: int, stage: Callable, *given) -> dict[str, float]:
    """Samples a second of a stage's batches alone, of the rest of its updates, and the ratio of the two.

    The profiler tells the library's functions apart by name: `fit` trains, and calls the stage's `batch` for samples.
    """
    profile = cProfile.Profile()
    profile.runcall(stage, *given)
    spent = {
        name: total for (file, _, name), (_, _, _, total, _) in pstats.Stats(profile).stats.items() if "wm_gym" in file
    }
    read, trained = (batch * UPDATES / seconds for seconds in (spent["batch"], spent["fit"] - spent["batch"]))
    return {"read": round(read), "trained": round(trained), "ratio": round(read / trained, 1)}


def inside(dataset: str, size: int | None, out: Path) -> None:
    """What the limited process does: train each stage, and see how long its batches take of that."""
    import torch

    from wm_gym.data import open_clips
    from wm_gym.training import stages, trainer
    from wm_gym.training.build import new_world
    from wm_gym.training.presets import PRESETS

    torch.set_num_threads(1)
    sizes = replace(PRESETS["small"], **{f"{stage}_updates": UPDATES for stage in STAGES})
    clips = open_clips(dataset, size=size and (size, size), progress=False)
    run = trainer.begin_run(out, sizes, 0, cpu=True, progress=False)
    world = new_world(trainer.spec_of(clips, "Reading-v0"), sizes, 0)
    trainer.fit_statistics(world, clips)
    background = trainer.median_frame(clips, 0)
    found = {"tokenizer": rates(sizes.tokenizer_batch, stages.train_tokenizer, run, world, clips, background)}
    latents = stages.encode_all(run, world.tokenizer, clips, world.spec.latent_shape)
    given = (run, world, clips, latents)
    found["dynamics"] = rates(sizes.dynamics_batch, stages.train_dynamics, *given, background)
    found["heads"] = rates(sizes.dynamics_batch, stages.train_heads, *given)
    write_results(
        "reading",
        {
            "frames": len(clips.frames),
            "frames_gigabytes": clips.frames.nbytes / 1e9,
            "memory_limit_gigabytes": float(os.environ["WM_GYM_MEMORY_LIMIT"]) / 1e9,
            "peak_resident_gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
            "samples_a_second": found,
        },
    )


def main() -> None:
    parser = command(__doc__, BARS)
    parser.add_argument("dataset")
    parser.add_argument("--size", type=int, help="resize the frames to this square (default: as they are)")
    parser.add_argument("--gigabytes", type=float, default=1.2, help="of memory for the process (default: 1.2)")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        return inside(args.dataset, args.size, args.inside)
    memory = int(args.gigabytes * 1e9)
    with limited(memory) as group, tempfile.TemporaryDirectory() as scratch:
        limited_run = [sys.executable, __file__, args.dataset, "--inside", f"{scratch}/run"]
        limited_run += ["--size", str(args.size)] if args.size else []
        environment = os.environ | {"WM_GYM_CACHE": f"{scratch}/cache", "WM_GYM_MEMORY_LIMIT": str(memory)}
        subprocess.run(
            limited_run,
            check=True,
            env=environment,
            preexec_fn=lambda: (group / "cgroup.procs").write_text(str(os.getpid())),
        )


if __name__ == "__main__":
    main()
