"""Does every dataset format give the frames and numbers that an independent library reads from the same files?"""

from __future__ import annotations

import io
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from wm_gym.cli import main
from wm_gym.data import DatasetError, LeRobotReader, LeRobotWriter, detect, open_clips, open_reader, open_writer
from wm_gym.data.formats import convert
from wm_gym.data.formats.lerobot_schema import feature, video_feature

CAMERA = "observation.images.main"


def pictures(length: int, height: int = 24, width: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (length, height, width, 3), dtype=np.uint8)


def png(frame: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(frame).save(data, "PNG")
    return data.getvalue()


def write_v21(root, lengths, video: bool):
    """A LeRobotDataset v2.1 written with pandas and PyAV, as lerobot 0.3 laid it out."""
    (root / "meta").mkdir(parents=True)
    spec = {"dtype": "video" if video else "image", "shape": [24, 32, 3], "names": ["height", "width", "channels"]}
    info = {
        "codebase_version": "v2.1",
        "fps": 10,
        "total_episodes": len(lengths),
        "total_frames": sum(lengths),
        "chunks_size": 2,
        "features": {
            CAMERA: spec,
            "action": {"dtype": "float32", "shape": [2], "names": ["x", "y"]},
            "episode_index": {"dtype": "int64", "shape": [1], "names": None},
            "frame_index": {"dtype": "int64", "shape": [1], "names": None},
        },
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    }
    (root / "meta/info.json").write_text(json.dumps(info))
    lines = []
    for e, length in enumerate(lengths):
        frames, action = pictures(length, seed=e), np.random.default_rng(e).normal(size=(length, 2)).astype(np.float32)
        table = {"action": list(action), "episode_index": np.full(length, e), "frame_index": np.arange(length)}
        if video:
            from wm_gym.data.formats.video import VideoWriter

            video_file = VideoWriter(root / f"videos/chunk-{e // 2:03d}/{CAMERA}/episode_{e:06d}.mp4", 24, 32, 10)
            video_file.write(frames)
            video_file.close()
        else:
            table[CAMERA] = [{"bytes": png(frame), "path": None} for frame in frames]
        (root / f"data/chunk-{e // 2:03d}").mkdir(parents=True, exist_ok=True)
        pd.DataFrame(table).to_parquet(root / f"data/chunk-{e // 2:03d}/episode_{e:06d}.parquet")
        lines.append({"episode_index": e, "tasks": [f"task {e}"] if e else [""], "length": length})
    (root / "meta/episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return root


@pytest.mark.parametrize("video", [True, False])
def test_lerobot_v21(tmp_path, video):
    lengths = [3, 5, 4]
    reader = open_reader(write_v21(tmp_path / "old", lengths, video))
    assert (reader.length.tolist(), reader.tasks, reader.fps) == (lengths, ["", "task 1", "task 2"], 10)
    rows = dict(reader.iter_frames(CAMERA))
    action = reader.columns(["action"])["action"]
    for e, length in enumerate(lengths):
        start = int(reader.offset[e])
        assert np.array_equal(reader.frames(CAMERA, e), pictures(length, seed=e))
        assert np.array_equal(np.stack([rows[start + t] for t in range(length)]), pictures(length, seed=e))
        assert np.array_equal(
            action[start : start + length], np.random.default_rng(e).normal(size=(length, 2)).astype(np.float32)
        )
    clips = open_clips(tmp_path / "old", progress=False)
    assert np.array_equal(clips.frames[3:8], pictures(5, seed=1))


def test_frames_stored_channels_first_have_their_true_size(tmp_path):
    root = write_v21(tmp_path / "old", [2], video=False)
    info = json.loads((root / "meta/info.json").read_text())
    info["features"][CAMERA] |= {"shape": [3, 24, 32], "names": ["channels", "height", "width"]}
    (root / "meta/info.json").write_text(json.dumps(info))
    assert open_reader(root).frames(CAMERA, 0).shape == (2, 24, 32, 3)


def test_a_missing_episode_file_of_v21_is_named(tmp_path):
    root = write_v21(tmp_path / "old", [3, 3], video=True)
    (root / "data/chunk-000/episode_000001.parquet").unlink()
    with pytest.raises(DatasetError, match="missing data/chunk-000/episode_000001.parquet"):
        open_reader(root)


def test_droid_equals_pandas_and_pyav(droid_dataset):
    import av

    reader = open_reader(droid_dataset)
    table = pd.read_parquet(droid_dataset / "data/chunk-000/file-000.parquet")
    columns = reader.columns()
    for key in ("action", "observation.state"):
        assert np.array_equal(columns[key], np.stack(table[key]))
    for camera in reader.cameras:
        with av.open(str(droid_dataset / f"videos/{camera}/chunk-000/file-000.mp4")) as file:
            theirs = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
        ours = dict(reader.iter_frames(camera))
        assert len(ours) == len(theirs) == 854 and all(np.array_equal(ours[i], theirs[i]) for i in range(854))


@pytest.mark.parametrize("split", ["train", "val"])
def test_bridge_equals_the_tfrecord_package(shared_data, split):
    tfrecord = pytest.importorskip("tfrecord")
    folder = shared_data / "bridge_rlds/bridge_dataset/1.0.0"
    reader = open_reader(folder.parent, fps=5, split=split)
    theirs = list(
        tfrecord.reader.tfrecord_loader(str(folder / f"bridge_dataset-{split}.tfrecord-00000-of-00001"), None, None)
    )
    assert len(reader) == len(theirs) == 25 and reader.splits == ["train", "val"]
    columns = reader.columns()
    for e, record in enumerate(theirs):
        part = slice(int(reader.offset[e]), int(reader.offset[e + 1]))
        assert np.array_equal(columns["action"][part].ravel(), record["steps/action"])
        assert np.array_equal(columns["observation.state"][part].ravel(), record["steps/observation/state"])
        text = record["steps/language_instruction"]
        assert reader.tasks[e] == bytes(text[0] if not isinstance(text, bytes) else text).decode()
        for number in range(4):
            stored = record[f"steps/observation/image_{number}"]
            frames = reader.frames(f"observation.images.image_{number}", e)
            assert all(
                np.array_equal(frame, np.asarray(Image.open(io.BytesIO(bytes(data)))))
                for frame, data in zip(frames, stored, strict=True)
            )


def test_rlds_without_a_rate_says_what_to_type(shared_data):
    with pytest.raises(DatasetError, match="--fps 5"):
        open_reader(shared_data / "bridge_rlds/bridge_dataset")
    with pytest.raises(DatasetError, match="has no split 'test'; it has train, val"):
        open_reader(shared_data / "bridge_rlds/bridge_dataset", fps=5, split="test")


def test_a_damaged_tfrecord_is_named(shared_data, tmp_path):
    root = shutil.copytree(shared_data / "bridge_rlds/bridge_dataset/1.0.0", tmp_path / "bridge")
    path = root / "bridge_dataset-train.tfrecord-00000-of-00001"
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data)
    with pytest.raises(DatasetError, match="does not have its checksum"):
        open_reader(root, fps=5)
    path.write_bytes(bytes(data[:3000]))
    with pytest.raises(DatasetError, match="bytes are left|are left"):
        open_reader(root, fps=5)


def minari_dataset(root):
    """Two episodes of four actions written by minari; returns the dataset as minari opens it."""
    import gymnasium as gym
    import minari
    from minari.data_collector import EpisodeBuffer

    length, buffers = 4, []
    for e in range(2):
        rng = np.random.default_rng(e)
        buffers.append(
            EpisodeBuffer(
                id=e,
                observations={
                    "pixels": pictures(length + 1, seed=e),
                    "pos": rng.normal(size=(length + 1, 2)).astype(np.float32),
                },
                actions=rng.uniform(-1, 1, (length, 2)).astype(np.float32),
                rewards=rng.normal(size=length).tolist(),
                terminations=[False] * 3 + [True],
                truncations=[False] * 4,
                infos={},
            )
        )
    return minari.create_dataset_from_buffers(
        "dots-v0",
        buffers,
        action_space=gym.spaces.Box(-1, 1, (2,), np.float32),
        observation_space=gym.spaces.Dict(
            {"pixels": gym.spaces.Box(0, 255, (24, 32, 3), np.uint8), "pos": gym.spaces.Box(-9, 9, (2,), np.float32)}
        ),
        algorithm_name="random",
        author="t",
        author_email="t",
        code_permalink="t",
    )


def test_minari_equals_minari(tmp_path, monkeypatch):
    pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    theirs = minari_dataset(tmp_path)
    reader = open_reader(tmp_path / "dots-v0", fps=4)
    assert detect(tmp_path / "dots-v0") == "minari" and reader.length.tolist() == [5, 5]
    columns = reader.columns()
    for e, episode in enumerate(theirs.iterate_episodes()):
        part = slice(int(reader.offset[e]), int(reader.offset[e + 1]))
        assert np.array_equal(reader.frames("observation.images.pixels", e), episode.observations["pixels"])
        assert np.array_equal(columns["observation.state"][part], episode.observations["pos"])
        assert np.array_equal(columns["action"][part][:4], episode.actions)
        assert np.array_equal(columns["action"][part][4], episode.actions[3])  # held: no action follows
        assert np.allclose(columns["next.reward"][part][:4, 0], episode.rewards)
    with pytest.raises(DatasetError, match="does not say its frame rate"):
        open_reader(tmp_path / "dots-v0")


def folder_dataset(root, numbers="npz"):
    from wm_gym.data.formats.video import VideoWriter

    root.mkdir()
    for e, length in enumerate((4, 6)):
        for camera in ("", ".wrist"):
            video = VideoWriter(root / f"ep{e}{camera}.mp4", 24, 32, 12)
            video.write(pictures(length, seed=e + 10 * len(camera)))
            video.close()
        action = np.arange(2 * (length - 1), dtype=np.float32).reshape(-1, 2) + e
        state = np.arange(length, dtype=np.float32)[:, None]
        if numbers == "npz":
            np.savez(root / f"ep{e}.npz", action=action, state=state, task=f"do {e}")
        elif numbers == "csv":
            pd.DataFrame(
                {
                    "action_x": [*action[:, 0], action[-1, 0]],
                    "action_y": [*action[:, 1], action[-1, 1]],
                    "state": state[:, 0],
                }
            ).to_csv(root / f"ep{e}.csv", index=False)
    return root


@pytest.mark.parametrize("numbers", ["npz", "csv"])
def test_folder_of_videos(tmp_path, numbers):
    reader = open_reader(folder_dataset(tmp_path / "set", numbers))
    assert (reader.fps, reader.length.tolist()) == (12, [4, 6])
    assert reader.cameras == [CAMERA, "observation.images.wrist"]
    assert reader.tasks == (["do 0", "do 1"] if numbers == "npz" else ["", ""])
    columns = reader.columns()
    assert columns["action"].tolist() == [
        [0, 1],
        [2, 3],
        [4, 5],
        [4, 5],
        [1, 2],
        [3, 4],
        [5, 6],
        [7, 8],
        [9, 10],
        [9, 10],
    ]
    assert columns["observation.state"][:, 0].tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 4, 5]
    assert np.array_equal(reader.frames("observation.images.wrist", 1), pictures(6, seed=61))
    assert np.array_equal(dict(reader.iter_frames(CAMERA))[9], pictures(6, seed=1)[5])


def test_videos_alone_are_a_dataset_without_actions(tmp_path):
    reader = open_reader(folder_dataset(tmp_path / "set", "none"))
    assert "action" not in reader.features and len(list(reader.iter_frames(CAMERA))) == 10


@pytest.mark.parametrize(
    "fault, words",
    [
        (lambda r: (r / "ep1.wrist.mp4").unlink(), "missing ep1.wrist.mp4"),
        (lambda r: (r / "ep1.npz").unlink(), "expected the same in every episode"),
        (lambda r: np.savez(r / "ep1.npz", action=np.zeros((9, 2))), "expected a row a frame"),
        (lambda r: np.savez(r / "ep1.npz", action=np.array([{}] * 6)), "without objects"),
        (lambda r: (r / "ep1.npz").write_bytes(b"PK"), "cannot read"),
        (lambda r: (r / "ep1.mp4").write_bytes(b"no video"), "not a video"),
    ],
)
def test_each_fault_of_a_folder_is_named(tmp_path, fault, words):
    root = folder_dataset(tmp_path / "set")
    fault(root)
    with pytest.raises(DatasetError, match=words):
        open_reader(root)


@pytest.mark.parametrize("source", ["v21", "folder", "bridge"])
def test_conversion_keeps_every_byte_and_number(tmp_path, source, request):
    options = {}
    if source == "bridge":
        root, options = request.getfixturevalue("shared_data") / "bridge_rlds/bridge_dataset", {"fps": 5}
    else:
        root = write_v21(tmp_path / "a", [3, 5], False) if source == "v21" else folder_dataset(tmp_path / "a")
    theirs = open_reader(root, **options)
    ours = LeRobotReader(convert.convert(root, tmp_path / "b", progress=False, **options))
    assert ours.tasks == theirs.tasks and ours.length.tolist() == theirs.length.tolist() and ours.fps == theirs.fps
    assert set(theirs.cameras) == set(ours.cameras)
    for key, value in theirs.columns(["action"]).items():
        assert np.array_equal(ours.columns([key])[key], value)
    for camera in theirs.cameras[:2]:
        assert np.array_equal(ours.frames(camera, 1), theirs.frames(camera, 1))


def test_a_conversion_goes_on_after_a_kill(tmp_path, monkeypatch):
    root = folder_dataset(tmp_path / "a")
    real, calls = LeRobotWriter.add_episode, []

    def killed(self, *args):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, *args)

    monkeypatch.setattr(LeRobotWriter, "add_episode", killed)
    with pytest.raises(KeyboardInterrupt):
        convert.convert(root, tmp_path / "b", progress=False)
    monkeypatch.setattr(LeRobotWriter, "add_episode", real)
    convert.convert(root, tmp_path / "b", progress=False)
    convert.convert(root, tmp_path / "whole", progress=False)
    a, b = LeRobotReader(tmp_path / "b"), LeRobotReader(tmp_path / "whole")
    assert a.length.tolist() == b.length.tolist() == [4, 6]
    assert np.array_equal(a.columns(["action"])["action"], b.columns(["action"])["action"])
    assert np.array_equal(a.frames(CAMERA, 1), b.frames(CAMERA, 1))


def test_what_no_format_is_says_which_there_are(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(DatasetError, match="RLDS.*Minari.*mp4"):
        open_reader(tmp_path / "x")
    with pytest.raises(DatasetError, match="unknown dataset format 'zarr'; expected one of lerobot, rlds"):
        open_reader(tmp_path / "x", "zarr")
    with pytest.raises(DatasetError, match="cannot write the format 'rlds'"):
        open_writer(tmp_path / "y", 10, {}, "rlds")
    with pytest.raises(DatasetError, match="takes none of fps"):
        with LeRobotWriter(tmp_path / "z", 10, {CAMERA: video_feature(24, 32, 10), "action": feature("float32")}) as w:
            w.add_episode({"action": np.zeros((2, 1), np.float32)}, {CAMERA: pictures(2)}, "")
        open_reader(tmp_path / "z", fps=5)


def test_an_extra_that_is_not_installed_is_named(shared_data, monkeypatch):
    import builtins
    import sys

    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "google_crc32c":
            raise ModuleNotFoundError("No module named 'google_crc32c'", name="google_crc32c")
        return real(name, *args, **kwargs)

    for name in [
        name for name in sys.modules if name.startswith(("wm_gym.data.formats.rlds", "wm_gym.data.formats.tfrecord"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr("wm_gym.data.formats.tfrecord", None, raising=False)
    monkeypatch.delattr("wm_gym.data.formats.tfrecord")
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'wm-gym\[rlds\]'"):
        open_reader(shared_data / "bridge_rlds/bridge_dataset", fps=5)


def test_data_commands(tmp_path, capsys, droid_dataset):
    assert main(["data", "info", str(droid_dataset)]) == 0
    out = capsys.readouterr().out
    assert "11 episodes, 854 frames" in out and "wraps around +-pi" in out
    assert main(["data", "info", "--json", str(droid_dataset)]) == 0
    assert json.loads(capsys.readouterr().out)["cameras"]["wrist_left"] == [192, 320]
    assert main(["data", "convert", str(droid_dataset), "--to", str(droid_dataset / "x")]) == 2
    assert "part of it" in capsys.readouterr().err
    root = folder_dataset(tmp_path / "set")
    assert main(["data", "view", str(root), "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert page.count("<video") == 2 and page.count("data:video/mp4") == 2 and "src='http" not in page
