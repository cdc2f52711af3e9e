"""What is in a folder of videos with their numbers beside them: NAME.mp4 and NAME.npz or NAME.csv?

An episode is one NAME. Further cameras are NAME.CAMERA.mp4. The npz holds action [T, A] and, where there are any,
state [T, S], reward [T], success [T] and task (text); T is the number of frames, or one less for action, reward and
success. The csv has a header line: columns that begin with action, state, reward or success, a line a frame. Videos
alone are a dataset without actions.
"""

import csv
import zipfile
import zlib
from pathlib import Path

import numpy as np

from wm_gym.data.lerobot_schema import CAMERA_PREFIX, DatasetError, check_features
from wm_gym.data.memory import check_memory
from wm_gym.data.reader import Reader
from wm_gym.data.video import decode, probe_rate

KEYS = {"action": "action", "state": "observation.state", "reward": "next.reward", "success": "next.success"}


class FolderReader(Reader):
    """Read the folder `root` of mp4 files with npz or csv files beside them (see Reader, and this file's head).

    fps: frames a second, default what the videos say. Opening decodes nothing but reads every file of numbers.
    Raises DatasetError.
    """

    format = "folder"

    def __init__(self, root, fps=None):
        root = Path(root)
        videos = {path.name.removesuffix(".mp4"): path for path in sorted(root.glob("*.mp4"))}
        stems = {stem for stem in videos if stem.rpartition(".")[0] not in videos}
        if not stems:
            raise DatasetError(f"{root} holds no NAME.mp4; expected videos with NAME.npz or NAME.csv beside them")
        self._names = sorted(stems)
        cameras = sorted({stem.rpartition(".")[2] for stem in videos if stem not in stems})
        self._videos = {(name, camera): videos.get(f"{name}.{camera}" if camera != "main" else name)
                        for name in self._names for camera in ("main", *cameras)}
        missing = [f"{name}.{camera}.mp4" for (name, camera), path in self._videos.items() if path is None]
        if missing:
            raise DatasetError(f"{root}: missing {missing[0]}; every episode needs the same cameras")
        found = {key: probe_rate(path) for key, path in self._videos.items()}
        lengths = [found[name, "main"][0] for name in self._names]
        self.root = root
        rate = fps or found[self._names[0], "main"][2]
        self._numbers, tasks, features = [], [], {}
        for camera in ("main", *cameras):
            sizes = {found[name, camera][1] for name in self._names}
            if len(sizes) > 1:
                raise DatasetError(f"{root}: the videos of camera {camera} have sizes {sorted(sizes)}; expected one "
                                   f"size: scale them first, e.g. with ffmpeg -vf scale")
            features[CAMERA_PREFIX + camera] = {"dtype": "video", "shape": [*sizes.pop(), 3],
                                                "names": ["height", "width", "channels"]}
        for name, length in zip(self._names, lengths):
            numbers, task = self._read(name, length)
            self._numbers.append(numbers)
            tasks.append(task)
        first = self._numbers[0]
        for name, numbers in zip(self._names, self._numbers):
            shapes = [{key: value.shape[1] for key, value in one.items()} for one in (first, numbers)]
            if shapes[0] != shapes[1]:
                raise DatasetError(f"{root}: {name} has columns {shapes[1]}, {self._names[0]} has {shapes[0]}; "
                                   f"expected the same in every episode")
        for key, value in first.items():
            features[key] = {"dtype": "bool" if key == "next.success" else "float32", "shape": [value.shape[1]],
                             "names": None}
        check_features(root, features)
        self._describe(root, rate, features, lengths, tasks)

    def columns(self, keys=None):
        keys = self._known(keys)
        whole = {key: np.concatenate([numbers[key] for numbers in self._numbers]) for key in keys
                 if key in self._numbers[0]}
        for key in whole:
            self._check_finite(key, whole[key])
        return {key: value.astype(self.features[key]["dtype"]) for key, value in whole.items()}

    def iter_frames(self, camera):
        for e in range(self.num_episodes):
            count = 0
            for count, frame in enumerate(self._decode(camera, e), 1):
                yield int(self.offset[e]) + count - 1, frame
            self._check_count(camera, e, count)

    def frames(self, camera, episode):
        self._check_episode(episode)
        frames = list(self._decode(camera, episode))
        self._check_count(camera, episode, len(frames))
        return np.stack(frames)

    def files(self, camera):
        beside = (self.root / f"{name}{end}" for name in self._names for end in (".npz", ".csv"))
        return sorted([*self._videos.values(), *(path for path in beside if path.is_file())])

    def _path(self, camera, e):
        return self._videos[self._names[e], camera.removeprefix(CAMERA_PREFIX)]

    def _decode(self, camera, e):
        """Yield an episode's frames in order, whatever their times: numbers belong to frames, not to seconds."""
        path = self._path(camera, e)
        for count, (_, frame) in enumerate(decode(path, self.fps)):
            if count == self.length[e]:
                return
            yield self._check_frame(camera, frame, path)

    def _check_count(self, camera, e, count):
        if count != self.length[e]:
            raise DatasetError(f"{self._path(camera, e)} has {count} frames, expected {self.length[e]}; copy it again")

    def _read(self, name, length):
        """Read an episode's numbers -> ({key: array [length, D]}, task)."""
        archive, table = self.root / f"{name}.npz", self.root / f"{name}.csv"
        task = ""
        if archive.is_file():
            raw, task, path = *_read_npz(archive), archive
        elif table.is_file():
            raw, path = _read_csv(table), table
        else:
            return {}, ""
        columns = {}
        for short, key in KEYS.items():
            if short not in raw:
                continue
            value = np.asarray(raw[short])
            if value.dtype.kind not in "fiub":
                raise DatasetError(f"{path}: {short} holds {value.dtype}, expected numbers")
            value = value.astype(np.float32).reshape(len(value), -1) if value.size else np.zeros((0, 1))
            if value.ndim == 2 and len(value) == length - 1 and short != "state":  # of transitions: none begins last
                value = np.concatenate([value, value[-1:] if short == "action" else np.zeros_like(value[-1:])])
            if value.ndim != 2 or len(value) != length:
                raise DatasetError(f"{path}: {short} has shape {np.shape(raw[short])}, {name}.mp4 has {length} frames; "
                                   f"expected a row a frame")
            columns[key] = value
        return columns, task


def _read_npz(path):
    """Read an npz file without pickles, and its task; what it unpacks to is checked first."""
    try:
        with zipfile.ZipFile(path) as archive:
            check_memory(f"unpacking {path}", sum(entry.file_size for entry in archive.infolist()))
        with np.load(path, allow_pickle=False) as archive:
            raw = {key: archive[key] for key in (*KEYS, "task") if key in archive.files}
    except DatasetError:
        raise
    except (OSError, ValueError, zipfile.BadZipFile, KeyError, EOFError, MemoryError, NotImplementedError,
            zlib.error, SyntaxError, TypeError, RuntimeError) as error:
        raise DatasetError(f"cannot read {path}: {error}; expected arrays as numpy.savez writes them, without "
                           f"objects") from None
    task = raw.pop("task", np.array(""))
    return raw, str(task) if task.dtype.kind == "U" else ""


def _read_csv(path):
    """Read a csv file -> {"action": [T, A], ...} from the columns whose names begin so, in the file's order."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            head, *lines = list(csv.reader(file))
        columns = {short: [i for i, name in enumerate(head) if name.strip().startswith(short)] for short in KEYS}
        return {short: np.array([[float(line[i]) for i in where] for line in lines], np.float32).reshape(
            len(lines), len(where)) for short, where in columns.items() if where}
    except (OSError, ValueError, IndexError, csv.Error) as error:
        raise DatasetError(f"cannot read {path}: {error}; expected a header line and numbers, a line a "
                           f"frame") from None
