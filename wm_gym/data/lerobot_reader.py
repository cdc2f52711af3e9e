"""What is in a LeRobotDataset v3.0 folder: its episodes, columns and frames, checked on the way?

Reads what lerobot wrote and what we wrote: several chunks, files, cameras; H.264 or AV1.
"""

import hashlib
from pathlib import Path

import numpy as np

from wm_gym.data.lerobot_schema import (DATA_PATH, INFO_PATH, TASKS_PATH, VIDEO_PATH, DatasetError,
                                        CAMERA_PREFIX, read_info)
from wm_gym.data.video import count_frames, decode

AGAIN = "fetch or record the dataset again"


class LeRobotReader:
    """Read the dataset at `root`.

    .fps, .features, .cameras (keys of video features), .length int64 [E], .offset int64 [E+1] (rows of episode e are
    offset[e]:offset[e+1]), .tasks (text of each episode). Opening checks the folder's structure (version, files that
    are missing, lengths that disagree); `columns` checks values. Raises DatasetError.
    """

    def __init__(self, root):
        self.root = Path(root)
        self.info = read_info(self.root)
        self.fps, self.features = self.info["fps"], self.info["features"]
        self.cameras = [key for key, spec in self.features.items() if spec["dtype"] == "video"]
        self._rows = read_episodes(self.root, self.info)
        self.num_episodes = len(self._rows["length"])
        self.length = np.asarray(self._rows["length"], np.int64)
        self.offset = np.concatenate([[0], np.cumsum(self.length)]).astype(np.int64)
        self.tasks = [(list(task) or [""])[0] for task in self._rows["tasks"]]
        self._check_structure()

    def __len__(self):
        return self.num_episodes

    def camera(self, name=None):
        """Resolve a camera's name, short ("wrist_left") or whole, to its key; None takes the first."""
        if not self.cameras:
            images = [key for key, spec in self.features.items() if spec["dtype"] == "image"]
            raise DatasetError(f"{self.root} has no video feature" + (
                f"; {', '.join(images)} holds pictures in parquet: convert it to video with lerobot" if images else
                f"; its features are {', '.join(self.features)}"))
        if name is None:
            return self.cameras[0]
        for key in self.cameras:
            if name in (key, key.removeprefix(CAMERA_PREFIX)):
                return key
        there = ", ".join(key.removeprefix(CAMERA_PREFIX) for key in self.cameras)
        raise DatasetError(f"{self.root} has no camera {name!r}; it has {there}: give one with --camera")

    def data_files(self):
        """List the parquet files of the rows, in order."""
        pairs = dict.fromkeys(zip(self._rows["data/chunk_index"], self._rows["data/file_index"]))
        template = self.info.get("data_path", DATA_PATH)
        return [self.root / template.format(chunk_index=c, file_index=f) for c, f in pairs]

    def video_files(self, camera):
        """Map each video file of a camera key to its episodes [(episode, number of its first frame in the file)]."""
        chunk, file, start = (self._rows[f"videos/{camera}/{name}"]
                              for name in ("chunk_index", "file_index", "from_timestamp"))
        template, files = self.info.get("video_path") or VIDEO_PATH, {}
        for e in range(self.num_episodes):
            path = self.root / template.format(video_key=camera, chunk_index=chunk[e], file_index=file[e])
            # the time stamps are running float sums (109.60000000000001): round, never truncate
            files.setdefault(path, []).append((e, round(start[e] * self.fps)))
        return {path: sorted(where, key=lambda pair: pair[1]) for path, where in files.items()}

    def columns(self, keys=None):
        """Read columns of all episodes as {key: array [N, *shape]}, shapes as in info.json; floats must be finite."""
        import pyarrow.parquet as pq

        keys = [k for k, f in self.features.items() if f["dtype"] != "video"] if keys is None else list(keys)
        unknown = [key for key in keys if key not in self.features]
        if unknown:
            raise DatasetError(f"{self.root} has no feature {unknown[0]!r}; it has {', '.join(self.features)}")
        parts = {key: [] for key in {*keys, "episode_index"}}
        for path in self.data_files():
            table = pq.ParquetFile(path).read(columns=list(parts))
            for key in parts:
                if key not in table.column_names:
                    raise DatasetError(f"{path} lacks the column {key!r} that info.json promises; {AGAIN}")
                parts[key].append(_array(table.column(key), self.features[key], path, key))
        whole = {key: np.concatenate(part) for key, part in parts.items()}
        kept = whole["episode_index"][:, 0] < self.num_episodes  # rows beyond info.json's totals do not count
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
        """Yield (row, frame uint8 [H, W, 3]) for every row of the dataset, file by file; a missing one is an error."""
        for path, episodes in self.video_files(camera).items():
            rows = {first + t: self.offset[e] + t for e, first in episodes for t in range(self.length[e])}
            left = len(rows)
            for number, frame in decode(path, self.fps, stop=max(rows) + 1):
                row = rows.pop(number, None)
                if row is not None:
                    left -= 1
                    yield int(row), frame
            if left:
                self._missing_frame(path, next(iter(rows)), rows)

    def frames(self, camera, episode):
        """Decode one episode of a camera: uint8 [L, H, W, 3]."""
        for path, episodes in self.video_files(camera).items():
            for e, first in episodes:
                if e == episode:
                    length = int(self.length[e])
                    found = dict(decode(path, self.fps, first, first + length))
                    for number in range(first, first + length):
                        if number not in found:
                            self._missing_frame(path, number, {number: self.offset[e] + number - first})
                    return np.stack([found[number] for number in range(first, first + length)])
        raise DatasetError(f"{self.root} has no episode {episode}; it has 0 to {self.num_episodes - 1}")

    def content_hash(self, camera):
        """Hash what the rows and one camera's frames are read from: the same content gives the same hash anywhere."""
        digest = hashlib.blake2b(digest_size=16)
        files = [self.root / INFO_PATH, *self._meta_files(), *self.data_files(), *self.video_files(camera)]
        for path in files:
            digest.update(str(path.relative_to(self.root)).encode())
            with open(path, "rb") as file:
                while block := file.read(1 << 22):
                    digest.update(block)
        return digest.hexdigest()

    def _meta_files(self):
        return sorted((self.root / "meta/episodes").glob("chunk-*/file-*.parquet"))

    def _check_structure(self):
        missing = [path for path in self.data_files() if not path.is_file()]
        for key in self.cameras:
            if f"videos/{key}/from_timestamp" not in self._rows:
                raise DatasetError(f"{self.root}: meta/episodes says nothing of the camera {key}; {AGAIN}")
            missing += [path for path in self.video_files(key) if not path.is_file()]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise DatasetError(f"{self.root}: missing {missing[0].relative_to(self.root)}{more}; info.json promises "
                               f"{self.num_episodes} episodes: {AGAIN}")
        if self.offset[-1] != self.info["total_frames"]:
            raise DatasetError(f"{self.root}: the lengths in meta/episodes add up to {self.offset[-1]}, info.json says "
                               f"total_frames {self.info['total_frames']}; {AGAIN}")
        for key in self.cameras:
            for path, episodes in self.video_files(key).items():
                e, first = episodes[-1]
                have, need = count_frames(path), first + int(self.length[e])
                if have is not None and have < need:
                    raise DatasetError(f"{path} has {have} frames, but meta/episodes places episode {e} at frames "
                                       f"{first} to {need - 1} of it; {AGAIN}")

    def _check_finite(self, key, values):
        if values.dtype.kind != "f" or np.isfinite(values).all():
            return
        row = int(np.argwhere(~np.isfinite(values))[0][0])
        e = int(np.searchsorted(self.offset, row, side="right") - 1)
        raise DatasetError(f"{self.root}: {key!r} is {values[row].tolist()} in episode {e}, frame "
                           f"{row - self.offset[e]}; expected finite numbers: drop that episode or record it again")

    def _missing_frame(self, path, number, rows):
        e = int(np.searchsorted(self.offset, rows[number], side="right") - 1)
        raise DatasetError(f"{path} has no frame at {number / self.fps:.3f} s ({len(rows)} missing), where episode "
                           f"{e}, frame {rows[number] - self.offset[e]} should be at {self.fps} fps; {AGAIN}")


def read_tasks(root):
    """Read the task texts as {task_index: text}; the text may be the index (as pandas writes it) or a column."""
    import pyarrow.parquet as pq

    table = pq.ParquetFile(Path(root) / TASKS_PATH).read()
    text = next(name for name in table.column_names if name != "task_index")
    return dict(zip(table["task_index"].to_pylist(), table[text].to_pylist()))


def read_episodes(root, info, with_stats=False):
    """Read meta/episodes as {column: list over episodes}, ordered, up to info.json's total_episodes."""
    import pyarrow.parquet as pq

    total, rows = info["total_episodes"], {}
    files = sorted(Path(root).glob("meta/episodes/chunk-*/file-*.parquet"))
    if not total or not files:
        raise DatasetError(f"{root} holds no episodes (info.json says {total}, meta/episodes has {len(files)} files); "
                           f"record some with: wm-gym record ENV_ID --episodes 10 --out {root}")
    for path in files:
        source = pq.ParquetFile(path)
        keys = [k for k in source.schema_arrow.names if with_stats or not k.startswith("stats/")]
        table = source.read(columns=keys)
        for key in table.column_names:
            rows.setdefault(key, []).extend(table[key].to_pylist())
    order = np.argsort(rows["episode_index"], kind="stable")[:total]
    if [rows["episode_index"][i] for i in order] != list(range(total)):
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
    while pa.types.is_list(column.type) or pa.types.is_large_list(column.type) or \
            pa.types.is_fixed_size_list(column.type):
        column = column.flatten()
    size = int(np.prod(spec["shape"]))
    if len(column) != rows * size:
        raise DatasetError(f"{path}: {key!r} has {len(column)} numbers in {rows} rows, info.json says shape "
                           f"{spec['shape']}; {AGAIN}")
    if pa.types.is_string(column.type):
        raise DatasetError(f"{path}: {key!r} holds text; only numbers can be read")
    return np.asarray(column.to_numpy(zero_copy_only=False)).reshape(rows, *spec["shape"])
