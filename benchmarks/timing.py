"""How are two things timed against each other on a noisy machine? In turn, in one run, block by block."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch


def alternate(workloads: dict[str, Callable[[], int]], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Frames per second of each workload in each round; a workload does one portion of its work a call and returns
    how many frames that was. All take turns of about `seconds`, so that they share whatever the machine is doing."""
    rates: dict[str, list[float]] = {name: [] for name in workloads}
    for work in workloads.values():
        work()
    for _ in range(rounds):
        for name, work in workloads.items():
            frames, started = 0, time.perf_counter()
            while (took := time.perf_counter() - started) < seconds:
                frames += work()
            rates[name].append(frames / took)
    return rates


def ratio(rates: dict[str, list[float]], fast: str, slow: str) -> dict[str, float]:
    """How many times faster, round by round: median, least and most."""
    each = np.array(rates[fast]) / np.array(rates[slow])
    return {
        "median": round(float(np.median(each)), 2),
        "least": round(float(each.min()), 2),
        "most": round(float(each.max()), 2),
    }


def gemm_flops(device: str = "cpu", dtype: torch.dtype = torch.float32, size: int = 1024) -> Callable[[], int]:
    """A square matrix product as a workload; its "frames" are floating-point operations."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))

    def work() -> int:
        a @ b
        if device != "cpu":
            torch.cuda.synchronize()
        return 2 * size**3

    return work
