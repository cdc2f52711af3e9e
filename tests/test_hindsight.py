"""Do recorded steps get other goals, and what they pay there?"""

import numpy as np
import pytest
import torch
import vector_env  # noqa: F401  registers the environments

from wm_gym.collect.record import record
from wm_gym.data.clips import open_clips
from wm_gym.training.hindsight import SHARE, Hindsight


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    out = tmp_path_factory.mktemp("hindsight") / "data"
    quiet = {"workers": 0, "progress": False, "pictures": False}
    return open_clips(record("wm_gym_test/Goal-v0", 60, "random", out=out, **quiet), progress=False)


def test_other_goals_pay_what_the_source_says_and_end_where_it_ends(clips):
    hindsight = Hindsight.of(clips)
    assert hindsight.pays
    rng, numbers = np.random.default_rng(0), torch.from_numpy(clips.proprioception[:600].reshape(300, 2, 6))
    before = numbers.clone()
    made, changed = hindsight.other_goals(numbers, rng)
    assert torch.equal(numbers, before)
    assert abs(float(changed.float().mean()) - SHARE) < 0.1
    names = hindsight.codec.names
    goals = [i for i, name in enumerate(names) if name.startswith("desired_goal")]
    rest = [i for i in range(6) if i not in goals]
    assert torch.equal(made[..., rest], numbers[..., rest]) and torch.equal(made[~changed], numbers[~changed])
    assert (made[:, 0, goals] == made[:, 1, goals])[changed].all()
    paid, success, ended = hindsight.outcome(made[:, 1])
    place = made[:, 1, [names.index("achieved_goal.0"), names.index("achieved_goal.1")]]
    near = (place - made[:, 1, goals]).norm(dim=1) <= 0.2
    assert torch.equal(paid, near.float() - 1) and near[changed].any()
    assert torch.equal(ended, near.float())  # the recordings say one with the other
    assert success.isnan().all()  # this source has none


def test_no_goals_no_hindsight(tmp_path):
    data = record("wm_gym_test/Cart-v0", 3, "random", out=tmp_path / "data", workers=0, progress=False)
    assert Hindsight.of(open_clips(data, progress=False)) is None


def test_goals_that_move_are_left_alone(clips):
    moving = np.array(clips.proprioception)
    moving[:, Hindsight.of(clips).desired] += np.arange(len(moving))[:, None]
    assert Hindsight.of(type(clips)(**{**vars(clips), "proprioception": moving})) is None
