"""What is a command, and which values do several take?"""

from __future__ import annotations

import argparse
import builtins
import json
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import Field, dataclass, fields
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from wm_gym.common.options import Colour, Count, FrameSize, Json, Overrides, field_docs
from wm_gym.training.presets import Preset

Options = TypeVar("Options")

ENV_ID_HELP = "id of a registered environment; module:id imports the module first, e.g. gym_pusht:gym_pusht/PushT-v0"


@dataclass(frozen=True)
class Command:
    """One command: the words that name it, one line of help, an example, its flags and its handler."""

    name: str
    help: str
    example: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]


def add_options(parser: argparse.ArgumentParser, kind: type, leave_out: Collection[str] = (), **names: str) -> None:
    """A flag for each field of an option dataclass, so that an option stands once.

    The first paragraph of the field's docstring is the help, its type says how a value is written
    (`wm_gym.common.options`), and its default holds where nothing is typed: `options_of` gives the dataclass then. A
    switch that is on has a flag --no-NAME. The flag of a Sequence[str] or tuple[str, ...] may be repeated; that of an
    Annotated[Sequence[str], "NAME"] takes several values.

    Args:
        parser: What gets the flags.
        kind: The frozen dataclass.
        leave_out: Fields without a flag.
        names: Flags of another name than their field's, e.g. recipe_file="recipe".
    """
    docs = field_docs(kind)
    for field in fields(kind):
        if field.name in leave_out:
            continue
        doc = docs[field.name].rstrip(".").replace("%", "%%")
        doc = doc if doc[1:2].isupper() else doc[0].lower() + doc[1:]
        flag, how = names.get(field.name, field.name).replace("_", "-"), _spelled(_type(kind, field))
        if isinstance(field.default, bool):
            how = {"action": f"store_{str(not field.default).lower()}"}
            flag, doc = (f"no-{flag}", f"do not {doc}") if field.default else (flag, doc)
        elif how.get("action") == "append":
            doc += "; may be repeated"
        elif "(default" not in doc and field.default not in (None, "", ()):
            default = f"{field.default:g}" if isinstance(field.default, float) else field.default
            doc += f" (default: {default})"
        parser.add_argument(f"--{flag}", dest=field.name, default=argparse.SUPPRESS, help=doc, **how)


def options_of(kind: type[Options], args: argparse.Namespace, **given: Any) -> Options:
    """The options that are given, else those typed at the flags of `add_options`, else the dataclass's own."""
    typed = {}
    for field in fields(kind):  # type: ignore[arg-type]  # mypy cannot say "a dataclass"
        if hasattr(args, field.name):
            value = getattr(args, field.name)
            if isinstance(value, list):
                value = dict(value) if READERS.get(_one(_type(kind, field))) is preset_field else tuple(value)
            typed[field.name] = value
    return kind(**typed | given)


class _Names(dict):
    """Names as an annotation finds them; what only a type checker imports is `object`."""

    def __missing__(self, name: str) -> type:
        return object


def _type(kind: type, field: Field) -> Any:
    """The type of a field, where its module has postponed annotations too."""
    if not isinstance(field.type, str):
        return field.type
    home = next(one for one in kind.__mro__ if field.name in vars(one).get("__annotations__", {}))
    return eval(field.type, {}, _Names(vars(builtins) | vars(sys.modules[home.__module__])))


def _one(hint: Any) -> Any:
    """Of a union the type that can be typed: not None, nor an object of Python's."""
    if get_origin(hint) not in (Union, UnionType):
        return hint
    return next(one for one in get_args(hint) if one not in (NoneType, object))


def _spelled(hint: Any) -> dict[str, Any]:
    """What argparse needs to know of a type; TypeError for one that cannot be typed."""
    hint = _one(hint)
    reader, metavar = READERS.get(hint), None
    if get_origin(hint) is Annotated:
        hint, metavar = hint.__origin__, hint.__metadata__[0]
    if get_origin(hint) is Sequence or get_origin(hint) is tuple and get_args(hint)[-1] is Ellipsis:
        each = _spelled(get_args(hint)[0])
        return each | ({"nargs": "+", "metavar": metavar} if metavar else {"action": "append"})
    if get_origin(hint) is Literal:
        return {"choices": get_args(hint)}
    reader = reader or {int: int, float: float, bool: bool, str: str}.get(_one(hint))
    if reader is None:
        raise TypeError(f"{hint} cannot be typed on a command line; leave the field out")
    return {"type": reader, "metavar": metavar, **({"action": "append"} if reader is preset_field else {})}


def json_object(text: str) -> dict[str, Any]:
    """Keyword arguments as a JSON object, e.g. '{"size": 96}'."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON ({error}); write e.g. '{{\"size\": 96}}'") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is not a JSON object; write e.g. '{{\"size\": 96}}'")
    return value


def frame_size(text: str) -> tuple[int, int]:
    """A frame's height and width: '64' is (64, 64), '96x160' is (96, 160)."""
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a frame size; write 64 or HEIGHTxWIDTH, e.g. 96x160")
    return int(parts[0]), int(parts[-1])


def colour(text: str) -> tuple[int, int, int]:
    """A colour as three numbers up to 255, e.g. '242,191,26'."""
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdigit() and int(part) <= 255 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a colour; write R,G,B, each 0 to 255, e.g. 242,191,26")
    red, green, blue = map(int, parts)
    return red, green, blue


def positive_int(text: str) -> int:
    """A whole number >= 1; underscores may group its digits."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number >= 1")
    return value


def preset_field(text: str) -> tuple[str, object]:
    """One field of a preset and its value: 'dynamics_updates=2000', 'rollout_lengths=[2,4]', 'dynamics=dit'."""
    name, equals, value = text.partition("=")
    known = sorted(field.name for field in fields(Preset))
    if not equals or name not in known:
        raise argparse.ArgumentTypeError(f"{text!r} is not FIELD=VALUE with one of the preset's fields {known}")
    if isinstance(getattr(Preset, name), str):
        return name, value
    try:
        value = json.loads(value)
    except json.JSONDecodeError:
        raise argparse.ArgumentTypeError(f"{text!r}: the value is neither a number nor a list like [2,4]") from None
    return name, tuple(value) if isinstance(value, list) else value


READERS: dict[Any, Callable[[str], Any]] = {
    Count: positive_int,
    Json: json_object,
    FrameSize: frame_size,
    Colour: colour,
    Overrides: preset_field,
}
"""How what is typed becomes a value of a type that is none of Python's own."""
