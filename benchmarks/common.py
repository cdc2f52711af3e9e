"""What do all benchmarks share? The files of their results, and summaries: a line a bar, read off those files.

Each benchmark states its bars as data: `BARS = {"name of a result file": [Bar(...), ...]}`. `command` gives its parser
`--summary`, which reads the committed results, prints a line a bar and ends with exit status 1 where one falls short.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

RESULTS = Path(__file__).parent / "results"


class Line(NamedTuple):
    """A line of a summary; met is None where there is no bar."""

    name: str
    value: str
    bar: str = ""
    met: bool | None = None


@dataclass(frozen=True)
class Bar:
    """A number of some results and what it has to be; without `least` and `most` it is information."""

    name: str
    read: tuple[str | int, ...] | Callable[[Any], Any]
    "The keys that lead to the number in the results, or a function of the results; None is no number."
    least: float | Callable[[Any], float] | None = None
    most: float | Callable[[Any], float] | None = None
    "A limit, or how it follows from the same results (a floor that was measured beside the number)."
    show: str = "{:.3g}"
    "How the number is written, and its bar."

    def line(self, results: Any) -> Line:
        """What these results have to say; None for results that are not there."""
        value, least, most = (_value(how, results) for how in (self.read, self.least, self.most))
        limits = ((">=", self.least, least), ("<=", self.most, most))
        bar = " and ".join(
            f"{sign} {'what the results say' if limit is None else self.show.format(limit)}"
            for sign, stated, limit in limits
            if stated is not None
        )
        if value is None:
            return Line(self.name, "not measured", bar, False if bar else None)
        met = (least is None or value >= least) and (most is None or value <= most)
        return Line(self.name, self.show.format(value), bar, met if bar else None)


def _value(how: Any, results: Any) -> Any:
    """A number as it stands, or read off results by keys or a function; None where there are no results."""
    if not isinstance(how, tuple) and not callable(how):
        return how
    if results is None:
        return None
    return how(results) if callable(how) else follow(results, how)


Bars = Mapping[str, Sequence[Bar]]


def follow(results: Any, keys: Iterable[str | int]) -> Any:
    """What stands under these keys, one after the other."""
    for key in keys:
        results = results[key]
    return results


def read_results(name: str) -> Any:
    """What `results/<name>.json` holds; None where it is not there."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def lines_of(bars: Bars) -> Iterator[Line]:
    """The lines of some bars, file by file."""
    for name, some in bars.items():
        results = read_results(name)
        for bar in some:
            line = bar.line(results)
            yield line._replace(name=f"{name}: {line.name}")


def show(lines: Iterable[Line]) -> int:
    """Print lines; 1 where one falls short."""
    short = False
    for name, value, bar, met in lines:
        mark = {True: "ok   ", False: "SHORT", None: "     "}[met]
        print(f"{mark} {name}: {value}" + (f" (bar: {bar})" if bar else ""))
        short |= met is False
    return int(short)


def command(doc: str | None, lines: Bars | Callable[[], Iterable[Line]]) -> argparse.ArgumentParser:
    """A parser that knows `--summary`; lines: bars, or a function that gives lines."""

    class Summary(argparse.Action):
        def __call__(self, parser, namespace, values, option_string=None):
            parser.exit(show(lines() if callable(lines) else lines_of(lines)))

    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    words = "print a line a bar from the committed results; exit status 1 where one falls short"
    parser.add_argument("--summary", action=Summary, nargs=0, help=words)
    return parser


def about() -> dict:
    """The machine, the versions of what was run, the commit and the day."""
    import torch

    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=Path(__file__).parent
    ).stdout.strip()
    packages = ("torch", "gymnasium", "stable-baselines3", "openvino", "pybullet", "numpy", "diffusers")
    return {
        "machine": {"processor": _processor(), "threads": torch.get_num_threads(), "python": platform.python_version()},
        "versions": {p: _version(p) for p in packages},
        "commit": commit,
        "date": time.strftime("%Y-%m-%d"),
    }


def write_results(name: str, numbers: dict) -> Path:
    """Write `benchmarks/results/<name>.json` and print it."""
    from wm_gym.common.files import write_json

    path = RESULTS / f"{name}.json"
    write_json(path, {**about(), **numbers}, indent=1)
    print(json.dumps(numbers, indent=1), f"\nwritten: {path}")
    return path


def _version(package: str) -> str | None:
    try:
        return version(package)
    except ImportError:
        return None


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor()
