"""How is a statistic written, so that what is undefined never looks like a number? Plain text and a table's rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from wm_gym.common.statistics import Mean, Median, Rate

T = TypeVar("T")
Stat: TypeAlias = Rate | Mean | Median
NAMES = {
    "world": "the world",
    "tokenizer": "physics through the tokenizer",
    "perturbed": "physics, start perturbed",
    "frozen": "first frame repeated",
    "zero_action": "world given zero actions",
    "mirrored": "world given mirrored actions",
    "floor": "other true videos (floor)",
    "autoregressive": "whole roll-outs",
    "teacher_forced": "single steps from true frames",
}


def name_of(name: str) -> str:
    """A roll-out, or what else there is a name for, in words."""
    return NAMES.get(name, name)


def step_of(key: str) -> int:
    """10 of "at_10"."""
    return int(key.rpartition("_")[2])


def number(value: float | None, digits: int = 1, unit: str = "") -> str:
    """A number with its unit, "undefined" for None."""
    return "undefined" if value is None else f"{round(value, digits) + 0.0:.{digits}f}{unit}"  # + 0.0: no "-0.0"


def percent(value: float | None, digits: int = 0) -> str:
    """A share as per cent, "undefined" for None."""
    return number(None if value is None else 100 * value, digits, " %")


def stated(stat: Stat, digits: int = 1, unit: str = "") -> str:
    """A `rate`, `median` or `mean` with its interval in brackets; what it is undefined for where it has none."""
    middle, between = _parts(stat, digits)
    return f"{middle}{unit if 'rate' not in stat else ''}" + (f" [{between}]" if between else "")


@dataclass(frozen=True)
class Cell:
    """A table's cell: a number over something small; kind: "why" where that is a reason."""

    text: str
    small: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Row:
    """A table's row; kind: "world" colours it. With columns it heads those after it, over so many."""

    name: str
    cells: list[Cell] = field(default_factory=list)
    kind: str = ""
    columns: int = 0


def cell(stat: Stat | float | None, digits: int = 1, why: str = "") -> Cell:
    """The middle over its interval; why: the reason where `stat` is None."""
    if not isinstance(stat, dict):
        return Cell(number(stat, digits), why, "why") if stat is None and why else Cell(number(stat, digits))
    middle, between = _parts(stat, digits)
    return Cell(middle, between or f"no interval, n = {stat['n']}")


def rows_of(of: Mapping[str, T], cells: Callable[[T], list[Cell]]) -> list[Row]:
    """A row a name, the world's in its colour."""
    return [Row(name_of(name), cells(one), "world" * (name == "world")) for name, one in of.items()]


def share_cell(value: float | None, why: str) -> Cell:
    """A share that has no interval."""
    return cell(None, 0, why) if value is None else Cell(percent(value))


def middle_of(stat: Stat) -> tuple[float | None, float | None, float | None]:
    """(middle, low, high) of a `rate`, `median` or `mean`; shares as they are."""
    if "rate" in stat:
        return (stat["rate"], stat["low"], stat["high"]) if stat["n"] else (None, None, None)
    return (stat["median"] if "median" in stat else stat["mean"]), stat["low"], stat["high"]


def _parts(stat: Stat, digits: int) -> tuple[str, str]:
    middle, low, high = middle_of(stat)
    if middle is None:
        return "undefined", "no such case, n = 0"
    if low is None or high is None:
        return number(middle, digits), ""
    if "rate" in stat:
        return percent(middle), f"{100 * low:.0f} to {100 * high:.0f} %"
    return number(middle, digits), f"{number(low, digits)} to {number(high, digits)}"
