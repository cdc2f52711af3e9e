"""Does the detector find what breaks a law of physics, and nothing else? Violations drawn by the twin itself."""

from __future__ import annotations

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from push_reader import fit_reader
from twins import PUSH, recorded_episodes

from wm_gym.evaluation.control_worlds import frozen, recorded
from wm_gym.evaluation.metrics.violations import UNITS, Detector, second_pieces, violations, widths
from wm_gym.evaluation.suite.live import PhysicsViolations
from wm_gym.evaluation.trust.injected import Injector, detector_quality
from wm_gym.physics.tracked import yellow


@pytest.fixture(scope="module")
def episodes(tmp_path_factory):
    """48 random episodes of 3 s: hand and block are apart in some, the block is shoved in others."""
    return recorded_episodes(tmp_path_factory.mktemp("data") / "shoves", PUSH, 48, 30, "random", seed=5)


@pytest.fixture(scope="module")
def halves(episodes):
    return episodes.select(np.arange(28)), episodes.select(np.arange(28, 48))


@pytest.fixture(scope="module")
def detector(halves, push_twin):
    tracked = push_twin.tracked
    return Detector.fit(recorded, halves[0], tracked, fit_reader(halves[0].frames, tracked.states(halves[0])[..., :4]))


def test_injected_violations_are_found_and_little_else(detector, halves, push_twin):
    found = detector_quality(detector, Injector(push_twin.twin, push_twin.tracked), halves[1])
    assert set(found) == {*UNITS, "all"}
    for kind in UNITS:
        assert found[kind]["recall"]["n"] >= 4, kind
        assert found[kind]["recall"]["rate"] >= 0.6, kind
    assert found["all"]["recall"]["rate"] >= 0.9 and found["all"]["precision"] >= 0.9


def test_physics_breaks_nothing_and_a_frozen_robot_its_kinematics(detector, halves):
    told = violations({"recorded": recorded, "frozen": frozen}, halves[1], detector)
    assert sum(row["per_100_frames"] for row in told["recorded"].values()) < 1
    off = told["frozen"]["off its kinematics"]
    assert off["episodes"]["rate"] > 0.9 and off["excess_median"] > 2 and off["unit"] == "cm"
    assert told["frozen"]["teleport"]["per_100_frames"] == 0 and told["frozen"]["teleport"]["excess_worst"] is None
    assert all(0 <= row["abstained"] <= 1 for rows in told.values() for row in rows.values())


def test_an_arm_across_an_object_makes_no_second_one():
    block, arm, copy = np.zeros((3, 32, 32), bool)
    block[10:19, 4:13], arm[:, 8:10], copy[20:29, 18:27] = True, True, True
    shown = np.stack([block, block & ~arm, block & ~arm | copy & ~arm])[None]
    assert second_pieces(shown, widths(shown[:, :1])).tolist() == [[0, 0, 36]]  # the copy is the main piece: 4 x 9 left


def test_what_is_gone_has_no_size_and_one_jump_no_other_name(detector, halves, push_twin):
    injector = Injector(push_twin.twin, push_twin.tracked, seed=1)
    for kind, other in (("disappearance", "change of size"), ("teleport", "motion without contact")):
        made = injector.inject(kind, halves[1])
        told = detector.events(detector.severities(detector.read(made.frames, halves[1].select(made.which))))
        begun = {(event.episode, event.first) for event in told[other]}
        assert told[kind] and not begun & {(i, first) for i, first in enumerate(made.first)}


def test_frames_outside_the_violation_are_physics_own(halves, push_twin):
    made = Injector(push_twin.twin, push_twin.tracked).inject("disappearance", halves[1])
    true = halves[1].frames[made.which, 1:]
    for frames, own, first, last in zip(made.frames, true, made.first, made.last):
        changed = (frames != own).any((1, 2, 3))
        np.testing.assert_array_equal(np.flatnonzero(changed) + 1, np.arange(first, last + 1))


def test_what_cannot_be_done_is_said(halves, push_twin, detector):
    injector = Injector(push_twin.twin, push_twin.tracked)
    with pytest.raises(ValueError, match="'levitation' is unknown"):
        injector.inject("levitation", halves[1])
    with pytest.raises(ValueError, match="has room for the violation 'disappearance'"):
        injector.inject("disappearance", halves[1].acting(halves[1].action[:, :7]))
    hidden = replace(push_twin.tracked, mask=lambda frames: np.zeros(frames.shape[:-1], bool))
    with pytest.raises(ValueError, match="seen in none of the frames"):
        Detector.fit(recorded, halves[0], hidden, detector.reader)


@pytest.fixture
def watched(push_twin, detector):
    return PhysicsViolations(gym.make("wm_gym/Push-v0", backend="torch"), push_twin.twin, detector)


def test_info_says_what_breaks_while_stepping(watched, push_world, monkeypatch):
    observation, info = watched.reset(seed=3)
    assert info["violations"] == {} and "uncertainty" in info
    core, told = watched.unwrapped.core, []
    true = core.render
    for step in range(8):
        if step == 3:  # from here on the block is gone
            monkeypatch.setattr(
                core,
                "render",
                lambda slot: np.where(yellow(true(slot))[..., None], np.uint8(90), true(slot)).astype(np.uint8),
            )
        told.append(watched.step(np.zeros(2, np.float32))[-1]["violations"])
    assert not any("disappearance" in kinds for kinds in told[:5])
    assert all(0 < kinds["disappearance"] <= 0.31 for kinds in told[5:])
    assert watched.reset(seed=3)[1]["violations"] == {}
    assert watched.step(np.zeros(2, np.float32))[-1]["violations"] == {}  # three frames make an event


def test_violations_while_stepping_need_a_twin_that_draws_and_begin_with_it(watched, push_twin, detector):
    blind = gym.make(PUSH)
    with pytest.raises(ValueError, match="render_mode is None"):
        PhysicsViolations(watched.env, blind, detector)
    blind.close()
    with pytest.raises(ValueError, match=r"options are \['episode'\]"):
        watched.reset(options={"episode": 0})
