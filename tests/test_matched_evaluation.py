"""Is a policy measured in a world and its twin from the same starts, or alone where there is no twin?"""

from __future__ import annotations

import json

import numpy as np
import pytest
from small_agent import train_small
from tiny_world import make_world

import wm_gym  # noqa: F401
from wm_gym.policies.films import matched_clips, side_by_side, write_video
from wm_gym.policies.loaders import load_agent
from wm_gym.policies.matched import evaluate_agent, evaluate_matched, save_results, summary
from wm_gym.rl.callbacks import CURVE_FILE, read_curve
from wm_gym.rl.report import write_report

TWIN = "wm_gym/ReachPyBullet-v0"


def test_matched_evaluation_of_a_world_and_its_twin(tmp_path, world_folder):
    """Counts add up, the same seed gives the same lists, baselines run, and everything lands in files."""
    agent = train_small(tmp_path / "agent", world_folder)
    options = {"workers": 0, "backend": "torch", "progress": False, "baseline_episodes": 1}
    results = evaluate_matched(agent, world_folder, None, 3, 5, **options)
    assert sum(results["table"].values()) == 3
    assert results["physics"]["successes"] == sum(results["per_episode"]["physics_success"])
    assert results["horizon"] == 50 and set(results["baselines"]) == {"random", "no-op"}
    again = evaluate_matched(agent, world_folder, None, 3, 5, **{**options, "baselines": ()})
    assert again["per_episode"] == results["per_episode"]

    save_results(agent, results)
    assert json.loads((agent / "results.json").read_text())["episodes"] == 3
    assert "world minus physics" in (agent / "README.md").read_text() and "matched starts" in summary(results)

    clips = matched_clips(agent, world_folder, None, episodes=1, seed=5, backend="torch")
    assert clips[0].world.shape == clips[0].physics.shape
    frames = side_by_side(clips)
    assert frames.shape[1:] == (288, 528, 3)
    film = write_video(tmp_path / "film.gif", frames, 10)
    write_video(tmp_path / "film.mp4", frames, 10)
    with pytest.raises(ValueError, match="neither .mp4 nor .gif"):
        write_video(tmp_path / "film.avi", frames, 10)
    page = write_report(
        tmp_path / "report.html",
        results,
        read_curve(tmp_path / "agent.training" / CURVE_FILE),
        load_agent(agent).config,
        film,
    ).read_text()
    assert "http://" not in page and "https://" not in page and page.count("data:image") == 3


def test_evaluating_a_learned_id_also_runs_its_twin(tmp_path, world_folder):
    agent = train_small(tmp_path / "agent", world_folder)
    results = evaluate_agent(agent, "wm_gym/World-v0", 2, workers=0, backend="torch", progress=False, baselines=())
    assert results["twin_id"] == TWIN and results["physics"]["n"] == results["world"]["n"] == 2


def test_a_world_of_another_environment_is_evaluated_and_filmed_alone(tmp_path, world_folder):
    """What was recorded elsewhere names where, but what a file names is not imported."""
    elsewhere = make_world(horizon=5)
    elsewhere.spec.twin = "elsewhere/Real-v0"
    elsewhere = {"world": str(elsewhere.save_pretrained(tmp_path / "elsewhere")), "backend": "torch"}
    agent = train_small(tmp_path / "agent", world_folder)
    with pytest.raises(ValueError, match="neither .mp4 nor .gif"):
        evaluate_agent(agent, "wm_gym/World-v0", 10**6, env_kwargs=elsewhere, video=tmp_path / "film.avi")
    with pytest.warns(UserWarning, match="elsewhere/Real-v0, .*, is not registered"):
        results = evaluate_agent(agent, "wm_gym/World-v0", 2, env_kwargs=elsewhere, video=tmp_path / "film.gif")
    assert results["env"] == "wm_gym/World-v0" and results["steps"]["mean"] == 5
    assert (tmp_path / "film.gif").stat().st_size > 1000
    with pytest.raises(ValueError, match="twin of the world 'Tiny-v0' is 'elsewhere/Real-v0', which is not registered"):
        evaluate_matched(agent, elsewhere["world"], None, 2)


def test_world_and_twin_begin_from_the_same_picture(world_folder):
    """The world's first frame is its tokenizer's drawing of the twin's first frame."""
    from wm_gym.core import WorldCore
    from wm_gym.engine.shared import load_world
    from wm_gym.policies.rollouts import draw_start, world_options
    from wm_gym.policies.source import make_source

    world = load_world(world_folder)
    twin = make_source(TWIN, world, "random")
    start, _ = draw_start(twin, 7)
    core = WorldCore(world, 1, backend="torch")
    core.reset(seeds=[7], options=[world_options(core, start)])
    state = core.engine.encode(start.frame[None, None], start.proprioception[None, None])
    assert np.array_equal(core.render(0), core.engine.render(state)[0].numpy())
    twin.close()
