"""Does a conversion, killed at any moment, go on to the bytes of an unbroken one, and is another source refused?"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from test_atomic import killed_at
from test_formats import CAMERA, folder_dataset, pictures

from wm_gym.cli import main
from wm_gym.data import DatasetError, LeRobotReader, LeRobotWriter
from wm_gym.data.formats import convert
from wm_gym.data.formats.lerobot_schema import feature, video_feature
from wm_gym.data.formats.video import VideoWriter


def written(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """Six episodes of five frames, which are three shards of ten."""
    root = tmp_path_factory.mktemp("source") / "A"
    root.mkdir()
    for e in range(6):
        video = VideoWriter(root / f"ep{e}.mp4", 16, 16, 10)
        video.write(pictures(5, 16, 16, e))
        video.close()
        np.savez(root / f"ep{e}.npz", action=np.full((5, 2), e, np.float32), task=f"do {e % 2}")
    return root


def run(source: Path, to: Path) -> None:
    convert.convert(source, to, progress=False, shard_frames=10)


@pytest.mark.parametrize("twice", [False, True])
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(tmp_path, source, twice):
    run(source, tmp_path / "whole")
    whole = written(tmp_path / "whole")
    assert len([name for name in whole if name.endswith(".mp4")]) == 3
    to, step, kills, seen = tmp_path / "set", 0, 0, set()
    while True:
        shutil.rmtree(to, ignore_errors=True)
        if not killed_at(step, lambda: run(source, to)):
            break
        if twice:
            killed_at(step // 2, lambda: run(source, to))
        if (to / "meta/info.json").is_file():  # valid at every moment
            reader = LeRobotReader(to)
            assert np.array_equal(reader.columns(["action"])["action"][:, 0], np.arange(len(reader)).repeat(5))
            seen.add(len(reader))
        else:
            seen.add(0)
        run(source, to)
        assert written(to) == whole, step
        kills, step = kills + 1, step + (13 if twice else 7)
    assert kills > 12 and seen == {0, 2, 4, 6}


def test_an_interruption_or_an_error_goes_on_to_the_same_bytes_too(tmp_path, source, interrupted):
    run(source, tmp_path / "whole")
    with interrupted(3):
        run(source, tmp_path / "set")
    assert len(LeRobotReader(tmp_path / "set")) == 2
    run(source, tmp_path / "set")
    assert written(tmp_path / "set") == written(tmp_path / "whole")


def test_another_source_or_other_arguments_are_refused_by_name(tmp_path, source, capsys):
    other = shutil.copytree(source, tmp_path / "B")
    np.savez(other / "ep5.npz", action=np.full((5, 2), 9, np.float32), task="do 1")
    to = tmp_path / "set"
    run(source, to)
    whole = written(to)
    with pytest.raises(DatasetError, match="converted from the dataset 'A', now it would be 'B': content"):
        run(other, to)
    with pytest.raises(DatasetError, match="fps 10.0, now 5.0"):
        convert.convert(source, to, progress=False, fps=5.0)
    assert main(["data", "convert", str(other), "--to", str(to)]) == 2 and "'A'" in capsys.readouterr().err
    moved = shutil.copytree(source, tmp_path / "elsewhere" / "C")  # the same by another name and place
    run(moved, to)
    assert written(to) == whole


def test_a_dataset_of_another_origin_is_refused(tmp_path, source):
    with LeRobotWriter(tmp_path / "set", 10, {CAMERA: video_feature(16, 16, 10), "action": feature("float32", 2)}) as w:
        w.add_episode({"action": np.zeros((5, 2), np.float32)}, {CAMERA: pictures(5, 16, 16)}, "")
    before = written(tmp_path / "set")
    with pytest.raises(DatasetError, match="does not say which one it was converted from"):
        run(source, tmp_path / "set")
    assert written(tmp_path / "set") == before


@pytest.mark.parametrize("name", ["data", "videos", "meta"])
def test_a_folder_of_somebody_else_is_left_alone(tmp_path, source, name):
    mine = tmp_path / "project" / name / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(DatasetError, match=f"holds other things .{name}. and no dataset"):
        run(source, tmp_path / "project")
    assert mine.read_text() == "mine"


def test_the_source_is_named_without_its_place(tmp_path):
    (tmp_path / "secret").mkdir()
    convert.convert(folder_dataset(tmp_path / "secret" / "A"), tmp_path / "set", progress=False)
    info = (tmp_path / "set/meta/info.json").read_text()
    assert json.loads(info)["wm_gym_source"]["dataset"] == "A" and "secret" not in info
