"""How does an element of a Gymnasium space become a vector of numbers and a picture, and back?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from gymnasium import Space, spaces

from wm_gym.common.space_data import UnsupportedSpace, to_data

SMALLEST_PICTURE = 16
"""Pixels of a side; what is smaller is a grid of numbers."""

Kind = Literal["real", "whole", "choice", "bit", "picture"]


@dataclass(frozen=True)
class PictureLayout:
    """How a picture lies in its array: k frames of H x W with 1 or 3 channels."""

    height: int
    width: int
    channels: int
    """1 (grey) or 3 (RGB)."""
    frames: int
    """Frames that are stacked, oldest first."""
    axes: str
    """"HW", "HWC", "CHW" or "KHWC"."""

    def newest(self, picture: np.ndarray) -> np.ndarray:
        """The last frame uint8 [H, W, 3] of a picture."""
        stacked = self._frames_last(picture)[-self.channels :]
        return np.ascontiguousarray(np.broadcast_to(stacked, (3, self.height, self.width)).transpose(1, 2, 0))

    def picture(self, frames: np.ndarray) -> np.ndarray:
        """The picture, in its own layout, of the last k frames uint8 [..., k, H, W, 3], oldest first."""
        if self.channels == 1:  # ITU-R 601, as PIL, OpenCV and Gymnasium's GrayscaleObservation have it
            frames = np.rint(frames @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)[..., None]
        if self.axes == "KHWC":
            return frames
        by_channel = np.moveaxis(frames, -1, -3)  # [..., k, C, H, W]
        channels = by_channel.reshape(*frames.shape[:-4], -1, self.height, self.width)
        if self.axes == "HW":
            return channels[..., 0, :, :]
        return channels if self.axes == "CHW" else np.moveaxis(channels, -3, -1)

    def _frames_last(self, picture: np.ndarray) -> np.ndarray:
        """[frames * channels, H, W] of one picture."""
        if self.axes == "HW":
            return picture[None]
        if self.axes == "KHWC":
            picture = picture.transpose(0, 3, 1, 2)
        elif self.axes == "HWC":
            picture = picture.transpose(2, 0, 1)
        return picture.reshape(-1, self.height, self.width)


def picture_layout(space: Space) -> PictureLayout | None:
    """How a space holds a picture: uint8 from 0 to 255, grey or RGB, HWC or CHW, stacked or not; None where it is none.

    The channels are the smallest axis, as Stable-Baselines3 has it; others than 1 or 3 are stacked frames.
    """
    if not isinstance(space, spaces.Box) or space.dtype != np.uint8 or space.low.any() or (space.high != 255).any():
        return None
    shape = space.shape
    if len(shape) == 2:
        layout = PictureLayout(*shape, 1, 1, "HW")
    elif len(shape) == 3:
        first = int(np.argmin(shape)) == 0
        (height, width), channels = (shape[1:], shape[0]) if first else (shape[:2], shape[2])
        colours = 3 if channels % 3 == 0 and channels else 1
        layout = PictureLayout(height, width, colours, channels // colours, "CHW" if first else "HWC")
    elif len(shape) == 4 and shape[3] in (1, 3):
        layout = PictureLayout(shape[1], shape[2], shape[3], shape[0], "KHWC")
    else:
        return None
    small = min(layout.height, layout.width) < SMALLEST_PICTURE or not layout.frames
    return None if small else layout


@dataclass(frozen=True)
class Leaf:
    """One part of a space that holds no others."""

    path: tuple[str | int, ...]
    space: Space
    kind: Kind
    start: int
    """Where its numbers begin in the vector."""
    size: int
    """How many they are; 0 for a picture."""

    @property
    def counts(self) -> list[int]:
        """Of a choice: the number of values of each of its parts."""
        if isinstance(self.space, spaces.Discrete):
            return [int(self.space.n)]
        assert isinstance(self.space, spaces.MultiDiscrete)
        return [int(n) for n in self.space.nvec.ravel()]


class SpaceCodec:
    """The numbers and the picture of a space's elements.

    Real and integer boxes are their numbers, a Discrete or each part of a MultiDiscrete is one-hot, a MultiBinary is
    zeros and ones, and one uint8 box that is a picture (`picture_layout`) is a frame.

    Args:
        space: Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of these.
        pictures: Whether a picture is one; else it is a box of integers.
        part: What to call the space in an error.

    Raises:
        UnsupportedSpace: For another space, and for several pictures.
    """

    def __init__(self, space: Space, pictures: bool = True, part: str = "the space"):
        to_data(space, part)  # says what is not supported
        self.space, self.leaves = space, list[Leaf]()
        self._walk(space, (), pictures)
        self.size = sum(leaf.size for leaf in self.leaves)
        shown = [leaf for leaf in self.leaves if leaf.kind == "picture"]
        if len(shown) > 1:
            named = " and ".join(_name(leaf.path) for leaf in shown)
            raise UnsupportedSpace(
                f"{part} has several pictures, {named}; a world draws one: wrap the environment in "
                "gymnasium.wrappers.FilterObservation to keep one of them"
            )
        self.layout = picture_layout(shown[0].space) if shown else None
        """How the picture lies; None without one."""

    def _walk(self, space: Space, path: tuple[str | int, ...], pictures: bool) -> None:
        if isinstance(space, (spaces.Dict, spaces.Tuple)):
            parts = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
            for key, one in parts:
                self._walk(one, (*path, key), pictures)
            return
        kind, size = _kind_and_size(space, pictures)
        start = self.leaves[-1].start + self.leaves[-1].size if self.leaves else 0
        self.leaves.append(Leaf(path, space, kind, start, size))

    @property
    def names(self) -> list[str]:
        """A name for each number, such as "position.0" or "direction=2"."""
        names = []
        for leaf in self.leaves:
            name = _name(leaf.path)
            if leaf.kind == "choice":
                for i, (count, first) in enumerate(zip(leaf.counts, _first_values(leaf))):
                    whose = name if isinstance(leaf.space, spaces.Discrete) else f"{name}.{i}"
                    names += [f"{whose}={first + k}" for k in range(count)]
            else:
                names += [f"{name}.{i}" for i in range(leaf.size)]
        return names

    @property
    def groups(self) -> list[tuple[int, int]]:
        """Where in the vector each one-hot choice begins and ends."""
        found = []
        for leaf in self.leaves:
            if leaf.kind == "choice":
                edges = leaf.start + np.cumsum([0, *leaf.counts])
                found += [(int(a), int(b)) for a, b in zip(edges, edges[1:])]
        return found

    @property
    def whole(self) -> list[int]:
        """The places of numbers that are integers, of zeros and ones too."""
        return [i for leaf in self.leaves if leaf.kind in ("whole", "bit") for i in _places(leaf)]

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """The lowest and highest value of each number, float64 [size] twice."""
        low, high = np.zeros(self.size), np.ones(self.size)
        for leaf in self.leaves:
            if isinstance(leaf.space, spaces.Box) and leaf.size:
                where = slice(leaf.start, leaf.start + leaf.size)
                low[where], high[where] = leaf.space.low.ravel(), leaf.space.high.ravel()
        return low, high

    def numbers(self, element: Any) -> np.ndarray:
        """The numbers float32 [size] of an element."""
        return self.batch_numbers(batch_of_one(element), 1)[0]

    def batch_numbers(self, elements: Any, count: int) -> np.ndarray:
        """The numbers float32 [count, size] of a batch of elements, as `gymnasium.vector` batches them."""
        rows = np.empty((count, self.size), np.float32)
        for leaf in self.leaves:
            if leaf.size:
                value = np.asarray(_at(elements, leaf.path))
                rows[:, leaf.start : leaf.start + leaf.size] = _encoded(leaf, value, count)
        return rows

    def frame(self, element: Any) -> np.ndarray | None:
        """The newest frame uint8 [H, W, 3] of an element's picture; None without one."""
        for leaf in self.leaves:
            if leaf.kind == "picture" and self.layout is not None:
                return self.layout.newest(np.asarray(_at(element, leaf.path)))
        return None

    def batch(self, numbers: np.ndarray, frames: np.ndarray | None = None) -> Any:
        """A batch of elements, as `gymnasium.vector` batches them.

        Args:
            numbers: float32 [B, size]; put into the bounds, rounded where integers are.
            frames: The last k frames uint8 [B, k, H, W, 3], oldest first, where the space has a picture.
        """
        leaves = iter(self.leaves)

        def build(space: Space) -> Any:
            if isinstance(space, spaces.Dict):
                return {key: build(one) for key, one in space.spaces.items()}
            if isinstance(space, spaces.Tuple):
                return tuple(build(one) for one in space.spaces)
            leaf = next(leaves)
            if leaf.kind == "picture":
                assert self.layout is not None and frames is not None
                return self.layout.picture(frames)
            return _decoded(leaf, numbers[:, leaf.start : leaf.start + leaf.size])

        return build(self.space)

    def element(self, numbers: np.ndarray, frames: np.ndarray | None = None) -> Any:
        """One element of numbers float32 [size] and, where it has a picture, frames uint8 [k, H, W, 3]."""
        return one_of_batch(self.batch(numbers[None], None if frames is None else frames[None]), 0)


def batch_of_one(element: Any) -> Any:
    """An element as a batch of one, every leaf an array with a leading axis."""
    return map_leaves(element, lambda value: np.asarray(value)[None])


def one_of_batch(batch: Any, i: int) -> Any:
    """Element i of a batch of elements; a real number is an array without axes, an integer is NumPy's."""
    return map_leaves(batch, lambda values: np.asarray(values[i]) if values.dtype.kind == "f" else values[i])


def _kind_and_size(space: Space, pictures: bool) -> tuple[Kind, int]:
    if pictures and picture_layout(space) is not None:
        return "picture", 0
    if isinstance(space, spaces.Discrete):
        return "choice", int(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return "choice", int(space.nvec.sum())
    size = int(np.prod(space.shape or ()))
    if isinstance(space, spaces.MultiBinary):
        return "bit", size
    assert isinstance(space, spaces.Box)
    return ("real" if space.dtype.kind == "f" else "whole"), size


def _encoded(leaf: Leaf, values: np.ndarray, count: int) -> np.ndarray:
    """The numbers [count, leaf.size] of a batch of a leaf's values."""
    if leaf.kind != "choice":
        return values.reshape(count, -1).astype(np.float32)
    chosen = values.reshape(count, len(leaf.counts)).astype(np.int64) - _first_values(leaf)
    return np.concatenate([np.eye(n, dtype=np.float32)[chosen[:, i]] for i, n in enumerate(leaf.counts)], 1)


def _decoded(leaf: Leaf, numbers: np.ndarray) -> np.ndarray:
    """A batch of a leaf's values of numbers [B, leaf.size]."""
    space, dtype = leaf.space, leaf.space.dtype
    if leaf.kind == "choice":
        edges = np.cumsum([0, *leaf.counts])
        chosen = [numbers[:, a:b].argmax(1) for a, b in zip(edges, edges[1:])]
        values = np.stack(chosen, 1) + _first_values(leaf)
        return values.reshape(len(numbers), *(space.shape or ())).astype(dtype)
    numbers = numbers.reshape(len(numbers), *(space.shape or ())).astype(np.float64)
    if leaf.kind != "real":
        numbers = np.rint(numbers)
    if leaf.kind == "bit":
        return np.clip(numbers, 0, 1).astype(dtype)
    assert isinstance(space, spaces.Box)
    low, high = space.low, space.high
    if leaf.kind == "whole":  # the ends of int64 are no float64: clipped as integers
        edges64 = np.iinfo(np.int64)
        return np.clip(np.clip(numbers, edges64.min, 2.0**63 - 1024).astype(np.int64), low, high).astype(dtype)
    return np.clip(numbers, low, high).astype(dtype)


def _first_values(leaf: Leaf) -> np.ndarray:
    assert isinstance(leaf.space, (spaces.Discrete, spaces.MultiDiscrete))
    return np.asarray(leaf.space.start, np.int64).ravel()


def _places(leaf: Leaf) -> range:
    return range(leaf.start, leaf.start + leaf.size)


def _name(path: tuple[str | int, ...]) -> str:
    return ".".join(map(str, path)) or "observation"


def _at(element: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        element = element[key]
    return element


def map_leaves(element: Any, change: Callable[[Any], Any]) -> Any:
    """An element with each leaf changed."""
    if isinstance(element, dict):
        return {key: map_leaves(value, change) for key, value in element.items()}
    if isinstance(element, tuple):
        return tuple(map_leaves(value, change) for value in element)
    return change(element)


def leaves_of(element: Any) -> list[Any]:
    """What an element holds that holds no others."""
    found: list[Any] = []
    map_leaves(element, found.append)
    return found
