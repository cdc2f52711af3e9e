"""Is a policy measured, checked and improved in any environment, not in our twins alone? Numbers, pictures, actions."""

from __future__ import annotations

import json
import shutil
from functools import partial

import numpy as np
import pytest
import vector_env  # noqa: F401  (registers the carts)

from wm_gym.cli import main
from wm_gym.collect.record import record
from wm_gym.common.records import Undefined
from wm_gym.core import WorldCore
from wm_gym.data import LeRobotReader
from wm_gym.engine.shared import load_world
from wm_gym.evaluation.ranking import policies
from wm_gym.evaluation.ranking.policies import evaluate_policies
from wm_gym.evaluation.ranking.policies import summary as summary_of_policies
from wm_gym.evaluation.ranking.threshold import calibrate_judge
from wm_gym.evaluation.report.page import write_trust_report
from wm_gym.evaluation.suite.options import Size
from wm_gym.evaluation.suite.suite import evaluate
from wm_gym.evaluation.suite.tasks import TASKS
from wm_gym.policies.card import matched_rows
from wm_gym.policies.films import matched_clips
from wm_gym.policies.loaders import load_agent
from wm_gym.policies.matched import evaluate_agent, evaluate_matched, save_results, summary
from wm_gym.policies.planner import WorldPlanner
from wm_gym.policies.rollouts import draw_start, run_source, start_seeds, world_options
from wm_gym.policies.source import make_source
from wm_gym.rl.improve import NOTES_FILE, PLOT_FILE, improve
from wm_gym.rl.physics_check import CHECKS_FILE, PhysicsCheck, read_checks
from wm_gym.rl.train import train_agent
from wm_gym.training import train
from wm_gym.worlds.world import World

CART, LEVERS = "wm_gym_test/Cart-v0", "wm_gym_test/Levers-v0"
BALL, COUNT, HOP = (f"wm_gym_test/{name}-v0" for name in ("Ball", "Count", "Hop"))
STATE = {"pose_updates": 150, "outcome_updates": 150, "pose_width": 32, "checkpoint_every": 1000}
TINY = {f"{what}_updates": 4 for what in ("tokenizer", "pose", "dynamics", "heads")} | {"starts": 8}
PPO = {"n_envs": 2, "n_steps": 8, "batch_size": 8, "n_epochs": 1, "policy_kwargs": {"net_arch": [8]}}
QUIET = {"progress": False, "workers": 0}
MODULE = '''
import numpy as np

class Middle:
    """Pushes the cart to the middle."""
    def predict(self, observation):
        return int(1 - np.sign(observation["place"][0]))

def levers(observation):
    return {"push": -np.sign(observation[:1]).astype(np.float32), "gear": np.int64(1)}

def wrong(observation):
    return 7
'''


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A world of an environment, trained for a moment: `made(env_id, preset)`."""
    worlds = {}

    def make(env_id, preset, **kwargs):
        if env_id not in worlds:
            folder = tmp_path_factory.mktemp("any")
            module = "vector_env" if preset == "state" else "ball_env"
            data = record(f"{module}:{env_id}", 12, "random", out=folder / "data", workers=0, progress=False, **kwargs)
            changes = STATE if preset == "state" else TINY
            worlds[env_id] = train(data, folder / "world", preset=preset, overrides=changes, progress=False), data
        return worlds[env_id]

    return make


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of a module with policies, in the working directory."""
    name = f"policies_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return name


def trained_in(world, out, **options):
    """A PPO agent of a few steps in a world."""
    kwargs = {"world": str(world), **options.pop("env_kwargs", {})}
    options = {"timesteps": 16, "progress": False} | options
    recipe = PPO | options.pop("recipe", {})
    return train_agent("ppo", "wm_gym/World-v0", out, recipe=recipe, env_kwargs=kwargs, **options)


def test_returns_are_compared_where_nobody_says_success(made, module, tmp_path):
    world, _ = made(CART, "state")
    found = evaluate_matched(f"{module}:Middle", world, None, 6, 1, **QUIET)
    assert found["twin_id"] == CART and found["horizon"] == 30 and "table" not in found and "physics" not in found
    rows = found["per_episode"]
    paired = np.subtract(rows["world_reward"], rows["physics_reward"])
    assert found["returns"]["world_minus_physics"]["mean"] == pytest.approx(paired.mean(), abs=1e-3)
    assert found["returns"]["physics"]["low"] < found["returns"]["physics"]["mean"] and "world_success" not in rows
    assert found["returns"]["physics"]["mean"] > found["baseline_returns"]["random"]["mean"]
    assert set(found["baseline_returns"]) == {"random", "no-op"} and not found["baselines"]
    assert any(what == f"return in {CART}" for what, _ in matched_rows(found)) and "points" not in summary(found)
    with pytest.raises(ValueError, match=r"gives the action .*7.*, this environment takes Discrete\(3\)"):
        evaluate_matched(f"{module}:wrong", world, None, 1, **QUIET)
    agent = trained_in(world, tmp_path / "agent")
    save_results(agent, evaluate_agent(agent, "wm_gym/World-v0", 2, **QUIET))
    card = (agent / "README.md").read_text()
    assert f"in its environment `{CART}`" in card and "mean_reward" in card and "return in the learned world" in card


def test_success_is_compared_in_any_action_space(made, module):
    world, _ = made(LEVERS, "state")
    found = evaluate_matched(f"{module}:levers", world, None, 5, **QUIET)
    assert sum(found["table"].values()) == 5 and found["physics"]["rate"] == 1  # it always pushes the right way
    assert found["returns"]["physics"]["mean"] > found["baseline_returns"]["no-op"]["mean"]
    assert found["baselines"]["no-op"]["rate"] < 1
    assert f"success in {LEVERS}" in summary(found)
    assert "world_uncertainty" not in found["per_episode"]  # nothing is drawn, so none is stated
    with pytest.raises(Undefined, match="states no uncertainty"):
        policies._gating([found])
    with pytest.raises(ValueError, match="trained without pictures, in which planning looks"):
        WorldPlanner(world)


def test_processes_find_what_one_finds(made, module, tmp_path):
    world, _ = made(CART, "state")
    agent = trained_in(world, tmp_path / "agent")
    one, two = (
        evaluate_matched(agent, str(world), None, 21, baselines=(), progress=False, workers=workers)
        for workers in (0, 2)
    )
    assert one["per_episode"] == two["per_episode"]


def test_a_world_begins_where_its_environment_does(made):
    for env_id, preset in ((CART, "state"), (BALL, "tiny"), (COUNT, "tiny")):
        world = load_world(made(env_id, preset)[0])
        core = WorldCore(world, 1, backend="torch", render=env_id != CART)
        env = make_source(env_id, world, "random", frames=core.draws)
        start, observation = draw_start(env, 3, frames=core.draws)
        core.reset(seeds=[3], options=[world_options(core, start)])
        assert env.observation_space == core.single_observation_space
        if env_id == CART:
            assert core.observation()["place"][0] == pytest.approx(observation["place"])
        else:
            drawn = core.engine.render(core.engine.encode(start.frame[None, None], start.proprioception[None, None]))
            assert np.array_equal(core.render(0), drawn[0].numpy())
        env.close()


def test_an_agent_of_pictures_sees_the_environment_as_its_world_draws_it(made, tmp_path):
    world, _ = made(BALL, "tiny")
    small = {"policy_kwargs": {"net_arch": [8], "features_extractor_class": "FlattenExtractor"}}
    agent = trained_in(world, tmp_path / "agent", recipe=small)
    found = evaluate_agent(agent, "wm_gym/World-v0", 2, backend="torch", video=tmp_path / "film.gif", **QUIET)
    assert found["twin_id"] == BALL and sum(found["table"].values()) == 2
    assert (tmp_path / "film.gif").stat().st_size > 1000
    env = make_source(BALL, world, load_agent(agent))
    seen, _ = env.reset(seed=0)
    again = load_world(world).tokenizer.round_trip(env.raw[None])[0]
    assert np.abs(seen.astype(int) - again).max() <= 2 and not np.array_equal(seen, env.raw)
    env.close()
    clips = matched_clips(agent, world, None, episodes=1, backend="torch")
    assert clips[0].world.shape == clips[0].physics.shape


@pytest.mark.parametrize("mode", ["pixels", "pixels+state", "latent"])
def test_an_agent_that_sees_less_than_the_environment_shows(made, mode, tmp_path):
    """It acts in the world's numbers, which the environment's three choices are one-hot of."""
    world, _ = made(COUNT, "tiny", size=(48, 36))
    agent = trained_in(world, tmp_path / "agent", env_kwargs={"observation": mode})
    found = evaluate_matched(agent, world, None, 2, backend="torch", **QUIET)
    assert found["twin_id"] == COUNT and found["returns"]["physics"]["mean"] >= 3
    again = record(COUNT, 2, f"agent:{agent}", out=tmp_path / "again", workers=0, progress=False)
    action = LeRobotReader(again).columns(["action"])["action"]
    assert action.shape[1] == 3 and set(action.sum(1)) == {0, 1}


def test_what_a_world_cannot_draw_is_not_filmed(made, tmp_path):
    world, _ = made(CART, "state")
    agent = trained_in(world, tmp_path / "agent")
    with pytest.raises(ValueError, match="trained without pictures"):
        evaluate_agent(agent, "wm_gym/World-v0", 10**6, video=tmp_path / "film.gif")


def test_a_world_of_other_spaces_is_refused(made, module):
    with pytest.raises(ValueError, match="has the observation space"):
        evaluate_matched(f"{module}:levers", made(LEVERS, "state")[0], CART, 1, **QUIET)


def test_the_floor_of_what_cannot_be_set_is_one_other_action(made):
    env = make_source(CART, made(CART, "state")[0], "no-op", frames=False)
    seeds = start_seeds(4, 0)
    run = partial(run_source, "no-op", env, seeds, frames=False)
    (plain, starts), (other, again) = run(), run(perturbed=True)
    assert [s.observation["place"] for s in starts] == [s.observation["place"] for s in again]
    differences = [abs(a.reward - b.reward) for a, b in zip(plain, other)]
    assert max(differences) > 0 and min(differences) < 20
    assert [o.reward for o in run(perturbed=True)[0]] == [o.reward for o in other]
    env.close()


def test_improvement_by_return(made, tmp_path):
    world, data = made(CART, "state")
    recipe = tmp_path / "recipe.yml"
    recipe.write_text(json.dumps({"default": {"policy": "MlpPolicy", "n_timesteps": 32, **PPO}}))
    call = {"rounds": 2, "episodes": 2, "evaluations": 3, "recipe_file": recipe, "progress": False, "overrides": STATE}
    out = improve(world, [data], tmp_path / "out", **call)
    notes = json.loads((out / NOTES_FILE).read_text())
    reader = LeRobotReader(out / "data-1")
    assert notes[1]["physics_steps"] - notes[0]["physics_steps"] == reader.offset[-1] - len(reader)
    assert all(note["returns"]["physics"]["n"] == 3 and "world" not in note for note in notes)
    assert notes[1]["world_folder"].endswith("world-2") and (out / PLOT_FILE).stat().st_size > 5000
    assert not load_world(out / "world-2").spec.draws


def test_a_check_by_return(made, tmp_path):
    world, _ = made(CART, "state")
    recipe = {"physics_check": {"every": 8, "episodes": 2, "max_gap": 99}}
    agent = trained_in(world, tmp_path / "agent", recipe=recipe, timesteps=32)
    rows = read_checks(tmp_path / "agent.training" / CHECKS_FILE)
    assert len(rows) == 2 and rows[0]["physics_steps"] < rows[1]["physics_steps"]
    for row in rows:
        larger = max(abs(row["world"]), abs(row["physics"]))
        assert row["gap"] == pytest.approx((row["world"] - row["physics"]) / larger)
    assert load_agent(agent).config["kept_step"] == max((row["physics"], row["steps"]) for row in rows)[1]
    check = PhysicsCheck(tmp_path, {}, max_gap=0.3)
    check.rows = [{"world": 90.0, "physics": 60.0, "gap": gap} for gap in (0.33, 0.34)]
    assert check.parted
    check.rows[1]["gap"] = 0.1
    assert not check.parted


@pytest.fixture
def agents(made, tmp_path):
    """Three PPO policies in the world of the cart."""
    world, _ = made(CART, "state")
    return [trained_in(world, tmp_path / f"agent-{seed}", seed=seed) for seed in range(3)]


def test_policies_are_ranked_by_return(agents, tmp_path):
    found = evaluate_policies(agents, tmp_path / "judged", 16, workers=1, progress=False)
    assert found["by"] == "return" and [one["physics"]["n"] for one in found["policies"]] == [16] * 3
    every = found["agreement"]["all"]
    assert every["all"]["policies"] == 3 and every["optimism"] is None and every["mmrv"] >= 0
    assert every["physics_split_half"]["mmrv"] is not None and every["perfect_world"]["mmrv"] > 0
    assert found["perturbed"]["all"]["policies"] == 3  # one other action: no state can be set
    assert found["drawn"]["all"]["undefined"].endswith("or sees no picture")
    assert found["gating"]["all"]["undefined"] == "by return no outcome is right or wrong"
    assert found["prediction_powered"]["all"]["pairs"] == 2
    assert "3 policies, 16 matched starts each, by return" in summary_of_policies(found)
    assert (tmp_path / "judged" / "policies.png").stat().st_size > 5000
    page = write_trust_report(tmp_path / "judged").read_text()
    assert "Judged by return" in page and "by return no outcome is right or wrong" in page


def test_no_threshold_follows_from_returns(made, agents):
    with pytest.raises(ValueError, match="Cart-v0 says no success, so there is no success_threshold to set"):
        calibrate_judge(made(CART, "state")[0], agents[:1], 2, workers=1, progress=False)


def test_a_threshold_follows_from_an_environment_that_says_success(made, tmp_path):
    world, _ = made(BALL, "tiny")
    copied = tmp_path / "world"
    shutil.copytree(world, copied)
    small = {"policy_kwargs": {"net_arch": [8], "features_extractor_class": "FlattenExtractor"}}
    agent = trained_in(copied, tmp_path / "agent", recipe=small)
    found = calibrate_judge(copied, [agent], 40, workers=1, progress=False, backend="torch")
    assert found["now"]["physics"] == found["was"]["physics"] and 0 < found["now"]["physics"]["rate"] < 1
    assert World.from_pretrained(copied).spec.success_threshold == found["threshold"]


SIZE = Size(episodes=8, long_episodes=2, guarantee_episodes=4, decoder_episodes=4, decoder_updates=10, starts=4)


def asked(world, out, **options):
    """What `evaluate` finds of each task: its result, or why there is none."""
    evaluate(world, out=out, size=SIZE, progress=False, workers=1, **options)
    return {task: json.loads((out / f"{task}.json").read_text())["result"] for task in TASKS if task != "agent_drift"}


def test_a_world_of_pictures_is_asked_what_its_environment_can_answer(made, tmp_path):
    found = asked(made(HOP, "tiny")[0], tmp_path / "trust")
    assert found["fidelity"]["episodes"] >= 4 and found["uncertainty"]["episodes"] >= 2
    assert set(found["control"]["delta_psnr"]) == {"world", "frozen", "zero_action"}
    assert "names no object that its task moves" in found["control"]["without_physics"]
    for task in ("drift", "inverse", "judge", "violations"):
        assert "names no object that its task moves" in found[task]["undefined"]
    assert "cannot be shifted" in found["physics_iq"]["undefined"]
    assert "has no scripted policy 'expert', only random" in found["shifts"]["undefined"]
    page = write_trust_report(tmp_path / "trust").read_text()
    assert (
        "Not asked of physics" in page and "has no scripted policy" in page and (tmp_path / "trust/films.npz").is_file()
    )


def test_a_world_without_pictures_says_what_to_ask_instead(made, tmp_path, capsys):
    world, data = made(CART, "state")
    found = asked(world, tmp_path / "trust")
    assert all("trained without pictures" in result["undefined"] for result in found.values())
    assert not (tmp_path / "trust" / "recordings").exists() and not (tmp_path / "trust" / "films.npz").exists()
    assert "wm-gym evaluate-policies" in write_trust_report(tmp_path / "trust").read_text()
    assert main(["calibrate", str(world), str(data)]) == 2
    assert "nothing to calibrate" in capsys.readouterr().err
