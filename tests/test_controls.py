"""Does each control world do what it is called, and does it come last on the measurement that it must not win?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from twins import PUSH, make

from wm_gym.evaluation.control_worlds import (
    always_success,
    control_worlds,
    frozen,
    jitter,
    mirrored,
    physics,
    recorded,
    shuffle,
    through,
    zero_action,
)
from wm_gym.evaluation.metrics.control import delta_psnr, loss_ratio, no_op
from wm_gym.evaluation.metrics.drift import drift
from wm_gym.evaluation.ranking.agreement import agreement


@pytest.fixture(scope="module")
def worlds(push_world):
    """The world and its controls, asked about recorded actions."""
    return {"world": push_world.roll_out, **control_worlds(push_world.roll_out, push_world.spec)}


@pytest.fixture(scope="module")
def acting(push_world):
    """The world and its controls, asked about any actions, and the floor."""
    return {
        "world": push_world.roll_out,
        "physics": push_world.physics,
        **control_worlds(push_world.roll_out, push_world.spec, push_world.physics),
    }


@pytest.fixture(scope="module")
def drifts(worlds, push_episodes, push_world, push_reader):
    """`drift` at 2 s of all that make other frames than the world's."""
    return drift(
        {name: roll_out for name, roll_out in worlds.items() if name != "always_success"} | {"recorded": recorded},
        push_episodes,
        push_world.tracked,
        push_reader,
        push_world.spec.fps,
        (2.0,),
    ).at["2s"]


def column(rows, name, statistic):
    """One measurement of all that were measured: {name: number}."""
    return {key: getattr(row, name)[statistic] for key, row in rows.items()}


def test_frozen_moves_the_objects_least(drifts):
    moved = column(drifts, "displacement", "median")
    assert moved["frozen"] < 0.1 and moved["zero_action"] < 0.1  # without actions it stands still as well
    assert min(moved[name] for name in ("world", "jitter", "shuffle")) > 5 * moved["frozen"]
    assert 0.9 < moved["world"] < 1.1 and moved["recorded"] == pytest.approx(1, abs=0.05)
    hand, block = (column(drifts, name, "median") for name in ("end_effector_cm", "object_cm"))
    assert hand["frozen"] > 10 * hand["world"] and block["frozen"] > 5 * block["world"] > 0
    assert hand["frozen"] > max(hand[name] for name in ("world", "recorded", "jitter", "shuffle"))


def test_zero_action_loses_nothing_by_other_actions(acting, push_episodes, push_world):
    few = push_episodes.select(np.arange(8))
    found = delta_psnr(
        {name: acting[name] for name in ("world", "physics", "zero_action", "jitter")}, few, push_world.spec
    )
    for kind in ("random", "shuffled", "mirrored"):
        lost = {name: getattr(row, kind) for name, row in found.items()}
        assert lost["zero_action"]["mean"] == lost["zero_action"]["low"] == lost["zero_action"]["high"] == 0
        assert min(row["low"] for name, row in lost.items() if name != "zero_action") > 0, kind
    assert found["physics"].psnr_true_db["mean"] > 60  # the twin repeats the recording
    worse = {
        name: row.ratio
        for name, row in loss_ratio({name: acting[name] for name in ("world", "zero_action", "frozen")}, few).items()
    }
    assert worse["zero_action"]["ratio"] == worse["frozen"]["ratio"] == 1 < worse["world"]["low"]
    assert worse["world"]["ratio"] > 1.5


def test_jitter_flickers_and_loses_its_colours(drifts, acting, push_episodes, push_world, push_reader):
    colours = column(drifts, "colour_distance", "mean")
    assert max(colours, key=colours.get) == "jitter" and colours["jitter"] > 2 * colours["world"]
    quiet = {name: roll_out for name, roll_out in acting.items() if name in ("world", "physics", "frozen", "jitter")}
    found = no_op(quiet, push_episodes.select(np.arange(4)), push_world.spec, push_reader, steps=3)
    flicker = column(found, "flicker", "mean")
    assert max(flicker, key=flicker.get) == "jitter" and flicker["jitter"] > 20 * flicker["world"]


def test_shuffle_shows_the_wrong_picture_from_the_first_step(worlds, drifts, push_episodes, push_world):
    first = push_episodes.acting(push_episodes.action[:, :1])
    near = {
        name: row.psnr_true_db["mean"] for name, row in delta_psnr(worlds, first, push_world.spec, horizon=1).items()
    }
    assert min(near, key=near.get) == "shuffle" and near["shuffle"] < near["world"] - 5
    assert drifts["shuffle"].psnr_db["mean"] < drifts["jitter"].psnr_db["mean"]


def test_always_success_calls_every_failure_a_success(worlds, push_episodes):
    def succeeded(roll):
        return np.any(roll["success"] > 0.5, 1)

    truth = succeeded(recorded(push_episodes))
    assert 0 < truth.mean() < 1
    optimism = {
        name: agreement(succeeded(roll_out(push_episodes))[None], truth[None])["optimism"]
        for name, roll_out in worlds.items()
    }
    assert (
        optimism["always_success"] == 1
        and max(value for name, value in optimism.items() if name != "always_success") < 1
    )
    assert optimism["world"] < 0.3


def test_every_roll_out_gives_what_a_world_gives(worlds, push_episodes, push_world):
    few = push_episodes.select(np.arange(2)).acting(push_episodes.action[:2, :2])
    given = push_world.roll_out(few)
    for name, roll_out in {
        **worlds,
        "recorded": recorded,
        "physics": push_world.physics,
        "through": through(recorded, push_world.world.tokenizer),
    }.items():
        made = roll_out(few)
        assert {key: made[key].shape for key in given} == {key: value.shape for key, value in given.items()}, name
        assert {key: made[key].dtype.kind for key in given} == {key: v.dtype.kind for key, v in given.items()}, name


def test_physics_repeats_the_recording_to_the_bit(push_episodes, push_twin):
    few = push_episodes.select(np.arange(3))
    made, truth = push_twin.physics(few), recorded(few)
    assert (made["frame"] == truth["frame"]).all() and (made["success"] == truth["success"]).all()
    assert np.allclose(made["reward"], truth["reward"], atol=1e-6)
    assert (made["physics_state"] == few.physics_state[:, 1:]).all()


def test_controls_do_what_they_are_called(push_episodes, push_twin):
    few, spec = push_episodes.select(np.arange(3)).acting(push_episodes.action[:3, :2]), push_twin.spec
    frames = few.frames
    assert (frozen(few)["frame"] == frames[:, :1]).all() and not frozen(few)["reward"].any()
    asked = []

    def world(episodes):
        asked.append(episodes.action)
        return recorded(episodes)

    zero_action(world, spec)(few), mirrored(world, spec)(few)
    assert not asked[0].any() and np.allclose(asked[1], -few.action)
    noise = jitter(noise=10)(few)["frame"].astype(int) - frames[:, 1:]
    assert 8 < noise.std() < 11 and (noise[:, 0] != noise[:, 1]).any()
    assert (always_success(recorded)(few)["success"] == 1).all()
    other = few.others()
    assert (other != np.arange(3)).all() and (shuffle()(few)["frame"] == frames[other, 1:]).all()


def test_a_perturbed_start_is_another_roll_out(push_episodes, push_twin):
    rng, few = np.random.default_rng(0), push_episodes.select(np.arange(2))
    made = physics(push_twin.twin, lambda state: push_twin.tracked.perturbed(state, rng))(few)["physics_state"]
    off = np.linalg.norm(made[..., 23:25] - few.physics_state[:, 1:, 23:25], axis=-1)
    assert (off[:, 0] > 0.001).all() and (off < 0.05).all()


def test_a_twin_that_draws_nothing_is_refused():
    twin = make(PUSH)
    with pytest.raises(ValueError, match="render_mode is None, expected 'rgb_array'"):
        physics(twin)
    twin.close()


def test_physics_needs_physics_states(push_episodes, push_twin):
    blind = replace(push_episodes, clips=replace(push_episodes.clips, physics_state=None))
    with pytest.raises(ValueError, match="holds no physics states"):
        push_twin.physics(blind)


def test_one_episode_cannot_be_shuffled(push_episodes):
    with pytest.raises(ValueError, match="nothing to shuffle with; record at least 2"):
        shuffle()(push_episodes.select(np.arange(1)))
