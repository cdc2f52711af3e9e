"""Is what gets installed what was meant? Import cost, declared dependencies, the wheel's contents, the pins."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

MEGABYTE = 1024 * 1024
HEAVY = ("torch", "pybullet", "diffusers", "stable_baselines3", "openvino", "pandas", "matplotlib", "av")


def tracked_files(repository: Path, *folders: str) -> list[Path]:
    """What git would commit, relative to the checkout; every file there is where there is no git."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *folders],
        cwd=repository,
        capture_output=True,
        text=True,
    )
    if listing.returncode:
        names = [str(f.relative_to(repository)) for d in folders or ["."] for f in (repository / d).rglob("*")]
    else:
        names = listing.stdout.split("\0")
    return [Path(name) for name in names if name and (repository / name).is_file() and "__pycache__" not in name]


def python(code: str, *, path: Path, cwd: Path) -> str:
    """The output of a fresh interpreter that finds wm_gym in `path` only."""
    environment = {**os.environ, "PYTHONPATH": str(path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def wheel(repository, tmp_path_factory) -> zipfile.ZipFile:
    """The wheel that `setup.py` makes of what git would commit."""
    source, dist = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in tracked_files(repository):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((repository / name).read_bytes())
    built = subprocess.run(
        [sys.executable, "setup.py", "-q", "bdist_wheel", "--dist-dir", str(dist)],
        cwd=source,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    (path,) = dist.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


@pytest.fixture(scope="module")
def requirements(wheel) -> list[Requirement]:
    """Everything the wheel declares, extras included."""
    (name,) = [n for n in wheel.namelist() if n.endswith(".dist-info/METADATA")]
    lines = wheel.read(name).decode().splitlines()
    return [Requirement(line.removeprefix("Requires-Dist: ")) for line in lines if line.startswith("Requires-Dist: ")]


# ---------------------------------------------------------------- import


def test_import_is_light(repository, tmp_path):
    loaded = python(
        f"import sys, wm_gym; print([m for m in {HEAVY!r} if m in sys.modules])", path=repository, cwd=tmp_path
    )
    assert loaded == "[]"


def test_import_takes_less_than_half_a_second(repository, tmp_path):
    clock = "import time; t = time.process_time(); import wm_gym; print(time.process_time() - t)"  # whatever else runs
    seconds = [float(python(clock, path=repository, cwd=tmp_path)) for _ in range(3)]
    assert min(seconds) < 0.5, seconds


def imports_of(source: str) -> set[str]:
    """The top-level modules that a Python file imports, at its top or inside its functions."""
    modules = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            modules.add(node.module.split(".")[0])
    return modules


def test_every_import_is_declared(repository, requirements):
    """A module that the code or the tests import and no requirement brings works on its developer's machine only."""
    files = [f for f in tracked_files(repository, "wm_gym", "tests", "benchmarks") if f.suffix == ".py"]
    imported = {module: str(file) for file in files for module in imports_of((repository / file).read_text())}
    local = {"wm_gym", *(f.stem for f in files if f.parts[0] != "wm_gym")}
    declared = {canonicalize_name(r.name) for r in requirements}
    declared.add("lerobot")  # benchmarks/lerobot_opens.py runs in an environment of its own
    brought_by = metadata.packages_distributions()
    undeclared = {
        module: where
        for module, where in imported.items()
        if module not in local
        and module not in sys.stdlib_module_names
        and not declared & {canonicalize_name(d) for d in brought_by.get(module, [module])}
    }
    assert not undeclared, f"add to setup.py what brings {undeclared}"


# ---------------------------------------------------------------- wheel


def test_wheel_holds_the_library_and_both_catalogues(repository, wheel):
    inside = {n for n in wheel.namelist() if not n.endswith("/")}
    expected = {str(f) for f in tracked_files(repository, "wm_gym")}
    expected |= {f"wm_gym/{f}" for f in tracked_files(repository, "envs", "agents")}
    assert expected <= inside, sorted(expected - inside)


def test_wheel_shadows_no_other_package(wheel):
    top = {n.split("/")[0] for n in wheel.namelist()}
    assert {n for n in top if not n.endswith(".dist-info")} == {"wm_gym"}
    assert not [n for n in wheel.namelist() if re.match(r"wm_gym/(envs|agents)/.*\.py$", n)]


def test_wheel_has_the_command(wheel):
    (name,) = [n for n in wheel.namelist() if n.endswith(".dist-info/entry_points.txt")]
    assert "wm-gym = wm_gym.cli:main" in wheel.read(name).decode()


def test_shipped_content_is_small_and_runs_no_code(repository):
    sizes: dict[str, int] = {}
    for name in tracked_files(repository, "envs", "agents"):
        assert name.suffix not in {".py", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin", ".zip"}, name
        folder = "/".join(name.parts[:2])
        sizes[folder] = sizes.get(folder, 0) + (repository / name).stat().st_size
    too_large = {folder: size for folder, size in sizes.items() if folder.startswith("envs/") and size > 8 * MEGABYTE}
    assert not too_large and sum(sizes.values()) <= 30 * MEGABYTE, sizes


def test_wheel_registers_the_checkout_s_ids(repository, wheel, tmp_path):
    wheel.extractall(tmp_path / "site")
    listing = "import wm_gym, gymnasium; print(sorted(i for i in gymnasium.registry if i.startswith('wm_gym/')))"
    (tmp_path / "elsewhere").mkdir()
    ids = {
        path: python(
            f"{listing}; import pathlib; print(pathlib.Path(wm_gym.__file__).parents[1])",
            path=path,
            cwd=tmp_path / "elsewhere",
        )
        for path in (repository, tmp_path / "site")
    }
    for path, answer in ids.items():
        assert Path(answer.splitlines()[1]).resolve() == path.resolve()
    assert ids[repository].splitlines()[0] == ids[tmp_path / "site"].splitlines()[0]


# ---------------------------------------------------------------- pins


def test_pins_are_exact_and_inside_the_declared_ranges(repository, requirements):
    lines = [line.split("#")[0].strip() for line in (repository / "constraints.txt").read_text().splitlines()]
    pins = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines if line)}
    assert pins["torch"] == "2.13.0"
    for requirement in requirements:
        name = canonicalize_name(requirement.name)
        if not requirement.marker or "extra" not in str(requirement.marker):
            assert name in pins, f"{name} of setup.py has no pin in constraints.txt"
        if name in pins:
            assert requirement.specifier.contains(pins[name]), f"{name}=={pins[name]} is outside {requirement}"
