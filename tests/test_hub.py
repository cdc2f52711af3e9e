"""Does what is pushed load back by gym.make and by LeRobot's EnvHub entry point, and does nothing of it run code?"""

from __future__ import annotations

import importlib.util
import multiprocessing
import shutil
import time
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import wm_gym  # noqa: F401
from wm_gym.cli import main
from wm_gym.publish import KINDS, push


@pytest.fixture
def carded(tiny_world_folder, tmp_path) -> Path:
    """A tiny world with a card."""
    folder = shutil.copytree(tiny_world_folder, tmp_path / "Tiny-v0")
    (folder / "README.md").write_text("---\nlibrary_name: wm-gym\n---\n# Tiny\n")
    return folder


def first_frames(world) -> np.ndarray:
    env = gym.make("wm_gym/World-v0", world=str(world))
    frames = [env.reset(seed=3)[0]]
    env.action_space.seed(3)
    frames += [env.step(env.action_space.sample())[0] for _ in range(3)]
    env.close()
    return np.stack([frame["pixels"] if isinstance(frame, dict) else frame for frame in frames])


def test_a_pushed_folder_steps_as_the_world_does(carded, tmp_path, capsys):
    to = tmp_path / "pushed"
    (carded / "notes.py").write_text("raise SystemExit")
    assert main(["push", str(carded), "--to", str(to)]) == 0
    assert "pushed" in capsys.readouterr().out
    names = {path.name for path in to.rglob("*") if path.is_file()}
    assert "env.py" in names and "notes.py" not in names
    assert all(Path(name).suffix in KINDS for name in names - {"env.py"})
    assert np.array_equal(first_frames(to), first_frames(carded))
    spec = importlib.util.spec_from_file_location("pushed_env", to / "env.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)  # as LeRobot does when it is told to trust the repository
    envs = module.make_env(n_envs=3)
    envs.reset(seed=0)
    assert envs.num_envs == 3 and envs.step(envs.action_space.sample())[1].shape == (3,)
    envs.close()


def test_a_world_in_the_hubs_cache_is_made_without_a_network_and_runs_no_code(carded, tmp_path, monkeypatch):
    import huggingface_hub.constants as constants

    repository = tmp_path / "hub" / "models--user--tiny"
    snapshot = repository / "snapshots" / ("0" * 40)
    push(carded, str(snapshot))
    trap = "import pathlib; pathlib.Path({!r}).touch()".format(str(tmp_path / "ran"))
    for name in ("env.py", "__init__.py", "conftest.py"):
        (snapshot / name).write_text(trap)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    assert np.array_equal(first_frames("user/tiny"), first_frames(carded))
    assert not (tmp_path / "ran").exists()
    with pytest.raises(FileNotFoundError, match="user/none"):
        gym.make("wm_gym/World-v0", world="user/none")


def test_a_push_to_the_hub_asks_for_one_repository_and_one_upload(carded, monkeypatch):
    """The two calls to the Hub, caught at the door: no test has an account."""
    import huggingface_hub

    calls = []

    class Api:
        def create_repo(self, repo, **options):
            calls.append((repo, options))

        def upload_folder(self, *, repo_id, folder_path, **options):
            calls.append((repo_id, sorted(path.name for path in Path(folder_path).iterdir())))
            return f"hub:{repo_id}"

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    assert push(carded, "user/tiny", private=True) == "hub:user/tiny"
    assert calls[0] == ("user/tiny", {"repo_type": "model", "private": True, "exist_ok": True})
    assert calls[1][0] == "user/tiny" and {"README.md", "env.py", "spec.yaml", "dynamics"} <= set(calls[1][1])


def test_a_shipped_agent_is_pushed_by_name(tmp_path):
    push("ppo-Reach-v0", str(tmp_path / "agent"))
    assert (tmp_path / "agent/policy.safetensors").is_file() and not (tmp_path / "agent/env.py").exists()


def test_what_cannot_be_pushed_is_named(carded, tmp_path):
    with pytest.raises(ValueError, match="neither user/repo nor a folder"):
        push(carded, "nowhere")
    with pytest.raises(FileNotFoundError, match="neither a world's folder"):
        push(tmp_path / "none", "user/x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    with pytest.raises(ValueError, match="is not empty"):
        push(carded, str(tmp_path / "full"))
    (carded / "weights.pt").touch()
    with pytest.raises(ValueError, match="can hold code"):
        push(carded, "user/x")
    (carded / "weights.pt").unlink()
    (carded / "README.md").unlink()
    with pytest.raises(ValueError, match="has no card"):
        push(carded, "user/x")


NASTY = 'a"b\'\'\'"""{c}\\\n; open("ran", "w").close() #\udce9'


def test_a_folders_name_is_data(carded, tmp_path, monkeypatch):
    """Pushed from and to, with quotes, braces, backslashes, newlines and bytes that are no text."""
    monkeypatch.chdir(tmp_path)
    named = carded.rename(tmp_path / NASTY)
    to = tmp_path / "out" / NASTY[::-1]
    push(named, str(to))
    spec = importlib.util.spec_from_file_location("nasty_env", to / "env.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.REPO == NASTY and not (tmp_path / "ran").exists()
    with pytest.raises(ValueError, match="neither user/repo"):
        push(named, f"user/{NASTY}")
    (named / "inside").mkdir()
    monkeypatch.chdir(named / "inside")
    push("..", str(tmp_path / "here"))  # nothing but the folder, whatever its name is from here
    assert {path.name for path in (tmp_path / "here").iterdir()} == {path.name for path in to.iterdir()}


def test_a_cards_commands_are_data(repository, tmp_path):
    """What a reader of a card may copy: Python and shell that say the names and nothing else."""
    import ast
    import json
    import shlex

    import yaml

    from wm_gym.policies.card import card_text
    from wm_gym.policies.config import read_config

    config = read_config(shutil.copytree(repository / "agents" / "ppo-Reach-v0", tmp_path / "agent")) | {
        "init": NASTY,
        "n_timesteps_before": 5,
        "env_kwargs": {"world": NASTY},
    }
    text = card_text(NASTY, config, None)
    python, shell = (text.split(f"{begin}\n")[1].split("\n```")[0] for begin in ("```python", "## Training\n\n```"))
    calls = [node for node in ast.walk(ast.parse(python)) if isinstance(node, ast.Call)]
    assert NASTY in [arg.value for call in calls for arg in call.args if isinstance(arg, ast.Constant)]
    assert not any(isinstance(call.func, ast.Name) and call.func.id == "open" for call in calls)
    words = shlex.split(shell)
    assert words[words.index("--out") + 1] == words[words.index("--init") + 1] == NASTY
    assert json.loads(words[words.index("--env-kwargs") + 1]) == {"world": NASTY}
    assert yaml.safe_load(text.split("---\n")[1])["library_name"] == "stable-baselines3"


@pytest.mark.parametrize("where", ["secret.json", "more/secret.json", "more/folder", ""])
def test_links_are_refused_by_name(carded, tmp_path, where):
    (tmp_path / "secret.json").write_text("{}")
    (tmp_path / "folder").mkdir()
    link = tmp_path / "link" if not where else carded / where
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(carded if not where else tmp_path / link.name)
    for to in (str(tmp_path / "to"), "user/repo"):
        with pytest.raises(ValueError, match=f"{link} is a symbolic link"):
            push(carded if where else link, to)
    assert not (tmp_path / "to").exists()


def test_a_copy_broken_off_by_a_kill_does_not_block_the_next(carded, tmp_path):
    """Killed at many moments: there is nothing or the whole, and the same call then gives the whole, without scraps."""
    to = tmp_path / "copies" / "to"
    for delay in (0.0, 0.002, 0.01, 0.03, 0.1):
        shutil.rmtree(to, ignore_errors=True)
        child = multiprocessing.get_context("fork").Process(target=push_slowly, args=(carded, str(to)))
        child.start()
        time.sleep(delay)
        child.kill()
        child.join()
        if not to.exists():
            push(carded, str(to))
        assert [path.name for path in to.parent.iterdir()] == ["to"]
        assert {path.name for path in to.iterdir()} > {"env.py", "spec.yaml", "README.md", "dynamics"}


def push_slowly(folder, to):
    copy = shutil.copyfile

    def slow(*args, **kwargs):
        time.sleep(0.005)
        return copy(*args, **kwargs)

    shutil.copyfile = slow  # a world is ten files
    push(folder, to)
