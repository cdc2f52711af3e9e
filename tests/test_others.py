"""Do policies that wm-gym did not make act in its environments? Callables, lerobot's, and files with code in them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from wm_gym.cli import main
from wm_gym.policies.lerobot import PYTHON_VARIABLE, LeRobotPolicy, lerobot_python
from wm_gym.policies.lerobot_worker import receive, send
from wm_gym.policies.loaders import load_agent
from wm_gym.policies.matched import evaluate_agent
from wm_gym.sb3 import make_sb3_env

MODULE = '''
import numpy as np

class Counter:
    """Says how many steps it has made since its episode began."""
    def __init__(self):
        self.steps = 0
    def predict(self, observation):
        self.steps += 1
        return np.full(2, self.steps / 10), None

class Resettable(Counter):
    def reset(self):
        self.steps = 0

resettable = Resettable()

class Seeing(Counter):
    observation = "pixels+state"
    def predict(self, observation):
        return observation["agent_pos"][:2]

def far(observation):
    assert observation.dtype == np.uint8 and observation.ndim == 3
    return [5.0, -5.0]

def wrong(observation):
    return [0.0] * 7

def nan(observation):
    return [np.nan, 0.0]

number = 7
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of a module with policies, in the working directory."""
    name = f"policies_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return name


@pytest.mark.parametrize("name", ["Counter", "resettable"])
def test_every_episode_has_a_state_of_its_own(module, name):
    policy, frames = load_agent(f"{module}:{name}").policy, np.zeros((2, 4, 4, 3), np.uint8)
    first, state = policy.predict(frames)
    second, state = policy.predict(frames, state)
    third, state = policy.predict(frames, state, episode_start=np.array([False, True]))
    np.testing.assert_allclose([first[:, 0], second[:, 0], third[:, 0]], [[0.1, 0.1], [0.2, 0.2], [0.3, 0.1]])


def test_a_callable_is_evaluated_in_a_world_and_in_physics(module, capsys):
    main(["agent", "evaluate", f"{module}:far", "--env", "wm_gym/Push-v0", "--episodes", "2"])
    assert "success in physics" in capsys.readouterr().out
    alone = evaluate_agent(f"{module}:Seeing", "wm_gym/PushPyBullet-v0", 1)
    assert alone["agent"] == f"{module}:Seeing" and alone["success"]["n"] == 1


@pytest.mark.parametrize(
    "name, error",
    [
        ("wrong", r"gives actions of shape \[7\], this environment takes \[2\]"),
        ("nan", "gives an action that is not finite"),
        ("number", "is a int without predict"),
        ("nothing", "there is no policy .*nothing"),
    ],
)
def test_what_is_no_policy_here_is_said(module, name, error):
    with pytest.raises(ValueError, match=error):
        evaluate_agent(f"{module}:{name}", "wm_gym/PushPyBullet-v0", 1)


def test_files_with_code_in_them_are_refused_without_trust(tmp_path, capsys):
    for name in ("agent.zip", "agent.pkl"):
        (tmp_path / name).write_bytes(b"not loaded")
        assert main(["agent", "evaluate", str(tmp_path / name), "--env", "wm_gym/Push-v0"])
        assert "runs the code of whoever wrote it" in capsys.readouterr().err
    env = make_sb3_env("wm_gym/PushPyBullet-v0", 1)
    load_agent("ppo-Push-v0").to_sb3(env).save(tmp_path / "ppo.zip")
    env.close()
    assert not main(
        [
            "agent",
            "evaluate",
            str(tmp_path / "ppo.zip"),
            "--env",
            "wm_gym/PushPyBullet-v0",
            "--episodes",
            "1",
            "--trust",
        ]
    )
    assert "1 episodes: success" in capsys.readouterr().out


def lerobot_folder(folder, inputs=(("observation.images.main", "VISUAL", [3, 64, 64]),)):
    """A folder as lerobot's policies have it, without weights in it."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(
        json.dumps(
            {
                "type": "act",
                "input_features": {name: {"type": kind, "shape": shape} for name, kind, shape in inputs},
                "output_features": {"action": {"type": "ACTION", "shape": [2]}},
            }
        )
    )
    (folder / "model.safetensors").write_bytes(b"")
    return folder


def test_a_lerobot_policy_needs_an_environment_with_lerobot(tmp_path, monkeypatch):
    agent = load_agent(lerobot_folder(tmp_path / "act"))
    assert isinstance(agent.policy, LeRobotPolicy) and agent.name == "act"
    monkeypatch.setenv(PYTHON_VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(ImportError, match="is no program"):
        agent.policy.predict(np.zeros((1, 64, 64, 3), np.uint8))
    monkeypatch.setenv(PYTHON_VARIABLE, sys.executable)  # an interpreter that lacks it: its process's error comes here
    with pytest.raises(RuntimeError, match="No module named 'lerobot'"):
        agent.policy.predict(np.zeros((1, 64, 64, 3), np.uint8))
    monkeypatch.delenv(PYTHON_VARIABLE)
    with pytest.raises(ImportError, match="--lerobot-python"):
        lerobot_python()


def test_what_a_lerobot_policy_sees_must_be_there(tmp_path):
    two = [(f"observation.images.{side}", "VISUAL", [3, 64, 64]) for side in ("left", "right")]
    with pytest.raises(ValueError, match="expected one camera"):
        load_agent(lerobot_folder(tmp_path / "two", two))
    posed = load_agent(lerobot_folder(tmp_path / "posed", [two[0], ("observation.state", "STATE", [6])]))
    assert posed.env_kwargs == {"observation": "pixels+state"}
    with pytest.raises(ValueError, match=r"takes observation.state of 6 numbers, this environment has \[3\]"):
        posed.policy.predict({"pixels": np.zeros((1, 64, 64, 3), np.uint8), "agent_pos": np.zeros((1, 3))})
    with pytest.raises(ValueError, match="evaluate it with n_envs=1"):
        posed.policy.predict(np.zeros((2, 64, 64, 3), np.uint8), True, episode_start=np.array([True, False]))


def test_messages_go_both_ways(tmp_path):
    """Arrays come out of a pipe as they went in."""
    with open(tmp_path / "pipe", "wb") as pipe:
        send(pipe, action=np.arange(6, dtype=np.float32).reshape(3, 2), error=np.array("why"))
    with open(tmp_path / "pipe", "rb") as pipe:
        message = receive(pipe)
        assert receive(pipe) is None
    np.testing.assert_array_equal(message["action"], [[0, 1], [2, 3], [4, 5]])
    assert str(message["error"]) == "why"


@pytest.fixture(scope="module")
def lerobot_policies(tmp_path_factory):
    """A folder with what tests/lerobot_policies.py writes."""
    if PYTHON_VARIABLE not in os.environ:
        pytest.skip(f"set {PYTHON_VARIABLE} to the Python of an environment with lerobot")
    out = tmp_path_factory.mktemp("lerobot")
    subprocess.run([os.environ[PYTHON_VARIABLE], Path(__file__).with_name("lerobot_policies.py"), out], check=True)
    return out


@pytest.mark.parametrize("kind", ["act", "diffusion"])
def test_a_lerobot_policy_acts_as_in_lerobot(lerobot_policies, kind):
    """ACT's actions are lerobot's own, over the end of a chunk and into the next episode; diffusion draws noise."""
    agent, truth = load_agent(lerobot_policies / kind), np.load(lerobot_policies / f"{kind}.npz")
    for _ in range(2):
        state, actions = None, []
        for frames, pose in zip(truth["frames"], truth["states"]):
            action, state = agent.policy.predict({"pixels": frames, "agent_pos": pose}, state)
            actions.append(action)
        actions = np.stack(actions)
        assert actions.shape == truth["actions"].shape and np.isfinite(actions).all()
        if kind == "act":
            np.testing.assert_allclose(actions, truth["actions"], atol=1e-5)
        else:
            assert np.abs(actions).max() <= 1 and actions.std() > 0
