"""Can this world be trusted, and how do we know? One HTML file from a folder of measurements, with no network."""

from __future__ import annotations

import contextlib
import json
import zipfile
import zlib
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
from markupsafe import Markup

from wm_gym.common.files import write_text
from wm_gym.common.page import fill, page
from wm_gym.common.records import Blank, from_json
from wm_gym.evaluation.kept import is_of_job, read_kept, upgraded
from wm_gym.evaluation.report import sections as sections
from wm_gym.evaluation.report.found import Found, result_types
from wm_gym.evaluation.report.summary import Failure, failures, headline, trusted
from wm_gym.evaluation.report.tiles import tiles
from wm_gym.evaluation.suite.setting import Setting
from wm_gym.evaluation.suite.tasks import TASKS

PAGE_FILE, FILMS_FILE = "report.html", "films.npz"
MEASURE = "wm_gym.evaluation.suite.suite:measure"
FILMS = ("world", "physics", "uncertainty", "worst_frames")


def write_trust_report(folder: str | Path, out: str | Path | None = None) -> Path:
    """Write the page of a folder of measurements (default: FOLDER/report.html) and return its path.

    Raises:
        FileNotFoundError: Where the folder holds none.
        ValueError: Where a file is damaged, holds NaN or lacks a number.
    """
    folder = Path(folder)
    path = Path(out) if out else folder / PAGE_FILE
    write_text(path, report_html(read_measurements(folder)))
    return path


def read_measurements(folder: str | Path) -> Found:
    """What a folder holds, of earlier versions too. Errors as in `write_trust_report`."""
    folder = Path(folder)
    setting = _record(folder / "setting.json", Setting) or Setting()
    kinds = result_types()
    _check_known(folder, kinds)
    read = {name: _record(folder / f"{name}.json", kind | Blank) for name, kind in kinds.items()}
    films = _read_films(folder / FILMS_FILE) if (folder / FILMS_FILE).is_file() else None
    if films is None and not any(read.values()):
        raise FileNotFoundError(
            f"{folder} holds no measurement; expected one of "
            f"{', '.join(f'{name}.json' for name in kinds)}, {FILMS_FILE}; measure it first: "
            f"wm-gym evaluate {quote(setting.world_folder or 'WORLD')}"
        )
    undefined = {name: value.undefined for name, value in read.items() if isinstance(value, Blank)}
    results = {name: value for name, value in read.items() if value is not None and name not in undefined}
    return Found(setting, films, results, undefined)


def report_html(found: Found) -> str:
    """The page as a string."""
    world = found.setting.world or "a world"
    inside = (_section(name, *each, found) for name, each in sections.all_sections().items())
    parts = [_opening(found, world), *inside, fill("report/care.html", calibrated=found.setting.calibration)]
    return page(f"{world}: can it be trusted?", Markup("\n").join(parts), sections.STYLE)


def _opening(found: Found, world: str) -> Markup:
    """The summary: what to trust, what fails and what to record next, before any figure."""
    wrong = failures(found)
    return fill(
        "report/opening.html",
        world=world,
        headline=headline(found),
        setting=sections.setting_line(found),
        tiles=tiles(found),
        trusted=trusted(found),
        failures=wrong,
        remedies=_remedies(wrong),
    )


def _remedies(wrong: list[Failure]) -> list[tuple[str, str, str]]:
    """What to do next, each once, with the numbers that call for it and its commands, a line each."""
    remedies: dict[str, list[Failure]] = {}
    for each in wrong:
        remedies.setdefault(each.then, []).append(each)
    return [
        (then, " ".join(each.what for each in reasons), "\n".join(dict.fromkeys(each.command for each in reasons)))
        for then, reasons in remedies.items()
    ]


def _section(name: str, title: str, build: sections.Section, found: Found) -> Markup:
    """A section, or how to measure what it would show."""
    data = found.films if name == "films" else found.results.get(name)
    return fill(
        "report/section.html",
        name=name,
        title=title,
        inside=None if data is None else build(data, found),
        why=found.undefined.get(name),
        file=FILMS_FILE if name == "films" else f"{name}.json",
        command=command_of(name, found),
    )


def command_of(name: str, found: Found) -> str:
    """The command that makes a measurement."""
    world = quote(found.setting.world_folder or "WORLD")
    if name == "policies":
        return f"wm-gym evaluate-policies AGENT AGENT AGENT AGENT --world {world} --out FOLDER"
    agent = " --agent AGENT" if name == "agent_drift" else ""
    module = TASKS[name].measure.__module__ if name in TASKS else __name__
    other = "" if module.startswith("wm_gym.") else f" --import {module}"
    return f"wm-gym evaluate {world} --only {name}{agent}{other}"


def _check_known(folder: Path, kinds: Mapping[str, Any]) -> None:
    """ValueError for a result of `evaluate` that would be left out, as nothing here says what it is."""
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(json.JSONDecodeError):  # none of ours
            if path.stem in kinds or not is_of_job(value := read_kept(path)) or value["function"] != MEASURE:
                continue
            raise ValueError(
                f"{path} is of a measurement that is not known here; import the module that adds it: "
                f"wm-gym report {quote(str(folder))} --import MODULE"
            )


def _read_films(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in FILMS if name in arrays}
    except (ValueError, OSError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{path} is damaged ({error}); film it again: wm-gym evaluate WORLD --only films --out {path.parent}"
        ) from error


def _record(path: Path, kind: Any) -> Any:
    """The record of a JSON file in which every number is finite (NaN is allowed in empty bins only); None without a
    file."""
    if not path.is_file():
        return None
    again = f"measure it again: wm-gym evaluate WORLD --only {path.stem}"
    try:
        value = read_kept(path)
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}); {again}") from None
    value = _without_empty_bins(value["result"] if is_of_job(value) else value)
    if where := _not_finite(value):
        raise ValueError(
            f"{path} holds a number that is not finite at {where}; expected a number, or null where it is "
            f"undefined; {again}"
        )
    try:
        return from_json(kind, upgraded(path.stem, value))
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # KeyError: of a layout that is nobody's
        raise ValueError(f"{path} is not as `wm-gym evaluate` writes it: {error}; {again}") from error


def _without_empty_bins(value: Any, key: str = "") -> Any:
    """Without the NaN of a reliability diagram's empty bins, and without limits of classes that nothing is said of."""
    if isinstance(value, list):
        return [_without_empty_bins(each) for each in value]
    if not isinstance(value, dict):
        return value
    if key == "reliability" and {"stated", "observed", "n"} <= set(value):
        return {
            name: [None if not n else each for each, n in zip(values, value["n"])] if name != "n" else values
            for name, values in value.items()
        }
    if key == "limits":
        return {name: None if each == float("inf") else each for name, each in value.items()}
    return {name: _without_empty_bins(each, name) for name, each in value.items()}


def _not_finite(value: Any, where: str = "") -> str | None:
    """Where the first number is that is not finite; None if all are."""
    if isinstance(value, float) and not isfinite(value):
        return where or "its top"
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return next((place for key, each in inside if (place := _not_finite(each, f"{where}/{key}"))), None)
