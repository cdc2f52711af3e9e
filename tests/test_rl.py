"""Do policies learn, survive on the disk without pickles, resume after a kill, and get honest statistics?"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import yaml
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.env_util import make_vec_env

import wm_gym  # noqa: F401
from tiny_world import make_world
from wm_gym.rl.agent_folder import CONFIG_FILE, TENSORS_FILE, decode_space, encode_space, load_agent, save_agent
from wm_gym.rl.callbacks import CURVE_FILE, read_curve
from wm_gym.rl.evaluate import evaluate_agent, evaluate_matched, save_results, summary
from wm_gym.rl.features import SpatialSoftmaxCNN
from wm_gym.rl.recipe import load_recipe, sb3_arguments
from wm_gym.rl.report import write_report
from wm_gym.rl.statistics import matched_table, paired_difference, rate, wilson_interval
from wm_gym.rl.train import train_agent
from wm_gym.rl.video import matched_clips, side_by_side, write_video
from wm_gym.sb3 import make_sb3_env
from wm_gym.wrappers import DiscreteActions

TWIN = "wm_gym/ReachPyBullet-v0"


class DotReach(gym.Env):
    """A white dot moves to a red one in a 36x36 picture: a real task that a policy solves from pixels in seconds."""

    def __init__(self, state: bool = False):
        pixels = gym.spaces.Box(0, 255, (36, 36, 3), np.uint8)
        agent = gym.spaces.Box(-1, 1, (2,), np.float32)
        self.state = state
        self.observation_space = gym.spaces.Dict({"pixels": pixels, "agent_pos": agent}) if state else pixels
        self.action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.dot, self.goal = self.np_random.uniform(-0.8, 0.8, (2, 2))
        self.steps = 0
        return self._observe(), {}

    def step(self, action):
        before = np.linalg.norm(self.dot - self.goal)
        self.dot = np.clip(self.dot + 0.2 * np.clip(action, -1, 1), -0.8, 0.8)
        after = np.linalg.norm(self.dot - self.goal)
        self.steps += 1
        success = bool(after < 0.25)
        reward = float(3 * (before - after) + success)
        return self._observe(), reward, success, self.steps >= 15, {"is_success": success}

    def _observe(self):
        picture = np.zeros((36, 36, 3), np.uint8)
        for (x, y), colour in ((self.goal, (255, 0, 0)), (self.dot, (255, 255, 255))):
            row, column = int(18 + 18 * y), int(18 + 18 * x)
            picture[row - 2:row + 3, column - 2:column + 3] = colour
        return {"pixels": picture, "agent_pos": self.dot.astype(np.float32)} if self.state else picture


def small_ppo(env, policy="CnnPolicy", **kwargs) -> PPO:
    network = dict(features_extractor_class=SpatialSoftmaxCNN, features_extractor_kwargs=dict(channels=[4, 4, 4]))
    return PPO(policy, env, n_steps=8, batch_size=8, n_epochs=1, device="cpu", seed=0,
               policy_kwargs={**network, "net_arch": [8]}, **kwargs)


META = {"algo": "ppo", "policy": "CnnPolicy", "env_id": TWIN, "env_kwargs": {}, "learned": False, "env_wrapper": None,
        "frame_stack": 1, "seed": 0, "n_timesteps": 0, "hyperparameters": {}, "n_envs": 1,
        "trained_with": {"stable_baselines3": "2"}}


# ---------------------------------------------------------------- learning


@pytest.mark.slow
def test_the_recipe_learns_from_pixels():
    """PPO with the shipped recipe (fewer environments) goes from chance to most episodes on a small real task."""
    env = make_vec_env(DotReach, 16, seed=0)
    recipe = {**load_recipe("ppo", "any"), "n_steps": 32}
    model = PPO(env=env, seed=0, device="cpu", **sb3_arguments("ppo", recipe, env.observation_space))
    before = success_rate(model)
    model.learn(12_000)
    assert before < 0.4
    assert success_rate(model) > 0.85


def success_rate(model, episodes: int = 60) -> float:
    env, wins = DotReach(), 0
    for seed in range(episodes):
        observation, over = env.reset(seed=10_000 + seed)[0], False
        while not over:
            observation, _, terminated, truncated, info = env.step(model.predict(observation, deterministic=True)[0])
            over = terminated or truncated
        wins += info["is_success"]
    return wins / episodes


def test_keypoints_say_where_things_are():
    """A bright spot moved to the right moves the expected x of a map that sees it, and not its y."""
    import torch

    from wm_gym.rl.features import SpatialSoftmax

    layer = SpatialSoftmax(1, 9, 9)
    maps = torch.zeros(2, 1, 9, 9)
    maps[0, 0, 4, 4] = maps[1, 0, 4, 8] = 50.0
    assert torch.allclose(layer(maps), torch.tensor([[0.0, 0.0], [1.0, 0.0]]), atol=1e-5)


def test_extractor_takes_dict_observations_and_names_what_it_cannot():
    env = make_vec_env(lambda: DotReach(state=True), 2)
    model = small_ppo(env, "MultiInputPolicy")
    assert model.policy.features_extractor.features_dim == 2 * 4 + 2
    model.learn(16)
    with pytest.raises(ValueError, match="MlpPolicy"):
        SpatialSoftmaxCNN(gym.spaces.Box(-1, 1, (4,), np.float32))


# ---------------------------------------------------------------- agent folders


@pytest.mark.parametrize("state", [False, True])
def test_agent_folder_round_trip_acts_identically(tmp_path, state):
    env = make_vec_env(lambda: DotReach(state=state), 2, seed=3)
    model = small_ppo(env, "MultiInputPolicy" if state else "CnnPolicy")
    model.learn(32)
    folder = save_agent(model, tmp_path / "agent", {**META, "policy": "MultiInputPolicy" if state else "CnnPolicy"})
    agent = load_agent(folder)
    observation = env.reset()
    assert np.array_equal(agent.act(observation), model.predict(observation, deterministic=True)[0])
    assert {p.name for p in folder.iterdir()} == {CONFIG_FILE, TENSORS_FILE}
    assert not list(tmp_path.glob(".*"))
    again = agent.to_sb3(env)
    assert np.array_equal(again.predict(observation, deterministic=True)[0], agent.act(observation))


@pytest.mark.parametrize("kind, algo", [(SAC, "sac"), (DQN, "dqn")])
def test_other_algorithms_round_trip(tmp_path, kind, algo):
    env = make_vec_env(DotReach, 1, seed=0, wrapper_class=DiscreteActions if algo == "dqn" else None)
    recipe = {**load_recipe(algo, "any"), "buffer_size": 100, "learning_starts": 8, "batch_size": 8}
    model = kind(env=env, device="cpu", seed=0, **sb3_arguments(algo, recipe, env.observation_space))
    model.learn(16)
    agent = load_agent(save_agent(model, tmp_path / algo, {**META, "algo": algo}))
    observation = env.reset()
    assert np.array_equal(agent.act(observation), model.predict(observation, deterministic=True)[0])


def test_shipped_agents_can_be_trained_on_in_stable_baselines3():
    agent = load_agent("ppo-Reach-v0")
    env = make_sb3_env("wm_gym/Reach-v0", 1, 0)
    try:
        model = agent.to_sb3(env)
        rate = float(agent.config["hyperparameters"]["learning_rate"].removeprefix("lin_"))
        assert model.lr_schedule(0.5) == pytest.approx(0.5 * rate)
        observation = env.reset()
        assert np.array_equal(model.predict(observation, deterministic=True)[0], agent.act(observation))
    finally:
        env.close()


def test_pickles_are_refused_unless_asked_for(tmp_path):
    env = make_vec_env(DotReach, 1, seed=0)
    model = small_ppo(env)
    (tmp_path / "zipped").mkdir()
    model.save(tmp_path / "zipped" / "ppo-dots.zip")
    for source in (tmp_path / "zipped" / "ppo-dots.zip", tmp_path / "zipped"):
        with pytest.raises(ValueError, match="pickle.*allow_pickle=True"):
            load_agent(source)
    observation = env.reset()
    trusted = load_agent(tmp_path / "zipped", allow_pickle=True)
    assert np.array_equal(trusted.act(observation), model.predict(observation, deterministic=True)[0])


def test_damaged_and_missing_agents_say_what_is_wrong(tmp_path):
    folder = save_agent(small_ppo(make_vec_env(DotReach, 1)), tmp_path / "agent", META)
    tensors = (folder / TENSORS_FILE).read_bytes()
    (folder / TENSORS_FILE).write_bytes(tensors[: len(tensors) // 2])
    with pytest.raises(ValueError, match="policy.safetensors is damaged"):
        load_agent(folder)
    (folder / TENSORS_FILE).write_bytes(tensors)
    config = yaml.safe_load((folder / CONFIG_FILE).read_text())
    config["policy_kwargs"]["features_extractor_class"] = "os:system"
    (folder / CONFIG_FILE).write_text(yaml.safe_dump(config))
    with pytest.raises(ValueError, match="'os:system' is unknown; choose one of"):
        load_agent(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="agent train"):
        load_agent(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="there is no agent 'nowhere'"):
        load_agent("nowhere")
    with pytest.raises(FileExistsError, match="no agent folder"):
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "thesis.txt").write_text("x")
        save_agent(small_ppo(make_vec_env(DotReach, 1)), tmp_path / "mine", META)


def test_spaces_survive_yaml():
    space = gym.spaces.Dict({"a": gym.spaces.Box(0, 255, (3, 8, 8), np.uint8), "b": gym.spaces.Discrete(5),
                             "c": gym.spaces.Box(np.array([-1, -2], np.float32), np.array([1, np.inf], np.float32))})
    assert decode_space(yaml.safe_load(yaml.safe_dump(encode_space(space)))) == space


# ---------------------------------------------------------------- training: checkpoints, kill, resume


@pytest.fixture(scope="module")
def world_folder(tmp_path_factory) -> Path:
    """A tiny world with random weights and Reach's twin, saved."""
    world = make_world(horizon=10, success_threshold=0.5)
    world.spec.twin = TWIN
    return world.save_pretrained(tmp_path_factory.mktemp("rl-world") / "tiny")


SMALL = {"n_envs": 2, "n_steps": 8, "batch_size": 8, "n_epochs": 2}


def train_small(out, world_folder, **kwargs) -> Path:
    return train_agent("ppo", "wm_gym/World-v0", out, 64, env_kwargs={"world": str(world_folder), "backend": "torch"},
                       recipe=SMALL, checkpoint_every=16, progress=False, device="cpu", **kwargs)


def test_killed_training_resumes_to_the_same_weights(tmp_path, world_folder):
    """kill -9 in the middle of a roll-out; the resumed run ends bit for bit where the uninterrupted one does."""
    whole = train_small(tmp_path / "whole", world_folder)
    script = textwrap.dedent(f"""
        import os, signal, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from stable_baselines3.common.callbacks import BaseCallback
        from test_rl import train_small
        class Kill(BaseCallback):
            def _on_step(self):
                if self.num_timesteps == 42:
                    os.kill(os.getpid(), signal.SIGKILL)
                return True
        train_small({str(tmp_path / 'cut')!r}, {str(world_folder)!r}, callback=Kill())
    """)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    killed = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
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


# ---------------------------------------------------------------- evaluation


def test_matched_evaluation_of_a_world_and_its_twin(tmp_path, world_folder):
    """Counts add up, the same seed gives the same lists, baselines run, and everything lands in files."""
    agent = train_small(tmp_path / "agent", world_folder)
    options = dict(workers=0, backend="torch", progress=False, baseline_episodes=1)
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
    page = write_report(tmp_path / "report.html", results, read_curve(tmp_path / "agent.training" / CURVE_FILE),
                        load_agent(agent).config, film).read_text()
    assert "http://" not in page and "https://" not in page and page.count("data:image") == 3


def test_evaluating_a_learned_id_also_runs_its_twin(tmp_path, world_folder):
    agent = train_small(tmp_path / "agent", world_folder)
    results = evaluate_agent(agent, "wm_gym/World-v0", 2, workers=0, backend="torch", progress=False, baselines=())
    assert results["twin_id"] == TWIN and results["physics"]["n"] == results["world"]["n"] == 2


def test_a_world_of_another_environment_is_evaluated_and_filmed_alone(tmp_path, world_folder):
    """What was recorded elsewhere names where, but that is no twin that starts where it is told."""
    elsewhere = make_world(horizon=5)
    elsewhere.spec.twin = "CartPole-v1"
    elsewhere = {"world": str(elsewhere.save_pretrained(tmp_path / "elsewhere")), "backend": "torch"}
    agent = train_small(tmp_path / "agent", world_folder)
    with pytest.raises(ValueError, match="neither .mp4 nor .gif"):
        evaluate_agent(agent, "wm_gym/World-v0", 10**6, env_kwargs=elsewhere, video=tmp_path / "film.avi")
    results = evaluate_agent(agent, "wm_gym/World-v0", 2, env_kwargs=elsewhere, video=tmp_path / "film.gif")
    assert results["env"] == "wm_gym/World-v0" and results["steps"]["mean"] == 5
    assert (tmp_path / "film.gif").stat().st_size > 1000
    with pytest.raises(ValueError, match="names no physics twin .but 'CartPole-v1'."):
        evaluate_matched(agent, elsewhere["world"], None, 2)


def test_a_training_begun_with_another_recipe_is_not_gone_on_with(tmp_path, world_folder):
    (tmp_path / "mine.yml").write_text("default: {policy: CnnPolicy, n_timesteps: 64, gamma: 0.5}")
    train_small(tmp_path / "agent", world_folder)
    with pytest.raises(ValueError, match="begun with another recipe"):
        train_small(tmp_path / "agent", world_folder, resume=True, recipe_file=tmp_path / "mine.yml")


def test_world_and_twin_begin_from_the_same_picture(world_folder):
    """The world's first frame is its tokenizer's drawing of the twin's first frame."""
    from wm_gym.core import WorldCore
    from wm_gym.rl.rollout import draw_start, make_twin, world_options
    from wm_gym.shared import load_world

    world = load_world(world_folder)
    twin = make_twin(TWIN, world, "random")
    start, _ = draw_start(twin, 7)
    core = WorldCore(world, 1, backend="torch")
    core.reset(seeds=[7], options=[world_options(world, start)])
    state = core.engine.encode(start.frame[None, None], start.proprioception[None, None])
    assert np.array_equal(core.render(0), core.engine.render(state)[0].numpy())
    twin.close()


# ---------------------------------------------------------------- statistics


def pairs(both: int, first_only: int, second_only: int, neither: int):
    first = [True] * (both + first_only) + [False] * (second_only + neither)
    second = [True] * both + [False] * first_only + [True] * second_only + [False] * neither
    return first, second


@pytest.mark.parametrize("counts, difference, low, high", [
    # Cavo et al. 2012 in Fagerland, Lydersen, Laake, "Statistical Analysis of Contingency Tables", chapter 8
    ((59, 6, 16, 80), -0.0621, -0.1186, -0.0046),
    # no disagreement at all still leaves a width: Wilson's 1 - 400 / (400 + z^2)
    ((400, 0, 0, 0), 0.0, -0.0095, 0.0095),
])
def test_paired_difference_against_published_values(counts, difference, low, high):
    result = paired_difference(*pairs(*counts))
    assert [round(result[k], 4) for k in ("difference", "low", "high")] == [difference, low, high]


def test_paired_interval_covers():
    """About 95 % of intervals of simulated correlated pairs hold the true difference."""
    rng, covered = np.random.default_rng(0), 0
    for _ in range(300):
        counts = rng.multinomial(100, [0.80, 0.12, 0.04, 0.04])
        result = paired_difference(*pairs(*counts))
        covered += result["low"] <= 0.08 <= result["high"]
    assert 0.92 <= covered / 300 <= 0.99


def test_wilson_and_matched_table():
    assert [round(x, 4) for x in wilson_interval(81, 263)] == [0.2553, 0.3662]  # Newcombe 1998, table I
    assert wilson_interval(0, 0) == (0.0, 1.0) and rate([])["rate"] is None
    with pytest.raises(ValueError, match="impossible"):
        wilson_interval(5, 4)
    table = matched_table([1, 1, 1, 0, 0], [1, 0, 1, 1, 0])
    assert table["table"] == {"both": 2, "world_only": 1, "physics_only": 1, "neither": 1}
    assert table["optimism"]["rate"] == 0.5 and round(table["pessimism"]["rate"], 4) == 0.3333
    with pytest.raises(ValueError, match="paired"):
        paired_difference([True], [True, False])
