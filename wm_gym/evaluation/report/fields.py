"""How is a measurement shown that has no section of its own? Every field of its result in a row of a table."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from math import floor, log10
from typing import Any, cast

from markupsafe import Markup

from wm_gym.common.options import field_docs
from wm_gym.common.page import fill
from wm_gym.common.records import Blank
from wm_gym.evaluation.report.found import Found
from wm_gym.evaluation.report.numbers import Cell, Row, Stat, cell, middle_of, name_of


def every_field(data: Any, found: Found) -> Markup:
    """The section: the docstring of the result's dataclass, and each field with its own docstring beside it."""
    return fill("report/every_field.html", about=inspect.getdoc(type(data)), rows=list(_rows_of(data, "", "")))


def _rows_of(value: Any, name: str, about: str, kind: str = "") -> Iterator[Row]:
    """A value in a row, or what it holds in rows of their own; TypeError for what cannot be shown."""
    inside: list[tuple[str, Any, str, str]] = []  # name, value, about, kind
    shown: Cell | None = None
    if isinstance(value, Blank):
        shown = cell(None, why=value.undefined)
    elif value is None or isinstance(value, float):
        shown = cell(value, _digits(value))
    elif isinstance(value, (str, int)):
        shown = Cell(str(value))
    elif isinstance(value, Mapping) and "n" in value and value.keys() & {"rate", "mean", "median"}:
        stat = cast(Stat, value)  # a TypedDict is a dict like any other: its keys say which it is
        shown = cell(stat, _digits(middle_of(stat)[0]))
    elif is_dataclass(value):
        docs = field_docs(type(value))
        inside = [(f.name.replace("_", " "), getattr(value, f.name), docs.get(f.name, ""), kind) for f in fields(value)]
    elif isinstance(value, Mapping):
        inside = [(name_of(key), each, about, "world" if key == "world" else kind) for key, each in value.items()]
    elif isinstance(value, (list, tuple)):
        inside = [(str(i), each, about, kind) for i, each in enumerate(value)]
    else:
        raise TypeError(f"{name} is a {type(value).__name__}, which no table can show: give it a section of its own")
    if shown:
        yield Row(name, [shown, Cell("", about, "why")], kind)
    for inner, each, words, colour in inside:
        yield from _rows_of(each, f"{name}, {inner}" if name else inner, words, colour)


def _digits(value: float | None) -> int:
    """Decimals that show three digits of a number."""
    return max(0, 2 - floor(log10(abs(value)))) if value else 0
