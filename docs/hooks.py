"""What of the site is made at build time? The command line's reference, the changelog, and links out of docs/."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

REPOSITORY = Path(__file__).resolve().parents[1]
COMMAND_LINE = "reference/command-line.md"
WIDTH = "84"  # of the help texts


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that stand nowhere in docs/."""
    files.append(File.generated(config, COMMAND_LINE, content=command_line()))
    for name in ("CHANGELOG.md", "CONTRIBUTING.md"):
        files.append(File.generated(config, name.lower(), content=from_root(name)))
    for name in ("envs/Reach-v0/replay.gif", "envs/Push-v0/replay.gif", "envs/Drawer-v0/replay.gif"):
        target = f"images/{name.split('/')[1]}.gif"
        files.append(File.generated(config, target, abs_src_path=str(REPOSITORY / name)))
    for picture in ("against_physics_Push-v0.png", "improve_Drawer-v0.png", "policies.png", "conditioning.png"):
        source = REPOSITORY / "benchmarks" / "results" / picture
        if source.is_file():
            files.append(File.generated(config, f"results/{picture}", abs_src_path=str(source)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Pictures of benchmarks/results lie beside the pages of results once built."""
    markdown = re.sub(r"\(\.\./\.\./benchmarks/results/([^)]+\.png)\)", r"(\1)", markdown)
    return markdown.replace("<!-- provenance -->", provenance()) if "<!-- provenance -->" in markdown else markdown


def provenance() -> str:
    """A table of the files in benchmarks/results: machine, torch, commit and the commit's day where git knows it."""
    rows = ["| file | machine | torch | commit | day |", "|---|---|---|---|---|"]
    for path in sorted((REPOSITORY / "benchmarks" / "results").glob("*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        found = found if isinstance(found, dict) else {}
        machine, versions, commit = found.get("machine") or {}, found.get("versions") or {}, found.get("commit")
        if not commit:
            rows.append(f"| `{path.name}` | | | in its parts, or older than this note | |")
            continue
        threads = machine.get("threads", "?")
        processor = f"{machine.get('processor', '')}, {threads} thread{'s' * (threads != 1)}"
        rows.append(f"| `{path.name}` | {processor} | {versions.get('torch', '')} | {commit} | {day_of(commit)} |")
    return "\n".join(rows)


def day_of(commit: str) -> str:
    """The day of a commit; nothing where there is no git, or the commit is not in it."""
    command = ["git", "-C", str(REPOSITORY), "show", "-s", "--format=%as", commit.removesuffix("-dirty")]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def command_line() -> str:
    """Every command's `--help`, as the parser prints it."""
    sys.path.insert(0, str(REPOSITORY))
    os.environ["COLUMNS"] = WIDTH
    from wm_gym.cli import build_parser

    parser = build_parser()
    parser.prog = "wm-gym"
    lines = [
        "# Command line",
        "",
        "Made from `wm-gym --help` when this site was built. `python -m wm_gym` is the same command. It ends with 0 "
        "when it worked, 2 for an error that you can mend, and 130 when it was interrupted.",
        "",
        *_help(parser, 0),
    ]
    return "\n".join(lines) + "\n"


def _help(parser: argparse.ArgumentParser, depth: int) -> list[str]:
    title = [] if not depth else [f"## `{parser.prog}`", ""]
    lines = [*title, "```text", parser.format_help().rstrip(), "```", ""]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                lines += _help(sub, depth + 1)
    return lines


def from_root(name: str) -> str:
    """A page of the checkout's root, with its links as they are from docs/."""
    return re.sub(r"\]\(docs/", "](", (REPOSITORY / name).read_text(encoding="utf-8"))
