"""Which random numbers does a slot see at a step? One counter-based stream keyed by (seed, episode, step)."""

from __future__ import annotations

import numpy as np

NOISE, START = 0, 1
"""What a stream is for; it keeps the draw of the start apart from the noise of the steps."""


class Streams:
    """Philox 4x64 (Salmon et al. 2011) with key (seed, episode) and counter (block, 0, step, purpose).

    There is no state to carry: the numbers follow from the key and the counter, so that they depend neither on the
    slot nor on its neighbours nor on how often anything else was drawn.
    """

    def __init__(self):
        self._bits = np.random.Philox(0)
        self._generator = np.random.Generator(self._bits)
        self._state = self._bits.state
        self._state.update(buffer_pos=4, has_uint32=0, uinteger=0)

    def _seek(self, seed: int, episode: int, step: int, purpose: int) -> None:
        state = self._state["state"]
        state["key"][:] = seed, episode
        state["counter"][:] = 0, 0, step, purpose
        self._bits.state = self._state

    def fill_noise(self, out: np.ndarray, seed: int, episode: int, step: int) -> None:
        """Write standard normal float32 into `out` (contiguous, any shape)."""
        self._seek(seed, episode, step, NOISE)
        self._generator.standard_normal(out=out, dtype=np.float32)

    def draw(self, seed: int, episode: int) -> int:
        """The episode's random integer in 0..2^64-1, from which its start is chosen."""
        self._seek(seed, episode, 0, START)
        return int(self._bits.random_raw())


def as_seed(seed) -> int:
    """A seed as uint64; None draws one from the operating system. Raises ValueError for anything but an int >= 0."""
    if seed is None:
        return int(np.random.SeedSequence().generate_state(1, np.uint64)[0])
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f"seed is {seed!r}, expected an integer >= 0 or None")
    return int(seed) % 2**64
