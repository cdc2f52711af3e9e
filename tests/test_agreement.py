"""Do the statistics over policies say what the literature's do, and nothing where nothing can be said?"""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from wm_gym.evaluation.ranking.agreement import (
    agreement,
    correlation,
    mmrv,
    perfect_world,
    prediction_powered,
    split_half,
)

SIMPLER = Path(__file__).parents[2] / "shared" / "data" / "tables" / "table_simpler.json"
RATES = arrays(float, st.integers(1, 8), elements=st.integers(0, 20).map(lambda i: i / 20))


@pytest.mark.skipif(not SIMPLER.is_file(), reason=f"{SIMPLER} is not here")
def test_simplers_published_table():
    table = json.loads(SIMPLER.read_text())
    for task, expected in table["expected"].items():
        policies = list(table["real"][task])
        real, sim = ([table[side][task][p] for p in policies] for side in ("real", "sim"))
        assert mmrv(sim, real) == pytest.approx(expected["mmrv"], abs=1e-6), task
        found = correlation(sim, real)
        assert found["pearson"] == pytest.approx(expected["pearson"], abs=1e-5), task  # SIMPLER adds an epsilon
        assert (found["low"] is None) == (len(policies) == 3) == bool(found["undefined"]), task


def mmrv_in_words(world, real):
    """The definition, a sum and a largest element at a time."""
    total = 0.0
    for i in range(len(real)):
        total += max(
            abs(real[i] - real[j]) if (world[i] < world[j]) != (real[i] < real[j]) else 0.0 for j in range(len(real))
        )
    return total / len(real)


@given(RATES, st.randoms())
def test_mmrv_is_its_definition_and_0_for_any_monotone_world(real, random):
    world = np.array([random.random() for _ in real])
    assert mmrv(world, real) == pytest.approx(mmrv_in_words(world, real))
    assert mmrv(real**2 / 2, real) == 0
    order = np.array(random.sample(range(len(real)), len(real)))
    assert mmrv(world[order], real[order]) == pytest.approx(mmrv(world, real))


def test_mmrv_weighs_the_real_gap():
    assert mmrv([0.5, 0.4], [0.1, 0.9]) == pytest.approx(0.8)
    assert mmrv([0.1, 0.9], [0.5, 0.4]) == pytest.approx(0.1)


def test_three_policies_have_a_correlation_and_no_interval():
    found = correlation([0.1, 0.4, 0.9], [0.1, 0.5, 0.9])
    assert found["pearson"] > 0.9 and found["low"] is None and "an interval needs" in found["undefined"]


def test_an_outlier_is_shown_by_leaving_it_out():
    rng = np.random.default_rng(0)
    real = np.r_[rng.uniform(0.4, 0.5, 9), 0.95]
    world = np.r_[rng.uniform(0.4, 0.5, 9), 0.95]
    found = correlation(world, real)
    assert found["pearson"] > 0.9 and found["largest_drop_one"] > 0.5
    line = correlation(np.linspace(0.1, 0.9, 10), np.linspace(0.2, 0.8, 10))
    assert line["pearson"] == pytest.approx(1) and line["largest_drop_one"] < 1e-9 and line["permutation_p"] < 0.001


def test_the_permutation_p_is_exact_for_few_policies():
    assert correlation([0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4])["permutation_p"] == pytest.approx(1 / 24)


@pytest.mark.parametrize(
    "world, real, words",
    [
        ([0.1, 0.9], [0.1, 0.9], "2 policies"),
        ([0.5] * 5, [0.1, 0.2, 0.3, 0.4, 0.5], "same rate in the world"),
        ([0.1, 0.2, 0.3, 0.4, 0.5], [0.0] * 5, "same rate in physics"),
    ],
)
def test_what_cannot_be_said_is_undefined(world, real, words):
    found = correlation(world, real)
    assert found["pearson"] is None and found["low"] is None and words in found["undefined"]


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: mmrv([0.1], [0.1, 0.2]), "expected one rate a policy"),
        (lambda: mmrv([], []), "expected one rate a policy"),
        (lambda: mmrv([0.1, np.nan], [0.1, 0.2]), "the world rate of policy 1 is not finite"),
        (lambda: agreement(np.ones((2, 3)), np.ones((3, 2))), "two .policies, episodes."),
        (lambda: split_half(np.ones((5, 1))), "cannot be halved"),
        (lambda: prediction_powered([1, 0], [1], [1]), "2 episodes and 2 pairs"),
    ],
)
def test_what_is_no_measurement_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def outcomes(rates, n, seed):
    return np.random.default_rng(seed).random((len(rates), n)) < np.asarray(rates)[:, None]


def test_agreement_tells_a_good_world_from_one_that_knows_nothing_and_from_an_optimist():
    rates = np.linspace(0.05, 0.95, 20)
    physics = outcomes(rates, 400, 0)
    same, noise = agreement(physics, physics), agreement(outcomes(np.full(20, 0.5), 400, 1), physics)
    assert same["all"]["pearson"] == pytest.approx(1) and same["mmrv"] == same["optimism"] == same["pessimism"] == 0
    assert same["within_band"]["policies"] == int(((physics.mean(1) >= 0.2) & (physics.mean(1) <= 0.8)).sum())
    assert noise["all"]["pearson"] < 0.5 and noise["all"]["permutation_p"] > 0.01 and noise["mmrv"] > 0.3
    optimist = agreement(np.ones_like(physics), physics)
    assert optimist["optimism"] == 1 and optimist["pessimism"] == 0 and optimist["all"]["undefined"]
    extreme = agreement(outcomes([0, 0, 1, 1], 50, 2), outcomes([0, 0, 1, 1], 50, 3))
    assert "no policy has 20% to 80%" in extreme["within_band"]["undefined"]


def test_a_perfect_world_is_not_free_of_rank_violations():
    """METRICS.md: at 100 episodes a policy about 0.034 for uniform rates."""
    rng = np.random.default_rng(0)
    few = np.mean([perfect_world(rng.random(20), 100, draws=50, seed=i)["mmrv"] for i in range(20)])
    assert 0.02 < few < 0.05
    many = perfect_world(rng.random(20), 10_000, draws=200)
    assert many["mmrv"] < few / 3 and many["pearson"] > 0.999
    assert perfect_world([0.0, 0.0, 1.0, 0.0], 10)["pearson"] == pytest.approx(1)
    assert perfect_world([0.0] * 5, 10) == {"mmrv": 0, "pearson": None}


def test_halves_of_physics():
    halves = split_half(outcomes(np.linspace(0.1, 0.9, 12), 400, 0))
    assert 0.98 < halves["pearson"] < 1 and 0 < halves["mmrv"] < 0.1
    assert split_half(np.ones((12, 10)))["undefined"] and split_half(np.eye(3))["pearson"] is None


def test_prediction_powered_rates_are_unbiased_cover_the_truth_and_are_narrower():
    rng, inside, narrower = np.random.default_rng(0), 0, 0
    for _ in range(300):
        real = rng.random(1100) < 0.6
        flip = rng.random(1100) < 0.1
        world = np.where(flip, ~real, real)  # a world that is wrong in a tenth of the episodes
        found = prediction_powered(world[100:], world[:100], real[:100])
        inside += found["low"] <= 0.6 <= found["high"]
        narrower += found["high"] - found["low"] < 2 * 1.96 * np.sqrt(0.24 / 100)
    assert 0.90 <= inside / 300 <= 0.99 and narrower > 290


def test_tuned_prediction_powered_rates_cost_nothing_where_the_world_knows_nothing():
    rng, inside, alone, plain, tuned, helped = np.random.default_rng(1), 0, [], [], [], []
    width = lambda found: found["high"] - found["low"]
    for _ in range(300):
        real, noise = rng.random(400) < 0.5, rng.random(400) < 0.5
        found = prediction_powered(noise[50:], noise[:50], real[:50], tuned=True)
        inside += found["low"] <= 0.5 <= found["high"]
        plain.append(width(prediction_powered(noise[50:], noise[:50], real[:50])))
        tuned.append(width(found))
        alone.append(2 * 1.96 * np.sqrt(real[:50].var(ddof=1) / 50))
        helped.append(width(prediction_powered(real[50:], real[:50], real[:50], tuned=True)))
    assert 0.90 <= inside / 300 <= 0.99
    assert np.mean(plain) > 1.3 * np.mean(alone) and np.mean(tuned) < 1.02 * np.mean(alone)
    assert np.mean(helped) < 0.5 * np.mean(alone)
