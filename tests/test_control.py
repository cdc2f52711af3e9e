"""Is obedience measured right: of a world that obeys, of one that goes the wrong way, and of one that stands still?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from twins import PUSH, make, recorded_episodes

from wm_gym.evaluation.control_worlds import deaf, frozen, physics, recorded, shuffle, through, turned
from wm_gym.evaluation.episodes import Episodes
from wm_gym.evaluation.metrics.control import delta_psnr, directions, distractor, loss_ratio, no_op


@pytest.fixture(scope="module")
def starts(push_episodes):
    """Three starts an episode, 4 steps each."""
    return Episodes.of(push_episodes.clips, 4, every=8)


def test_directions_tell_who_goes_where_it_is_sent(starts, push_world, push_reader):
    world, twin, spec = push_world.roller, push_world.physics, push_world.spec
    found = directions(
        {
            "world": world,
            "physics": twin,
            "turned": turned(world, spec),
            "deaf": deaf(world, spec),
            "frozen": frozen,
            "shuffle": shuffle(twin),
        },
        starts,
        spec,
        push_reader,
        steps=4,
        twin=twin,
    )
    assert 0.6 < found["carried_out_by_physics"]["rate"] < 1  # at the edge of the workspace nothing moves
    right = {name: row["frames"]["within_45"] for name, row in found.items() if name != "carried_out_by_physics"}
    assert right["world"]["low"] > 0.8 and right["physics"]["low"] > 0.8
    assert right["turned"]["high"] < 0.2 and right["frozen"]["rate"] == 0
    assert right["deaf"]["high"] < 0.55 and right["shuffle"]["high"] < 0.65  # chance is a quarter
    assert found["turned"]["frames"]["same_side"]["rate"] < 0.1 < 0.9 < found["world"]["frames"]["same_side"]["rate"]
    for name in ("world", "physics", "turned"):
        assert 0.15 < found[name]["frames"]["chance_within_45"] < 0.35
    along = {name: row["frames"]["along_cm"] for name, row in found.items() if name != "carried_out_by_physics"}
    assert along["world"]["mean"] == pytest.approx(along["physics"]["mean"], abs=1.5) and 5 < along["world"]["mean"] < 8
    assert along["turned"]["high"] < -4 and abs(along["deaf"]["mean"]) < 0.5
    poses = found["deaf"]["proprioception"]["along_cm"]
    assert abs(poses["mean"]) < 0.2 and poses["n"] == len(np.unique(starts.number))


def test_nothing_moves_without_an_action_but_for_the_first_drawing(push_episodes, push_world, push_reader):
    few, spec, world = push_episodes.select(np.arange(4)), push_world.spec, push_world.roller
    found = no_op(
        {
            "world": world,
            "physics": push_world.physics,
            "frozen": frozen,
            "moves": recorded,
            "round trip": through(push_world.physics, push_world.world.tokenizer),
        },
        few,
        spec,
        push_reader,
        steps=6,
    )
    change = {name: row["frame_change"]["mean"] for name, row in found.items()}
    assert change["frozen"] == 0 <= change["physics"] < 0.1 and change["moves"] > 2 * change["world"]
    assert change["world"] < 2 * change["round trip"]
    hand = {name: row["frames"]["median_cm"] for name, row in found.items()}
    assert hand["frozen"] == 0 and hand["physics"] < 0.1 and hand["world"] < 1 and hand["moves"] > 3
    assert found["physics"]["proprioception"]["median_cm"] < 0.1 and found["moves"]["proprioception"]["p95_cm"] > 3


def test_delta_psnr_has_an_interval_over_episodes(starts, push_twin):
    found = delta_psnr({"frozen": frozen}, starts, push_twin.spec, horizon=2)["frozen"]
    episodes = len(np.unique(starts.number))
    assert all(row["n"] == episodes < len(starts) for row in found.values())
    assert found["psnr_true_db"]["low"] < found["psnr_true_db"]["mean"] < found["psnr_true_db"]["high"]
    assert found["random"]["mean"] == found["shuffled"]["mean"] == found["mirrored"]["mean"] == 0


def test_the_loss_ratio_is_the_ratio_of_the_losses(starts):
    """Grey pictures, and worlds that are off by 10 levels, or by 30 where they are told another episode's actions."""
    grey = replace(starts, clips=replace(starts.clips, frames=np.full_like(starts.clips.frames, 100)))

    def off_by(told_other: int):
        def roll(episodes):
            true = (episodes.action == starts.action[:, :2]).all((1, 2))
            off = np.where(true, 10, told_other).astype(np.uint8)
            return {"frame": recorded(episodes)["frame"] + off[:, None, None, None, None]}

        return roll

    found = loss_ratio({"obeys": off_by(30), "deaf": off_by(10), "physics": recorded}, grey, horizon=2)
    row, episodes = found["obeys"], len(np.unique(starts.number))
    assert row["true"] == pytest.approx((10 / 255) ** 2) and row["shuffled"] == pytest.approx((30 / 255) ** 2)
    assert row["ratio"]["ratio"] == pytest.approx(9) and row["ratio"]["n"] == episodes < len(starts)
    assert found["deaf"]["ratio"]["ratio"] == 1 and found["physics"]["ratio"]["ratio"] is None
    red = loss_ratio({"obeys": off_by(30)}, grey, 2, encode=lambda frames: 2.0 * frames[..., 0])["obeys"]
    assert red["true"] == pytest.approx(400) and red["ratio"]["ratio"] == pytest.approx(9)


@pytest.fixture(scope="module")
def wanderers(tmp_path_factory):
    """12 starts of 8 steps with something that moves by itself, and the twin that shows it."""
    twin = make(PUSH, render_mode="rgb_array", shift="wanderer")
    yield (
        recorded_episodes(
            tmp_path_factory.mktemp("data") / "wanderers", PUSH, 12, 8, "random", seed=5, shift="wanderer"
        ),
        physics(twin),
    )
    twin.close()


def test_a_distractor_is_attributed_by_what_drags_it_along(wanderers, push_twin):
    episodes, twin = wanderers
    spec = push_twin.spec

    def puppet(asked):
        """True frames, pushed about as a whole by the actions: here they move the distractor as well."""
        frames = recorded(asked)["frame"].copy()
        for row, way in zip(frames, np.rint(2 * asked.action.cumsum(1)).astype(int)):
            for t, pixels in enumerate(way):
                row[t] = np.roll(row[t], pixels, (0, 1))
        return {"frame": frames}

    found = distractor(
        {"physics": twin, "recorded": recorded, "frozen": frozen, "deaf": deaf(twin, spec), "puppet": puppet},
        episodes,
        spec,
        push_twin.physics,
    )
    assert found["counted"]["successes"] >= 3
    share = {name: row["attributed"]["ratio"] for name, row in found.items() if name != "counted"}
    assert share["physics"] < 0.01 and share["recorded"] == share["deaf"] == 0 and share["frozen"] is None
    assert share["puppet"] > 0.2 and found["puppet"]["attributed"]["low"] > 0.1
    moved = {name: row["moved"]["ratio"] for name, row in found.items() if name != "counted"}
    assert moved["frozen"] == 0 and moved["recorded"] == 1 and moved["physics"] == pytest.approx(1, abs=0.02)


def test_a_distractor_must_be_there(starts, push_twin):
    with pytest.raises(ValueError, match="none of 3 starts shows a distractor .*record more, or fewer steps"):
        distractor({}, starts.select(np.arange(3)), push_twin.spec, push_twin.physics)


@pytest.mark.parametrize("steps", [0, 5])
def test_a_horizon_beyond_the_episodes_is_refused(starts, push_twin, push_reader, steps):
    with pytest.raises(ValueError, match=f"horizon is {steps}, expected 1 to 4"):
        delta_psnr({"frozen": frozen}, starts, push_twin.spec, horizon=steps)
    with pytest.raises(ValueError, match=f"steps is {steps}, expected 2 to 4"):
        no_op({"frozen": frozen}, starts, push_twin.spec, push_reader, steps=steps)


def test_directions_refuse_what_they_cannot_ask(starts, push_twin, push_reader):
    spec = push_twin.spec
    with pytest.raises(ValueError, match="steps is 9, expected at most 4"):
        directions({}, starts, spec, push_reader, steps=9)
    with pytest.raises(ValueError, match="the first 3 action bounds .* give dims= how many do"):
        directions({}, starts, spec, push_reader, dims=3, steps=2)
    with pytest.raises(ValueError, match="expected bounds around 0"):
        directions({}, starts, replace(spec, action_low=[0.0, 0.0]), push_reader, steps=2)
    with pytest.raises(ValueError, match=f"physics carries out none of {len(starts)} commands"):
        directions({}, starts, spec, push_reader, steps=2, twin=frozen)
    with pytest.raises(ValueError, match="nothing to shuffle with"):
        delta_psnr({}, starts.select(np.arange(1)), spec, horizon=2)
