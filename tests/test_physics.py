"""Do the PyBullet twins keep their promises: contracts, determinism, predictable motion?"""

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
from twins import DRAWER, PUSH, REACH, TWINS, make

from wm_gym.physics import SCRIPTED_KINDS
from wm_gym.worlds.starts import StartBank


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
    code = (
        f"import sys; sys.path[:0] = {sys.path!r}; import wm_gym.physics; "
        "assert not {'pybullet', 'torch'} & set(sys.modules); "
        f"from test_physics import make, roll_out; print(roll_out(make({env_id!r}), 'expert', 25, seed=5)[0])"
    )
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
    bank = StartBank(
        pictures,
        np.zeros((2, 2, 3), np.float32),
        np.zeros((2, 3, 3), np.float32),
        np.array([5, 5]),
        np.array([2, 4]),
        states[[2, 4]],
    )
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
        assert (here[: task.action_dim] > task.low - 0.003).all() and (
            here[: task.action_dim] < task.high + 0.003
        ).all()
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


# bad input
@pytest.mark.parametrize(
    "change, match",
    [
        ({"task": "fly"}, "'fly'.*push"),
        ({"observation": "audio"}, "'audio'.*pixels"),
        ({"render_mode": "human"}, "'human'.*rgb_array"),
        ({"renderer": "vulkan"}, "'vulkan'.*tiny"),
    ],
)
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
    for options, match in (
        ({"world_state": {}}, "world_state.*physics_state"),
        ({"t": 3}, "'t'.*episode"),
        ({"physics_state": state, "episode": 1}, "no way to begin"),
    ):
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
    from wm_gym.physics.planar_ik import arm_angles

    with pytest.raises(ValueError, match="x=1.200"):
        arm_angles(1.2, 0.0, 0.1)
