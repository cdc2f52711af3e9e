"""How is a Gymnasium space written down as plain data, and read back?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gymnasium import Space, spaces

DTYPES = ("float16", "float32", "float64", "bool", *(f"{u}int{n}" for u in ("", "u") for n in (8, 16, 32, 64)))
MOST = 10_000_000
"""Numbers in an element of a space that is read."""
DEEPEST = 16
"""Levels of Dict and Tuple in one."""


class UnsupportedSpace(ValueError):
    """A space that no world can be learned with; it names the part and what to wrap it with."""


def to_data(space: Space, part: str = "the space") -> dict[str, Any]:
    """A space as JSON data; its seed is not kept.

    Args:
        space: Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of these.
        part: What to call it in an error.

    Raises:
        UnsupportedSpace: For another kind of space, naming which part of it.
    """
    if isinstance(space, spaces.Box):
        low, high = _bounds(space.low), _bounds(space.high)
        return {"type": "Box", "shape": list(space.shape), "dtype": str(space.dtype), "low": low, "high": high}
    if isinstance(space, spaces.Discrete):
        return {"type": "Discrete", "n": int(space.n), "start": int(space.start), "dtype": str(space.dtype)}
    if isinstance(space, spaces.MultiDiscrete):
        return {
            "type": "MultiDiscrete",
            "nvec": space.nvec.tolist(),
            "start": space.start.tolist(),
            "dtype": str(space.dtype),
        }
    if isinstance(space, spaces.MultiBinary):
        return {"type": "MultiBinary", "n": space.n if isinstance(space.n, int) else list(space.shape)}
    if isinstance(space, spaces.Dict):
        parts = {key: to_data(one, f"{part}[{key!r}]") for key, one in space.spaces.items()}
        if odd := [key for key in parts if not isinstance(key, str)]:
            raise UnsupportedSpace(f"{part} has the key {odd[0]!r}, expected text; wrap the environment to rename it")
        return {"type": "Dict", "spaces": parts}
    if isinstance(space, spaces.Tuple):
        return {"type": "Tuple", "spaces": [to_data(one, f"{part}[{i}]") for i, one in enumerate(space.spaces)]}
    raise UnsupportedSpace(
        f"{part} is {space}; a world has Box, Discrete, MultiDiscrete, MultiBinary, and Dict and Tuple of these. Wrap "
        "the environment so that this part is one of them or left out, e.g. with "
        "gymnasium.wrappers.TransformObservation or FilterObservation"
    )


def from_data(data: Any, origin: str = "the space", depth: int = 0) -> Space:
    """The space that `to_data` wrote.

    Args:
        data: What a file holds.
        origin: Which file and key, for the error.
        depth: Levels above it.

    Raises:
        ValueError: Where it is no such space; it names the part.
    """
    kinds = {
        "Box": _box,
        "Discrete": _discrete,
        "MultiDiscrete": _multi_discrete,
        "MultiBinary": _multi_binary,
        "Dict": lambda d: spaces.Dict(
            {str(key): from_data(one, f"{origin}[{key!r}]", depth + 1) for key, one in dict(d["spaces"]).items()}
        ),
        "Tuple": lambda d: spaces.Tuple(
            [from_data(one, f"{origin}[{i}]", depth + 1) for i, one in enumerate(list(d["spaces"]))]
        ),
    }
    if not isinstance(data, dict) or data.get("type") not in kinds or depth > DEEPEST:
        raise ValueError(f"{origin} is {str(data)[:80]!r}, expected the data of a space: one of {', '.join(kinds)}")
    try:
        return kinds[data["type"]](data)
    except (KeyError, TypeError, ValueError, AssertionError, OverflowError) as error:
        if str(error).startswith(origin):
            raise
        raise ValueError(f"{origin} is no {data['type']}: {type(error).__name__}: {str(error)[:200]}") from None


def _box(data: dict[str, Any]) -> Space:
    shape, dtype = _shape(data["shape"]), _dtype(data)
    low, high = (_unbounded(data[key], shape, dtype) for key in ("low", "high"))
    return spaces.Box(low, high, shape, dtype.type)


def _discrete(data: dict[str, Any]) -> Space:
    return spaces.Discrete(_small(data["n"]), start=int(data["start"]), dtype=_dtype(data).type)


def _multi_discrete(data: dict[str, Any]) -> Space:
    nvec, dtype = np.asarray(data["nvec"], np.int64), _dtype(data)
    if nvec.size > MOST or int(nvec.sum()) > MOST or (nvec < 1).any():
        raise ValueError(f"nvec has {nvec.size} entries of {int(nvec.sum())} in all")
    return spaces.MultiDiscrete(nvec, dtype=dtype.type, start=np.asarray(data["start"], np.int64))


def _multi_binary(data: dict[str, Any]) -> Space:
    n = data["n"]
    return spaces.MultiBinary(_shape(n) if isinstance(n, list) else _small(n))


def _shape(value: Any) -> tuple[int, ...]:
    shape = tuple(int(side) for side in value)
    if len(shape) > 32 or any(side < 0 for side in shape) or math.prod(shape) > MOST:
        raise ValueError(f"shape is {shape}")
    return shape


def _small(value: Any) -> int:
    if not 1 <= int(value) <= MOST:
        raise ValueError(f"n is {value!r}, expected 1 to {MOST}")
    return int(value)


def _dtype(data: dict[str, Any]) -> np.dtype:
    if data["dtype"] not in DTYPES:
        raise ValueError(f"dtype is {data['dtype']!r}, expected one of {', '.join(DTYPES)}")
    return np.dtype(data["dtype"])


def _bounds(values: np.ndarray) -> Any:
    """One number where all are equal, else the flat list; infinity as text, which JSON has no number for."""

    def plain(value: Any) -> Any:
        return value if math.isfinite(value) else "inf" if value > 0 else "-inf"

    flat = [plain(value) for value in values.ravel().tolist()]
    return flat[0] if flat and all(value == flat[0] for value in flat) else flat


def _unbounded(value: Any, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    if isinstance(value, list):
        numbers = [float(one) if isinstance(one, str) else one for one in value]
        return np.array(numbers, dtype).reshape(shape)
    return np.full(shape, float(value) if isinstance(value, str) else value, dtype)
