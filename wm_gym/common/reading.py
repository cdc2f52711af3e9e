"""How is a small file read that somebody else wrote? Bounded: its size, its depth, plain values; errors name the file.

`read_yaml` and `read_json` give the values, `check` holds them against a table of ranges, `tensor_heads` says what a
safetensors file holds before any of it is in memory, `read_tensors` reads it.
"""

from __future__ import annotations

import json
import math
import reprlib
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from wm_gym.common.accepted import shown

if TYPE_CHECKING:
    import torch

MOST_YAML, MOST_JSON, MOST_HEAD = 200_000, 1_000_000, 10_000_000  # bytes
DEEPEST, MOST_LISTS = 24, 100_000  # levels of lists and mappings, and their number
PLAIN = (str, bool, int, float, type(None))
AGAIN = "copy the file back, download it or write it again"


# --- files ------------------------------------------------------------------------------------------------------------


def read_json(path: str | Path, most: int = MOST_JSON, finite: bool = True) -> Any:
    """The value of a JSON file.

    Args:
        path: The file.
        most: Its largest size in bytes.
        finite: Whether NaN and infinity are refused.

    Raises:
        FileNotFoundError: Without the file.
        ValueError: For a larger one, and for anything but plain JSON; both errors name the file.
    """
    text = read_text(path, most)
    if (lists := text.count("[") + text.count("{")) > MOST_LISTS:
        raise ValueError(f"{path} has {lists:,} lists and mappings, expected at most {MOST_LISTS:,}; {AGAIN}")
    try:
        value = json.loads(text, object_pairs_hook=_pairs)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({_short(error)}); {AGAIN}") from None
    return _plain(path, value, finite)


def read_yaml(path: str | Path, most: int = MOST_YAML, finite: bool = True) -> Any:
    """The value of a YAML file without anchors, aliases and tags; else as `read_json`."""
    import yaml

    text = read_text(path, most)
    try:
        _check_events(yaml, text)
        value = yaml.load(text, _yaml_loader())
    except (yaml.YAMLError, ValueError, RecursionError, TypeError, LookupError, AttributeError) as error:
        raise ValueError(f"{path} is not valid YAML ({_short(error)}); {AGAIN}") from None
    return _plain(path, value, finite)


def read_mapping(path: str | Path, most: int | None = None, finite: bool = True) -> dict[str, Any]:
    """The mapping that a JSON or YAML file (by its suffix) is; ValueError where it is another value."""
    is_json = Path(path).suffix == ".json"
    read = read_json if is_json else read_yaml
    value = read(path, most or (MOST_JSON if is_json else MOST_YAML), finite)
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds a {type(value).__name__}, expected a mapping; {AGAIN}")
    return value


def read_text(path: str | Path, most: int) -> str:
    """The text of a file of at most so many bytes of UTF-8; FileNotFoundError without it, ValueError for another."""
    try:
        return read_bytes(path, most).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text ({error}); {AGAIN}") from None


def read_bytes(path: str | Path, most: int) -> bytes:
    """A file of at most so many bytes; FileNotFoundError without it, ValueError for a larger one."""
    if not Path(path).is_file():  # a pipe or a device would be read for ever
        raise FileNotFoundError(f"{path} is missing or no file; {AGAIN}")
    try:
        with open(path, "rb") as file:
            data = file.read(most + 1)
    except OSError as error:  # reading itself names no file
        raise ValueError(f"{path} cannot be read ({error}); {AGAIN}") from None
    if len(data) > most:
        size = max(Path(path).stat().st_size, len(data))
        raise ValueError(f"{path} has {size / 1e6:.1f} MB, expected at most {most / 1e6:g} MB; {AGAIN}")
    return data


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _check_once([key for key, _ in pairs])
    return dict(pairs)


def _check_once(keys: list[Any]) -> None:
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {reprlib.repr(twice)} is there twice")


def _check_events(yaml: ModuleType, text: str) -> None:
    """Before anything is built of it: an alias may stand for a billion of values, a tag for another type."""
    depth = 0
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ValueError(
                f"{event.start_mark} an anchor or alias ({event.anchor!r}), expected every value written out"
            )
        if getattr(event, "tag", None):
            raise ValueError(f"{event.start_mark} the tag {event.tag!r}, expected plain values")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise ValueError(f"values nested more than {DEEPEST} deep")


def _yaml_loader() -> type:
    """YAML's safe loader, which refuses a key that is there twice."""
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(base):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict:
            _check_once([key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)])
            return super().construct_mapping(node, deep)

    return Loader


def _plain(path: str | Path, value: Any, finite: bool) -> Any:
    """The value; ValueError where some of it is no plain value, nested too deep, or not finite."""
    todo: list[tuple[tuple[Any, ...], Any]] = [((), value)]
    while todo:
        way, one = todo.pop()
        if type(one) in (str, bool, int):
            continue
        if isinstance(one, dict):
            if other := [key for key in one if not isinstance(key, str)]:
                raise ValueError(
                    f"{path}: {_at(way)} has the key {shown(other[0])}, a {type(other[0]).__name__}, expected text"
                )
        elif not isinstance(one, (list, *PLAIN)):
            raise ValueError(
                f"{path}: {_at(way)} is a {type(one).__name__} ({shown(one)}), expected text, a number, "
                "a list or a mapping: put quotes around it"
            )
        elif finite and isinstance(one, float) and not math.isfinite(one):
            raise ValueError(f"{path}: {_at(way)} is {one}, expected a finite number; {AGAIN}")
        if isinstance(one, (dict, list)):
            if len(way) > DEEPEST:
                raise ValueError(f"{path}: values are nested more than {DEEPEST} deep; {AGAIN}")
            todo.extend(
                ((*way, key), inside) for key, inside in (one.items() if isinstance(one, dict) else enumerate(one))
            )
    return value


def _at(way: tuple) -> str:
    return ".".join(map(str, way)) or "it"


def _short(error: Exception) -> str:
    """An error of a library in a line."""
    return " ".join(str(error).split())[:300] or type(error).__name__


# --- tables of ranges -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    """What a value may be: in words, and as a test."""

    expected: str
    holds: Callable[[Any], bool]


def whole(low: int, high: int, step: int = 1) -> Rule:
    """An integer (no bool) in low..high, a multiple of step."""
    times = f", a multiple of {step}" if step > 1 else ""
    return Rule(
        f"a whole number from {low} to {high:,}{times}",
        lambda value: (
            isinstance(value, (int, np.integer))
            and not isinstance(value, bool)
            and low <= int(value) <= high
            and int(value) % step == 0
        ),
    )


def real(low: float, high: float, above: bool = False) -> Rule:
    """A finite number in [low, high], or in (low, high] with `above`."""
    return Rule(
        f"a number {'above' if above else 'from'} {low:g} {'and at most' if above else 'to'} {high:g}",
        lambda value: (
            isinstance(value, (int, float, np.number))
            and not isinstance(value, bool)
            and bool((low < value if above else low <= value) and value <= high)
        ),
    )


def text(most: int = 1000) -> Rule:
    """Text of at most so many characters."""
    return Rule(f"text of at most {most:,} characters", lambda value: isinstance(value, str) and len(value) <= most)


def one_of(*values: Any) -> Rule:
    """One of these values, and of its type."""
    return Rule(
        f"one of {', '.join(map(repr, values))}",
        lambda value: any(value == known and type(value) is type(known) for known in values),
    )


def many(rule: Rule, least: int = 0, most: int = 1024) -> Rule:
    """A list of values under one rule."""
    size = f"exactly {most}" if least == most else f"{least} to {most:,}"
    return Rule(
        f"a list of {size} entries, each {rule.expected}",
        lambda value: (
            isinstance(value, (list, tuple)) and least <= len(value) <= most and all(rule.holds(one) for one in value)
        ),
    )


def maybe(rule: Rule) -> Rule:
    """A value under a rule, or null."""
    return Rule(f"{rule.expected}, or null", lambda value: value is None or rule.holds(value))


def mapping(most: int = 1000) -> Rule:
    """A mapping of at most so many keys."""
    return Rule(f"a mapping of at most {most:,} keys", lambda value: isinstance(value, Mapping) and len(value) <= most)


FLAG = Rule("true or false", lambda value: isinstance(value, bool))
Table = Mapping[str, "Rule | Table"]


def check(path: str | Path, values: Any, table: Table, needed: tuple[str, ...] = (), where: str = "") -> dict:
    """The values of a file, each of which holds to its rule in a table.

    Args:
        path: The file, for errors.
        values: What it holds.
        table: A rule for each key; a rule that is a table itself is for a mapping inside.
        needed: Keys that must be there.
        where: The keys that lead to the values.

    Raises:
        ValueError: For anything else; it names file, key, value and range.
    """
    if not isinstance(values, Mapping):
        raise ValueError(
            f"{path}{': ' + where if where else ''} holds a {type(values).__name__}, expected a mapping "
            f"of {', '.join(table)}; {AGAIN}"
        )
    of = f"{where}." if where else ""
    if missing := [key for key in needed if key not in values]:
        raise ValueError(f"{path} lacks {', '.join(of + key for key in missing)}; {AGAIN}")
    if unknown := [key for key in values if key not in table]:
        raise ValueError(f"{path} has unknown fields {[of + key for key in unknown][:8]}; known: {sorted(table)}")
    for key, value in values.items():
        rule = table[key]
        if not isinstance(rule, Rule):
            check(path, value, rule, where=of + key)
        elif not rule.holds(value):
            raise ValueError(f"{path}: {of}{key} is {shown(value)}, expected {rule.expected}; {AGAIN}")
    return dict(values)


# --- weights ----------------------------------------------------------------------------------------------------------

FLOATS = ("F32", "F16", "BF16")
SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


def tensor_heads(path: str | Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The (dtype, shape) of each tensor of a safetensors file by name, from its head alone.

    Raises:
        FileNotFoundError: Without the file.
        ValueError: Where it is damaged: the sizes in the head are those of the file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; {AGAIN}")

    def damaged(why: str) -> ValueError:
        return ValueError(f"{path} is truncated or damaged: {why}; {AGAIN}")

    size = path.stat().st_size
    if size < 10:  # also what is no file on a disk, which can say 0
        raise damaged(f"it has {size} bytes")
    with open(path, "rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(MOST_HEAD, size - 8):
            raise damaged(f"its head has {length:,} bytes, expected 2 to {min(MOST_HEAD, max(0, size - 8)):,}")
        data = file.read(length)
    try:
        head = json.loads(data.decode("utf-8"), object_pairs_hook=_pairs)
        tensors = {name: about for name, about in head.items() if name != "__metadata__"}
        heads, places = {}, []
        for name, about in tensors.items():
            kind, shape, (begin, end) = about["dtype"], tuple(about["shape"]), about["data_offsets"]
            if not all(type(n) is int and n >= 0 for n in (*shape, begin, end)):
                raise ValueError(f"{name} has the shape {shown(shape)} at {shown((begin, end))}")
            if kind not in SIZES or end - begin != SIZES[kind] * math.prod(shape):
                raise ValueError(f"{name} is {shown(kind)} {shown(list(shape))} in {shown(end - begin)} bytes")
            heads[name] = kind, shape
            places.append((begin, end))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise damaged(_short(error)) from None
    at = 0
    for begin, end in sorted(places):
        if begin != at:
            raise damaged(f"there is a gap at byte {at:,}")
        at = end
    if at != size - 8 - length:
        raise damaged(f"its tensors take {at:,} bytes, and it has {size - 8 - length:,}")
    return heads


def read_tensors(path: str | Path, expected: Mapping[str, tuple[int, ...]], of: str | Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file, of exactly these names and shapes: numbers of a float type, and finite.

    Nothing is read where the head of the file says otherwise.

    Args:
        path: The file.
        expected: The shape of each tensor by its name.
        of: The file that says so, for the error.

    Raises:
        FileNotFoundError: Without the file.
        ValueError: For other tensors, or a damaged file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    heads = tensor_heads(path)
    if set(heads) != set(expected):
        lacks, has = sorted(set(expected) - set(heads)), sorted(set(heads) - set(expected))
        raise ValueError(
            f"{path} does not fit {of}: it lacks {lacks[:3]} and has {has[:3]} beside what belongs there; {AGAIN}"
        )
    for name, (kind, shape) in heads.items():
        if shape != tuple(expected[name]):
            raise ValueError(
                f"{path} does not fit {of}: {name} has shape {list(shape)}, expected {list(expected[name])}; {AGAIN}"
            )
        if kind not in FLOATS:
            raise ValueError(f"{path}: {name} is {kind}, expected one of {', '.join(FLOATS)}; {AGAIN}")
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is truncated or damaged ({error}); {AGAIN}") from error
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            bad = int((~tensor.isfinite()).sum())
            raise ValueError(
                f"{path}: {name} holds NaN or infinity ({bad:,} of {tensor.numel():,} numbers), expected "
                f"finite numbers; {AGAIN}"
            )
    return tensors
