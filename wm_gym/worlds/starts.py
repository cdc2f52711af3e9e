"""Where may an episode start? A bank of real clips: pictures, actions, proprioception, simulator state."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wm_gym.common import accepted
from wm_gym.common.reading import AGAIN, tensor_heads

STARTS_FILE, FRAMES = "starts.safetensors", "frames_png"
MOST_PIXELS, MOST_CLIPS, LAST = 10**9, 10**6, 2**32 - 1
ONE_STRIP, STRIP = 178_956_970, 2**24  # pixels; a larger picture is none that versions before 0.3 could read
DEFLATE = 1040  # it makes data smaller by no more than that
KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "frames_shape": (("I64",), ("4",)),
    "actions": (("F32", "F64"), ("N", "T-1", "any")),
    "proprioception": (("F32", "F64"), ("N", "T", "any")),
    "episode": (("I64", "I32"), ("N",)),
    "t": (("I64", "I32"), ("N",)),
    "physics_state": (("F64", "F32"), ("N", "any")),
}
"""The dtypes and the axes of the tensors beside the frames."""


@dataclass
class StartBank:
    """N short clips of T frames, oldest first; episodes start at each clip's last frame."""

    frames: np.ndarray
    """uint8 [N, T, H, W, 3]."""
    actions: np.ndarray
    """float32 [N, T-1, A]."""
    proprioception: np.ndarray
    """float32 [N, T, P]; P may be 0."""
    episode: np.ndarray
    """int64 [N], episode of the dataset."""
    t: np.ndarray
    """int64 [N], step of the last frame in its episode."""
    physics_state: np.ndarray | None = None
    """float64 [N, S], the simulator's state at the last frame, where there is one."""

    def __len__(self) -> int:
        return len(self.episode)

    def index(self, episode: int, t: int) -> int:
        """The position of the clip that ends at step t of an episode; ValueError if the bank holds none."""
        found = np.flatnonzero((self.episode == episode) & (self.t == t))
        if not len(found):
            steps = self.t[self.episode == episode]
            there = (
                f"steps {sorted(steps.tolist())} of it"
                if len(steps)
                else f"episodes {np.unique(self.episode)[:8].tolist()} …"
            )
            raise ValueError(
                f"the start bank holds no clip at episode={episode}, t={t}; it has {there} ({len(self)} clips)"
            )
        return int(found[0])

    def save(self, folder: str | Path) -> None:
        """Write `starts.safetensors`; the frames as one lossless PNG strip, or as many as a very large bank needs.

        ValueError for a bank that could not be loaded again.
        """
        from safetensors.numpy import save_file

        path = Path(folder, STARTS_FILE)
        _check_shape(path, self.frames.shape[:4])
        n, t, h, w, _ = self.frames.shape
        rows = self.frames.reshape(n * t * h, w, 3)
        most = len(rows) if len(rows) * w <= ONE_STRIP else STRIP // (h * w) * h or h
        tensors = {
            f"{FRAMES}_{k}" if k else FRAMES: _png(rows[at : at + most])
            for k, at in enumerate(range(0, len(rows), most))
        }
        beside = {name: getattr(self, name) for name in KINDS if name != "frames_shape"}
        tensors |= {"frames_shape": np.array([n, t, h, w])}
        tensors |= {name: values for name, values in beside.items() if values is not None}
        self.check(path)
        save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, path)

    @classmethod
    def load(cls, folder: str | Path) -> StartBank:
        """Read `starts.safetensors`; FileNotFoundError or ValueError names the file."""
        from safetensors import SafetensorError, safe_open

        path = Path(folder, STARTS_FILE)
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing; a world needs its bank of starts: retrain, or copy it back")
        heads = tensor_heads(path)
        strips = [name for name in heads if name == FRAMES or name.startswith(f"{FRAMES}_")]
        strips.sort(key=lambda name: (len(name), name))
        if missing := sorted({FRAMES, *KINDS} - set(heads) - {"physics_state"}):
            raise ValueError(f"{path} lacks {', '.join(missing)}; {AGAIN}")
        if unknown := sorted(set(heads) - set(KINDS) - set(strips)):
            raise ValueError(f"{path} has unknown tensors {unknown[:4]}; {AGAIN}")
        for name, (kind, shape) in heads.items():
            kinds, axes = KINDS.get(name, (("U8",), ("any",)))
            if kind not in kinds or len(shape) != len(axes) or name == "frames_shape" and shape != (4,):
                raise ValueError(
                    f"{path}: {name} is {kind} {list(shape)}, expected {' or '.join(kinds)} with {len(axes)} axes; "
                    f"{AGAIN}"
                )
        try:
            with safe_open(path, "np") as file:
                shape = tuple(file.get_tensor("frames_shape").tolist())
                _check_shape(path, shape)
                sizes = {"N": shape[0], "T": shape[1], "T-1": shape[1] - 1, "4": 4}
                for name, (_, axes) in KINDS.items():
                    expected = [sizes.get(axis) for axis in axes]
                    if name in heads and any(e is not None and e != size for e, size in zip(expected, heads[name][1])):
                        raise ValueError(
                            f"{path}: {name} has shape {list(heads[name][1])}, and the {shape[0]} clips "
                            f"of {shape[1]} frames ask for {expected} (None: any); {AGAIN}"
                        )
                frames = _frames(path, [file.get_tensor(name) for name in strips], shape)
                rest = {name: file.get_tensor(name) for name in KINDS if name in heads and name != "frames_shape"}
        except SafetensorError as error:
            raise ValueError(f"{path} is truncated or damaged ({error}); {AGAIN}") from error
        bank = cls(frames, **rest)
        bank.check(path)
        return bank

    def check(self, path: str | Path = "the bank of starts") -> None:
        """Raise ValueError where a number of the bank is none that a start can have."""
        for name in ("actions", "proprioception", "physics_state"):
            values = getattr(self, name)
            if values is not None and not np.isfinite(values).all():
                clip = int(np.argwhere(~np.isfinite(values))[0][0])
                raise ValueError(
                    f"{path}: {name} of clip {clip} holds NaN or infinity, expected finite numbers; train "
                    "the world again, or leave that episode out"
                )
        for name in ("episode", "t"):
            values = getattr(self, name)
            if len(values) and not 0 <= values.min() <= values.max() <= LAST:
                raise ValueError(
                    f"{path}: {name} holds {values.min()} and {values.max()}, expected whole numbers from "
                    f"0 to {LAST}; {AGAIN}"
                )


def most_starts(frames: int, height: int, width: int) -> int:
    """How many clips of so many frames a bank can hold."""
    return min(MOST_CLIPS, MOST_PIXELS // (frames * height * width))


def _check_shape(path: Path, shape: tuple[int, ...]) -> None:
    n, t, h, w = shape
    if not (
        1 <= n <= MOST_CLIPS and 1 <= t <= 1024 and 1 <= h <= 4096 and 1 <= w <= 4096 and n * t * h * w <= MOST_PIXELS
    ):
        raise ValueError(
            f"{path}: the bank has {n} clips of {t} frames of {h} x {w}, expected 1 to {MOST_CLIPS:,} of "
            f"1 to 1024 frames of at most 4096 x 4096, together {MOST_PIXELS:,} pixels at most: keep "
            "fewer starts (--set starts=N)"
        )


def _png(rows: np.ndarray) -> np.ndarray:
    """A picture uint8 [H, W, 3] as the bytes of a PNG."""
    from PIL import Image

    png = io.BytesIO()
    Image.fromarray(rows).save(png, "PNG", optimize=True)
    return np.frombuffer(png.getvalue(), np.uint8)


def _frames(path: Path, strips: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """uint8 [N, T, H, W, 3] of the pictures on strips, one below the other.

    Pillow's own bound on a picture's size does not hold here: what `frames_shape` says is what is allowed.
    """
    from PIL.PngImagePlugin import PngImageFile

    n, t, h, w = shape
    if 3 * n * t * h * w > DEFLATE * sum(map(len, strips)):
        raise ValueError(
            f"{path}: {sum(map(len, strips)):,} bytes of PNG cannot hold the {n * t * h * w:,} pixels "
            f"that frames_shape says; {AGAIN}"
        )
    at, rows = 0, np.empty(0, np.uint8)
    for strip in strips:
        try:
            picture = PngImageFile(io.BytesIO(strip.tobytes()))
            width, height = picture.size
            if picture.mode != "RGB" or width != w or at + height > n * t * h:
                raise ValueError(f"picture strip is {picture.mode} {picture.size}, expected RGB {(w, n * t * h - at)}")
            picture.load()
            rows = rows if len(rows) else np.empty((n * t * h, w, 3), np.uint8)
            step = max(1, STRIP // w)
            for top in range(0, height, step):
                end = min(top + step, height)
                rows[at + top : at + end] = np.asarray(picture.crop((0, top, w, end)))
        except Exception as error:  # Pillow's are of many kinds
            raise ValueError(f"{path} is damaged ({error}); download or train the world again") from error
        at += height
    if at != n * t * h:
        raise ValueError(f"{path}: the picture strips have {at:,} rows, expected {n * t * h:,}; {AGAIN}")
    return rows.reshape(n, t, h, w, 3)


def bank_place(options: dict, starts: StartBank) -> tuple[int, int]:
    """The episode and step of a bank's clip that the options ask for; without "t" the episode's first in the bank."""
    episode = accepted.count("reset option 'episode'", options["episode"])
    if "t" in options:
        return episode, accepted.count("reset option 't'", options["t"])
    steps = starts.t[starts.episode == episode]
    return episode, int(steps.min()) if len(steps) else 0
