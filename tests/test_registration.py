"""Which ids exist, and does a spec lead back to the same environment?"""

import json
import subprocess
import sys
import warnings

import gymnasium as gym
import pytest
from gymnasium.envs.registration import EnvSpec

import wm_gym
from wm_gym.common.registry import env_ids, find_spec
from wm_gym.worlds.catalogue import catalogue_folders


def test_an_env_spec_survives_json(folder):
    env = gym.make("wm_gym/World-v0", world=folder, backend="torch", observation="latent", max_episode_steps=4)
    spec = EnvSpec.from_json(env.spec.to_json())
    again = gym.make(spec)
    assert again.observation_space == env.observation_space and again.spec.max_episode_steps == 4
    for env_id in env_ids():
        assert EnvSpec.from_json(gym.spec(env_id).to_json()) == gym.spec(env_id)
        assert "/" not in json.dumps(gym.spec(env_id).kwargs).replace("wm_gym/", "")  # no path of this machine


def test_every_folder_of_the_catalogue_is_registered_and_a_broken_one_is_named(tmp_path, monkeypatch, world):
    package = tmp_path / "wm_gym"
    package.mkdir()
    (tmp_path / "setup.py").touch()
    world.save_pretrained(tmp_path / "envs" / "Good-v0")
    for name, text in (("Broken-v0", "name: [unclosed"), ("Empty-v0", ""), ("Odd name", "name: x")):
        (tmp_path / "envs" / name).mkdir()
        (tmp_path / "envs" / name / "spec.yaml").write_text(text)
    (tmp_path / "envs" / "notes").mkdir()
    monkeypatch.setattr("wm_gym.worlds.catalogue.__file__", str(package / "worlds" / "catalogue.py"))
    assert sorted(catalogue_folders()) == ["Broken-v0", "Empty-v0", "Good-v0", "Odd name"]
    before = set(gym.registry)
    try:
        with pytest.warns(UserWarning) as caught:
            wm_gym.register_envs()
        messages = " ".join(str(w.message) for w in caught)
        assert all(name in messages for name in ("Broken-v0", "Empty-v0", "Odd name"))
        assert gym.spec("wm_gym/Good-v0").max_episode_steps == 10
        env = gym.make("wm_gym/Good-v0", backend="torch")
        assert env.reset(seed=0)[0].shape == (64, 64, 3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wm_gym.register_envs()  # a second call changes nothing
    finally:
        for new in set(gym.registry) - before:
            del gym.registry[new]


def test_a_folder_called_envs_that_is_not_ours_is_left_alone(tmp_path, monkeypatch):
    (tmp_path / "wm_gym").mkdir()
    (tmp_path / "envs" / "Other-v0").mkdir(parents=True)
    (tmp_path / "envs" / "Other-v0" / "spec.yaml").write_text("name: x")
    monkeypatch.setattr("wm_gym.worlds.catalogue.__file__", str(tmp_path / "wm_gym" / "worlds" / "catalogue.py"))
    assert catalogue_folders() == {}


def test_what_users_reach_for_is_loaded_when_it_is_asked_for():
    code = (
        "import sys, wm_gym; assert 'torch' not in sys.modules and 'stable_baselines3' not in sys.modules;"
        "wm_gym.EnvOptions; assert 'torch' not in sys.modules;"
        "print(all(callable(getattr(wm_gym, name)) for name in wm_gym.__all__))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stdout.strip() == "True", done.stderr + done.stdout
    assert set(wm_gym.__all__) <= set(dir(wm_gym))
    with pytest.raises(AttributeError, match="no attribute 'teach'; it has EnvOptions"):
        wm_gym.teach


def test_an_unknown_id_and_an_unknown_world_name_what_there_is():
    with pytest.raises(gym.error.UnregisteredEnv, match="wm_gym/World-v0"):
        find_spec("wm_gym/Nothing-v0")
    with pytest.raises(FileNotFoundError, match="wm-gym train"):
        gym.make("wm_gym/World-v0", world="./nowhere")
    with pytest.raises(ValueError, match="wm-gym train"):
        gym.make("wm_gym/World-v0")


def test_the_first_frame_does_not_wait_for_the_compiler():
    """torch.compile's machinery takes a second to import; diffusers would import it, nothing here needs it."""
    code = (
        "import sys, gymnasium as gym, wm_gym; gym.make('wm_gym/Reach-v0').reset(seed=0);"
        "late = [m for m in ('torch._dynamo', 'diffusers.hooks') if m in sys.modules];"
        "import torch._dynamo, diffusers.hooks; print(late)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stdout.strip() == "[]", done.stderr + done.stdout
