"""What must not change while the code is moved about? Hashes of frames, weights, recordings and actions, as JSON.

`python tests/golden.py` prints them, `python tests/golden.py --write` makes tests/golden.json anew (only where a change
of numerics is meant, and then with a word on why in the commit).
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path

GOLDEN = Path(__file__).with_name("golden.json")
# One arithmetic on every x86-64 of the last ten years: kernels are chosen by these, not by what the CPU has.
ARITHMETIC = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX",
    "OMP_NUM_THREADS": "1",
}
SEEDS, STEPS = (0, 1, 2), 50
UPDATES = {
    "tokenizer_updates": 6,
    "pose_updates": 6,
    "dynamics_updates": 6,
    "heads_updates": 6,
    "checkpoint_every": 100,
    "report_every": 100,
    "starts": 8,
}


def sha(*arrays) -> str:
    """The first 16 digits of the SHA-256 of arrays (shape, type and bytes)."""
    import numpy as np

    digest = hashlib.sha256()
    for array in map(np.asarray, arrays):
        digest.update(f"{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def arithmetic() -> str:
    """What this machine makes of fixed convolutions, products, normalisations and exponentials."""
    import torch
    from torch import nn

    generator, seen = torch.Generator().manual_seed(0), []
    for batch, size, channels in ((1, 64, 3), (4, 16, 48), (8, 8, 96)):
        x = torch.randn(batch, channels, size, size, generator=generator)
        kernel = torch.randn(32, channels, 3, 3, generator=generator)
        y = nn.functional.silu(nn.functional.group_norm(nn.functional.conv2d(x, kernel, padding=1), 8))
        rows = y.flatten(2).mean(-1) @ torch.randn(32, 77, generator=generator)
        seen += [y.numpy(), torch.softmax(rows, -1).log().sin().numpy(), torch.tanh(rows).exp().numpy()]
    return sha(*seen)


def frames(name: str, batch: int) -> str:
    """A shipped world's frames, rewards and uncertainties over STEPS steps from each of SEEDS."""
    import gymnasium as gym
    import numpy as np

    seen = []
    for seed in SEEDS:
        env = gym.make_vec(
            f"wm_gym/{name}", batch, backend="torch", precision="fp32", max_episode_steps=-1, terminate_on_success=False
        )
        seen.append(env.reset(seed=seed)[0])
        rng = np.random.default_rng(seed)
        for _ in range(STEPS):
            actions = rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
            observation, reward, _, _, info = env.step(actions)
            seen += [observation, reward, info["uncertainty_map"], info["success_probability"]]
        env.close()
    return sha(*seen)


def actions(agent_name: str) -> str:
    """A shipped agent's actions in its own world over STEPS steps from each of SEEDS."""
    import gymnasium as gym
    import numpy as np

    from wm_gym.policies.loaders import load_agent

    agent = load_agent(agent_name)
    pictures = gym.make(agent.env_id, backend="torch", precision="fp32")
    rng, seen = np.random.default_rng(0), []
    shape = agent.policy.observation_space.shape
    for seed in SEEDS:
        frame = pictures.reset(seed=seed)[0]
        axis = shape.index(min(shape))
        stacked = np.concatenate([frame] * (min(shape) // 3), axis=-1)
        stacked = np.moveaxis(stacked, -1, axis) if axis == 0 else stacked
        assert stacked.shape == shape, (stacked.shape, shape)
        for _ in range(4):
            seen.append(agent.policy.predict(stacked, deterministic=True)[0])
            stacked = np.clip(stacked.astype(int) + rng.integers(-20, 20, shape), 0, 255).astype(np.uint8)
    pictures.close()
    return sha(*seen)


def recording(folder: Path) -> str:
    """The bytes of every file of a recording of the Reach twin."""
    from wm_gym.collect.record import record

    record("wm_gym/ReachPyBullet-v0", 3, policy="mix", out=folder, seed=5, workers=0, progress=False)
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def weights(folder: Path) -> dict[str, str]:
    """The weights of a world trained for a few updates on a recording of a small environment, by component."""
    sys.path.insert(0, str(Path(__file__).parent))
    from wm_gym.collect.record import record
    from wm_gym.training import train
    from wm_gym.worlds.world import World

    data = record("ball_env:wm_gym_test/Ball-v0", 12, out=folder / "balls", seed=3, workers=0, progress=False)
    made = World.from_pretrained(train(data, folder / "world", preset="tiny", overrides=UPDATES, progress=False))
    return {
        name: sha(*(value for _, value in sorted(module.state_dict().items())))
        for name, module in made.modules().items()
    }


def measure() -> dict:
    """Every hash, by what it is of."""
    import wm_gym  # noqa: F401
    from wm_gym.worlds.catalogue import catalogue_folders

    with tempfile.TemporaryDirectory() as scratch:
        os.environ["WM_GYM_CACHE"] = str(Path(scratch) / "cache")
        return {
            "arithmetic": arithmetic(),
            **{
                f"frames of {name}, batch {batch}": frames(name, batch)
                for name in sorted(catalogue_folders())
                for batch in (1, 4)
            },
            **{f"actions of {name}": actions(name) for name in ("ppo-Push-v0", "ppo-Reach-v0", "ppo-Drawer-v0")},
            "bytes of a recording": recording(Path(scratch) / "recording"),
            **{f"trained {part}": digest for part, digest in weights(Path(scratch)).items()},
        }


if __name__ == "__main__":
    if any(os.environ.get(key) != value for key, value in ARITHMETIC.items()):
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ARITHMETIC})
    text = json.dumps(measure(), indent=1) + "\n"
    GOLDEN.write_text(text) if "--write" in sys.argv else print(text, end="")
