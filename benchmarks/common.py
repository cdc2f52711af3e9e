"""What does every benchmark write? A JSON file with its numbers, the machine, the versions and the commit."""

from __future__ import annotations

import json
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

from wm_gym.common.files import write_json

RESULTS = Path(__file__).parent / "results"


def about() -> dict:
    """The machine, the versions of what was run, the commit and the day."""
    import torch

    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=Path(__file__).parent
    ).stdout.strip()
    packages = ("torch", "gymnasium", "stable-baselines3", "openvino", "pybullet", "numpy", "diffusers")
    return {
        "machine": {"processor": _processor(), "threads": torch.get_num_threads(), "python": platform.python_version()},
        "versions": {p: _version(p) for p in packages},
        "commit": commit,
        "date": time.strftime("%Y-%m-%d"),
    }


def write_results(name: str, numbers: dict) -> Path:
    """Write `benchmarks/results/<name>.json` and print it."""
    path = RESULTS / f"{name}.json"
    write_json(path, {**about(), **numbers}, indent=1)
    print(json.dumps(numbers, indent=1), f"\nwritten: {path}")
    return path


def _version(package: str) -> str | None:
    try:
        return version(package)
    except ImportError:
        return None


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor()
