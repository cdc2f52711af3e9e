"""How far does a dataset folder that is there already hold, and may this process go on writing to it?"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from wm_gym.common.files import is_scrap, try_lock
from wm_gym.data.formats import lerobot_stats as stats
from wm_gym.data.formats.lerobot_reader import read_episodes, read_tasks
from wm_gym.data.formats.lerobot_schema import FILES_PER_CHUNK, INFO_PATH, DatasetError, Feature, Info

PARTS = ("data", "videos", "meta")
WRITING = ".writing"  # the folder of the shard that is not in place yet


def lock(root: Path) -> int:
    """Hold the folder for this process alone, until the descriptor that is returned is closed.

    Without info.json what is named as a dataset's parts is only a killed writer's where `.writing` is there as well.

    Raises:
        DatasetError: Where another process has it, or it holds other things.
    """
    if root.exists():
        if not root.is_dir():
            raise DatasetError(f"{root} is a file; give another folder for the dataset")
        ours = {"README.md", ".gitattributes"} | ({*PARTS, WRITING} if (root / WRITING).is_dir() else set())
        others = sorted(entry.name for entry in root.iterdir() if entry.name not in ours)
        if others and not (root / INFO_PATH).exists():
            raise DatasetError(
                f"{root} holds other things ({', '.join(others[:5])}) and no dataset; give an empty or new folder"
            )
    root.mkdir(parents=True, exist_ok=True)
    descriptor = try_lock(root)
    if descriptor is None:
        raise DatasetError(f"another process is writing to {root}; wait for it, end it, or give another folder")
    return descriptor


def sweep(root: Path) -> None:
    """Remove what a writer leaves at its end, `.writing` last: without info.json it says whose the rest is."""
    if not (root / INFO_PATH).exists():
        for name in PARTS:
            shutil.rmtree(root / name, ignore_errors=True)
    for path in (root / "meta").glob(".*"):
        if is_scrap(path):
            shutil.rmtree(path, ignore_errors=True)
    shutil.rmtree(root / WRITING, ignore_errors=True)


def tidy(root: Path) -> None:
    """Remove what a killed writer left beside a dataset that is complete, where nobody else has it."""
    with contextlib.suppress(OSError, DatasetError):
        descriptor = lock(root)
        try:
            sweep(root)
        finally:
            os.close(descriptor)


def compare(root: Path, info: Info, fps: float | None, features: Mapping[str, Feature]) -> None:
    """Refuse to go on with a dataset of other features than those about to be written."""
    if fps is not None and fps != info["fps"]:
        raise DatasetError(f"{root} was written at {info['fps']} fps, now {fps}; give another folder")
    there = info["features"]
    for key in sorted({*there, *features}):
        a, b = ((of[key]["dtype"], of[key]["shape"]) if key in of else (None, None) for of in (there, features))
        if a != b:
            raise DatasetError(
                f"{root} has the feature {key!r} as {a[0]} {a[1]}, now it would be {b[0]} {b[1]}; give another folder"
            )


def committed(root: Path, info: Info) -> tuple[dict[str, int], list[dict[str, stats.Stats]], int]:
    """(Tasks, statistics of each shard, number of the next shard) up to info's totals; removes the files beyond."""
    if not info["total_episodes"]:
        for name in PARTS:
            shutil.rmtree(root / name, ignore_errors=True)
        return {}, [], 0
    tasks = {text: number for number, text in sorted(read_tasks(root).items()) if number < info["total_tasks"]}
    rows = read_episodes(root, info, with_stats=True)
    last = {}  # the last file of each kind, data and videos apart: lerobot need not number them alike
    for kind in (
        "data",
        "meta/episodes",
        *(f"videos/{key}" for key, f in info["features"].items() if f["dtype"] == "video"),
    ):
        if f"{kind}/file_index" in rows:
            last[kind] = max(zip(rows[f"{kind}/chunk_index"], rows[f"{kind}/file_index"]))
            for path in (root / kind).glob("chunk-*/file-*"):
                if (int(path.parent.name[6:]), int(path.stem[5:])) > last[kind]:
                    path.unlink()
    shards: dict[tuple[int, int], list[dict[str, stats.Stats]]] = {}
    # statistics are added up shard by shard, so that resuming gives the same numbers to the last bit
    if all(f"stats/{key}/{name}" in rows for key in info["features"] for name in stats.STATISTICS):
        for e, shard in enumerate(zip(rows["data/chunk_index"], rows["data/file_index"])):
            shards.setdefault(shard, []).append(
                {
                    key: {name: np.asarray(rows[f"stats/{key}/{name}"][e]) for name in stats.STATISTICS}
                    for key in info["features"]
                }
            )
    chunk, file = max(last.values())
    return tasks, [stats.aggregate(shard) for shard in shards.values()], chunk * FILES_PER_CHUNK + file + 1
