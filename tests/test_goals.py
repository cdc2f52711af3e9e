"""Does hindsight replay work in the world of an environment with goals, by that environment's own reward?"""

import pickle
import shutil

import gymnasium as gym
import numpy as np
import pytest
import vector_env  # noqa: F401
import yaml
from stable_baselines3 import SAC, HerReplayBuffer
from stable_baselines3.common.env_checker import check_env

from wm_gym.collect.record import record
from wm_gym.sb3 import make_sb3_env
from wm_gym.training import train

GOAL = "vector_env:wm_gym_test/Goal-v0"
FEW = {"pose_updates": 400, "outcome_updates": 100, "pose_width": 32, "checkpoint_every": 400}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("goal")
    data = record(GOAL, steps=400, out=folder / "data", workers=0, progress=False)
    return train(data, folder / "world", preset="state", overrides=FEW, progress=False)


def of_source(world, folder, env_id):
    """The same world, of another source."""
    copy = shutil.copytree(world, folder / "copy")
    spec = yaml.safe_load((copy / "spec.yaml").read_text()) | {"twin": env_id}
    (copy / "spec.yaml").write_text(yaml.safe_dump(spec))
    return str(copy)


def test_the_sources_own_reward_is_asked_and_paid(world):
    env, source = gym.make("wm_gym/World-v0", world=str(world)), gym.make(GOAL)
    check_env(env.unwrapped)  # step's reward is compute_reward's, one and a batch of goals
    goals = np.random.default_rng(0).uniform(-1, 1, (2, 50, 2)).astype(np.float32)
    expected = source.unwrapped.compute_reward(*goals, [{}] * 50)
    assert 0 > expected.mean() > -1
    np.testing.assert_array_equal(env.unwrapped.compute_reward(*goals, [{}] * 50), expected)
    envs = gym.make_vec("wm_gym/World-v0", 3, vectorization_mode="vector_entry_point", world=str(world))
    for rewards in envs.call("compute_reward", *goals, [{}] * 50):
        np.testing.assert_array_equal(rewards, expected)
    seen, _ = env.reset(seed=1)
    for _ in range(20):  # towards the goal
        seen, reward, terminated, truncated, info = env.step(
            np.clip(5 * (seen["desired_goal"] - seen["achieved_goal"]), -1, 1)
        )
        assert reward == source.unwrapped.compute_reward(seen["achieved_goal"], seen["desired_goal"], {})
        assert info["reward/reward"] == reward
        if reward == 0 or terminated or truncated:
            break
    assert reward == 0
    assert pickle.loads(pickle.dumps(env.unwrapped)).compute_reward(*goals, []).shape == (50,)


def test_her_learns_inside(world):
    venv = make_sb3_env("wm_gym/World-v0", 2, 0, world=str(world))
    model = SAC("MultiInputPolicy", venv, replay_buffer_class=HerReplayBuffer, learning_starts=100, seed=0)
    model.learn(150)
    batch = model.replay_buffer.sample(256)
    seen, goal = batch.next_observations["achieved_goal"], batch.observations["desired_goal"]
    expected = -((seen - goal).norm(dim=1) > 0.2).float()
    assert 0 > expected.mean() > -1
    np.testing.assert_array_equal(batch.rewards.squeeze(1).numpy(), expected.numpy())


def test_a_source_whose_steps_pay_something_else(world, tmp_path):
    env = gym.make("wm_gym/World-v0", world=of_source(world, tmp_path, "wm_gym_test/PaidGoal-v0")).unwrapped
    heads = env.core.world.heads
    heads.usual.fill_(5.0), heads.near_usual.fill_(1e30)
    env.reset(seed=0)
    assert env.step(env.action_space.sample())[1] == 5  # what the world has learned, and not compute_reward's
    assert env.compute_reward(np.zeros(2), np.zeros(2), {}) == 0


@pytest.mark.parametrize(
    "twin, words",
    [
        ("nomodule:x/Goal-v0", "never imported.*`import nomodule`"),
        ("wm_gym_test/Cart-v0", "wm_gym_test/Cart-v0 gives no compute_reward.*without HerReplayBuffer"),
    ],
)
def test_without_the_source_the_world_steps_and_says_what_is_missing(world, tmp_path, twin, words):
    env = gym.make("wm_gym/World-v0", world=of_source(world, tmp_path, twin)).unwrapped
    env.reset(seed=0)
    assert np.isfinite(env.step(env.action_space.sample())[1])
    with pytest.raises(ValueError, match=words):
        env.compute_reward(np.zeros(2), np.zeros(2), {})


def test_a_world_without_goals_has_no_such_method(tiny_world_folder):
    env = gym.make("wm_gym/World-v0", world=str(tiny_world_folder))
    assert not hasattr(env.unwrapped, "compute_reward")
    venv = make_sb3_env("wm_gym/World-v0", 2, 0, world=str(tiny_world_folder))
    with pytest.raises(AttributeError, match="no hindsight replay"):
        venv.env_method("compute_reward", 0, 0, {})
