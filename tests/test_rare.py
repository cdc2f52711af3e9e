"""Are rare rewards and ends drawn often enough, and are usual rewards exactly the usual ones?"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from wm_gym.models import StateHeads
from wm_gym.models.integrator import Integrator
from wm_gym.training.rare import best_threshold, rare_transitions, reward_bounds, usual_rewards
from wm_gym.training.segments import SegmentSampler


class Recording(SimpleNamespace):
    """Four episodes of 50 steps that pay `reward` {row: value}, else 0, and end the task in rows of `terminated`."""

    def __init__(self, reward, terminated=()):
        paid, ended = np.zeros((200, 1), np.float32), np.zeros(200, bool)
        for row, value in reward.items():
            paid[row] = value
        ended[list(terminated)] = True
        offset, meta = np.arange(5) * 50, {"has_success": False}
        super().__init__(reward=paid, terminated=ended, success=np.zeros(200), episode_offset=offset, meta=meta)

    def __len__(self):
        return 4

    def transitions(self, episodes):
        return np.concatenate([np.arange(e * 50, e * 50 + 49) for e in episodes])


def test_the_one_paid_step_of_a_recording_is_a_quarter_of_a_batch():
    recording = Recording({120: 1.0}, terminated=[121])
    rare = rare_transitions(recording)
    assert np.flatnonzero(rare).tolist() == [120]
    for steps in (1, 3):
        drawn = SegmentSampler(recording, 1, np.arange(4), rare=rare).draw(np.random.default_rng(0), 64, steps)
        last = drawn.rows[:, -2]
        assert 16 <= (last == 120).sum() <= 24
        assert (drawn.rows[:, -1] - drawn.rows[:, 0] == steps).all()


def test_common_rewards_are_not_rare():
    recording = Recording({row: float(row) for row in range(200)})
    assert not rare_transitions(recording).any()
    assert usual_rewards(recording)[1].tolist() == [0.0]


def test_small_errors_of_a_rare_reward_pay_nothing():
    usual, near = usual_rewards(Recording({7: 1.0, 90: 0.6}))
    assert usual.tolist() == [0.0] and near.tolist() == pytest.approx([0.3])
    heads = StateHeads(pose_dim=2, vector_dim=6)
    heads.near_usual.copy_(torch.from_numpy(near))
    assert heads.reward(torch.tensor([[0.01], [-0.2], [0.5], [1.0]])).flatten().tolist() == pytest.approx(
        [0, 0, 0.5, 1]
    )


def test_a_reward_that_never_differs_is_exact():
    usual, near = usual_rewards(Recording(dict.fromkeys(range(200), 1.0)))
    assert usual.tolist() == [1.0] and near[0] > 1e20


def test_the_threshold_lies_between_what_ends_and_what_does_not():
    assert best_threshold(np.array([0.05, 0.1, 0.7, 0.9]), np.array([False, False, True, True])) == pytest.approx(0.4)
    assert best_threshold(np.array([0.6, 0.7, 0.9, 0.95]), np.array([False, False, True, True])) == pytest.approx(0.8)
    assert best_threshold(np.array([0.3, 0.2]), np.array([False, False])) == 0.5


def test_rewards_of_few_values_are_bounded_by_them_and_others_by_a_margin():
    low, high = reward_bounds(Recording({3: -1.0, 9: 1.0}))
    assert (low.tolist(), high.tolist()) == ([-1.0], [1.0])
    low, high = reward_bounds(Recording({row: row / 10 for row in range(200)}))
    assert (low[0], high[0]) == (pytest.approx(-9.9), pytest.approx(29.7))  # the last step's row pays nothing


def test_a_long_closed_loop_stays_where_states_can_be():
    net = Integrator({"width": 8, "layers": 2, "groups": [], "whole": [1]}, 3, 1, 3)
    net.low[:2], net.high[:2] = torch.tensor([-2.0, 0.0]), torch.tensor([2.0, 3.0])
    state = torch.tensor([[1e3, 7.4, 1e3], [-5.0, 1.6, 0.0]], requires_grad=True)
    made = net.snap(state)
    assert made.tolist() == [[2.0, 3.0, pytest.approx(1e3)], [-2.0, 2.0, 0.0]]
    made[1].sum().backward()
    assert state.grad[1].tolist() == [1.0, 1.0, 1.0]  # learning does not see the bounds
