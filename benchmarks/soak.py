"""Does a world step as fast after 20,000 steps as at the start, in the same memory?

    python benchmarks/soak.py [WORLD] --steps 20000

Each block of steps is followed by a matrix product of fixed size: the block's time is divided by the product's, so that
a machine that slows down does not look like a leak. Episodes end and are reset on the way.
"""

from __future__ import annotations

import resource
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from common import Bar, command, write_results
from timing import gemm_flops

import wm_gym  # noqa: F401  registers the ids

BLOCK = 100
BARS = {
    "soak_Push-v0": [
        Bar("time of a step, last tenth over first", ("last_tenth_over_first",), 0.85, 1.15),
        Bar(
            "memory that the last tenth adds, MB", lambda found: found["memory_mb"][-1] - found["memory_mb"][-2], most=1
        ),
        Bar("steps", ("steps",), least=20_000, show="{:,}"),
    ]
}


def resident_megabytes() -> float:
    """Memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def main() -> None:
    parser = command(__doc__, BARS)
    parser.add_argument("world", nargs="?", default="Push-v0")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--precision", default="auto")
    args = parser.parse_args()
    envs = gym.make_vec("wm_gym/World-v0", args.batch, world=args.world, precision=args.precision)
    engine = envs.unwrapped.core.engine
    reference = gemm_flops(str(engine.device), size=1024)
    envs.action_space.seed(0)
    envs.reset(seed=0)
    blocks, kernels, memory = [], [], []
    for _ in range(args.steps // BLOCK):
        started = time.perf_counter()
        for _ in range(BLOCK):
            envs.step(envs.action_space.sample())
        blocks.append(time.perf_counter() - started)
        started = time.perf_counter()
        for _ in range(20):
            reference()
        kernels.append(time.perf_counter() - started)
        memory.append(resident_megabytes() if engine.device.type == "cpu" else torch.cuda.memory_allocated() / 2**20)
    relative, tenth = np.array(blocks) / np.array(kernels), max(1, len(blocks) // 10)
    first, last = float(np.median(relative[:tenth])), float(np.median(relative[-tenth:]))
    write_results(
        f"soak_{envs.unwrapped.core.spec.name}",
        {
            "steps": args.steps,
            "batch": args.batch,
            "engine": engine.name,
            "precision": engine.precision,
            "device": str(engine.device),
            "ms_a_step": round(1e3 * float(np.median(blocks)) / BLOCK, 3),
            "last_tenth_over_first": round(last / first, 4),
            "tenths_over_first": [round(float(np.median(part)) / first, 4) for part in np.array_split(relative, 10)],
            "memory_mb": [round(memory[-1], 1) for memory in np.array_split(memory, 10)],
        },
    )


if __name__ == "__main__":
    main()
