"""Does curation find what is wrong with a recording, say nothing of what is right, and does training take its list?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from short import short

from wm_gym.cli import main
from wm_gym.data import DatasetError, open_clips
from wm_gym.data.curation.curate import action_lag, curate, without
from wm_gym.data.curation.selection import Selection, select

HEIGHT = WIDTH = 48


class Clips:
    """24 episodes of a square that actions move smoothly: what is filmed is known to the frame."""

    def __new__(cls, lag: int = 0, seed: int = 0):
        from wm_gym.data.clips import ClipData

        rng = np.random.default_rng(seed)
        background = np.kron(rng.integers(90, 130, (12, 12)), np.ones((4, 4))).astype(np.uint8)
        frames, actions, lengths = [], [], []
        for _ in range(24):
            length, at = int(rng.integers(36, 50)), rng.uniform(10, 38, 2)
            action = rng.normal(size=(length, 2)) * 0.7
            for t in range(1, length):  # smooth, as a robot moves
                action[t] += 0.85 * action[t - 1]
            for t in range(length):
                frame = background.repeat(4, 0).repeat(4, 1)
                y, x = (4 * at).astype(int)  # to a quarter of a pixel
                frame[y : y + 32, x : x + 32] = 230
                frame[y + 12 : y + 20, x + 12 : x + 20] = 20
                frame = frame.reshape(HEIGHT, 4, WIDTH, 4).mean((1, 3)).astype(np.uint8)
                frames.append(np.repeat(frame[..., None], 3, -1))
                at = np.clip(at + action[max(t - lag, 0)], 2, HEIGHT - 10)
            actions.append(action)
            lengths.append(length)
        rows = sum(lengths)
        return ClipData(
            frames=np.stack(frames),
            action=np.concatenate(actions).astype(np.float32),
            proprioception=np.zeros((rows, 0), np.float32),
            reward=np.zeros((rows, 1), np.float32),
            success=np.zeros(rows, bool),
            terminated=np.zeros(rows, bool),
            episode_offset=np.concatenate([[0], np.cumsum(lengths)]),
            physics_state=None,
            episode_success=np.zeros(24, bool),
            meta={
                "dataset_hash": "h",
                "dataset": "made",
                "tasks": [f"{e}" for e in range(24)],
                "has_success": False,
                "action_names": ["dx", "dy"],
            },
        )


def found(made):
    return {one.name: sorted(one.found) for one in made.findings if one.found}


def test_nothing_is_found_in_a_clean_recording():
    made = curate(Clips(), progress=False)
    assert found(made) == {} and made.selection == Selection("h") and made.lag.lag == 0


def test_each_defect_is_found_where_it_is():
    clips = Clips()
    frames, action, offset = clips.frames.copy(), clips.action.copy(), clips.episode_offset
    part = {e: slice(offset[e], offset[e + 1]) for e in range(24)}
    frames[part[2]] = frames[offset[2]]
    for t in range(3, offset[5] - offset[4], 4):
        frames[offset[4] + t] = frames[offset[4] + t - 1]
    frames[offset[6] + 17 : offset[7]] = 255 - frames[offset[6] + 17 : offset[7]] // 2
    frames[part[8]] = frames[part[8]] // 4
    length = min(offset[11] - offset[10], offset[13] - offset[12])
    frames[offset[12] : offset[13]] = frames[offset[10]]
    frames[offset[12] : offset[12] + length] = frames[offset[10] : offset[10] + length]
    action[offset[12] : offset[13]] = 0
    action[part[10]] = 0
    action[part[12]] = 0
    action[offset[14] + 5] = 80
    import cv2

    frames[part[16]] = [cv2.GaussianBlur(frame, (0, 0), 2.5) for frame in frames[part[16]]]
    made = curate(replace(clips, frames=frames, action=action), progress=False)
    assert made.cuts[6] == [17] and made.cuts.keys() <= {6, 12}  # 12 is a copy of 10 with a seam
    expected = {"still": 2, "jerky": 4, "cut": 6, "exposure": 8, "outlier": 14, "blurred": 16}
    assert all(e in found(made).get(name, []) for name, e in expected.items())
    assert set(made.selection.drop) >= {2, 4, 8, 14, 16} and "cut" not in sum(made.selection.drop.values(), [])


def test_a_copy_of_an_episode_is_found():
    clips = Clips()
    offset, frames, action = clips.episode_offset.copy(), clips.frames, clips.action
    a, b = offset[3], offset[4]
    frames, action = np.concatenate([frames, frames[a:b] // 2 * 2]), np.concatenate([action, action[a:b]])
    rows = len(frames)
    copied = replace(
        clips,
        frames=frames,
        action=action,
        episode_offset=np.append(offset, rows),
        proprioception=np.zeros((rows, 0)),
        episode_success=np.zeros(25, bool),
    )
    assert found(curate(copied, progress=False)) == {"duplicate": [24]}


@pytest.mark.parametrize("lag", [0, 1, 2])
def test_the_lag_is_estimated_and_corrected(lag):
    from wm_gym.data.curation.curate import Looks

    clips = Clips(lag)
    made = action_lag(Looks(clips, False))
    assert made.lag == lag and made.share >= 0.95
    fixed = select(clips, Selection("h", action_lag=lag))
    assert action_lag(Looks(fixed, False)).lag == 0
    assert len(fixed.frames) == len(clips.frames) - 24 * lag == len(fixed.action)


def test_a_selection_takes_out_splits_and_shifts():
    clips = Clips()
    offset = clips.episode_offset
    chosen = select(clips, Selection("h", drop={0: ["still"]}, cut={1: [10]}, action_lag=1))
    assert len(chosen) == 24 and chosen.episode_offset[1] == 9  # episode 1 until its cut, without a first row
    assert np.array_equal(chosen.frames[:9], clips.frames[offset[1] + 1 : offset[1] + 10])
    assert np.array_equal(chosen.action[:9], clips.action[offset[1] : offset[1] + 9])
    assert np.array_equal(chosen.frames[[9, 10]], clips.frames[offset[1] + np.array([11, 12])])
    assert chosen.meta["tasks"][:3] == ["1", "1", "2"] and chosen.meta["dataset_hash"] != "h"
    ahead = select(clips, Selection("h", action_lag=-1))
    assert np.array_equal(ahead.action[:3], clips.action[1:4])
    assert np.array_equal(ahead.frames[:3], clips.frames[:3])
    with pytest.raises(DatasetError, match="make it anew"):
        select(clips, Selection("other"))
    with pytest.raises(DatasetError, match="leaves nothing"):
        select(clips, Selection("h", drop={e: ["x"] for e in range(24)}))


def test_a_filter_list_that_is_none_is_named(tmp_path):
    with pytest.raises(DatasetError, match="no filter list at"):
        Selection.load(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text('{"drop": 3, "dataset": "x"}')
    with pytest.raises(DatasetError, match="is no filter list"):
        Selection.load(tmp_path / "bad.json")
    with pytest.raises(ValueError, match="unknown filter 'smell'; expected one of still"):
        without(curate(Clips(), progress=False), ["smell"])


def test_curate_and_train_with_the_list(balls, tmp_path, capsys):
    out = tmp_path / "balls.filter.json"
    assert main(["data", "curate", str(balls), "--out", str(out)]) == 0
    assert "40 episodes looked at" in capsys.readouterr().out
    assert "Nothing was deleted" in out.with_suffix(".html").read_text()
    chosen = Selection.load(out)
    chosen.drop = {e: ["by hand"] for e in range(30)}
    chosen.save(out)
    from wm_gym.training import train

    world = train(balls, tmp_path / "World", preset="tiny", overrides=short(), filters=[out], progress=False, cpu=True)
    assert "trained_on: 10 episodes" in (world / "spec.yaml").read_text()
    chosen.dataset = "another"
    chosen.save(out)
    with pytest.raises(ValueError, match="was made for the dataset another"):
        train(balls, tmp_path / "World2", preset="tiny", filters=[out], progress=False, cpu=True)
    assert len(open_clips(balls, progress=False)) == 40
