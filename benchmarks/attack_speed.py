"""Did mending cost speed? Seconds of a step here and at another commit, in turns, by two processes of one machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
PROCESSES, TURNS = 7, 24  # pairs of processes, and how often each of a pair steps
WORKER = """
import json, sys, time
import gymnasium as gym, numpy as np
import wm_gym
world, batch, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
kwargs = dict(world=world, max_episode_steps=-1, terminate_on_success=False)
env = gym.make("wm_gym/World-v0", **kwargs) if batch == 1 else gym.make_vec("wm_gym/World-v0", batch, **kwargs)
env.reset(seed=0)
action = np.zeros(env.action_space.shape, np.float32)
print(json.dumps(wm_gym.__file__), flush=True)
for line in sys.stdin:
    started = time.perf_counter()
    for _ in range(steps):
        env.step(action)
    print(json.dumps((time.perf_counter() - started) / steps), flush=True)
"""


def measure(world: str, commit: str, batches: dict[int, int]) -> dict[str, dict]:
    """For each batch size (and steps a turn): the ratio here / there of neighbouring turns' times.

    Where a process's memory happens to lie moves its steps by some per cent for as long as it lives, so several pairs
    of processes are asked: the median of their medians, and its bootstrap interval over them.
    """
    with tempfile.TemporaryDirectory() as scratch:
        there = Path(scratch) / "there"
        subprocess.run(["git", "worktree", "add", "--detach", "--quiet", str(there), commit], cwd=ROOT, check=True)
        try:
            return {str(batch): _paired(world, there, batch, steps) for batch, steps in batches.items()}
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(there)], cwd=ROOT, check=True)


def _paired(world: str, there: Path, batch: int, steps: int) -> dict:
    world = str(Path(world).resolve()) if Path(world).is_dir() else str(ROOT / "envs" / world)
    turns = np.array([_turns(world, there, batch, steps) for _ in range(PROCESSES)])
    ratios = np.median(turns[..., 0] / turns[..., 1], axis=1)
    medians = np.median(np.random.default_rng(0).choice(ratios, (2000, len(ratios))), axis=1)
    here, before = np.median(turns, axis=(0, 1))
    found = {
        "ms_here": round(1e3 * float(here), 3),
        "ms_before": round(1e3 * float(before), 3),
        "ratio": round(float(np.median(ratios)), 4),
        "ratios": ratios.round(4).tolist(),
        "turns": TURNS,
        "interval_95": [round(float(q), 4) for q in np.quantile(medians, (0.025, 0.975))],
    }
    print(f"batch {batch}: {found}", flush=True)
    return found


def _turns(world: str, there: Path, batch: int, steps: int) -> list[list[float]]:
    """Seconds of a step [turn][here, there] of one pair of processes."""
    workers, turns = [_Worker(tree, world, batch, steps) for tree in (ROOT, there)], []
    for i in range(-2, TURNS):  # who begins changes, so that neither always runs into the other's heat
        taken = {worker: worker.turn() for worker in (workers if i % 2 else workers[::-1])}
        turns += [[taken[worker] for worker in workers]] if i >= 0 else []  # the first two warm up
    for worker in workers:
        worker.close()
    return turns


class _Worker:
    """A process that steps in one checkout."""

    def __init__(self, tree: Path, world: str, batch: int, steps: int):
        environment = os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, world, str(batch), str(steps)],
            cwd=tree,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        imported = json.loads(self.process.stdout.readline())
        if Path(imported).resolve().parents[1] != tree.resolve():
            raise SystemExit(f"the process of {tree} imported {imported}")

    def turn(self) -> float:
        """Seconds of a step."""
        print(file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
