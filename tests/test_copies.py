"""Does a copied or pickled environment go on from where the original is, by itself?"""

import copy
import pickle
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from tiny_world import make_world
from twins import PUSH, REACH, TWINS

from wm_gym.env import WorldEnv
from wm_gym.physics.twin import PandaTwin
from wm_gym.sb3 import WorldVecEnv
from wm_gym.vector import WorldVectorEnv
from wm_gym.wrappers import DiscreteActions, JudgeReward, TokenizerRoundTrip

WAYS = {"copy": copy.copy, "deepcopy": copy.deepcopy, "pickle": lambda env: pickle.loads(pickle.dumps(env))}
DEEP = {way: WAYS[way] for way in ("deepcopy", "pickle")}  # a wrapper's shallow copy has the same environment
ways = pytest.mark.parametrize("copied", WAYS.values(), ids=list(WAYS))
deep = pytest.mark.parametrize("copied", DEEP.values(), ids=list(DEEP))


def same(one, other) -> None:
    """Equal to the last bit, in dicts and tuples too."""
    if isinstance(one, dict):
        assert set(one) == set(other)
        for key in one:
            same(one[key], other[key])
    elif isinstance(one, (list, tuple)):
        for a, b in zip(one, other, strict=True):
            same(a, b)
    else:
        np.testing.assert_array_equal(one, other)


def future(env, seed: int, steps: int = 6) -> list:
    """What random actions, and the next episode, lead to."""
    rng, space, seen = np.random.default_rng(seed), env.action_space, []
    for _ in range(steps):
        action = rng.uniform(-1, 1, space.shape).astype(np.float32) if space.shape else int(rng.integers(space.n))
        seen.append(env.step(action))
    return [*seen, env.reset(), env.unwrapped.np_random.random(), env.action_space.sample()]


def check(made, copied) -> None:
    """A copy does what the original would have done, and the original what it does without one; either may close."""
    env, alone = made(), made()
    for one in (env, alone):
        one.action_space.seed(0)
        one.reset(seed=3)
        future(one, 0, 3)
        one.reset(seed=4)
        future_action(one)
    other = copied(env)
    future(other, 1)  # the original must not move with it
    same(future(env, 2), future(alone, 2))
    for one in (env, alone):
        future_action(one)
    other, third = copied(env), copied(env)
    env.close()
    expected = future(alone, 5)
    same(future(other, 5), expected)
    other.close()
    same(future(third, 5), expected)


def future_action(env) -> None:
    env.step(np.full(env.action_space.shape, 0.5, np.float32) if env.action_space.shape else 1)


@ways
@pytest.mark.parametrize("observation", ["pixels", "pixels+state", "latent"])
def test_a_learned_environment(folder, copied, observation):
    check(lambda: WorldEnv(folder, backend="torch", observation=observation), copied)


@deep
def test_a_made_one_with_its_wrappers_on_the_default_back_end(folder, copied):
    check(lambda: gym.make("wm_gym/World-v0", world=folder, max_episode_steps=8), copied)


@deep
def test_a_world_made_in_memory_comes_along(copied):
    world = make_world()
    env = gym.make("wm_gym/World-v0", world=world, backend="torch")
    env.reset(seed=0)
    other = copied(env)
    env.action_space.seed(0)
    other = copied(env)
    same(future(other, 1), future(env, 1))
    assert (other.unwrapped.core.world is world) == (copied is copy.deepcopy)
    assert other.unwrapped.spec.kwargs["world"] is other.unwrapped.core.world


@ways
def test_the_world_and_its_engine_are_shared(folder, copied):
    env = WorldEnv(folder, backend="torch")
    core, other = env.core, copied(env).core  # also before the first reset
    assert other.engine is core.engine and other.world is core.world and other.spec is core.spec
    assert "wm_gym" in repr(type(other)) and len(pickle.dumps(env)) < 2e5


@ways
def test_a_judged_one_asks_the_same_judge(world, folder, copied):
    kwargs = {"reward": "goal:PICTURE", "reward_kwargs": {"features": "pixels"}}
    goal = world.starts.frames[0, -1]
    from wm_gym.judges.goal import GoalJudge

    judge = GoalJudge(goal, features="pixels")
    check(lambda: WorldEnv(folder, backend="torch", **{**kwargs, "reward": judge, "reward_kwargs": None}), copied)
    env = WorldEnv(folder, backend="torch", reward=judge)
    assert (copied(env).core.judged.judge is judge) == (copied is not WAYS["pickle"])


@ways
@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_a_batch(folder, copied, mode):
    env, alone = (WorldVectorEnv(3, world=folder, backend="torch", autoreset_mode=mode) for _ in range(2))
    for one in (env, alone):
        one.set_attr("horizon", [2, 3, 5])
        one.set_attr("note", ["a", "b", "c"])
        one.reset(seed=1)
        one.step(np.zeros((3, 3)))
    other, rng = copied(env), np.random.default_rng(0)
    other.step(np.ones((3, 3)))
    other.set_attr("horizon", 9)
    assert other.get_attr("note") == ("a", "b", "c") and other.envs[0]._batch is other
    third = copied(env)
    for _ in range(6):
        actions = rng.uniform(-1, 1, (3, 3))
        expected = alone.step(actions)[:4]
        same(env.step(actions)[:4], expected)
        same(third.step(actions)[:4], expected)
    env.close()
    third.step(np.zeros((3, 3)))
    with pytest.raises(gym.error.ClosedEnvironmentError):
        _ = copied(env).core


@ways
def test_stable_baselines_batch(folder, copied):
    env = WorldVecEnv(2, world=folder, backend="torch", max_episode_steps=3)
    env.seed(5)
    env.reset()
    env.step(np.zeros((2, 3)))
    other = copied(env)
    other.step(np.ones((2, 3)))
    other = copied(env)
    for _ in range(5):
        same(other.step(np.full((2, 3), 0.3))[:3], env.step(np.full((2, 3), 0.3))[:3])
    env.close()
    other.step(np.zeros((2, 3)))


def test_another_process_goes_on_bit_for_bit(folder, tmp_path):
    pytest.importorskip("pybullet")
    for name, env in (("world", gym.make("wm_gym/World-v0", world=folder)), ("twin", gym.make(PUSH))):
        env.reset(seed=1)
        future_action(env)
        file = tmp_path / name
        file.write_bytes(pickle.dumps(env))
        code = (
            "import pickle, sys, numpy as np; env = pickle.load(open(sys.argv[1], 'rb')); "
            "a = np.full(env.action_space.shape, 0.25, np.float32); "
            "np.save(sys.argv[1] + '.npy', [env.step(a)[0] for _ in range(3)])"
        )
        done = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        action = np.full(env.action_space.shape, 0.25, np.float32)
        np.testing.assert_array_equal(np.load(f"{file}.npy"), [env.step(action)[0] for _ in range(3)])


def test_a_world_that_has_changed_since_is_named(tmp_path):
    folder = make_world().save_pretrained(tmp_path / "w")
    kept = pickle.dumps(WorldEnv(folder, backend="torch"))
    assert pickle.loads(kept).reset(seed=0)
    make_world(seed=1).save_pretrained(folder)
    with pytest.raises(ValueError, match="is not the one that this environment was pickled in"):
        pickle.loads(kept)


# --- physics ----------------------------------------------------------------------------------------------------------


@ways
@pytest.mark.parametrize("env_id", TWINS)
def test_a_twin(env_id, copied, capfd):
    pytest.importorskip("pybullet")
    task = env_id.partition("/")[2].partition("PyBullet")[0].lower()
    check(lambda: PandaTwin(task, observation="pixels+state"), copied)
    assert not capfd.readouterr().err


@deep
@pytest.mark.parametrize("shift", ["stranger", "wanderer", "friction"])
def test_a_shifted_twin_in_its_wrappers(copied, shift):
    check(lambda: gym.make(PUSH, shift=shift, render_mode="rgb_array"), copied)


@deep
def test_a_twin_in_contact(copied):
    """In the middle of a push by the expert, where what the simulator remembers of contacts would matter."""
    env = PandaTwin("push")
    env.reset(seed=2)
    policy = env.scripted_policy("expert", np.random.default_rng(0))
    for _ in range(25):
        env.step(policy.act())
    other = copied(env)
    for _ in range(15):
        action = policy.act()
        same(other.step(action), env.step(action))
        np.testing.assert_array_equal(other.get_physics_state(), env.get_physics_state())


@deep
def test_a_twin_between_reset_and_its_first_step(copied):
    """There the original alone has contacts of the episode before to forget: micrometres, as to a twin made anew."""
    env = PandaTwin("push", observation="pixels+state")
    for seed in (3, 4):
        env.reset(seed=seed)
        future_action(env)
    env.reset(seed=5)
    other = copied(env)
    for _ in range(6):
        future_action(env)
        future_action(other)
        np.testing.assert_allclose(other.get_physics_state(), env.get_physics_state(), atol=1e-4)


@ways
def test_a_twin_that_is_new_or_closed(copied):
    env = PandaTwin("reach")
    same(copied(env).reset(seed=1), env.reset(seed=1))
    env.close()
    other = copied(env)
    with pytest.raises(gym.error.ClosedEnvironmentError):
        other.reset()
    other.close()


@deep
def test_our_wrappers(world, folder, copied):
    from wm_gym.judges.goal import GoalJudge

    judge = GoalJudge(world.starts.frames[0, -1], features="pixels")
    check(lambda: DiscreteActions(JudgeReward(TokenizerRoundTrip(gym.make(REACH), folder), judge)), copied)


def test_what_cannot_be_copied_alone_says_so():
    env = PandaTwin("reach")
    env.reset(seed=0)
    for part in (env.scene, env.task, env.scene.client):
        with pytest.raises(TypeError, match="copy the environment"):
            copy.deepcopy(part)
        with pytest.raises(TypeError, match="copy the environment"):
            pickle.dumps(part)
    with pytest.raises(TypeError, match="ask the copied twin"):
        copy.deepcopy(env.scripted_policy("expert", np.random.default_rng(0)))
