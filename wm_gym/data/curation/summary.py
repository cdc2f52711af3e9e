"""What is in a dataset, in one page of text: episodes, cameras, the range of each number, and what looks odd."""

import numpy as np

from wm_gym.data.formats.lerobot_schema import CAMERA_PREFIX, INDEX_FEATURES


def summarize(reader):
    """Describe an open dataset (reader.Reader) as a dictionary that JSON can hold; reads the numbers, not the frames.

    columns: {key: [{"name", "min", "max", "mean", "std", "wraps"}]}, wraps counting the steps within an episode that
    jump by more than pi: an angle that passes +-pi. Where the reader leaves damaged episodes out, "damaged" has those
    found without decoding any frame, and all else is about the others.
    """
    columns = reader.columns([key for key in reader.number_keys() if key not in INDEX_FEATURES])
    rows, offset = reader.sound_rows()
    length, tasks = np.diff(offset), {}
    for e in reader.sound:
        tasks[reader.tasks[e]] = tasks.get(reader.tasks[e], 0) + 1
    return {
        "dataset": str(reader.root),
        "format": reader.format,
        "fps": reader.fps,
        "episodes": len(length),
        "frames": len(rows),
        "seconds": len(rows) / reader.fps,
        "length": {"min": int(length.min()), "median": float(np.median(length)), "max": int(length.max())},
        "cameras": {key.removeprefix(CAMERA_PREFIX): list(reader.frame_size(key)) for key in reader.cameras},
        "tasks": tasks,
        "damaged": {reader.name(e): why for e, why in sorted(reader.damaged.items())},
        "columns": {key: _numbers(reader, key, value[rows], offset) for key, value in columns.items()},
    }


def wraps(values, offset):
    """Count, in each column of values [N, D], the steps within an episode that jump by more than pi -> int64 [D]."""
    jump = np.abs(np.diff(values.astype(np.float64), axis=0)) > np.pi
    jump[offset[1:-1] - 1] = False  # from one episode to the next
    return jump.sum(0)


def _numbers(reader, key, value, offset):
    value = value.reshape(len(value), -1).astype(np.float64)
    names = reader.features[key].get("names")
    names = names if isinstance(names, list) and len(names) == value.shape[1] else range(value.shape[1])
    angles = wraps(value, offset) * (np.abs(value).max(0) <= np.pi + 1e-3)
    return [
        {
            "name": str(name),
            "min": float(value[:, i].min()),
            "max": float(value[:, i].max()),
            "mean": float(value[:, i].mean()),
            "std": float(value[:, i].std()),
            "wraps": int(angles[i]),
        }
        for i, name in enumerate(names)
    ]


def summary_text(summary):
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
