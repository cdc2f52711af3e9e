"""Is what a sentence says true of a frame? Our own small image-text judge, which needs no network to fetch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from wm_gym.judges.base import Judge
from wm_gym.judges.text_model import TextMargin, embed
from wm_gym.judges.text_training import LOWEST
from wm_gym.models.tokenizer import to_float

WEIGHTS = Path(__file__).parent / "weights" / "text"


class TextJudge(Judge):
    """reward="text:the block is on the blue disc": how far a sentence is true of a frame, by `TextMargin`.

    The score is the margin: 0 where the sentence begins to be true, 1 more for each 3 cm. The progress is the margin
    from -8 (24 cm away) to the threshold as 0 to 1. The shipped model was trained on frames of Push, Drawer and Reach
    with captions of what is where; of other scenes it knows nothing.

    Args:
        prompt: The sentence.
        threshold: The margin above which it is a success.
        folder: Another `TextMargin`, as diffusers saves it.

    Raises:
        ImportError: Without wm-gym[judges].
        ValueError: For frames of another size than the model's.
    """

    def __init__(self, prompt: str, threshold: float = 0.0, folder: str | Path = WEIGHTS):
        self.name, self.threshold = f"text:{prompt}", threshold
        if not LOWEST < threshold < np.inf:
            raise ValueError(
                f"threshold is {threshold}, expected a margin above {LOWEST:g}, 0 where the sentence begins to be true"
            )
        self.model = TextMargin.from_pretrained(folder, torch_dtype=torch.float32).eval().requires_grad_(False)
        with torch.inference_mode():
            self.weights, self.bias = self.model.ask(torch.from_numpy(embed([prompt])))

    @torch.inference_mode()
    def look(self, frames: np.ndarray, starts: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Margins [N] of frames uint8 [N, H, W, 3], and progress [N]."""
        size = tuple(self.model.config.frame_size)
        if frames.shape[1:3] != size:
            raise ValueError(
                f"frames are {frames.shape[1]} x {frames.shape[2]}, the text judge was trained on "
                f"{size[0]} x {size[1]}; give a world of that size, or another folder in reward_kwargs"
            )
        pictures = to_float(torch.from_numpy(np.ascontiguousarray(frames)))
        score = (self.model.encode(pictures) @ self.weights.T + self.bias)[:, 0].double().numpy()
        return score, ((score - LOWEST) / (self.threshold - LOWEST)).clip(0, 1)
