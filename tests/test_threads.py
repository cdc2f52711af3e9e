"""Do environments of one process, each stepped by a thread of its own, show what they show alone, bit for bit?"""

import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from tiny_world import make_world

from wm_gym.engine import KNOWN
from wm_gym.engine.shared import encoded_starts, load_engine, load_world
from wm_gym.env import WorldEnv
from wm_gym.policies.planner import WorldPlanner
from wm_gym.policies.planning import Search
from wm_gym.vector import WorldVectorEnv

STEPS = 15
BACKENDS = [
    (name, precision, "dit" if precision == "bf16" else "unet")
    for name, needs in KNOWN.items()
    for precision in needs.precisions
]


def single(world, **options) -> list:
    env, rng = WorldEnv(world, max_episode_steps=-1, **options), np.random.default_rng(1)
    return [env.reset(seed=1)[0], *(env.step(rng.uniform(-1, 1, 3))[:2] for _ in range(STEPS))]


def other_single(world, **options) -> list:
    env, rng = WorldEnv(world, max_episode_steps=7, **options), np.random.default_rng(2)
    seen = [env.reset(seed=2)[0]]
    for _ in range(STEPS):
        *step, ended, _ = env.step(rng.uniform(-1, 1, 3))
        seen += [step, env.reset()[0] if ended else None]
    return seen


def batch(world, **options) -> list:
    env, rng = WorldVectorEnv(2, world=world, **options), np.random.default_rng(3)
    return [env.reset(seed=3)[0], *(env.step(rng.uniform(-1, 1, (2, 3)))[:2] for _ in range(STEPS))]


def latents(world, **options) -> list:
    return single(world, observation="latent", **options)


def plans(world, **options) -> list:
    """Of candidates in batches of 2: what `latents` and `imagined` run on too."""
    planner = WorldPlanner(world, Search(horizon=4, candidates=2, elites=2, hold=2), sampling_steps=None, **options)
    frames = np.random.default_rng(4).integers(0, 256, (STEPS // 5, 1, 64, 64, 3), np.uint8)
    return [planner.plan(clip) for clip in frames]


def imagined(world, **options) -> list:
    engine, rng = load_engine(load_world(world), device="cpu", decode=False, **options), np.random.default_rng(5)
    start = engine.encode(world.starts.frames[:1], world.starts.proprioception[:1])
    state = {key: value.expand(2, *value.shape[1:]).contiguous() for key, value in start.items()}
    return [
        engine.imagine(
            state,
            torch.from_numpy(rng.uniform(-1, 1, (2, 3, 3)).astype(np.float32)),
            torch.from_numpy(rng.normal(size=(2, 3, *engine.noise_shape)).astype(np.float32)),
        )
        for _ in range(STEPS // 5)
    ]


def compiled(world, **options) -> list:
    """A new batch size, made while the others step."""
    engine = load_engine(load_world(world), device="cpu", decode=True, **options)
    engine.compile(3)
    return []


TASKS: tuple[Callable, ...] = (single, other_single, batch, latents, plans, imagined, compiled)


def same(one, other) -> None:
    if isinstance(one, dict):
        one, other = list(one.items()), list(other.items())
    if isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for a, b in zip(one, other):
            same(a, b)
    elif one is not None:
        np.testing.assert_array_equal(one, other)


def together(calls: list[Callable[[], list]]) -> list[list]:
    """What calls give that begin at one moment, each in a thread of its own; raises what one of them raises."""
    barrier, results = threading.Barrier(len(calls)), [None] * len(calls)

    def run(i: int) -> None:
        barrier.wait()
        try:
            results[i] = calls[i]()
        except BaseException as error:
            results[i] = error

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


@pytest.mark.parametrize("backend, precision, dynamics", BACKENDS)
def test_all_at_once_is_each_alone(backend, precision, dynamics):
    options = {"backend": backend, "precision": precision}
    world = make_world(dynamics=dynamics)
    try:
        load_engine(world, backend, "cpu", True, precision)
    except (ValueError, ImportError) as error:
        pytest.skip(str(error))
    alone = [task(world, **options) for task in TASKS]
    shared = make_world(dynamics=dynamics)  # nothing is compiled in it yet: the threads make its engines too
    for _ in range(2):
        for one, other in zip(together([lambda task=task: task(shared, **options) for task in TASKS]), alone):
            same(one, other)


def test_a_world_is_loaded_once_and_its_engine_made_once(tiny_world_folder):
    engines = together([lambda: load_engine(load_world(tiny_world_folder), "openvino", "cpu", True)] * 6)
    assert len(set(map(id, engines))) == 1
    assert len({id(encoded_starts(engine)) for engine in engines}) == 1
