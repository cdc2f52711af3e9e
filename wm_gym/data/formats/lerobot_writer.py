"""How are episodes written to a LeRobotDataset v3.0 folder so that a kill at any moment leaves a valid one?

Episodes go into a shard: a data file, a video file a camera, an episodes-meta file. A shard is written in the hidden
folder `.writing` and renamed into place when it is full, then tasks and statistics, and `info.json` last. So whatever
was killed when, the folder is valid up to info.json's totals; a later writer removes what lies beyond and goes on.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from wm_gym.common.files import write_json
from wm_gym.data.formats import lerobot_stats as stats
from wm_gym.data.formats.lerobot_resume import WRITING, committed, compare, lock, sweep
from wm_gym.data.formats.lerobot_schema import (
    CODEBASE_VERSION,
    DATA_PATH,
    EPISODES_PATH,
    FILES_PER_CHUNK,
    INDEX_FEATURES,
    INFO_PATH,
    STATS_PATH,
    TASKS_PATH,
    VIDEO_PATH,
    DatasetError,
    Extra,
    Feature,
    Info,
    arrow_schema,
    read_info,
)
from wm_gym.data.formats.video import VideoWriter

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq


class LeRobotWriter:
    """Writes episodes to a folder, going on after the last complete one where it holds a dataset already.

    Use it as a context manager: leaving it writes what is left.

    Args:
        root: The folder.
        fps: Frames a second.
        features: {key: `feature(...)` or `video_feature(...)`} without the index columns. None, like fps None, takes
            those of the dataset that is there.
        robot_type: What info.json says of the robot.
        extra: More keys for info.json.
        shard_frames: A shard is closed after the episode that brings it to this many frames, a rule that depends on
            the episodes only, so that an interrupted and resumed writing gives the same files.

    Raises:
        DatasetError: Where the folder holds something else, or another process writes to it.
    """

    def __init__(
        self,
        root: str | Path,
        fps: float | None = None,
        features: Mapping[str, Feature] | None = None,
        robot_type: str | None = None,
        extra: Extra | None = None,
        shard_frames: int = 2000,
    ) -> None:
        self.root, self.shard_frames = Path(root), shard_frames
        self._lock: int | None = lock(self.root)
        try:
            self.info = self._begun(fps, features, robot_type, extra or {})
            self.features, self.fps = self.info["features"], self.info["fps"]
            self.cameras = [key for key, spec in self.features.items() if spec["dtype"] == "video"]
            self.num_episodes, self.num_frames = self.info["total_episodes"], self.info["total_frames"]
            self._schema = arrow_schema(self.features)
            self._tasks, self._shard_stats, self._shard = committed(self.root, self.info)
            self._begin_shard()
        except BaseException:
            self._unlock()
            raise

    def _begun(
        self, fps: float | None, features: Mapping[str, Feature] | None, robot_type: str | None, extra: Extra
    ) -> Info:
        """info.json of the dataset that is there, or of a new one."""
        if (self.root / INFO_PATH).exists():
            info = read_info(self.root)
            if features is not None:
                compare(self.root, info, fps, {**features, **INDEX_FEATURES})
            return info
        if features is None or fps is None:
            raise DatasetError(f"{self.root} holds no dataset yet: give fps and features to begin one")
        return {
            "codebase_version": CODEBASE_VERSION,
            "robot_type": robot_type,
            "total_episodes": 0,
            "total_frames": 0,
            "total_tasks": 0,
            "chunks_size": FILES_PER_CHUNK,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "fps": fps,
            "splits": {},
            "data_path": DATA_PATH,
            "video_path": VIDEO_PATH,
            "features": {**features, **INDEX_FEATURES},
            **extra,
        }

    def _begin_shard(self) -> None:
        shutil.rmtree(self.root / WRITING, ignore_errors=True)
        (self.root / WRITING).mkdir(parents=True)
        self._rows: list[dict[str, Any]] = []
        self._pending: list[dict[str, stats.Stats]] = []
        self._shard_length, self._whole = 0, True
        self._open: tuple[pq.ParquetWriter, dict[str, VideoWriter]] | None = None

    def _open_shard(self) -> tuple[pq.ParquetWriter, dict[str, VideoWriter]]:
        import pyarrow.parquet as pq

        folder = self.root / WRITING
        videos = {}
        for number, key in enumerate(self.cameras):
            height, width, _ = self.features[key]["shape"]
            videos[key] = VideoWriter(folder / f"{number}.mp4", height, width, self.fps)
        return pq.ParquetWriter(folder / "data.parquet", self._schema, compression="snappy"), videos

    def add_episode(self, columns: Mapping[str, Any], frames: Mapping[str, np.ndarray], task: str) -> None:
        """Add one whole episode.

        Args:
            columns: {key: [L, D] or [L]}.
            frames: {camera key: uint8 [L, H, W, 3]}.
            task: What is to be done.

        Raises:
            DatasetError: Before anything is written, for missing or unknown keys, unequal lengths, wrong shapes and
                values that are not finite.
        """
        checked = self._check(columns, frames)
        length = len(next(iter(checked.values())))
        episode = self.num_episodes
        task_index = self._tasks.setdefault(task, len(self._tasks))
        frame_index = np.arange(length, dtype=np.int64)
        checked |= {
            "timestamp": (frame_index / self.fps).astype(np.float32),
            "frame_index": frame_index,
            "episode_index": np.full(length, episode, np.int64),
            "index": self.num_frames + frame_index,
            "task_index": np.full(length, task_index, np.int64),
        }
        if self._open is None:
            self._open = self._open_shard()
        self._whole = False  # until all of the episode is in
        data, videos = self._open
        data.write_table(_table(checked, self._schema))  # one row group an episode
        for key, video in videos.items():
            video.write(frames[key])

        found = {
            key: stats.image_stats(frames[key])
            if key in self.cameras
            else stats.vector_stats(checked[key].reshape(length, -1))
            for key in self.features
        }
        self._rows.append(self._row(length, task, found))
        self._pending.append(found)
        self.num_episodes += 1
        self.num_frames += length
        self._shard_length += length
        self._whole = True
        if self._shard_length >= self.shard_frames:
            self.flush()

    def _row(self, length: int, task: str, found: Mapping[str, stats.Stats]) -> dict[str, Any]:
        """The next episode's row of meta/episodes; found: its statistics."""
        chunk, file = divmod(self._shard, FILES_PER_CHUNK)
        row: dict[str, Any] = {
            "episode_index": self.num_episodes,
            "tasks": [task],
            "length": length,
            "data/chunk_index": chunk,
            "data/file_index": file,
            "dataset_from_index": self.num_frames,
            "dataset_to_index": self.num_frames + length,
        }
        for key in self.cameras:
            row |= {
                f"videos/{key}/chunk_index": chunk,
                f"videos/{key}/file_index": file,
                f"videos/{key}/from_timestamp": self._shard_length / self.fps,
                f"videos/{key}/to_timestamp": (self._shard_length + length) / self.fps,
            }
        row |= {f"stats/{key}/{name}": value.tolist() for key in self.features for name, value in found[key].items()}
        return row | {"meta/episodes/chunk_index": chunk, "meta/episodes/file_index": file}

    def flush(self) -> None:
        """Put the episodes added so far in place, `info.json` last; the next episode begins a new shard."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self._rows or self._open is None:
            return
        self._whole = False
        data, videos = self._open
        data.close()
        for video in videos.values():
            video.close()
        folder = self.root / WRITING
        pq.write_table(
            pa.table(
                {
                    key: pa.array([row[key] for row in self._rows], type=_arrow_type(key, self.features))
                    for key in self._rows[0]
                }
            ),
            folder / "episodes.parquet",
            compression="snappy",
        )
        self._shard_stats.append(stats.aggregate(self._pending))
        _write_tasks(folder / "tasks.parquet", self._tasks)

        chunk, file = divmod(self._shard, FILES_PER_CHUNK)
        at = {"chunk_index": chunk, "file_index": file}
        places = {f"{number}.mp4": VIDEO_PATH.format(video_key=key, **at) for number, key in enumerate(self.cameras)}
        places |= {"data.parquet": DATA_PATH.format(**at), "episodes.parquet": EPISODES_PATH.format(**at)}
        for source, target in {**places, "tasks.parquet": TASKS_PATH}.items():
            (self.root / target).parent.mkdir(parents=True, exist_ok=True)
            os.replace(folder / source, self.root / target)
        write_json(self.root / STATS_PATH, stats.aggregate(self._shard_stats), indent=4)
        self.info["total_episodes"], self.info["total_frames"] = self.num_episodes, self.num_frames
        self.info["total_tasks"], self.info["splits"] = len(self._tasks), {"train": f"0:{self.num_episodes}"}
        self.write_info()
        self._shard += 1
        self._begin_shard()

    def write_info(self) -> None:
        """Write `info.json`, which may hold more than the writer's own keys."""
        write_json(self.root / INFO_PATH, self.info, indent=4)

    def discard(self) -> None:
        """Forget the episodes that are not in place yet, so that going on gives the files of an unbroken writing."""
        self._whole = False

    def close(self) -> None:
        """Put what is left in place and let go of the folder; may be called twice."""
        if self._lock is None:
            return
        try:
            if self._whole:  # else an error broke off the writing of an episode: this shard is lost, the others stand
                self.flush()
        finally:
            sweep(self.root)
            self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
        self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check(self, columns: Mapping[str, Any], frames: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        expected = [key for key in self.features if key not in INDEX_FEATURES]
        given = [*columns, *frames]
        if sorted(given) != sorted(expected):
            raise DatasetError(
                f"episode {self.num_episodes} has the features {sorted(given)}, expected "
                f"{sorted(expected)}: give every one, and no other"
            )
        lengths = {key: len(value) for key, value in {**columns, **frames}.items()}
        if len(set(lengths.values())) != 1 or 0 in lengths.values():
            raise DatasetError(
                f"episode {self.num_episodes} has ragged lengths {lengths}; every feature needs the "
                f"same number of rows, at least one"
            )
        checked = {}
        for key, value in columns.items():
            spec, value = self.features[key], np.asarray(value)
            size = spec["shape"][0]
            if value.shape not in ((len(value), size), *([(len(value),)] if size == 1 else [])):
                raise DatasetError(
                    f"episode {self.num_episodes}: {key!r} has shape {value.shape}, expected [{len(value)}, {size}]"
                )
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                row = int(np.argwhere(~np.isfinite(value))[0][0])
                raise DatasetError(
                    f"episode {self.num_episodes}: {key!r} is not finite in row {row} "
                    f"({value[row]}); expected finite numbers: fix what produces it"
                )
            checked[key] = value.astype(spec["dtype"], copy=False)
        for key, value in frames.items():
            if value.dtype != np.uint8 or list(value.shape[1:]) != list(self.features[key]["shape"]):
                raise DatasetError(
                    f"episode {self.num_episodes}: {key!r} is {value.dtype} {list(value.shape[1:])}, "
                    f"expected uint8 {list(self.features[key]['shape'])}"
                )
        return checked


def _table(columns: Mapping[str, np.ndarray], schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    arrays = []
    for field in schema:
        value = np.ascontiguousarray(columns[field.name])
        if pa.types.is_fixed_size_list(field.type):
            flat = pa.array(value.reshape(-1), type=field.type.value_type)
            arrays.append(pa.FixedSizeListArray.from_arrays(flat, field.type.list_size))
        else:
            arrays.append(pa.array(value.reshape(-1), type=field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def _arrow_type(column: str, features: Mapping[str, Feature]) -> pa.DataType:
    """The type of one column of the episodes-meta file."""
    import pyarrow as pa

    if column == "tasks":
        return pa.list_(pa.string())
    if not column.startswith("stats/"):
        return pa.float64() if column.endswith("_timestamp") else pa.int64()
    _, key, name = column.split("/")
    if name == "count":
        return pa.list_(pa.int64())
    dtype = features[key]["dtype"]
    if dtype == "video":
        return pa.list_(pa.list_(pa.list_(pa.float64())))
    whole = {"bool": pa.bool_(), "int64": pa.int64(), "int32": pa.int64()}
    return pa.list_(whole.get(dtype, pa.float64()) if name in ("min", "max") else pa.float64())


def _write_tasks(path: Path, tasks: Mapping[str, int]) -> None:
    import pandas as pd

    index = pd.Index(list(tasks), name="task", dtype=object)
    pd.DataFrame({"task_index": np.array(list(tasks.values()), np.int64)}, index=index).to_parquet(path)
