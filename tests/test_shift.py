"""Is a shifted twin what it says? Looks change, or physics does, and nothing else."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from twins import PUSH, REACH, make

from wm_gym.physics.shift import HIDDEN, SHIFTS, VISIBLE, Shift, as_shift


def pushed(shift, steps: int = 14) -> tuple[np.ndarray, np.ndarray]:
    """First frame, and the block's way under a push straight at it."""
    env = make(PUSH, render_mode="rgb_array", shift=shift)
    env.reset(seed=3)
    first, start = env.render(), env.get_physics_state()
    policy = env.scripted_policy("expert", np.random.default_rng(0))
    for _ in range(steps):
        env.step(policy.act())
    way = env.get_physics_state()[23:25] - start[23:25]
    env.close()
    return first, way


@pytest.fixture(scope="module")
def usual():
    return pushed(None)


@pytest.mark.parametrize("name", SHIFTS)
def test_visible_shifts_are_seen_and_hidden_ones_are_not(usual, name):
    first, _ = pushed(name, steps=0)
    assert np.array_equal(first, usual[0]) == (name in HIDDEN)


def test_looks_do_not_change_physics(usual):
    for name in ("colour", "lighting", "camera", "stranger", "wanderer"):
        np.testing.assert_array_equal(pushed(name)[1], usual[1])


def test_friction_changes_the_push(usual):
    assert not np.array_equal(pushed("friction")[1], usual[1])


def test_stranger_lies_where_the_physics_state_says():
    env = make(PUSH, render_mode="rgb_array", shift="stranger")
    env.reset(seed=0)
    frame, state = env.render(), env.get_physics_state()
    env.reset(seed=1)
    assert not np.array_equal(env.render(), frame)
    env.set_physics_state(state)
    np.testing.assert_array_equal(env.render(), frame)


def test_a_wanderer_goes_its_own_way():
    """The same frames whatever is done elsewhere, other ones a step later, the same again from the same state."""
    env, ways = make(PUSH, render_mode="rgb_array", shift="wanderer"), []
    env.reset(seed=0)
    state = env.get_physics_state()
    for action in ([0, 0], [0, 0], [1, -1]):
        env.set_physics_state(state)
        places = [env.scene.pose(env._stranger)[:2]]
        for _ in range(8):
            env.step(np.array(action, np.float32))
            places.append(env.scene.pose(env._stranger)[:2])
        ways.append(np.array(places))
    env.close()
    np.testing.assert_array_equal(ways[0], ways[1])
    np.testing.assert_array_equal(ways[0], ways[2])
    steps = np.linalg.norm(np.diff(ways[0], axis=0), axis=1)
    assert 0.005 < steps.min() <= steps.max() < 0.007 and np.linalg.norm(ways[0][-1] - ways[0][0]) > 0.03


def test_a_shift_is_a_name_or_fields():
    assert as_shift(None) == Shift() and as_shift("size") == VISIBLE["size"]
    assert as_shift({"mass": 2.0}) == Shift(mass=2.0)
    env = gym.make(PUSH, shift={"mass": 2.0})  # plain values: an EnvSpec with them goes to JSON and back
    assert '"mass"' in env.spec.to_json()


@pytest.mark.parametrize(
    "env_id, shift, words",
    [
        (PUSH, "weather", "'weather' is unknown; choose one of"),
        (PUSH, {"weight": 2}, r"no \['weight'\]"),
        (REACH, "mass", "none"),
    ],
)
def test_wrong_shifts_are_named(env_id, shift, words):
    with pytest.raises(ValueError, match=words):
        make(env_id, shift=shift)
