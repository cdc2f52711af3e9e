"""Does the detector find what breaks a law of physics, and nothing else? Violations drawn by the twin itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from push_reader import fit_reader
from twins import PUSH, recorded_episodes

from wm_gym.evaluation.controls import frozen, recorded
from wm_gym.evaluation.injected import Injector, detector_quality
from wm_gym.evaluation.violations import UNITS, Detector, violations


@pytest.fixture(scope="module")
def episodes(tmp_path_factory):
    """48 random episodes of 3 s: hand and block are apart in some, the block is shoved in others."""
    return recorded_episodes(tmp_path_factory.mktemp("data") / "shoves", PUSH, 48, 30, "random", seed=5)


@pytest.fixture(scope="module")
def halves(episodes):
    return episodes.select(np.arange(28)), episodes.select(np.arange(28, 48))


@pytest.fixture(scope="module")
def detector(halves, push_world):
    tracked = push_world.tracked
    return Detector.fit(recorded, halves[0], tracked, fit_reader(halves[0].frames, tracked.states(halves[0])[..., :4]))


def test_injected_violations_are_found_and_little_else(detector, halves, push_world):
    found = detector_quality(detector, Injector(push_world.twin, push_world.tracked), halves[1])
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


def test_what_is_gone_has_no_size_and_one_jump_no_other_name(detector, halves, push_world):
    injector = Injector(push_world.twin, push_world.tracked, seed=1)
    for kind, other in (("disappearance", "change of size"), ("teleport", "motion without contact")):
        made = injector.inject(kind, halves[1])
        told = detector.events(detector.severities(detector.read(made.frames, halves[1].select(made.which))))
        begun = {(event.episode, event.first) for event in told[other]}
        assert told[kind] and not begun & {(i, first) for i, first in enumerate(made.first)}


def test_frames_outside_the_violation_are_physics_own(halves, push_world):
    made = Injector(push_world.twin, push_world.tracked).inject("disappearance", halves[1])
    true = halves[1].frames[made.which, 1:]
    for frames, own, first, last in zip(made.frames, true, made.first, made.last):
        changed = (frames != own).any((1, 2, 3))
        np.testing.assert_array_equal(np.flatnonzero(changed) + 1, np.arange(first, last + 1))


def test_what_cannot_be_done_is_said(halves, push_world, detector):
    injector = Injector(push_world.twin, push_world.tracked)
    with pytest.raises(ValueError, match="'levitation' is unknown"):
        injector.inject("levitation", halves[1])
    with pytest.raises(ValueError, match="has room for the violation 'disappearance'"):
        injector.inject("disappearance", halves[1].acting(halves[1].action[:, :7]))
    hidden = replace(push_world.tracked, mask=lambda frames: np.zeros(frames.shape[:-1], bool))
    with pytest.raises(ValueError, match="seen in none of the frames"):
        Detector.fit(recorded, halves[0], hidden, detector.reader)
