"""Does a small network read actions off two frames, and does it catch the worlds that show other ones?"""

from __future__ import annotations

import numpy as np
import pytest

from wm_gym.evaluation.control_worlds import deaf, frozen, recorded, shuffle
from wm_gym.evaluation.probes.inverse import Pairs, fit_inverse, inverse_accuracy, inverse_error, pairs


@pytest.fixture(scope="module")
def split(push_episodes):
    """12 episodes to learn from and 4 to be asked about."""
    return push_episodes.select(np.arange(12)), push_episodes.select(np.arange(12, 16))


@pytest.fixture(scope="module")
def inverse(split):
    return fit_inverse(*split, updates=250, batch=32)


def test_pairs_are_neighbours_in_time(split):
    shown, frames = Pairs(split[1]), split[1].frames
    assert len(shown) == 4 * 20 and shown.shape == (80, 64, 64, 6)
    assert (shown[np.arange(80)].reshape(4, 20, 64, 64, 6) == pairs(frames)).all()
    assert (pairs(frames)[..., :3] == frames[:, :-1]).all() and (pairs(frames)[..., 3:] == frames[:, 1:]).all()


def test_it_has_learned_what_other_frames_show(inverse, split, push_twin):
    found = inverse_accuracy(inverse, split[1], push_twin.spec, tolerance=0.3)
    assert set(found["r2"]) == set(found["mae"]) == {"dx", "dy"} and min(found["r2"].values()) > 0.5, found
    assert max(found["mae"].values()) < 0.2 and found["strict"]["n"] == 4 and found["strict"]["mean"] > 0.5, found
    swapped = inverse_accuracy(lambda seen: inverse(np.roll(seen, 3, axis=-1)), split[1], push_twin.spec, 0.3)
    assert max(swapped["r2"].values()) < 0 and swapped["strict"]["mean"] < found["strict"]["mean"] - 0.3, swapped


def test_worlds_that_show_other_actions_come_last(inverse, split, push_world):
    world, spec, asked = push_world.roller, push_world.spec, split[1].acting(split[1].action[:, :6])
    found = inverse_error(
        {"world": world, "recorded": recorded, "deaf": deaf(world, spec), "frozen": frozen, "shuffle": shuffle()},
        asked,
        inverse,
        (1, 6),
    )
    for horizon in ("at_1", "at_6"):
        excess = {name: row[horizon]["excess"]["mean"] for name, row in found.items()}
        assert excess["recorded"] == 0
        assert min(excess[name] for name in ("deaf", "frozen", "shuffle")) > excess["world"] + 0.15, found
    error = found["recorded"]["at_6"]["error"]["mean"]
    assert found["world"]["at_6"]["excess"]["mean"] == pytest.approx(found["world"]["at_6"]["error"]["mean"] - error)


def test_horizons_rise_within_the_episodes(inverse, split):
    for horizons in ((), (0, 5), (5, 5), (5, 1), (21,)):
        with pytest.raises(ValueError, match="expected rising ones from 1 to 20"):
            inverse_error({}, split[1], inverse, horizons)
