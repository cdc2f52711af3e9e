"""Does fidelity order physics, the world and its controls as it must?"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from wm_gym.evaluation.metrics.fidelity import fidelity
from wm_gym.evaluation.probes.state_decoder import DecoderReport


@pytest.fixture(scope="module")
def report(push_episodes, push_reader):
    """Push's reader as a state decoder: the hand's height is the same in every frame."""
    height = float(push_episodes.proprioception[..., 2].mean())

    def read(frames):
        hand = push_reader(frames)[..., :2]
        return np.concatenate([hand, np.full_like(hand[..., :1], height)], axis=-1)

    return DecoderReport(SimpleNamespace(read=read), 0.004, 0.01)


def test_the_world_is_between_physics_and_its_controls(push_world, push_episodes, report):
    found = fidelity(push_world.world, push_episodes.clips, report, horizons=(1, 6), backend="torch")
    assert found["episodes"] == 16 and found["horizons"] == [1, 6] and found["decoder_median_cm"] == 0.4
    after = found["at_6"]
    error = {name: after[name]["end_effector_cm_median"] for name in ("physics", "world", "deaf", "mirrored", "frozen")}
    assert max(error["physics"], error["world"]) < 1 < 3 < min(error["deaf"], error["frozen"])
    assert error["mirrored"] > 1.5 * error["deaf"] and after["delta_psnr_true_minus_mirrored_db"] > 3
    assert after["physics"]["psnr_db"] > 60 > after["round_trip_psnr_db"] > after["world"]["psnr_db"] > 25
    assert after["integrated_pose_cm_median"] < 1


def test_episodes_that_are_too_short_are_refused(push_like, push_episodes, report):
    with pytest.raises(ValueError, match="no held-out episode has 50 steps .the longest has 20.; record longer ones"):
        fidelity(push_like.world, push_episodes.clips, report)
