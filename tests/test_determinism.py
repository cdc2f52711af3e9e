"""Are frames a function of seed, back-end and batch size alone?"""

import hashlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import scipy.stats
import torch
from tiny_world import make_world

from wm_gym.engine import make_engine
from wm_gym.engine.base import step_inputs
from wm_gym.env import WorldEnv
from wm_gym.seeding import philox, start_draw, step_noise
from wm_gym.vector import WorldVectorEnv

NAMES = ("torch fp32", "openvino fp32", "openvino bf16", "onnxruntime fp32")
ENGINES = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            not importlib.util.find_spec(name.split()[0]), reason=f"{name.split()[0]} is not installed"
        ),
    )
    for name in NAMES
]
LEVELS = {"fp32": 2, "bf16": 12}  # of 255, that arithmetic may change in STEPS steps
STEPS = 6


@pytest.fixture(scope="module", params=["unet", "dit"])
def world(request):
    return make_world(dynamics=request.param)


@pytest.fixture(scope="module")
def folder(world, tmp_path_factory):
    return world.save_pretrained(tmp_path_factory.mktemp("worlds") / "Tiny-v0")


def actions_for(seed: int, steps: int = STEPS) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (steps, 3)).astype(np.float32)


def named(engine: str) -> dict[str, str]:
    """Arguments of an environment for "backend precision"."""
    return dict(zip(("backend", "precision"), engine.split()))


def rollout(world, seeds, engine="torch fp32", observation="pixels", steps=STEPS) -> np.ndarray:
    """Observations [steps + 1, B, ...] of a vector env whose slot i has the seed and the actions of seeds[i]."""
    env = WorldVectorEnv(len(seeds), world=world, observation=observation, **named(engine))
    frames = [env.reset(seed=list(seeds))[0]]
    for t in range(steps):
        frames.append(env.step(np.stack([actions_for(s)[t] for s in seeds]))[0])
    return np.stack(frames)


@pytest.mark.parametrize(
    "word, answer",
    [  # of the known-answer tests that the generator's authors publish
        (0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (0xFFFFFFFF, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ],
)
def test_philox_gives_the_published_answers(word, answer):
    for array in (np.full(3, word, np.uint64), torch.full((3,), word)):
        for got, expected in zip(philox((array,) * 4, (array,) * 2), answer):
            assert (got == expected).all()


def test_noise_follows_from_seed_episode_and_step_alone():
    keys = [(seed, episode, step) for seed in (0, 2**63 + 5) for episode in range(3) for step in range(2)]
    together = step_noise(*(np.array(column, np.uint64) for column in zip(*keys)), (4, 16, 16)).numpy()
    for (seed, episode, step), rows in zip(keys, together):
        alone = step_noise(*(np.array([word], np.uint64) for word in (seed, episode, step)), (4, 16, 16)).numpy()
        np.testing.assert_array_equal(alone[0], rows)
    flat = together.reshape(len(keys), -1)
    correlation = np.corrcoef(flat) - np.eye(len(flat))
    assert np.abs(correlation).max() < 0.2  # 1024 independent numbers: a standard deviation of 0.03
    assert abs(flat.mean()) < 0.05 and abs(flat.std() - 1) < 0.05


def test_normals_are_normal():
    one = np.array([3])
    numbers = step_noise(one, one, one, (100_003,)).numpy()[0]
    assert scipy.stats.kstest(numbers, "norm").pvalue > 1e-3 and np.isfinite(numbers).all()


def test_start_draws_differ_by_seed_and_episode():
    keys = [(seed, episode) for seed in (0, 1, 2**64 - 1) for episode in range(50)]
    assert len({start_draw(*key) for key in keys}) == len(keys) and start_draw(5, 2) == start_draw(5, 2)


@pytest.mark.parametrize(
    "engine, batch",  # each batch size is compiled anew, for seconds
    [("torch fp32", 5), *(pytest.param(*each.values, 3, marks=each.marks) for each in ENGINES)],
)
def test_a_step_does_not_depend_on_the_place_in_the_batch(world, engine, batch):
    made = make_engine(world, device="cpu", **named(engine))
    step = lambda *inputs: made.compile(len(inputs[0]))(*inputs)
    generator = torch.Generator().manual_seed(batch)
    inputs = [x if x.ndim == 1 else torch.randn(x.shape, generator=generator) for x in step_inputs(world, batch)]
    order = torch.randperm(batch, generator=generator)
    for straight, moved in zip(step(*inputs), step(*(x[order] for x in inputs))):
        assert torch.equal(straight[order], moved)


@pytest.mark.parametrize("engine", ENGINES)
def test_frames_do_not_depend_on_the_slot_or_the_neighbours(world, engine):
    base = rollout(world, [7, 1, 2], engine)
    moved = rollout(world, [11, 12, 7], engine)
    np.testing.assert_array_equal(base[:, 0], moved[:, 2])
    assert (base[:, 0] != base[:, 1]).any()


@pytest.mark.parametrize("engine", ENGINES)
def test_frames_do_not_depend_on_when_neighbours_end(world, engine):
    """A slot whose neighbours are reset around it goes on as if nothing had happened."""
    together = WorldVectorEnv(3, world=world, **named(engine))
    together.set_attr("horizon", [2, 50, 3])
    alone = WorldVectorEnv(3, world=world, **named(engine), max_episode_steps=50)
    a, b = together.reset(seed=5)[0], alone.reset(seed=5)[0]
    for action in actions_for(0, 8):
        np.testing.assert_array_equal(a[1], b[1])
        a, b = together.step([action] * 3)[0], alone.step([action] * 3)[0]


@pytest.mark.parametrize("observation", ["pixels", "latent"])
def test_frames_do_not_depend_on_global_generators(world, observation):
    torch.manual_seed(0), np.random.seed(0)
    first = rollout(world, [3, 4], observation=observation)
    torch.manual_seed(99), np.random.seed(99), torch.randn(7)
    np.testing.assert_array_equal(first, rollout(world, [3, 4], observation=observation))


SCRIPT = """
import hashlib, sys, torch
sys.path.insert(0, {tests!r})
from test_determinism import rollout
torch.manual_seed({torch_seed})
for engine in {engines!r}:
    print(hashlib.sha256(rollout({folder!r}, [3, 4, 5], engine).tobytes()).hexdigest())
"""


def test_another_process_gives_the_same_frames(folder):
    engines = [each for each in NAMES if importlib.util.find_spec(each.split()[0])]
    here = [hashlib.sha256(rollout(folder, [3, 4, 5], engine).tobytes()).hexdigest() for engine in engines]
    script = SCRIPT.format(tests=str(Path(__file__).parent), folder=str(folder), engines=engines, torch_seed=123)
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(__file__).parents[1])}
    there = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=300)
    assert there.stdout.split() == here, there.stdout + there.stderr


@pytest.mark.parametrize("engine", ENGINES)
def test_a_single_env_and_a_slot_with_its_seed_differ_by_arithmetic_only(world, engine):
    many = rollout(world, [8, 9, 10], engine)
    env = WorldEnv(world, **named(engine))
    frames = [env.reset(seed=9)[0]] + [env.step(a)[0] for a in actions_for(9)]
    np.testing.assert_array_equal(frames[0], many[0, 1])  # starts are encoded one by one
    assert np.abs(np.stack(frames).astype(int) - many[:, 1]).max() <= LEVELS[engine.split()[1]]


@pytest.mark.parametrize("engine", ENGINES[1:])
def test_back_ends_differ_by_arithmetic_only(world, engine):
    difference = rollout(world, [1, 2, 3]).astype(int) - rollout(world, [1, 2, 3], engine)
    assert np.abs(difference).max() <= LEVELS[engine.split()[1]]


def test_a_seed_restarts_the_streams_and_no_seed_goes_on(world):
    env, other = (WorldEnv(world, backend="torch", starts="any") for _ in range(2))
    first, second, third = env.reset(seed=4)[0], env.reset()[0], env.reset()[0]
    for expected, seed in ((first, 4), (second, None), (third, None)):
        np.testing.assert_array_equal(other.reset(seed=seed)[0], expected)
    starts = {env.reset()[0].tobytes() for _ in range(60)}
    assert len(starts) == len(world.starts)  # every start of the bank is drawn


def test_unseeded_environments_differ(world):
    seeds = []
    for _ in range(2):
        env = WorldEnv(world, backend="torch")
        env.reset()
        seeds.append(int(env.core.seeds[0]))
    assert seeds[0] != seeds[1]


def test_fork_in_mid_episode_goes_on_identically(world, tmp_path):
    env = WorldEnv(world, backend="torch")
    env.reset(seed=1)
    actions = actions_for(2, 10)
    for action in actions[:4]:
        env.step(action)
    saved = env.get_state()
    frame, rest = env.core.observation()[0], [env.step(a) for a in actions[4:]]
    np.savez(tmp_path / "state.npz", **saved)
    loaded = dict(np.load(tmp_path / "state.npz"))
    for target in (env, WorldEnv(world, backend="torch")):
        np.testing.assert_array_equal(target.set_state(loaded), frame)
        for action, (observation, reward, terminated, truncated, info) in zip(actions[4:], rest):
            again = target.step(action)
            np.testing.assert_array_equal(again[0], observation)
            assert again[1:4] == (reward, terminated, truncated)
            np.testing.assert_array_equal(again[4]["uncertainty_map"], info["uncertainty_map"])
        assert truncated  # the step counter came along: horizon 10


def test_branches_share_or_vary_the_noise(world):
    env = WorldVectorEnv(4, world=world, backend="torch", observation="latent")
    env.reset(seed=0)
    env.step(np.zeros((4, 3), np.float32))
    start = env.branch(0, [1, 2, 3], seeds=None)
    assert (start == start[0]).all()
    same = env.step(np.ones((4, 3), np.float32))[0]
    assert (same == same[0]).all()
    env.branch(0, [1, 2, 3], seeds=[10, 11, 12])
    varied = env.step(np.ones((4, 3), np.float32))[0]
    assert len({row.tobytes() for row in varied}) == 4


def test_vector_state_round_trip(world):
    env = WorldVectorEnv(3, world=world, backend="torch", observation="pixels+state")
    env.reset(seed=3)
    action = np.full((3, 3), 0.5, np.float32)
    env.step(action)
    saved = env.get_state()
    expected = env.step(action)[0]
    restored = env.set_state(saved)
    assert restored["pixels"].shape == (3, 64, 64, 3)
    for key, values in env.step(action)[0].items():
        np.testing.assert_array_equal(values, expected[key])


def test_what_goes_out_is_a_copy(world):
    env = WorldEnv(world, backend="torch", render_mode="rgb_array", observation="pixels+state")
    actions = actions_for(0)
    clean = [env.reset(seed=0)[0]["pixels"].copy()] + [env.step(a)[0]["pixels"].copy() for a in actions]
    observation, info = env.reset(seed=0)
    for t, action in enumerate(actions):
        np.testing.assert_array_equal(observation["pixels"], clean[t])
        state = env.get_state()
        for array in (
            *observation.values(),
            env.render(),
            info["uncertainty_map"],
            info["proprioception"],
            *state.values(),
        ):
            array[...] = 0
        observation, _, _, _, info = env.step(action)


@pytest.mark.filterwarnings("ignore")  # Gymnasium repeats a worker's error as a warning
@pytest.mark.parametrize("world", ["unet"], indirect=True)  # what happens to threads does not hang on the network
@pytest.mark.parametrize("engine", ENGINES)
def test_async_vector_env_works_or_says_why_after_the_parent_has_stepped(folder, engine):
    """Threads do not survive a fork (AsyncVectorEnv's way on Linux before Python 3.14), but nothing hangs."""
    rollout(folder, [3], engine, steps=1)
    env = gym.make_vec(
        "wm_gym/World-v0",
        2,
        vectorization_mode="async",
        vector_kwargs={"context": "fork"},
        world=str(folder),
        **named(engine),
    )
    try:
        if engine.startswith("openvino"):
            with pytest.raises(RuntimeError, match="context='spawn'"):
                env.reset(seed=3)
        else:
            frames = np.stack([env.reset(seed=3)[0]] + [env.step(np.zeros((2, 3), np.float32))[0] for _ in range(3)])
            assert np.abs(frames[0].astype(int) - rollout(folder, [3, 4], steps=0)[0]).max() <= 1
            assert (frames[0] != frames[3]).any()
    finally:
        env.close(terminate=True)
