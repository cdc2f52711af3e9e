"""Do the PyBullet twins keep their promises: contracts, determinism, predictable motion, solvable tasks?"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.utils.env_checker import check_env

import wm_gym  # noqa: F401  (registers the ids)
from wm_gym.physics import SCRIPTED_KINDS, TASKS, TaskEntry
from wm_gym.starts import StartBank

REACH, PUSH, DRAWER = (f"wm_gym/{name}PyBullet-v0" for name in ("Reach", "Push", "Drawer"))
TWINS = (REACH, PUSH, DRAWER)


def make(env_id: str, **kwargs):
    return gym.make(env_id, **kwargs).unwrapped


def roll_out(env, kind: str, steps: int, seed: int = 0, start=None):
    """Digest of all frames, physics states [steps + 1, S] and actions of a scripted (or a given) action sequence."""
    frame, _ = env.reset(seed=seed) if start is None else env.reset(options={"physics_state": start})
    act = env.scripted_policy(kind, np.random.default_rng(seed)).act if isinstance(kind, str) else iter(kind).__next__
    digest, states, actions = hashlib.sha256(frame), [env.get_physics_state()], []
    for _ in range(steps):
        actions.append(act())
        frame = env.step(actions[-1])[0]
        digest.update(frame)
        states.append(env.get_physics_state())
    return digest.hexdigest(), np.array(states), np.array(actions)


def success_rate(env, kind: str, episodes: int) -> float:
    """Share of episodes that succeed within the horizon; kind "uniform" samples the action space."""
    successes = 0
    for seed in range(episodes):
        env.reset(seed=1000 + seed)
        env.action_space.seed(seed)
        act = env.action_space.sample if kind == "uniform" else \
            env.scripted_policy(kind, np.random.default_rng(seed)).act
        successes += any(env.step(act())[2] for _ in range(env.horizon))
    return successes / episodes


@pytest.fixture(scope="module", params=TWINS)
def twin(request):
    env = make(request.param, terminate_on_success=False)
    yield env
    env.close()


# contracts
@pytest.mark.parametrize("env_id", TWINS)
@pytest.mark.parametrize("observation", ["pixels", "pixels+state"])
def test_both_checkers_pass_without_a_warning(env_id, observation):
    from stable_baselines3.common.env_checker import check_env as sb3_check_env

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(env_id, observation=observation).unwrapped)
        sb3_check_env(gym.make(env_id, observation=observation))


@pytest.mark.parametrize("env_id, actions, horizon", [(REACH, 3, 50), (PUSH, 2, 60), (DRAWER, 2, 60)])
def test_spaces_and_horizon(env_id, actions, horizon):
    env = gym.make(env_id, observation="pixels+state", render_mode="rgb_array", size=96)
    assert env.action_space == gym.spaces.Box(-1, 1, (actions,), np.float32)
    assert env.observation_space["pixels"] == gym.spaces.Box(0, 255, (96, 96, 3), np.uint8)
    assert env.spec.max_episode_steps == env.unwrapped.horizon == horizon
    observation, info = env.reset(seed=3)
    assert (env.render() == observation["pixels"]).all()
    assert (observation["agent_pos"] == info["proprioception"]).all() and info["proprioception"].dtype == np.float32
    assert info["success"] is info["is_success"] is False
    assert all(pose.shape == (7,) and pose.dtype == np.float32 for pose in info["object_poses"].values())
    env.close()
    env.close()


def test_importing_costs_no_pybullet_and_a_second_process_sees_the_same_frames(twin):
    env_id = twin.spec.id
    code = (f"import sys; sys.path[:0] = {sys.path!r}; import wm_gym.physics; "
            "assert not {'pybullet', 'torch'} & set(sys.modules); "
            f"from test_physics import make, roll_out; print(roll_out(make({env_id!r}), 'expert', 25, seed=5)[0])")
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    roll_out(twin, "noisy", 12, seed=8)  # what this process simulated before must not show
    assert there.split()[-1] == roll_out(twin, "expert", 25, seed=5)[0]


# determinism and state
def test_an_episode_does_not_depend_on_those_before(twin):
    first = roll_out(twin, "noisy", 40, seed=1)
    roll_out(twin, "expert", 30, seed=2)
    again = roll_out(twin, "noisy", 40, seed=1)
    assert first[0] == again[0] and (first[1] == again[1]).all()


def test_going_on_from_a_physics_state_gives_the_same_future(twin):
    for seed in (3, 4):
        _, states, actions = roll_out(twin, "expert", 36, seed=seed)
        for middle in (7, 14, 21):
            roll_out(twin, "random", 3, seed=9)
            future = roll_out(twin, actions[middle:], 36 - middle, start=states[middle])[1]
            assert np.abs(future - states[middle:]).max() < 1e-12


def test_starts_from_the_bank(twin, tmp_path):
    _, states, actions = roll_out(twin, "expert", 4, seed=6)
    pictures = np.zeros((2, 3, 8, 8, 3), np.uint8)
    bank = StartBank(pictures, np.zeros((2, 2, 3), np.float32), np.zeros((2, 3, 3), np.float32),
                     np.array([5, 5]), np.array([2, 4]), states[[2, 4]])
    bank.save(tmp_path)
    env = make(twin.spec.id, starts=str(tmp_path))
    env.reset(options={"episode": 5, "t": 4})
    assert np.abs(env.get_physics_state() - states[4]).max() < 1e-12
    env.reset(options={"episode": 5})
    assert np.abs(env.get_physics_state() - states[2]).max() < 1e-12
    with pytest.raises(ValueError, match="t=3"):
        env.reset(options={"episode": 5, "t": 3})
    bank.physics_state = None
    bank.save(tmp_path)
    with pytest.raises(ValueError, match="no physics states"):
        env.reset(options={"episode": 5})


# motion and picture
def test_the_gripper_goes_where_it_is_told(twin):
    """Each step arrives within 2 mm (Push: 0.3 mm, blocks in the way or not), never beyond 2 cm or the workspace."""
    twin.reset(seed=0)
    rng, task, errors, here = np.random.default_rng(0), twin.task, [], twin.scene.end_effector()
    for _ in range(60):
        action = rng.uniform(-1, 1, twin.action_space.shape).round()  # often longer than 1
        move = 0.02 * action / max(1, np.linalg.norm(action))
        goal = task.constrain(here + np.array([*move, 0.0])[:3])
        there = twin.step(action)[4]["proprioception"]
        errors.append(np.linalg.norm(there - goal))
        assert np.linalg.norm(there - here) < 0.0215
        here = there
        assert (here[:task.action_dim] > task.low - 0.003).all() and (here[:task.action_dim] < task.high + 0.003).all()
    assert np.quantile(errors, 0.9) < (0.002 if task.action_dim == 3 else 0.0003)


def test_what_matters_is_in_the_picture(twin):
    """Objects show at least 8 pixels at the start; the fingertips (the foot) project into the picture everywhere."""
    scene, task = twin.scene, twin.task
    for seed in range(8):
        twin.reset(seed=seed)
        assert min(scene.visible_pixels(task.must_see)) >= 8
    view, projection = (np.array(m).reshape(4, 4).T for m in (scene.view, scene.projection))
    for corner in np.ndindex(*[2] * task.action_dim):
        position = np.where(corner, task.high, task.low)
        position = position if task.action_dim == 3 else np.array([*position, 0.02])
        x, y, _, w = projection @ view @ [*position, 1]
        assert max(abs(x / w), abs(y / w)) < 0.95


def test_pushing_moves_the_block_and_near_starts_stay_near():
    """A start 2 mm off ends less than 1 cm off under the same actions, in the median: the task is predictable."""
    env, apart = make(PUSH, terminate_on_success=False), []
    for seed in range(7):
        _, states, actions = roll_out(env, "expert", 40, seed=seed)
        start = states[0].copy()
        start[23:25] += 0.002 * np.array([np.cos(seed), np.sin(seed)])  # the block's x, y
        other = roll_out(env, actions, 40, start=start)[1]
        if np.linalg.norm(states[-1, 23:25] - states[0, 23:25]) > 0.02:
            apart.append(np.linalg.norm(other[-1, 23:25] - states[-1, 23:25]))
    assert len(apart) >= 5 and np.median(apart) < 0.01


# tasks
@pytest.mark.parametrize("env_id, kind, episodes, low, high", [
    (REACH, "expert", 25, 0.99, 1.0), (REACH, "uniform", 20, 0.0, 0.1), (REACH, "near-miss", 12, 0.0, 0.1),
    (PUSH, "expert", 15, 0.8, 1.0), (PUSH, "uniform", 10, 0.0, 0.1), (PUSH, "near-miss", 8, 0.0, 0.25),
    (DRAWER, "expert", 12, 0.99, 1.0), (DRAWER, "uniform", 10, 0.0, 0.2), (DRAWER, "near-miss", 8, 0.0, 0.0)])
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


@pytest.mark.parametrize("env_id", ["wm_gym/PushPyBullet-v0", "wm_gym/DrawerPyBullet-v0"])
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


# bad input
@pytest.mark.parametrize("change, match", [
    ({"task": "fly"}, "'fly'.*push"), ({"observation": "audio"}, "'audio'.*pixels"),
    ({"render_mode": "human"}, "'human'.*rgb_array"), ({"renderer": "vulkan"}, "'vulkan'.*tiny")])
def test_bad_arguments_are_named(change, match):
    from wm_gym.physics.twin import PandaTwin

    with pytest.raises(ValueError, match=match):
        PandaTwin(**change)


def test_bad_actions_states_and_options_are_named(twin):
    twin.reset(seed=0)
    good = np.zeros(twin.action_space.shape, np.float32)
    for action, match in ((np.zeros(5), r"\[5\]"), (good * np.nan, "nan"), (good + 1.01, "1.01"), ("left", "left")):
        with pytest.raises(ValueError, match=match):
            twin.step(action)
    twin.step(good + np.float32(1 + 5e-7))  # rounding is no offence
    state = twin.get_physics_state()
    for bad, match in ((state[:-1], rf"{len(state) - 1}.*{len(state)}"), (state * np.nan, "nan at index 0")):
        with pytest.raises(ValueError, match=match):
            twin.reset(options={"physics_state": bad})
    for options, match in (({"world_state": {}}, "world_state.*physics_state"), ({"t": 3}, "'t'.*episode"),
                           ({"physics_state": state, "episode": 1}, "no way to begin")):
        with pytest.raises(ValueError, match=match):
            twin.reset(options=options)
    with pytest.raises(ValueError, match="'perfect'.*" + SCRIPTED_KINDS[0]):
        twin.scripted_policy("perfect", np.random.default_rng(0))


def test_step_before_reset_and_after_close():
    env = make(REACH)
    with pytest.raises(ResetNeeded, match="reset"):
        env.step(np.zeros(3))
    env.reset(seed=0)
    env.close()
    env.close()
    for call in (lambda: env.step(np.zeros(3)), env.reset, env.get_physics_state):
        with pytest.raises(ClosedEnvironmentError, match="closed"):
            call()


def test_an_arm_that_is_too_short_says_so():
    from wm_gym.physics.glide import arm_angles

    with pytest.raises(ValueError, match="x=1.200"):
        arm_angles(1.2, 0.0, 0.1)


# one more task
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
    monkeypatch.setitem(TASKS, "hover", TaskEntry("test/Hover-v0", "hover_task:HoverTask", 30, {"task": "hover"}))
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
