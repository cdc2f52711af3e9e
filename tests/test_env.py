"""Does a learned environment keep Gymnasium's contract, and say clearly what is wrong with bad input?"""

import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.utils.env_checker import check_env
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from tiny_world import make_world

from wm_gym.common.registry import env_ids
from wm_gym.env import WorldEnv
from wm_gym.registration import is_learned

ACTION = np.zeros(3, np.float32)


@pytest.fixture
def env(world):
    return WorldEnv(world, backend="torch", render_mode="rgb_array")


# --- the checkers -----------------------------------------------------------------------------------------------------


@pytest.mark.auto
@pytest.mark.parametrize("observation", ["pixels", "pixels+state", "latent"])
@pytest.mark.parametrize("render_mode", [None, "rgb_array"])
def test_both_checkers_pass_without_a_warning(folder, observation, render_mode):
    backend = "torch" if render_mode else "auto"
    env = gym.make("wm_gym/World-v0", world=folder, observation=observation, render_mode=render_mode, backend=backend)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)
        sb3_check_env(env.unwrapped, skip_render_check=False)


@pytest.mark.auto
@pytest.mark.release
@pytest.mark.parametrize("env_id", [i for i in env_ids() if i != "wm_gym/World-v0"])
@pytest.mark.parametrize("observation", ["pixels", "pixels+state"])
def test_both_checkers_pass_on_what_is_shipped(env_id, observation):
    if not is_learned(gym.spec(env_id)):
        pytest.importorskip("pybullet")
    env = gym.make(env_id, observation=observation)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)
        sb3_check_env(env.unwrapped)


@pytest.mark.parametrize("env_id", [i for i in env_ids() if i != "wm_gym/World-v0" and is_learned(gym.spec(i))])
def test_a_shipped_world_and_its_twin_have_identical_spaces(env_id):
    pytest.importorskip("pybullet")
    for observation in ("pixels", "pixels+state"):
        env = gym.make(env_id, observation=observation)
        twin = gym.make(env.unwrapped.core.spec.twin, observation=observation)
        assert twin.observation_space == env.observation_space and twin.action_space == env.action_space
        assert twin.spec.max_episode_steps == env.spec.max_episode_steps


# --- episodes ---------------------------------------------------------------------------------------------------------


def test_types_shapes_and_the_sum_of_the_reward_terms(env):
    observation, info = env.reset(seed=0)
    assert observation.dtype == np.uint8 and observation.shape == (64, 64, 3)
    keys = set(info)
    observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
    assert type(reward) is float and type(terminated) is bool and type(truncated) is bool
    assert reward == info["reward/progress"] + info["reward/success"]
    assert set(info) == keys and type(info["success"]) is bool and type(info["uncertainty"]) is float
    assert info["uncertainty"] == pytest.approx(info["uncertainty_map"].mean(), rel=1e-5)
    assert info["proprioception"].shape == (3,) and info["proprioception"].dtype == np.float32
    np.testing.assert_array_equal(env.render(), observation)


def test_modes_of_observation_agree(world):
    envs = {
        mode: WorldEnv(world, observation=mode, backend="torch", render_mode="rgb_array")
        for mode in ("pixels", "pixels+state", "latent")
    }
    for step in range(4):
        seen = {mode: env.step(ACTION + 0.3) if step else env.reset(seed=6) for mode, env in envs.items()}
        pixels, both, latent = (seen[mode][0] for mode in envs)
        np.testing.assert_array_equal(both["pixels"], pixels)
        np.testing.assert_array_equal(both["agent_pos"], seen["pixels"][-1]["proprioception"])
        np.testing.assert_array_equal(latent, envs["pixels"].get_state()["latents"][-1].ravel())
        np.testing.assert_array_equal(envs["latent"].render(), envs["pixels"].render())
    assert not envs["latent"].core.engine.decode


def test_episodes_end_by_success(world):
    certain = make_world(success_threshold=0.0)
    env = WorldEnv(certain, backend="torch")
    env.reset(seed=0)
    _, _, terminated, truncated, info = env.step(ACTION)
    assert terminated and not truncated and info["success"] and info["is_success"]
    with pytest.raises(ResetNeeded, match="has ended"):
        env.step(ACTION)
    env.reset()
    assert not env.step(ACTION)[3]
    whole = WorldEnv(certain, backend="torch", terminate_on_success=False)
    whole.reset(seed=0)
    _, _, terminated, truncated, info = whole.chunk_step(np.zeros((20, 3), np.float32))
    assert info["steps"] == 10 and info["success"] and truncated and not terminated
    strict = WorldEnv(certain, backend="torch", success_threshold=1.0)
    strict.reset(seed=0)
    _, _, terminated, truncated, info = strict.chunk_step(np.zeros((20, 3), np.float32))
    assert info["steps"] == 10 and truncated and not terminated and not info["success"]
    with pytest.raises(ValueError, match="success_threshold is 1.5, expected a probability"):
        WorldEnv(certain, backend="torch", success_threshold=1.5)


@pytest.mark.parametrize("limit, length", [(None, 10), (4, 4), (25, 25)])
def test_the_limit_given_to_make_holds_also_beyond_the_horizon(folder, limit, length):
    limits = {} if limit is None else {"max_episode_steps": limit}
    env = gym.make("wm_gym/World-v0", world=folder, backend="torch", **limits)
    env.reset(seed=0)
    ends = [env.step(ACTION)[3] for _ in range(length)]
    assert ends == [False] * (length - 1) + [True]
    env.reset()
    assert env.unwrapped.chunk_step(np.zeros((40, 3), np.float32))[4]["steps"] == length
    assert env.get_wrapper_attr("_max_episode_steps") == length


def test_no_limit(folder):
    env = gym.make("wm_gym/World-v0", world=folder, backend="torch", max_episode_steps=-1)
    env.reset(seed=0)
    assert not any(env.step(ACTION)[3] for _ in range(30))


def test_chunk_step_is_a_row_of_steps(env):
    actions = np.random.default_rng(0).uniform(-1, 1, (6, 3)).astype(np.float32)
    env.reset(seed=2)
    steps = [env.step(a) for a in actions]
    env.reset(seed=2)
    observation, total, terminated, truncated, info = env.chunk_step(actions)
    np.testing.assert_array_equal(observation, steps[-1][0])
    assert total == pytest.approx(sum(s[1] for s in steps)) and info["steps"] == 6 and not truncated
    assert env.chunk_step(actions)[3] and env.core.steps[0] == 10
    with pytest.raises(ValueError, match=r"\[T, A\]"):
        env.chunk_step(actions[0])


# --- reset options ----------------------------------------------------------------------------------------------------


def test_start_from_a_picture_is_the_start_of_the_bank(env, world):
    bank = env.reset(seed=0, options={"episode": 2, "t": 5})[0]
    row = world.starts.index(2, 5)
    clip, pose = world.starts.frames[row], world.starts.proprioception[row]
    again, info = env.reset(
        seed=0, options={"image": clip, "actions": world.starts.actions[row], "proprioception": pose}
    )
    np.testing.assert_array_equal(bank, again)
    np.testing.assert_array_equal(info["proprioception"], pose[-1])
    picture, info = env.reset(options={"image": clip[-1]})
    np.testing.assert_array_equal(bank, picture)  # the round trip of the same last picture
    assert np.isfinite(info["proprioception"]).all()  # estimated from the picture
    np.testing.assert_array_equal(
        env.reset(options={"image": clip[-1], "proprioception": pose[-1]})[1]["proprioception"], pose[-1]
    )


def test_a_saved_state_starts_a_new_episode(env):
    env.reset(seed=0)
    env.chunk_step(np.ones((4, 3), np.float32))
    saved, frame = env.get_state(), env.render()
    observation, _ = env.reset(seed=9, options={"world_state": saved})
    np.testing.assert_array_equal(observation, frame)
    assert env.core.steps[0] == 0 and env.core.seeds[0] == 9


PICTURE = np.zeros((64, 64, 3), np.uint8)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"image": PICTURE[:32]}, "expected uint8 .64, 64, 3."),
        ({"image": PICTURE.astype(np.float32)}, "float32"),
        ({"image": PICTURE[None, None]}, "expected uint8"),
        ({"image": np.stack([PICTURE] * 3), "actions": np.zeros((3, 3))}, r"\[2, 3\]"),
        ({"image": PICTURE, "proprioception": np.zeros(2)}, r"\[1, 3\]"),
        ({"image": PICTURE, "proprioception": np.full(3, np.nan)}, "NaN"),
        ({"image": PICTURE, "episode": 0}, "different ways"),
        ({"actions": np.zeros((1, 3))}, "needs 'image'"),
        ({"t": 3}, "needs 'episode'"),
        ({"episode": 99}, "episode=99"),
        ({"episode": 0, "t": 3}, r"steps \[0, 5\]"),
        ({"world_state": {}}, "lacks"),
        (
            {"world_state": dict.fromkeys(("latents", "first", "proprioception", "error_distribution"), PICTURE)},
            "fits only the world",
        ),
        ({"world_state": 3}, "get_state"),
        ({"physics_state": np.zeros(7)}, "belongs to the twin"),
        ({"start": 1}, "unknown"),
    ],
)
def test_wrong_reset_options_are_named_and_change_nothing(env, options, words):
    env.reset(seed=0)
    before = env.get_state()
    with pytest.raises(ValueError, match=words):
        env.reset(options=options)
    for key, value in env.get_state().items():
        np.testing.assert_array_equal(value, before[key])


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "action, words",
    [
        (np.zeros(2), r"shape \[2\], expected \[3\]"),
        (np.zeros((1, 3)), r"expected \[3\]"),
        (0.5, r"expected \[3\]"),
        ([0, np.nan, 0], "nan at index 1"),
        ([0, 0, 1.01], r"1.01.* at index 2.*\[-1.0, 1.0\]"),
        ([np.inf, 0, 0], "inf"),
        (["a", "b", "c"], "not numeric"),
    ],
)
def test_wrong_actions_are_named_and_change_nothing(env, action, words):
    env.reset(seed=0)
    before = env.get_state()
    with pytest.raises(ValueError, match=words):
        env.step(action)
    for key, value in env.get_state().items():
        np.testing.assert_array_equal(value, before[key])
    env.step(np.array([1 + 1e-7, -1, 0]))  # rounding is not an error


def test_step_before_reset_and_after_close(world):
    env = WorldEnv(world, backend="torch", render_mode="rgb_array")
    for call in (lambda: env.step(ACTION), env.render, env.get_state):
        with pytest.raises(ResetNeeded, match="reset"):
            call()
    env.reset()
    env.close()
    env.close()
    for call in (lambda: env.step(ACTION), env.render, env.get_state):
        with pytest.raises(ClosedEnvironmentError, match="after close"):
            call()
    env.reset()
    env.step(ACTION)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"observation": "rgb"}, "pixels\\+state"),
        ({"render_mode": "human"}, "rgb_array"),
        ({"backend": "tensorrt9"}, "tensorrt9"),
        ({"max_episode_steps": 0}, "max_episode_steps is 0"),
    ],
)
def test_wrong_arguments_are_named(world, arguments, words):
    with pytest.raises(ValueError, match=words):
        WorldEnv(world, **arguments)


def test_wrong_seeds_are_named(env):
    with pytest.raises(gym.error.Error):
        env.reset(seed=-1)


def test_a_world_without_proprioception(tmp_path):
    world = make_world(proprioception=0)
    env = WorldEnv(world, backend="torch")
    env.reset(seed=0)
    assert env.step(ACTION)[4]["proprioception"].shape == (0,)
    with pytest.raises(ValueError, match="without proprioception"):
        WorldEnv(world, observation="pixels+state", backend="torch")


def test_a_world_is_loaded_once_a_process_and_again_when_it_changes(tmp_path):
    folder = make_world().save_pretrained(tmp_path / "w")
    first, second = WorldEnv(folder, backend="torch"), WorldEnv(str(folder), backend="torch")
    assert first.core.world is second.core.world and first.core.engine is second.core.engine
    make_world(seed=1).save_pretrained(folder)
    assert WorldEnv(folder, backend="torch").core.world is not first.core.world


# --- any sequence of calls --------------------------------------------------------------------------------------------

COMMANDS = st.one_of(
    st.tuples(st.just("step"), st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3)),
    st.tuples(st.just("reset"), st.one_of(st.none(), st.integers(0, 2**70))),
    st.tuples(st.just("start"), st.tuples(st.integers(0, 3), st.sampled_from([0, 5]))),
    st.tuples(st.just("chunk"), st.integers(1, 12)),
    st.tuples(st.just("fork"), st.none()),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(commands=st.lists(COMMANDS, min_size=1, max_size=12), mode=st.sampled_from(["pixels", "pixels+state", "latent"]))
def test_any_sequence_of_calls_keeps_spaces_and_counters(world, commands, mode):
    env = WorldEnv(world, observation=mode, backend="torch")
    observation, _ = env.reset(seed=0)
    steps, over, episode, seed = 0, False, 0, 0
    for name, value in commands:
        if name == "reset":
            observation, info = env.reset(seed=value)
            steps, over = 0, False
            episode, seed = (episode + 1, seed) if value is None else (0, value)
        elif name == "start":
            observation, info = env.reset(options={"episode": value[0], "t": value[1]})
            steps, over, episode = 0, False, episode + 1
        elif name == "fork":
            observation = env.set_state(env.get_state())
        elif over:
            with pytest.raises(ResetNeeded):
                env.step(ACTION)
        elif name == "step":
            observation, reward, terminated, truncated, info = env.step(value)
            steps += 1
            over = truncated
            assert np.isfinite(reward) and not terminated and truncated == (steps == 10)
        else:
            observation, _, _, truncated, info = env.chunk_step(np.zeros((value, 3)))
            assert info["steps"] == min(value, 10 - steps)
            steps += info["steps"]
            over = truncated
        assert observation in env.observation_space
        assert (env.core.steps[0], env.core.episodes[0], env.core.seeds[0]) == (steps, episode, seed % 2**64)


@pytest.mark.parametrize("starts, distinct", [("first", 4), ("any", 8)])
def test_where_episodes_begin(starts, distinct):
    env = WorldEnv(make_world(), starts=starts)
    assert len({env.reset(seed=seed)[0].tobytes() for seed in range(80)}) == distinct


def test_unknown_starts_are_refused():
    with pytest.raises(ValueError, match="'middle'.*'any'"):
        WorldEnv(make_world(), starts="middle")
