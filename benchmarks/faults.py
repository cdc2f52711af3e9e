"""What happens to a world, an agent, a dataset and a key when all goes wrong? Attacks on everything that is promised.

    python benchmarks/faults.py kills [COMMAND ...]     # ended by SIGKILL at any moment
    python benchmarks/faults.py damage [KIND ...]       # folders damaged in any way
    python benchmarks/faults.py server                  # a judge's server that misbehaves
    python benchmarks/faults.py leaks [QUESTION ...] | threads
    python benchmarks/faults.py speed --against COMMIT  # what the mending cost, in turns with an older commit
    python benchmarks/faults.py --summary               # one line a bar; exit 1 where one falls short

Each part is written into benchmarks/results/faults.json as it ends, with the commit that it was measured on.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from common import RESULTS, Line, about, command

from wm_gym.common.files import write_json

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
RESULT = RESULTS / "faults.json"
KILLS = {
    "world": 200,
    "agent": 200,
    "convert": 200,
    "record": 50,
    "inverse dynamics": 50,
    "labelled video": 50,
    "imagine": 50,
    "calibration": 50,
    "agent training": 50,
    "world training": 50,
    "evaluation": 50,
}
"""Commands, and how many kills each has to survive."""
DAMAGED = ("world", "agent", "planner", "dataset")
TRIALS = 1000  # damaged folders of each kind
SERVER_FAULTS = 50
FLAT_MB = 10.0  # that memory may grow in the last six tenths: allocators breathe
SLOWER = 1.03


def keep(part: str, found: dict) -> None:
    """Add some of a part's results to the file."""
    results = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    results.setdefault(part, {}).update({name: {**about(), **one} for name, one in found.items()})
    write_json(RESULT, results, indent=1)


def kills(names: list[str], number: int | None) -> None:
    from attack_kills import attack

    for name in names or KILLS:
        with tempfile.TemporaryDirectory() as scratch:
            found = attack(name, number or KILLS[name], Path(scratch))
        print(name, found, flush=True)
        keep("kills", {name: found})


def damage(kinds: list[str], number: int | None) -> None:
    from damage_folders import damaged, sources
    from damage_trial import GOOD, try_folder

    for kind in kinds or DAMAGED:
        counts, findings, started = Counter(), [], time.monotonic()
        with tempfile.TemporaryDirectory() as scratch:
            sound, broken = sources(Path(scratch) / "sound")[kind], Path(scratch) / "broken"
            for seed in range(number or TRIALS):
                what = damaged(sound, broken, seed)
                verdict, text = try_folder(kind, broken)
                counts[verdict] += 1
                if verdict not in GOOD:
                    findings.append({"seed": seed, "damage": what, "verdict": verdict, "text": text[:300]})
                    print(kind, findings[-1], flush=True)
        found = {
            "tried": sum(counts.values()),
            "verdicts": dict(counts),
            "faults": len(findings),
            "findings": findings[:20],
            "seconds": round(time.monotonic() - started),
        }
        print(kind, found["verdicts"], flush=True)
        keep("damage", {kind: found})


def server() -> None:
    from bad_servers import measure

    rows = measure()
    bad = [row for row in rows if row["hang"] or row["raw"] or row["leaked"]]
    found = {
        "faults": len(rows),
        "hangs": sum(row["hang"] for row in rows),
        "raw": sum(row["raw"] for row in rows),
        "leaked_characters": max(row["leaked"] for row in rows),
        "findings": bad[:20],
    }
    print(found)
    keep("server", {"judge": found})


def leaks(names: list[str], world: str, share: float) -> None:
    from attack_leaks import QUESTIONS, measure

    for name in names or QUESTIONS:
        keep("leaks", {name: measure(world, name, share)})


def threads(world: str) -> None:
    from attack_threads import measure

    keep("threads", measure(world))


def speed(world: str, against: str) -> None:
    from attack_speed import measure

    for batch, found in measure(world, against, {1: 60, 32: 6}).items():
        keep("speed", {f"batch {batch}": {"against": against, "threads_each": 1, **found}})


def bars(results: dict) -> Iterator[Line]:
    """A line of everything that has to be shown."""
    for name, wanted in KILLS.items():
        one = results.get("kills", {}).get(name)
        yield Line(
            f"kills survived, {name}",
            f"{one['survived']} of {one['kills']}" if one else "not measured",
            f"all of >= {wanted}",
            bool(one) and one["survived"] == one["kills"] >= wanted,
        )
    for kind in DAMAGED:
        one = results.get("damage", {}).get(kind)
        yield Line(
            f"damaged {kind}s: hangs, raw errors, code, NaN",
            f"{one['faults']} in {one['tried']}" if one else "not measured",
            f"0 in >= {TRIALS}",
            bool(one) and one["faults"] == 0 and one["tried"] >= TRIALS,
        )
    one = results.get("server", {}).get("judge")
    found = [one[key] for key in ("hangs", "raw", "leaked_characters")] if one else []
    yield Line(
        "judge-server faults: hangs, raw errors, characters leaked",
        f"{', '.join(map(str, found))} in {one['faults']}" if one else "not measured",
        f"0, 0, 0 in >= {SERVER_FAULTS}",
        found == [0, 0, 0] and one["faults"] >= SERVER_FAULTS,
    )
    from attack_leaks import QUESTIONS

    for name, (_, number) in QUESTIONS.items():
        one = results.get("leaks", {}).get(name, {"failed": "not measured"})
        good = (
            "failed" not in one
            and one["number"] >= number
            and one["mb_grown"] <= FLAT_MB
            and one["descriptors_grown"] <= 0
            and one["children_grown"] <= 0
        )
        yield Line(
            f"leaks, {name}: MB, descriptors, children",
            one.get("failed")
            or f"{one['mb_grown']}, {one['descriptors_grown']:g}, {one['children_grown']:g} in {one['number']}",
            f"<= {FLAT_MB}, 0, 0 in >= {number}",
            good,
        )
    nothing = {"not measured": {"frames_that_differ": 1, "errors": [], "frames": 0}}
    for name, one in results.get("threads", nothing).items():
        yield Line(
            f"frames that differ from threads, {name}",
            f"{one['frames_that_differ']} of {one['frames']}, {len(one['errors'])} errors",
            "0",
            not one["frames_that_differ"] and not one["errors"],
        )
    for name in ("batch 1", "batch 32"):
        one = results.get("speed", {}).get(name)
        yield Line(
            f"time of a step over that of {one['against']}, {name}" if one else f"time of a step, {name}",
            f"{one['ratio']} {one['interval_95']}" if one else "not measured",
            f"<= {SLOWER}",
            bool(one) and one["ratio"] <= SLOWER,
        )


def lines() -> Iterator[Line]:
    """`bars` of the committed results."""
    return bars(json.loads(RESULT.read_text()) if RESULT.is_file() else {})


def main() -> None:
    parser = command(__doc__, lines)
    parser.add_argument("part", nargs="?", choices=["kills", "damage", "server", "leaks", "threads", "speed"])
    parser.add_argument("names", nargs="*", help="commands to kill, kinds to damage, questions (default: all)")
    parser.add_argument("--number", type=int, help="kills, or damaged folders, of each (default: as many as the bar)")
    parser.add_argument("--share", type=float, default=1.0, help="of the steps, resets and makes that leaks needs")
    parser.add_argument("--world", default="Push-v0")
    parser.add_argument("--against", help="the commit that speed is compared with")
    args = parser.parse_args()
    from attack_leaks import QUESTIONS

    known = {"kills": KILLS, "damage": DAMAGED, "leaks": QUESTIONS}.get(args.part, ())
    if unknown := [name for name in args.names if name not in known]:
        parser.error(f"{unknown} are none of {[*known]}")
    if args.part in ("kills", "damage"):
        (kills if args.part == "kills" else damage)(args.names, args.number)
    elif args.part == "server":
        server()
    elif args.part == "leaks":
        leaks(args.names, args.world, args.share)
    elif args.part == "threads":
        threads(args.world)
    elif args.part == "speed" and args.against:
        speed(args.world, args.against)
    else:
        parser.error("which part? Or --summary; speed needs --against COMMIT")


if __name__ == "__main__":
    main()
