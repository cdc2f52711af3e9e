"""How like is one picture to another, in decibels?"""

import numpy as np


def psnr(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio in dB over the last three axes of uint8 arrays."""
    error = ((a.astype(np.float32) - b.astype(np.float32)) ** 2).mean(axis=(-3, -2, -1))
    return 10 * np.log10(255.0**2 / np.maximum(error, 1e-2))
