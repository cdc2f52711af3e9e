"""Are a judge's errors told from those of the dynamics? Worlds that err in one of them only."""

from __future__ import annotations

import numpy as np
import pytest
from push_reader import fit_reader
from twins import PUSH, recorded_episodes

from wm_gym.engine.torch import TorchEngine
from wm_gym.evaluation.control_worlds import frozen, optimist, recorded
from wm_gym.evaluation.judges.attribution import judge_errors, physics_verdicts


@pytest.fixture(scope="module")
def episodes(tmp_path_factory):
    """12 episodes of 5 s; the experts among them reach the goal, the random ones do not."""
    return recorded_episodes(tmp_path_factory.mktemp("data") / "goals", PUSH, 12, 50, "mix", seed=9)


def test_physics_judges_its_own_states_as_it_did(episodes, push_twin):
    told = push_twin.tracked.states(episodes)[:, 1:]
    reached = episodes.clips.success[episodes.rows[:, 1:]].any(1)
    assert 0 < reached.sum() < 12
    gone = np.zeros(told.shape[:2], bool)
    np.testing.assert_array_equal(physics_verdicts(push_twin.twin, episodes, push_twin.tracked, told, gone), reached)
    assert not physics_verdicts(push_twin.twin, episodes, push_twin.tracked, told, ~gone).any()


@pytest.mark.parametrize(
    ("roller", "wrong", "right"),
    [
        (optimist(recorded), "learned, world's frames", "physics, world's frames"),
        (
            lambda episodes: frozen(episodes) | {"success": recorded(episodes)["success"]},
            "physics, world's frames",
            "learned, world's frames",
        ),
    ],
)
def test_each_error_is_where_it_was_made(roller, wrong, right, episodes, push_world):
    tracked, world = push_world.tracked, push_world.world
    reader = fit_reader(episodes.frames, tracked.states(episodes)[..., :4])
    found = judge_errors(world, roller, episodes, push_world.twin, tracked, reader, TorchEngine(world))
    bad, good = found["verdicts"][wrong], found["verdicts"][right]
    assert found["episodes"] == 12 and found["verdicts"]["learned, true frames"]["wrong"]["rate"] <= 0.2
    assert good["wrong"]["rate"] <= 0.2
    misled = bad["optimism"] if wrong.startswith("learned") else bad["pessimism"]
    assert misled["n"] and misled["rate"] == 1
