"""What is in a dataset, in one page of text: episodes, cameras, the range of each number, and what looks odd."""

from __future__ import annotations

from collections import Counter
from typing import TypedDict

import numpy as np

from wm_gym.data.formats.lerobot_schema import CAMERA_PREFIX, INDEX_FEATURES
from wm_gym.data.formats.reader import Reader


class Range(TypedDict):
    """What values one number of a column takes."""

    name: str
    min: float
    max: float
    mean: float
    std: float
    wraps: int
    """Steps within an episode that jump by more than pi: an angle that passes +-pi."""


class Length(TypedDict):
    """How many frames the episodes have."""

    min: int
    median: float
    max: int


class Summary(TypedDict):
    """What is in a dataset, as JSON holds it; where damaged episodes are left out, all else is about the others."""

    dataset: str
    format: str
    fps: float
    episodes: int
    frames: int
    seconds: float
    length: Length
    cameras: dict[str, list[int]]
    """{name: [height, width]}."""
    tasks: dict[str, int]
    """{text: episodes}."""
    damaged: dict[str, str]
    """{episode: why}, as far as it is found without decoding any frame."""
    columns: dict[str, list[Range]]


def summarize(reader: Reader) -> Summary:
    """The summary of an open dataset, from its numbers; no frame is read."""
    columns = reader.columns([key for key in reader.number_keys() if key not in INDEX_FEATURES])
    rows, offset = reader.sound_rows()
    length = np.diff(offset)
    return {
        "dataset": str(reader.root),
        "format": reader.format,
        "fps": reader.fps,
        "episodes": len(length),
        "frames": len(rows),
        "seconds": len(rows) / reader.fps,
        "length": {"min": int(length.min()), "median": float(np.median(length)), "max": int(length.max())},
        "cameras": {key.removeprefix(CAMERA_PREFIX): list(reader.frame_size(key)) for key in reader.cameras},
        "tasks": dict(Counter(reader.tasks[e] for e in reader.sound)),
        "damaged": {reader.name(e): why for e, why in sorted(reader.damaged.items())},
        "columns": {key: _numbers(reader, key, value[rows], offset) for key, value in columns.items()},
    }


def wraps(values: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """How often each of values [N, D] jumps by more than pi within an episode, int64 [D]; 0 for what is no angle."""
    jump = np.abs(np.diff(values.astype(np.float64), axis=0)) > np.pi
    jump[offset[1:-1] - 1] = False  # from one episode to the next
    return jump.sum(0) * (np.abs(values).max(0) <= np.pi + 1e-3)


def _numbers(reader: Reader, key: str, value: np.ndarray, offset: np.ndarray) -> list[Range]:
    value = value.reshape(len(value), -1).astype(np.float64)
    angles, size = wraps(value, offset), value.shape[1]
    return [
        {
            "name": name,
            "min": float(value[:, i].min()),
            "max": float(value[:, i].max()),
            "mean": float(value[:, i].mean()),
            "std": float(value[:, i].std()),
            "wraps": int(angles[i]),
        }
        for i, name in enumerate(reader.names(key, size) or map(str, range(size)))
    ]


def summary_text(summary: Summary) -> str:
    """The same as text for a terminal."""
    length = summary["length"]
    lines = [
        f"{summary['dataset']}: {summary['format']}, {summary['episodes']} episodes, {summary['frames']:,} frames, "
        f"{summary['fps']:g} a second ({summary['seconds'] / 60:.1f} min)",
        f"  length of an episode: {length['min']} to {length['max']} frames, median {length['median']:g}",
        "  cameras: " + (", ".join(f"{name} {h}x{w}" for name, (h, w) in summary["cameras"].items()) or "none"),
    ]
    lines[1:1] = [f"  damaged, and left out below: episode {name}: {why}" for name, why in summary["damaged"].items()]
    several = sorted(summary["tasks"].items(), key=lambda item: -item[1])
    lines += [f"  task: {task or '(none given)'} - {count} episodes" for task, count in several[:8]]
    if len(several) > 8:
        lines.append(f"  and {len(several) - 8} more tasks")
    for key, numbers in summary["columns"].items():
        lines.append(f"  {key}")
        lines += [
            f"    {one['name']:<20} {one['min']:>10.4g} to {one['max']:<10.4g} mean {one['mean']:<10.4g} std "
            f"{one['std']:.4g}" + (f"  wraps around +-pi {one['wraps']} times" if one["wraps"] else "")
            for one in numbers[:16]
        ]
        if len(numbers) > 16:
            lines.append(f"    and {len(numbers) - 16} more")
    if "action" not in summary["columns"]:
        lines.append("  no actions: a world model cannot be conditioned on them")
    return "\n".join(lines)
