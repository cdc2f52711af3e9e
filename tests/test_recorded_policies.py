"""Do functions, zips and mixes of policies act in recordings, in the same episodes whatever the workers and stops?"""

import gymnasium as gym
import numpy as np
import pytest
import vector_env  # noqa: F401
from dot_reach import DotReach, small_ppo
from gymnasium.envs.registration import EnvSpec
from stable_baselines3 import DQN, PPO
from test_record import assert_same_values

from wm_gym.cli import main
from wm_gym.collect.policies import Policies
from wm_gym.collect.record import record
from wm_gym.data import LeRobotReader

CART, GOAL = "vector_env:wm_gym_test/Cart-v0", "vector_env:wm_gym_test/Goal-v0"
MODULE = '''
import numpy as np

def right(observation):
    return 2 if observation["place"].shape == (1,) else None

def home(observation):
    return 3 * (observation["desired_goal"] - observation["achieved_goal"])

class Counter:
    """Pushes more with each step of an episode, by the seed's direction."""
    def __init__(self, seed):
        self.steps, self.angle = 0, np.random.default_rng(seed).uniform(0, 6)
    def predict(self, observation):
        self.steps += 1
        return self.steps / 20 * np.array([np.cos(self.angle), np.sin(self.angle)]), None

def made():
    counts = iter(range(10**6))
    return lambda observation: next(counts) % 3

def seven(observation):
    return 7

def nothing():
    return 3
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of a module with policies, in the working directory."""
    name = f"acting_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return name


def recorded(env_id, policy, episodes=8, out="set", **options):
    out = record(env_id, episodes, policy, out=out, **{"workers": 0, "progress": False, "noise": 0.0} | options)
    reader = LeRobotReader(out)
    columns = reader.columns()
    parts = [slice(a, b) for a, b in zip(reader.offset, reader.offset[1:])]
    kinds = [reader.notes["policy_kinds"][columns["policy_kind"][part][0, 0]] for part in parts]
    return kinds, [columns["action"][part][:-1] for part in parts], reader


@pytest.mark.parametrize("name", ["right", "made"])
def test_a_function_acts_in_any_space(module, name):
    kinds, actions, reader = recorded(CART, f"{module}:{name}")
    assert kinds == [f"{module}:{name}"] * 8 and reader.notes["policy"] == f"{module}:{name}"
    for episode in actions:  # one-hot; what was made for an episode begins with it
        expected = np.full(len(episode), 2) if name == "right" else np.arange(len(episode)) % 3
        assert episode.argmax(1).tolist() == expected.tolist()


def test_a_class_is_made_for_each_episode_by_its_seed(module):
    _, actions, _ = recorded(GOAL, f"{module}:Counter")
    angles = [np.arctan2(*episode[0][::-1]) for episode in actions]
    assert len(np.unique(np.round(angles, 4))) == 8
    for episode in actions:
        assert np.linalg.norm(episode, axis=1) == pytest.approx(np.arange(1, len(episode) + 1) / 20, abs=1e-5)
    again = recorded(GOAL, f"{module}:Counter", out="again", workers=2)[1]
    assert all(np.array_equal(a, b) for a, b in zip(actions, again))


def test_half_of_the_episodes_explore(module):
    _, calm, _ = recorded(GOAL, f"{module}:home", episodes=16)
    _, actions, _ = recorded(GOAL, f"{module}:home", episodes=16, out="noisy", noise=0.3)
    same = [len(a) == len(b) and np.allclose(a, b) for a, b in zip(calm, actions)]
    assert 3 <= sum(same) <= 13
    assert all(np.abs(episode).max() <= 1 for episode in actions)
    _, replaced, _ = recorded(CART, f"{module}:right", episodes=16, out="replaced", noise=0.5)
    share = [np.mean(episode.argmax(1) == 2) for episode in replaced]
    assert 3 <= share.count(1.0) <= 13 and min(share) < 0.95


def test_a_mix_draws_by_episode_and_goes_on_the_same(module):
    mix = f"random:3,{module}:right:1"
    kinds, actions, reader = recorded(CART, mix, episodes=40)
    assert set(kinds) == {"random", f"{module}:right"} and 4 <= kinds.count(f"{module}:right") <= 18
    assert all((episode.argmax(1) == 2).all() == (kind != "random") for kind, episode in zip(kinds, actions))
    assert reader.notes["policy"] == f"random:0.75,{module}:right:0.25"
    assert reader.notes["policy_kinds"] == ["expert", "noisy", "random", "near-miss", f"{module}:right"]
    recorded(CART, mix, episodes=7, out="parts")
    recorded(CART, f"random:0.75,{module}:right:0.25", episodes=40, out="parts", workers=2)
    assert_same_values(reader.root, reader.root.with_name("parts"))


def test_a_zip_acts_where_it_is_trusted(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    env = gym.make(GOAL)
    PPO("MultiInputPolicy", env, n_steps=8, batch_size=8, device="cpu").save("mine.zip")
    with pytest.raises(ValueError, match="runs the code of whoever wrote it.*--trust"):
        recorded(GOAL, "mine.zip")
    assert not main(["record", GOAL, "--episodes", "4", "--policy", "mine.zip:1,random:1", "--out", "set", "--trust"])
    assert "recorded: set" in capsys.readouterr().out
    kinds, _, reader = recorded(GOAL, f"{tmp_path}/mine.zip:1,random:1", episodes=6, trust=True, noise=0.3)
    assert set(kinds) == {"mine.zip", "random"} and str(tmp_path) not in str(reader.notes)
    PPO("MultiInputPolicy", env, n_steps=8, batch_size=8, device="cpu", seed=1).save("mine.zip")
    with pytest.raises(ValueError, match="recorded with agent_weights="):
        recorded(GOAL, "mine.zip:1,random:1", episodes=8, trust=True, noise=0.3)


@pytest.mark.parametrize("state", [False, True])
def test_a_policy_of_pictures_sees_them_as_it_did(tmp_path, monkeypatch, state):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(gym.registry, "wm_gym_test/Dot-v0", EnvSpec("wm_gym_test/Dot-v0", DotReach))
    small_ppo(DotReach(state), "MultiInputPolicy" if state else "CnnPolicy").save("dot.zip")  # it keeps them CHW
    kinds, _, reader = recorded("wm_gym_test/Dot-v0", "dot.zip", 2, trust=True, env_kwargs={"state": state})
    assert kinds == ["dot.zip"] * 2
    frame = next(iter(reader.iter_frames(reader.camera(None))))[1]
    assert frame.shape == (36, 36, 3) and (frame[..., 0] > 200).any()  # what was seen is what is recorded
    assert ("observation.state" in reader.features) == state


def test_a_policy_of_other_spaces_is_refused(module, tmp_path):
    env = gym.make("ball_env:wm_gym_test/Count-v0")
    env.action_space = gym.spaces.Discrete(3)
    DQN("MlpPolicy", env, device="cpu").save("dqn.zip")
    with pytest.raises(ValueError, match=r"acts on Box\(0.0, 99.0.*shows Dict"):
        recorded(CART, "dqn.zip", trust=True)
    with pytest.raises(ValueError, match=r"gives the action .*7.*, expected one of Discrete\(3\)"):
        recorded(CART, f"{module}:seven")
    with pytest.raises(ValueError, match="makes a int, expected an object with predict"):
        recorded(CART, f"{module}:nothing")
    with pytest.raises(ValueError, match="there is no policy"):
        recorded(CART, f"{module}:none")


def test_another_code_does_not_mix_into_a_recording(module, tmp_path):
    recorded(CART, f"{module}:right", episodes=2)
    with (tmp_path / f"{module}.py").open("a") as file:
        file.write("# changed\n")
    with pytest.raises(ValueError, match="recorded with agent_weights="):
        recorded(CART, f"{module}:right", episodes=3)


@pytest.mark.parametrize(
    "text, words",
    [
        ("exprt", "unknown policy 'exprt'; give one of expert, noisy.*agent:FOLDER, FILE.zip, module:function"),
        ("random:0.3,agent:x", "with its share, as in random:0.3,agent:FOLDER:0.7"),
        ("mix:0.5,agent:x:1", "with its share"),
        ("random:0,agent:x:1", "the share is 0, expected a number above 0"),
        ("random:nan,agent:x:1", "the share is nan"),
        ("agent:a/x:1,agent:b/x:1,", "with its share"),
        ("random:1,random:2", "two that are called 'random'"),
        ("", "unknown policy ''"),
    ],
)
def test_what_may_not_be_typed_is_said(text, words):
    with pytest.raises(ValueError, match=words):
        Policies.parse(text)


def test_names_with_colons_and_numbers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Policies.parse("agent:2").names == ("agent:2",)
    assert Policies.parse("agent:2:5").names == ("agent:2",)
    (tmp_path / "a:1,b:2").mkdir()
    assert Policies.parse("agent:a:1,b:2").names == ("agent:a:1,b:2",)  # it is there, as wm-gym learn may name it
    assert Policies.parse("m:f:1,agent:x/y:3") == Policies(("m:f", "agent:x/y"), (0.25, 0.75))
