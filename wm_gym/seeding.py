"""Which random numbers does a slot see at a step? One counter-based stream keyed by (seed, episode, step)."""

import math
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from wm_gym.common import accepted

START = 1
"""Last word of the counter for the draw of an episode's start; 0 is for the noise of the steps."""
LOW = 0xFFFFFFFF
Words = TypeVar("Words", np.ndarray, Tensor)
"""32-bit words, NumPy uint64 or torch int64."""


def philox(counter: tuple[Words, Words, Words, Words], key: tuple[Words, Words]) -> tuple[Words, Words, Words, Words]:
    """Philox 4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") on arrays that broadcast."""
    x0, x1, x2, x3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = x0 * 0xD2511F53, x2 * 0xCD9E8D57
        x0, x1, x2, x3 = (p1 >> 32) & LOW ^ x1 ^ k0, p1 & LOW, (p0 >> 32) & LOW ^ x3 ^ k1, p0 & LOW
        k0, k1 = (k0 + 0x9E3779B9) & LOW, (k1 + 0xBB67AE85) & LOW
    return x0, x1, x2, x3


def step_noise(
    seeds: np.ndarray,
    episodes: np.ndarray,
    steps: np.ndarray,
    shape: tuple[int, ...],
    device: torch.device | str = "cpu",
) -> Tensor:
    """Standard normal numbers, those of row i a function of (seeds, episodes, steps)[i] alone.

    Args:
        seeds: uint64 [B].
        episodes: int [B], below 2^32.
        steps: int [B], below 2^32.
        shape: Of the numbers of one row.
        device: Where they are made: by NumPy on a CPU, by torch elsewhere, which differ in the last bits.

    Returns:
        float32 [B, *shape].
    """
    count = math.prod(shape)
    blocks, words = np.arange(-(-count // 4)), [seeds.astype(np.uint64)[:, None], steps[:, None], episodes[:, None]]
    xp: Any = np if torch.device(device).type == "cpu" else torch
    block, seed, step, episode = (_words(x, xp, device) for x in (blocks, *words))
    a, b, c, d = philox((block, step, episode, episode & 0), (seed & LOW, (seed >> 32) & LOW))
    radius, angle = (xp.stack(pair, -1) for pair in ((a, b), (c, d)))
    radius = xp.sqrt(-2 * xp.log(_unit(radius)))  # Box and Muller 1958
    angle = 2 * math.pi * _unit(angle)
    noise = xp.concatenate([radius * xp.cos(angle), radius * xp.sin(angle)], -1)
    noise = noise.reshape(len(seeds), -1)[:, :count].reshape(len(seeds), *shape)
    return torch.from_numpy(noise) if xp is np else noise


def _words(values: np.ndarray, xp: Any, device: torch.device | str) -> Any:
    return values.astype(np.uint64) if xp is np else torch.from_numpy(values.astype(np.int64)).to(device)


def _unit(words: Words) -> Words:
    """32-bit words as float32 in (0, 1]."""
    halves = words.astype(np.float32) if isinstance(words, np.ndarray) else words.float()
    return (halves + 0.5) * 2.0**-32


def start_draw(seed: int, episode: int) -> int:
    """The episode's random integer in 0..2^64-1, from which its start is chosen."""
    return int(np.random.Philox(key=np.array([seed, episode], np.uint64), counter=[0, 0, 0, START]).random_raw())


def as_seed(seed: Any) -> int:
    """A seed as uint64; None draws one from the operating system. ValueError for what is no seed (`accepted`)."""
    found = accepted.seed(seed)
    return int(np.random.SeedSequence().generate_state(1, np.uint64)[0]) if found is None else found % 2**64
