"""Are many policies measured once each, compared as they should be, and kept over a kill?"""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from stable_baselines3 import PPO
from tiny_world import make_world

from wm_gym.common.records import Undefined, or_blank
from wm_gym.engine.shared import load_world
from wm_gym.evaluation.ranking import policies
from wm_gym.evaluation.ranking.policies import evaluate_policies, summary, world_of
from wm_gym.policies.agent import Agent
from wm_gym.policies.catalogue import digest_of_agent
from wm_gym.policies.folder import save_agent
from wm_gym.policies.loaders import load_agent
from wm_gym.policies.rollouts import draw_start, run_source, start_seeds
from wm_gym.policies.source import make_source
from wm_gym.sb3 import make_sb3_env
from wm_gym.worlds.world import digest_of_world

TWIN = "wm_gym/ReachPyBullet-v0"
OPTIONS = {"backend": "torch", "progress": False}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    made = make_world(horizon=10, success_threshold=0.5)
    made.spec.twin = TWIN
    return made.save_pretrained(tmp_path_factory.mktemp("judge") / "tiny")


@pytest.fixture(scope="module")
def agents(world, tmp_path_factory):
    """Four untrained policies, each of another seed."""
    folder, env = tmp_path_factory.mktemp("agents"), make_sb3_env(TWIN, 1, 0)
    identity = {
        "algo": "ppo",
        "policy": "CnnPolicy",
        "env_id": TWIN,
        "env_kwargs": {},
        "learned": False,
        "frame_stack": 1,
        "init": None,
    }
    try:
        return [
            save_agent(
                PPO("CnnPolicy", env, seed=seed, device="cpu"), folder / f"agent-{seed}", identity | {"seed": seed}
            )
            for seed in range(4)
        ]
    finally:
        env.close()


def test_policies_are_measured_compared_and_kept(world, agents, tmp_path, monkeypatch):
    results = evaluate_policies(agents, tmp_path / "judged", 2, world=world, **OPTIONS)
    assert [p["agent"] for p in results["policies"]] == [a.name for a in agents]
    assert all(p["physics"]["n"] == p["world"]["n"] == 2 for p in results["policies"])
    assert results["agreement"]["all"]["all"]["policies"] == 4 and set(results["agreement"]) == {"all", "Tiny-v0"}
    assert json.loads((tmp_path / "judged" / "policies.json").read_text()) == results
    assert (tmp_path / "judged" / "policies.png").stat().st_size > 5000
    assert "4 policies, 2 matched starts each" in summary(results)
    assert results["perturbed"]["all"] == {"undefined": "no task has an object"}  # Reach's hand reaches for a place
    assert results["drawn"]["all"]["policies"] == 4 and "drawn by the world: 4 policies" in summary(results)
    assert set(results["gating"]["all"]["gain"]) == {"pearson", "mmrv", "optimism", "wrong"}

    (tmp_path / "judged" / "policies" / "agent-2.json").unlink()  # a kill in the third; the others are not run again
    measured = []
    once = policies.evaluate_matched
    monkeypatch.setattr(
        policies,
        "evaluate_matched",
        lambda agent, *rest, **named: measured.append(Path(agent).name) or once(agent, *rest, **named),
    )
    assert evaluate_policies(agents, tmp_path / "judged", 2, world=world, **OPTIONS) == results
    assert measured == ["agent-2"]
    with pytest.raises(ValueError, match="choose another --out"):
        evaluate_policies(agents, tmp_path / "judged", 3, world=world, **OPTIONS)


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_two_processes_write_what_one_writes(world, agents, tmp_path, backend):
    options = OPTIONS | {"backend": backend}
    for workers in (1, 2):
        evaluate_policies(agents[:2], tmp_path / str(workers), 2, world=world, workers=workers, **options)
    one, two = ((tmp_path / str(workers) / "policies.json").read_bytes() for workers in (1, 2))
    assert one == two
    one, two = (json.loads((tmp_path / str(workers) / "policies" / "agent-1.json").read_text()) for workers in (1, 2))
    assert one["result"]["per_episode"] == two["result"]["per_episode"] and one["arguments"] == two["arguments"]


def test_ray_writes_what_one_process_writes(world, agents, tmp_path):
    pytest.importorskip("ray", reason="ray is not installed: pip install 'wm-gym[ray]'")
    evaluate_policies(agents[:2], tmp_path / "here", 2, world=world, **OPTIONS)
    evaluate_policies(agents[:2], tmp_path / "ray", 2, world=world, ray="local", **OPTIONS)
    assert (tmp_path / "here" / "policies.json").read_bytes() == (tmp_path / "ray" / "policies.json").read_bytes()


def test_other_weights_where_a_job_runs_are_an_error(world, agents):
    with pytest.raises(ValueError, match="weights of .*agent-0 on .* not 0"):
        policies.measure(str(agents[0]), str(world), 2, 0, {}, "0", "0")


def test_a_policy_trained_anew_is_not_taken_for_the_one_before(world, agents, tmp_path):
    for agent in agents[:2]:
        shutil.copytree(agent, tmp_path / agent.name)
    names = [tmp_path / agent.name for agent in agents[:2]]
    evaluate_policies(names, tmp_path / "judged", 2, world=world, **OPTIONS)
    shutil.copy(agents[2] / "policy.safetensors", names[0])
    with pytest.raises(ValueError, match="policy_weights"):
        evaluate_policies(names, tmp_path / "judged", 2, world=world, **OPTIONS)


def test_one_policy_twice_is_no_two_policies(world, agents, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in agents[0].iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ValueError, match="the same weights"):
        evaluate_policies([agents[0], copy], tmp_path / "judged", 2, world=world, **OPTIONS)
    with pytest.raises(ValueError, match="the same name"):
        evaluate_policies([agents[0], agents[0]], tmp_path / "judged", 2, world=world, **OPTIONS)


def test_a_policy_trained_in_a_twin_is_judged_in_the_shipped_world_of_that_twin(agents):
    agent = load_agent(agents[0])
    assert world_of(agent) == "wm_gym/Reach-v0"
    agent.config["env_id"] = "CartPole-v1"
    with pytest.raises(ValueError, match="pass --world"):
        world_of(agent)


def test_the_summary_names_what_is_undefined():
    rates = np.zeros((2, 4), bool)
    rows = [{"per_episode": {"world_success": w, "physics_success": p}} for w, p in zip(rates, rates)]
    found = policies._agreement(rows)
    sure = {"world_uncertainty": [0, 0, 0, 0], "world_steps": [1, 1, 1, 1]}
    gate = policies._gating([{"per_episode": row["per_episode"] | sure} for row in rows])
    text = summary(
        {
            "policies": [0, 0],
            "episodes": 4,
            "agreement": {"all": found},
            **{
                name: {"all": asdict(or_blank(lambda name=name: policies._control([{name: None}], name)))}
                for name in policies.CONTROLS
            },
            "gating": {"all": gate},
        }
    )
    assert gate["false_success"] == {"uncertainty": None, "steps": None}
    assert "perturbed" not in text and "drawn" not in text and "pearson undefined -> undefined" in text
    assert "undefined: 2 policies" in text and "no policy has 20% to 80%" in text and "optimism 0.000" in text


def test_a_world_that_is_right_narrows_what_few_starts_in_physics_say():
    physics = np.random.default_rng(0).random((6, 400)) < 0.6
    found = policies._prediction_powered([{"per_episode": {"world_success": p, "physics_success": p}} for p in physics])
    alone, powered = found["physics_alone"], found["with_the_world"]
    assert found["pairs"] == 50 and powered["half_width"] < alone["half_width"] / 2
    assert powered["holds"]["rate"] == 1 and alone["holds"]["n"] == 6
    few = [{"per_episode": {"world_success": [True], "physics_success": [True]}}]
    with pytest.raises(Undefined, match="an eighth of them must be at least 2"):
        policies._prediction_powered(few)


def test_nudged_physics_is_the_same_start_with_its_object_a_little_off():
    env = make_source("wm_gym/PushPyBullet-v0", None, "no-op", 3)
    seeds = start_seeds(2, 0)
    _, starts = run_source("no-op", env, seeds)
    _, again = run_source("no-op", env, seeds, perturbed=True)
    where = list(env.unwrapped.tracked.position)
    now = env.unwrapped.get_physics_state()[where]  # nothing pushes it
    env.close()
    assert [a.seed for a in starts] == [a.seed for a in again] == seeds
    np.testing.assert_array_equal(starts[1].physics_state, again[1].physics_state)
    assert 0.001 < np.linalg.norm(now - starts[1].physics_state[where]) < 0.003
    with pytest.raises(ValueError, match="names no object"):
        run_source("no-op", make_source(TWIN, None, "no-op", 3), seeds, perturbed=True)


@pytest.mark.release
def test_nudged_outcomes_of_a_task_with_an_object(repository):
    agent = repository / "agents" / "ppo-Push-v0"
    digests = digest_of_agent(agent), digest_of_world("wm_gym/Push-v0")
    found = policies.measure_perturbed(str(agent), "wm_gym/Push-v0", 2, 0, {}, *digests)
    assert [type(success) for success in found["success"]] == [bool, bool]


@pytest.mark.release
def test_outcomes_in_physics_as_the_world_draws_it(repository, monkeypatch):
    """A policy trained in physics then sees the tokenizer's pictures; one trained in the world has seen no others."""
    folder, seen = repository / "benchmarks" / "policies" / "ppo-PushPyBullet-v0-seed1", []
    weights = digest_of_agent(folder), digest_of_world("wm_gym/Push-v0")
    predict = Agent.predict
    monkeypatch.setattr(
        Agent,
        "predict",
        lambda self, frames, *rest, **kwargs: seen.append(frames[0].copy()) or predict(self, frames, *rest, **kwargs),
    )
    assert len(policies.measure_drawn(str(folder), "wm_gym/Push-v0", 1, 0, {}, *weights)["success"]) == 1
    drawn, shown = seen[0], draw_start(make_source("wm_gym/PushPyBullet-v0", None, "no-op", 3), start_seeds(1, 0)[0])[1]
    again = load_world("wm_gym/Push-v0").tokenizer.round_trip(shown[None])[0]
    assert np.abs(drawn.astype(int) - again).max() <= 2 and np.abs(drawn.astype(int) - shown).max() > 20
    agent = repository / "agents" / "ppo-Push-v0"
    weights = digest_of_agent(agent), weights[1]
    assert policies.measure_drawn(str(agent), "wm_gym/Push-v0", 1, 0, {}, *weights)["success"] is None
