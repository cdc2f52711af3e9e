"""What does a GPU give? The CUDA tests, every back-end and batch size, TensorRT, a short training: in one call.

    python benchmarks/gpu.py                                # on a machine with a CUDA device
    python benchmarks/gpu.py --preset tiny --device cpu     # rehearses every part, on any machine

Each number is written as soon as it is known, into results/gpu.json (a rehearsal's into runs/gpu_rehearsal.json). A
part that fails is written with its error, and the next one begins. `--parts` does some of them.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
import torch
from common import RESULTS, Bar, about, command
from stepping import make_core, row_of, times
from timing import alternate
from versus_physics import stepped

from wm_gym.common.files import write_json
from wm_gym.common.registry import registered
from wm_gym.engine import KNOWN
from wm_gym.engine.shared import load_world

ROOT = Path(__file__).resolve().parents[1]
REHEARSAL = ROOT / "runs" / "gpu_rehearsal.json"
TESTS = ("tests/test_engine.py", "tests/test_world.py", "tests/test_tensorrt.py", "tests/test_determinism.py")


@dataclass(frozen=True)
class Size:
    """How much is done."""

    tests: tuple[str, ...]
    batches: tuple[int, ...]
    seconds: float  # of each back-end and batch size
    episodes: int  # recorded to train on
    training: str  # the world's preset
    updates: int  # of each of its stages


SIZES = {
    "full": Size(TESTS, (1, 8, 32, 128, 512, 1024, 4096), 2.0, 100, "base", 300),
    "tiny": Size(("tests/test_engine.py", "-k", "gpu"), (1, 4), 0.1, 4, "tiny", 2),
}


def best(key: str, batch: int | None = None, pick: Callable = max) -> Callable[[dict], float | None]:
    """The best back-end's number, at a batch size or at any."""

    def read(found: dict) -> float | None:
        rows = [row for row in found.get("steps", {}).values() if key in row and batch in (None, row["batch"])]
        return pick(row[key] for row in rows) if rows else None

    return read


def over_twin(found: dict) -> float | None:
    """Frames a second of the best back-end over those of the physics twin on all cores."""
    fastest, twin = best("frames_per_second")(found), found.get("twin", {}).get("frames_per_second")
    return fastest / twin if fastest and twin else None


BARS = {
    "gpu": [
        Bar("exit status of the CUDA tests", lambda found: found.get("tests", {}).get("status"), most=0),
        Bar("frames/s at the best batch", best("frames_per_second"), least=100_000, show="{:,.0f}"),
        Bar("batch 1, median ms a step", best("ms", 1, min), most=2),
        Bar("times as fast as the twin on all cores", over_twin, least=100),
        Bar("seconds to build TensorRT's engine", lambda found: found.get("tensorrt", {}).get("build_s")),
        Bar("seconds of a short training", lambda found: found.get("training", {}).get("seconds")),
    ]
}


def cuda_tests(world: str, device: str, size: Size) -> Iterator[dict]:
    """Those of the repository that want a GPU, beside the others of their files."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", *size.tests],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    yield {"status": done.returncode, "last_lines": done.stdout.splitlines()[-12:]}


def steps(world: str, device: str, size: Size) -> Iterator[dict]:
    """Frames/s and milliseconds a step (median and percentiles) of every back-end, precision and batch size."""
    loaded = load_world(world)
    for backend, needs in KNOWN.items():
        for precision in needs.precisions:
            for batch in size.batches:
                name = f"{backend} {precision} batch {batch}"
                try:
                    started = time.perf_counter()
                    core = make_core(loaded, backend, device, precision, batch)
                    ready = time.perf_counter() - started
                    spent = times(core, size.seconds)
                except (ValueError, ImportError, RuntimeError) as error:
                    yield {name: {"not_measured": f"{type(error).__name__}: {str(error)[:300]}"}}
                    break  # larger batches would meet it again
                row = row_of(backend, precision, batch, spent)
                yield {name: row | {"ready_s": round(ready, 2)}}
                del core


def tensorrt(world: str, device: str, size: Size) -> Iterator[dict]:
    """An engine built of the exported step, and run once where there is a GPU."""
    if not any(map(importlib.util.find_spec, KNOWN["tensorrt"].packages)):
        yield {"not_measured": f"none of {KNOWN['tensorrt'].packages} is installed"}
        return
    from wm_gym.engine.onnx import export_step
    from wm_gym.engine.tensorrt import build_engine, import_tensorrt

    loaded, started = load_world(world), time.perf_counter()
    try:
        engine = build_engine(export_step(loaded, 1, precision="bf16"))
    except Exception as error:  # data-centre TensorRT needs a GPU to build
        yield {"package": import_tensorrt().__name__, "not_built": f"{type(error).__name__}: {str(error)[:300]}"}
        return
    yield {
        "package": import_tensorrt().__name__,
        "version": import_tensorrt().__version__,
        "build_s": round(time.perf_counter() - started, 2),
        "engine_mb": round(len(engine) / 2**20, 2),
    }
    if device != "cpu":
        yield {"a_step_ms": round(1e3 * min(times(make_core(loaded, "tensorrt", device, "bf16", 1), 0.5)), 3)}


def twin(world: str, device: str, size: Size) -> Iterator[dict]:
    """Frames/s of the world's physics twin, a process a core."""
    entry, processes = registered(load_world(world).spec.twin, "twin"), len(os.sched_getaffinity(0))
    envs = gym.vector.AsyncVectorEnv([lambda: gym.make(entry)] * processes, context="spawn")
    rates = alternate({"twin": stepped(envs)}, 1, 10 * size.seconds)
    envs.close()
    yield {"processes": processes, "frames_per_second": round(rates["twin"][0], 1)}


def training(world: str, device: str, size: Size) -> Iterator[dict]:
    """Seconds of each stage of a world that is trained for a few updates, on recordings of its own."""
    from wm_gym.collect.record import record
    from wm_gym.training.trainer import train

    stages = ("tokenizer", "pose", "dynamics", "heads", "uncertainty")
    with tempfile.TemporaryDirectory() as scratch:
        data = record(
            "wm_gym/ReachPyBullet-v0", size.episodes, policy="mix", out=Path(scratch) / "data", seed=0, progress=False
        )
        started = time.perf_counter()
        out = train(
            data,
            Path(scratch) / "world",
            preset=size.training,
            overrides={f"{stage}_updates": size.updates for stage in stages} | {"checkpoint_every": size.updates},
            cpu=device == "cpu",
            progress=False,
        )
        spent = json.loads(next(out.parent.glob("world.log/seconds.json")).read_text())
        yield {
            "preset": size.training,
            "updates_a_stage": size.updates,
            "seconds": round(time.perf_counter() - started, 1),
            "stages_s": spent,
        }


PARTS = {"tests": cuda_tests, "steps": steps, "tensorrt": tensorrt, "twin": twin, "training": training}


def main() -> None:
    parser = command(__doc__, BARS)
    parser.add_argument("--preset", choices=SIZES, default="full")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: a rehearsal")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--world", default="Push-v0")
    parser.add_argument("--out", type=Path, help="(default: results/gpu.json, a rehearsal's in runs/)")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no CUDA device; to rehearse: --preset tiny --device cpu")
    out = args.out or (REHEARSAL if args.device == "cpu" else RESULTS / "gpu.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    card = torch.cuda.get_device_name() if args.device == "cuda" else None
    asked = {"gpu": card, "device": args.device, "preset": args.preset, "world": args.world}
    results = about() | asked
    before = json.loads(out.read_text()) if out.is_file() else {}
    if all(before.get(key) == results[key] for key in ("commit", *asked)):
        results = before | results  # the other parts of the same code stand
    failed = []
    for part in args.parts:
        results[part] = {}
        try:
            for found in PARTS[part](args.world, args.device, SIZES[args.preset]):
                results[part] |= found
                write_json(out, results, indent=1)
                print(part, found, flush=True)
        except Exception:
            failed.append(part)
            results[part]["failed"] = traceback.format_exc()[-2000:]
            write_json(out, results, indent=1)
            print(part, results[part]["failed"], flush=True)
    print(f"written: {out}" + f"; failed: {', '.join(failed)}" * bool(failed))
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
