"""Do judges pay for what the frames show, in every face of a world and on other environments, and fail safely?"""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import yaml
from gymnasium.utils.env_checker import check_env
from own_judges import Flaky, Redness, enter, frames_of
from PIL import Image
from small_agent import SMALL, train_small
from stable_baselines3.common.env_checker import check_env as check_sb3
from stable_baselines3.common.env_util import unwrap_wrapper

from wm_gym.cli import main
from wm_gym.core import WorldCore
from wm_gym.env import WorldEnv
from wm_gym.judges import Judge, JudgeError, make_judge
from wm_gym.judges.goal import GoalJudge
from wm_gym.policies.agent import TENSORS_FILE
from wm_gym.policies.config import CONFIG_FILE
from wm_gym.rl.train import train_agent
from wm_gym.sb3 import WorldVecEnv, make_sb3_env
from wm_gym.vector import WorldVectorEnv
from wm_gym.wrappers import JudgeReward


@pytest.fixture(autouse=True)
def judges(monkeypatch):
    enter(monkeypatch)


def test_a_judge_is_shown_each_frame_once():
    judge = Redness("0.5")
    verdict = judge(frames_of(0, 255, 51, 255))
    np.testing.assert_allclose(verdict.score, [0, 1, 0.2, 1])
    assert verdict.success.tolist() == [False, True, False, True] and judge.shown == 3
    np.testing.assert_array_equal(judge(frames_of(51, 0)).score, verdict.score[[2, 0]])
    assert judge.shown == 3
    judge.remember = 1
    judge(frames_of(1, 2, 3))
    judge(frames_of(3))
    assert judge.shown == 6
    judge(frames_of(2))
    assert judge.shown == 7
    with pytest.raises(ValueError, match=r"float64 \[1, 64, 64, 3\], expected uint8"):
        judge(frames_of(1) / 255)


def test_an_answer_that_is_no_score_is_an_error():
    class Broken(Judge):
        answer = np.nan

        def look(self, frames, starts):
            return np.full(len(frames), self.answer), np.zeros(len(frames))

    with pytest.raises(JudgeError, match="not finite"):
        Broken()(frames_of(1))
    Broken.look = lambda self, frames, starts: (np.zeros(3), np.zeros(1))
    with pytest.raises(JudgeError, match="for 1 frames"):
        Broken()(frames_of(1))


def test_judges_are_named():
    assert make_judge("learned") is None
    assert isinstance(make_judge("red:0.5"), Redness) and make_judge(judge := Redness("1")) is judge
    both = make_judge(["red:0.1", "red:0.5"])(frames_of(0, 51, 255))
    assert both.success.tolist() == [False, False, True] and both.score.tolist() == [0, 1, 2]
    np.testing.assert_allclose(both.progress, [0, 0.2, 1])
    for reward, kwargs, says in [
        ("colour:red", {}, "'goal:...'"),
        ("red", {}, "behind the colon"),
        ("red: ", {}, "behind the colon"),
        ("flaky:x", {"speed": 1}, r"\['speed'\] are unknown.*\['after'\]"),
        (3, {}, "expected 'learned'"),
        ([], {}, "names no judge"),
        (["learned", "red:1"], {}, "stand beside"),
        ("learned", {"x": 1}, "need a judge"),
        (["red:1"], {"x": 1}, "unknown to every judge"),
    ]:
        with pytest.raises(ValueError, match=says):
            make_judge(reward, **kwargs)


# --- goal ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def goal(tmp_path):
    """A picture of red 200."""
    Image.fromarray(frames_of(200)[0]).save(tmp_path / "goal.png")
    return tmp_path / "goal.png"


def test_the_goal_judge_measures_the_way_that_is_left(goal, world):
    judge = GoalJudge(str(goal))
    verdict = judge(frames_of(100, 150, 200, 50, 190), frames_of(100, 100, 100, 100, 100))
    np.testing.assert_allclose(verdict.score, [0, 0.5, 1, -0.5, 0.9])
    np.testing.assert_allclose(verdict.progress, [0, 0.5, 1, 0, 0.9])
    assert verdict.success.tolist() == [False, False, True, False, True]
    with pytest.raises(ValueError, match="pass starts"):
        judge(frames_of(1))
    latent = make_judge(f"goal:{goal}", world)
    assert latent.features == "tokenizer"
    near, far = latent(frames_of(201, 120), frames_of(0, 0)).score
    assert near > 0.9 and near > far and latent(frames_of(200), frames_of(200)).success.all()


def test_goals_that_are_no_goals(goal, tmp_path, world):
    with pytest.raises(FileNotFoundError, match="nowhere.png is not there"):
        make_judge(f"goal:{tmp_path}/nowhere.png")
    (tmp_path / "broken.png").write_bytes(goal.read_bytes()[:60])
    with pytest.raises(ValueError, match="broken.png cannot be read"):
        make_judge(f"goal:{tmp_path}/broken.png")
    Image.fromarray(frames_of(1, size=32)[0]).save(tmp_path / "small.png")
    with pytest.raises(ValueError, match=r"\[32, 32, 3\], the frames are \[64, 64, 3\]; resize"):
        WorldEnv(world, backend="torch", reward=f"goal:{tmp_path}/small.png")
    with pytest.raises(ValueError, match=r"resize it.*\(64, 64\)"):
        make_judge(f"goal:{tmp_path}/small.png")(frames_of(1), frames_of(1))
    with pytest.raises(ValueError, match="choose one of"):
        make_judge(f"goal:{goal}", features="eyes")
    with pytest.raises(ValueError, match="needs a world"):
        make_judge(f"goal:{goal}", features="tokenizer")
    with pytest.raises(ValueError, match="less than 1"):
        make_judge(f"goal:{goal}", threshold=1.0)


# --- in a world ------------------------------------------------------------------------------------------------------


ACTIONS = np.random.default_rng(0).uniform(-1, 1, (6, 3, 3)).astype(np.float32)


@pytest.mark.parametrize("observation", ["pixels", "latent"])
def test_a_judge_pays_the_gain_in_what_it_sees(world, observation):
    core = WorldCore(world, 3, observation=observation, backend="torch", reward="red:0.4", terminate_on_success=False)
    core.reset(seeds=[0, 1, 2])
    red = [core.render(i)[..., 0].mean() / 255 for i in range(3)]
    np.testing.assert_allclose(core.info()["judge/score"], red)
    for actions in ACTIONS:
        reward, terminated, _ = core.step(actions)
        now = np.array([core.render(i)[..., 0].mean() / 255 for i in range(3)])
        info = core.info()
        np.testing.assert_allclose(info["judge/score"], now)
        np.testing.assert_allclose(info["reward/progress"], now - red)
        np.testing.assert_array_equal(info["success"], now > 0.4)
        np.testing.assert_allclose(reward, now - red + (now > 0.4))
        assert not terminated.any()
        red = now


def test_success_ends_an_episode_in_every_face(world):
    one = WorldEnv(world, backend="torch", reward="red:0.0")
    check_env(WorldEnv(world, backend="torch", reward="red:2"), skip_render_check=True, skip_close_check=True)
    check_sb3(WorldEnv(world, backend="torch", reward="red:2"))
    one.reset(seed=3)
    _, reward, terminated, _, info = one.step(ACTIONS[0, 0])
    assert terminated and info["is_success"] and info["reward/success"] == 1
    assert reward == pytest.approx(info["reward/progress"] + 1)
    many = WorldVectorEnv(2, world=world, backend="torch", reward="red:0.0", reward_kwargs={})
    many.reset(seed=3)
    _, rewards, terminated, _, infos = many.step(ACTIONS[0, :2])
    assert terminated.all() and infos["judge/score"][0] == pytest.approx(info["judge/score"], abs=1e-2)
    vec = WorldVecEnv(2, world=world, backend="torch", reward="red:0.0")
    vec.reset()
    vec.step_async(ACTIONS[0, :2])
    assert all(i["is_success"] and "judge/progress" in i for i in vec.step_wait()[3])
    with pytest.raises(ValueError, match="reward_kwargs={'threshold'"):
        WorldEnv(world, backend="torch", reward="red:0.1", success_threshold=0.3)


def test_a_saved_state_knows_where_its_episode_began(world, goal):
    core = WorldCore(world, 2, backend="torch", reward=f"goal:{goal}")
    core.reset(seeds=[0, 1])
    core.step(ACTIONS[0, :2])
    state = core.get_state(0)
    first = core.step(ACTIONS[1, :2])[0][0], core.info()["judge/score"][0]
    core.reset(seeds=[5, 6])
    core.set_state(0, state)
    assert (core.step(ACTIONS[1, :2])[0][0], core.info()["judge/score"][0]) == first
    core.branch(0, [1])
    reward = core.step(np.repeat(ACTIONS[2, :1], 2, 0))[0]
    assert reward[0] == reward[1]
    unjudged = WorldCore(world, 1, backend="torch")
    unjudged.reset(seeds=[0])
    with pytest.raises(ValueError, match="judge/progress.*judge/start"):
        core.set_state(0, unjudged.get_state(0))


def test_a_step_whose_judge_fails_changes_nothing(world, tmp_path):
    core, calm = (WorldCore(world, 2, backend="torch", reward=Flaky(tmp_path / "away")) for _ in range(2))
    for one in (core, calm):
        one.reset(seeds=[0, 1])
    (tmp_path / "away").touch()
    with pytest.raises(JudgeError, match="is away"):
        core.step(ACTIONS[0, :2])
    with pytest.raises(JudgeError, match="is away"):
        core.reset(seeds=[7, 8])
    (tmp_path / "away").unlink()
    for actions in ACTIONS[:3]:
        np.testing.assert_array_equal(core.step(actions[:2])[0], calm.step(actions[:2])[0])
        np.testing.assert_array_equal(core.observation(), calm.observation())


# --- on other environments -------------------------------------------------------------------------------------------


def test_a_judge_on_a_physics_twin(tmp_path):
    env = JudgeReward(gym.make("wm_gym/ReachPyBullet-v0", max_episode_steps=5), "red:0.0")
    frame, info = env.reset(seed=0)
    assert info["judge/score"] == pytest.approx(frame[..., 0].mean() / 255) and info["success"] is False
    before = info["judge/progress"]
    frame, reward, terminated, _, info = env.step(env.action_space.sample())
    assert terminated is True and info["is_success"] is True and info["env/success"] is False
    assert reward == pytest.approx(frame[..., 0].mean() / 255 - before + 1) and type(reward) is float
    assert {key for key in info if key.startswith("reward/")} == {"reward/progress", "reward/success"}
    rebuilt = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert unwrap_wrapper(rebuilt, JudgeReward) is not None
    env.close()
    with pytest.raises(ValueError, match="'learned' is a world's head"):
        JudgeReward(gym.make("wm_gym/ReachPyBullet-v0"), "learned")
    with pytest.raises(ValueError, match="render_mode='rgb_array'"):
        JudgeReward(gym.make("CartPole-v1"), "red:1")


def test_a_judge_on_a_twin_for_stable_baselines3():
    vec = make_sb3_env("wm_gym/ReachPyBullet-v0", 2, seed=0, reward="red:0.0", terminate_on_success=False)
    vec.reset()
    _, _, done, infos = vec.step(np.zeros((2, 3), np.float32))
    assert not done.any() and all(i["is_success"] and i["judge/score"] > 0 for i in infos)
    vec.close()


# --- in a training ---------------------------------------------------------------------------------------------------


def test_a_training_is_not_lost_to_its_judge(tmp_path, world_folder, capsys):
    """The judge fails in the middle of the third roll-out; the resumed run ends where an unbroken one does."""
    flaky = {"reward": f"flaky:{tmp_path / 'away'}", "reward_kwargs": {"after": 20}}
    whole = train_small(tmp_path / "whole", world_folder, more=flaky)
    (tmp_path / "away").touch()
    with pytest.raises(JudgeError, match=r"(?s)is away.*checkpoint-000000032;.*--resume"):
        train_small(tmp_path / "cut", world_folder, more=flaky)
    assert not (tmp_path / "cut").exists() and [p.name for p in (tmp_path / "cut.training").glob("checkpoint-*")] == [
        "checkpoint-000000032"
    ]
    arguments = [
        "agent",
        "train",
        "ppo",
        "--env",
        "wm_gym/World-v0",
        "--out",
        str(tmp_path / "begun"),
        "--env-kwargs",
        f'{{"world": "{world_folder}", "backend": "torch", "reward": "flaky:{tmp_path / "away"}"}}',
    ]
    assert main(arguments) == 2
    assert "it had not begun" in capsys.readouterr().err
    (tmp_path / "away").unlink()
    resumed = train_small(tmp_path / "cut", world_folder, more=flaky, resume=True)
    assert (resumed / TENSORS_FILE).read_bytes() == (whole / TENSORS_FILE).read_bytes()
    with pytest.raises(ValueError, match="name the judge"):
        train_small(tmp_path / "object", world_folder, more={"reward": Redness("1")})


SAC = {
    "n_envs": 2,
    "buffer_size": 200,
    "learning_starts": 4,
    "batch_size": 4,
    "train_freq": 1,
    "gradient_steps": 1,
    "policy_kwargs": {"net_arch": [8]},
}


@pytest.mark.parametrize("looks", [8, 11], ids=["step", "autoreset"])
def test_an_off_policy_training_goes_on_where_its_judge_failed(tmp_path, world_folder, looks):
    """One look at the reset, ten at steps, and the twelfth at the reset of episodes that have ended."""
    kwargs = {
        "env_kwargs": {
            "world": str(world_folder),
            "backend": "torch",
            "reward": f"flaky:{tmp_path / 'away'}",
            "reward_kwargs": {"after": looks},
        },
        "recipe": SAC,
        "progress": False,
        "device": "cpu",
    }
    (tmp_path / "away").touch()
    with pytest.raises(JudgeError, match="--resume"):
        train_agent("sac", "wm_gym/World-v0", tmp_path / "agent", timesteps=24, **kwargs)
    (kept,) = (tmp_path / "agent.training").glob("checkpoint-*")
    assert 14 <= int(kept.name.split("-")[1]) <= 20
    (tmp_path / "away").unlink()
    out = train_agent("sac", "wm_gym/World-v0", tmp_path / "agent", timesteps=24, resume=True, **kwargs)
    assert yaml.safe_load((out / CONFIG_FILE).read_text())["n_timesteps"] == 24


def test_a_training_on_a_twin_goes_on_where_its_judge_failed(tmp_path):
    kwargs = {
        "env_kwargs": {"reward": f"flaky:{tmp_path / 'away'}", "reward_kwargs": {"after": 12}},
        "recipe": SMALL,
        "progress": False,
        "device": "cpu",
    }
    (tmp_path / "away").touch()
    with pytest.raises(JudgeError, match="checkpoint-000000016;"):
        train_agent("ppo", "wm_gym/ReachPyBullet-v0", tmp_path / "agent", timesteps=32, **kwargs)
    (tmp_path / "away").unlink()
    assert (
        train_agent("ppo", "wm_gym/ReachPyBullet-v0", tmp_path / "agent", timesteps=32, resume=True, **kwargs)
    ).is_dir()
