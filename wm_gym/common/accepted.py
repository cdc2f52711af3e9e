"""What do the environments take? One table of what is accepted, and the checks that refuse anything else by name.

A refusal is a ValueError that says which argument, what it was and what was expected; nothing has changed by then.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.error import Error as GymnasiumError
from numpy.typing import DTypeLike

MOST = 2**32 - 1
"""Of an episode's or a step's number: one word of the noise's counter."""
REAL = "iuf"  # dtype kinds of real numbers: no bool, complex, string, date or object

TABLE = {
    "seed": "an integer >= 0 or None",  # int, np.integer or an integer array without axes; so all integers here
    "count": f"an integer in 0..{MOST}",  # episode, step, t
    "limit": "an integer >= 1, -1 for no limit or None for the world's horizon",  # max_episode_steps, horizon
    "flag": "True or False",  # ended
    "number": "a finite real number",  # judge/progress, thresholds and penalties
    "numbers": "finite real numbers",  # actions, poses, latents, physics states: of exactly the shape, no broadcast
    "frame": "uint8",  # pictures, of exactly the shape too
    "dict": "a dict",  # a state; and options, where None means none
}


class BadSeed(ValueError, GymnasiumError):
    """Not a seed. Both a ValueError, as NumPy's, and Gymnasium's Error, as of its `Env.reset`."""


def seed(value: Any, name: str = "seed") -> int | None:
    """A seed as int, None as None."""
    if value is None:
        return None
    found = _integer(value)
    if found is None or found < 0:
        raise BadSeed(f"{name} is {shown(value)}, expected {TABLE['seed']}")
    return found


def seeds(value: Any, number: int) -> list[int | None]:
    """A seed for each of a number of environments: of one seed s, s + i; or a list of as many."""
    if isinstance(value, (list, tuple)) or isinstance(value, np.ndarray) and value.ndim == 1:
        if len(value) != number:
            raise BadSeed(f"seed has {len(value)} entries, expected one for each of the {number} environments")
        return [seed(one) for one in value]
    first = seed(value)
    return [None if first is None else first + i for i in range(number)]


def count(name: str, value: Any, most: int = MOST) -> int:
    """An integer in 0..most."""
    found = _integer(value)
    if found is None or not 0 <= found <= most:
        expected = TABLE["count"] if most == MOST else f"an integer in 0..{most}"
        raise ValueError(f"{name} is {shown(value)}, expected {expected}")
    return found


def limit(name: str, value: Any) -> int | None:
    """Steps of an episode at most: an integer >= 1, -1 for no limit, None."""
    found = None if value is None else _integer(value)
    if value is not None and (found is None or found < 1 and found != -1 or found > np.iinfo(np.int64).max):
        raise ValueError(f"{name} is {shown(value)}, expected {TABLE['limit']}")
    return found


def flag(name: str, value: Any) -> bool:
    """True or False, also NumPy's."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} is {shown(value)}, expected {TABLE['flag']}")
    return bool(value)


def flags(name: str, values: Any, number: int) -> np.ndarray:
    """bool [number], True at least once."""
    try:
        array = np.asarray(values)
    except ValueError:  # ragged
        array = np.zeros(0)
    if isinstance(values, np.ma.MaskedArray) or array.dtype != bool or array.shape != (number,) or not array.any():
        raise ValueError(f"{name} is {values!r}, expected bool [{number}], True at least once")
    return array


def number(name: str, value: Any) -> float:
    """A finite real number."""
    return float(numbers(name, value, (), np.float64, TABLE["number"]))


def real(name: str, values: Any, expected: str = TABLE["numbers"]) -> np.ndarray:
    """Real numbers of any shape as the array that they are; a tensor comes to the host."""
    if type(values) is np.ndarray and values.dtype.kind in REAL:
        return values  # each step comes here
    parts = [values, *(values if isinstance(values, (list, tuple)) else ())]
    if any(isinstance(part, np.ma.MaskedArray) for part in parts):
        raise ValueError(f"{name} is a masked array, expected {expected}; give what is under its mask: .filled(0)")
    try:
        array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged, or what an __array__ says
        raise ValueError(f"{name} {shown(values)} is not numeric ({error}); expected {expected}") from error
    if array.dtype.kind not in REAL:
        raise ValueError(f"{name} {shown(values)} is not numeric ({array.dtype}), expected {expected}")
    return array


def single(array: np.ndarray, dtype: DTypeLike = np.float32) -> np.ndarray:
    """A copy in a float dtype; what is too large for it becomes infinite, for the check that follows."""
    if array.dtype == dtype:
        return array.copy()
    with np.errstate(over="ignore"):
        return np.array(array, dtype)


def numbers(
    name: str, values: Any, shape: tuple[int, ...], dtype: DTypeLike = np.float32, expected: str = ""
) -> np.ndarray:
    """A copy of finite real numbers of exactly a shape."""
    expected = expected or f"{TABLE['numbers']} {list(shape)}"
    array = real(name, values, expected)
    if array.shape != tuple(shape):
        raise ValueError(f"{name} has shape {list(array.shape)}, expected {expected}")
    array = single(array, dtype)
    if not np.isfinite(array).all():
        bad = np.argwhere(~np.isfinite(array))[0].tolist()
        where = f" at index {bad[0] if len(bad) == 1 else bad}" if bad else ""
        raise ValueError(f"{name} is {array[tuple(bad)]}{where} (NaN or infinity), expected {expected}")
    return array


def frame(name: str, values: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A copy of a uint8 picture of exactly a shape."""
    array = real(name, values, f"{TABLE['frame']} {list(shape)}")
    if array.dtype != np.uint8 or array.shape != tuple(shape):
        raise ValueError(f"{name} is {array.dtype} {list(array.shape)}, expected {TABLE['frame']} {list(shape)}")
    return array.copy()


def mapping(name: str, value: Any, what: str = "") -> dict:
    """A dict with string keys, from any mapping (an open .npz too)."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} is a {type(value).__name__}, expected {what or TABLE['dict']}")
    return dict(value)


def options(name: str, value: Any) -> dict:
    """Options: a dict, or None for none."""
    return {} if value is None else mapping(name, value, f"{TABLE['dict']} or None")


def shown(value: Any) -> str:
    """A value in an error: short, an array as its dtype and shape."""
    if isinstance(value, np.ndarray) and value.ndim:
        return f"{value.dtype} {list(value.shape)}"
    return reprlib.repr(value)


def _integer(value: Any) -> int | None:
    if isinstance(value, np.ndarray) and value.ndim == 0 and not isinstance(value, np.ma.MaskedArray):
        value = value[()]
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.timedelta64))
    return int(value) if whole else None
