"""How fast does a world step? Frames per second over back-ends, precisions and batch sizes, in one run.

    python benchmarks/stepping.py [WORLD] --batch 1 8 32 128

A step is the environment's: noise, actions checked, the engine, infos, and a copy of the frames. All combinations take
turns, round by round; the share of peak is of a matrix product timed in between, in the same type.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from common import Bar, command, write_results
from timing import alternate, gemm_flops
from torch.utils.flop_counter import FlopCounterMode

from wm_gym.core import WorldCore
from wm_gym.engine import KNOWN
from wm_gym.engine.base import TYPES, WorldStep, step_inputs
from wm_gym.engine.shared import load_world


def best(key: str, batch: int, pick=max) -> Callable[[dict], float]:
    """The best back-end's number at a batch size."""
    return lambda found: pick(row[key] for row in found["steps"] if row["batch"] == batch)


BARS = {
    "stepping_Push-v0_cpu": [
        Bar("batch 1, best back-end, median ms a step", best("ms", 1, min), most=5),
        *(
            Bar(f"batch {n}, best back-end, frames/s", best("frames_per_second", n), show="{:,.0f}")
            for n in (1, 8, 32, 128)
        ),
    ]
}


def flops_per_frame(world) -> int:
    """Floating-point operations of one frame's step, by torch's count of products and convolutions."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        WorldStep(world).eval()(*step_inputs(world, 1))
    return counter.get_total_flops()


def make_core(world, backend: str, device: str, precision: str, batch: int) -> WorldCore:
    """An environment that has been stepped once and goes on for ever; raises what hinders the back-end here."""
    core = WorldCore(
        world,
        batch,
        backend=backend,
        device=device,
        precision=precision,
        max_episode_steps=-1,
        terminate_on_success=False,
    )
    core.reset(seeds=list(range(batch)))
    core.step(np.zeros((batch, core.spec.action_dim), np.float32))
    return core


def usable(world, device: str, batches: list[int]) -> dict[tuple[str, str, int], WorldCore]:
    """An environment of every back-end, precision and batch size that runs here; the others are named with why not."""
    cores = {}
    for backend, needs in KNOWN.items():
        for precision in needs.precisions:
            try:
                for batch in batches:
                    cores[backend, precision, batch] = make_core(world, backend, device, precision, batch)
            except (ValueError, ImportError, RuntimeError) as error:
                print(f"not measured: {backend} {precision}: {error}")
    return cores


def row_of(backend: str, precision: str, batch: int, seconds: list[float]) -> dict:
    """What the seconds of each step say."""
    low, middle, high, top = (1e3 * float(np.quantile(seconds, q)) for q in (0.05, 0.5, 0.95, 0.99))
    return {
        "backend": backend,
        "precision": precision,
        "batch": batch,
        "frames_per_second": round(1e3 * batch / middle, 1),
        "ms": round(middle, 3),
        "ms_p5": round(low, 3),
        "ms_p95": round(high, 3),
        "ms_p99": round(top, 3),
    }


def times(core: WorldCore, seconds: float) -> list[float]:
    """Seconds of each step and copy of the frames, for about `seconds`."""
    actions, spent, started = np.zeros((core.num_envs, core.spec.action_dim), np.float32), [], time.perf_counter()
    while time.perf_counter() - started < seconds or not spent:
        before = time.perf_counter()
        core.step(actions)
        core.observation()
        spent.append(time.perf_counter() - before)
    return spent


def main() -> None:
    parser = command(__doc__, BARS)
    parser.add_argument("world", nargs="?", default="Push-v0")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each combination in each round (default: 2)")
    args = parser.parse_args()
    device = args.device if args.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    world = load_world(args.world)
    cores, flops = usable(world, device, args.batch), flops_per_frame(world)
    spent: dict = {key: [] for key in cores}
    products = {precision: gemm_flops(device, TYPES[precision]) for _, precision, _ in cores}
    peaks: dict[str, list[float]] = {precision: [] for precision in products}
    for _ in range(args.rounds):
        for precision, (peak,) in alternate(products, 1, 0.5).items():
            peaks[precision].append(peak)
        for key, core in cores.items():
            spent[key] += times(core, args.seconds)
    rows = []
    for (backend, precision, batch), seconds in spent.items():
        row = row_of(backend, precision, batch, seconds)
        share = flops * batch / float(np.median(seconds)) / float(np.median(peaks[precision]))
        rows.append(row | {"share_of_gemm_peak": round(share, 3)})
        print(
            f"{backend:12} {precision} batch {batch:5}: {row['frames_per_second']:9.1f} frames/s, {row['ms']:8.3f} ms"
        )
    card = torch.cuda.get_device_name(device) if device != "cpu" else None
    write_results(
        f"stepping_{world.spec.name}_{'cuda' if card else 'cpu'}",
        {
            "world": world.spec.name,
            "gpu": card,
            "flops_per_frame": flops,
            "gemm_flops": {precision: float(np.median(peak)) for precision, peak in peaks.items()},
            "steps": rows,
        },
    )


if __name__ == "__main__":
    main()
