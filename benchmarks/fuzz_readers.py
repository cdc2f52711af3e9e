"""What do randomly damaged datasets do to the readers? Counts outcomes; a crash, a hang or another error is a finding.

python benchmarks/fuzz_readers.py --each 2000
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from common import Bar, command, write_results

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
MEMORY, SECONDS, BATCH = 4 << 30, 120, 100  # bytes a process may map, seconds for a batch of damaged copies
BARS = {
    "fuzz_readers": [
        Bar("crashes, hangs and other errors than the documented one", lambda found: len(found["findings"]), most=0),
        Bar("damaged datasets", lambda found: sum(sum(counts.values()) for counts in found["outcomes"].values())),
        Bar("of them read", lambda found: sum(counts["read"] for counts in found["outcomes"].values())),
    ]
}


def run(folder: str, name: str, options: dict, seeds: range, pipe) -> None:
    from damage import damaged_copy, read_all

    from wm_gym.data import DatasetError

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with tempfile.TemporaryDirectory() as scratch:
        for seed in seeds:
            done = damaged_copy(Path(folder) / name, Path(scratch) / "set", seed)
            pipe.send((seed, done, None))
            try:
                read_all(Path(scratch) / "set", **options)
                outcome = "read"
            except DatasetError:
                outcome = "DatasetError"
            except BaseException as error:
                outcome = f"{type(error).__name__}: {str(error)[:120]}"
            pipe.send((seed, done, outcome))


def main() -> None:
    parser = command(__doc__, BARS)
    parser.add_argument("--each", type=int, default=1000, help="damaged copies of each format (default: 1000)")
    args = parser.parse_args()
    from damage import make_datasets

    result = {"each": args.each, "outcomes": {}, "findings": []}
    with tempfile.TemporaryDirectory() as folder:
        for name, options in make_datasets(Path(folder)).items():
            counts = Counter()
            for first in range(0, args.each, BATCH):
                here, there = multiprocessing.Pipe()
                process = multiprocessing.get_context("fork").Process(
                    target=run, args=(folder, name, options, range(first, min(first + BATCH, args.each)), there)
                )
                process.start()
                there.close()
                last, started = None, time.monotonic()
                try:
                    while here.poll(max(0.0, SECONDS + started - time.monotonic())):
                        seed, done, outcome = here.recv()
                        last = (seed, done) if outcome is None else None
                        if outcome in ("read", "DatasetError"):
                            counts[outcome] += 1
                        elif outcome is not None:
                            counts["other error"] += 1
                            result["findings"].append([name, seed, done, outcome])
                    process.kill()
                    result["findings"].append([name, *(last or (first, "?")), f"hung for {SECONDS} s"])
                    counts["hung"] += 1
                except EOFError:
                    process.join()
                    if process.exitcode:
                        counts["crashed"] += 1
                        result["findings"].append([name, *(last or (first, "?")), f"exit {process.exitcode}"])
            result["outcomes"][name] = dict(counts)
            print(name, dict(counts), flush=True)
    for finding in result["findings"][:20]:
        print(finding)
    write_results("fuzz_readers", result)


if __name__ == "__main__":
    main()
