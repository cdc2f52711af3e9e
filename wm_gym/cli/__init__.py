"""What can be typed? The `wm-gym` command and all its words.

Each command is one `Command`: its help, what can be typed and the work. It imports what it needs when it runs, so
`wm-gym --help` stays quick.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence

from wm_gym import __version__
from wm_gym.cli import agent, data, evaluation, idm, judge, world
from wm_gym.cli.command import Command, add_options, options_of

COMMANDS: tuple[type[Command], ...] = (
    *world.COMMANDS,
    *data.COMMANDS,
    *evaluation.COMMANDS,
    *agent.COMMANDS,
    *judge.COMMANDS,
    *idm.COMMANDS,
)
GROUPS = {
    "data": "look at, convert or curate a dataset",
    "agent": "train, clone or evaluate a policy",
    "judge": "measure who says that a task is done",
    "idm": "make actions of video",
}


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; `python -m wm_gym` is the same command."""
    parser = argparse.ArgumentParser(
        prog="wm-gym", description="Record robot video, train a video world model on it, and gym.make the result."
    )
    parser.add_argument("--version", action="version", version=f"wm-gym {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    groups = {
        group: commands.add_parser(group, help=text, description=text).add_subparsers(metavar="COMMAND", required=True)
        for group, text in GROUPS.items()
    }
    for command in COMMANDS:
        *group, word = command.name.split()
        sub = (groups[group[0]] if group else commands).add_parser(
            word, help=command.help, description=f"{command.help}.", epilog=f"example: {command.example}"
        )
        add_options(sub, command)
        sub.add_argument(
            "--import",
            dest="modules",
            action="append",
            default=[],
            metavar="MODULE",
            help="import this module first, from here or as installed, for the environments that it "
            "registers: what a file names is never imported by itself; may be repeated",
        )
        sub.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
        sub.set_defaults(command=command)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it worked, 2 for an error that its user can mend, 130 when interrupted."""
    args = build_parser().parse_args(argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: print(f"warning: {message}", file=sys.stderr)
            import_modules(args.modules)
            options_of(args.command, args).run()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if args.debug or not mendable(error):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def import_modules(modules: Sequence[str]) -> None:
    """Import what was typed, from the working directory too; worker processes do the same."""
    if modules:
        from wm_gym.common.registry import import_typed

        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
        for module in modules:
            import_typed(module)


def mendable(error: Exception) -> bool:
    """Whether an error is about what was typed, is installed or on the disk; any other is a bug and keeps its trace."""
    if isinstance(error, ImportError):
        return not (error.name or "").startswith("wm_gym")
    if isinstance(error, (ValueError, OSError)):
        return True
    gymnasium, judges = sys.modules.get("gymnasium"), sys.modules.get("wm_gym.judges")
    return (gymnasium is not None and isinstance(error, gymnasium.error.Error)) or (
        judges is not None and isinstance(error, judges.JudgeError)
    )
