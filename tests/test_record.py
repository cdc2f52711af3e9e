"""Is a recording the same whatever the workers and interruptions, does Ctrl-C leave it valid, is bad input named?"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from test_atomic import killed_at

from wm_gym.collect.record import CAMERA, RecordOptions, record
from wm_gym.data import DatasetError, LeRobotReader

BALL = "ball_env:wm_gym_test/Ball-v0"
TESTS = Path(__file__).parent


def start(out, workers, delay=0.02, episodes=12):
    """Record the ball environment in another process, slowly."""
    call = (
        f"from wm_gym.collect.record import record\n"
        f"if __name__ == '__main__':\n"
        f"    record({BALL!r}, {episodes}, out={str(out)!r}, seed=3, workers={workers}, shard_frames=40)\n"
    )
    script = out.parent / f"{out.name}.py"
    script.write_text(call)
    path = os.pathsep.join([str(TESTS.parent), str(TESTS), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "BALL_ENV_DELAY": str(delay)}
    return subprocess.Popen(
        [sys.executable, str(script)],
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
    )


def wait_for_episodes(out, process, at_least=1):
    deadline = time.time() + 60
    while time.time() < deadline and process.poll() is None:
        if (out / "meta/info.json").exists():
            if json.loads((out / "meta/info.json").read_text())["total_episodes"] >= at_least:
                return
        time.sleep(0.01)
    pytest.fail(f"nothing was recorded: {process.communicate()[0].decode()}")


def children(process):
    """List the other living processes of the process's group (it leads its own)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, group = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # it has just ended
            continue
        if int(group) == process.pid != int(path.parent.name) and state != "Z":
            found.append(int(path.parent.name))
    return found


def assert_no_children(process):
    deadline = time.time() + 10
    while children(process) and time.time() < deadline:
        time.sleep(0.05)
    assert not children(process)


def file_bytes(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def values(root):
    reader = LeRobotReader(root)
    return reader.columns() | {"frames": np.stack([frame for _, frame in reader.iter_frames(CAMERA)])}


def assert_same_values(a, b):
    a, b = values(a), values(b)
    assert list(a) == list(b)
    for key in a:
        assert np.array_equal(a[key], b[key]), key


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """12 episodes recorded without interruption, in this process."""
    out = tmp_path_factory.mktemp("whole") / "set"
    record(BALL, 12, out=out, seed=3, workers=0, shard_frames=40, progress=False)
    return out


def test_what_is_recorded(whole):
    reader = LeRobotReader(whole)
    columns = reader.columns()
    told = reader.info["wm_gym"]
    assert told["env_id"] == BALL and told["reward_terms"] == ["progress", "success"] and told["horizon"] == 15
    assert told["action_low"] == [-1, -1] and told["proprioception_names"] == ["x", "y"] and told["success"] is True
    assert reader.fps == 10 and set(reader.tasks) == {"push the ball to the disc"}
    assert reader.length.tolist() == [16] * 12  # whole episodes: the twin is made with terminate_on_success=False
    assert len(set(columns["policy_kind"][:, 0])) >= 3
    for e in range(len(reader)):
        part = slice(reader.offset[e], reader.offset[e + 1])
        ball, action = columns["observation.state"][part], columns["action"][part]
        assert np.allclose(np.clip(ball[:-1] + 0.1 * action[:-1], 0, 1), ball[1:], atol=1e-6)
        assert not action[-1].any() and not columns["next.reward"][part][-1].any()
        terms = columns["next.reward.progress"] + columns["next.reward.success"]
        assert np.allclose(columns["next.reward"][part], terms[part], atol=1e-6)
        state = columns["physics_state"][part]
        success = np.linalg.norm(state[:, :2] - state[:, 2:], axis=1) < 0.1
        assert np.array_equal(columns["next.success"][part][:-1, 0], success[1:])
        assert columns["next.success"][part][-1] == columns["next.success"][part][-2]
        assert columns["next.done"][part][:, 0].tolist() == [False] * 15 + [True]
        frames = reader.frames(CAMERA, e)
        for frame, (x, y) in zip(frames, ball):  # picture and state of a row are of the same moment
            ys, xs = np.nonzero((frame == (240, 240, 80)).all(-1))
            assert abs(xs.mean() / 32 - x) < 0.06 and abs(ys.mean() / 32 - y) < 0.06
    rate = {
        name: columns["next.success"][columns["policy_kind"][:, 0] == kind].mean()
        for kind, name in enumerate(told["policy_kinds"])
        if name in ("expert", "near-miss")
    }
    assert rate["expert"] > rate["near-miss"]


def test_workers_do_not_change_the_files(whole, tmp_path):
    record(BALL, 12, out=tmp_path / "two", seed=3, workers=2, shard_frames=40, progress=False)
    assert file_bytes(tmp_path / "two") == file_bytes(whole)


def test_a_ray_cluster_does_not_change_the_files(whole, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'wm-gym[ray]'")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")]))
    options = {"workers": 2, "ray": "local", "seed": 3, "shard_frames": 40, "progress": False}
    record(BALL, 12, out=tmp_path / "ray", **options)
    assert file_bytes(tmp_path / "ray") == file_bytes(whole) and not ray.is_initialized()
    with pytest.raises(ValueError, match="^ball_env.*: .*finite") as error:
        record(BALL, 1, out=tmp_path / "bad", env_kwargs={"break_at": 1.0}, **options)
    assert "ray" not in str(error.value)
    with pytest.raises(ValueError, match="^wm_gym_test/Count-v0 has no policy 'noisy'"):
        record("ball_env:wm_gym_test/Count-v0", 2, policy="noisy", out=tmp_path / "set", **options)
    with pytest.raises(RuntimeError, match="a worker died while it simulated episodes of ball_env"):
        record(BALL, 2, out=tmp_path / "crash", env_kwargs={"crash": True}, **options)


def test_without_ray_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'wm-gym\[ray\]'"):
        record(BALL, 1, out=tmp_path / "set", ray="local", progress=False)


def test_kill_then_resume_gives_the_same_files_and_leaves_no_process(whole, tmp_path):
    out = tmp_path / "killed"
    process = start(out, workers=2)
    wait_for_episodes(out, process)
    workers = children(process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = len(LeRobotReader(out))
    assert 0 < done < 12
    assert len(values(out)["frames"]) == 16 * done
    assert workers
    assert_no_children(process)
    record(BALL, 12, out=out, seed=3, workers=1, shard_frames=40, progress=False)
    assert file_bytes(out) == file_bytes(whole)


@pytest.mark.parametrize("workers", [0, 2])
def test_ctrl_c_leaves_a_valid_dataset_and_says_how_to_go_on(whole, tmp_path, workers):
    out = tmp_path / "stopped"
    process = start(out, workers, delay=0.03)
    wait_for_episodes(out, process)
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does: to every process of the group
    printed = process.communicate(timeout=30)[0].decode()
    said = re.search(r"holds (\d+) of 12 episodes and is valid; the same command goes on", printed)
    assert said and process.returncode != 0, printed
    assert printed.count("Traceback") <= 1  # the script's own KeyboardInterrupt, none of the workers'
    assert len(LeRobotReader(out)) == int(said[1]) < 12
    assert_no_children(process)
    record(BALL, 12, out=out, seed=3, workers=0, shard_frames=40, progress=False)
    assert_same_values(out, whole)


def test_more_episodes_extend_a_recording(whole, tmp_path):
    record(BALL, 5, out=tmp_path / "set", seed=3, workers=0, shard_frames=40, progress=False)
    assert record(BALL, 4, out=tmp_path / "set", seed=3, workers=0, progress=False) == tmp_path / "set"
    assert len(LeRobotReader(tmp_path / "set")) == 5
    record(BALL, 12, out=tmp_path / "set", seed=3, workers=0, shard_frames=40, progress=False)
    assert_same_values(tmp_path / "set", whole)


def test_killed_at_any_moment_it_goes_on_to_the_same_files(whole, tmp_path):
    def run():
        record(BALL, 12, out=tmp_path / "set", seed=3, workers=0, shard_frames=40, progress=False)

    seen = set()
    for step in (25, 60, 95, 130, 165):
        if killed_at(step, run):
            seen.add(len(LeRobotReader(tmp_path / "set")) if (tmp_path / "set/meta/info.json").exists() else 0)
        else:
            seen.add(12)
        run()
        assert file_bytes(tmp_path / "set") == file_bytes(whole), step
        shutil.rmtree(tmp_path / "set")
    assert len(seen) >= 3


def test_what_a_kill_at_the_end_left_is_removed(whole, tmp_path):
    out = shutil.copytree(whole, tmp_path / "set")
    (out / ".writing").mkdir()
    (out / ".writing/data.parquet").write_bytes(b"half")
    record(BALL, 12, out=out, seed=3, workers=0, progress=False)
    assert file_bytes(out) == file_bytes(whole)


def test_any_environment_with_a_picture(tmp_path):
    out = record("ball_env:wm_gym_test/Count-v0", 3, out=tmp_path / "set", workers=0, size=(24, 18), progress=False)
    reader = LeRobotReader(out)
    assert reader.fps == 15 and "next.success" not in reader.features
    columns = reader.columns(["action", "policy_kind"])
    action = columns["action"]
    assert action.shape[1] == 3 and np.array_equal(action[:-1].sum(1) == 0, reader.columns()["next.done"][:-1, 0])
    frames = reader.frames(CAMERA, 0)
    steps = 1 + action[: len(frames) - 1].argmax(1)  # Discrete(3, start=1), one-hot
    assert frames.shape[1:] == (24, 18, 3)
    assert np.array_equal(frames[:, 0, 0, 0], 10 * np.concatenate([[0], np.cumsum(steps)]))
    assert "one-hot" in reader.info["wm_gym"]["action_space"]


def test_pusht(tmp_path):
    pytest.importorskip("gym_pusht")
    out = record(
        "gym_pusht/PushT-v0",
        1,
        out=tmp_path / "set",
        workers=0,
        env_kwargs={"obs_type": "pixels_agent_pos"},
        progress=False,
    )
    reader = LeRobotReader(out)
    assert reader.info["wm_gym"]["action_high"] == [512, 512] and reader.features["observation.state"]["shape"] == [2]
    assert reader.frames(CAMERA, 0).shape == (reader.length[0], 96, 96, 3)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"env_id": "wm_gym/Raech-v0"}, ["wm_gym/Raech-v0", "module:Name-v0"]),
        ({"env_id": "ball_env:wm_gym_test/Count-v0", "policy": "expert"}, ["no policy 'expert'", "random"]),
        ({"policy": "exprt"}, ["'exprt'", "expert, noisy, random, near-miss, mix"]),
        ({"episodes": 0}, ["0", "at least 1"]),
        ({"env_kwargs": {"break_at": 1.0}}, ["observation.state", "row 1", "finite"]),
    ],
)
@pytest.mark.filterwarnings("ignore:.*NaN value")
def test_bad_input_is_named(tmp_path, change, words):
    arguments = {"env_id": BALL, "episodes": 1, "out": tmp_path / "set", "workers": 0, "progress": False} | change
    with pytest.raises(ValueError) as error:
        record(**arguments)
    for word in words:
        assert word in str(error.value)
    assert not (tmp_path / "set/meta/info.json").exists()


def test_options_are_one_object_or_named(tmp_path):
    with pytest.raises(TypeError, match="unknown option 'worker'; did you mean 'workers'"):
        record(BALL, 1, out=tmp_path / "no", worker=0)
    some = RecordOptions(seed=3, workers=0, progress=False)
    out = record(BALL, 1, out=tmp_path / "ball", options=some, size=(16, 16))
    notes = json.loads((out / "meta/info.json").read_text())["wm_gym"]
    assert (notes["seed"], notes["size"]) == (3, [16, 16])


def test_an_error_in_a_worker_reaches_the_caller(tmp_path):
    with pytest.raises(ValueError, match="no policy 'noisy'"):
        record("ball_env:wm_gym_test/Count-v0", 2, policy="noisy", out=tmp_path / "set", workers=2, progress=False)


def test_a_worker_that_crashes_is_named(tmp_path):
    with pytest.raises(RuntimeError, match="a worker died while it simulated episodes of ball_env"):
        record(BALL, 2, out=tmp_path / "set", workers=1, env_kwargs={"crash": True}, progress=False)


def test_other_arguments_do_not_mix_into_a_recording(whole):
    for change, word in [
        ({"seed": 4}, "seed=3, now seed=4"),
        ({"policy": "random"}, "policy='mix'"),
        ({"env_kwargs": {"size": 16}}, "env_kwargs"),
        ({"resume": False}, "12 episodes already"),
    ]:
        with pytest.raises(ValueError, match=word):
            record(**({"env_id": BALL, "episodes": 13, "out": whole, "seed": 3, "workers": 0} | change))
    assert len(LeRobotReader(whole)) == 12


def test_a_failing_episode_keeps_those_before(tmp_path):
    with pytest.raises(DatasetError, match="is not finite"):
        record(BALL, 40, out=tmp_path / "set", workers=0, env_kwargs={"break_at": 0.01}, progress=False)
    reader = LeRobotReader(tmp_path / "set")
    assert len(reader) > 0 and len(values(tmp_path / "set")["frames"]) == reader.offset[-1]


def test_a_reward_that_is_an_array_of_one(tmp_path):
    import gymnasium as gym
    from ball_env import BallEnv

    class Arrays(BallEnv):
        def step(self, action):
            observation, reward, *rest = super().step(action)
            return observation, np.full(self.shape, reward), *rest

    for shape in ((1,), (), (1, 1), (2,)):
        Arrays.shape = shape
        gym.register("wm_gym_test/Arrays-v0", entry_point=Arrays, max_episode_steps=15)
        if shape == (2,):
            with pytest.raises(ValueError, match=r"reward is array.* of shape \[2\].*expected a number"):
                record("wm_gym_test/Arrays-v0", 1, "random", out=tmp_path / "bad", workers=0, progress=False)
        else:
            out = record("wm_gym_test/Arrays-v0", 1, "random", out=tmp_path / str(shape), workers=0, progress=False)
            record(BALL, 1, "random", out=tmp_path / "plain", workers=0, progress=False)
            rewards = [LeRobotReader(one).columns(["next.reward"])["next.reward"] for one in (out, tmp_path / "plain")]
            np.testing.assert_array_equal(*rewards)
        del gym.registry["wm_gym_test/Arrays-v0"]


def test_an_environment_that_cannot_draw_here_says_what_to_set(tmp_path, monkeypatch):
    import ball_env

    def render(self):
        raise RuntimeError("gladLoadGL error")

    monkeypatch.setattr(ball_env.CountEnv, "render", render)
    count = "ball_env:wm_gym_test/Count-v0"
    with pytest.raises(ValueError, match='cannot draw itself here .*gladLoadGL.*MUJOCO_GL=egl.*"render_mode": null'):
        record(count, 1, out=tmp_path / "set", workers=0, progress=False)
    out = record(count, 1, out=tmp_path / "set", workers=0, progress=False, env_kwargs={"render_mode": None})
    assert LeRobotReader(out).frames(CAMERA, 0).any()


def test_where_an_agent_lies_is_not_written_down(repository, tmp_path):
    pytest.importorskip("pybullet")
    folder = shutil.copytree(repository / "agents" / "ppo-Reach-v0", tmp_path / "mine" / "my-agent")
    out = record(
        "wm_gym/ReachPyBullet-v0",
        1,
        f"agent:{folder}",
        out=tmp_path / "set",
        workers=0,
        progress=False,
        env_kwargs={"max_episode_steps": 2},
    )
    said = b"".join(path.read_bytes() for path in (out / "meta").rglob("*") if path.is_file())
    assert b"agent:my-agent" in said and str(tmp_path).encode() not in said
    record(
        "wm_gym/ReachPyBullet-v0",
        2,
        f"agent:{folder}",
        out=out,
        workers=0,
        progress=False,
        env_kwargs={"max_episode_steps": 2},
    )  # goes on
