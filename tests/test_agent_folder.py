"""Do policies survive on the disk, without pickles?"""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import yaml
from dot_reach import DotReach, small_ppo
from stable_baselines3 import DQN, SAC
from stable_baselines3.common.env_util import make_vec_env

import wm_gym  # noqa: F401
from wm_gym.policies.agent import TENSORS_FILE
from wm_gym.policies.config import CONFIG_FILE
from wm_gym.policies.folder import decode_space, encode_space, save_agent
from wm_gym.policies.loaders import load_agent
from wm_gym.policies.recipe import load_recipe, sb3_arguments
from wm_gym.sb3 import make_sb3_env
from wm_gym.wrappers import DiscreteActions

TWIN = "wm_gym/ReachPyBullet-v0"
META = {
    "algo": "ppo",
    "policy": "CnnPolicy",
    "env_id": TWIN,
    "env_kwargs": {},
    "learned": False,
    "env_wrapper": None,
    "frame_stack": 1,
    "seed": 0,
    "n_timesteps": 0,
    "hyperparameters": {},
    "n_envs": 1,
    "trained_with": {"stable_baselines3": "2"},
}


@pytest.mark.parametrize("state", [False, True])
def test_agent_folder_round_trip_acts_identically(tmp_path, state):
    env = make_vec_env(lambda: DotReach(state=state), 2, seed=3)
    model = small_ppo(env, "MultiInputPolicy" if state else "CnnPolicy")
    model.learn(32)
    folder = save_agent(model, tmp_path / "agent", {**META, "policy": "MultiInputPolicy" if state else "CnnPolicy"})
    agent = load_agent(folder)
    observation = env.reset()
    assert np.array_equal(agent.act(observation), model.predict(observation, deterministic=True)[0])
    assert {p.name for p in folder.iterdir()} == {CONFIG_FILE, TENSORS_FILE, "README.md"}
    assert not list(tmp_path.glob(".*"))
    again = agent.to_sb3(env)
    assert np.array_equal(again.predict(observation, deterministic=True)[0], agent.act(observation))


@pytest.mark.parametrize("kind, algo", [(SAC, "sac"), (DQN, "dqn")])
def test_other_algorithms_round_trip(tmp_path, kind, algo):
    env = make_vec_env(DotReach, 1, seed=0, wrapper_class=DiscreteActions if algo == "dqn" else None)
    recipe = {**load_recipe(algo, "any"), "buffer_size": 100, "learning_starts": 8, "batch_size": 8}
    model = kind(env=env, device="cpu", seed=0, **sb3_arguments(algo, recipe, env.observation_space))
    model.learn(16)
    agent = load_agent(save_agent(model, tmp_path / algo, {**META, "algo": algo}))
    observation = env.reset()
    assert np.array_equal(agent.act(observation), model.predict(observation, deterministic=True)[0])


def test_shipped_agents_can_be_trained_on_in_stable_baselines3():
    agent = load_agent("ppo-Reach-v0")
    env = make_sb3_env("wm_gym/Reach-v0", 1, 0)
    try:
        model = agent.to_sb3(env)
        rate = float(agent.config["hyperparameters"]["learning_rate"].removeprefix("lin_"))
        assert model.lr_schedule(0.5) == pytest.approx(0.5 * rate)
        observation = env.reset()
        assert np.array_equal(model.predict(observation, deterministic=True)[0], agent.act(observation))
    finally:
        env.close()


def test_pickles_are_refused_unless_asked_for(tmp_path):
    env = make_vec_env(DotReach, 1, seed=0)
    model = small_ppo(env)
    (tmp_path / "zipped").mkdir()
    model.save(tmp_path / "zipped" / "ppo-dots.zip")
    for source in (tmp_path / "zipped" / "ppo-dots.zip", tmp_path / "zipped"):
        with pytest.raises(ValueError, match="pickle.*allow_pickle=True"):
            load_agent(source)
    observation = env.reset()
    trusted = load_agent(tmp_path / "zipped", allow_pickle=True)
    assert np.array_equal(trusted.act(observation), model.predict(observation, deterministic=True)[0])


def test_damaged_and_missing_agents_say_what_is_wrong(tmp_path):
    folder = save_agent(small_ppo(make_vec_env(DotReach, 1)), tmp_path / "agent", META)
    tensors = (folder / TENSORS_FILE).read_bytes()
    (folder / TENSORS_FILE).write_bytes(tensors[: len(tensors) // 2])
    with pytest.raises(ValueError, match="policy.safetensors is truncated or damaged"):
        load_agent(folder)
    (folder / TENSORS_FILE).write_bytes(tensors)
    config = yaml.safe_load((folder / CONFIG_FILE).read_text())
    config["policy_kwargs"]["features_extractor_class"] = "os:system"
    (folder / CONFIG_FILE).write_text(yaml.safe_dump(config))
    with pytest.raises(ValueError, match="'os:system' is unknown; choose one of"):
        load_agent(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="agent train"):
        load_agent(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="there is no agent 'nowhere'"):
        load_agent("nowhere")
    with pytest.raises(FileExistsError, match="no agent folder"):
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "thesis.txt").write_text("x")
        save_agent(small_ppo(make_vec_env(DotReach, 1)), tmp_path / "mine", META)


def test_spaces_survive_yaml():
    space = gym.spaces.Dict(
        {
            "a": gym.spaces.Box(0, 255, (3, 8, 8), np.uint8),
            "b": gym.spaces.Discrete(5),
            "c": gym.spaces.Box(np.array([-1, -2], np.float32), np.array([1, np.inf], np.float32)),
        }
    )
    assert decode_space(yaml.safe_load(yaml.safe_dump(encode_space(space)))) == space
