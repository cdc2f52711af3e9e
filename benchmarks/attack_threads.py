"""Do environments of one process, each stepped by a thread of its own, show the frames that they show alone?"""

from __future__ import annotations

import threading

import gymnasium as gym
import numpy as np

import wm_gym  # noqa: F401  registers the ids
from wm_gym.engine import KNOWN
from wm_gym.engine.shared import load_engine, load_world


def measure(world: str, threads: int = 4, steps: int = 200) -> dict[str, dict]:
    """Of each back-end and precision that runs on this CPU: frames, how many differ, by how much, errors."""
    found = {}
    for backend, needs in KNOWN.items():
        for precision in needs.precisions:
            try:
                load_engine(load_world(world), backend, "cpu", True, precision)
            except (ValueError, ImportError) as error:
                print(f"not measured: {backend} {precision}: {error}")
                continue
            found[f"{backend} {precision}"] = one = _both(world, threads, steps, backend=backend, precision=precision)
            print(f"{backend} {precision}: {one}", flush=True)
    return found


def _both(world: str, number: int, steps: int, **options) -> dict:
    alone = [_roll(world, seed, steps, **options) for seed in range(number)]
    together, errors = [None] * number, []

    def roll(seed: int) -> None:
        try:
            together[seed] = _roll(world, seed, steps, **options)
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=roll, args=(seed,)) for seed in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    differences = [np.abs(a.astype(int) - b) for a, b in zip(alone, together) if b is not None]
    return {
        "threads": number,
        "frames": number * (steps + 1),
        "errors": errors,
        "frames_that_differ": int(sum((one.max((1, 2, 3)) > 0).sum() for one in differences)),
        "grey_levels": int(max((one.max() for one in differences), default=0)),
    }


def _roll(world: str, seed: int, steps: int, **options) -> np.ndarray:
    env = gym.make("wm_gym/World-v0", world=world, max_episode_steps=-1, terminate_on_success=False, **options)
    rng, space = np.random.default_rng(seed), env.action_space
    frames = [env.reset(seed=seed)[0]]
    for _ in range(steps):
        frames.append(env.step(rng.uniform(space.low, space.high).astype(np.float32))[0])
    return np.stack(frames)
