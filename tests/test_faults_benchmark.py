"""Do the attacks of benchmarks/faults.py see a fault, and does its summary fall short where one is?"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

BAD = {
    ("kills", "world"): {"survived": 199},
    ("kills", "convert"): {"kills": 100, "survived": 100},
    ("damage", "agent"): {"faults": 1},
    ("damage", "dataset"): {"tried": 10},
    ("server", "judge"): {"raw": 1},
    ("leaks", "steps"): {"mb_grown": 99.0},
    ("leaks", "makes"): {"descriptors_grown": 1},
    ("threads", "torch fp32"): {"frames_that_differ": 1},
    ("speed", "batch 32"): {"ratio": 1.2},
}


@pytest.fixture(scope="module")
def faults(repository):
    sys.path.insert(0, str(repository / "benchmarks"))
    import faults

    yield faults
    sys.path.remove(str(repository / "benchmarks"))


@pytest.fixture
def good(faults) -> dict:
    """Results that meet every bar."""
    from attack_leaks import QUESTIONS

    grown = {"mb_grown": 0.5, "descriptors_grown": 0, "children_grown": 0}
    return {
        "kills": {name: {"kills": wanted, "survived": wanted} for name, wanted in faults.KILLS.items()},
        "damage": {kind: {"tried": faults.TRIALS, "faults": 0} for kind in faults.DAMAGED},
        "server": {"judge": {"faults": 60, "hangs": 0, "raw": 0, "leaked_characters": 0}},
        "leaks": {name: {"number": number, **grown} for name, (_, number) in QUESTIONS.items()},
        "threads": {"torch fp32": {"frames": 9, "frames_that_differ": 0, "errors": []}},
        "speed": {
            name: {"ratio": 1.01, "against": "34c08fd", "interval_95": [1.0, 1.02]} for name in ("batch 1", "batch 32")
        },
    }


def test_bars_that_are_met(faults, good):
    assert all(line.met for line in faults.bars(good))


@pytest.mark.parametrize("part, name", BAD, ids="/".join)
def test_each_bar_can_fall_short(faults, good, part, name):
    good[part][name] |= BAD[part, name]
    assert [line.met for line in faults.bars(good)].count(False) == 1
    del good[part][name]
    if part != "threads":
        assert [line.met for line in faults.bars(good)].count(False) == 1


def test_the_summary_of_nothing_falls_short(faults, tmp_path, monkeypatch, capsys):
    from common import show

    monkeypatch.setattr(faults, "RESULT", tmp_path / "faults.json")
    assert show(faults.lines()) == 1 and "not measured" in capsys.readouterr().out


def test_a_save_that_is_not_atomic_is_seen(faults, tmp_path, monkeypatch):
    """The attack itself, on a save that writes in place and takes its time; and on one that does not."""
    import attack_kills
    from attack_kills import Command, attack, of_files

    from wm_gym.common.files import atomic_folder

    def in_place(value):
        def write(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for name in "abcdefgh":
                (folder / name).write_bytes(value * 2_000_000)

        return write

    def beside(value):
        def write(folder):
            with atomic_folder(folder) as new:
                in_place(value)(new)

        return write

    monkeypatch.setattr(
        attack_kills,
        "Sources",
        lambda scratch: type("S", (), dict.fromkeys(("world", "episodes", "agent", "labeller"))),
    )
    for number, (way, lost) in enumerate([(in_place, True), (beside, False)]):
        command = Command(way(b"1"), of_files, way(b"0"), saves=True)
        monkeypatch.setattr(attack_kills, "commands", lambda made, command=command: {"it": command})
        found = attack("it", 8, tmp_path / str(number))
        assert found["kills"] == 8 and (found["survived"] < 8) is lost, found["lost"]


def test_each_part_runs_as_a_command(repository, tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import faults, pathlib; "
        "faults.RESULT = pathlib.Path(sys.argv[2]); faults.kills(['convert'], 2); faults.damage(['dataset'], 5)"
    )
    out = tmp_path / "faults.json"
    done = subprocess.run(
        [sys.executable, "-c", code, repository / "benchmarks", out], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(out.read_text())
    assert found["kills"]["convert"]["survived"] == 2 and found["kills"]["convert"]["commit"]
    assert found["damage"]["dataset"]["tried"] == 5 and found["damage"]["dataset"]["faults"] == 0
