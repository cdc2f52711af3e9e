"""What is a command, and which values do several take?"""

from __future__ import annotations

import argparse
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    TypeVar,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

from wm_gym.common.options import Colour, Count, FrameSize, Json, Overrides, field_docs
from wm_gym.training.presets import Preset

Options = TypeVar("Options")

ENV_ID_HELP = "id of a registered environment; module:id imports the module first, e.g. gym_pusht:gym_pusht/PushT-v0"
WORLD_HELP = "a world folder, a Hub id, or the name of a shipped one"


def flag(**how: Any) -> Any:
    """A field of a command with more that argparse is told: a help that is put together, choices, a default."""
    return field(default=how.pop("default", MISSING), metadata=how)


def positional(**how: Any) -> Any:
    """A field of a command that is typed without a flag."""
    return flag(positional=True, **how)


def part(*leave_out: str, **names: str) -> Any:
    """A field of a command that stands for the flags of an option dataclass; arguments as of `add_options`."""
    return field(metadata={"leave_out": leave_out, "names": names})


@dataclass_transform(kw_only_default=True, field_specifiers=(flag, positional, part))
class Command(ABC):
    """One command: a dataclass of what is typed after its name, made by `options_of`, and what is done then.

    Its docstring is the help, and its fields are flags as `add_options` makes them.
    """

    name: ClassVar[str]
    example: ClassVar[str]
    help: ClassVar[str]

    def __init_subclass__(cls) -> None:
        dataclass(frozen=True, kw_only=True)(cls)
        cls.help = _help(cls.__doc__ or "")

    @abstractmethod
    def run(self) -> None:
        """Do what was typed."""


def add_options(parser: argparse.ArgumentParser, kind: type, leave_out: Collection[str] = (), **names: str) -> None:
    """A flag for each field of an option dataclass, and of those inside it, so that an option stands once.

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
    docs, hints = field_docs(kind), _hints(kind)
    for one in fields(kind):
        if one.name in leave_out:
            continue
        hint, told = hints[one.name], dict(one.metadata)
        if _is_part(hint):
            add_options(parser, hint, told.get("leave_out", leave_out), **told.get("names", names))
            continue
        doc = _help(told.pop("help", None) or docs[one.name])
        name, how = names.get(one.name, one.name).replace("_", "-"), _spelled(hint)
        if isinstance(one.default, bool):
            how = {"action": f"store_{str(not one.default).lower()}"}
            name, doc = (f"no-{name}", f"do not {doc}") if one.default else (name, doc)
        elif how.get("action") == "append":
            doc += "; may be repeated"
        elif "(default" not in doc and one.default not in (None, "", (), MISSING):
            default = f"{one.default:g}" if isinstance(one.default, float) else one.default
            doc += f" (default: {default})"
        how |= {"default": argparse.SUPPRESS, "help": doc}
        if told.pop("positional", False):
            parser.add_argument(one.name, **how | told)
        else:
            parser.add_argument(f"--{name}", dest=one.name, required=one.default is MISSING, **how | told)


def options_of(kind: type[Options], args: argparse.Namespace, **given: Any) -> Options:
    """The options that are given, else those typed at the flags of `add_options`, else the dataclass's own."""
    typed, hints = {}, _hints(kind)
    for one in fields(kind):  # type: ignore[arg-type]  # mypy cannot say "a dataclass"
        hint = hints[one.name]
        if _is_part(hint):
            typed[one.name] = options_of(hint, args)
        elif hasattr(args, one.name):
            value = getattr(args, one.name)
            if isinstance(value, list):
                value = dict(value) if READERS.get(_one(hint)) is preset_field else tuple(value)
            typed[one.name] = value
    return kind(**typed | given)


def _help(doc: str) -> str:
    """A docstring as argparse's help has it."""
    doc = doc.rstrip(".").replace("%", "%%")
    return doc if doc[1:2].isupper() else doc[:1].lower() + doc[1:]


def _hints(kind: Any) -> dict[str, Any]:
    """The types of a dataclass's fields; what only a type checker imports is `object`."""
    unknown: dict[str, Any] = {}
    while True:
        try:
            return get_type_hints(kind, localns=unknown, include_extras=True)
        except NameError as error:
            unknown[str(error.name)] = object


def _is_part(hint: Any) -> bool:
    """Whether a field stands for the flags of an option dataclass."""
    return is_dataclass(hint)


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
    known = sorted(one.name for one in fields(Preset))
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
