"""Do calibration, detection and conformal bounds say what their definitions say, and hold where they promise to?"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from wm_gym.evaluation.trust.coverage import auroc, calibration, conformal_factor, coverage, ranks_errors, reliability


def ece_in_words(p, y, bins=20):
    """Naeini et al. 2015, a bin at a time; no code shared with torchmetrics, which the library calls."""
    edges, total, worst = np.linspace(0, 1, bins + 1), 0.0, 0.0
    for i in range(bins):
        here = (p >= edges[i]) & ((p < edges[i + 1]) | ((i == bins - 1) & (p == 1)))
        if here.any():
            gap = abs(p[here].mean() - y[here].mean())
            total, worst = total + here.mean() * gap, max(worst, gap)
    return total, worst


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.integers(1, 3000), st.floats(0.2, 5))
def test_calibration_error_is_its_definition(seed, n, bend):
    rng = np.random.default_rng(seed)
    p = rng.random(n)
    y = rng.random(n) < p**bend
    found = calibration(p, y)
    assert (found.ece, found.mce) == pytest.approx(ece_in_words(p, y), abs=1e-6)
    assert found.brier == pytest.approx(((p - y) ** 2).mean())


def test_a_base_rate_is_calibrated_and_has_no_skill():
    rng = np.random.default_rng(0)
    truth = rng.random(100_000)
    y = rng.random(100_000) < truth
    base, honest, boaster = calibration(np.full(len(y), y.mean()), y), calibration(truth, y), calibration(truth**0.2, y)
    assert base.ece < 1e-6 and base.brier_skill == pytest.approx(0, abs=1e-9)
    assert honest.ece < 0.01 and 0.3 < honest.brier_skill < 0.35  # 1 - (1/6) / (1/4)
    assert boaster.ece > 0.2 and boaster.mce >= boaster.ece
    assert "no skill" in calibration([0.2, 0.4], [True, True]).undefined


def test_the_reliability_diagram_adds_up_to_the_calibration_error():
    rng = np.random.default_rng(1)
    p = rng.beta(2, 5, 5000)
    y = rng.random(5000) < p**2
    bars = reliability(p, y)
    gaps = np.nan_to_num(np.abs(np.subtract(bars.stated, bars.observed)))
    assert (bars.n * gaps).sum() / 5000 == pytest.approx(calibration(p, y).ece, abs=1e-6)


def test_auroc_counts_pairs():
    rng = np.random.default_rng(0)
    usual, shifted = rng.integers(0, 8, 60), rng.integers(3, 12, 40)
    pairs = [(s > u) + 0.5 * (s == u) for u in usual for s in shifted]
    assert auroc(usual, shifted) == pytest.approx(np.mean(pairs))
    assert auroc(usual, usual) == pytest.approx(0.5) and auroc([0, 1], [2, 3]) == 1


def test_uncertainty_that_is_only_a_clock_gains_nothing_over_it():
    rng = np.random.default_rng(0)
    scale = rng.lognormal(0, 1, (80, 1))
    errors = scale * np.arange(1, 21) * rng.random((80, 20))
    knows = ranks_errors(scale * np.arange(1, 21), errors, (1, 20), resamples=100)
    clock = ranks_errors(np.tile(np.arange(20.0), (80, 1)), errors, (1, 20), resamples=100)
    assert knows["at_20"].gain_low > 0.1 and knows["at_20"].at > 0.5
    assert knows["at_20"].clock == pytest.approx(spearmanr(np.tile(np.arange(20), 80), errors.ravel()).statistic)
    assert clock["at_20"].gain_low == clock["at_20"].gain_high == 0 and clock["at_20"].at is None
    assert knows["at_1"].clock is None and knows["at_1"].gain_low is None


def test_bounds_cover_what_they_promise_on_other_episodes_and_lapse_under_a_shift():
    rng = np.random.default_rng(0)

    def episodes(n, shift=1.0):
        stated = rng.lognormal(0, 0.3, (n, 30))
        return shift * stated * np.abs(rng.standard_normal((n, 30))) * rng.lognormal(0, 0.3, (n, 1)), stated

    shares = []
    for _ in range(20):
        factor = conformal_factor(*episodes(500))
        shares.append(coverage(*episodes(500), factor, (30,))["up_to_30"]["rate"])
    assert 0.885 < np.mean(shares) < 0.915
    errors, stated = episodes(1000)
    told = coverage(errors, stated, factor, (1, 10, 30))
    assert told["up_to_1"]["rate"] >= told["up_to_10"]["rate"] >= told["up_to_30"]["rate"]
    assert coverage(*episodes(1000, shift=2), factor, (30,))["up_to_30"]["rate"] < 0.6


def test_nine_episodes_give_a_bound_of_90_percent_and_eight_do_not():
    errors, stated = np.arange(1.0, 10)[:, None], np.ones((9, 1))
    assert conformal_factor(errors, stated) == 9
    with pytest.raises(ValueError, match="8 episodes are too few for a 90% bound; expected at least 9"):
        conformal_factor(errors[:8], stated[:8])


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: calibration([0.5, 1.2], [True, False]), "confidences in .0, 1."),
        (lambda: calibration([0.5, np.nan], [True, False]), "confidences in .0, 1."),
        (lambda: calibration([], []), "at least one"),
        (lambda: auroc([], [1]), "0 usual and 1 shifted"),
        (lambda: conformal_factor([[1.0]], [[0.0]]), "stated errors > 0"),
        (lambda: conformal_factor([[np.nan]], [[1.0]]), "errors >= 0"),
        (lambda: ranks_errors(np.ones((2, 3)), np.ones((2, 3)), (4,)), "horizons within the steps"),
    ],
)
def test_what_is_no_measurement_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
