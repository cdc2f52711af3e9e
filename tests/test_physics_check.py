"""Does the check in physics count its steps, survive a kill, and end a training that has run away from physics?"""

from __future__ import annotations

import pytest
from safetensors.torch import load_file
from tiny_world import make_world

from wm_gym.policies.agent import TENSORS_FILE
from wm_gym.policies.loaders import load_agent
from wm_gym.rl.physics_check import CHECKS_FILE, read_checks
from wm_gym.rl.train import train_agent

RECIPE = {
    "n_envs": 2,
    "n_steps": 8,
    "batch_size": 8,
    "n_epochs": 1,
    "learning_rate": 1e-3,
    "policy_kwargs": {"net_arch": [8]},
    "physics_check": {"every": 16, "episodes": 2},
}


def train_in(tmp_path, world, name="agent", steps=48, **options):
    options = {"recipe": RECIPE, "progress": False, "checkpoint_every": 16, **options}
    return train_agent(
        "ppo", "wm_gym/World-v0", tmp_path / name, timesteps=steps, env_kwargs={"world": str(world)}, **options
    )


@pytest.fixture
def folder(tmp_path):
    def make(**options):
        world = make_world(**options)
        world.spec.twin = "wm_gym/ReachPyBullet-v0"
        return world.save_pretrained(tmp_path / "world")

    return make


def test_a_training_that_has_parted_from_physics_ends_with_its_best_check(folder, tmp_path):
    agent = train_in(tmp_path, folder(horizon=5, success_threshold=0.0))  # every step is a success in this world
    run = tmp_path / "agent.training"
    rows = read_checks(run / CHECKS_FILE)
    assert [row["steps"] for row in rows] == [16, 32] and all(row["world"] == 1 for row in rows)
    assert all(row["physics"] < 0.7 for row in rows)
    config = load_agent(agent).config
    assert config["n_timesteps"] < 48 and config["physics_check_steps"] == rows[-1]["physics_steps"] > 0
    assert config["kept_step"] == 32  # the latest of equals
    kept, best = load_file(agent / TENSORS_FILE), load_file(run / "check-000000032.safetensors")
    assert all((kept[key] == best[key]).all() for key in best)


def test_checks_change_nothing_and_go_on_after_a_stop(folder, tmp_path):
    world = folder(horizon=5)  # never a success: nothing parts
    whole = train_in(tmp_path, world, "whole")
    train_in(tmp_path, world, "half", steps=32)
    assert [path.name for path in (tmp_path / "half.training").glob("checkpoint-*")] == ["checkpoint-000000032"]
    half = train_in(tmp_path, world, "half", resume=True)
    alone = train_in(tmp_path, world, "alone", recipe=RECIPE | {"physics_check": None})
    rows = read_checks(tmp_path / "whole.training" / CHECKS_FILE)
    assert [row["steps"] for row in rows] == [16, 32, 48]
    assert rows == read_checks(tmp_path / "half.training" / CHECKS_FILE)
    assert not (tmp_path / "alone.training" / CHECKS_FILE).exists()
    tensors = [load_file(agent / TENSORS_FILE) for agent in (whole, half, alone)]
    assert all((t[key] == tensors[0][key]).all() for t in tensors for key in t)


def test_a_world_without_a_twin_is_refused(tmp_path):
    world = make_world(horizon=5).save_pretrained(tmp_path / "world")
    with pytest.raises(ValueError, match="does not say in which environment"):
        train_in(tmp_path, world)


def test_an_agent_that_trains_in_physics_is_checked_there(tmp_path):
    recipe = RECIPE | {"physics_check": {"every": 16, "episodes": 2}}
    agent = train_agent(
        "ppo",
        "wm_gym/ReachPyBullet-v0",
        tmp_path / "agent",
        timesteps=24,
        recipe=recipe,
        progress=False,
        env_kwargs={"max_episode_steps": 5},
    )
    rows = read_checks(tmp_path / "agent.training" / CHECKS_FILE)
    assert len(rows) == 2 and rows[0]["physics_steps"] < rows[1]["physics_steps"]
    assert all(row["world"] != row["world"] and 0 <= row["physics"] <= 1 for row in rows)
    assert load_agent(agent).config["n_timesteps"] >= 24
