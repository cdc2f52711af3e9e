"""Do imagined episodes become demonstrations that a clone can learn from, without those that should be left out?"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from wm_gym.cli import main
from wm_gym.collect.imagine import Directive, Filter, ImaginedEpisode, imagine, imagine_episodes, write_imagined
from wm_gym.collect.record import record
from wm_gym.common.spaces import action_space
from wm_gym.data import open_clips
from wm_gym.inverse.labeller import Rejected
from wm_gym.judges import Judge
from wm_gym.policies.cloning import clone_agent


@pytest.fixture(scope="module")
def imagined(push_like) -> list[ImaginedEpisode]:
    """Of which some succeed and some do not."""
    made = list(imagine_episodes(push_like.folder, push_like.agent, 12, seed=4, progress=False))
    assert 0 < sum(one.success.any() for one in made) < 12
    return made


@pytest.mark.release
def test_the_shipped_policy_mostly_succeeds():
    assert (
        np.mean([one.success.any() for one in imagine_episodes("Push-v0", "ppo-Push-v0", 12, seed=4, progress=False)])
        > 0.5
    )


def test_an_episode_is_what_the_world_showed_under_the_actions(imagined, push_like):
    assert len(imagined) == 12
    for one in imagined:
        n = len(one.taken)
        assert one.frames.shape == (n + 1, 64, 64, 3) and one.frames.dtype == np.uint8 and one.pose.shape[0] == n + 1
        assert not one.success[:-1].any(), "an episode ends at success"
        assert one.success[-1] or n == push_like.world.spec.horizon
        assert (one.frames[1:] != one.frames[:-1]).any((1, 2, 3)).all(), "each step draws a picture of its own"
    again = list(imagine_episodes(push_like.folder, push_like.agent, 12, seed=4, progress=False))
    assert all((a.frames == b.frames).all() and (a.taken == b.taken).all() for a, b in zip(imagined, again))
    other = list(imagine_episodes(push_like.folder, push_like.agent, 2, seed=5, progress=False))
    assert (other[0].frames[0] != imagined[0].frames[0]).any()


def test_starts_are_those_of_a_recording(tmp_path, push_like):
    data = record(
        "wm_gym/PushPyBullet-v0",
        2,
        "expert",
        out=tmp_path / "real",
        seed=1,
        workers=0,
        progress=False,
        env_kwargs={"max_episode_steps": 3},
    )
    clips = open_clips(data, progress=False)
    made = list(imagine_episodes(push_like.folder, "no-op", 3, starts=clips, progress=False))
    for i, one in enumerate(made):
        firsts = clips.frames[clips.episode_offset[:2]].astype(float)
        near = np.abs(one.frames[0] - push_like.world.tokenizer.round_trip(firsts.astype(np.uint8))).mean((1, 2, 3))
        assert near[i % 2] < 1 and near[i % 2] < near[1 - i % 2], "through the tokenizer"
    small = open_clips(data, size=(32, 32), progress=False)
    with pytest.raises(ValueError, match="frames of 32 x 32, the world's are 64 x 64"):
        next(imagine_episodes(push_like.folder, "no-op", 1, starts=small, progress=False))


def test_a_directive_goes_its_way(push_like):
    right, left = (
        next(imagine_episodes(push_like.folder, f"directive:0,{y}", 1, seed=2, progress=False)) for y in (1, -1)
    )
    assert (right.taken == [0, 1]).all() and right.pose[-1, 1] > left.pose[-1, 1] + 0.05
    for text in ("directive:1", "directive:a,b", "directive:"):
        with pytest.raises(ValueError, match="write 2 numbers"):
            Directive(text, action_space([-1, -1], [1, 1]))
    with pytest.raises(ValueError, match="expected a number in"):
        Directive("directive:3,0", action_space([-1, -1], [1, 1]))


def test_filters_say_why(imagined):
    failed = next((one for one in imagined if not one.success.any()), None) or ImaginedEpisode(
        imagined[0].frames,
        imagined[0].taken,
        np.zeros_like(imagined[0].success),
        imagined[0].uncertainty,
        imagined[0].pose,
    )
    with pytest.raises(Rejected, match="the judge sees no success"):
        Filter().actions(failed)
    assert (Filter(successes=False).actions(failed) == failed.taken).all()
    with pytest.raises(Rejected, match="uncertainty is"):
        Filter(successes=False, max_uncertainty=1e-6).actions(failed)


def test_a_dataset_of_dreams_trains_and_clones(imagined, push_like, tmp_path):
    kept, left = write_imagined(imagined, push_like.folder, tmp_path / "made")
    assert kept == sum(one.success.any() for one in imagined) and kept + len(left) == 12
    clips = open_clips(tmp_path / "made", progress=False)
    assert len(clips) == kept and clips.episode_success.all() and clips.meta["proprioception_names"]
    first = next(one for i, one in enumerate(imagined) if i not in left)
    assert (clips.frames[: len(first.frames)] == first.frames).all()
    assert (clips.action[: len(first.taken)] == first.taken).all()
    real = record(
        "wm_gym/PushPyBullet-v0",
        2,
        "expert",
        out=tmp_path / "real",
        seed=1,
        workers=0,
        progress=False,
        env_kwargs={"max_episode_steps": 5},
    )
    agent = clone_agent([real, tmp_path / "made"], "wm_gym/Push-v0", tmp_path / "agent", updates=3, progress=False)
    assert "real + made" in (agent / "config.yml").read_text()


class Grumpy(Judge):
    name = "grumpy"

    def look(self, frames, starts):
        return np.zeros(len(frames)), np.zeros(len(frames))


def test_a_judge_decides_what_is_kept(tmp_path, push_like):
    kept, left = imagine(push_like.folder, push_like.agent, tmp_path / "none", 3, reward=Grumpy(), progress=False)
    assert kept == 0 and set(left.values()) == {"the judge sees no success"} and not (tmp_path / "none").exists()


def test_the_command(tmp_path, capsys, push_like):
    out, world = tmp_path / "made", str(push_like.folder)
    policy = str(push_like.agent)
    assert main(["imagine", world, "--policy", policy, "--episodes", "6", "--certain", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "of 6 episodes" in said and len(open_clips(out, progress=False)) >= 1
    assert main(["imagine", world, "--policy", "random", "--out", str(out)]) == 2
    assert "is there; choose another --out" in capsys.readouterr().err
    assert main(["imagine", world, "--policy", "nobody", "--out", str(tmp_path / "x")]) == 2
    assert "nobody" in capsys.readouterr().err
    typed = ["imagine", world, "--policy", "no-op", "--episodes", "2", "--keep-failures", "--out", str(tmp_path / "x")]
    assert main([*typed, "--idm", str(tmp_path)]) == 2
    assert "wm-gym idm train" in capsys.readouterr().err
    assert main([*typed, "--starts", str(out)]) == 0
    assert len(open_clips(tmp_path / "x", progress=False)) == 2


def test_a_world_that_is_not_calibrated_knows_no_usual_uncertainty(tiny_world_folder, tmp_path):
    with pytest.raises(ValueError, match="not calibrated"):
        imagine(tiny_world_folder, "random", tmp_path / "x", 1, certain=True, progress=False)


def test_after_a_kill_nothing_is_there_and_the_same_call_works(tiny_world_folder, tmp_path):
    out = tmp_path / "real"
    child = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "wm_gym",
            "imagine",
            tiny_world_folder,
            "--policy",
            "no-op",
            "--keep-failures",
            "--episodes",
            "5000",
            "--out",
            out,
        ],
        cwd=Path(__file__).parents[1],
    )
    while not list(tmp_path.glob(".real.writing-*")):
        assert child.poll() is None
        time.sleep(0.02)
    child.kill()
    child.wait()
    assert not out.exists()
    assert imagine(tiny_world_folder, "no-op", out, 2, keep_failures=True, progress=False)[0] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["real"]
