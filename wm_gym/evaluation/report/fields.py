"""How is a measurement shown that has no section of its own? Every field of its result in a row of a table."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from markupsafe import Markup

from wm_gym.common.options import field_docs
from wm_gym.common.page import fill
from wm_gym.common.records import Blank
from wm_gym.evaluation.report.figures import name_of
from wm_gym.evaluation.report.found import Found
from wm_gym.evaluation.report.numbers import Cell, Row, cell


def every_field(data: Any, found: Found) -> Markup:
    """The section: the docstring of the result's dataclass, and each field with its own docstring beside it."""
    return fill("report/every_field.html", about=inspect.getdoc(type(data)), rows=list(_rows_of(data, "", "")))


def _rows_of(value: Any, name: str, about: str, kind: str = "") -> Iterator[Row]:
    """A value in a row, or what it holds in rows of their own; TypeError for what cannot be shown."""
    inside: list[tuple[str, Any, str, str]] = []  # name, value, about, kind
    if isinstance(value, Blank):
        yield Row(name, [cell(None, 0, value.undefined), Cell("", about, "why")], kind)
    elif value is None or isinstance(value, (str, int, float)):
        text = f"{value:.4g}" if isinstance(value, float) else "none" if value is None else str(value)
        yield Row(name, [Cell(text), Cell("", about, "why")], kind)
    elif isinstance(value, Mapping) and "n" in value and value.keys() & {"rate", "mean", "median"}:
        yield Row(name, [cell(value, 2), Cell("", about, "why")], kind)  # type: ignore[arg-type]  # a Stat, by its keys
    elif is_dataclass(value):
        docs = field_docs(type(value))
        inside = [(f.name.replace("_", " "), getattr(value, f.name), docs.get(f.name, ""), kind) for f in fields(value)]
    elif isinstance(value, Mapping):
        inside = [(name_of(key), each, about, kind or key) for key, each in value.items()]
    elif isinstance(value, (list, tuple)):
        inside = [(str(i), each, about, kind) for i, each in enumerate(value)]
    else:
        raise TypeError(f"{name} is a {type(value).__name__}, which no table can show: give it a section of its own")
    for inner, each, words, colour in inside:
        yield from _rows_of(each, f"{name}, {inner}" if name else inner, words, colour)
