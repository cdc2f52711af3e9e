"""Does a cloned policy do what it was shown, and say what it was shown?"""

import ball_env  # noqa: F401
import gymnasium as gym
import numpy as np
import pytest
import yaml
from twins import PUSH

from wm_gym.collect.record import record
from wm_gym.data import open_clips
from wm_gym.policies.cloning import clone_agent
from wm_gym.policies.loaders import load_agent
from wm_gym.rl.train import train_agent

BALL = "ball_env:wm_gym_test/Ball-v0"


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    return record(BALL, 120, policy="expert", out=tmp_path_factory.mktemp("clone") / "shown", seed=0, workers=0)


def success(agent, episodes=40):
    env, wins = gym.make(BALL), 0
    for seed in range(1000, 1000 + episodes):
        frame, info = env.reset(seed=seed)
        for _ in range(25):
            frame, _, done, _, info = env.step(agent.act(frame[None].transpose(0, 3, 1, 2))[0])
            if done:
                break
        wins += info["success"]
    return wins / episodes


def test_a_clone_of_an_expert_succeeds_where_an_untrained_policy_fails(shown, tmp_path):
    out = clone_agent(shown, BALL, tmp_path / "clone", updates=400, progress=False)
    agent, idle = load_agent(out), load_agent(clone_agent(shown, BALL, tmp_path / "idle", updates=1, progress=False))
    assert success(agent) > 0.8 and success(idle) < 0.4
    told = agent.config["cloned_from"]
    spread = open_clips(shown, progress=False).action.var(0).mean()
    assert told["episodes"] == 108 and told["held_out_squared_error"] < spread / 3
    card = (out / "README.md").read_text()
    assert "from 108 episodes of `shown`: 400 updates" in card and "wm-gym agent clone shown --env" in card


def test_a_training_goes_on_from_a_clone(shown, tmp_path):
    clone = clone_agent(shown, BALL, tmp_path / "clone", updates=5, episodes=12, progress=False)
    agent = load_agent(
        train_agent(
            "ppo",
            BALL,
            tmp_path / "agent",
            timesteps=64,
            init=clone,
            progress=False,
            recipe={"n_envs": 2, "n_steps": 16, "batch_size": 16, "n_epochs": 1},
        )
    )
    assert agent.config["n_timesteps_before"] == 0 and agent.config["n_timesteps"] == 64


def test_the_same_seed_gives_the_same_clone_and_what_is_there_is_kept(shown, tmp_path):
    first, second = (clone_agent(shown, BALL, tmp_path / name, updates=3, progress=False) for name in "ab")
    frames = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
    assert (load_agent(first).act(frames) == load_agent(second).act(frames)).all()
    with pytest.raises(FileExistsError, match="--overwrite"):
        clone_agent(shown, BALL, first, updates=3, progress=False)
    assert clone_agent(shown, BALL, first, updates=2, episodes=3, progress=False, overwrite=True) == first
    assert yaml.safe_load((first / "config.yml").read_text())["cloned_from"]["episodes"] == 2
    (tmp_path / "notes").mkdir()
    with pytest.raises(FileExistsError, match="no agent folder"):
        clone_agent(shown, BALL, tmp_path / "notes", overwrite=True)


def test_a_clone_that_has_seen_a_worlds_pictures_acts_on_them_as_on_a_cameras(push_like, tmp_path):
    world = push_like.world
    pushes = record(
        PUSH, 10, policy="expert", out=tmp_path / "pushes", seed=0, workers=0, env_kwargs={"max_episode_steps": 20}
    )
    frames = np.array(open_clips(pushes, progress=False).frames[::4])
    drawn = world.tokenizer.round_trip(frames)

    def apart(name, **views):
        agent = load_agent(clone_agent(pushes, PUSH, tmp_path / name, updates=80, progress=False, **views))
        camera, world_s = (agent.act(seen.transpose(0, 3, 1, 2)) for seen in (frames, drawn))
        return np.linalg.norm(camera - world_s, axis=1).mean()

    assert apart("views", views=world) < 0.7 * apart("plain")
    assert "wm-gym agent clone pushes --views PushLike-v0 --env" in (tmp_path / "views" / "README.md").read_text()


@pytest.mark.parametrize(
    "asked, error, words",
    [
        ({"episodes": 1}, ValueError, "1 episode to learn from"),
        ({"env_id": "wm_gym/ReachPyBullet-v0"}, ValueError, "pixels of the dataset's size, 32 x 32 x 3"),
        ({"env_id": BALL, "env_kwargs": {"size": 64}}, ValueError, "pixels of the dataset's size"),
        ({"env_id": "wm_gym/Nothing-v0"}, gym.error.Error, "Nothing"),
        ({"views": "Push-v0"}, ValueError, r"draws \[64, 64\] pixels, the dataset shows \[32, 32\]"),
    ],
)
def test_what_cannot_be_cloned_is_refused(shown, tmp_path, asked, error, words):
    with pytest.raises(error, match=words):
        clone_agent(shown, **{"env_id": BALL, "out": tmp_path / "c", "updates": 1, "progress": False} | asked)
    assert not (tmp_path / "c").exists()
