"""Does the improvement loop record what the agent does, finetune on it, count physics steps, and go on after a stop?"""

from __future__ import annotations

import json

import numpy as np
import pytest
from short import short
from tiny_world import make_world

from wm_gym.collect.episodes import EpisodeSource, EpisodeSpec
from wm_gym.collect.record import record
from wm_gym.data import LeRobotReader
from wm_gym.policies.loaders import load_agent
from wm_gym.rl.improve import NOTES_FILE, PLOT_FILE, improve
from wm_gym.rl.train import train_agent
from wm_gym.training import train

TWIN = "wm_gym/ReachPyBullet-v0"
SHORT = short()
RECIPE = {
    "n_envs": 2,
    "n_steps": 8,
    "batch_size": 8,
    "n_epochs": 1,
    "learning_rate": "lin_1e-3",
    "policy_kwargs": {"net_arch": [8]},
}


@pytest.fixture(scope="module")
def reach_data(tmp_path_factory):
    """Three recorded episodes of Reach."""
    return record(TWIN, 3, out=tmp_path_factory.mktemp("data") / "reach", workers=0, progress=False)


def test_an_agent_can_be_recorded_in_the_twin(tmp_path):
    world = make_world(horizon=5).save_pretrained(tmp_path / "world")
    agent = train_agent(
        "ppo",
        "wm_gym/World-v0",
        tmp_path / "agent",
        timesteps=16,
        recipe=RECIPE,
        progress=False,
        env_kwargs={"world": str(world)},
    )
    one, two = (
        record(TWIN, 2, policy=f"agent:{agent}", out=tmp_path / name, workers=0, progress=False)
        for name in ("one", "two")
    )
    reader = LeRobotReader(one)
    assert len(reader) == 2 and set(reader.columns(["policy_kind"])["policy_kind"].ravel()) == {4}
    raw = record(TWIN, 2, policy="random", out=tmp_path / "raw", workers=0, progress=False)
    first = [next(iter(LeRobotReader(folder).iter_frames(reader.camera(None))))[1] for folder in (one, two, raw)]
    assert (first[0] == first[1]).all() and (first[0] == first[2]).all()  # the camera's frame, not the tokenizer's
    actions = [LeRobotReader(folder).columns(["action"])["action"] for folder in (one, two)]
    assert (actions[0] == actions[1]).all() and np.abs(actions[0]).max() > 0
    longer = record(
        TWIN,
        1,
        policy=f"agent:{agent}",
        out=tmp_path / "longer",
        workers=0,
        progress=False,
        env_kwargs={"max_episode_steps": 61},
    )
    assert LeRobotReader(longer).offset.tolist() == [0, 62]
    ended = record(
        TWIN,
        1,
        policy=f"agent:{agent}",
        out=tmp_path / "ended",
        workers=0,
        progress=False,
        env_kwargs={"terminate_on_success": True, "max_episode_steps": 3},
    )
    assert LeRobotReader(ended).offset.tolist() == [0, 4]
    with pytest.raises(ValueError, match="takes 2 numbers as an action, the world 'Tiny-v0' 3"):
        record("ball_env:wm_gym_test/Ball-v0", 1, policy=f"agent:{agent}", out=tmp_path / "no", workers=0)


def test_an_agent_of_latents_leaves_the_columns_of_everybody(tmp_path):
    world = make_world(horizon=5).save_pretrained(tmp_path / "world")
    kwargs = {"world": str(world), "observation": "latent"}
    agent = train_agent(
        "ppo", "wm_gym/World-v0", tmp_path / "agent", timesteps=16, recipe=RECIPE, progress=False, env_kwargs=kwargs
    )
    policies = {"agent": f"agent:{agent}", "random": "random", "both": f"agent:{agent}:1,random:1"}
    options = {"workers": 0, "progress": False, "env_kwargs": {"max_episode_steps": 3}}
    made = {
        name: LeRobotReader(record(TWIN, 4, one, out=tmp_path / f"{name}-set", **options))
        for name, one in policies.items()
    }
    assert made["agent"].features == made["random"].features == made["both"].features
    assert made["agent"].features["observation.state"]["shape"] == [3]
    assert made["agent"].notes["spaces"] == made["random"].notes["spaces"]
    assert set(made["both"].columns(["policy_kind"])["policy_kind"].ravel()) == {2, 4}


def test_a_third_of_the_episodes_does_in_physics_what_the_agent_did_in_imagination(tmp_path, monkeypatch):
    world = make_world(horizon=5).save_pretrained(tmp_path / "world")
    agent = train_agent(
        "ppo",
        "wm_gym/World-v0",
        tmp_path / "agent",
        timesteps=16,
        recipe=RECIPE,
        progress=False,
        env_kwargs={"world": str(world)},
    )
    source, imagined = EpisodeSource(EpisodeSpec(TWIN, {}, f"agent:{agent}")), []
    core = source.players[0].imagination
    step = core.step
    monkeypatch.setattr(core, "step", lambda actions: imagined.append(actions[0].copy()) or step(actions))
    kinds = []
    for number in range(8):
        imagined.clear()
        done = source.rollout(number).columns["action"]
        kinds.append(bool(imagined))
        assert not imagined or np.array_equal(done[: len(imagined)], imagined)
    source.close()
    assert 0 < sum(kinds) < 8


@pytest.mark.slow
def test_two_rounds_and_what_is_there_is_kept(reach_data, tmp_path):
    world = train(reach_data, tmp_path / "world", preset="tiny", overrides=SHORT, progress=False)
    recipe = tmp_path / "recipe.yml"
    recipe.write_text(json.dumps({"default": {"policy": "CnnPolicy", "n_timesteps": 32, **RECIPE}}))
    call = {
        "rounds": 2,
        "episodes": 2,
        "evaluations": 2,
        "preset": "tiny",
        "recipe_file": recipe,
        "progress": False,
        "overrides": SHORT | {"tokenizer_updates": 0, "pose_updates": 0},
    }
    out = improve(world, [reach_data], tmp_path / "out", **call)
    notes = json.loads((out / NOTES_FILE).read_text())
    assert [n["physics_steps"] for n in notes] == [150, 250] and notes[1]["world_folder"].endswith("world-2")
    assert all(n["physics"]["n"] == 2 for n in notes) and (out / PLOT_FILE).stat().st_size > 5000
    configs = [load_agent(out / f"agent-{r}").config for r in (1, 2)]
    assert configs[1]["init"] == str(out / "agent-1")
    assert [c["hyperparameters"]["learning_rate"] for c in configs] == ["lin_1e-3", "lin_0.0002"]
    stamps = {p: p.stat().st_mtime_ns for p in out.rglob("*.safetensors")}
    improve(world, [reach_data], out, **call)
    assert stamps == {p: p.stat().st_mtime_ns for p in out.rglob("*.safetensors")}


def test_a_world_without_a_twin_is_refused(tmp_path):
    world = make_world().save_pretrained(tmp_path / "world")
    with pytest.raises(ValueError, match="--twin"):
        improve(world, [], tmp_path / "out")


def test_a_training_goes_on_from_an_agent(tmp_path):
    world = str(make_world(horizon=5).save_pretrained(tmp_path / "world"))
    call = {"env_kwargs": {"world": world}, "progress": False}
    first = train_agent("ppo", "wm_gym/World-v0", tmp_path / "first", timesteps=16, recipe=RECIPE, **call)
    still = RECIPE | {"learning_rate": 0.0}
    second = train_agent("ppo", "wm_gym/World-v0", tmp_path / "second", timesteps=16, recipe=still, init=first, **call)
    assert load_agent(second).config["n_timesteps_before"] == 16
    assert f"going on from `{first}` (16 steps)" in (second / "README.md").read_text()
    weights = [load_agent(agent).policy.state_dict() for agent in (first, second)]
    assert all((weights[1][key] == value).all() for key, value in weights[0].items())
    with pytest.raises(ValueError, match="does not fit"):
        train_agent(
            "ppo",
            "wm_gym/World-v0",
            tmp_path / "wide",
            timesteps=16,
            init=first,
            **call,
            recipe=RECIPE | {"policy_kwargs": {"net_arch": [16]}},
        )
    with pytest.raises(ValueError, match="init"):
        train_agent("ppo", "wm_gym/World-v0", tmp_path / "second", timesteps=32, recipe=still, resume=True, **call)
