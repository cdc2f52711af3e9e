"""Is a judge's confusion matrix the true one, from physics' success or from its states?"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from own_judges import Redness, enter, frames_of

from wm_gym.cli import main
from wm_gym.data.clips import ClipData
from wm_gym.evaluation.episodes import Episodes
from wm_gym.evaluation.judges.attribution import _one_step_success
from wm_gym.evaluation.judges.confusion import learned_verdict, measure_judge, physics_success, proposal, summary


def clips_of(reds: list[list[int]], success: list[list[int]]) -> ClipData:
    """A recording of episodes of plain frames."""
    offset, rows = np.cumsum([0, *map(len, reds)]), sum(map(len, reds))
    flat = np.concatenate(success).astype(bool)
    nothing = np.zeros((rows, 1), np.float32)
    return ClipData(
        frames_of(*np.concatenate(reds), size=8),
        nothing,
        nothing,
        nothing,
        flat,
        np.zeros(len(flat), bool),
        offset,
        None,
        np.array([any(one) for one in success]),
        {"has_success": True, "dataset": "plain", "env_id": None},
    )


CLIPS = clips_of(
    [[200, 255, 0, 255], [0, 0, 10], [0, 102, 255], [255, 20, 102]], [[0, 1, 0, 0], [0, 0, 0], [0, 1, 1], [1, 0, 1]]
)


def test_a_judge_is_counted_beside_physics():
    found = measure_judge(Redness("0.5"), CLIPS)
    frames, episodes = found["frames"], found["episodes"]
    assert [frames[key] for key in ("n", "yes_success", "yes_failure", "no_success", "no_failure")] == [9, 2, 1, 2, 4]
    assert frames["optimism"]["rate"] == pytest.approx(1 / 5) and frames["pessimism"]["rate"] == 1 / 2
    # scores of successes 1, .4, 1, .4 beside those of failures 0, 1, 0, .04, .08
    assert frames["auroc"] == pytest.approx((2 * 4.5 + 2 * 4) / 20)
    assert [episodes[key] for key in ("n", "yes_success", "yes_failure", "no_success", "no_failure")] == [4, 2, 0, 1, 1]
    assert episodes["matched"]["table"]["physics_only"] == 1 and episodes["accuracy"]["rate"] == 3 / 4
    assert found["progress"]["success"] == pytest.approx(0.7) and found["proposed"] is None
    text = summary(found)
    assert "no threshold is proposed" in text and "0.667" in text
    few = measure_judge(Redness("0.5"), CLIPS, episodes=2, every=2)
    assert few["frames"]["n"] == 4  # frames 1 and 3 of the first episode, 1 and 2 of the second


def test_a_threshold_is_proposed_from_half_of_the_episodes():
    done = np.array([1, 1, 0, 0] * 10, bool)
    best = np.where(done, 0.9, 0.1) + np.linspace(0, 0.05, 40)
    best[1] = 0.2  # a success of the other half that looks like none
    found = proposal(best, done)
    assert 0.15 < found["threshold"] < 0.9
    assert found["n"] == 20 and found["no_success"] == 1 and found["yes_failure"] == 0


def test_physics_tells_success_where_the_recording_does_not(push_episodes):
    clips = push_episodes.clips
    silent = replace(clips, success=np.zeros_like(clips.success), meta=clips.meta | {"has_success": False})
    ends = list(zip(clips.episode_offset[:-1], clips.episode_offset[1:]))[:3]
    end = ends[-1][1]
    np.testing.assert_array_equal(physics_success(silent, ends)[:end], clips.success[:end])
    with pytest.raises(ValueError, match="tells no success.*wm-gym record"):
        measure_judge(Redness("0.5"), replace(silent, physics_state=None))


def test_the_learned_judge_is_asked_after_true_frames(push_episodes, push_like):
    clips, steps = push_episodes.clips, 6
    episodes = Episodes.of(clips, steps).select(np.arange(2))
    expected = _one_step_success(push_like.world, episodes, None, 0)
    for rows, score in zip(episodes.rows, expected):
        np.testing.assert_allclose(learned_verdict(push_like.world, clips, rows[1:]).score, score, atol=0.02)


def test_the_command_measures_a_recording(tmp_path, monkeypatch, capsys, balls):
    enter(monkeypatch)
    assert (
        main(
            [
                "judge",
                "measure",
                str(balls),
                "--reward",
                "red:0.5",
                "--episodes",
                "6",
                "--every",
                "3",
                "--out",
                str(tmp_path / "found.json"),
            ]
        )
        == 0
    )
    written = json.loads((tmp_path / "found.json").read_text())
    out = capsys.readouterr().out
    assert "red, threshold 0.5" in out and written["episodes"]["n"] == 6 and str(written["frames"]["n"]) in out
    assert main(["judge", "measure", str(balls), "--reward", "colour:red"]) == 2
    assert "names no judge" in capsys.readouterr().err
    assert main(["judge", "measure", str(balls), "--reward", "learned"]) == 2
    assert "which world?" in capsys.readouterr().err
