"""What is a command, and which values do several take?"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, fields

from wm_gym.training.presets import Preset

ENV_ID_HELP = "id of a registered environment; module:id imports the module first, e.g. gym_pusht:gym_pusht/PushT-v0"


@dataclass(frozen=True)
class Command:
    """One command: the words that name it, one line of help, an example, its flags and its handler."""

    name: str
    help: str
    example: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]


def add_spreading(parser: argparse.ArgumentParser, what: str) -> None:
    """The flags of commands that measure many things beside each other, in processes or on a Ray cluster."""
    parser.add_argument("--seed", type=int, default=0, help="of the starts (default: 0)")
    parser.add_argument(
        "--workers",
        type=positive_int,
        default=None,
        metavar="N",
        help=f"{what} measured at once; the numbers do not depend on it (default: one a core)",
    )
    parser.add_argument(
        "--ray",
        default=None,
        metavar="ADDRESS",
        help="measure on a Ray cluster: auto, ray://HOST:10001, or local (one of --workers CPUs here)",
    )


def json_object(text: str) -> dict:
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
    return tuple(int(part) for part in parts)


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
