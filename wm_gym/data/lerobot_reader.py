"""What is in a LeRobotDataset folder, v3.0 or v2.1: its episodes, columns and frames, checked on the way?

Reads what lerobot wrote and what we wrote: several chunks, files, cameras; H.264, AV1 or pictures in parquet.
"""

import io
import json
import math
from pathlib import Path

import numpy as np

from wm_gym.data.lerobot_schema import (AGAIN, CODEBASE_VERSION, DATA_PATH, INDEX_FEATURES, INFO_PATH, TASKS_PATH,
                                        VIDEO_PATH, DatasetError, check_count, fill_path, read_info)
from wm_gym.data.memory import check_memory
from wm_gym.data.reader import Reader
from wm_gym.data.video import decode, decode_picture, probe
from wm_gym.reading import read_text

MOST_LINES, BALLAST = 32_000_000, 64_000_000  # bytes: of meta/episodes.jsonl, and of a video beside its frames
V21 = ("v2.1", "v2.0")


class LeRobotReader(Reader):
    """Read the LeRobotDataset folder at `root` (see Reader); a v2.1 folder opens as LeRobotV21Reader.

    Opening checks the folder's structure (version, files that are missing, lengths that disagree, paths that lead out
    of the folder); `columns` checks values. Raises DatasetError.
    """

    format = "lerobot"

    def __new__(cls, root):
        old = read_info(root, (CODEBASE_VERSION, *V21))["codebase_version"] in V21
        return super().__new__(LeRobotV21Reader if old else cls)

    def __init__(self, root):
        root = Path(root)
        self.info = read_info(root, (CODEBASE_VERSION, *V21))
        ours = self.info.get("wm_gym")
        self.notes = ours if isinstance(ours, dict) else {}
        self._rows = self._read_rows(root)
        path = root / "meta/episodes"
        self._describe(root, self.info["fps"], self.info["features"],
                       [check_count(path, "length", n) for n in self._rows["length"]],
                       [str(task[0]) if isinstance(task, list) and task else "" for task in self._rows["tasks"]])
        self._check_structure()

    def data_files(self):
        """List the parquet files of the rows, in order."""
        return list(dict.fromkeys(self._data_file(e) for e in range(self.num_episodes)))

    def video_files(self, camera):
        """Map each video file of a camera key to its episodes [(episode, number of its first frame in the file)]."""
        files = {}
        for e in range(self.num_episodes):
            path, first = self._video_file(camera, e)
            files.setdefault(path, []).append((e, first))
        return {path: sorted(where, key=lambda pair: pair[1]) for path, where in files.items()}

    def columns(self, keys=None):
        keys = self._known(keys)
        check_memory(f"reading {', '.join(keys)} of {self.root}",
                     8 * int(self.offset[-1]) * sum(math.prod(self.features[key]["shape"]) for key in keys))
        parts = {key: [] for key in {*keys, "episode_index"}}
        for path in self.data_files():
            table = read_parquet(path, list(parts))
            for key in parts:
                if key not in table.column_names:
                    raise DatasetError(f"{path} lacks the column {key!r} that info.json promises; {AGAIN}")
                spec = INDEX_FEATURES[key] if key in INDEX_FEATURES else self.features[key]
                parts[key].append(_array(table.column(key), spec, path, key))
        whole = {key: np.concatenate(part) for key, part in parts.items()}
        number = whole["episode_index"][:, 0]
        if number.dtype.kind not in "iu" or len(number) and number.min() < 0:
            raise DatasetError(f"{self.root}: episode_index is not a count in data/; {AGAIN}")
        kept = number < self.num_episodes  # rows beyond info.json's totals do not count
        whole = {key: value[kept] for key, value in whole.items()}
        found = np.bincount(whole["episode_index"][:, 0], minlength=self.num_episodes)
        if not np.array_equal(found, self.length):
            e = int(np.flatnonzero(found != self.length)[0])
            raise DatasetError(f"{self.root}: episode {e} has {found[e]} rows in data/ and {self.length[e]} in "
                               f"meta/episodes; {AGAIN}")
        if not np.all(np.diff(whole["episode_index"][:, 0]) >= 0):
            order = np.argsort(whole["episode_index"][:, 0], kind="stable")
            whole = {key: value[order] for key, value in whole.items()}
        for key in keys:
            self._check_finite(key, whole[key])
        return {key: whole[key] for key in keys}

    def iter_frames(self, camera):
        if self._in_rows(camera):
            for path in self.data_files():
                yield from self._pictures(camera, path)
            return
        for path, episodes in self.video_files(camera).items():
            rows = {first + t: self.offset[e] + t for e, first in episodes for t in range(self.length[e])}
            for number, frame in decode(path, self.fps, stop=max(rows) + 1):
                row = rows.pop(number, None)
                if row is not None:
                    yield int(row), self._check_frame(camera, frame, path)
            if rows:
                self._missing_frame(path, next(iter(rows)), rows)

    def frames(self, camera, episode):
        self._check_episode(episode)
        length = int(self.length[episode])
        if self._in_rows(camera):
            found = dict(self._pictures(camera, self._data_file(episode), episode))
            return np.stack([found[int(self.offset[episode]) + t] for t in range(length)])
        path, first = self._video_file(camera, episode)
        found = dict(decode(path, self.fps, first, first + length))
        for number in range(first, first + length):
            if number not in found:
                self._missing_frame(path, number, {number: self.offset[episode] + number - first})
        return np.stack([self._check_frame(camera, found[number], path) for number in range(first, first + length)])

    def files(self, camera):
        videos = [] if self._in_rows(camera) else self.video_files(camera)
        return [self.root / INFO_PATH, *self._meta_files(), *self.data_files(), *videos]

    def _in_rows(self, camera):
        return self.features[camera]["dtype"] == "image"

    def _pictures(self, camera, path, episode=None):
        """Yield (row, frame) of the pictures stored in one parquet file; every row of its episodes has one."""
        for batch in iter_parquet(path, [camera, "episode_index", "frame_index"]):
            columns = [batch.column(batch.schema.get_field_index(k)) for k in (camera, "episode_index", "frame_index")]
            for stored, e, t in zip(*(column.to_pylist() for column in columns)):
                if e is None or e >= self.num_episodes or episode not in (None, e):
                    continue
                data = stored.get("bytes") if isinstance(stored, dict) else stored
                if not isinstance(data, bytes) or t is None or not 0 <= t < self.length[e]:
                    raise DatasetError(f"{path}: episode {e}, frame {t} has no picture of {camera}; {AGAIN}")
                yield int(self.offset[e]) + t, decode_picture(data, self.frame_size(camera), path)

    def _read_rows(self, root):
        return read_episodes(root, self.info)

    def _data_file(self, e):
        return fill_path(self.root, self.info.get("data_path", DATA_PATH),
                         chunk_index=self._rows["data/chunk_index"][e], file_index=self._rows["data/file_index"][e])

    def _video_file(self, camera, e):
        chunk, file, start = (self._rows[f"videos/{camera}/{name}"][e]
                              for name in ("chunk_index", "file_index", "from_timestamp"))
        path = fill_path(self.root, self.info.get("video_path") or VIDEO_PATH, video_key=camera, chunk_index=chunk,
                         file_index=file)
        if not isinstance(start, (int, float)) or not 0 <= start < 1e9:
            raise DatasetError(f"{self.root}: meta/episodes places episode {e} at {start} s of {path.name}; {AGAIN}")
        # the time stamps are running float sums (109.60000000000001): round, never truncate
        return path, round(start * self.fps)

    def _meta_files(self):
        return sorted((self.root / "meta/episodes").glob("chunk-*/file-*.parquet"))

    def _check_structure(self):
        missing = [path for path in self.data_files() if not path.is_file()]
        videos = [key for key in self.cameras if not self._in_rows(key)]
        for key in videos:
            self._check_said(key)
            missing += [path for path in self.video_files(key) if not path.is_file()]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise DatasetError(f"{self.root}: missing {missing[0].relative_to(self.root)}{more}; info.json promises "
                               f"{self.num_episodes} episodes: {AGAIN}")
        if self.offset[-1] != self.info["total_frames"]:
            raise DatasetError(f"{self.root}: the lengths in meta/episodes add up to {self.offset[-1]}, info.json says "
                               f"total_frames {self.info['total_frames']}; {AGAIN}")
        for key in videos:
            for path, episodes in self.video_files(key).items():
                e, first = episodes[-1]
                have, size = probe(path)
                need = first + int(self.length[e])
                if have is not None and path.stat().st_size > BALLAST + 2 * have * size[0] * size[1] * 3:
                    raise DatasetError(f"{path} has {path.stat().st_size / 1e6:,.0f} MB and {have} frames of "
                                       f"{size[0]}x{size[1]}, more than they can take; {AGAIN}")
                if have is not None and have < need:
                    raise DatasetError(f"{path} has {have} frames, but meta/episodes places episode {e} at frames "
                                       f"{first} to {need - 1} of it; {AGAIN}")
                if size != self.frame_size(key):
                    raise DatasetError(f"{path} has frames of {size[0]}x{size[1]}, info.json says shape "
                                       f"{self.features[key]['shape']}; {AGAIN}")
        rows = sum(count_rows(path) for path in self.data_files())
        if rows < self.offset[-1]:
            self.columns([])  # names the episode
            raise DatasetError(f"{self.root}: data/ has {rows} rows, the lengths in meta/episodes add up to "
                               f"{self.offset[-1]}; {AGAIN}")

    def _check_said(self, camera):
        for name in ("chunk_index", "file_index", "from_timestamp"):
            if f"videos/{camera}/{name}" not in self._rows:
                raise DatasetError(f"{self.root}: meta/episodes says nothing of the camera {camera} ({name}); {AGAIN}")

    def _missing_frame(self, path, number, rows):
        e = self._episode_of(rows[number])
        raise DatasetError(f"{path} has no frame at {number / self.fps:.3f} s ({len(rows)} missing), where episode "
                           f"{e}, frame {rows[number] - self.offset[e]} should be at {self.fps} fps; {AGAIN}")


class LeRobotV21Reader(LeRobotReader):
    """Read a LeRobotDataset of v2.1 or v2.0: a parquet file an episode, an mp4 an episode and camera."""

    def _read_rows(self, root):
        path = root / "meta/episodes.jsonl"
        rows = read_json_lines(path)
        rows.sort(key=lambda row: check_count(path, "episode_index", row.get("episode_index")))
        total = self.info["total_episodes"]
        if not 0 < total <= len(rows) or [row["episode_index"] for row in rows[:total]] != list(range(total)):
            raise DatasetError(f"{root}: info.json promises {total} episodes, meta/episodes.jsonl has {len(rows)} "
                               f"lines that do not cover 0 to {total - 1}; {AGAIN}")
        return {"length": [row.get("length") for row in rows[:total]],
                "tasks": [row.get("tasks") for row in rows[:total]]}

    def _path(self, template, e, **more):
        return fill_path(self.root, template, episode_chunk=e // (self.info.get("chunks_size") or 1000),
                         episode_index=e, **more)

    def _data_file(self, e):
        return self._path(self.info.get("data_path", "data/chunk-{episode_chunk:03d}/"
                                                     "episode_{episode_index:06d}.parquet"), e)

    def _video_file(self, camera, e):
        template = self.info.get("video_path") or ("videos/chunk-{episode_chunk:03d}/{video_key}/"
                                                   "episode_{episode_index:06d}.mp4")
        return self._path(template, e, video_key=camera), 0

    def _check_said(self, camera):
        pass  # where a video lies follows from its episode's number

    def _meta_files(self):
        return [self.root / "meta/episodes.jsonl"]


def read_parquet(path, columns=None):
    """Read columns of a parquet file; those that it lacks are left out. Raises DatasetError."""
    import pyarrow as pa

    try:
        return _parquet(path).read(columns=columns)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def iter_parquet(path, columns):
    """Yield a parquet file's columns in batches of 64 rows; raises DatasetError."""
    import pyarrow as pa

    try:
        file = _parquet(path)
        lacking = [key for key in columns if key not in file.schema_arrow.names]
        if lacking:
            raise DatasetError(f"{path} lacks the column {lacking[0]!r} that info.json promises; {AGAIN}")
        yield from file.iter_batches(64, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from None


def count_rows(path):
    """Count the rows of a parquet file from its footer; raises DatasetError."""
    import pyarrow as pa

    try:
        return _parquet(path).metadata.num_rows
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(path, error) from None


def _parquet(path):
    import pyarrow.parquet as pq

    if not Path(path).is_file():  # a pipe would be waited for
        raise OSError("it is missing or no file")
    return pq.ParquetFile(path)


def _unreadable(path, error):
    reason = (str(error).splitlines() or ["?"])[0]
    return DatasetError(f"cannot read {path} as parquet: {reason}; it is truncated or damaged: {AGAIN}")


def read_json_lines(path):
    """Read a file with a JSON object an episode and line, at most 32 MB; raises DatasetError."""
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


def read_tasks(root):
    """Read the task texts as {task_index: text}; the text may be the index (as pandas writes it) or a column."""
    table = read_parquet(Path(root) / TASKS_PATH)
    text = next(name for name in table.column_names if name != "task_index")
    return dict(zip(table["task_index"].to_pylist(), table[text].to_pylist()))


def read_episodes(root, info, with_stats=False):
    """Read meta/episodes as {column: list over episodes}, ordered, up to info.json's total_episodes."""
    total, rows = info["total_episodes"], {}
    files = sorted(Path(root).glob("meta/episodes/chunk-*/file-*.parquet"))
    if not total or not files:
        raise DatasetError(f"{root} holds no episodes (info.json says {total}, meta/episodes has {len(files)} files); "
                           f"record some with: wm-gym record ENV_ID --episodes 10 --out {root}")
    for path in files:
        table = read_parquet(path)
        for key in table.column_names:
            if with_stats or not key.startswith("stats/"):
                rows.setdefault(key, []).extend(table[key].to_pylist())
    lacking = {"episode_index", "length", "tasks", "data/chunk_index", "data/file_index"} - rows.keys()
    if lacking:
        raise DatasetError(f"{root}: meta/episodes lacks the column {min(lacking)!r}; {AGAIN}")
    for number in rows["episode_index"]:
        check_count(Path(root) / "meta/episodes", "episode_index", number)
    order = np.argsort(rows["episode_index"], kind="stable")[:total]
    if total > len(order) or [rows["episode_index"][i] for i in order] != list(range(total)):
        raise DatasetError(f"{root}: info.json promises {total} episodes, meta/episodes has "
                           f"{len(rows['episode_index'])} rows that do not cover 0 to {total - 1}; {AGAIN}")
    ragged = [key for key, value in rows.items() if len(value) != len(rows["episode_index"])]
    if ragged:
        raise DatasetError(f"{root}: the files in meta/episodes disagree on the column {ragged[0]!r}; {AGAIN}")
    return {key: [value[i] for i in order] for key, value in rows.items()}


def _array(column, spec, path, key):
    """Turn a parquet column (plain values or lists) into an array [N, *shape]."""
    import pyarrow as pa

    column = column.combine_chunks()
    if column.null_count:
        raise DatasetError(f"{path}: {column.null_count} rows have no value for {key!r}; {AGAIN}")
    rows = len(column)
    kind = spec["dtype"]
    while pa.types.is_list(column.type) or pa.types.is_large_list(column.type) or \
            pa.types.is_fixed_size_list(column.type):
        column = column.flatten()
    size = math.prod(spec["shape"])
    if len(column) != rows * size:
        raise DatasetError(f"{path}: {key!r} has {len(column)} numbers in {rows} rows, info.json says shape "
                           f"{spec['shape']}; {AGAIN}")
    numeric = pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type)
    if not numeric or column.null_count:
        raise DatasetError(f"{path}: {key!r} holds {column.type}{' with gaps' if numeric else ''}, info.json says "
                           f"{kind}; only numbers can be read: {AGAIN}")
    return np.asarray(column.to_numpy(zero_copy_only=False)).reshape(rows, *spec["shape"])
