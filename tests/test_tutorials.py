"""Does the documentation say what is so? Its tutorials run, its code compiles, its commands are ones that there are."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path

import pytest
from forked import forked
from run_page import blocks_of, is_run

from wm_gym.cli import build_parser

REPOSITORY = Path(__file__).resolve().parents[1]
DOCS = REPOSITORY / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md"])
TUTORIALS = sorted(page for page in (DOCS / "tutorials").glob("*.md") if page.name != "index.md")
RUN = [*TUTORIALS, DOCS / "first-world.md", DOCS / "how-to" / "rl-libraries.md"]
COMMAND = re.compile(r"^\s*(?:\S+=\S+ )*(?:wm-gym|python -m wm_gym|accelerate launch -m wm_gym)\s")


def name_of(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_a_page_runs(page, tmp_path, request):
    """Each page in a folder of its own; its own assertions say what must have come of it."""
    if page.name == "robot-dataset.md":
        os.symlink(request.getfixturevalue("droid_dataset"), tmp_path / "droid_lerobot")
    command = tmp_path / "bin" / "wm-gym"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m wm_gym "$@"\n')
    command.chmod(0o755)
    path = os.pathsep.join([str(command.parent), os.environ["PATH"]])
    done = forked(
        "run_page:run_page", str(page), cwd=tmp_path, env={"PATH": path, "PYTHONPATH": f"{REPOSITORY}:{tmp_path}"}
    )
    assert done.returncode == 0, done.stdout[-8000:]


def test_the_tutorials_are_all_run_and_assert_something():
    assert len(TUTORIALS) == 7
    for page in TUTORIALS:
        code = "".join(block.code for block in blocks_of(page) if is_run(block) and block.language == "python")
        assert "assert " in code, f"{page} ends with nothing that could fail"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_on_a_page_compiles(page):
    for block in blocks_of(page):
        if block.language == "python":
            compile("\n" * block.line + block.code, str(page), "exec")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_on_a_page_are_ones_that_there_are(page, capsys):
    parser = build_parser()
    for block in (block for block in blocks_of(page) if block.language == "bash"):
        for line in block.code.replace("\\\n", " ").splitlines():
            for one in re.split(r" && ", line):
                if COMMAND.match(one):
                    words = shlex.split(one, comments=True)
                    start = next(i for i, word in enumerate(words) if word in ("wm-gym", "wm_gym")) + 1
                    try:
                        parser.parse_args(words[start:])
                    except SystemExit as ended:
                        assert ended.code == 0, f"{page}: {one}\n{capsys.readouterr().err}"


def test_links_of_the_pages_outside_the_site_lead_somewhere():
    """mkdocs checks the links inside docs/; README and CONTRIBUTING are read on their own."""
    for page in (REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md"):
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"


def test_readme_can_be_read_in_two_minutes():
    assert len((REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()) <= 200
