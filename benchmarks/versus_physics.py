"""Does the learned world outrun the physics renderer? Frames per second against its own twin and panda-gym, in turns.

    python benchmarks/versus_physics.py [WORLD] --batch 32

The learned world in this process on all cores; physics in as many processes, an environment each: the twin with its
fastest renderer, and panda-gym's PandaPush-v3 drawing as many pixels with PyBullet's TinyRenderer (and with EGL where
there is a GPU). Wants `pip install -e '.[benchmarks]'`. Random actions, episodes reset as they end.
"""

from __future__ import annotations

import os

import gymnasium as gym
import numpy as np
from common import Bar, command, write_results
from timing import alternate, ratio

import wm_gym  # noqa: F401  registers the ids
from wm_gym.common.registry import registered
from wm_gym.engine.shared import load_world

BARS = {
    "versus_physics_Push-v0": [
        Bar("times as fast as the twin with its fastest renderer", ("times_faster", "twin", "median"), least=2),
        Bar("times as fast as panda-gym", ("times_faster", "panda-gym, Tiny", "median"), least=20),
    ]
}


class Drawn(gym.ObservationWrapper):
    """An environment whose observation is what it draws, as a policy from pixels sees it."""

    def __init__(self, env: gym.Env, size: int):
        super().__init__(env)
        self.observation_space = gym.spaces.Box(0, 255, (size, size, 3), np.uint8)

    def observation(self, observation):
        return self.env.render()


def panda_gym(renderer: str, size: int) -> gym.Env:
    """panda-gym's push task at a frame size; renderer: "Tiny" or "OpenGL" (EGL)."""
    import panda_gym  # noqa: F401  registers its ids

    return Drawn(gym.make("PandaPush-v3", renderer=renderer, render_width=size, render_height=size), size)


def stepped(envs: gym.vector.VectorEnv):
    """A workload: one step of a vector environment with random actions."""
    envs.action_space.seed(0)
    envs.reset(seed=0)

    def work() -> int:
        envs.step(envs.action_space.sample())
        return envs.num_envs

    return work


def main() -> None:
    parser = command(__doc__, BARS)
    parser.add_argument("world", nargs="?", default="Push-v0")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--precision", default="auto")
    args = parser.parse_args()
    spec = load_world(args.world).spec
    size = spec.frame_size[0]

    def physics(make) -> gym.vector.VectorEnv:
        return gym.vector.AsyncVectorEnv([make] * args.processes, context="spawn")

    import torch

    workloads = {
        "twin": stepped(physics(lambda: gym.make(registered(spec.twin, "twin")))),
        "panda-gym, Tiny": stepped(physics(lambda: panda_gym("Tiny", size))),
    }
    if torch.cuda.is_available():
        workloads["panda-gym, EGL"] = stepped(physics(lambda: panda_gym("OpenGL", size)))
    learned = gym.make_vec("wm_gym/World-v0", args.batch, world=args.world, precision=args.precision)
    engine = learned.unwrapped.core.engine
    rates = alternate({"world": stepped(learned), **workloads}, args.rounds, args.seconds)
    write_results(
        f"versus_physics_{spec.name}",
        {
            "world": spec.name,
            "batch": args.batch,
            "engine": engine.name,
            "precision": engine.precision,
            "device": str(engine.device),
            "processes": args.processes,
            "frame": list(spec.frame_size),
            "frames_per_second": {name: round(float(np.median(rate)), 1) for name, rate in rates.items()},
            "times_faster": {name: ratio(rates, "world", name) for name in workloads},
        },
    )


if __name__ == "__main__":
    main()
