"""Is only what the table of `wm_gym.common.accepted` names accepted, and has nothing changed after a refusal?"""

from __future__ import annotations

import contextlib
import datetime
from decimal import Decimal

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wm_gym.common import accepted
from wm_gym.env import WorldEnv
from wm_gym.sb3 import WorldVecEnv
from wm_gym.vector import WorldVectorEnv

ACTION = np.zeros(3, np.float32)
HUGE = 10**400  # a seed all the same
ODD = [
    None,
    "1",
    b"1",
    1.5,
    float("nan"),
    float("inf"),
    1j,
    [],
    [1, [2]],
    {},
    {1},
    object(),
    lambda: 0,
    Decimal(1),
    datetime.date(2026, 1, 1),
    np.datetime64(1, "s"),
    np.timedelta64(1, "s"),
    np.ma.masked_array([1.0], [True]),
    np.array(["a"]),
    np.array([1j, 0, 0]),
    np.zeros((3, 1)),
    np.zeros(0),
    np.array([None] * 3),
    HUGE,
    -1,
    True,
]
"""Of every kind that is no number, no array of numbers, or one of another shape."""
odd = st.sampled_from(range(len(ODD))).map(ODD.__getitem__)
COUNTERS = {"seed", "episode", "step", "ended"}  # of the episode: one that begins in a saved state has its own
LAX = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)


@pytest.fixture(scope="module")
def env(world):
    env = WorldEnv(world, backend="torch")
    env.reset(seed=0)
    env.step(ACTION)
    return env


@pytest.fixture(scope="module")
def batch(world):
    env = WorldVectorEnv(3, world=world, backend="torch")
    env.reset(seed=0)
    env.step(np.zeros((3, 3)))
    return env


def refused_and_unchanged(env, call, match: str = "expected|expects|lacks|unknown|needs|give one of|pass what") -> None:
    """A ValueError in words, and an environment that is where it was."""
    before = env.get_state()
    with pytest.raises(ValueError, match=match):
        call()
    for key, value in env.get_state().items():
        np.testing.assert_array_equal(value, before[key], err_msg=key)


@contextlib.contextmanager
def subtest(name: str):
    """Its name beside whatever fails in it."""
    try:
        yield
    except BaseException as error:
        error.add_note(name)
        raise


# --- seeds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [int, np.int64, np.uint8, np.array])
def test_every_integer_is_a_seed(env, kind):
    np.testing.assert_array_equal(env.reset(seed=kind(3))[0], env.reset(seed=3)[0])


@LAX
@given(bad=odd.filter(lambda value: value is not None and value is not HUGE))
def test_what_is_no_seed(env, batch, bad):
    refused_and_unchanged(env, lambda: env.reset(seed=bad))
    if not (isinstance(bad, np.ndarray) and bad.dtype == object):  # None for each of three: none
        refused_and_unchanged(batch, lambda: batch.reset(seed=bad), "expected")
    with pytest.raises((ValueError, gym.error.Error)):
        accepted.seed(bad)


@given(st.integers(0, 2**70))
def test_seeds_are_any_integers(value):
    assert accepted.seed(value) == value and accepted.seeds(value, 2) == [value, value + 1]


# --- actions ----------------------------------------------------------------------------------------------------------


@LAX
@given(bad=odd)
def test_what_is_no_action(env, batch, bad):
    refused_and_unchanged(env, lambda: env.step(bad))
    refused_and_unchanged(batch, lambda: batch.step([bad] * 3))


@pytest.mark.parametrize(
    "good",
    [
        [0, 0, 0],
        (0.0, 0, 0),
        np.zeros(3, np.float16),
        np.zeros(3, np.int8),
        torch.zeros(3),
        torch.zeros(3, requires_grad=True),
    ],
)
def test_numbers_of_the_shape_are_an_action(env, good):
    state = env.get_state()
    expected = env.step(ACTION)[0]
    env.set_state(state)
    np.testing.assert_array_equal(env.step(good)[0], expected)
    env.set_state(state)


# --- states -----------------------------------------------------------------------------------------------------------


def wrong_states(state: dict) -> dict[str, dict]:
    """States that differ in one thing from a right one."""
    latents, made = state["latents"], {}
    for name, value in (("NaN", np.nan), ("inf", np.inf)):
        made[f"{name} latents"] = state | {
            "latents": np.where(np.arange(latents.size).reshape(latents.shape) == 7, value, latents)
        }
        made[f"{name} pose"] = state | {"proprioception": np.full_like(state["proprioception"], value)}
    made |= {
        f"{key} is {value!r}": state | {key: np.array(value)}
        for key in ("seed", "episode", "step")
        for value in (-1, 1.7, np.nan, True, "3", 2**64)
    }
    made |= {f"without {key}": {k: v for k, v in state.items() if k != key} for key in state if key != "frame"}
    made |= {
        "complex": state | {"latents": latents + 1j},
        "broadcast": state | {"latents": latents[:1, :1, :1, :1]},
        "float frame": state | {"frame": state["frame"].astype(float)},
        "ended is 2": state | {"ended": 2},
        "one pixel": state | {"frame": state["frame"][:1, :1]},
        "text": state | {"latents": "latents"},
        "ragged": state | {"latents": [[1], [1, 2]]},
    }
    return made


def test_a_wrong_state_changes_nothing(env):
    for name, wrong in wrong_states(env.get_state()).items():
        calls = [lambda: env.set_state(wrong), lambda: env.reset(options={"world_state": wrong})]
        for call in calls[: 1 if COUNTERS & set(name.split()) else 2]:
            with subtest(name):
                refused_and_unchanged(env, call, "world_state")
    for odd_state in (None, 3, "state", [1], np.zeros(3)):
        refused_and_unchanged(env, lambda: env.set_state(odd_state), "world_state.*expected")


def test_a_wrong_state_among_several_changes_none(batch):
    good = batch.get_state()
    for name, wrong in wrong_states({key: value[2] for key, value in good.items()}).items():
        if set(wrong) != set(good):
            continue
        batch.step(np.full((3, 3), 0.5))
        rows = {key: [good[key][0], good[key][1], wrong[key]] for key in good}
        calls = [lambda: batch.set_state(rows), lambda: batch.reset(options={"world_state": rows})]
        for call in calls[: 1 if COUNTERS & set(name.split()) else 2]:
            with subtest(name):
                refused_and_unchanged(batch, call, "world_state")


@LAX
@given(bad=odd, key=st.sampled_from(["episode", "t"]))
def test_what_is_no_place_in_the_bank(env, bad, key):
    refused_and_unchanged(env, lambda: env.reset(options={"episode": 0, key: bad}), "expected|bank|episode|hold")


def test_a_batch_reset_with_one_wrong_option_changes_none(batch):
    refused_and_unchanged(batch, lambda: batch.reset(options={"episode": [0, 1, 999]}), "999")
    picture = np.zeros((3, 64, 64, 3), np.uint8)
    pose = np.zeros((3, 3))
    pose[2, 1] = np.nan
    refused_and_unchanged(batch, lambda: batch.reset(options={"image": picture, "proprioception": pose}))


# --- limits and others ------------------------------------------------------------------------------------------------


@LAX
@given(bad=odd.filter(lambda value: value is not None and not (type(value) is int and value == -1)))
def test_what_is_no_horizon(world, batch, bad):
    with pytest.raises(ValueError, match="expected"):
        WorldEnv(world, backend="torch", max_episode_steps=bad)
    horizons = batch.get_attr("horizon")
    with pytest.raises(ValueError):
        batch.set_attr("horizon", [5, 6, bad])
    assert batch.get_attr("horizon") == horizons


@LAX
@given(bad=odd.filter(lambda value: value is not None and type(value) not in (int, bool)))
def test_what_is_no_threshold(world, bad):
    if type(bad) is float and 0 <= bad <= 2:
        return
    with pytest.raises(ValueError, match="expected"):
        WorldEnv(world, backend="torch", success_threshold=bad)


def test_stable_baselines_seed(world):
    env = WorldVecEnv(2, world=world, backend="torch")
    env.seed(np.int64(5))
    first = env.reset()
    env.seed(5)
    np.testing.assert_array_equal(first, env.reset())
    for bad in ("5", 1.5, -1):
        with pytest.raises(ValueError, match="expected"):
            env.seed(bad)
