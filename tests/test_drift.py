"""Is drift what was put in? A ball whose place every picture tells, described as a third party would describe it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from twins import DRAWER, REACH, make

from wm_gym.data import open_clips
from wm_gym.evaluation.control_worlds import frozen, recorded, shuffle
from wm_gym.evaluation.episodes import Episodes
from wm_gym.evaluation.metrics.drift import drift, iou, mean_lab
from wm_gym.physics.tracked import TrackedObject, displacement, tracked_by, yellow

BALL = TrackedObject(position=(0, 1), width=1.5, mask=yellow)


@pytest.fixture(scope="module")
def clips(balls):
    return open_clips(balls, progress=False)


@pytest.fixture(scope="module")
def rolls(clips):
    return Episodes.of(clips, 10)


def read_ball(frames):
    """The ball's place twice (it is the hand too) [..., 4] in frames [..., H, W, 3]; the corner where it is not."""
    mask = yellow(frames)
    y, x = np.mgrid[: frames.shape[-3], : frames.shape[-2]] / frames.shape[-2]
    place = np.stack([(mask * axis).sum((-2, -1)) / np.maximum(mask.sum((-2, -1)), 1) for axis in (x, y)], axis=-1)
    return np.concatenate([place, place], axis=-1)


def painted(change):
    """The true frames, with the ball's pixels changed: colour [K, 3] -> colour."""

    def roll(episodes):
        made = recorded(episodes)
        frames = made["frame"].copy()
        mask = yellow(frames)
        frames[mask] = change(frames[mask])
        return made | {"frame": frames}

    return roll


def test_each_error_is_the_one_that_was_made(rolls):
    worlds = {
        "recorded": recorded,
        "frozen": frozen,
        "gone": painted(lambda colour: colour * 0),
        "dim": painted(lambda colour: colour - np.array([40, 40, 0], np.uint8)),
    }
    found = drift(worlds, rolls, BALL, read_ball, 10.0, (0.1, 1.0))
    way = displacement(rolls, BALL)
    for name, t in (("at_0.1s", 1), ("at_1s", 10)):
        row, moved = found[name], way[:, t] >= 0.05
        assert row["recorded"]["object_cm"]["n"] == moved.sum()
        assert row["recorded"]["object_cm"]["median"] < 2.5 and row["recorded"]["mask_iou"]["mean"] == 1  # of 100
        assert row["recorded"]["colour_distance"]["mean"] == 0 and row["recorded"]["psnr_db"]["mean"] > 60
        assert row["frozen"]["object_cm"]["median"] == pytest.approx(100 * np.median(way[moved, t]), abs=3)
        assert row["frozen"]["displacement"]["median"] < 0.3 and row["frozen"]["object_cm"]["low"] > 4
        assert row["recorded"]["displacement"]["median"] == pytest.approx(1, abs=0.2)
        assert row["gone"]["lost"]["rate"] == 1 and row["gone"]["object_cm"]["median"] == pytest.approx(150)
        assert row["gone"]["colour_distance"]["mean"] == 100 and row["gone"]["mask_iou"]["mean"] == 0
        assert row["dim"]["lost"]["rate"] == 0 and row["dim"]["mask_iou"]["mean"] == 1
        shift = np.linalg.norm(np.subtract(*lab([[240, 240, 80], [200, 200, 80]])))
        assert row["dim"]["colour_distance"]["mean"] == pytest.approx(shift, rel=0.05)
        assert row["dim"]["object_cm"] == row["recorded"]["object_cm"]
    assert found["at_0.1s"]["frozen"]["object_cm"]["n"] < found["at_1s"]["frozen"]["object_cm"]["n"]
    life = {name: row["median_s"] for name, row in found["time_to_failure"].items()}
    assert life["gone"] == 0.1 and life["frozen"] < 1 and life["recorded"] is None


def test_what_physics_hides_is_nobodys_fault(clips, rolls):
    frames, behind = np.array(clips.frames), rolls.rows[::2, 5:]
    frames[behind] = np.where(yellow(frames[behind])[..., None], 0, frames[behind])
    hidden = replace(rolls, clips=replace(clips, frames=frames))
    found = drift({"recorded": recorded}, hidden, BALL, read_ball, 10.0, (0.4, 1.0), threshold=0.1)
    moved = displacement(rolls, BALL) >= 0.05
    assert found["counted"]["at_1s"]["successes"] == moved[1::2, 10].sum() == found["at_1s"]["recorded"]["lost"]["n"]
    assert found["counted"]["at_0.4s"]["successes"] == moved[:, 4].sum() and found["counted"]["at_1s"]["n"] == 40
    assert found["at_1s"]["recorded"]["lost"]["rate"] == 0 and found["time_to_failure"]["recorded"]["failed"] == 0


def test_yaw_is_wrong_by_what_the_picture_shows_wrong(push_episodes, push_twin):
    """A reader that knows every recorded picture by heart: what it reads off a world's frames is what they show."""
    tracked, n = push_twin.tracked, push_episodes.action.shape[1]
    told = tracked.states(push_episodes)
    known = {
        frame.tobytes(): state
        for frame, state in zip(push_episodes.frames.reshape(-1, 64 * 64 * 3), told.reshape(-1, told.shape[-1]))
    }

    def by_heart(frames):
        return np.array([known[frame.tobytes()] for frame in frames.reshape(-1, 64 * 64 * 3)]).reshape(
            *frames.shape[:-3], -1
        )

    worlds = {"recorded": recorded, "frozen": frozen, "shuffle": shuffle()}
    found = drift(worlds, push_episodes, tracked, by_heart, 10.0, (n / 10,))[f"at_{n / 10:g}s"]
    yaw = {name: row["yaw_deg"] for name, row in found.items()}
    moved = displacement(push_episodes, tracked)[:, n] >= 0.05
    turns = tracked.yaw_error(told[moved][:, 0], told[moved][:, n])
    assert yaw["recorded"]["median"] == 0 and yaw["frozen"]["median"] == pytest.approx(np.median(turns), abs=1e-4)
    assert yaw["frozen"]["median"] > 3 and max(yaw, key=lambda name: yaw[name]["median"]) == "frozen"
    assert 0 < yaw["shuffle"]["median"] < 1  # the foot turns every block that it pushes to its own face
    plain = drift(
        {"recorded": recorded}, push_episodes, tracked, lambda frames: by_heart(frames)[..., :4], 10.0, (n / 10,)
    )[f"at_{n / 10:g}s"]["recorded"]
    assert plain == {key: value for key, value in found["recorded"].items() if key != "yaw_deg"}


def test_a_turn_counts_up_to_symmetry(push_twin):
    tracked = push_twin.tracked  # a square

    def states(degrees):
        angle = 4 * np.radians(degrees)
        return np.stack([*np.zeros((4, len(degrees))), np.sin(angle), np.cos(angle)], axis=-1)

    error = tracked.yaw_error(states(np.array([0, 10, 5, 44, 100.0])), states(np.array([3, -10, 95, 1, 55.0])))
    assert error == pytest.approx([3, 20, 0, 43, 45])
    with pytest.raises(ValueError, match="states have 4 and 6 columns .*train the reader on all columns"):
        tracked.yaw_error(states(np.zeros(1))[:, :4], states(np.zeros(1)))


def lab(colours):
    frames = np.array(colours, np.uint8)[:, None, None]
    return mean_lab(frames, np.ones((len(colours), 1, 1), bool))


def test_cielab_is_the_published_one():
    """Bruce Lindbloom's sRGB D65 values of white, black, yellow and mid grey."""
    assert lab([[255, 255, 255], [0, 0, 0], [255, 255, 0], [119, 119, 119]]) == pytest.approx(
        np.array([[100, 0, 0], [0, 0, 0], [97.14, -21.55, 94.48], [50.03, 0, 0]]), abs=0.05
    )
    assert np.isnan(mean_lab(np.zeros((1, 2, 2, 3), np.uint8), np.zeros((1, 2, 2), bool))).all()


def test_overlap_of_masks():
    a, b = np.zeros((2, 2, 2), bool), np.zeros((2, 2, 2), bool)
    a[0, 0] = b[0, :, 0] = True
    assert iou(a, b).tolist() == [pytest.approx(1 / 3), 1]


def test_horizons_beyond_the_episodes_and_objects_that_stand_still_are_refused(rolls):
    with pytest.raises(ValueError, match='10 steps at 10 fps; record longer ones: .*max_episode_steps": 300'):
        drift({}, rolls, BALL, read_ball, 10.0, (0.5, 30))
    still = rolls.select(displacement(rolls, BALL)[:, 1] < 0.05)
    assert len(still)
    with pytest.raises(ValueError, match=f"shows it in none of {len(still)} episodes at_0.1s; record more"):
        drift({}, still, BALL, read_ball, 10.0, (0.1,))


def test_a_push_is_described_by_its_task(push_twin, push_episodes):
    tracked, state = push_twin.tracked, push_episodes.physics_state[0, 0]
    known = tracked.states(push_episodes)
    assert known.shape == (16, 21, 6) and (known[..., :2] == push_episodes.proprioception[..., :2]).all()
    assert np.allclose(np.hypot(known[..., 4], known[..., 5]), 1, atol=1e-6)
    push_twin.twin.reset(options={"physics_state": state})
    block = push_twin.twin.task.object_poses()["block"]
    assert np.allclose(known[0, 0, 2:4], block[:2], atol=1e-6)
    off = tracked.nudged(state, np.random.default_rng(0))
    assert np.linalg.norm((off - state)[23:25]) == pytest.approx(0.002)
    yaw = [2 * np.arctan2(s[28], s[29]) for s in (state, off)]
    assert abs(yaw[1] - yaw[0]) == pytest.approx(np.radians(3)) and (off == state).sum() == len(state) - 4


def test_a_drawer_is_described_by_its_task_and_reach_moves_nothing():
    drawer = make(DRAWER)
    drawer.reset(seed=0)
    tracked, state = tracked_by(drawer), drawer.get_physics_state()
    off = tracked.nudged(state, np.random.default_rng(0))
    drawer.reset(options={"physics_state": off})
    assert drawer.task.scene.slid(drawer.task.drawer)[0] == pytest.approx(0.002)
    assert tracked.mask(drawer.scene.render()).sum() > 20 and tracked.width == 0.14
    drawer.close()
    reach = make(REACH)
    with pytest.raises(ValueError, match="names no object that its task moves; .*TrackedObject"):
        tracked_by(reach)
    reach.close()
