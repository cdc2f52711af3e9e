"""What does a process keep that it should have let go? Memory, descriptors and children, over steps, resets and makes.

Each question runs in a process of its own, which says what it holds after each tenth of the work.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import gymnasium as gym
import numpy as np

import wm_gym  # noqa: F401  registers the ids

TENTHS = 10
STEADY = 4  # tenths after which memory has to be flat: allocators' pools have filled by then


def holds() -> dict[str, float]:
    """Megabytes of memory, open descriptors and children of this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {
        "mb": round(pages * resource.getpagesize() / 2**20, 1),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "children": len(children),
    }


def _meet_starts(world: str) -> None:
    """Begin once at every start of the world's bank: each is encoded once a process and kept, as many as there are."""
    env = gym.make("wm_gym/World-v0", world=world)
    bank = env.unwrapped.core.world.starts
    for episode, t in zip(bank.episode.tolist(), bank.t.tolist()):
        env.reset(options={"episode": episode, "t": t})


def steps(world: str, number: int) -> list[dict]:
    """Of 8 environments at once; episodes end and begin on the way."""
    _meet_starts(world)
    envs = gym.make_vec("wm_gym/World-v0", 8, world=world)
    envs.action_space.seed(0)
    envs.reset(seed=0)
    return _tenths(number, lambda i: envs.step(envs.action_space.sample()))


def resets(world: str, number: int) -> list[dict]:
    """Of one environment, each with a seed of its own."""
    _meet_starts(world)
    env = gym.make("wm_gym/World-v0", world=world)
    return _tenths(number, lambda i: env.reset(seed=i))


def makes(world: str, number: int) -> list[dict]:
    """Of 4 environments at once, stepped once and closed."""
    _meet_starts(world)

    def one(i: int) -> None:
        envs = gym.make_vec("wm_gym/World-v0", 4, world=world)
        envs.reset(seed=i)
        envs.step(np.zeros((4, envs.single_action_space.shape[0]), np.float32))
        envs.close()

    return _tenths(number, one)


def async_spawn(world: str, number: int) -> list[dict]:
    """Gymnasium's AsyncVectorEnv of 2 processes, stepped and closed."""
    return _async(world, number, "spawn")


def async_forkserver(world: str, number: int) -> list[dict]:
    """The same, its processes forked from a server."""
    return _async(world, number, "forkserver")


def _async(world: str, number: int, context: str) -> list[dict]:
    import multiprocessing

    multiprocessing.set_start_method("spawn")  # this process's own semaphores

    def one(i: int) -> None:
        envs = gym.vector.AsyncVectorEnv([lambda: gym.make("wm_gym/World-v0", world=world)] * 2, context=context)
        envs.reset(seed=i)
        for _ in range(3):
            envs.step(envs.action_space.sample())
        envs.close()

    return _tenths(number, one)


def _tenths(number: int, act: Callable[[int], object]) -> list[dict]:
    held = []
    for part in np.array_split(np.arange(number), TENTHS):
        for i in part.tolist():
            act(i)
        held.append(holds())
    return held


QUESTIONS = {
    "steps": (steps, 20_000),
    "resets": (resets, 5_000),
    "makes": (makes, 500),
    "async_spawn": (async_spawn, 10),
    "async_forkserver": (async_forkserver, 10),
}


def measure(world: str, name: str, share: float = 1.0) -> dict:
    """A question: how often, what was held after each tenth, and growth since the fourth."""
    number = max(TENTHS, round(share * QUESTIONS[name][1]))
    done = subprocess.run(
        [sys.executable, __file__, name, world, str(number)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return {"number": number, "failed": done.stderr[-1000:]}
    held = json.loads(done.stdout.splitlines()[-1])
    grown = {key: round(held[-1][key] - held[STEADY - 1][key], 1) for key in held[0]}
    print(f"{name} {number}: {grown}", flush=True)
    return {
        "number": number,
        **{f"{key}_grown": value for key, value in grown.items()},
        **{key: [one[key] for one in held] for key in held[0]},
    }


if __name__ == "__main__":
    print(json.dumps(QUESTIONS[sys.argv[1]][0](sys.argv[2], int(sys.argv[3]))))
