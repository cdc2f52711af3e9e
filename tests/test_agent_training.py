"""Does a killed training go on to the same weights, and is none overwritten or mixed with another?"""

from __future__ import annotations

import pickle
import signal
import textwrap
from pathlib import Path

import pytest
import yaml
from forked import forked
from small_agent import SMALL, train_small

import wm_gym  # noqa: F401
from wm_gym.policies.agent import TENSORS_FILE
from wm_gym.policies.config import CONFIG_FILE
from wm_gym.rl.callbacks import CURVE_FILE, read_curve
from wm_gym.rl.train import train_agent


def test_killed_training_resumes_to_the_same_weights(tmp_path, world_folder):
    """kill -9 in the middle of a roll-out; the resumed run ends bit for bit where the uninterrupted one does."""
    whole = train_small(tmp_path / "whole", world_folder)
    script = textwrap.dedent(f"""
        import os, signal, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from stable_baselines3.common.callbacks import BaseCallback
        from small_agent import SMALL, train_small
        class Kill(BaseCallback):
            def _on_step(self):
                if self.num_timesteps == 42:
                    os.kill(os.getpid(), signal.SIGKILL)
                return True
        train_small({str(tmp_path / "cut")!r}, {str(world_folder)!r}, callback=Kill())
    """)
    killed = forked("forked:run", script)
    assert killed.returncode == -signal.SIGKILL, killed.stdout
    assert not (tmp_path / "cut").exists() and list((tmp_path / "cut.training").glob("checkpoint-000000032"))

    resumed = train_small(tmp_path / "cut", world_folder, resume=True)
    assert (resumed / TENSORS_FILE).read_bytes() == (whole / TENSORS_FILE).read_bytes()
    assert yaml.safe_load((resumed / CONFIG_FILE).read_text())["n_timesteps"] == 64
    curve = read_curve(tmp_path / "cut.training" / CURVE_FILE)
    steps, updating = ([row[column] for row in curve] for column in ("steps", "update_seconds"))
    assert steps == sorted(set(steps)) and steps[-1] == 64
    assert updating == sorted(updating) and 0 < updating[-1] < curve[-1]["seconds"]
    assert list((tmp_path / "cut.training" / "tensorboard").glob("events*"))
    assert len(list((tmp_path / "cut.training").glob("*.monitor.csv"))) == 2


def test_training_does_not_overwrite_or_mix_runs(tmp_path, world_folder):
    out = train_small(tmp_path / "agent", world_folder)
    with pytest.raises(FileExistsError, match="--resume"):
        train_small(out, world_folder)
    with pytest.raises(ValueError, match="seed=0, not 1"):
        train_small(out, world_folder, seed=1, resume=True)
    with pytest.raises(ValueError, match="choose one of"):
        train_agent("td7", "wm_gym/World-v0", tmp_path / "x")
    card = (out / "README.md").read_text()
    assert "library_name: stable-baselines3" in card and "Not measured" in card


def test_a_training_begun_with_another_recipe_is_not_gone_on_with(tmp_path, world_folder):
    (tmp_path / "mine.yml").write_text("default: {policy: CnnPolicy, n_timesteps: 64, gamma: 0.5}")
    train_small(tmp_path / "agent", world_folder)
    with pytest.raises(ValueError, match="begun with another recipe"):
        train_small(tmp_path / "agent", world_folder, resume=True, recipe_file=tmp_path / "mine.yml")


def test_a_training_ends_at_its_minutes_and_goes_on_from_there(tmp_path, world_folder):
    cut = train_small(tmp_path / "agent", world_folder, max_minutes=1e-6)
    assert 0 < yaml.safe_load((cut / CONFIG_FILE).read_text())["n_timesteps"] < 64
    assert list((tmp_path / "agent.training").glob("checkpoint-*"))
    whole = train_small(tmp_path / "agent", world_folder, resume=True, max_minutes=60)
    assert yaml.safe_load((whole / CONFIG_FILE).read_text())["n_timesteps"] >= 64


def test_normalised_rewards_go_on_where_they_stopped(tmp_path, world_folder):
    def train(steps, name="agent", **recipe):
        return train_agent(
            "ppo",
            "wm_gym/World-v0",
            tmp_path / name,
            timesteps=steps,
            env_kwargs={"world": str(world_folder), "backend": "torch"},
            recipe=SMALL | {"learning_rate": 1e-3, **recipe},
            checkpoint_every=16,
            progress=False,
            device="cpu",
            resume=True,
        )

    def rewards_seen():
        (checkpoint,) = (tmp_path / "agent.training").glob("checkpoint-*")
        return pickle.loads((checkpoint / "normalize.pkl").read_bytes()).ret_rms.count

    train(32, normalize={"norm_obs": False, "clip_reward": 5.0})
    assert rewards_seen() == pytest.approx(32, abs=0.01)
    normalised = train(64, normalize={"norm_obs": False, "clip_reward": 5.0})
    assert rewards_seen() == pytest.approx(64, abs=0.01)
    plain = train(64, "plain")
    assert (normalised / TENSORS_FILE).read_bytes() != (plain / TENSORS_FILE).read_bytes()
    with pytest.raises(ValueError, match="norm_obs is not kept in an agent folder"):
        train(16, "observations", normalize={"norm_obs": True})
