"""What can be asked of a dataset of robot video, whatever format it is stored in?"""

from __future__ import annotations

import contextlib
import hashlib
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wm_gym.data.formats.lerobot_schema import AGAIN, CAMERA_PREFIX, DatasetError, Feature
from wm_gym.data.formats.memory import check_memory

SKIP = "leave damaged episodes out with --skip-damaged (of train and data convert; skip_damaged=True in Python)"


class Reader:
    """A dataset that is open for reading; each format has a subclass, `formats.open_reader` finds it.

    Row t holds observation t and action t. Whatever is wrong with the files raises DatasetError. With skip_damaged,
    what is wrong with single episodes is put into `damaged` instead, as far as it is seen: at opening, by `columns`
    and by `iter_frames`. Damaged episodes keep their numbers and rows; what those rows hold means nothing, and no
    frame of them is given.
    """

    format = ""
    notes: dict[str, Any] = {}
    """What wm-gym's own recorder wrote down."""
    root: Path
    fps: float
    """Frames a second."""
    features: dict[str, Feature]
    """Under LeRobot's keys: action, observation.state, observation.images.NAME, next.reward, next.success."""
    cameras: list[str]
    """The keys of the pictures."""
    num_episodes: int
    length: np.ndarray
    """int64 [E], rows of each episode."""
    offset: np.ndarray
    """int64 [E+1]: the rows of episode e are offset[e]:offset[e+1]."""
    tasks: list[str]
    """The text of each episode, "" where there is none."""
    damaged: dict[int, str]
    """{episode: why it cannot be read}."""

    def __init__(self, root: Path, skip_damaged: bool = False) -> None:
        self.root, self.skip_damaged, self.damaged = root, skip_damaged, {}

    def _describe(self, fps: float, features: dict[str, Feature], length: Sequence[int], tasks: Iterable[str]) -> None:
        self.fps, self.features = fps, features
        self.cameras = [key for key, spec in features.items() if is_picture(spec)]
        self.num_episodes = len(length)
        self.length = np.asarray(length, np.int64)
        self.offset = np.concatenate([[0], np.cumsum(self.length)]).astype(np.int64)
        self.tasks = list(tasks)

    def __len__(self) -> int:
        return self.num_episodes

    def columns(self, keys: Iterable[str] | None = None) -> dict[str, np.ndarray]:
        """Columns of all episodes as {key: array [N, *shape]}, all but the pictures by default; floats are finite."""
        keys = self._known(keys)
        parts: dict[str, list[np.ndarray]] = {key: [] for key in keys}
        for e in range(self.num_episodes):
            made: dict[str, np.ndarray] = {}
            if e not in self.damaged:
                with self._noting(e):
                    made = self._columns(e, keys)
            for key in keys:
                feature = self.features[key]
                parts[key].append(
                    made[key] if made else np.zeros((self.length[e], *feature["shape"]), feature["dtype"])
                )
        self._settle()
        whole = {key: np.concatenate(part) for key, part in parts.items()}
        for key, values in whole.items():
            self._check_finite(key, values)
        return {key: values.astype(self.features[key]["dtype"], copy=False) for key, values in whole.items()}

    def _columns(self, episode: int, keys: list[str]) -> dict[str, np.ndarray]:
        """The columns {key: array [L, *shape]} of one episode, or DatasetError."""
        raise NotImplementedError

    def iter_frames(self, camera: str) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (row, frame uint8 [H, W, 3]) for every row of the episodes; a missing one is an error, or left out."""
        if not self.skip_damaged:
            yield from self._stream(camera)
            return
        for e in self.sound:
            with self._noting(e):
                yield from enumerate(self.frames(camera, e), int(self.offset[e]))
        self._settle()

    def frames(self, camera: str, episode: int) -> np.ndarray:
        """The frames uint8 [L, H, W, 3] of one episode of a camera; Damaged where they cannot be read."""
        if not 0 <= episode < self.num_episodes:
            raise DatasetError(f"{self.root} has no episode {episode}; it has 0 to {self.num_episodes - 1}")
        return np.stack(list(self._episode(camera, episode)))

    def _stream(self, camera: str) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (row, frame) for every row, in any order."""
        for e in range(self.num_episodes):
            yield from enumerate(self._episode(camera, e), int(self.offset[e]))

    def _episode(self, camera: str, episode: int) -> Iterator[np.ndarray]:
        """Yield the frames of one episode in order; Damaged where they cannot be read."""
        if episode in self.damaged:
            raise Damaged(self, {episode: self.damaged[episode]})
        try:
            yield from self._decode(camera, episode)
        except DatasetError as error:
            raise Damaged(self, {episode: self._short(error)}) from None

    def _decode(self, camera: str, episode: int) -> Iterator[np.ndarray]:
        """Yield the frames of one episode in order, or raise DatasetError."""
        raise NotImplementedError

    def files(self, camera: str | None) -> list[Path]:
        """Every file that the rows, and the frames of one camera or none, are read from."""
        raise NotImplementedError

    def camera(self, name: str | None = None) -> str:
        """The key of a camera by its name, short ("wrist_left") or whole; of the first by None."""
        if not self.cameras:
            raise DatasetError(f"{self.root} has no pictures; its features are {', '.join(self.features)}")
        if name is None:
            return self.cameras[0]
        for key in self.cameras:
            if name in (key, key.removeprefix(CAMERA_PREFIX)):
                return key
        there = ", ".join(key.removeprefix(CAMERA_PREFIX) for key in self.cameras)
        raise DatasetError(f"{self.root} has no camera {name!r}; it has {there}: give one with --camera")

    def frame_size(self, camera: str) -> tuple[int, int]:
        """The stored (height, width) of a camera's frames."""
        shape, names = self.features[camera]["shape"], self.features[camera].get("names")
        first = names[0] if isinstance(names, list) and names else ""
        height, width = shape[1:] if str(first).startswith("channel") else shape[:2]  # [3, H, W] in older datasets
        return height, width

    def content_hash(self, *cameras: str) -> str:
        """A hash of the files that the rows and the cameras' frames are read from, the same wherever they lie."""
        digest = hashlib.blake2b(digest_size=16)
        for path in dict.fromkeys(path for camera in cameras or [None] for path in self.files(camera)):
            digest.update(str(path.relative_to(self.root)).encode())
            if self.skip_damaged and not path.is_file():
                continue  # its episodes are damaged
            with open(path, "rb") as file:
                while block := file.read(1 << 22):
                    digest.update(block)
        return digest.hexdigest()

    def number_keys(self) -> list[str]:
        """The columns that hold numbers."""
        return [key for key, spec in self.features.items() if not is_picture(spec) and spec["dtype"] != "string"]

    def names(self, key: str, size: int) -> list[str] | None:
        """The names of the `size` numbers of a column; None where the dataset has not one for each."""
        names = self.features[key].get("names") if key in self.features else None
        if isinstance(names, dict):  # lerobot also writes {"motors": [...]}
            names = [name for group in names.values() for name in (group if isinstance(group, list) else [group])]
        return [str(name) for name in names] if isinstance(names, list) and len(names) == size else None

    def _known(self, keys: Iterable[str] | None) -> list[str]:
        """The checked names of columns that memory can hold; None means every column of numbers."""
        known = self.number_keys() if keys is None else list(keys)
        for key in known:
            if key not in self.features:
                raise DatasetError(f"{self.root} has no feature {key!r}; it has {', '.join(self.features)}")
        check_memory(
            f"reading {', '.join(known)} of {self.root}",
            8 * int(self.offset[-1]) * sum(math.prod(self.features[key]["shape"]) for key in known),
        )
        return known

    def _check_frame(self, camera: str, frame: np.ndarray, path: Path) -> np.ndarray:
        """Give the frame back if it has the promised size."""
        if frame.shape[:2] != self.frame_size(camera):
            raise DatasetError(
                f"{path} has a frame of {frame.shape[0]}x{frame.shape[1]}, the dataset promises "
                f"{'x'.join(map(str, self.frame_size(camera)))} for {camera}; fetch or record it again"
            )
        return frame

    @property
    def sound(self) -> list[int]:
        """The episodes that nothing is known against."""
        return [e for e in range(self.num_episodes) if e not in self.damaged]

    def sound_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows int64 [n] of the sound episodes, and their own offset [E+1]."""
        rows = [np.arange(self.offset[e], self.offset[e + 1]) for e in self.sound]
        return np.concatenate(rows), np.cumsum([0, *map(len, rows)])

    def know(self, damaged: Mapping[int, str] | Mapping[str, str]) -> None:
        """Take over what an earlier reading of the same files found, {episode: why}."""
        for e, why in damaged.items():
            self._fault(why, int(e))
        self._settle()

    def name(self, episode: int) -> str:
        """An episode's number here, and the one that the dataset itself has for it where that is another."""
        return str(episode)

    def _fault(self, why: DatasetError | str, *episodes: int | np.integer) -> None:
        """Note why episodes cannot be read; `_settle` raises it where none is to be left out."""
        for e in episodes:
            self.damaged.setdefault(int(e), self._short(why))

    @contextlib.contextmanager
    def _noting(self, *episodes: int | np.integer) -> Iterator[None]:
        """Note a DatasetError of this block as the fault of these episodes, and go on after it."""
        try:
            yield
        except DatasetError as error:
            self._fault(error, *episodes)

    def _settle(self) -> None:
        """Raise DatasetError for the episodes noted, unless they are left out and others remain."""
        if self.damaged and not (self.skip_damaged and self.sound):
            damaged, self.damaged = self.damaged, self.damaged if self.skip_damaged else {}
            raise Damaged(self, damaged)

    def _short(self, why: DatasetError | str) -> str:
        """A fault's words without the folder and what to do about the whole dataset."""
        if isinstance(why, Damaged):
            return next(iter(why.episodes.values()))
        words = str(why).replace(f"{self.root}/", "").removeprefix(f"{self.root}: ")
        return words.removesuffix(f"; {AGAIN}").removesuffix(f": {AGAIN}")

    def _check_finite(self, key: str, values: np.ndarray) -> None:
        if values.dtype.kind != "f" or np.isfinite(values).all():
            return
        rows = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(1))
        for e, row in zip(*np.unique(self._episode_of(rows), return_index=True)):
            at = rows[row] - self.offset[e]
            self._fault(f"{key!r} is {values[rows[row]].tolist()} in frame {at}, expected finite numbers", e)
        self._settle()

    def _episode_of(self, row: Any) -> Any:
        """The episode of a row, or of each of several."""
        return np.searchsorted(self.offset, row, side="right") - 1


class Damaged(DatasetError):
    """Some episodes of a dataset cannot be read."""

    episodes: Mapping[int, str]
    """{number: why}."""

    def __init__(self, reader: Reader, episodes: Mapping[int, str]) -> None:
        self.episodes = episodes
        every = len(episodes) == reader.num_episodes > 1
        super().__init__(
            f"{reader.root}: {'every episode is damaged, ' if every else ''}{faults(reader, episodes)}; "
            f"{AGAIN}{'' if every or reader.skip_damaged else f', or {SKIP}'}"
        )


def faults(reader: Reader, damaged: Mapping[int, str], each: str = "; ") -> str:
    """The text that says which episodes are damaged and why, those of one fault together."""
    names: dict[str, list[str]] = {}
    for e, why in sorted(damaged.items()):
        names.setdefault(why, []).append(reader.name(e))
    return each.join(f"episode{'s' * (len(of) > 1)} {', '.join(of)}: {why}" for why, of in names.items())


def is_picture(spec: Feature) -> bool:
    """True where a feature is a camera's: a video, or pictures stored among the rows."""
    return spec["dtype"] in ("video", "image")


def warn_left_out(reader: Reader, damaged: Mapping[int, str], stacklevel: int = 3) -> None:
    """Warn of the episodes that are left out, each by its number, and why."""
    if damaged:
        warnings.warn(
            f"{reader.root}: {len(damaged)} of {reader.num_episodes} episodes are damaged and left out: "
            f"{faults(reader, damaged)}",
            stacklevel=stacklevel,
        )
