"""How like is one picture to another, in decibels, and where is it least like it?"""

import numpy as np


def psnr(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio in dB over the last three axes of uint8 arrays."""
    error = ((a.astype(np.float32) - b.astype(np.float32)) ** 2).mean(axis=(-3, -2, -1))
    return 10 * np.log10(255.0**2 / np.maximum(error, 1e-2))


def worst_patch(a: np.ndarray, b: np.ndarray, side: int = 4) -> np.ndarray:
    """Largest mean |difference| [E] of a patch of side x side pixels between frames uint8 [E, H, W, 3].

    The default is what a latent's cell shows; what is left over at the right and below is no patch.
    """
    difference = np.abs(a.astype(np.float32) - b).mean(-1)
    h, w = (n // side for n in difference.shape[1:])
    patches = difference[:, : h * side, : w * side].reshape(len(a), h, side, w, side)
    return patches.mean((2, 4)).max((1, 2))
