"""Are the cached clips the dataset's rows and frames, decoded once, and whose success is whose?"""

import shutil

import numpy as np
import pytest

from wm_gym.collect.record import record
from wm_gym.data import DatasetError, LeRobotReader, LeRobotWriter, join_clips, open_clips
from wm_gym.data import clips as cache
from wm_gym.data.formats.lerobot_schema import feature, video_feature
from wm_gym.data.resize import resize_area

BALL = "ball_env:wm_gym_test/Ball-v0"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return record(BALL, 6, out=tmp_path_factory.mktemp("ball") / "set", workers=0, shard_frames=40, progress=False)


def entries(folder):
    return sorted(path.parent.name for path in folder.glob("frames/*/frames.npy"))


def test_clips_are_the_rows(dataset, tmp_path):
    clips, reader = open_clips(dataset, cache_dir=tmp_path), LeRobotReader(dataset)
    columns = reader.columns()
    assert isinstance(clips.frames, np.memmap) and clips.frames.dtype == np.uint8
    assert clips.frames.shape == (96, 32, 32, 3) and clips.episode_offset.tolist() == [16 * e for e in range(7)]
    for e in range(6):
        assert np.array_equal(clips.frames[16 * e : 16 * e + 16], reader.frames(reader.cameras[0], e))
    assert np.array_equal(clips.action, columns["action"]) and clips.action.dtype == np.float32
    assert np.array_equal(clips.proprioception, columns["observation.state"])
    assert np.array_equal(clips.physics_state, columns["physics_state"]) and clips.physics_state.dtype == np.float64
    assert np.allclose(clips.reward.sum(1), columns["next.reward"][:, 0], atol=1e-6)
    # success of an observation: is the ball within 0.1 of the disc in that row's physics state?
    truth = np.linalg.norm(clips.physics_state[:, :2] - clips.physics_state[:, 2:], axis=1) < 0.1
    truth[clips.episode_offset[:-1]] = False  # of a first observation no transition tells
    assert np.array_equal(clips.success, truth)
    assert clips.episode_success.tolist() == [bool(truth[16 * e : 16 * e + 16].any()) for e in range(6)]
    meta = clips.meta
    assert meta["reward_terms"] == ["progress", "success"] and meta["has_reward"] and meta["has_success"]
    assert meta["action_low"] == [-1, -1] and meta["action_bounds"] == "stated" and meta["action_names"] == ["x", "y"]
    assert meta["env_id"] == BALL and meta["horizon"] == 15 and meta["fps"] == 10 and meta["camera"] == "main"
    assert meta["task_description"] == "push the ball to the disc" and len(clips) == 6


def test_frames_are_decoded_once_per_content_camera_and_size(dataset, tmp_path):
    open_clips(dataset, cache_dir=tmp_path)
    one = entries(tmp_path)
    file = tmp_path / "frames" / one[0] / "frames.npy"
    written = file.stat().st_mtime_ns
    shutil.copytree(dataset, tmp_path / "elsewhere")
    open_clips(tmp_path / "elsewhere", cache_dir=tmp_path)
    assert entries(tmp_path) == one and file.stat().st_mtime_ns == written
    small = open_clips(dataset, size=(16, 24), cache_dir=tmp_path)
    assert len(entries(tmp_path)) == 2 and small.frames.shape == (96, 16, 24, 3)
    shutil.copytree(dataset, tmp_path / "longer")
    record(BALL, 7, out=tmp_path / "longer", workers=0, progress=False)
    longer = open_clips(tmp_path / "longer", cache_dir=tmp_path)
    assert len(entries(tmp_path)) == 3 and longer.frames.shape[0] == 112
    assert longer.meta["dataset_hash"] != small.meta["dataset_hash"]
    assert not list(tmp_path.glob("frames/*.part"))


def test_cache_folder_comes_from_the_environment(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("WM_GYM_CACHE", str(tmp_path / "here"))
    open_clips(dataset)
    assert len(entries(tmp_path / "here")) == 1


def test_an_interrupted_or_damaged_entry(dataset, tmp_path):
    shutil.copytree(dataset, tmp_path / "cut")
    video = next((tmp_path / "cut/videos").rglob("file-001.mp4"))
    content = bytearray(video.read_bytes())
    content[200:-3000] = bytes(len(content) - 3200)
    video.write_bytes(content)
    with pytest.raises(DatasetError, match="file-001.mp4"):
        open_clips(tmp_path / "cut", cache_dir=tmp_path, progress=False)
    assert not list((tmp_path / "frames").iterdir())  # nothing half decoded stays
    open_clips(dataset, cache_dir=tmp_path)
    path = tmp_path / "frames" / entries(tmp_path)[0] / "frames.npy"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DatasetError, match=f"damaged.*delete {path.parent}"):
        open_clips(dataset, cache_dir=tmp_path)


def test_two_processes_may_decode_at_once(dataset, tmp_path):
    reader, camera = LeRobotReader(dataset), LeRobotReader(dataset).camera()
    path = tmp_path / "frames" / "key" / "frames.npy"
    path.parent.parent.mkdir()
    for _ in range(2):  # the second finds the entry there when it renames
        cache._decode(reader, camera, (96, 32, 32, 3), path, progress=False)
    assert np.load(path).shape == (96, 32, 32, 3) and [p.name for p in path.parent.parent.iterdir()] == ["key"]


def test_bad_arguments_are_named(dataset, tmp_path):
    with pytest.raises(DatasetError, match="no camera 'top'; it has main"):
        open_clips(dataset, camera="top", cache_dir=tmp_path)
    with pytest.raises(DatasetError, match="height, width"):
        open_clips(dataset, size=(0, 64), cache_dir=tmp_path)
    with pytest.raises(DatasetError, match="no dataset folder"):
        open_clips(tmp_path / "nowhere", cache_dir=tmp_path)
    with pytest.raises(DatasetError, match="in no format that is known here"):
        open_clips(tmp_path, cache_dir=tmp_path)


def test_a_dataset_without_reward_state_success_or_bounds(tmp_path):
    camera = "observation.images.a"
    features = {camera: video_feature(8, 8, 5), "action": feature("float32", 2)}
    with LeRobotWriter(tmp_path / "set", 5, features) as writer:
        writer.add_episode(
            {"action": np.array([[0, 3], [-2, 1], [0, 0]])}, {camera: np.zeros((3, 8, 8, 3), np.uint8)}, "wave"
        )
    clips = open_clips(tmp_path / "set", cache_dir=tmp_path)
    assert clips.proprioception.shape == (3, 0) and clips.physics_state is None
    assert clips.reward.shape == (3, 1) and not clips.reward.any() and not clips.success.any()
    assert not clips.meta["has_reward"] and not clips.meta["has_success"] and clips.meta["env_id"] is None
    assert (clips.meta["action_low"], clips.meta["action_high"]) == ([-2, 0], [0, 3])
    assert clips.meta["action_bounds"] == "data" and clips.meta["action_names"] == ["action_0", "action_1"]
    assert clips.meta["horizon"] == 2 and clips.meta["task_description"] == "wave"


@pytest.mark.parametrize("camera", ["wrist_left", "observation.images.exterior_1_left"])
def test_real_recording_of_lerobot(droid_dataset, tmp_path, camera):
    clips = open_clips(droid_dataset, camera, (48, 80), cache_dir=tmp_path)
    assert clips.frames.shape == (854, 48, 80, 3) and len(clips) == 11
    assert clips.episode_success.tolist() == [True] * 4 + [False] * 7
    assert clips.success.sum() == 4 and clips.success[clips.episode_offset[1:5] - 1].all()
    assert clips.meta["proprioception_names"] == ["x", "y", "z", "roll", "pitch", "yaw", "gripper"]
    assert not clips.meta["has_reward"] and clips.meta["fps"] == 5 and clips.meta["horizon"] == 136
    reader = LeRobotReader(droid_dataset)
    native = reader.frames(reader.camera(camera), 4)
    part = clips.frames[clips.episode_offset[4] : clips.episode_offset[5]]
    blocks = native.reshape(len(native), 48, 4, 80, 4, 3).mean((2, 4))  # 192x320 -> 48x80: the mean of 4x4 pixels
    assert np.abs(part - blocks).max() <= 0.51


def test_resize_keeps_flat_pictures_flat_and_the_mean():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, 31, 47, 3), dtype=np.uint8)
    small = resize_area(frames, (10, 16))
    assert np.abs(small.mean((1, 2)) - frames.mean((1, 2))).max() < 0.5
    assert (resize_area(np.full((1, 31, 47, 3), 77, np.uint8), (64, 64)) == 77).all()
    assert np.array_equal(resize_area(frames, (31, 47)), frames)


def test_joined_recordings_read_like_one(dataset, tmp_path):
    other = record(BALL, 3, out=tmp_path / "other", seed=5, workers=0, progress=False)
    parts = [open_clips(folder, cache_dir=tmp_path) for folder in (dataset, other)]
    joined = join_clips(parts)
    assert len(joined) == 9 and joined.episode_offset.tolist() == [16 * e for e in range(10)]
    frames = np.concatenate([np.asarray(part.frames) for part in parts])
    assert joined.frames.shape == frames.shape and len(joined.frames) == len(frames)
    rows = np.array([[0, 95, 96], [143, 50, -1]])
    assert (joined.frames[rows] == frames[rows]).all() and (joined.frames[90:100] == frames[90:100]).all()
    assert (joined.frames[7] == frames[7]).all()
    assert (joined.action == np.concatenate([part.action for part in parts])).all()
    assert joined.physics_state.shape == (144, 4) and joined.meta["latest_row"] == 96
    assert joined.meta["dataset_hash"] not in [part.meta["dataset_hash"] for part in parts]
    small = open_clips(other, size=(16, 16), cache_dir=tmp_path)
    with pytest.raises(DatasetError, match="frame size.*same environment"):
        join_clips([parts[0], small])
