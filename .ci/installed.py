"""Does the installed wheel work? Every id is made and stepped, outside the checkout; `.ci/run` runs this."""

import os
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import wm_gym

CHECKOUT = Path(os.environ["WM_GYM_CHECKOUT"]).resolve()
IDS = sorted(env_id for env_id in gym.registry if env_id.startswith("wm_gym/"))
SHIPPED = sorted(f"wm_gym/{spec.parent.name}" for spec in (CHECKOUT / "envs").glob("*/spec.yaml"))


def kwargs_of(env_id: str) -> dict:
    return {"world": SHIPPED[0]} if env_id == "wm_gym/World-v0" else {}


def test_the_wheel_is_what_is_imported():
    package = Path(wm_gym.__file__).resolve().parent
    assert CHECKOUT not in package.parents
    assert package.is_relative_to(Path(sys.prefix).resolve())


def test_every_shipped_world_is_registered():
    assert SHIPPED, f"{CHECKOUT}/envs holds no world"
    assert set(SHIPPED) <= set(IDS)


@pytest.mark.parametrize("env_id", IDS)
def test_id_can_be_made_and_stepped(env_id):
    env = gym.make(env_id, **kwargs_of(env_id))
    frame, _ = env.reset(seed=0)
    assert frame.dtype == np.uint8 and frame.shape[-1] == 3 and frame.std() > 0
    for _ in range(3):
        frame, reward, terminated, truncated, info = env.step(env.action_space.sample())
        assert env.observation_space.contains(frame) and np.isfinite(reward)
    env.close()


def test_the_command_answers():
    command = Path(sys.prefix) / "bin" / "wm-gym"
    answer = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert answer.stdout == f"wm-gym {wm_gym.__version__}\n"
