"""What does a measurement give? A frozen dataclass, its JSON, and `Undefined`, the one error that becomes a blank."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, NotRequired, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

T = TypeVar("T")


class Undefined(ValueError):
    """Something that a measurement needs is not there. Its message is the reason, which is published."""


@dataclass(frozen=True)
class Blank:
    """What stands where a measurement is undefined."""

    undefined: str
    """Why."""


def or_blank(measure: Callable[[], T]) -> T | Blank:
    """What a measurement gives, or a blank with the reason why it is `Undefined`; every other error goes through."""
    try:
        return measure()
    except Undefined as reason:
        return Blank(str(reason))


def from_json(kind: Any, value: Any, where: str = "") -> Any:
    """A record out of its JSON (`dataclasses.asdict` and back).

    Args:
        kind: A dataclass or TypedDict, or a type made of those: dict[str, X], list[X], X | None, float, int, str, Any.
        value: What JSON gave. Keys that `kind` does not have are left out.
        where: What the value is called in errors.

    Raises:
        ValueError: Where a field is missing or of another type, naming it.
    """
    inside, origin = get_args(kind), get_origin(kind)
    if kind is Any:
        return value
    if origin in (Union, UnionType):
        return _one_of(inside, value, where)
    if origin is dict and isinstance(value, Mapping):
        return {key: from_json(inside[1], each, f"{where}/{key}") for key, each in value.items()}
    if origin is list and isinstance(value, list):
        return [from_json(inside[0], each, f"{where}/{i}") for i, each in enumerate(value)]
    if (is_dataclass(kind) or is_typeddict(kind)) and isinstance(value, Mapping):
        return kind(**_fields(kind, value, where))
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, type) and not is_typeddict(kind) and isinstance(value, kind):
        return value
    raise ValueError(f"{where or 'it'} is {_short(value)}, expected {getattr(kind, '__name__', kind)}")


def _fields(kind: Any, value: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The fields of a record by name."""
    if is_typeddict(kind):  # `__optional_keys__` does not know of annotations that are strings
        marked = get_type_hints(kind, include_extras=True)
        optional = {name for name, hint in marked.items() if get_origin(hint) is NotRequired}
    else:
        optional = {f.name for f in fields(kind) if f.default is not MISSING or f.default_factory is not MISSING}
    hints = get_type_hints(kind)
    if missing := [name for name in hints if name not in value and name not in optional]:
        raise ValueError(f"{where or 'it'} lacks {', '.join(missing)}")
    return {name: from_json(hint, value[name], f"{where}/{name}") for name, hint in hints.items() if name in value}


def _one_of(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    """A value of the first type that it fits; the error is that of the first type."""
    if value is None and NoneType in kinds:
        return None
    errors = []
    for kind in kinds:
        if kind is not NoneType:
            try:
                return from_json(kind, value, where)
            except ValueError as error:
                errors.append(error)
    raise errors[0]


def _short(value: Any) -> str:
    return text if len(text := repr(value)) < 60 else f"{text[:57]}..."
