"""What do all benchmarks and studies say, from their committed results? Exit status 1 where one falls short of a bar.

python benchmarks/summaries.py [NAME ...]           # e.g. startup studies/planning
"""

from __future__ import annotations

import argparse
import runpy
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
HELPERS = ("common", "timing", "summaries")


def scripts() -> list[str]:
    """Names of all that know `--summary`, studies last."""
    files = [*sorted(HERE.glob("*.py")), *sorted((HERE / "studies").glob("*.py"))]
    known = [
        file for file in files if file.stem not in HELPERS and "command(__doc__, " in file.read_text(encoding="utf-8")
    ]
    return [file.relative_to(HERE).with_suffix("").as_posix() for file in known]


def summary(name: str) -> int:
    """Run a script with `--summary`, as its command does; its exit status."""
    sys.argv = [f"{name}.py", "--summary"]
    try:
        runpy.run_path(str(HERE / f"{name}.py"), run_name="__main__")
    except SystemExit as end:
        return int(end.code or 0)
    raise RuntimeError(f"{name}.py --summary went on after its summary")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="benchmarks, studies (default: all)")
    names = parser.parse_args().names or scripts()
    sys.path[:0] = [str(HERE), str(HERE / "studies")]  # where each of them looks when it is run by itself
    short = []
    for name in names:
        print(f"== {name}", flush=True)
        short += [name] if summary(name) else []
    print(
        f"\n{len(names) - len(short)} of {len(names)} meet all their bars" + f"; not: {', '.join(short)}" * bool(short)
    )
    sys.exit(bool(short))


if __name__ == "__main__":
    main()
