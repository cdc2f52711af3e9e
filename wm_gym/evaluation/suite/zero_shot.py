"""Does a video model that has never seen this robot do what a sentence says? Where the block goes, before any training.

The first experiment of "Video Generation Models in Robotics" (arXiv 2601.07823): a picture, a directive such as "push
the block left", and the generated video; here with the controls that tell obedience from drift.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wm_gym.common.options import with_changes
from wm_gym.common.statistics import rate
from wm_gym.evaluation.suite.options import ProbeOptions
from wm_gym.models.pretrained import base_folder, family_of

DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
"""Directions in the picture, x to the right and y down."""
LEAST_MOVE = 0.02  # of the picture's width that a block must move to have moved
COLOUR_RANGE = 60  # levels of 255 that a pixel's colour may differ from the block's


def direction_of(prompt: str) -> str:
    """The one direction that a prompt names; ValueError where it names none or several."""
    said = [word for word in DIRECTIONS if word in re.findall(r"\w+", prompt.lower())]
    if len(said) != 1:
        raise ValueError(
            f"the prompt {prompt!r} names {said or 'no direction'}; expected one of {', '.join(DIRECTIONS)}: "
            "pass --direction where the sentence says it otherwise"
        )
    return said[0]


def block_in(frames: np.ndarray, colour: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Centre [T, 2] (x, y in pixels; nan where there is none) and number [T] of a colour's pixels in [T, H, W, 3]."""
    mask = np.abs(frames.astype(np.int16) - np.array(colour)).max(-1) <= COLOUR_RANGE
    area = mask.sum((1, 2))
    y, x = np.indices(mask.shape[1:])
    with np.errstate(invalid="ignore"):
        centre = np.stack([(mask * axis).sum((1, 2)) / np.where(area, area, np.nan) for axis in (x, y)], axis=1)
    return centre, area


def moved(frames: np.ndarray, colour: tuple[int, int, int], direction: str) -> dict:
    """How far and which way the block goes from the first to the last frame, in shares of the picture's width.

    "moved": at least 2 %; "obeyed": it moved, within 45 degrees of the direction; "kept": the last frame shows between
    half and twice its pixels. ValueError where the first frame shows no block.
    """
    centre, area = block_in(frames, colour)
    if not area[0]:
        raise ValueError(f"the first frame shows nothing of the colour {colour}; pass --colour R,G,B of the block")
    way = (centre[-1] - centre[0]) / frames.shape[2]
    dx, dy, far = (float(each) if np.isfinite(each) else None for each in (*way, np.linalg.norm(way)))
    has_moved = far is not None and far >= LEAST_MOVE
    obeyed = has_moved and bool(way @ np.array(DIRECTIONS[direction]) >= np.cos(np.pi / 4) * np.linalg.norm(way))
    kept = bool(0.5 <= area[-1] / area[0] <= 2)
    return {"dx": dx, "dy": dy, "distance": far, "kept": kept, "moved": has_moved, "obeyed": obeyed}


def generate(
    base: str | Path,
    image: np.ndarray,
    prompt: str,
    seeds: list[int],
    frames: int = 25,
    steps: int = 25,
    device: str = "cpu",
) -> np.ndarray:
    """Videos uint8 [seeds, frames, H, W, 3] of a picture uint8 [H, W, 3]; the picture is each one's first frame.

    Stable Video Diffusion takes no prompt: this is what it does by itself.
    """
    from diffusers import StableVideoDiffusionPipeline, WanImageToVideoPipeline
    from PIL import Image

    folder, (height, width) = base_folder(base), image.shape[:2]
    asked = {"image": Image.fromarray(image), "height": height, "width": width, "output_type": "np"}
    asked |= {"num_frames": frames, "num_inference_steps": steps}
    if family_of(folder) == "svd":
        pipeline = StableVideoDiffusionPipeline.from_pretrained(folder, use_safetensors=True)
    else:
        pipeline = WanImageToVideoPipeline.from_pretrained(
            folder, use_safetensors=True, image_encoder=None, image_processor=None, expand_timesteps=True
        )
        asked["prompt"] = prompt
    pipeline.to(device).set_progress_bar_config(disable=True)
    films = []
    for seed in seeds:
        film = np.asarray(pipeline(**asked, generator=torch.Generator().manual_seed(seed)).frames[0])
        if not np.isfinite(film).all():
            raise FloatingPointError(f"{base} drew NaN with seed {seed}; try another number of steps or precision")
        films.append(np.concatenate([image[None], (film[1:] * 255).round().astype(np.uint8)]))
    return np.stack(films)


def probe(
    base: str | Path, image: np.ndarray, prompt: str, options: ProbeOptions | None = None, **changes: Any
) -> tuple[dict[str, Any], np.ndarray]:
    """Ask a pretrained video model n times to move the block, and n times each of two controls.

    "obeyed" is the rate with its interval; "moved", "kept" likewise. Controls: "unprompted", the same seeds with an
    empty prompt (what happens anyway), and "mirrored", the picture flipped and the opposite word of left or right said
    (a model that obeys does as well there; one with a drift of its own does not).

    Args:
        base: A diffusers pipeline's folder or Hub id.
        image: uint8 [H, W, 3], what the videos begin with.
        prompt: What is asked.
        options: `ProbeOptions`.
        **changes: Fields of `ProbeOptions` by name.

    Returns:
        The numbers, and the films uint8 [n, frames, H, W, 3] of the prompt itself.
    """
    chosen = with_changes(ProbeOptions, options, changes)
    direction = chosen.direction or direction_of(prompt)
    seeds = list(range(chosen.seed, chosen.seed + chosen.n))
    opposite = {"left": "right", "right": "left"}.get(direction, direction)
    asked = {
        "prompted": (image, prompt, direction),
        "unprompted": (image, "", direction),
        "mirrored": (image[:, ::-1].copy(), swapped(prompt), opposite),
    }
    result: dict = {"prompt": prompt, "direction": direction, "takes_a_prompt": family_of(base_folder(base)) != "svd"}
    films = {}
    for name, (picture, said, way) in asked.items():
        films[name] = generate(base, picture, said, seeds, chosen.frames, chosen.steps, chosen.device)
        each = [moved(film, chosen.colour, way) for film in films[name]]
        far = [one["distance"] for one in each if one["distance"] is not None]
        result[name] = {
            **{key: rate([one[key] for one in each]) for key in ("obeyed", "moved", "kept")},
            "median_distance": float(np.median(far)) if far else None,
            "each": each,
        }
    return result, films["prompted"]


def swapped(prompt: str) -> str:
    """A prompt with left and right exchanged."""
    other = {"left": "right", "right": "left", "Left": "Right", "Right": "Left", "LEFT": "RIGHT", "RIGHT": "LEFT"}
    return re.sub(r"\b(left|right)\b", lambda found: other[found[0]], prompt, flags=re.IGNORECASE)
