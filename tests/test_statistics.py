"""Are the rates' and differences' intervals honest?"""

from __future__ import annotations

import numpy as np
import pytest

import wm_gym  # noqa: F401
from wm_gym.common.statistics import matched_table, mean, median, paired_difference, rate, ratio, wilson_interval


def pairs(both: int, first_only: int, second_only: int, neither: int):
    first = [True] * (both + first_only) + [False] * (second_only + neither)
    second = [True] * both + [False] * first_only + [True] * second_only + [False] * neither
    return first, second


@pytest.mark.parametrize(
    "counts, difference, low, high",
    [
        # Cavo et al. 2012 in Fagerland, Lydersen, Laake, "Statistical Analysis of Contingency Tables", chapter 8
        ((59, 6, 16, 80), -0.0621, -0.1186, -0.0046),
        # no disagreement at all still leaves a width: Wilson's 1 - 400 / (400 + z^2)
        ((400, 0, 0, 0), 0.0, -0.0095, 0.0095),
    ],
)
def test_paired_difference_against_published_values(counts, difference, low, high):
    result = paired_difference(*pairs(*counts))
    assert [round(result[k], 4) for k in ("difference", "low", "high")] == [difference, low, high]


def test_paired_interval_covers():
    """About 95 % of intervals of simulated correlated pairs hold the true difference."""
    rng, covered = np.random.default_rng(0), 0
    for _ in range(300):
        counts = rng.multinomial(100, [0.80, 0.12, 0.04, 0.04])
        result = paired_difference(*pairs(*counts))
        covered += result["low"] <= 0.08 <= result["high"]
    assert 0.92 <= covered / 300 <= 0.99


def test_wilson_and_matched_table():
    assert [round(x, 4) for x in wilson_interval(81, 263)] == [0.2553, 0.3662]  # Newcombe 1998, table I
    assert wilson_interval(0, 0) == (0.0, 1.0) and rate([])["rate"] is None
    with pytest.raises(ValueError, match="impossible"):
        wilson_interval(5, 4)
    table = matched_table([1, 1, 1, 0, 0], [1, 0, 1, 1, 0])
    assert table["table"] == {"both": 2, "world_only": 1, "physics_only": 1, "neither": 1}
    assert table["optimism"]["rate"] == 0.5 and round(table["pessimism"]["rate"], 4) == 0.3333
    with pytest.raises(ValueError, match="paired"):
        paired_difference([True], [True, False])


def test_intervals_of_means_and_medians_cover():
    """Skewed values of known mean and median, 40 at a time; the median's interval is exact, the mean's nearly."""
    rng, inside = np.random.default_rng(0), {"mean": 0, "median": 0}
    for _ in range(400):
        values = rng.gamma(4.0, 1.0, 40)
        found = {"mean": (mean(values), 4.0), "median": (median(values), 3.6721)}
        for name, (row, truth) in found.items():
            assert row["low"] < row[name] < row["high"] and row["n"] == 40
            inside[name] += row["low"] <= truth <= row["high"]
    assert 0.92 <= inside["mean"] / 400 <= 0.98 and 0.93 <= inside["median"] / 400 <= 0.99


def test_too_few_values_have_no_interval():
    assert mean([2.0]) == {"mean": 2.0, "n": 1, "low": None, "high": None}
    assert mean([2.0, 4.0])["mean"] == 3 and mean([3.0, 3.0])["low"] == mean([3.0, 3.0])["high"] == 3
    assert median([1.0, 2.0, 3.0, 4.0, 5.0])["low"] is None and median([1.0, 2.0, 3.0, 4.0, 5.0])["median"] == 3
    assert median(np.arange(6.0))["low"] == 0 and median(np.arange(6.0))["high"] == 5


@pytest.mark.parametrize("values", [[], [1.0, np.nan], [[1.0]]])
def test_what_is_no_sample_is_refused(values):
    for statistic in (mean, median):
        with pytest.raises(ValueError, match="expected at least one finite number"):
            statistic(values)


def test_ratio_of_means_has_an_interval_over_pairs():
    rng = np.random.default_rng(0)
    below = rng.uniform(1, 3, 60)
    found = ratio(2 * below + rng.normal(scale=0.3, size=60), below)
    assert found["low"] < 2 < found["high"] and found["high"] - found["low"] < 0.2 and found["n"] == 60
    assert ratio([1.0, 2.0], [1.0, 2.0]) == {"ratio": 1.0, "n": 2, "low": 1.0, "high": 1.0}
    assert ratio([1.0], [0.0])["ratio"] is None and ratio([3.0], [2.0]) == {
        "ratio": 1.5,
        "n": 1,
        "low": None,
        "high": None,
    }
    with pytest.raises(ValueError, match="the smallest -1; expected pairs"):
        ratio([1.0, 1.0], [1.0, -1.0])
