"""Is time to failure what was put in, with those that never fail counted as such?"""

import numpy as np
import pytest

from wm_gym.evaluation.metrics.survival import time_to_failure


def errors(failures, n=50):
    """Episodes that pass 3 cm from the given step on; None: never."""
    made = np.full((len(failures), n), 0.01)
    for row, step in zip(made, failures):
        if step is not None:
            row[step - 1 :] = 0.05
    return made


def test_the_curve_falls_where_roll_outs_fail():
    found = time_to_failure(errors([10, 20, 20, None]), 0.03, fps=10)
    surviving = np.array(found.surviving)
    assert (surviving[:10] == 1).all() and (surviving[10:20] == 0.75).all() and (surviving[20:] == 0.25).all()
    assert found.failed == 3 and found.median_s == 2.0 and found.undefined is None
    assert found.seconds[10] == 1.0
    low, high = np.array(found.low), np.array(found.high)
    assert (low <= surviving).all() and (surviving <= high).all() and low[30] < 0.1 and high[30] > 0.6


def test_an_error_that_comes_back_has_failed_all_the_same_and_a_lost_object_fails():
    made = errors([None, None])
    made[0, 4] = 0.2
    made[1, 6] = np.inf
    assert time_to_failure(made, 0.03, 10).surviving[7] == 0


def test_the_interval_covers_a_known_rate():
    rng, inside = np.random.default_rng(0), 0
    for _ in range(200):
        step = rng.geometric(0.03, 100)
        made = errors([int(s) if s <= 50 else None for s in step])
        found = time_to_failure(made, 0.03, 1)
        inside += found.low[20] <= 0.97**20 <= found.high[20]
    assert 0.90 <= inside / 200 <= 0.99


def test_more_than_half_alive_has_no_median():
    found = time_to_failure(errors([10, None, None]), 0.03, 10)
    assert found.median_s is None and "67% of 3 roll-outs outlast their 5 s" in found.undefined
    none = time_to_failure(errors([None] * 3), 0.03, 10)
    assert none.failed == 0 and none.surviving == none.low == [1.0] * 51
    assert time_to_failure(errors([1, 1]), 0.03, 10).surviving[1] == 0


@pytest.mark.parametrize("made", [np.ones(3), np.ones((0, 5)), np.array([[0.1, np.nan]])])
def test_what_is_no_measurement_is_refused(made):
    with pytest.raises(ValueError, match="inf where the object is lost"):
        time_to_failure(made, 0.03, 10)
