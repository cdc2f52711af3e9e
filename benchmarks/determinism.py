"""Same seed, same frames? Across processes, slots, batch sizes and back-ends, over 12 and 50 steps.

python benchmarks/determinism.py [WORLD_ID]
"""

from __future__ import annotations

import hashlib
import subprocess
import sys

import gymnasium as gym
import numpy as np
from common import Bar, command, write_results

import wm_gym  # noqa: F401

STEPS, SEED = 50, 7
ENGINES = ("torch fp32", "openvino fp32", "openvino bf16", "onnxruntime fp32")


def differing(found: dict) -> int:
    """How many of the promises of equal frames were broken, over the back-ends."""
    return sum(not same for name in ENGINES for key, same in found[name].items() if key.startswith("identical"))


BARS = {
    "determinism": [
        Bar("same seed, other frames: across processes, slots, neighbours, back-ends", differing, most=0),
        *(
            Bar(
                f"grey levels between batch 1 and 8, {name}",
                (name, f"grey levels between batch 1 and 8, {STEPS - 1} steps"),
            )
            for name in ENGINES
        ),
        *(
            Bar(f"grey levels, torch fp32 against {name}", (f"torch against {name}", f"grey levels, {STEPS - 1} steps"))
            for name in ENGINES[1:]
        ),
    ]
}


def roll_out(world: str, num_envs: int, seeds: list[int], engine: str) -> np.ndarray:
    """Frames uint8 [num_envs, STEPS + 1, H, W, 3] under actions that depend on the seed of the slot."""
    backend, precision = engine.split()
    env = gym.make_vec(
        "wm_gym/World-v0",
        num_envs,
        world=world,
        backend=backend,
        precision=precision,
        terminate_on_success=False,
        vectorization_mode="vector_entry_point",
    )
    frames = [env.reset(seed=list(seeds))[0]]
    streams = [np.random.default_rng(s) for s in seeds]
    for _ in range(STEPS - 1):  # the horizon would reset the episode
        actions = np.stack([s.uniform(-1, 1, env.single_action_space.shape) for s in streams]).astype(np.float32)
        frames.append(env.step(actions)[0])
    env.close()
    return np.stack(frames, axis=1)


def digest(frames: np.ndarray) -> str:
    return hashlib.sha256(frames.tobytes()).hexdigest()[:16]


def main() -> None:
    if sys.argv[1:2] == ["--digest"]:
        world, engine = sys.argv[2:]
        print(digest(roll_out(world, 1, [SEED], engine)[0]))
        return
    parser = command(__doc__, BARS)
    parser.add_argument("world", nargs="?", default="wm_gym/Reach-v0")
    world = parser.parse_args().world
    numbers = {}
    alone = {}
    for engine in ENGINES:
        alone[engine] = roll_out(world, 1, [SEED], engine)[0]
        processes = {
            subprocess.run(
                [sys.executable, __file__, "--digest", world, engine], capture_output=True, text=True, check=True
            ).stdout.split()[-1]
            for _ in range(2)
        }
        slots = roll_out(world, 8, [SEED] * 8, engine)
        mixed = roll_out(world, 8, [1, 2, 3, 4, 5, SEED, 6, 8], engine)[5]
        numbers[engine] = {
            "identical in two other processes": processes == {digest(alone[engine])},
            "identical in all 8 slots": all(digest(s) == digest(slots[0]) for s in slots),
            "identical beside other neighbours": digest(mixed) == digest(slots[5]),
            **{
                f"grey levels between batch 1 and 8, {t} steps": levels(alone[engine], slots[0], t)
                for t in (12, STEPS - 1)
            },
        }
    for engine in ENGINES[1:]:
        numbers[f"torch against {engine}"] = {
            f"grey levels, {t} steps": levels(alone[ENGINES[0]], alone[engine], t) for t in (12, STEPS - 1)
        }
    write_results("determinism", numbers)


def levels(a: np.ndarray, b: np.ndarray, steps: int) -> int:
    return int(np.abs(a[: steps + 1].astype(int) - b[: steps + 1].astype(int)).max())


if __name__ == "__main__":
    main()
