"""How near is a frame to a picture of the goal, seen from where the episode began?"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from wm_gym.common.reading import read_bytes
from wm_gym.judges.base import Judge, check_frames

if TYPE_CHECKING:
    from wm_gym.worlds.world import World

FEATURES = ("tokenizer", "perceptual", "pixels")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""Of a goal: pictures that Pillow reads by itself, where others start programs."""
MOST_PIXELS = 2**24
NEAR = 1e-6  # a start that is the goal has no way to go
BATCH = 64


class GoalJudge(Judge):
    """reward="goal:IMAGE": the share of the start's distance to a picture of the goal that is behind.

    The score is 1 - d(frame) / d(start): 1 at the goal, 0 at the start, negative further away. The distance d is the
    mean absolute difference of the features of a frame and of the goal.

    Args:
        image: A picture of the frames' size: a file, or uint8 [H, W, 3].
        world: The world with the tokenizer.
        features: "tokenizer" (the world's latents; the default where there is a world), "perceptual" (ST-LPIPS, whose
            weights must be in the cache) or "pixels".
        threshold: The score above which it is a success, less than 1.
        device: Where ST-LPIPS runs.

    Raises:
        FileNotFoundError: Where the picture is missing.
        ValueError: Where it cannot be read or is not of the frames' size.
    """

    needs_start = True

    def __init__(
        self,
        image: str | Path | np.ndarray,
        world: World | None = None,
        features: str | None = None,
        threshold: float = 0.8,
        device: str = "cpu",
    ):
        features = features or ("tokenizer" if world is not None else "pixels")
        if features not in FEATURES:
            raise ValueError(f"features={features!r} is unknown; choose one of {FEATURES}")
        if not threshold < 1:
            raise ValueError(f"threshold is {threshold}, expected less than 1, the score of the goal itself")
        if features == "tokenizer" and world is None:
            raise ValueError(
                "features='tokenizer' needs a world whose tokenizer that is: pass reward_kwargs={'world': "
                f"WORLD}}, or choose another of {FEATURES}"
            )
        self.name = f"goal:{image}" if isinstance(image, (str, Path)) else "goal:(array)"
        self.threshold, self.features, self.device = threshold, features, device
        self.goal = read_picture(image) if isinstance(image, (str, Path)) else check_frames(image[None], "goals")[0]
        if world is not None:
            from wm_gym.engine.shared import load_world

            self.tokenizer = (world := load_world(world)).tokenizer
            self._check_size((*world.spec.frame_size, 3))
        if features == "perceptual":
            from wm_gym.models.st_lpips import load_st_lpips

            self.network = load_st_lpips().to(device)

    def look(self, frames: np.ndarray, starts: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Scores [N] of frames uint8 [N, H, W, 3], and the same as progress."""
        assert starts is not None  # needs_start
        self._check_size(frames.shape[1:])
        unique, back = np.unique(starts, axis=0, return_inverse=True)
        way = np.maximum(self.distance(unique), NEAR)[back.reshape(-1)]
        score = 1 - self.distance(frames) / way
        return score, score

    def distance(self, frames: np.ndarray) -> np.ndarray:
        """The distances float64 [N] of frames uint8 [N, H, W, 3] to the goal."""
        return np.concatenate([self._distance(frames[i : i + BATCH]) for i in range(0, len(frames), BATCH)])

    def _distance(self, frames: np.ndarray) -> np.ndarray:
        import torch

        if self.features == "pixels":
            return np.abs(frames / 255 - self.goal / 255).mean((1, 2, 3))
        with torch.inference_mode():
            both = torch.from_numpy(np.concatenate([self.goal[None], frames]))
            if self.features == "tokenizer":
                from wm_gym.models.tokenizer import to_float

                here = next(self.tokenizer.parameters()).device
                latents = self.tokenizer.encode(to_float(both).to(here))
                found = (latents[1:] - latents[:1]).abs().flatten(1).mean(1)
            else:
                pictures = both.to(self.device).permute(0, 3, 1, 2) / 127.5 - 1
                found = self.network(pictures[1:], pictures[:1].expand(len(frames), -1, -1, -1))
        return found.double().cpu().numpy()

    def _check_size(self, shape: tuple[int, ...]) -> None:
        if self.goal.shape != tuple(shape):
            height, width = shape[:2]
            raise ValueError(
                f"the goal {self.name.removeprefix('goal:')} is {list(self.goal.shape)}, the frames are "
                f"{list(shape)}; resize it with PIL.Image.open(FILE).convert('RGB').resize(({width}, "
                f"{height}), PIL.Image.BOX).save(FILE)"
            )


def read_picture(path: str | Path) -> np.ndarray:
    """A picture uint8 [H, W, 3]; FileNotFoundError without the file, ValueError where it is none."""
    from PIL import Image

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"the goal {path} is not there; give a picture of the frames' size, e.g. "
            "PIL.Image.fromarray(env.render()).save('goal.png')"
        )
    try:
        data = io.BytesIO(read_bytes(path, 4 * MOST_PIXELS))  # of a file Pillow allocates what a chunk says
        with Image.open(data, formats=FORMATS) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise ValueError(f"{picture.width} x {picture.height}, expected at most {MOST_PIXELS:,} pixels")
            return np.array(picture.convert("RGB"))
    except Exception as error:  # Pillow's are of many kinds: no picture, cut short, damaged, a bomb
        raise ValueError(
            f"the goal {path} cannot be read ({error}): it is no picture that can be read; give a PNG or JPEG"
        ) from error
