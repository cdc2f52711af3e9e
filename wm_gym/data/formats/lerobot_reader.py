"""What is in a LeRobotDataset folder, v3.0 or v2.1: its episodes, columns and frames, checked on the way?

Reads what lerobot wrote and what we wrote: several chunks, files, cameras; H.264, AV1 or pictures in parquet.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from wm_gym.common.reading import read_text
from wm_gym.data.formats.lerobot_schema import (
    AGAIN,
    CODEBASE_VERSION,
    DATA_PATH,
    INDEX_FEATURES,
    INFO_PATH,
    TASKS_PATH,
    VIDEO_PATH,
    DatasetError,
    Feature,
    Info,
    check_count,
    fill_path,
    read_info,
)
from wm_gym.data.formats.reader import Damaged, Reader
from wm_gym.data.formats.video import decode, decode_picture, probe

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

MOST_LINES, BALLAST = 32_000_000, 64_000_000  # bytes: of meta/episodes.jsonl, and of a video beside its frames
V21 = ("v2.1", "v2.0")

Rows = dict[str, list[Any]]
"""meta/episodes: {column: a value an episode}, as files have them, None for an episode that is missing."""


class LeRobotReader(Reader):
    """The reader of a LeRobotDataset folder; one of v2.1 opens as LeRobotV21Reader.

    Opening checks the folder's structure (version, files that are missing, lengths that disagree, paths that lead out
    of the folder); `columns` checks values. Raises DatasetError.
    """

    format = "lerobot"

    def __new__(cls, root: str | Path, **_: Any) -> LeRobotReader:
        """The reader of the version that info.json states."""
        old = read_info(root, (CODEBASE_VERSION, *V21))["codebase_version"] in V21
        return super().__new__(LeRobotV21Reader if old else cls)

    def __init__(self, root: str | Path, skip_damaged: bool = False) -> None:
        root = Path(root)
        super().__init__(root, skip_damaged)
        self.info = read_info(root, (CODEBASE_VERSION, *V21))
        ours = self.info.get("wm_gym")
        self.notes = ours if isinstance(ours, dict) else {}
        self._rows = self._read_rows()
        numbers = self._rows["episode_index"]
        self.numbers = np.array([e if number is None else number for e, number in enumerate(numbers)], np.int64)
        self._describe(
            self.info["fps"],
            self.info["features"],
            [self._length(e) for e in range(len(numbers))],
            [str(task[0]) if isinstance(task, list) and task else "" for task in self._rows["tasks"]],
        )
        self._settle()
        self._check_structure()

    def _length(self, e: int) -> int:
        """The rows of an episode, as meta/episodes has it; 0 where it is not there."""
        length = self._rows["length"][e]
        if self._rows["episode_index"][e] is None:
            self._fault(f"missing in meta/episodes, info.json promises {self.info['total_episodes']} episodes", e)
            return 0
        with self._noting(e):
            if not check_count(self.root / "meta/episodes", "length", length):
                raise DatasetError("it has no frames")
            return length
        return 0

    def name(self, episode: int) -> str:
        """An episode's number here, and its episode_index where that is another."""
        number = self.numbers[episode]
        return str(episode) if number == episode else f"{episode} (episode_index {number})"

    def data_files(self) -> list[Path]:
        """The parquet files of the rows, in order."""
        return list(self._data_episodes())

    def _data_episodes(self) -> dict[Path, list[int]]:
        """The episodes of each file of rows."""
        files: dict[Path, list[int]] = {}
        for e in np.flatnonzero(self.length).tolist():
            files.setdefault(self._data_file(e), []).append(e)
        return files

    def video_files(self, camera: str) -> dict[Path, list[tuple[int, int]]]:
        """The episodes [(episode, number of its first frame in the file)] of each video file of a camera key."""
        files: dict[Path, list[tuple[int, int]]] = {}
        for e in np.flatnonzero(self.length).tolist():
            with self._noting(e):
                path, first = self._video_file(camera, e)
                files.setdefault(path, []).append((e, first))
        self._settle()
        return {path: sorted(where, key=lambda pair: pair[1]) for path, where in files.items()}

    def columns(self, keys: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """Columns of all episodes as {key: array [N, *shape]} (see Reader)."""
        keys = self._known(keys)
        tables = [self._read_table(path, episodes, keys) for path, episodes in self._data_episodes().items()]
        self._settle()
        columns, *counts = zip(*(table for table in tables if table is not None))
        whole = {key: np.concatenate([table[key] for table in columns]) for key in keys}
        number, frame, broken = map(np.concatenate, counts)
        order, later = np.arange(len(number)), np.diff(number)
        if not np.all((later > 0) | (later == 0) & (np.diff(frame) >= 0)):
            order = np.lexsort((order, frame, number))
        order = order[np.isin(number[order], self.numbers)]  # rows beyond info.json's totals do not count
        place = np.searchsorted(self.numbers, number[order])
        found = np.bincount(place, minlength=self.num_episodes)
        for e in np.flatnonzero(found != self.length):
            self._fault(f"it has {found[e]} rows in data/ and {self.length[e]} in meta/episodes", e)
        within = np.arange(len(order)) - np.concatenate([[0], np.cumsum(found)])[place]
        for e in np.unique(place[(frame[order] != within) & (frame[order] >= 0)]):
            self._fault(f"its frame_index does not count from 0 to {self.length[e] - 1}", e)
        for e, row in zip(*np.unique(place[broken[order]], return_index=True)):
            self._fault(f"frame {within[broken[order]][row]} does not have all its numbers", e)
        self._settle()
        if self.damaged:
            kept = np.isin(place, self.sound)
            rows, order = self.offset[place[kept]] + within[kept], order[kept]
            whole = {key: _spread(value[order], rows, int(self.offset[-1])) for key, value in whole.items()}
        elif not np.array_equal(order, np.arange(len(number))):
            whole = {key: value[order] for key, value in whole.items()}
        for key in keys:
            self._check_finite(key, whole[key])
        return {key: whole[key] for key in keys}

    def _read_table(
        self, path: Path, episodes: list[int], keys: list[str]
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray, np.ndarray] | None:
        """One file of rows: ({key: array}, episode_index, frame_index, which rows lack numbers), None if damaged.

        Where it has no frame_index a number below 0 takes its place: by `index`, or else all the same.
        """
        table = {}
        try:
            stored = read_parquet(path, list({*keys, "episode_index", "frame_index", "index"}))
            for key in stored.column_names:
                with contextlib.suppress(*([] if key in {*keys, "episode_index"} else [DatasetError])):
                    table[key] = _array(stored.column(key), self.features.get(key) or INDEX_FEATURES[key], path, key)
        except DatasetError as error:
            self._fault(error, *episodes)
            return None
        for key in {*keys, "episode_index"} - table.keys():
            raise DatasetError(f"{path} lacks the column {key!r} that info.json promises; {AGAIN}")
        number, lost = table["episode_index"]
        if number.dtype.kind not in "iu" or len(number) and number.min() < 0:
            raise DatasetError(f"{self.root}: episode_index is not a count in data/; {AGAIN}")
        counts = (key for key in ("frame_index", "index") if key in table and table[key][0].dtype.kind in "iu")
        order, frame = next(counts, None), np.zeros(len(number), np.int64)
        if order:
            frame = table[order][0].reshape(len(number), -1)[:, 0].astype(np.int64)
        broken = np.logical_or.reduce([table[key][1] for key in {*keys, order} if key])
        return (
            {key: table[key][0] for key in keys},
            np.where(lost, -1, number.reshape(len(number), -1)[:, 0]),
            frame if order == "frame_index" else np.minimum(frame, 2**62) - 2**62 - 1,
            broken | lost,
        )

    def _stream(self, camera: str) -> Iterator[tuple[int, np.ndarray]]:
        if self._in_rows(camera):
            for path in self.data_files():
                yield from self._pictures(camera, path)
            return
        for path, episodes in self.video_files(camera).items():
            rows = {first + t: self.offset[e] + t for e, first in episodes for t in range(self.length[e])}
            try:
                for number, frame in decode(path, self.fps, stop=max(rows) + 1):
                    row = rows.pop(number, None)
                    if row is not None:
                        yield int(row), self._check_frame(camera, frame, path)
            except DatasetError as error:
                raise Damaged(self, {int(self._episode_of(next(iter(rows.values())))): self._short(error)}) from None
            if rows:
                self._missing_frame(path, rows)

    def _decode(self, camera: str, episode: int) -> Iterator[np.ndarray]:
        length, start = int(self.length[episode]), int(self.offset[episode])
        if self._in_rows(camera):
            found = dict(self._pictures(camera, self._data_file(episode), episode))
            for t in range(length):
                if start + t not in found:
                    raise DatasetError(f"no picture of {camera} in frame {t}")
                yield found[start + t]
            return
        path, first = self._video_file(camera, episode)
        found = dict(decode(path, self.fps, first, first + length))
        for t in range(length):
            if first + t not in found:
                self._missing_frame(path, {first + t: start + t})
            yield self._check_frame(camera, found[first + t], path)

    def files(self, camera: str | None) -> list[Path]:
        """info.json, meta/episodes, the rows and a camera's videos."""
        videos = [] if camera is None or self._in_rows(camera) else self.video_files(camera)
        return [self.root / INFO_PATH, *self._meta_files(), *self.data_files(), *videos]

    @functools.cached_property
    def _place(self) -> dict[int, int]:
        """{episode_index: episode}."""
        return {number: e for e, number in enumerate(self.numbers.tolist())}

    def _in_rows(self, camera: str) -> bool:
        return self.features[camera]["dtype"] == "image"

    def _pictures(self, camera: str, path: Path, episode: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (row, frame) of the pictures stored in one parquet file; every row of its episodes has one."""
        for stored, number, t in iter_parquet(path, [camera, "episode_index", "frame_index"]):
            e = self._place.get(number)
            if e is None or episode not in (None, e):
                continue
            data = stored.get("bytes") if isinstance(stored, dict) else stored
            try:
                if not isinstance(data, bytes) or t is None or not 0 <= t < self.length[e]:
                    raise DatasetError(f"frame {t} has no picture of {camera}")
                picture = decode_picture(data, self.frame_size(camera), path)
            except DatasetError as error:
                raise Damaged(self, {e: self._short(error)}) from None
            yield int(self.offset[e]) + t, picture

    def _read_rows(self) -> Rows:
        return read_episodes(self.root, self.info)

    def _data_file(self, e: int) -> Path:
        return fill_path(
            self.root,
            self.info.get("data_path", DATA_PATH),
            chunk_index=self._rows["data/chunk_index"][e],
            file_index=self._rows["data/file_index"][e],
        )

    def _video_file(self, camera: str, e: int) -> tuple[Path, int]:
        chunk, file, start = (
            self._rows[f"videos/{camera}/{name}"][e] for name in ("chunk_index", "file_index", "from_timestamp")
        )
        path = fill_path(
            self.root, self.info.get("video_path") or VIDEO_PATH, video_key=camera, chunk_index=chunk, file_index=file
        )
        if not isinstance(start, (int, float)) or not 0 <= start < 1e9:
            raise DatasetError(f"{self.root}: meta/episodes places episode {e} at {start} s of {path.name}; {AGAIN}")
        # the time stamps are running float sums (109.60000000000001): round, never truncate
        return path, round(start * self.fps)

    def _meta_files(self) -> list[Path]:
        return sorted((self.root / "meta/episodes").glob("chunk-*/file-*.parquet"))

    def _check_structure(self) -> None:
        placed: dict[str, dict[Path, list[tuple[int, int]]]] = {}
        for key in self.cameras:
            if not self._in_rows(key):
                self._check_said(key)
                placed[key] = self.video_files(key)
        rows_in = self._data_episodes()
        videos = [(path, [e for e, _ in where]) for files in placed.values() for path, where in files.items()]
        for path, episodes in [*rows_in.items(), *videos]:
            if not path.is_file():
                self._fault(f"missing {path.relative_to(self.root)}", *episodes)
        self._settle()
        if self.offset[-1] != self.info["total_frames"] and not self.damaged:
            raise DatasetError(
                f"{self.root}: the lengths in meta/episodes add up to {self.offset[-1]}, info.json says "
                f"total_frames {self.info['total_frames']}; {AGAIN}"
            )
        for key, files in placed.items():
            for path, where in files.items():
                if path.is_file():
                    self._check_video(key, path, where)
        self._settle()
        rows = 0
        for path, episodes in rows_in.items():
            with self._noting(*episodes):
                rows += count_rows(path) if path.is_file() else 0
        self._settle()
        if rows < self.offset[-1]:
            self.columns([])  # names the episodes

    def _check_video(self, camera: str, path: Path, episodes: list[tuple[int, int]]) -> None:
        """Compare a video file's header with what meta/episodes places in it."""
        with self._noting(*(e for e, _ in episodes)):
            have, (height, width), _ = probe(path)
            size = path.stat().st_size
            if have is not None and size > BALLAST + 2 * have * height * width * 3:
                raise DatasetError(
                    f"{path} has {size / 1e6:,.0f} MB and {have} frames of {height}x{width}, more than they can take"
                )
            for e, first in episodes:
                end = first + self.length[e]
                if have is not None and have < end:
                    self._fault(
                        f"{path} has {have} frames, but meta/episodes places it at frames {first} to {end - 1} of it", e
                    )
            if (height, width) != self.frame_size(camera):
                shape = self.features[camera]["shape"]
                raise DatasetError(f"{path} has frames of {height}x{width}, info.json says shape {shape}")

    def _check_said(self, camera: str) -> None:
        for name in ("chunk_index", "file_index", "from_timestamp"):
            if f"videos/{camera}/{name}" not in self._rows:
                raise DatasetError(f"{self.root}: meta/episodes says nothing of the camera {camera} ({name}); {AGAIN}")

    def _missing_frame(self, path: Path, rows: Mapping[int, int]) -> NoReturn:
        missing: dict[int, str] = {}
        for at, row in rows.items():
            e = int(self._episode_of(row))
            why = f"{path} has no frame at {at / self.fps:.3f} s, where frame {row - self.offset[e]} should be"
            missing.setdefault(e, self._short(f"{why} at {self.fps} fps"))
        raise Damaged(self, missing)


class LeRobotV21Reader(LeRobotReader):
    """The reader of a LeRobotDataset of v2.1 or v2.0: a parquet file an episode, an mp4 an episode and camera."""

    def _read_rows(self) -> Rows:
        path = self.root / "meta/episodes.jsonl"
        rows = read_json_lines(path)
        numbers = [check_count(path, "episode_index", row.get("episode_index")) for row in rows]
        order = cover(self.root, numbers, self.info["total_episodes"])
        return {
            key: [None if i is None else rows[i].get(key) for i in order]
            for key in ("episode_index", "length", "tasks")
        }

    def _path(self, template: str, e: int, **more: str) -> Path:
        number = int(self.numbers[e])
        return fill_path(
            self.root,
            template,
            episode_chunk=number // (self.info.get("chunks_size") or 1000),
            episode_index=number,
            **more,
        )

    def _data_file(self, e: int) -> Path:
        return self._path(
            self.info.get("data_path", "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"), e
        )

    def _video_file(self, camera: str, e: int) -> tuple[Path, int]:
        template = self.info.get("video_path") or (
            "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
        )
        return self._path(template, e, video_key=camera), 0

    def _check_said(self, camera: str) -> None:
        pass  # where a video lies follows from its episode's number

    def _meta_files(self) -> list[Path]:
        return [self.root / "meta/episodes.jsonl"]


@contextlib.contextmanager
def _parquet(path: Path) -> Iterator[pq.ParquetFile]:
    """Give a parquet file; DatasetError where it, or what is read of it in this block, is damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if not path.is_file():  # a pipe would be waited for
            raise OSError("it is missing or no file")
        yield pq.ParquetFile(path)
    except DatasetError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = (str(error).splitlines() or ["?"])[0]
        raise DatasetError(f"cannot read {path} as parquet: {reason}; it is truncated or damaged: {AGAIN}") from None


def read_parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Columns of a parquet file, without those that it lacks; DatasetError where it is damaged."""
    with _parquet(path) as file:
        return file.read(columns=columns)


def iter_parquet(path: Path, columns: list[str]) -> Iterator[tuple[Any, ...]]:
    """Yield the values of a parquet file's columns row by row; raises DatasetError."""
    with _parquet(path) as file:
        lacking = [key for key in columns if key not in file.schema_arrow.names]
        if lacking:
            raise DatasetError(f"{path} lacks the column {lacking[0]!r} that info.json promises; {AGAIN}")
        for batch in file.iter_batches(64, columns=columns):
            yield from zip(*(batch.column(key).to_pylist() for key in columns))


def count_rows(path: Path) -> int:
    """The number of rows that a parquet file's footer states; DatasetError where it is damaged."""
    with _parquet(path) as file:
        return file.metadata.num_rows


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON objects, one an episode and line, of a file of at most 32 MB; DatasetError where it is another."""
    rows = []
    try:
        for line in io.StringIO(read_text(path, MOST_LINES)):
            if line.strip():
                rows.append(json.loads(line))
                if not isinstance(rows[-1], dict) or "episode_index" not in rows[-1]:
                    raise DatasetError(f"{path} has a line that is no JSON object with an episode_index; {AGAIN}")
    except DatasetError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"cannot read {path}: {error}; {AGAIN}") from None
    return rows


def read_tasks(root: Path) -> dict[int, str]:
    """The task texts {task_index: text}; the text may be the index (as pandas writes it) or a column."""
    table = read_parquet(root / TASKS_PATH)
    text = next(name for name in table.column_names if name != "task_index")
    return dict(zip(table["task_index"].to_pylist(), table[text].to_pylist()))


def read_episodes(root: Path, info: Info, with_stats: bool = False) -> Rows:
    """meta/episodes in order, up to info.json's total_episodes; DatasetError where it does not cover them."""
    total = info["total_episodes"]
    rows: Rows = {}
    files = sorted(root.glob("meta/episodes/chunk-*/file-*.parquet"))
    if not total or not files:
        raise DatasetError(
            f"{root} holds no episodes (info.json says {total}, meta/episodes has {len(files)} files); "
            f"record some with: wm-gym record ENV_ID --episodes 10 --out {root}"
        )
    for path in files:
        table = read_parquet(path)
        for key in table.column_names:
            if with_stats or not key.startswith("stats/"):
                rows.setdefault(key, []).extend(table[key].to_pylist())
    lacking = {"episode_index", "length", "tasks", "data/chunk_index", "data/file_index"} - rows.keys()
    if lacking:
        raise DatasetError(f"{root}: meta/episodes lacks the column {min(lacking)!r}; {AGAIN}")
    for number in rows["episode_index"]:
        check_count(root / "meta/episodes", "episode_index", number)
    order = cover(root, rows["episode_index"], total)
    if with_stats and [i is not None and rows["episode_index"][i] for i in order] != list(range(total)):
        raise DatasetError(
            f"{root}: the episodes in meta/episodes are not numbered from 0 to {total - 1}, so none can "
            f"be added; convert it into a new folder first: wm-gym data convert {root} --to DIR"
        )
    ragged = [key for key, value in rows.items() if len(value) != len(rows["episode_index"])]
    if ragged:
        raise DatasetError(f"{root}: the files in meta/episodes disagree on the column {ragged[0]!r}; {AGAIN}")
    return {key: [None if i is None else value[i] for i in order] for key, value in rows.items()}


def cover(root: Path, numbers: list[int], total: int) -> Sequence[int | None]:
    """Which of the entries in meta/episodes each of info.json's `total` episodes is; None for one that is missing.

    Numbers may have gaps, as after a deletion; entries beyond the total, of a writer that was killed, do not count.
    """
    where = {number: i for i, number in enumerate(numbers)}
    if len(where) == len(numbers):
        if all(e in where for e in range(total)):
            return [where[e] for e in range(total)]
        if len(numbers) == total:
            return [where[number] for number in sorted(where)]
        if len(numbers) < total <= 2 * len(numbers) + 1000 and max(where, default=-1) < total:
            return [where.get(e) for e in range(total)]
    raise DatasetError(
        f"{root}: info.json promises {total} episodes, meta/episodes has {len(numbers)} entries that do "
        f"not cover 0 to {total - 1}; {AGAIN}"
    )


def _spread(values: np.ndarray, rows: np.ndarray, length: int) -> np.ndarray:
    """Put rows of an array at their places in one of that length."""
    whole = np.zeros((length, *values.shape[1:]), values.dtype)
    whole[rows] = values
    return whole


def _array(column: pa.ChunkedArray, spec: Feature, path: Path, key: str) -> tuple[np.ndarray, np.ndarray]:
    """A parquet column (plain values or lists) as an array [N, *shape]; which rows lack numbers, bool [N]."""
    import pyarrow as pa

    rows, size = len(column), math.prod(spec["shape"])
    flat = column = column.combine_chunks()
    while pa.types.is_list(flat.type) or pa.types.is_large_list(flat.type) or pa.types.is_fixed_size_list(flat.type):
        flat = flat.flatten()
    if not (pa.types.is_integer(flat.type) or pa.types.is_floating(flat.type) or pa.types.is_boolean(flat.type)):
        raise DatasetError(
            f"{path}: {key!r} holds {flat.type}, info.json says {spec['dtype']}; only numbers can be read: {AGAIN}"
        )
    broken = np.zeros(rows, bool)
    if not column.null_count and not flat.null_count and len(flat) == rows * size:
        return np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(rows, *spec["shape"]), broken
    broken[:] = [not _complete(value, size) for value in column.to_pylist()]
    if broken.all():
        raise DatasetError(
            f"{path}: {key!r} has {len(flat) - flat.null_count} numbers in {rows} rows, info.json says "
            f"shape {spec['shape']}; {AGAIN}"
        )
    values, _ = _array(pa.chunked_array([column.filter(pa.array(~broken))]), spec, path, key)
    return _spread(values, np.flatnonzero(~broken), rows), broken


def _complete(value: Any, size: int) -> bool:
    """Whether a stored row is `size` numbers, in whatever lists."""
    leaves = [value]
    while leaves and isinstance(leaves[0], list):
        leaves = [leaf for part in leaves for leaf in (part if isinstance(part, list) else [None])]
    return len(leaves) == size and not any(leaf is None or isinstance(leaf, list) for leaf in leaves)
