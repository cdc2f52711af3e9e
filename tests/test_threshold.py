"""Is a judge's threshold where policies succeed as often in the world as in physics?"""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3 import PPO
from tiny_world import make_world

from wm_gym.cli import main
from wm_gym.evaluation.ranking import threshold
from wm_gym.evaluation.ranking.threshold import calibrate_judge
from wm_gym.evaluation.trust.coverage import unbiased_threshold
from wm_gym.policies.folder import save_agent
from wm_gym.sb3 import make_sb3_env
from wm_gym.worlds.spec import WorldSpec

TWIN = "wm_gym/ReachPyBullet-v0"


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.integers(2, 300), st.floats(0.3, 3))
def test_the_threshold_parts_as_many_as_physics_calls_a_success(seed, n, bend):
    rng = np.random.default_rng(seed)
    probability = rng.random(n) ** bend * 0.99
    physics = np.arange(n) < rng.integers(1, n)
    found = unbiased_threshold(probability, physics)
    assert abs(int((probability > found).sum()) - int(physics.sum())) <= (np.abs(probability - found) < 1e-4).sum()


def test_a_judge_that_flatters_gets_a_higher_threshold():
    rng = np.random.default_rng(0)
    true = rng.random(4000)
    flattering, physics = true**0.5, rng.random(4000) < true
    found = unbiased_threshold(flattering, physics)
    assert found > 0.6
    assert abs((flattering > found).mean() - physics.mean()) < 0.001


@pytest.mark.parametrize("outcome", [False, True])
def test_policies_of_one_outcome_tell_no_threshold(outcome):
    with pytest.raises(ValueError, match="policies that succeed at times"):
        unbiased_threshold(np.linspace(0, 1, 5), np.full(5, outcome))


def test_policies_set_the_threshold_of_a_world_and_a_kill_costs_one_measurement(tmp_path, monkeypatch):
    made = make_world(horizon=6, success_threshold=0.5)
    made.spec.twin = TWIN
    world, env = made.save_pretrained(tmp_path / "tiny"), make_sb3_env(TWIN, 1, 0)
    identity = {
        "algo": "ppo",
        "policy": "CnnPolicy",
        "env_id": TWIN,
        "env_kwargs": {},
        "learned": False,
        "frame_stack": 1,
        "init": None,
    }
    agents = [
        save_agent(
            PPO("CnnPolicy", env, seed=seed, device="cpu"), tmp_path / f"agent-{seed}", identity | {"seed": seed}
        )
        for seed in range(2)
    ]
    env.close()

    def half_succeed(jobs, *args):
        """The measurements as they are, physics' outcomes put in: untrained policies reach nothing."""
        rows = run_jobs(jobs, *args)
        for row in rows:
            row["per_episode"]["physics_success"] = [True, False]
        return rows

    run_jobs = threshold.run_jobs
    monkeypatch.setattr(threshold, "run_jobs", half_succeed)
    found = calibrate_judge(world, agents, 2, workers=1, progress=False, backend="torch")
    assert WorldSpec.load(world).success_threshold == found["threshold"] != 0.5 and found["before"] == 0.5
    assert found["now"]["world"]["successes"] == found["now"]["physics"]["successes"] == 2
    assert not (tmp_path / "tiny.judging").exists()

    monkeypatch.setattr(threshold, "run_jobs", run_jobs)
    with pytest.raises(ValueError, match="0 of 4 episodes"):
        calibrate_judge(world, agents, 2, workers=1, progress=False, backend="torch")
    kept = json.loads((tmp_path / "tiny.judging" / "agent-0.json").read_text())  # for the next call
    assert len(kept["result"]["per_episode"]["world_probability"]) == 2


def test_nothing_to_calibrate_on_is_an_error(capsys, tmp_path):
    assert main(["calibrate", str(tmp_path)]) == 2
    assert "--policies AGENT" in capsys.readouterr().err
