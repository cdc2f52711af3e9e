"""Does gating by uncertainty help exactly where uncertainty knows something?"""

from __future__ import annotations

import numpy as np
import pytest

from wm_gym.evaluation.ranking.gating import gating


def judged(seed: int = 0):
    """Six policies of 0.2 to 0.9, 300 starts; in a fifth of the episodes the world draws its verdict by lot."""
    rng = np.random.default_rng(seed)
    physics = rng.random((6, 300)) < np.linspace(0.2, 0.9, 6)[:, None]
    lost = rng.random((6, 300)) < 0.2
    return np.where(lost, rng.random((6, 300)) < 0.5, physics), physics, lost, rng


def test_uncertainty_that_knows_pays():
    world, physics, lost, rng = judged()
    found = gating(world, physics, lost + 0.1 * rng.random(lost.shape))
    assert found["wrong"] > 0.9
    assert found["gain"]["wrong"]["high"] < 0 and found["gain"]["optimism"]["high"] < 0
    assert found["kept"]["wrong"] < 0.03 < found["all"]["wrong"]


def test_uncertainty_that_knows_nothing_does_not():
    world, physics, lost, rng = judged()
    found = gating(world, physics, rng.random(lost.shape))
    assert found["wrong"] == pytest.approx(0.5, abs=0.06)
    assert abs(found["gain"]["wrong"]["gain"]) < 0.03


def test_undefined_is_said():
    world, physics, lost, _ = judged()
    found = gating(world[:2], physics[:2], lost[:2].astype(float))
    assert found["all"]["pearson"] is None and found["gain"]["pearson"] is None
    sure = np.ones((3, 20), bool)
    assert gating(sure, sure, np.zeros((3, 20)))["wrong"] is None


@pytest.mark.parametrize("keep, uncertainty", [(0.0, 0.0), (1.0, 0.0), (0.5, np.nan)])
def test_wrong_arguments_are_named(keep, uncertainty):
    with pytest.raises(ValueError, match="expected three"):
        gating(np.ones((2, 4), bool), np.ones((2, 4), bool), np.full((2, 4), uncertainty), keep)
