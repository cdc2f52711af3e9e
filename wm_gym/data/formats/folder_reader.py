"""What is in a folder of videos with their numbers beside them: NAME.mp4 and NAME.npz or NAME.csv?

An episode is one NAME. Further cameras are NAME.CAMERA.mp4. The npz holds action [T, A] and, where there are any,
state [T, S], reward [T], success [T] and task (text); T is the number of frames, or one less for action, reward and
success. The csv has a header line: columns that begin with action, state, reward or success, a line a frame. Videos
alone are a dataset without actions.
"""

from __future__ import annotations

import csv
import itertools
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np

from wm_gym.data.formats.lerobot_schema import AXES, CAMERA_PREFIX, DatasetError, Feature, check_features, feature
from wm_gym.data.formats.memory import check_memory
from wm_gym.data.formats.reader import Reader
from wm_gym.data.formats.video import decode, probe_rate

T = TypeVar("T")
KEYS = {"action": "action", "state": "observation.state", "reward": "next.reward", "success": "next.success"}


class FolderReader(Reader):
    """The reader of a folder of mp4 files with npz or csv files beside them (see this file's head).

    fps: frames a second, default what the videos say. Opening decodes nothing but reads every file of numbers.
    """

    format = "folder"

    def __init__(self, root: str | Path, fps: float | None = None, skip_damaged: bool = False) -> None:
        root = Path(root)
        super().__init__(root, skip_damaged)
        videos = {path.name.removesuffix(".mp4"): path for path in sorted(root.glob("*.mp4"))}
        stems = {stem for stem in videos if stem.rpartition(".")[0] not in videos}
        if not stems:
            raise DatasetError(f"{root} holds no NAME.mp4; expected videos with NAME.npz or NAME.csv beside them")
        self._names = sorted(stems)
        self.num_episodes = len(self._names)
        cameras = ["main", *sorted({stem.rpartition(".")[2] for stem in videos if stem not in stems})]
        self._videos = {
            (e, camera): root / f"{name if camera == 'main' else f'{name}.{camera}'}.mp4"
            for e, name in enumerate(self._names)
            for camera in cameras
        }
        found: dict[tuple[int, str], tuple[int, tuple[int, int], float]] = {}
        for (e, camera), path in self._videos.items():
            with self._noting(e):
                if not path.is_file():
                    raise DatasetError(f"missing {path.name}; every episode needs the same cameras")
                found[e, camera] = probe_rate(path)
        features: dict[str, Feature] = {}
        for camera in cameras:
            height, width = self._alike(
                {e: found[e, camera][1] for e in self.sound},
                f"frames of camera {camera}",
                "scale them, e.g. with ffmpeg -vf scale",
            )
            features[CAMERA_PREFIX + camera] = {"dtype": "video", "shape": [height, width, 3], "names": AXES}
        lengths = [found[e, "main"][0] if (e, "main") in found else 0 for e in range(self.num_episodes)]
        self._numbers: list[dict[str, np.ndarray]] = [{} for _ in self._names]
        tasks = ["" for _ in self._names]
        for e in self.sound:
            with self._noting(e):
                self._numbers[e], tasks[e] = self._read(self._names[e], lengths[e])
        usual = self._alike(
            {e: {key: value.shape[1] for key, value in self._numbers[e].items()} for e in self.sound},
            "columns",
            "expected the same in every episode",
        )
        self._settle()
        for key, width in usual.items():
            features[key] = feature("bool" if key == "next.success" else "float32", width)
        check_features(root, features)
        self._describe(fps or next(iter(found.values()))[2], features, lengths, tasks)

    def name(self, episode: int) -> str:
        """An episode's number and the NAME of its files."""
        return f"{episode} ({self._names[episode]})"

    def _alike(self, values: Mapping[int, T], what: str, mend: str) -> T:
        """What most of the sound episodes have, the first of several; those with another are damaged."""
        if not values:
            self._settle()
        usual = max(values.values(), key=list(values.values()).count)
        for e, value in values.items():
            if value != usual:
                self._fault(f"{self._names[e]} has {what} {value}, others {usual}: {mend}", e)
        return usual

    def _columns(self, episode: int, keys: list[str]) -> dict[str, np.ndarray]:
        return {key: self._numbers[episode][key] for key in keys}

    def _decode(self, camera: str, episode: int) -> Iterator[np.ndarray]:
        """Yield an episode's frames in order, whatever their times: numbers belong to frames, not to seconds."""
        path, length = self._videos[episode, camera.removeprefix(CAMERA_PREFIX)], self.length[episode]
        count = 0
        for _, frame in itertools.islice(decode(path, self.fps), length):
            yield self._check_frame(camera, frame, path)
            count += 1
        if count != length:
            raise DatasetError(f"{path} has {count} frames, expected {length}; copy it again")

    def files(self, camera: str | None) -> list[Path]:
        """All videos, and the files of numbers beside them."""
        beside = (self.root / f"{name}{end}" for name in self._names for end in (".npz", ".csv"))
        return sorted(path for path in [*self._videos.values(), *beside] if path.is_file())

    def _read(self, name: str, length: int) -> tuple[dict[str, np.ndarray], str]:
        """An episode's numbers {key: array [length, D]}, and its task."""
        path, task = self.root / f"{name}.npz", ""
        if path.is_file():
            raw, unknown, task = _read_npz(path)
        else:
            path = path.with_name(f"{name}.csv")
            if not path.is_file():
                return {}, ""
            raw, unknown = _read_csv(path)
        if "action" not in raw and unknown:
            raise DatasetError(
                f"{path} holds {', '.join(unknown)[:200]} and no action; expected "
                f"{'columns that begin with' if path.suffix == '.csv' else 'arrays called'} action and, "
                f"where there are any, state, reward, success: rename them, or leave those out for "
                f"video without actions"
            )
        columns = {}
        for short, key in KEYS.items():
            if short not in raw:
                continue
            value = raw[short]
            if value.dtype.kind not in "fiub":
                raise DatasetError(f"{path}: {short} holds {value.dtype}, expected numbers")
            value = value.astype(np.float32).reshape(len(value), -1) if value.size else np.zeros((0, 1))
            if value.ndim == 2 and len(value) == length - 1 and short != "state":  # of transitions: none begins last
                value = np.concatenate([value, value[-1:] if short == "action" else np.zeros_like(value[-1:])])
            if value.ndim != 2 or len(value) != length:
                raise DatasetError(
                    f"{path}: {short} has shape {np.shape(raw[short])}, {name}.mp4 has {length} frames; "
                    f"expected a row a frame"
                )
            columns[key] = value
        return columns, task


def _read_npz(path: Path) -> tuple[dict[str, np.ndarray], list[str], str]:
    """The arrays of an npz file without pickles, names of others, its task; what it unpacks to is checked first."""
    try:
        with zipfile.ZipFile(path) as archive:
            check_memory(f"unpacking {path}", sum(entry.file_size for entry in archive.infolist()))
        with np.load(path, allow_pickle=False) as archive:
            raw = {key: archive[key] for key in (*KEYS, "task") if key in archive.files}
            unknown = [key for key in archive.files if key not in raw]
    except DatasetError:
        raise
    except (
        OSError,
        ValueError,
        zipfile.BadZipFile,
        KeyError,
        EOFError,
        MemoryError,
        NotImplementedError,
        zlib.error,
        SyntaxError,
        TypeError,
        RuntimeError,
    ) as error:
        raise DatasetError(
            f"cannot read {path}: {error}; expected arrays as numpy.savez writes them, without objects"
        ) from None
    task = raw.pop("task", np.array(""))
    return raw, unknown, str(task) if task.dtype.kind == "U" else ""


def _read_csv(path: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """{"action": [T, A], ...} from a csv file's columns whose names begin so, in its order; the others' names."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            head, *lines = list(csv.reader(file))
        columns = {short: [i for i, name in enumerate(head) if name.strip().startswith(short)] for short in KEYS}
        unknown = [name for name in head if not name.strip().startswith(tuple(KEYS))]
        return {
            short: np.array([[float(line[i]) for i in where] for line in lines], np.float32).reshape(
                len(lines), len(where)
            )
            for short, where in columns.items()
            if where
        }, unknown
    except (OSError, ValueError, IndexError, csv.Error) as error:
        raise DatasetError(f"cannot read {path}: {error}; expected a header line and numbers, a line a frame") from None
