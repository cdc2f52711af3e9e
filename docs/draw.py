"""How is the picture of frames beside physics drawn? Run it again when the shipped Push world is a new one:

python docs/draw.py
"""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np
from PIL import Image

import wm_gym  # noqa: F401

SEED, STEPS, EVERY = 0, 20, 4
OUT = Path(__file__).resolve().parent / "images" / "frames.png"


def draw() -> None:
    """Write the learned Push world above its twin, under the scripted expert's actions."""
    twin = gym.make("wm_gym/PushPyBullet-v0", terminate_on_success=False)
    world = gym.make("wm_gym/Push-v0", terminate_on_success=False)
    real, info = twin.reset(seed=SEED)
    drawn, _ = world.reset(seed=SEED, options={"image": real, "proprioception": info["proprioception"]})
    expert = twin.unwrapped.scripted_policy("expert", np.random.default_rng(SEED))
    columns = [(drawn, real)]
    for step in range(1, STEPS + 1):
        action = expert.act()
        real, *_ = twin.step(action)
        drawn, *_ = world.step(action)
        if step % EVERY == 0:
            columns.append((drawn, real))
    picture = np.hstack(
        [np.pad(np.vstack(column), ((0, 0), (0, 2), (0, 0)), constant_values=255) for column in columns]
    )
    Image.fromarray(picture).save(OUT, optimize=True)


if __name__ == "__main__":
    draw()
