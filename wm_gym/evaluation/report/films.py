"""How is a roll-out shown on a page? Physics, the world and where it is uncertain, side by side in one small film."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from wm_gym.common.page import data_uri, fill, png_uri

SIDE, FRAMES = 128, 150  # the most pixels a side and pictures a film; beyond, every second one and so on
MOST_FILMS, BUDGET = 4, 2_500_000  # bytes of all
HOT, BAR, TRUSTED, BEYOND = (214, 39, 40), 2, (47, 111, 181), (199, 203, 208)


def film(
    physics: np.ndarray, world: np.ndarray, uncertainty: np.ndarray, most: float, fps: float, trusted: int | None = None
) -> bytes:
    """Animated WebP of three panels: physics, the world, the world with its uncertainty in red.

    physics, world: uint8 [n+1, H, W, 3]; uncertainty [n, h, w] (none at the start), `most` is full red. Below runs the
    time, blue for the first `trusted` steps.
    """
    n, every = len(world), -(-len(world) // FRAMES)
    uncertainty = np.concatenate([np.zeros_like(uncertainty[:1]), uncertainty])
    blue = -1 if trusted is None else trusted
    pictures = [
        Image.fromarray(_panels(physics[t], world[t], uncertainty[t], most, t / max(n - 1, 1), t <= blue))
        for t in range(0, n, every)
    ]
    data, duration = io.BytesIO(), [round(1000 * every / fps)] * (len(pictures) - 1) + [1200]
    how: dict[str, Any] = {"save_all": True, "loop": 0, "quality": 85, "method": 4}
    pictures[0].save(data, format="WEBP", append_images=pictures[1:], duration=duration, **how)
    return data.getvalue()


def films(physics: np.ndarray, world: np.ndarray, uncertainty: np.ndarray, fps: float, trusted: int | None) -> Markup:
    """Films (HTML) of up to 4 of the episodes [E, ...], as many as `BUDGET` holds; ValueError where shapes disagree."""
    if physics.shape != world.shape or uncertainty.shape[:2] != (world.shape[0], world.shape[1] - 1) or not len(world):
        raise ValueError(
            f"films.npz holds physics {list(physics.shape)}, world {list(world.shape)} and uncertainty "
            f"{list(uncertainty.shape)}; expected [E, n+1, H, W, 3] twice and [E, n, h, w]; measure it again: "
            "wm-gym evaluate WORLD --only films"
        )
    most, used = float(np.quantile(uncertainty.astype(np.float32), 0.995)), 0
    parts: list[str] = []
    for i in range(min(len(world), MOST_FILMS)):
        data = film(physics[i], world[i], uncertainty[i].astype(np.float32), most, fps, trusted)
        used += len(data)
        if parts and used > BUDGET:
            break
        parts.append(data_uri(data, "image/webp"))
    return fill("report/films.html", films=parts, most=most, trusted=trusted)


def pair(world: np.ndarray, physics: np.ndarray) -> str:
    """Address of a picture: a frame of the world beside physics', uint8 [H, W, 3] each."""
    return png_uri(_beside(_small(world), _small(physics)))


def overlay(frame: np.ndarray, uncertainty: np.ndarray, most: float) -> np.ndarray:
    """A frame uint8 [H, W, 3] in grey with a map [h, w] over it in red, full at `most`."""
    rows, columns = (np.arange(size) * cells // size for size, cells in zip(frame.shape[:2], uncertainty.shape))
    share = 0.85 * np.clip(uncertainty / max(most, 1e-9), 0, 1)[rows][:, columns, None]
    grey = 0.4 * frame + 0.6 * frame.mean(-1, keepdims=True)
    return ((1 - share) * grey + share * np.array(HOT)).round().astype(np.uint8)


def _panels(
    physics: np.ndarray, world: np.ndarray, uncertainty: np.ndarray, most: float, passed: float, trusted: bool
) -> np.ndarray:
    row = _beside(_small(physics), _small(world), overlay(_small(world), uncertainty, most))
    bar = np.full((BAR + 1, row.shape[1], 3), 255, np.uint8)
    bar[1:, : round(passed * row.shape[1])] = TRUSTED if trusted else BEYOND
    return np.concatenate([row, bar])


def _beside(first: np.ndarray, *others: np.ndarray) -> np.ndarray:
    """Pictures of one height side by side, with white between them."""
    gap = np.full((len(first), 2, 3), 255, np.uint8)
    return np.concatenate([first, *(part for other in others for part in (gap, other))], axis=1)


def _small(frame: np.ndarray) -> np.ndarray:
    """A frame with no side above `SIDE`, every k-th pixel of a larger one."""
    every = -(-max(frame.shape[:2]) // SIDE)
    return frame[::every, ::every]
