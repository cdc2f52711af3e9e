"""Do generated videos look and move like real ones? Frechet Video Distance on I3D Kinetics-400 logits.

Unterthiner et al. 2018, "Towards Accurate Generative Models of Video". The convention is theirs: features are the 400
logits (means over time, before the softmax), frames are resized to 224 x 224 bilinearly (half-pixel centres, no
antialiasing) and scaled to [-1, 1]; covariances divide by n - 1. The distance falls with n, so it is given beside that
between real and real at the same n, and no other n, length or size compares with it. A horizon's is that of the clips
that end there: videos[:, h - 16:h].
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from wm_gym.models.i3d import FEWEST_FRAMES, I3D, SIDE, load_i3d


def fvd(real: np.ndarray, made: np.ndarray, real_again: np.ndarray, network: I3D | None = None, batch: int = 4) -> dict:
    """FVD of generated videos from real ones, all uint8 [n, T, H, W, 3] of one shape, n >= 2 and T >= 9.

    real_again: as many other real videos. Returns {"fvd", "floor": real_again from real, "n", "frames": T, "size":
    [H, W], "features"}. network: `load_i3d()` by default; `batch` videos go through it at a time, on its device.
    ValueError for other shapes or types, FileNotFoundError where the weights are not in the cache.
    """
    shapes = [np.shape(videos) for videos in (real, made, real_again)]
    if len(set(shapes)) > 1:
        raise ValueError(
            f"real, made and real_again are {', '.join(str(list(s)) for s in shapes)}; expected one "
            "shape, for the distance depends on n, length and size"
        )
    network = network or load_i3d()
    features, made_features, again = (i3d_features(videos, network, batch) for videos in (real, made, real_again))
    return {
        "fvd": frechet_distance(features, made_features),
        "floor": frechet_distance(features, again),
        "n": shapes[0][0],
        "frames": shapes[0][1],
        "size": list(shapes[0][2:4]),
        "features": "I3D Kinetics-400 logits",
    }


def i3d_features(videos: np.ndarray, network: I3D, batch: int = 4) -> np.ndarray:
    """Logits float64 [n, 400] of videos uint8 [n, T, H, W, 3], T >= 9; ValueError for another shape or type."""
    if np.ndim(videos) != 5 or videos.shape[-1] != 3 or videos.shape[1] < FEWEST_FRAMES or videos.dtype != np.uint8:
        raise ValueError(
            f"videos are {videos.dtype} {list(np.shape(videos))}; expected uint8 [n, T, H, W, 3] with "
            f"T >= {FEWEST_FRAMES}, which is what I3D needs"
        )
    device, features = next(network.parameters()).device, []
    with torch.inference_mode():
        for i in range(0, len(videos), batch):
            pixels = torch.from_numpy(np.ascontiguousarray(videos[i : i + batch])).to(device)
            frames = pixels.flatten(0, 1).permute(0, 3, 1, 2).float()
            frames = F.interpolate(frames, (SIDE, SIDE), mode="bilinear", align_corners=False) / 127.5 - 1
            features.append(network(frames.unflatten(0, pixels.shape[:2]).transpose(1, 2)).double().cpu().numpy())
    return np.concatenate(features) if features else np.zeros((0, 400))


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """||mu_a - mu_b||^2 + Tr(S_a + S_b - 2 (S_a S_b)^(1/2)) between Gaussians fitted to features a [n, d], b [m, d].

    With S_a = A^T A and S_b = B^T B, where A = (a - mu_a) / sqrt(n - 1), the trace of the root is the sum of the
    singular values of A B^T, which needs no root of a singular matrix where n <= d. ValueError for fewer than two
    videos, other shapes, NaN or infinity.
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(
            f"features {list(a.shape)} and {list(b.shape)}; expected [n, d] and [m, d] of at least 2 videos each"
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError(f"{(~np.isfinite(a)).sum()} and {(~np.isfinite(b)).sum()} features are NaN or infinite")
    apart = ((a.mean(0) - b.mean(0)) ** 2).sum()
    x, y = _factor(a), _factor(b)
    overlap = np.linalg.svd(x @ y.T, compute_uv=False).sum()
    return float(max(apart + (x**2).sum() + (y**2).sum() - 2 * overlap, 0))


def _factor(features: np.ndarray) -> np.ndarray:
    """X [min(n, d), d] with X^T X the covariance."""
    x = (features - features.mean(0)) / np.sqrt(len(features) - 1)
    return np.asarray(np.linalg.qr(x, mode="r")) if len(x) > x.shape[1] else x
