"""Is the old or the new whole after a kill at any moment; are scraps of the dead cleared, of the living kept?"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from wm_gym.cli import main
from wm_gym.common import files
from wm_gym.evaluation.report.page import write_trust_report
from wm_gym.training.build import new_world
from wm_gym.worlds.world import World

STEPS = ("os.", "shutil.", "open", "ctypes.")  # what Python tells its audit hooks of: each call that changes a disk

KILLED = 77


def in_child(act) -> int:
    """What a forked child that does it returns: 0, or -9 where it was killed."""
    child = os.fork()
    if child == 0:
        try:
            act()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_at(step: int, act) -> bool:
    """Do it in a child that is killed before its step-th call to the system; False where it has fewer."""

    def watched():
        left = step

        def hook(event, _):
            nonlocal left
            if event.startswith(STEPS):
                left -= 1
                if left < 0:
                    os._exit(KILLED)  # as a kill: nothing is cleaned up

        sys.addaudithook(hook)
        act()

    code = in_child(watched)
    assert code in (0, KILLED)
    return code != 0


def fill(path: Path, text: str) -> None:
    with files.atomic_folder(path) as new:
        (new / "deep").mkdir()
        (new / "one").write_text(text)
        (new / "deep" / "two").write_text(text)


def fill_file(path: Path, text: str) -> None:
    files.write_text(path, text)


def content(path: Path) -> set[str]:
    return {file.read_text() for file in ([path] if path.is_file() else [path / "one", path / "deep" / "two"])}


@pytest.mark.parametrize("exchange", [True, False], ids=["at one stroke", "portable"])
@pytest.mark.parametrize("write", [fill, fill_file])
def test_killed_before_every_call_the_old_or_the_new_is_whole(tmp_path, monkeypatch, write, exchange):
    if not exchange:
        monkeypatch.setattr(files, "_exchange", lambda *_: False)
    for begun in (False, True):
        step, seen = 0, set()
        while True:
            path = tmp_path / f"{begun}-{step}" / "name"
            path.parent.mkdir()
            if begun:
                write(path, "old")
            killed = killed_at(step, lambda: write(path, "new"))
            files.recover(path)
            found = content(path) if path.exists() else set()
            assert found in ([{"old"}, {"new"}] if begun else [set(), {"new"}]), (step, os.listdir(path.parent))
            seen |= found or {None}
            write(path, "next")
            assert content(path) == {"next"} and os.listdir(path.parent) == ["name"]
            if not killed:
                break
            step += 1
        assert step > 5 and seen == {"old" if begun else None, "new"}


def test_the_portable_way_is_only_taken_where_it_must():
    assert not sys.platform.startswith("linux") or hasattr(files.ctypes.CDLL(None), "renameat2")


def test_an_error_leaves_the_old_and_nothing_else(tmp_path):
    fill(tmp_path / "name", "old")
    with pytest.raises(RuntimeError, match="mine"), files.atomic_folder(tmp_path / "name") as new:
        (new / "one").write_text("new")
        raise RuntimeError("mine")
    assert content(tmp_path / "name") == {"old"} and os.listdir(tmp_path) == ["name"]


@pytest.mark.parametrize("what", ["writing", "partial", "old", ""])
def test_scraps_of_the_dead_are_cleared_and_of_the_living_kept(tmp_path, what):
    path, dead = tmp_path / "name", subprocess.Popen(["true"])
    dead.wait()
    living = subprocess.Popen(["sleep", "100"])
    try:
        fill(path, "old")
        for pid in (dead.pid, living.pid):  # as versions before this one wrote them
            scrap = tmp_path / f".name.{what}{'-' if what else ''}{pid}"
            scrap.mkdir()
        for name in (".name.notes", ".names.writing-1", "name.writing-1"):  # a user's own
            (tmp_path / name).mkdir()
        fill(path, "new")
        left = set(os.listdir(tmp_path))
        assert scrap.name in left and len(left) == 5 and content(path) == {"new"}
        os.utime(scrap, (0, 0))  # older than the process: another one had its number
        fill(path, "new")
        assert scrap.name not in os.listdir(tmp_path)
    finally:
        living.kill()
        living.wait()


def test_a_scrap_is_kept_as_long_as_its_writer_writes_wherever_that_lives(tmp_path):
    path = tmp_path / "name"
    with files.atomic_folder(path) as slow:
        scrap = slow.parent
        elsewhere = scrap.with_name(".name.writing-999999999-0")  # a container's number, unknown here
        scrap.rename(elsewhere)
        assert in_child(lambda: fill(path, "fast")) == 0
        assert elsewhere.is_dir() and content(path) == {"fast"}
        elsewhere.rename(scrap)
    assert not list(path.iterdir()) and os.listdir(tmp_path) == ["name"]


def test_a_world_killed_while_it_is_saved_loads(tiny_world_folder, tmp_path):
    """20 kills at moments drawn by a seed."""
    rng, folder = random.Random(0), tmp_path / "world"
    shutil.copytree(tiny_world_folder, folder)
    (folder / "film.gif").write_bytes(b"mine")
    (folder / "notes").mkdir()
    (folder / "notes" / "a.txt").write_text("mine")
    world = World.from_pretrained(folder)
    for _ in range(20):
        child = multiprocessing.get_context("fork").Process(target=_save_for_ever, args=(world, folder))
        child.start()
        time.sleep(rng.uniform(0.0, 0.15))
        child.kill()
        child.join()
        World.from_pretrained(folder)
        assert (folder / "film.gif").read_bytes() == b"mine" and (folder / "notes" / "a.txt").read_text() == "mine"
    world.save_pretrained(folder)
    assert os.listdir(tmp_path) == ["world"] and not [name for name in os.listdir(folder) if name.startswith(".")]


def _save_for_ever(world: World, folder: Path) -> None:
    while True:
        world.save_pretrained(folder)


def test_a_world_that_lies_aside_is_put_back_when_it_is_loaded(tiny_world_folder, tmp_path):
    dead = subprocess.Popen(["true"])
    dead.wait()
    shutil.copytree(tiny_world_folder, tmp_path / f".world.old-{dead.pid}-0")
    World.from_pretrained(tmp_path / "world")
    assert os.listdir(tmp_path) == ["world"]


def test_a_world_is_never_loaded_half_from_one_and_half_from_another(tiny_spec, tmp_path):
    """A child saves two worlds in turns; what is loaded meanwhile is one of them."""
    worlds = [new_world(tiny_spec, preset="tiny", seed=seed) for seed in (0, 1)]
    folder = worlds[0].save_pretrained(tmp_path / "world")
    child = multiprocessing.get_context("fork").Process(target=_save_in_turns, args=(worlds, folder))
    child.start()
    try:
        for _ in range(10):
            loaded = World.from_pretrained(folder)
            same = [
                [
                    all(map(np.array_equal, _arrays(a), _arrays(b)))
                    for a, b in zip(loaded.modules().values(), world.modules().values())
                ]
                for world in worlds
            ]
            assert all(same[0]) or all(same[1])
    finally:
        child.kill()
        child.join()


def _save_in_turns(worlds: list[World], folder: Path) -> None:
    while True:
        for world in worlds:
            world.save_pretrained(folder)


def _arrays(module) -> list[np.ndarray]:
    return [value.numpy() for value in module.state_dict().values()]


def test_a_shared_world_is_read_again_when_another_takes_its_place(tiny_spec, tmp_path):
    from wm_gym.engine.shared import load_world

    folder = new_world(tiny_spec, preset="tiny", seed=0).save_pretrained(tmp_path / "world")
    first = load_world(folder)
    assert load_world(folder) is first
    stamps = {file.relative_to(folder): file.stat().st_mtime_ns for file in folder.rglob("*")}
    new_world(tiny_spec, preset="tiny", seed=1).save_pretrained(folder)
    for file, stamp in stamps.items():  # a copy that keeps the times
        os.utime(folder / file, ns=(stamp, stamp))
    assert load_world(folder) is not first


def test_a_second_process_in_a_held_folder_is_told_so(tmp_path):
    folder = tmp_path / "run"

    def second():
        with pytest.raises(ValueError, match=f"another process is training in {folder}.*wait.*--out"):
            with files.locked(folder, "is training in"):
                pass

    with files.locked(folder, "is training in"):
        second()
        assert in_child(second) == 0
    assert not folder.exists()  # it was empty
    with files.locked(folder, "is training in"):
        (folder / "kept").write_text("")
        folder.rename(tmp_path / "log")
        with files.locked(folder, "is training in"):  # another folder of that name
            pass
    assert (tmp_path / "log" / "kept").exists() and not folder.exists()


def test_a_killed_process_holds_nothing(tmp_path):
    def hold():
        with files.locked(tmp_path / "run", "is training in"):
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(hold) == -signal.SIGKILL
    with files.locked(tmp_path / "run", "is training in"):
        pass


def test_what_was_begun_with_other_arguments_is_named(tmp_path):
    note = tmp_path / "asked.json"
    files.check_same(note, {"dataset": "a", "seed": 0}, "rm -r it")
    files.check_same(note, {"dataset": "a", "seed": 0, "new": 1}, "rm -r it", since=("new",))
    with pytest.raises(ValueError, match='other arguments: dataset "a", now "b"; rm -r it'):
        files.check_same(note, {"dataset": "b", "seed": 0, "new": 1}, "rm -r it")
    with pytest.raises(ValueError, match="new 1, now null"):
        files.check_same(note, {"dataset": "a", "seed": 0}, "rm -r it")
    note.write_text('{"dataset"')
    with pytest.raises(ValueError, match="asked.json is damaged.*rm -r it"):
        files.check_same(note, {"dataset": "a"}, "rm -r it")


@pytest.mark.parametrize("size", [0, 100, 3000])
def test_damaged_films_are_named(tmp_path, size, capsys):
    films = {name: np.zeros((1, 2, 8, 8, 3), np.uint8) for name in ("world", "physics")}
    np.savez_compressed(tmp_path / "films.npz", **films, uncertainty=np.zeros((1, 1)))
    data = (tmp_path / "films.npz").read_bytes()
    assert zipfile.is_zipfile(tmp_path / "films.npz")
    (tmp_path / "films.npz").write_bytes(data[:size] if size < len(data) else data[:-30])
    with pytest.raises(ValueError, match="films.npz is damaged.*wm-gym evaluate WORLD --only films"):
        write_trust_report(tmp_path)
    assert main(["report", str(tmp_path)]) == 2 and "films.npz is damaged" in capsys.readouterr().err


def test_a_full_disk_is_named_and_leaves_nothing(tiny_world, small_disk, balls, capsys):
    (small_disk / "full").write_bytes(bytes(3_500_000))
    with pytest.raises(OSError, match="no space left on the disk.*world"):
        tiny_world.save_pretrained(small_disk / "world")
    with (
        pytest.raises(OSError, match="no space left on the disk.*state.npz"),
        files.atomic_file(small_disk / "state.npz") as beside,
    ):
        np.savez(beside, np.zeros(10**7))
    assert os.listdir(small_disk) == ["full"]
    (small_disk / "full").write_bytes(bytes(2_000_000))
    code = main(
        ["train", str(balls), "--out", str(small_disk / "w"), "--preset", "tiny", "--set", "tokenizer_updates=2"]
    )
    said = capsys.readouterr().err
    assert code == 2 and "no space left" in said.lower() and "Traceback" not in said, said[-500:]
