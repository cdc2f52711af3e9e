"""Does planning find good actions, in a known problem and in a world, and is a planner an agent like any other?"""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_world import make_world

from wm_gym.engine.base import Engine
from wm_gym.engine.shared import load_engine
from wm_gym.policies.loaders import load_agent
from wm_gym.policies.matched import evaluate_agent, save_results
from wm_gym.policies.planner import WorldPlanner, save_planner
from wm_gym.policies.planning import Search

LOW, HIGH = np.array([-1.0, 0.0]), np.array([1.0, 0.5])


@pytest.mark.parametrize("method", ["cem", "mppi"])
def test_a_search_finds_the_top_of_a_known_hill(method):
    top = np.array([0.3, 0.4])
    search = Search(method, horizon=7, candidates=64, iterations=8, hold=2)
    found = search.best(lambda actions: -((actions - top) ** 2).sum((1, 2)), LOW, HIGH, np.random.default_rng(0))
    assert found.shape == (7, 2) and found.dtype == np.float32
    assert np.abs(found - top).max() < 0.1


def test_a_good_guess_is_not_lost():
    """With one candidate beside it, the search returns what it was given if nothing better is drawn."""
    guess = np.tile([0.9, 0.1], (6, 1))
    search = Search(horizon=6, candidates=2, elites=2, iterations=1, hold=1)
    found = search.best(
        lambda actions: -np.abs(actions - guess).sum((1, 2)), LOW, HIGH, np.random.default_rng(0), guess
    )
    np.testing.assert_allclose(found, guess, atol=1e-6)


@given(
    st.sampled_from(["cem", "mppi"]),
    st.integers(1, 9),
    st.integers(2, 12),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=40, deadline=None)
def test_any_search_stays_in_the_box_and_follows_its_generator(method, horizon, candidates, iterations, hold, seed):
    search = Search(method, horizon, candidates, iterations, elites=2, hold=hold)
    asked = []

    def score(actions):
        asked.append(actions)
        return actions[:, 0, 0]

    one, two = (search.best(score, LOW, HIGH, np.random.default_rng(seed)) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    for actions in [*asked, one[None]]:
        assert actions.shape[1:] == (horizon, 2)
        assert (actions >= LOW.astype(np.float32)).all() and (actions <= HIGH.astype(np.float32)).all()


@pytest.mark.parametrize(
    "wrong, error",
    [
        ({"method": "grid"}, "method is 'grid', expected one of"),
        ({"horizon": 0}, "horizon is 0, expected at least 1"),
        ({"elites": 65}, "elites is 65, expected 2 to candidates = 64"),
        ({"spread": 0.0}, "spread is 0.0, expected"),
    ],
)
def test_what_cannot_be_searched_is_said(wrong, error):
    with pytest.raises(ValueError, match=error):
        Search(**wrong)


def test_a_score_that_is_not_finite_is_said():
    with pytest.raises(ValueError, match="the score of 64 of 64 sequences of actions is not finite"):
        Search().best(lambda actions: np.full(len(actions), np.nan), LOW, HIGH, np.random.default_rng(0))


@pytest.fixture(scope="module")
def reach() -> WorldPlanner:
    return WorldPlanner("wm_gym/Reach-v0", Search(horizon=6, candidates=32, iterations=2, hold=3), backend="torch")


@pytest.mark.release
def test_planning_from_pictures_reaches_the_goal_in_physics(reach):
    """The world alone is asked what actions do."""
    env = gym.make("wm_gym/ReachPyBullet-v0", render_mode="rgb_array", max_episode_steps=30)
    successes = 0
    for seed in range(3):
        frame, _ = env.reset(seed=1000 + seed)
        state, over = None, False
        while not over:
            action, state = reach.predict(frame[None], state)
            frame, _, terminated, truncated, info = env.step(action[0])
            over = terminated or truncated
        successes += info["is_success"]
    env.close()
    assert successes >= 2


def test_plans_follow_from_frames_and_seed_whatever_the_batch(reach):
    frames = np.array(reach.world.starts.frames[:3, 0])
    together, state = reach.predict(frames)
    alone, _ = reach.predict(frames[1:2])
    np.testing.assert_array_equal(together[1], alone[0])
    some, after = reach.predict(frames, state, active=np.array([True, False, True]))
    assert (some[1] == 0).all() and len(after[1][0]) == 1 and len(after[0][0]) == 2
    begun, _ = reach.predict(frames, state, episode_start=np.ones(3, bool))
    np.testing.assert_array_equal(begun, together)


def test_a_plan_is_followed_before_the_next_is_made(reach):
    frames = np.array(reach.world.starts.frames[:1, 0])
    plan = reach.plan(frames)
    state, taken = None, []
    for _ in range(reach.replan_every):
        action, state = reach.predict(frames, state)
        taken.append(action[0])
    np.testing.assert_array_equal(taken, plan[: reach.replan_every])
    for wrong, error in (
        ({"replan_every": 7}, "replan_every is 7, expected 1 to horizon = 6"),
        ({"sampling_steps": 0}, "sampling_steps is 0, expected at least 1"),
    ):
        with pytest.raises(ValueError, match=error):
            WorldPlanner(reach.world, reach.search, **wrong)


def test_imagining_is_stepping_without_pictures():
    """OpenVINO's own way of it, and that of the other back-ends, give what T steps give."""
    world = make_world()
    rng = np.random.default_rng(0)
    actions = torch.from_numpy(rng.uniform(-1, 1, (2, 3, 3)).astype(np.float32))
    noise = torch.from_numpy(rng.standard_normal((2, 3, *world.spec.latent_shape), np.float32))
    engine = load_engine(world, "openvino", "cpu", False, "fp32")
    state = engine.encode(world.starts.frames[:2, :1])
    sure = engine.imagine(state, actions, noise, uncertainty=False)
    for out in (engine.imagine(state, actions, noise), Engine.imagine(engine, state, actions, noise)):
        now = state
        for t in range(3):
            now, step = engine.step(now, actions[:, t], noise[:, t])
            for key in ("reward", "success", "latent", "uncertainty"):
                torch.testing.assert_close(out[key][:, t], step[key], rtol=0, atol=1e-5)
    assert set(out) - set(sure) == {"uncertainty"}
    torch.testing.assert_close(sure["reward"], out["reward"], rtol=0, atol=1e-5)


def test_a_goal_picture_draws_the_hand_there(reach):
    """What is planned towards the picture of another start is worth more than resting."""
    world = reach.world
    near = WorldPlanner(
        world,
        Search(horizon=6, candidates=32, iterations=2, hold=6),
        backend="torch",
        goal=np.array(world.starts.frames[5, 0]),
    )
    start = near.engine.encode(world.starts.frames[:1, :1])
    plan = near.plan(np.array(world.starts.frames[0, :1]))
    rest = near.score(start, np.stack([np.zeros_like(plan), plan]), np.random.default_rng(0))
    assert rest[1] > rest[0]


def test_uncertainty_costs(reach):
    start = reach.engine.encode(reach.world.starts.frames[:1, :1])
    actions = np.zeros((2, 6, 3), np.float32)
    wary = WorldPlanner(reach.world, reach.search, uncertainty_penalty=5.0, backend="torch")
    plain, paid = (planner.score(start, actions, np.random.default_rng(0)) for planner in (reach, wary))
    assert (paid < plain).all()
    with pytest.raises(ValueError, match="uncertainty_penalty is -1"):
        WorldPlanner(reach.world, uncertainty_penalty=-1)


def test_a_planner_is_an_agent_folder(tmp_path):
    world = make_world()
    world.save_pretrained(tmp_path / "world")
    goal = tmp_path / "goal.png"
    Image.fromarray(np.array(world.starts.frames[0, 0])).save(goal)
    folder = save_planner(
        tmp_path / "world",
        tmp_path / "plan",
        Search(horizon=2, candidates=4, elites=2, hold=1),
        goal=goal,
        replan_every=1,
        seed=3,
    )
    agent = load_agent(folder)
    assert agent.world == str(tmp_path / "world") and agent.policy.seed == 3 and agent.policy.goal is not None
    results = evaluate_agent(
        agent, "wm_gym/World-v0", 2, env_kwargs={"world": str(tmp_path / "world"), "max_episode_steps": 3}
    )
    assert results["episodes"] == 2 and results["steps"]["mean"] <= 3
    save_results(folder, results)
    assert "CEM" in (folder / "README.md").read_text()
    with pytest.raises(ValueError, match="plans and has no weights"):
        agent.to_sb3(None)
    with pytest.raises(FileExistsError, match="choose another --out"):
        save_planner(tmp_path / "world", folder)


def test_what_is_no_goal_and_no_planner_is_said(tmp_path):
    world = make_world()
    world.save_pretrained(tmp_path / "world")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ValueError, match="is no picture that can be read"):
        save_planner(tmp_path / "world", tmp_path / "plan", goal=tmp_path / "text.png")
    Image.new("RGB", (9, 9)).save(tmp_path / "small.png")
    with pytest.raises(ValueError, match=r"expected uint8 \[64, 64, 3\]"):
        save_planner(tmp_path / "world", tmp_path / "plan", goal=tmp_path / "small.png")
    folder = save_planner(tmp_path / "world", tmp_path / "plan")
    config = yaml.safe_load((folder / "config.yml").read_text())
    del config["search"]
    (folder / "config.yml").write_text(yaml.safe_dump(config))
    with pytest.raises(ValueError, match="config.yml lacks search.*write it again"):
        load_agent(folder)
