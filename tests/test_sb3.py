"""Does Stable-Baselines3 find in a world everything that its algorithms look for?"""

import csv

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecFrameStack,
    VecMonitor,
    VecTransposeImage,
    is_vecenv_wrapped,
)
from tiny_world import make_world

from wm_gym.env import WorldEnv
from wm_gym.sb3 import VecDiscreteActions, WorldVecEnv, make_sb3_env
from wm_gym.wrappers import DiscreteActions

N = 3
HORIZONS = [2, 3, 5]
ZERO = np.zeros((N, 3), np.float32)


def make(world, **kwargs) -> WorldVecEnv:
    env = WorldVecEnv(N, world=world, backend="torch", **kwargs)
    for i, horizon in enumerate(HORIZONS):
        env.set_attr("horizon", horizon, indices=i)
    return env


@pytest.mark.parametrize("observation", ["pixels", "pixels+state"])
def test_every_array_at_every_step_is_that_of_dummy_vec_env(world, observation):
    ours = make(world, observation=observation)
    theirs = DummyVecEnv([lambda: WorldEnv(world, backend="torch", observation=observation) for _ in range(N)])
    for single, horizon in zip(theirs.envs, HORIZONS):
        single.horizon = horizon
    ours.seed(5), theirs.seed(5)

    def same(a, b):
        if isinstance(a, dict):
            assert set(a) == set(b)
            for key in a:
                same(a[key], b[key])
        elif isinstance(a, list):
            for x, y in zip(a, b, strict=True):
                same(x, y)
        else:
            assert type(a) is type(b) and np.asarray(a).dtype == np.asarray(b).dtype
            np.testing.assert_allclose(np.asarray(a, float), np.asarray(b, float), atol=2 if np.ndim(a) > 2 else 1e-3)

    same(ours.reset(), dict(theirs.reset()) if observation == "pixels+state" else theirs.reset())
    same(ours.reset_infos, theirs.reset_infos)
    rng = np.random.default_rng(0)
    for _ in range(12):
        actions = rng.uniform(-1, 1, (N, 3)).astype(np.float32)
        (obs_a, *a), (obs_b, *b) = ours.step(actions), theirs.step(actions)
        same(obs_a, dict(obs_b) if observation == "pixels+state" else obs_b)
        same(a, b)
        same(ours.reset_infos, theirs.reset_infos)


def test_the_end_of_an_episode(world):
    env = make(world)
    env.reset()
    env.step(ZERO)
    observation, _, done, infos = env.step(ZERO)
    assert done.tolist() == [True, False, False]
    assert infos[0]["TimeLimit.truncated"] is True and infos[1]["TimeLimit.truncated"] is False
    assert infos[0]["terminal_observation"].shape == (64, 64, 3) and "terminal_observation" not in infos[1]
    assert (infos[0]["terminal_observation"] != observation[0]).any()
    assert env.reset_infos[0]["uncertainty"] == 0 and infos[0]["uncertainty"] > 0


def test_success_is_no_time_limit():
    env = WorldVecEnv(2, world=make_world(horizon=1, success_threshold=0.0), backend="torch")
    env.reset()
    _, _, done, infos = env.step(ZERO[:2])
    assert done.all() and infos[0]["is_success"] is True and infos[0]["TimeLimit.truncated"] is False


def test_seeds_and_options_apply_once(world):
    env = make(world)
    assert list(env.seed(7)) == [7, 8, 9]
    first, second = env.reset(), env.reset()
    env.seed(7)
    np.testing.assert_array_equal(env.reset(), first)
    np.testing.assert_array_equal(env.reset(), second)
    env.set_options({"episode": 1, "t": 5})
    chosen = env.reset()
    assert (chosen == chosen[0]).all()
    env.set_options([{"episode": e, "t": 0} for e in range(3)])
    assert len({frame.tobytes() for frame in env.reset()}) == 3
    assert env._options == [{}] * N and env._seeds == [None] * N


def test_attributes_methods_and_pictures(world):
    env = make(world, render_mode="rgb_array")
    env.reset()
    assert env.render_mode == "rgb_array" and env.get_attr("horizon", indices=[0, 2]) == [2, 5]
    assert env.env_is_wrapped(gym.Wrapper, indices=1) == [False] and len(env.env_is_wrapped(gym.Wrapper)) == N
    assert env.has_attr("task_description") and not env.has_attr("nothing")
    state = env.env_method("get_state", indices=1)[0]
    env.env_method("set_state", state, indices=2)
    images = env.get_images()
    np.testing.assert_array_equal(images[1], images[2])
    assert env.render().shape == (128, 128, 3)  # a 2 x 2 tiling


def test_order_of_calls(world):
    env = make(world)
    with pytest.raises(ResetNeeded):
        env.step(ZERO)
    env.reset()
    with pytest.raises(ValueError, match="environment 0"):
        env.step(ZERO + 2)
    env.close()
    with pytest.raises(ClosedEnvironmentError):
        env.step(ZERO)


def test_make_sb3_env_monitors_learned_ids(folder, tmp_path):
    env = make_sb3_env(
        "wm_gym/World-v0",
        N,
        seed=3,
        world=folder,
        backend="torch",
        max_episode_steps=4,
        monitor_file=tmp_path / "monitor.csv",
    )
    assert isinstance(env, VecMonitor) and isinstance(env.unwrapped, WorldVecEnv)
    np.testing.assert_array_equal(env.reset()[1], WorldEnv(folder, backend="torch").reset(seed=4)[0])
    infos = [env.step(ZERO)[3] for _ in range(4)][-1]
    assert all(info["episode"]["l"] == 4 for info in infos)
    env.close()
    rows = list(csv.reader((tmp_path / "monitor.csv").read_text().splitlines()))
    assert "wm_gym/World-v0" in ",".join(rows[0]) and len(rows) == 2 + N


def test_make_sb3_env_takes_any_id_and_names_what_there_is():
    env = make_sb3_env("CartPole-v1", 1, seed=0)
    assert isinstance(env, VecMonitor) and isinstance(env.unwrapped, DummyVecEnv)
    with pytest.raises(gym.error.UnregisteredEnv, match="wm_gym/World-v0"):
        make_sb3_env("wm_gym/Nothing-v0")


def test_other_ids_run_in_processes():
    env = make_sb3_env("CartPole-v1", 2, seed=0)
    assert isinstance(env.unwrapped, SubprocVecEnv)
    expected = [gym.make("CartPole-v1").reset(seed=i)[0] for i in range(2)]
    np.testing.assert_array_equal(env.reset(), expected)
    env.close()


def test_a_wrapper_class_goes_around_each_environment(folder):
    env = make_sb3_env(
        "wm_gym/World-v0", 2, seed=1, world=folder, backend="torch", wrapper_class=gym.wrappers.GrayscaleObservation
    )
    assert env.reset().shape == (2, 64, 64) and isinstance(env.unwrapped, DummyVecEnv)


def test_discrete_actions_keep_the_batch(folder):
    env = make_sb3_env("wm_gym/World-v0", 2, seed=1, world=folder, backend="torch", wrapper_class=DiscreteActions)
    assert isinstance(env.unwrapped, WorldVecEnv) and is_vecenv_wrapped(env, VecDiscreteActions)
    single = DiscreteActions(WorldEnv(folder, backend="torch"))
    env.reset(), single.reset(seed=2)
    ours, theirs = env.step(np.array([0, 4]))[0][1], single.step(4)[0]
    assert np.abs(ours.astype(int) - theirs).max() <= 2


@pytest.mark.parametrize(
    "observation, policy", [("pixels", "CnnPolicy"), ("pixels+state", "MultiInputPolicy"), ("latent", "MlpPolicy")]
)
def test_ppo_trains_unchanged(folder, observation, policy):
    env = make_sb3_env("wm_gym/World-v0", 2, seed=0, world=folder, backend="torch", observation=observation)
    model = PPO(policy, env, n_steps=16, batch_size=16, n_epochs=1, seed=0, device="cpu")
    model.learn(32)
    if observation == "pixels":
        assert is_vecenv_wrapped(model.get_env(), VecTransposeImage)
    assert len(model.ep_info_buffer) == 2  # monitored: horizon 10
    mean, _ = evaluate_policy(model, env, n_eval_episodes=2)
    assert np.isfinite(mean)


def test_sac_and_dqn_train_unchanged(folder):
    arguments = dict(world=folder, backend="torch", observation="latent", seed=0)
    small = dict(learning_starts=8, batch_size=8, buffer_size=100, seed=0, device="cpu")
    discrete = make_sb3_env("wm_gym/World-v0", 2, wrapper_class=DiscreteActions, **arguments)
    alone = DiscreteActions(WorldEnv(folder, observation="latent", backend="torch"))
    for algorithm, env in ((SAC, make_sb3_env("wm_gym/World-v0", 2, **arguments)), (DQN, discrete), (DQN, alone)):
        model = algorithm("MlpPolicy", env, **small).learn(24)
        assert model.num_timesteps == 24 and model._n_updates > 0 and np.isfinite(model.replay_buffer.rewards).all()


def test_frame_stack(folder):
    env = VecFrameStack(make_sb3_env("wm_gym/World-v0", 2, world=folder, backend="torch"), 3)
    assert env.reset().shape == (2, 64, 64, 9)
    for _ in range(10):
        observation, _, done, infos = env.step(ZERO[:2])
    assert done.all() and infos[0]["terminal_observation"].shape == (64, 64, 9)


def test_training_is_reproducible(folder):
    weights = []
    for _ in range(2):
        env = make_sb3_env("wm_gym/World-v0", 2, seed=0, world=folder, backend="torch", observation="latent")
        model = PPO("MlpPolicy", env, n_steps=16, batch_size=16, n_epochs=1, seed=0, device="cpu").learn(64)
        weights.append(model.policy.action_net.weight.detach().numpy().copy())
    np.testing.assert_array_equal(*weights)
