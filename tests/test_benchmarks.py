"""Do the benchmarks say from their committed results how they stand, and does every result have a writer?"""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

LARGEST = 2_000_000  # bytes of pictures and JSON in all


@pytest.fixture(scope="module")
def benchmarks(repository):
    return repository / "benchmarks"


@pytest.fixture(scope="module")
def common(benchmarks):
    sys.path.insert(0, str(benchmarks))
    import common

    yield common
    sys.path.remove(str(benchmarks))


def scripts(benchmarks):
    """Every file that is run by itself."""
    helpers = ("common", "timing", "summaries", "gauntlet_envs")
    files = [*sorted(benchmarks.glob("*.py")), *sorted((benchmarks / "studies").glob("*.py"))]
    return [file for file in files if file.stem not in helpers and not file.stem.startswith("attack_")]


@pytest.fixture(scope="module")
def told(benchmarks) -> dict[str, list[str]]:
    """The lines of each summary; all in one process, for each imports torch. A traceback fails."""
    done = subprocess.run(
        [sys.executable, benchmarks / "summaries.py"],
        capture_output=True,
        text=True,
        check=False,
        cwd=benchmarks.parent,
    )
    assert done.returncode in (0, 1) and "Traceback" not in done.stderr, done.stderr[-3000:]
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        if line.startswith("== "):
            lines = found.setdefault(line.removeprefix("== "), [])
        elif line[:6] in ("ok    ", "SHORT ", "      ") and ": " in line:
            lines.append(line[6:])
            assert done.returncode == 1 or not line.startswith("SHORT")
    return found


def test_every_script_tells_its_summary(benchmarks, told):
    expected = {file.relative_to(benchmarks).with_suffix("").as_posix() for file in scripts(benchmarks)}
    assert set(told) == expected and all(told.values()), [name for name in expected if not told.get(name)]


def test_every_result_has_a_script_that_tells_it(benchmarks, told):
    named = {line.split(": ")[0] for lines in told.values() for line in lines}
    for file in scripts(benchmarks):  # and those that no line begins with, by their whole names
        nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        named |= {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    results = benchmarks / "results"
    files = [path.relative_to(results) for path in results.rglob("*") if path.is_file()]
    unnamed = [str(file) for file in files if not named & {str(file), str(file.with_suffix(""))}]
    assert files and not unnamed, f"no benchmark writes {unnamed}"


def test_a_summary_is_a_command_of_its_own(benchmarks):
    done = subprocess.run(
        [sys.executable, benchmarks / "studies" / "improve.py", "--summary"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and "improve_Drawer-v0: rounds: 6" in done.stdout, done.stderr


def test_pictures_and_json_are_small(benchmarks):
    sizes = {path: path.stat().st_size for kind in ("json", "png") for path in benchmarks.rglob(f"*.{kind}")}
    assert sum(sizes.values()) <= LARGEST, sorted(sizes.items(), key=lambda each: -each[1])[:5]


@pytest.mark.parametrize(
    "limits, value, met",
    [
        ({"most": 1}, 1, True),
        ({"most": 1}, 1.01, False),
        ({"least": 1, "most": 2}, 2.5, False),
        ({"least": 1, "most": 2}, 1.5, True),
        ({"most": lambda found: found["floor"] + 1}, 3, True),
        ({"most": lambda found: found["floor"] + 1}, 3.5, False),
        ({}, 7, None),
        ({"most": 1}, None, False),
    ],
)
def test_a_bar_is_met_or_not(common, limits, value, met):
    line = common.Bar("it", ("a", "b"), **limits).line({"a": {"b": value}, "floor": 2})
    assert line.met is met and bool(line.bar) is bool(limits)


def test_results_that_are_missing_fall_short_and_wrong_ones_crash(common, capsys):
    bars = {"no such results": [common.Bar("it", ("a",), most=1), common.Bar("told", ("b",))]}
    assert common.show(common.lines_of(bars)) == 1
    assert "SHORT no such results: it: not measured (bar: <= 1)" in capsys.readouterr().out
    with pytest.raises(KeyError):
        common.Bar("it", ("a",)).line({})
