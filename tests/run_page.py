"""How is a page of the documentation run? Its blocks, from the top, in one folder, as a reader would type them.

    python tests/run_page.py docs/tutorials/judges.md

A python block with a title that ends in .py is a file; any other is run, and shares its names with those after it.
Lines of bash that are all `wm-gym` commands are given to its `main`, in this process: starting Python and torch anew
for each would take longer than what they do. Other bash is run by bash. A block whose title begins with "Not run" or
"At full size" is left out, and so is text.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FENCE = re.compile(
    r'^(?P<indent> *)```(?P<language>\w+)(?: +title="(?P<title>[^"]*)")?[^\n]*\n(?P<code>.*?)^ *```$', re.M | re.S
)
LEFT_OUT = ("Not run", "At full size")


@dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    language: str
    title: str
    code: str
    line: int


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        code = re.sub(f"^{match['indent']}", "", match["code"], flags=re.M)
        found.append(Block(match["language"], match["title"] or "", code, text[: match.start("code")].count("\n")))
    return found


def is_run(block: Block) -> bool:
    """Whether a block is run or written as a file."""
    return block.language in ("python", "bash") and not block.title.startswith(LEFT_OUT)


def commands_of(code: str) -> list[list[str]]:
    """The words of each command of a bash block that a shell would split in just this way; comments are left out."""
    lines = code.replace("\\\n", " ").splitlines()
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def run_bash(code: str) -> None:
    """Run a bash block; CalledProcessError where a command of it fails."""
    commands = commands_of(code)
    if all(words[0] == "wm-gym" and not {"&&", "|", ";", ">"} & set(words) for words in commands):
        from wm_gym.cli import main

        for words in commands:
            if status := main(words[1:]):
                raise subprocess.CalledProcessError(status, words)
    else:
        subprocess.run(["bash", "-euo", "pipefail", "-c", code], check=True)


def run_page(page: str | Path) -> dict[str, Any]:
    """Run a page in the working directory; the names that its python blocks leave."""
    sys.path.insert(0, "")
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in filter(is_run, blocks_of(Path(page))):
        if block.language == "bash":
            run_bash(block.code)
        elif block.title.endswith(".py"):
            Path(block.title).write_text(block.code, encoding="utf-8")
        else:
            exec(compile("\n" * block.line + block.code, str(page), "exec"), names)
        sys.stdout.flush()
    return names


if __name__ == "__main__":
    run_page(Path(sys.argv[1]))
