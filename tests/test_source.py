"""Does a world of an environment's numbers have that environment's spaces, ends and rewards?"""

import json

import gymnasium as gym
import numpy as np
import pytest
import vector_env
from gymnasium.utils.env_checker import check_env
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from test_codec import SPACES

from wm_gym import cli
from wm_gym.collect.record import record
from wm_gym.common.space_data import to_data
from wm_gym.data import LeRobotReader
from wm_gym.data.clips import open_clips
from wm_gym.policies.agent import Agent
from wm_gym.policies.loaders import load_agent
from wm_gym.policies.matched import evaluate_matched
from wm_gym.rl.learn import learn
from wm_gym.sb3 import make_sb3_env
from wm_gym.training import train
from wm_gym.training.build import new_world
from wm_gym.training.check import NOTHING, TRAINING, check_world
from wm_gym.training.trainer import fit_statistics
from wm_gym.worlds.world import World

CART = "vector_env:wm_gym_test/Cart-v0"
SHORT = {"pose_updates": 1000, "outcome_updates": 1500, "pose_width": 64, "checkpoint_every": 1500}


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    out = tmp_path_factory.mktemp("cart") / "data"
    return record(CART, steps=1500, out=out, workers=0, progress=False)


@pytest.fixture(scope="module")
def world(recording, tmp_path_factory):
    return train(
        recording, tmp_path_factory.mktemp("cart") / "Cart-v0", preset="state", overrides=SHORT, progress=False
    )


@pytest.fixture()
def source():
    env = gym.make("wm_gym_test/Cart-v0")
    yield env
    env.close()


def test_the_recording_holds_numbers_ends_and_spaces(recording, source):
    reader = LeRobotReader(recording)
    columns = reader.columns(["observation.state", "action", "next.terminated", "next.reward"])
    steps = len(columns["action"]) - len(reader)
    assert 1500 <= steps < 1530
    assert columns["observation.state"].shape[1] == 4 and columns["action"].shape[1] == 3
    place, side = columns["observation.state"][:, 0], columns["observation.state"][:, 2:]
    names = reader.features["observation.state"]["names"]
    assert names == ["place.0", "side=0", "side=1", "speed.0"]
    assert (side.sum(1) <= 2).all() and columns["next.terminated"].any()
    last = reader.offset[1:] - 1
    ended = columns["next.terminated"].ravel()[last].astype(bool)
    assert (np.abs(place[last]) > 2).tolist() == ended.tolist()
    notes = reader.notes
    assert notes["spaces"] == {"action": to_data(source.action_space), "observation": to_data(source.observation_space)}


def test_spaces_are_the_sources(world, source):
    env = gym.make("wm_gym/World-v0", world=str(world))
    assert env.observation_space == source.observation_space and env.action_space == source.action_space
    check_env(env.unwrapped, skip_render_check=True)
    sb3_check_env(env.unwrapped)
    observation, info = env.reset(seed=0)
    assert source.observation_space.contains(observation)
    assert not {"success", "is_success", "uncertainty"} & set(info)  # the source has no success, nothing is drawn
    env.close()


def test_batches_have_the_sources_spaces_too(world, source):
    envs = gym.make_vec("wm_gym/World-v0", 3, vectorization_mode="vector_entry_point", world=str(world))
    assert envs.single_observation_space == source.observation_space
    observations, _ = envs.reset(seed=0)
    assert envs.observation_space.contains(observations)
    for _ in range(40):
        observations, rewards, *_ = envs.step(envs.action_space.sample())
        assert envs.observation_space.contains(observations) and rewards.shape == (3,)
    venv = make_sb3_env("wm_gym/World-v0", 3, 0, world=str(world))
    venv.reset()
    for _ in range(40):
        _, _, done, infos = venv.step(np.array([1, 1, 2]))
    assert venv.action_space == source.action_space
    venv.close()


def test_it_follows_the_source_and_ends_where_it_ends(world, source):
    env, ends = gym.make("wm_gym/World-v0", world=str(world)), []
    for seed in range(10):
        truth, _ = source.reset(seed=seed)
        made, _ = env.reset(seed=seed, options={"observation": truth})
        assert made["place"] == pytest.approx(truth["place"], abs=1e-5) and made["side"] == truth["side"]
        over = {source: None, env: None}
        for step in range(30):
            action = 2 if seed % 2 else 0
            for one in over:
                if over[one] is None:
                    seen, reward, terminated, truncated, _ = one.step(action)
                    if one is source:
                        true_place = seen["place"][0]
                    elif over[source] is None and step < 10:
                        assert seen["place"][0] == pytest.approx(true_place, abs=0.2)
                        assert reward == pytest.approx(1 - abs(true_place), abs=0.25)
                    over[one] = (step, terminated) if terminated or truncated else None
        ends.append((over[source], over[env]))
    assert all(a[1] == b[1] and abs(a[0] - b[0]) <= 2 for a, b in ends), ends


def test_state_is_saved_and_restored(world):
    env = gym.make("wm_gym/World-v0", world=str(world)).unwrapped
    env.reset(seed=3)
    env.step(1)
    state = env.get_state()
    after = [env.step(0)[0]["place"] for _ in range(3)]
    env.set_state(state)
    assert [env.step(0)[0]["place"] for _ in range(3)] == after


def test_what_a_world_without_pictures_cannot_do_is_said(world):
    for asked in ({"render_mode": "rgb_array"}, {"observation": "pixels"}, {"uncertainty_penalty": 1.0}):
        with pytest.raises(ValueError, match="trained without pictures"):
            gym.make("wm_gym/World-v0", world=str(world), **asked)
    env = gym.make("wm_gym/World-v0", world=str(world))
    with pytest.raises(ValueError, match="expected one of Dict"):
        env.reset(options={"observation": {"place": 3}})
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"action is np.int64\(7\), expected one of Discrete"):
        env.unwrapped.step(7)


def test_check_tells_a_world_that_follows_from_one_that_does_not(world, recording, capsys):
    clips, trained = open_clips(recording, progress=False), World.from_pretrained(world)
    found = check_world(trained, clips)
    assert found.verdict == TRAINING and not found.todo
    value = {line.name: line.value for line in found.lines}
    assert value["state, standard deviations lost after 10 steps, mirrored"] > 0.1
    assert value["R2 of the reward"] > 0.9 and value["F1 of terminated"] > 0.8
    assert f"**{TRAINING.capitalize()}.**" in (world / "README.md").read_text()
    still = new_world(trained.spec, "state", starts=trained.starts)
    fit_statistics(still, clips)
    found = check_world(still, clips)  # an integrator that was never trained moves nothing
    assert found.verdict == NOTHING and any("ignores its actions" in one for one in found.todo)
    assert cli.main(["check", str(world), str(recording)]) == 0
    assert "verdict: usable for training" in capsys.readouterr().out


def test_a_spec_with_other_spaces_is_refused(world, tmp_path):
    import shutil

    import yaml

    for what, change in (
        ("observation_space", {"type": "Discrete", "n": 2, "start": 0, "dtype": "int64"}),
        ("action_space", {"type": "Graph"}),
    ):
        copy = tmp_path / what
        shutil.copytree(world, copy)
        spec = yaml.safe_load((copy / "spec.yaml").read_text()) | {what: change}
        (copy / "spec.yaml").write_text(yaml.safe_dump(spec))
        with pytest.raises(ValueError, match=what):
            World.from_pretrained(copy)


def test_one_command_learns_the_cart(tmp_path):
    changes = {"rounds": 2, "timesteps": 12_000, "evaluations": 20, "overrides": SHORT, "progress": False}
    found = learn(CART, 1200, tmp_path / "cart", algo="ppo", **changes)
    assert found["environment"]["mean"] > found["per_round"][0]["return_recorded"] + 5  # the best possible is near 25
    assert found["world_minus_environment"]["mean"] == pytest.approx(0, abs=3)
    assert found["steps_used"] < 1300
    assert learn(CART, 1200, tmp_path / "cart", algo="ppo", **changes)["environment"] == found["environment"]
    with pytest.raises(ValueError, match="steps"):
        learn(CART, 1300, tmp_path / "cart", algo="ppo", **changes)
    agent = load_agent(tmp_path / "cart" / "agent-2")
    assert isinstance(agent, Agent)
    again = evaluate_matched(agent, tmp_path / "cart" / "world-2", None, 5, progress=False)
    assert again["twin_id"] == "wm_gym_test/Cart-v0" and "table" not in again
    assert json.loads((tmp_path / "cart" / "learn.json").read_text())["environment"] == found["environment"]


@given(observation=SPACES, action=SPACES, number=st.integers(0, 10**9))
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_spaces_go_through_the_whole_line(tmp_path_factory, observation, action, number):
    folder = tmp_path_factory.mktemp("spaces")
    env_id = f"wm_gym_test/Spaces{number}-v0"
    gym.register(env_id, vector_env.SpaceEnv, max_episode_steps=5, disable_env_checker=True)  # it wants no empty part
    try:
        kwargs = {"observation_space": observation, "action_space": action}
        gym.registry[env_id].kwargs = kwargs
        if not to_numbers(observation) or not to_numbers(action):
            return  # no numbers at all: nothing to learn
        record(env_id, 8, "random", out=folder / "data", workers=0, progress=False)
        few = {"pose_updates": 2, "outcome_updates": 2, "pose_width": 8, "checkpoint_every": 2}
        world = train(folder / "data", folder / "world", preset="state", overrides=few, progress=False)
        env = gym.make("wm_gym/World-v0", world=str(world), disable_env_checker=True)
        assert env.observation_space == observation and env.action_space == action
        env.action_space.seed(0)
        made, _ = env.reset(seed=0)
        assert observation.contains(made)
        for _ in range(3):
            made, reward, *_ = env.step(env.action_space.sample())
            assert observation.contains(made) and np.isfinite(reward)
    finally:
        del gym.registry[env_id]


def to_numbers(space):
    from wm_gym.common.codec import SpaceCodec

    return SpaceCodec(space).size
