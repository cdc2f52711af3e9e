"""Are metrics ranked by what they tell of a world's use? Against known orders."""

from __future__ import annotations

import numpy as np
import pytest

from wm_gym.evaluation.ranking.usefulness import usefulness


def test_known_orders():
    use = np.arange(12.0)
    noisy = use + 3 * np.random.default_rng(0).standard_normal(12)
    found = usefulness({"same": use**3, "reversed": -use, "noisy": noisy}, {"use": use})
    assert found["same"]["use"] == {
        "rho": pytest.approx(1),
        "low": pytest.approx(1),
        "high": pytest.approx(1),
        "worlds": 12,
        "undefined": None,
    }
    assert found["reversed"]["use"]["rho"] == pytest.approx(-1)
    told = found["noisy"]["use"]
    assert told["low"] < told["rho"] < told["high"] < 1 and told["rho"] > 0.3


def test_an_undefined_number_leaves_out_its_world_only():
    found = usefulness({"some": [1, None, 3, 4, 5.0]}, {"use": [1, 9, 2, 3, 4]})["some"]["use"]
    assert found["worlds"] == 4 and found["rho"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("metric", "why"),
    [([1, 2, 3], "3 worlds; a rank correlation needs at least 4"), ([2, 2, 2, 2], "all 4 worlds have the same psnr")],
)
def test_what_cannot_be_said_is_undefined(metric, why):
    found = usefulness({"psnr": metric}, {"use": range(len(metric))})["psnr"]["use"]
    assert found["rho"] is found["low"] is found["high"] is None and found["undefined"] == why


@pytest.mark.parametrize(
    ("metric", "match"), [([1, 2], r"lists of \[2, 4\] worlds"), ([1, 2, 3, np.nan], "not finite")]
)
def test_refused(metric, match):
    with pytest.raises(ValueError, match=match):
        usefulness({"psnr": metric}, {"use": range(4)})
