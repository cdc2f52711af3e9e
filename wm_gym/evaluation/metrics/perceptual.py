"""How like the true frames do generated frames look, at each horizon? PSNR, SSIM and ST-LPIPS, never one average."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from wm_gym.common.metrics import psnr
from wm_gym.common.records import Undefined
from wm_gym.models.st_lpips import SMALLEST_SIDE, STLPIPS, load_st_lpips


@dataclass(frozen=True)
class Looks:
    """How like the true frames the frames of one step look, means over videos."""

    psnr_db: float
    """68 for a copy."""
    ssim: float
    """1 for a copy; on RGB in [0, 1] in 11 x 11 Gaussian windows with sigma 1.5, borders reflected."""
    st_lpips: float
    """0 for a copy."""


def perceptual(
    made: np.ndarray, truth: np.ndarray, horizons: tuple[int, ...], network: STLPIPS | None = None, batch: int = 16
) -> dict[str, Looks]:
    """How like the true frames the frames of roll-outs look, by horizon ("at_{t}").

    The numbers say nothing without the same numbers of a control: a frozen frame, another take.

    Args:
        made: uint8 [n, T, H, W, 3], sides of at least 21; frame t - 1 is that after step t.
        truth: As many true frames.
        horizons: Steps t, 1 to T.
        network: `load_st_lpips()` by default.
        batch: Pictures that go through it at a time, on its device.

    Raises:
        ValueError: For other shapes, types or horizons.
        Undefined: For pictures that are too small.
        FileNotFoundError: Where the weights are not in the cache.
    """
    shaped = made.shape == truth.shape and made.ndim == 5 and made.shape[-1] == 3 and len(made) > 0
    if not shaped or not made.dtype == truth.dtype == np.uint8:
        raise ValueError(
            f"frames are {made.dtype} {list(made.shape)} and {truth.dtype} {list(truth.shape)}; expected "
            "uint8 [n, T, H, W, 3] twice, of one shape"
        )
    if min(made.shape[2:4]) < SMALLEST_SIDE:
        raise Undefined(f"frames have sides of {list(made.shape[2:4])}; expected sides of at least {SMALLEST_SIDE}")
    if not all(1 <= t <= made.shape[1] for t in horizons):
        raise ValueError(f"horizons {horizons}; expected steps from 1 to the videos' {made.shape[1]}")
    network = network or load_st_lpips()
    result = {}
    for t in horizons:
        a, b = made[:, t - 1], truth[:, t - 1]
        parts = [_structure_and_look(a[i : i + batch], b[i : i + batch], network) for i in range(0, len(a), batch)]
        ssim, distance = np.concatenate(parts, axis=1).mean(1)
        result[f"at_{t}"] = Looks(float(psnr(a, b).mean()), float(ssim), float(distance))
    return result


def _structure_and_look(a: np.ndarray, b: np.ndarray, network: STLPIPS) -> np.ndarray:
    """SSIM and ST-LPIPS [2, B] of pictures uint8 [B, H, W, 3]."""
    with torch.inference_mode():
        x, y = (
            torch.from_numpy(np.ascontiguousarray(frames)).to(next(network.parameters()).device).permute(0, 3, 1, 2)
            / 255
            for frames in (a, b)
        )
        # In float64: the variances of a flat ground are differences of nearly equal numbers.
        ssim = structural_similarity_index_measure(x.double(), y.double(), data_range=1.0, reduction="none")
        assert isinstance(ssim, torch.Tensor)
        return torch.stack([ssim.reshape(-1), network(2 * x - 1, 2 * y - 1).double()]).cpu().numpy()
