"""Is what is read from a LeRobotDataset what was put in, whatever was killed when, and is each fault named?"""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wm_gym.data import DatasetError, LeRobotReader, LeRobotWriter
from wm_gym.data.formats import lerobot_resume, lerobot_writer
from wm_gym.data.formats.lerobot_resume import WRITING
from wm_gym.data.formats.lerobot_schema import INDEX_FEATURES, feature, video_feature

CAMERA = "observation.images.main"


def features(height=32, width=48, fps=10):
    return {
        CAMERA: video_feature(height, width, fps),
        "action": feature("float32", 2, ["x", "y"]),
        "next.reward": feature("float32"),
        "next.success": feature("bool"),
        "physics_state": feature("float64", 5),
    }


def make_episode(number, height=32, width=48):
    rng = np.random.default_rng(number)
    length = 4 + number % 5
    columns = {
        "action": rng.normal(size=(length, 2)).astype(np.float32),
        "next.reward": rng.normal(size=(length, 1)).astype(np.float32),
        "next.success": rng.uniform(size=(length, 1)) < 0.5,
        "physics_state": rng.normal(size=(length, 5)),
    }
    return columns, {CAMERA: rng.integers(0, 256, (length, height, width, 3), dtype=np.uint8)}, f"task {number % 3}"


def write(root, numbers, fps=10, shard_frames=15, size=(32, 48)):
    with LeRobotWriter(root, fps, features(*size, fps), shard_frames=shard_frames) as writer:
        for number in numbers:
            writer.add_episode(*make_episode(number, *size))


def assert_holds(root, numbers, size=(32, 48)):
    reader = LeRobotReader(root)
    columns = reader.columns()
    assert len(reader) == len(numbers)
    assert np.array_equal(columns["index"][:, 0], np.arange(reader.offset[-1]))
    rows = dict(reader.iter_frames(CAMERA))
    for e, number in enumerate(numbers):
        expected, frames, task = make_episode(number, *size)
        part = slice(reader.offset[e], reader.offset[e + 1])
        for key, value in expected.items():
            assert columns[key].dtype == value.dtype and np.array_equal(columns[key][part], value), key
        assert np.array_equal(reader.frames(CAMERA, e), frames[CAMERA])
        assert np.array_equal(np.stack([rows[r] for r in range(part.start, part.stop)]), frames[CAMERA])
        assert reader.tasks[e] == task


def file_bytes(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("size", [(32, 48), (31, 45)])
@pytest.mark.parametrize("fps", [10, 7.5, 29.97])
def test_round_trip_is_lossless_over_several_files(tmp_path, fps, size):
    write(tmp_path / "set", range(12), fps, size=size)
    assert len(list((tmp_path / "set/videos" / CAMERA).rglob("*.mp4"))) > 2
    assert_holds(tmp_path / "set", list(range(12)), size)


def test_files_go_on_in_the_next_chunk(tmp_path, monkeypatch):
    for module in (lerobot_writer, lerobot_resume):
        monkeypatch.setattr(module, "FILES_PER_CHUNK", 2)
    write(tmp_path / "set", range(6))
    write(tmp_path / "set", range(6, 12))
    assert (tmp_path / "set/data/chunk-002/file-000.parquet").is_file()
    assert_holds(tmp_path / "set", list(range(12)))


def test_a_writer_goes_on_where_the_dataset_ends(tmp_path):
    write(tmp_path / "parts", range(5))
    with LeRobotWriter(tmp_path / "parts") as writer:
        assert writer.num_episodes == 5
        for number in range(5, 9):
            writer.add_episode(*make_episode(number))
    assert_holds(tmp_path / "parts", list(range(9)))
    write(tmp_path / "whole", range(9))
    parts, whole = (json.loads((tmp_path / name / "meta/stats.json").read_text()) for name in ("parts", "whole"))
    for key in whole:
        assert all(np.allclose(parts[key][name], whole[key][name]) for name in whole[key]), key
    action = LeRobotReader(tmp_path / "whole").columns(["action"])["action"]
    assert np.allclose(whole["action"]["mean"], action.mean(0)) and np.allclose(whole["action"]["std"], action.std(0))


def test_a_kill_at_any_rename_leaves_a_valid_dataset_that_resumes_to_the_same_bytes(tmp_path, monkeypatch):
    write(tmp_path / "whole", range(7), shard_frames=12)
    renames, real = [], os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (renames.append(b), real(a, b)))
    write(tmp_path / "count", range(7), shard_frames=12)
    assert len(renames) > 8
    for stop in range(1, len(renames) + 1):
        root, seen = tmp_path / f"killed{stop}", []

        def killed(a, b, seen=seen, stop=stop):
            seen.append(b)
            if len(seen) == stop:
                raise SystemExit("killed here")
            real(a, b)

        monkeypatch.setattr(os, "replace", killed)
        writer = LeRobotWriter(root, 10, features(), shard_frames=12)
        with pytest.raises(SystemExit):
            for number in range(7):
                writer.add_episode(*make_episode(number))
            writer.close()
        snapshot = tmp_path / f"snapshot{stop}"
        shutil.copytree(root, snapshot)  # what a kill leaves, without the clean-up of close()
        monkeypatch.setattr(os, "replace", real)
        writer.close()
        done = 0
        if (snapshot / "meta/info.json").exists():
            done = json.loads((snapshot / "meta/info.json").read_text())["total_episodes"]
            assert_holds(snapshot, list(range(done)))
        write(snapshot, range(done, 7), shard_frames=12)
        assert file_bytes(snapshot) == file_bytes(tmp_path / "whole")


def test_schema_is_that_of_lerobot(tmp_path, droid_dataset):
    """Every column that lerobot 0.4.4 wrote for a kind of feature has the same name and type in our files."""
    with LeRobotWriter(
        tmp_path / "set",
        5,
        robot_type="franka",
        features={
            key: spec
            for key, spec in json.loads((droid_dataset / "meta/info.json").read_text())["features"].items()
            if key not in INDEX_FEATURES
        },
    ) as writer:
        length = 3
        writer.add_episode(
            {
                "observation.state": np.zeros((length, 7)),
                "action": np.zeros((length, 7)),
                "next.done": np.zeros(length, bool),
                "next.success": np.zeros(length, bool),
            },
            {key: np.zeros((length, 192, 320, 3), np.uint8) for key in writer.cameras},
            "",
        )
    for name in ("data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet"):
        ours, theirs = (pq.ParquetFile(root / name).schema_arrow for root in (tmp_path / "set", droid_dataset))
        assert ours.names == theirs.names
        for field in theirs:
            assert str(ours.field(field.name).type).replace("item", "element") == str(field.type).replace(
                "item", "element"
            ), field.name
    a, b = (json.loads((root / "meta/info.json").read_text()) for root in (tmp_path / "set", droid_dataset))
    assert list(a) == list(b) and a["features"] == b["features"]
    a, b = (json.loads((root / "meta/stats.json").read_text()) for root in (tmp_path / "set", droid_dataset))
    assert {k: set(v) for k, v in a.items()} == {k: set(v) for k, v in b.items()}
    for key in b:
        for statistic in b[key]:
            assert np.shape(a[key][statistic]) == np.shape(b[key][statistic]), (key, statistic)


def test_real_recording_of_lerobot(droid_dataset):
    reader = LeRobotReader(droid_dataset)
    assert len(reader) == 11 and reader.offset[-1] == 854 and reader.fps == 5
    assert reader.length.tolist() == [56, 89, 137, 80, 124, 62, 39, 33, 121, 41, 72]
    assert [key.rpartition(".")[2] for key in reader.cameras] == ["exterior_1_left", "wrist_left"]
    assert [e for e in range(11) if reader.tasks[e] == ""] == [0, 4, 5, 6, 9]
    columns = reader.columns()
    for e in range(11):
        part = slice(reader.offset[e], reader.offset[e + 1])
        state, action = columns["observation.state"][part], columns["action"][part]
        assert np.allclose(action[:-1], state[1:], atol=1e-6)
    # 109.60000000000001 s x 5 fps: the first frame of each episode is where the lengths put it
    ((path, episodes),) = reader.video_files("observation.images.wrist_left").items()
    assert [first for _, first in episodes] == reader.offset[:-1].tolist()
    one = reader.frames("observation.images.wrist_left", 9)  # by seeking
    rows = dict(reader.iter_frames("observation.images.wrist_left"))  # from the start
    assert len(rows) == 854 and one.shape == (41, 192, 320, 3)
    assert np.array_equal(one, np.stack([rows[int(reader.offset[9]) + t] for t in range(41)]))


AV1 = """
import sys, av, numpy as np
frames, path = np.load(sys.argv[1]), sys.argv[2]
with av.open(path, "w") as file:
    stream = file.add_stream("libsvtav1", rate=10)
    stream.height, stream.width, stream.pix_fmt, stream.options = 64, 96, "yuv420p", {"crf": "20", "g": "2"}
    for frame in frames:
        file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
    file.mux(stream.encode())
"""


def test_av1_is_read(tmp_path):
    av = pytest.importorskip("av")
    if "libsvtav1" not in av.codec.codecs_available:
        pytest.skip("this PyAV has no AV1 encoder to make the file with")
    root = tmp_path / "set"
    y, x = np.mgrid[:64, :96]
    frames = np.stack([np.stack([x * 2 + 4 * t, y * 3, x + y], -1) for t in range(8)]).clip(0, 255).astype(np.uint8)
    columns = {
        "action": np.zeros((8, 2), np.float32),
        "next.reward": np.zeros((8, 1), np.float32),
        "next.success": np.zeros((8, 1), bool),
        "physics_state": np.zeros((8, 5)),
    }
    with LeRobotWriter(root, 10, features(64, 96)) as writer:
        writer.add_episode(columns, {CAMERA: frames}, "")
    np.save(tmp_path / "frames.npy", frames)
    video = root / "videos" / CAMERA / "chunk-000/file-000.mp4"
    # SVT-AV1 gives root's process real-time priority for good: all that came after would starve what runs beside it
    subprocess.run([sys.executable, "-c", AV1, str(tmp_path / "frames.npy"), str(video)], check=True)
    read = LeRobotReader(root).frames(CAMERA, 0)
    assert 10 * np.log10(255**2 / np.mean((read.astype(float) - frames) ** 2)) > 30


def edit_info(root, **changes):
    path = root / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_table(root, name, change):
    table = pq.ParquetFile(root / name).read()
    frame = table.to_pydict()
    change(frame)
    pq.write_table(pa.table(frame, schema=table.schema), root / name)


VIDEO = f"videos/{CAMERA}/chunk-000/file-000.mp4"
DATA, EPISODES = "data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet"
FAULTS = {
    "missing video": (lambda r: (r / VIDEO).unlink(), ["missing", VIDEO]),
    "truncated video": (lambda r: (r / VIDEO).write_bytes((r / VIDEO).read_bytes()[:900]), [VIDEO, "truncated"]),
    "missing rows": (lambda r: (r / DATA).unlink(), ["missing", DATA]),
    "nan action": (
        lambda r: edit_table(r, DATA, lambda t: t["action"][7].__setitem__(1, float("nan"))),
        ["'action'", "nan", "episode 1: ", "frame 3"],
    ),
    "infinite reward": (
        lambda r: edit_table(r, DATA, lambda t: t["next.reward"].__setitem__(0, float("inf"))),
        ["'next.reward'", "inf", "episode 0: ", "frame 0"],
    ),
    "rows fewer than meta": (
        lambda r: edit_table(r, DATA, lambda t: [v.pop() for v in t.values()]),
        ["episode 2: it has 5 rows in data/ and 6 in meta/episodes", "--skip-damaged"],
    ),
    "meta longer than video": (
        lambda r: (edit_table(r, EPISODES, lambda t: t["length"].__setitem__(2, 9)), edit_info(r, total_frames=18)),
        ["15 frames", "episode 2", "9 to 17"],
    ),
    "totals disagree": (lambda r: edit_info(r, total_frames=99), ["add up to 15", "99"]),
    "episodes missing": (lambda r: edit_info(r, total_episodes=5), ["promises 5 episodes", "episodes 3, 4"]),
    "wrong version": (lambda r: edit_info(r, codebase_version="v1.6"), ["'v1.6'", "'v3.0'", "convert it with lerobot"]),
    "no info": (lambda r: (r / "meta/info.json").unlink(), ["not a LeRobotDataset", "meta/info.json", "wm-gym record"]),
    "broken info": (lambda r: (r / "meta/info.json").write_text("{"), ["not JSON"]),
    "no folder": (lambda r: shutil.rmtree(r), ["no dataset folder", "wm-gym record"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_named(tmp_path, fault):
    root = tmp_path / "set"
    write(root, range(3), shard_frames=1000)
    damage, words = FAULTS[fault]
    damage(root)
    with pytest.raises(DatasetError) as error:
        reader = LeRobotReader(root)
        reader.columns()
    for word in words:
        assert word in str(error.value)


def test_unknown_camera_names_those_there(tmp_path):
    write(tmp_path / "set", [0])
    with pytest.raises(DatasetError, match="no camera 'wrist'; it has main"):
        LeRobotReader(tmp_path / "set").camera("wrist")


@pytest.mark.parametrize(
    "damage, words",
    [
        (lambda c, f: c["action"].__setitem__((2, 0), np.nan), ["'action'", "row 2", "finite"]),
        (lambda c, f: c.__setitem__("action", c["action"][:-1]), ["ragged", "'action': 3"]),
        (lambda c, f: c.__setitem__("action", c["action"][:, :1]), ["'action'", "[4, 2]"]),
        (lambda c, f: c.pop("next.reward"), ["'next.reward'", "give every one"]),
        (lambda c, f: f.__setitem__(CAMERA, f[CAMERA][:, :16]), [CAMERA, "[32, 48, 3]"]),
    ],
)
def test_writer_refuses_bad_episodes_and_keeps_the_others(tmp_path, damage, words):
    with LeRobotWriter(tmp_path / "set", 10, features()) as writer:
        writer.add_episode(*make_episode(1))
        columns, frames, task = make_episode(0)
        damage(columns, frames)
        with pytest.raises(DatasetError) as error:
            writer.add_episode(columns, frames, task)
        writer.add_episode(*make_episode(2))
    assert all(word in str(error.value) for word in words), error.value
    assert_holds(tmp_path / "set", [1, 2])


def test_writer_refuses_a_folder_that_is_taken(tmp_path):
    with LeRobotWriter(tmp_path / "set", 10, features()) as writer:
        writer.add_episode(*make_episode(1))
        with pytest.raises(DatasetError, match="another process is writing"):
            LeRobotWriter(tmp_path / "set", 10, features())
    assert not (tmp_path / "set" / WRITING).exists()
    with pytest.raises(DatasetError, match="'action' as float32 .2., now it would be float32 .3."):
        LeRobotWriter(tmp_path / "set", 10, features() | {"action": feature("float32", 3)})
    with pytest.raises(DatasetError, match="10 fps, now 20"):
        LeRobotWriter(tmp_path / "set", 20, features())
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.tex").write_text("")
    with pytest.raises(DatasetError, match="thesis.tex"):
        LeRobotWriter(tmp_path / "other", 10, features())
