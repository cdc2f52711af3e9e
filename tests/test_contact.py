"""Do the contact metrics give the answers that can be worked out by hand, and does the state model learn a motion?"""

import numpy as np
import pytest

from wm_gym.evaluation.metrics.contact import contact_ratio, motion_without_contact, object_errors, steady
from wm_gym.evaluation.probes.state_model import fit_state_model


@pytest.fixture
def pushes():
    """Three blocks [3, 5, 2] that go 1 cm a step along x over the last two of four steps, and which steps touch."""
    track = np.zeros((3, 5, 2))
    track[:, 3:, 0] = [0.01, 0.02]
    touched = np.array([[False, False, True, True]] * 3)
    return track, touched


def test_errors_are_medians_in_cm_and_a_lost_object_costs_the_workspace(pushes):
    truth, _ = pushes
    made, lost = truth + np.array([0.003, 0.004]), np.zeros((3, 5), bool)
    errors = object_errors(made, truth, lost, 0.4, (1, 4))
    assert errors["at_4"]["cm_median"] == pytest.approx(0.5) and errors["at_4"]["lost"] == 0
    lost[:2, 4] = True
    errors = object_errors(made, truth, lost, 0.4, (1, 4))
    assert errors["at_4"]["cm_median"] == pytest.approx(40) and errors["at_4"]["lost"] == pytest.approx(2 / 3)
    assert errors["at_1"]["cm_median"] == pytest.approx(0.5)


def test_displacement_in_contact_is_along_the_true_motion(pushes):
    truth, touched = pushes
    assert contact_ratio(truth, truth, touched) == pytest.approx(1)
    assert contact_ratio(1.2 * truth, truth, touched) == pytest.approx(1.2)
    assert contact_ratio(truth[..., ::-1], truth, touched) == pytest.approx(0)  # sideways
    assert contact_ratio(np.zeros_like(truth), truth, touched) == 0


def test_motion_without_contact_counts_only_steps_clear_of_the_object(pushes):
    truth, _ = pushes
    far, near, seen = np.full((3, 5), 0.1), np.zeros((3, 5)), np.zeros((3, 5), bool)
    assert motion_without_contact(truth, far, seen, 0.02, 0.005) == pytest.approx(0.5)
    assert motion_without_contact(truth, near, seen, 0.02, 0.005) == 0
    assert motion_without_contact(np.zeros_like(truth), far, seen, 0.02, 0.005) == 0
    arriving = np.array([[0.1, 0.1, 0.1, 0.0, 0.0]] * 3)  # touches from the third step on: that motion is allowed
    assert motion_without_contact(truth, arriving, seen, 0.02, 0.005) == 0
    lost = seen.copy()
    lost[:, 4] = True  # neither it nor the frame beside it tells a motion: of the steps left none moves
    assert motion_without_contact(truth, far, lost, 0.02, 0.005) == 0
    lost = seen.copy()
    lost[0] = True
    assert motion_without_contact(truth, far, lost, 0.02, 0.005) == pytest.approx(0.5)


def test_one_stray_reading_is_no_motion():
    track = np.zeros((1, 5, 2))
    track[0, 2] = 0.3
    assert (steady(track) == 0).all()
    track[0, 3:] = 0.3
    np.testing.assert_array_equal(steady(track)[0, :, 0], [0, 0, 0.3, 0.3, 0.3])


def test_state_model_learns_a_clipped_integrator():
    """A point that moves by 0.1 a and stops at +-1; rolled out for 20 steps from states it has not seen."""
    rng, episodes, length = np.random.default_rng(0), 200, 25
    states, actions = [], []
    for _ in range(episodes):
        state, drift = rng.uniform(-0.8, 0.8, 2), rng.uniform(-1, 1, 2)
        for _ in range(length):
            action = np.clip(drift + 0.3 * rng.normal(size=2), -1, 1)
            states.append(state)
            actions.append(action)
            state = np.clip(state + 0.1 * action, -1, 1)
    states, actions = np.array(states, np.float32), np.array(actions, np.float32)
    offset = np.arange(0, episodes * length + 1, length)
    train = slice(0, 180 * length)
    model = fit_state_model(states[train], actions[train], offset[:181], updates=600, batch=128)
    rows = offset[180:200, None] + np.arange(21)
    made = model.roll_out(states[rows[:, 0]], actions[rows[:, :-1]])
    error = np.linalg.norm(made[:, -1] - states[rows[:, -1]], axis=1)
    frozen = np.linalg.norm(states[rows[:, 0]] - states[rows[:, -1]], axis=1)
    assert made.shape == (20, 21, 2) and np.median(error) < 0.1 * np.median(frozen)
