"""Does the vector environment do, array by array, what Gymnasium's own does over single environments?"""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st

from wm_gym.env import WorldEnv
from wm_gym.vector import WorldVectorEnv

N = 3
HORIZONS = [2, 3, 5]
ZERO = np.zeros((N, 3), np.float32)


def make(world, mode="NextStep", **kwargs) -> WorldVectorEnv:
    env = WorldVectorEnv(N, world=world, backend="torch", autoreset_mode=mode, **kwargs)
    env.set_attr("horizon", HORIZONS)
    return env


def assert_same(ours, theirs, path="") -> None:
    """Equal structure, dtypes, masks and counts; numbers equal up to the arithmetic of another batch size."""
    assert type(ours) is type(theirs), path
    if isinstance(ours, dict):
        assert set(ours) == set(theirs), path
        for key in ours:
            assert_same(ours[key], theirs[key], f"{path}/{key}")
    elif isinstance(ours, np.ndarray) and ours.dtype == object:
        for a, b in zip(ours, theirs, strict=True):
            assert_same(a, b, path)
    elif isinstance(ours, np.ndarray):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape, path
        if ours.dtype == np.uint8:
            assert np.abs(ours.astype(int) - theirs).max() <= 2, path
        else:
            np.testing.assert_allclose(ours, theirs, atol=1e-3, err_msg=path)


@pytest.mark.parametrize("observation", ["pixels", "pixels+state"])
@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_every_array_at_every_step_is_that_of_sync_vector_env(world, mode, observation):
    ours = make(world, mode, observation=observation)
    theirs = SyncVectorEnv([lambda: WorldEnv(world, backend="torch", observation=observation)] * N, autoreset_mode=mode)
    theirs.set_attr("horizon", HORIZONS)
    assert ours.metadata["autoreset_mode"] is theirs.metadata["autoreset_mode"]
    assert ours.observation_space == theirs.observation_space and ours.action_space == theirs.action_space
    assert_same(ours.reset(seed=3), theirs.reset(seed=3))
    rng = np.random.default_rng(0)
    ends = 0
    for _ in range(14):
        actions = rng.uniform(-1, 1, (N, 3)).astype(np.float32)
        a, b = ours.step(actions), theirs.step(actions)
        assert_same(a, b)
        ends += a[3].sum()
    assert ends >= 8


def test_next_step_ignores_the_action_after_the_end_and_gives_the_reset(world):
    env = make(world)
    env.reset(seed=0)
    env.step(ZERO)
    last, _, _, truncated, _ = env.step(ZERO)
    assert truncated.tolist() == [True, False, False]
    actions = ZERO.copy()
    actions[0] = np.nan  # of no consequence there
    observation, reward, terminated, truncated, info = env.step(actions)
    assert reward[0] == 0 and not terminated[0] and not truncated[0] and info["reward/progress"][0] == 0
    start = WorldEnv(world, backend="torch")
    start.reset(seed=0)
    np.testing.assert_array_equal(observation[0], start.reset()[0])  # the next episode of the same stream
    assert (observation[1] != last[1]).any() and truncated[1]
    assert env.call("elapsed_steps") == (0, 3, 3)


def test_same_step_gives_the_final_observation_beside_the_new_one(world):
    env, single = make(world, "SAME_STEP"), WorldEnv(world, backend="torch")
    env.reset(seed=0)
    env.step(ZERO)
    observation, _, _, truncated, info = env.step(ZERO)
    assert truncated.tolist() == info["_final_obs"].tolist() == info["_final_info"].tolist() == [True, False, False]
    assert info["final_obs"].dtype == object and info["final_obs"][1] is None
    single.reset(seed=0)
    np.testing.assert_array_equal(observation[0], single.reset()[0])
    assert (info["final_obs"][0] != observation[0]).any()
    final = info["final_info"]
    assert isinstance(final, dict) and final["_is_success"].tolist() == [True, False, False]
    assert final["uncertainty"][0] > 0 and info["uncertainty"][0] == 0  # of the last step, and of the reset


def test_disabled_wants_a_reset_of_what_ended(world):
    env = make(world, AutoresetMode.DISABLED)
    env.reset(seed=0)
    env.step(ZERO)
    before, _, _, truncated, _ = env.step(ZERO)
    with pytest.raises(ResetNeeded, match=r"slot \[0\] has ended"):
        env.step(ZERO)
    options = {"reset_mask": truncated}
    after, info = env.reset(options=options)
    assert "reset_mask" in options  # the caller's dict is left alone
    assert info["_success"].tolist() == [True, False, False]
    np.testing.assert_array_equal(after[1:], before[1:])
    assert (after[0] != before[0]).any()
    assert env.step(ZERO)[3].tolist() == [False, True, False]
    assert env.call("elapsed_steps") == (1, 3, 3)
    reseeded, _ = env.reset(seed=[7, None, None], options={"reset_mask": np.array([True, False, False])})
    np.testing.assert_array_equal(reseeded[0], WorldEnv(world, backend="torch").reset(seed=7)[0])


@pytest.mark.parametrize("mask", [np.zeros(N, bool), np.ones(N, int), np.ones(2, bool)])
def test_a_wrong_reset_mask_is_named(world, mask):
    env = make(world, "Disabled")
    env.reset()
    with pytest.raises(ValueError, match="reset_mask"):
        env.reset(options={"reset_mask": mask})


def test_the_first_reset_is_of_all(world):
    with pytest.raises(ResetNeeded, match="first reset"):
        make(world, "Disabled").reset(options={"reset_mask": np.array([True, False, False])})


def test_make_vec_passes_everything_on(folder):
    env = gym.make_vec(
        "wm_gym/World-v0",
        N,
        world=folder,
        backend="torch",
        render_mode="rgb_array",
        max_episode_steps=4,
        autoreset_mode="SameStep",
        observation="latent",
    )
    assert isinstance(env, WorldVectorEnv) and env.spec.id == "wm_gym/World-v0"
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP and env.metadata["render_fps"] == 10
    observation, _ = env.reset(seed=0)
    assert observation in env.observation_space and observation.shape == (N, 4 * 16 * 16)
    frames = env.render()
    assert isinstance(frames, tuple) and frames[0].shape == (64, 64, 3) and frames[0].dtype == np.uint8
    assert [env.step(ZERO)[3].all() for _ in range(4)] == [False, False, False, True]


def test_slot_i_has_seed_plus_i(world):
    frames = make(world).reset(seed=20)[0]
    for i in range(N):
        np.testing.assert_array_equal(frames[i], WorldEnv(world, backend="torch").reset(seed=20 + i)[0])
    with pytest.raises(ValueError, match="3 environments"):
        make(world).reset(seed=[1, 2])
    with pytest.raises(ValueError, match="seed is -4"):
        make(world).reset(seed=[1, 2, -4])


def test_call_get_attr_and_set_attr(world):
    env = make(world, render_mode="rgb_array")
    env.reset(seed=0)
    assert env.call("task_description") == ("touch the red ball",) * N
    assert env.call("_max_episode_steps") == env.get_attr("horizon") == tuple(HORIZONS)
    np.testing.assert_array_equal(env.call("render")[1], env.render()[1])
    env.set_attr("note", ["a", "b", "c"])
    assert env.get_attr("note") == ("a", "b", "c") and env.envs[1].note == "b"
    env.set_attr("_max_episode_steps", 7)
    assert env.get_attr("horizon") == (7, 7, 7)
    with pytest.raises(ValueError, match="3 environments"):
        env.set_attr("note", [1])
    with pytest.raises(AttributeError):
        env.get_attr("nothing")


def test_reset_options_have_a_batch_axis(world):
    env, starts = make(world), world.starts
    rows = [starts.index(e, 5) for e in (2, 0, 1)]
    bank, info = env.reset(options={"episode": np.array([2, 0, 1]), "t": 5})
    np.testing.assert_array_equal(info["proprioception"], starts.proprioception[rows, -1])
    given, info = env.reset(
        options={
            "image": starts.frames[rows],
            "actions": starts.actions[rows],
            "proprioception": starts.proprioception[rows],
        }
    )
    np.testing.assert_array_equal(given, bank)
    pictures, _ = env.reset(options={"image": starts.frames[rows, -1]})
    np.testing.assert_array_equal(pictures, bank)
    env.step(ZERO)
    saved, frames = env.get_state(), env.core.observation()
    env.reset(seed=1)
    np.testing.assert_array_equal(env.reset(options={"world_state": saved})[0], frames)
    with pytest.raises(ValueError, match="3 environments"):
        env.reset(options={"image": starts.frames[rows[:2], -1]})
    with pytest.raises(ValueError, match="different ways"):
        env.reset(options={"image": starts.frames[rows, -1], "episode": 0})


@pytest.mark.parametrize(
    "actions, words",
    [
        (np.zeros((2, 3)), r"\[2, 3\], expected \[3, 3\]"),
        (np.zeros(3), r"expected \[3, 3\]"),
        (np.array([[0, 0, 0], [0, 2, 0], [0, 0, 0]]), "2 at index 1 of environment 1"),
        (np.full((3, 3), np.nan), "nan at index 0 of environment 0"),
    ],
)
def test_wrong_actions_are_named(world, actions, words):
    env = make(world)
    env.reset()
    with pytest.raises(ValueError, match=words):
        env.step(actions)


def test_order_of_calls(world):
    env = make(world)
    with pytest.raises(ResetNeeded):
        env.step(ZERO)
    env.reset()
    env.close()
    env.close()
    for call in (env.reset, lambda: env.step(ZERO), lambda: env.call("render")):
        with pytest.raises(ClosedEnvironmentError):
            call()
    with pytest.raises(ValueError, match="NextStep"):
        make(world, "Sometimes")


def test_gymnasium_wrappers_work(world, tmp_path):
    env = gym.wrappers.vector.RecordEpisodeStatistics(make(world, render_mode="rgb_array"))
    env = gym.wrappers.vector.DictInfoToList(env)
    env.reset(seed=0)
    lengths = [[], [], []]
    for _ in range(12):
        *_, infos = env.step(ZERO)
        for i, info in enumerate(infos):
            if "episode" in info:
                lengths[i].append(int(info["episode"]["l"]))
    assert [set(found) for found in lengths] == [{h} for h in HORIZONS]
    latent = gym.wrappers.vector.NormalizeObservation(make(world, observation="latent"))
    assert np.isfinite(latent.reset(seed=0)[0]).all() and np.isfinite(latent.step(ZERO)[0]).all()


@settings(max_examples=20, deadline=None)
@given(
    horizons=st.lists(st.integers(1, 5), min_size=N, max_size=N),
    steps=st.integers(1, 12),
    mode=st.sampled_from(["NextStep", "SameStep"]),
)
def test_any_horizons_keep_every_counter_right(world, horizons, steps, mode):
    env = make(world, mode, observation="latent")
    env.set_attr("horizon", horizons)
    env.reset(seed=0)
    elapsed, episodes, over = [0] * N, [0] * N, [False] * N
    for _ in range(steps):
        observation, reward, terminated, truncated, info = env.step(ZERO)
        for i, horizon in enumerate(horizons):
            if mode == "NextStep" and over[i]:
                elapsed[i], episodes[i], over[i] = 0, episodes[i] + 1, False
                assert reward[i] == 0
            else:
                elapsed[i] += 1
                over[i] = elapsed[i] >= horizon
            assert bool(truncated[i]) == over[i] and not terminated[i]
            if mode == "SameStep" and over[i]:
                assert info["_final_obs"][i] and info["final_obs"][i] in env.single_observation_space
                elapsed[i], episodes[i] = 0, episodes[i] + 1
        assert env.core.steps.tolist() == elapsed and env.core.episodes.tolist() == episodes
        assert observation in env.observation_space
        assert all(info[f"_{key}"].shape == (N,) for key in info if not key.startswith("_"))


@pytest.mark.parametrize("observation", ["pixels", "pixels+state", "latent"])
@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_torch_output_is_the_same_in_tensors(world, mode, observation):
    plain, tensors = (
        make(world, mode, observation=observation, max_episode_steps=3, output=output) for output in ("numpy", "torch")
    )
    pairs = [(plain.reset(seed=0)[0], tensors.reset(seed=0)[0])]
    actions = np.random.default_rng(0).uniform(-1, 1, (5, N, 3)).astype(np.float32)
    for action in actions:
        a, b = plain.step(action), tensors.step(torch.from_numpy(action))
        pairs += list(zip(a[:4], b[:4]))
        for i in np.flatnonzero(a[4].get("_final_obs", np.zeros(N, bool))):
            pairs.append((a[4]["final_obs"][i], b[4]["final_obs"][i]))
    for one, other in pairs:
        one, other = (x if isinstance(x, dict) else {"": x} for x in (one, other))
        for key, value in other.items():
            assert isinstance(value, torch.Tensor) and not value.is_inference()
            np.testing.assert_array_equal(value.numpy(), one[key])
    assert len(pairs) > 21 if mode == "SameStep" else len(pairs) == 21


def test_unknown_output_is_named(world):
    with pytest.raises(ValueError, match="output='jax'"):
        make(world, "NextStep", output="jax")
