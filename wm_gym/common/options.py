"""How does a function take many options and state none of them twice? As one frozen dataclass and changes to it.

@dataclass(frozen=True)
class TrainOptions:
    preset: str = "tiny"
    "Sizes and lengths, one of PRESETS."

def train(dataset, out, options=None, **changes):
    options = with_changes(TrainOptions, options, changes)   # train(d, o, preset="small") as ever
"""

from __future__ import annotations

import ast
import difflib
import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

Options = TypeVar("Options")
Function = TypeVar("Function", bound=Callable[..., Any])

# Types of fields, with what the help of the command line calls a value (`wm_gym.cli.command.add_options`).
Count = Annotated[int, "N"]
"""A whole number, at least 1."""
Json = Annotated[dict[str, Any], "JSON"]
"""Keyword arguments; on a command line a JSON object."""
File = Annotated[str | Path, "FILE"]
FrameSize = Annotated[tuple[int, int], "HxW"]
"""Height and width in pixels; on a command line 64 or 96x160."""
Colour = Annotated[tuple[int, int, int], "R,G,B"]
"""Red, green and blue, each 0 to 255; on a command line 242,191,26."""
Overrides = Annotated[dict[str, Any], "FIELD=VALUE"]
"""Fields of a preset with other values; on a command line one a flag, which may be repeated."""


def with_changes(kind: type[Options], options: Options | None, changes: Mapping[str, Any]) -> Options:
    """Options with some of them changed.

    Args:
        kind: The frozen dataclass of the options.
        options: Its instance to start from; None for the defaults.
        changes: Values by the names of its fields.

    Returns:
        An instance of `kind`.

    Raises:
        TypeError: For a name that is no field, naming those that are, and for options of another kind.
    """
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for name in changes:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise TypeError(f"unknown option {name!r}; {hint}expected one of {', '.join(known)}")
    if options is not None and not isinstance(options, kind):
        raise TypeError(f"options is {options!r}, expected {kind.__name__}(...); single options are given by name")
    return replace(kind() if options is None else options, **changes)  # type: ignore[type-var]


def field_docs(kind: type) -> dict[str, str]:
    """The first paragraph under each field of a dataclass, its bases' too: what a command line says of the option."""
    docs: dict[str, str] = {}
    for one in reversed(kind.__mro__[:-1]):
        body = ast.parse(textwrap.dedent(inspect.getsource(one))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, below in zip(body.body, body.body[1:]):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                    docs[field.target.id] = " ".join(str(below.value.value).partition("\n\n")[0].split())
    return docs


def takes(kind: type) -> Callable[[Function], Function]:
    """A decorator: `help` and `inspect.signature` of a function show the fields of `kind` in place of `**changes`."""

    def decorate(function: Function) -> Function:
        own = [p for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
        names = {parameter.name for parameter in own}
        shown = [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if field.default is MISSING else field.default,
                annotation=field.type,
            )
            for field in fields(kind)
            if field.name not in names
        ]
        function.__signature__ = inspect.Signature([*own, *shown])  # type: ignore[attr-defined]  # PEP 362's name
        return function

    return decorate
