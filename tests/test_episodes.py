"""Are the pieces cut from a recording the ones that were asked for?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wm_gym.data import open_clips
from wm_gym.evaluation.episodes import Episodes


@pytest.fixture(scope="module")
def clips(balls):
    return open_clips(balls, progress=False)


def test_pieces_stay_within_their_episode(clips):
    whole, pieces = Episodes.of(clips, 4), Episodes.of(clips, 4, every=3)
    length = np.diff(clips.episode_offset)
    assert len(whole) == (length > 4).sum() and (whole.rows[:, 0] == clips.episode_offset[:-1][length > 4]).all()
    last = clips.episode_offset[pieces.number + 1] - 1
    assert len(pieces) > len(whole) and (pieces.rows[:, -1] <= last).all() and (np.diff(pieces.rows) == 1).all()
    assert (np.bincount(pieces.number) == np.maximum((length - 4 + 2) // 3, 0)).all()
    assert (pieces.frames[3] == clips.frames[pieces.rows[3]]).all() and pieces.frames.shape[1] == 5
    assert (pieces.action == clips.action[pieces.rows[:, :-1]]).all()
    assert (pieces.proprioception[:, 0] == clips.proprioception[pieces.rows[:, 0]]).all()


def test_other_actions_keep_the_starts(clips):
    whole = Episodes.of(clips, 4)
    other = whole.acting(np.zeros((len(whole), 2, 2)))
    assert (other.rows == whole.rows[:, :3]).all() and other.action.dtype == np.float32 and not other.action.any()
    some = whole.select(whole.number > 5)
    assert (some.number > 5).all() and (some.action == whole.action[whole.number > 5]).all()


def test_an_episode_counts_once_however_many_pieces_it_gives(clips):
    pieces = Episodes.of(clips, 4, every=3)
    first = (pieces.number == 0).astype(float)
    assert pieces.means(first)[0] == 1 and pieces.means(first).sum() == 1
    assert len(pieces.means(first)) == len(np.unique(pieces.number))
    assert (pieces.number[pieces.others()] != pieces.number).all()


def test_what_a_recording_does_not_hold_is_refused(clips):
    with pytest.raises(ValueError, match='no held-out episode has 300 steps .*"max_episode_steps": 300'):
        Episodes.of(clips, 300)
    whole = Episodes.of(clips, 4)
    for shape in ((len(whole), 5, 2), (len(whole), 4, 3), (1, 4, 2), (len(whole), 0, 2), (len(whole), 2)):
        with pytest.raises(ValueError, match=f"expected .{len(whole)}, 1 to 4 steps, 2"):
            whole.acting(np.zeros(shape))
    with pytest.raises(ValueError, match="nothing to shuffle with"):
        whole.select(np.arange(1)).others()
    with pytest.raises(ValueError, match="holds no physics states; record a physics twin"):
        Episodes.of(replace(clips, physics_state=None), 4).physics_state
