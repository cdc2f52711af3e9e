"""Can the tasks be solved, do their rewards say what was meant, and is one more of them one small file?"""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from twins import DRAWER, PUSH, REACH, TWINS, make

from wm_gym.physics import TASKS, TaskEntry


def success_rate(env, kind: str, episodes: int) -> float:
    """Share of episodes that succeed within the horizon; kind "uniform" samples the action space."""
    successes = 0
    for seed in range(episodes):
        env.reset(seed=1000 + seed)
        env.action_space.seed(seed)
        act = (
            env.action_space.sample if kind == "uniform" else env.scripted_policy(kind, np.random.default_rng(seed)).act
        )
        successes += any(env.step(act())[2] for _ in range(env.horizon))
    return successes / episodes


@pytest.mark.parametrize(
    "env_id, kind, episodes, low, high",
    [
        (REACH, "expert", 25, 0.99, 1.0),
        (REACH, "uniform", 20, 0.0, 0.1),
        (REACH, "near-miss", 12, 0.0, 0.1),
        (PUSH, "expert", 15, 0.8, 1.0),
        (PUSH, "uniform", 10, 0.0, 0.1),
        (PUSH, "near-miss", 8, 0.0, 0.25),
        (DRAWER, "expert", 12, 0.99, 1.0),
        (DRAWER, "uniform", 10, 0.0, 0.2),
        (DRAWER, "near-miss", 8, 0.0, 0.0),
    ],
)
def test_success_rates_of_the_scripted_policies(env_id, kind, episodes, low, high):
    assert low <= success_rate(make(env_id), kind, episodes) <= high


def test_near_misses_come_near(twin):
    twin.reset(seed=2)
    policy = twin.scripted_policy("near-miss", np.random.default_rng(2))
    distances = []
    for _ in range(twin.horizon):
        twin.step(policy.act())
        distances.append(twin.task.distance())
    assert twin.task.radius < min(distances) < 3 * twin.task.radius


def test_the_noise_knob_perturbs_the_expert(twin):
    acts = {}
    for kind, noise in (("expert", 0.3), ("noisy", 0.0), ("noisy", 0.3)):
        twin.reset(seed=4)
        policy = twin.scripted_policy(kind, np.random.default_rng(0), noise=noise)
        acts[kind, noise] = np.array([twin.step(a := policy.act()) and a for _ in range(4)])
    assert (acts["expert", 0.3] == acts["noisy", 0.0]).all()
    assert np.abs(acts["expert", 0.3] - acts["noisy", 0.3]).mean() > 0.02
    assert acts["noisy", 0.3].dtype == np.float32 and np.abs(acts["noisy", 0.3]).max() <= 1


def test_rewards_are_the_sum_of_their_terms_and_success_ends_the_episode():
    for env_id in TWINS:
        env = make(env_id)
        env.reset(seed=1)
        first, policy, gained = env.task.distance(), env.scripted_policy("expert", np.random.default_rng(1)), 0.0
        for _ in range(env.horizon):
            _, reward, terminated, truncated, info = env.step(policy.act())
            terms = {key: value for key, value in info.items() if key.startswith("reward/")}
            assert reward == pytest.approx(sum(terms.values())) and not truncated
            gained += terms["reward/progress"]
            assert terminated is info["success"] is info["is_success"] is (terms["reward/success"] == 1.0)
            if terminated:
                break
        assert terminated
        assert gained == pytest.approx(10 * (first - env.task.distance()), abs=1e-6)


@pytest.mark.parametrize("env_id", [PUSH, DRAWER])
def test_where_contact_is_hard_reaching_the_goal_is_paid_once_and_staying_there_is_not(env_id):
    env = make(env_id, terminate_on_success=False)
    env.reset(seed=1)
    policy, paid, there = env.scripted_policy("expert", np.random.default_rng(1)), [], []
    for _ in range(env.horizon):
        *_, info = env.step(policy.act())
        paid.append(info["reward/success"])
        there.append(info["success"])
    assert there[-1] and sum(there) > 1
    assert (np.cumsum(paid) == there).all()


HOVER = '''"""Hover: bring the gripper over a plate that lies on the table."""

import numpy as np

from wm_gym.physics.scene import Camera
from wm_gym.physics.task import Task


class HoverTask(Task):
    description = "Hover over the red plate."
    camera = Camera(target=(0.45, 0.0, 0.1), distance=1.2, yaw=0, pitch=-60)
    action_dim, height, radius = 2, 0.2, 0.03
    low, high = np.array([0.35, -0.15]), np.array([0.55, 0.15])

    def __init__(self, scene):
        super().__init__(scene)
        self.plate = scene.cylinder(0.05, 0.01, [0.9, 0.1, 0.1, 1])
        self.must_see = [self.plate]

    def reset(self, rng):
        self.set_state(rng.uniform(self.low, self.high))
        return np.array([*rng.uniform(self.low, self.high), self.height])

    def state(self):
        return self.goal

    def set_state(self, state):
        self.goal = np.array(state)
        self.scene.place(self.plate, [*state, 0.005])

    def distance(self):
        return float(np.linalg.norm(self.scene.end_effector()[:2] - self.goal))

    def object_poses(self):
        return {"plate": self.scene.pose(self.plate).astype(np.float32)}

    def expert(self):
        return (self.goal - self.scene.end_effector()[:2]) / 0.02

    def near_miss(self, rng):
        return lambda: np.zeros(2)
'''


def test_a_further_task_is_one_small_file(tmp_path, monkeypatch):
    (tmp_path / "hover_task.py").write_text(HOVER)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(TASKS, "hover", TaskEntry("test/Hover-v0", "hover_task:HoverTask", 30))
    gym.register("test/Hover-v0", "wm_gym.physics.twin:PandaTwin", max_episode_steps=30, kwargs={"task": "hover"})
    try:
        check_env(make("test/Hover-v0"), skip_render_check=True)
        assert success_rate(make("test/Hover-v0"), "expert", 5) == 1.0
    finally:
        del gym.registry["test/Hover-v0"]


@pytest.mark.parametrize("task, object_name, slopes", [("Push", "block", (2.2, 8.4)), ("Drawer", "handle", (1.0, 1.0))])
@pytest.mark.parametrize("policy", ["expert", "random", "blunt"])
def test_the_way_round_is_a_reward_without_jumps(task, object_name, slopes, policy):
    """The approach term never gains more than what hand and object moved, and the expert gains by it.

    The blunt policy drives straight through the object, as one does that was trained where nothing stopped it.
    """
    env = gym.make(f"wm_gym/{task}PyBullet-v0", render_mode=None, terminate_on_success=False)
    gains = []
    for seed in range(4):
        _, info = env.reset(seed=seed)
        inner, gained = env.unwrapped, 0.0
        env.action_space.seed(seed)
        for _ in range(50):
            expert = np.clip(inner.task.expert(), -1, 1).astype(np.float32)
            before = np.array([info["proprioception"][:2], inner.task.object_poses()[object_name][:2]])
            through = np.clip((before[1] + [0.05, 0] - before[0]) / 0.02, -0.7, 0.7).astype(np.float32)
            action = {"expert": expert, "random": env.action_space.sample(), "blunt": through}[policy]
            info = env.step(action)[4]
            after = np.array([info["proprioception"][:2], inner.task.object_poses()[object_name][:2]])
            moved = np.linalg.norm(after - before, axis=1)
            assert abs(info["reward/approach"]) <= 4 * (moved @ slopes) + 2e-3
            gained += info["reward/approach"]
        gains.append(gained)
    env.close()
    assert policy != "expert" or min(gains) > 0.1


def test_random_episodes_jitter_or_wander_which_turns_the_block():
    env, roamed, turned = make(PUSH), {True: [], False: []}, {True: [], False: []}
    for seed in range(12):
        env.reset(seed=seed)
        policy, before = env.scripted_policy("random", np.random.default_rng(seed)), env.task.object_poses()["block"]
        way = np.array([env.step(policy.act()) and env.scene.end_effector()[:2] for _ in range(env.horizon)])
        after = env.task.object_poses()["block"]
        roamed[policy.wanders].append(np.linalg.norm(np.diff(way, axis=0), axis=1).sum())
        turned[policy.wanders].append(abs(after[3:] @ before[3:]) < np.cos(0.25 / 2))  # by more than 0.25 rad
    assert min(map(len, roamed.values())) >= 2
    assert np.mean(roamed[True]) > 1.1 * np.mean(roamed[False])
    assert np.mean(turned[True]) >= 0.25
