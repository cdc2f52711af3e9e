"""How like a sentence is a frame? CLIP or SigLIP through transformers, with a baseline sentence projected out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from wm_gym.judges.base import Judge
from wm_gym.judges.local import judge_device, load_pretrained

BASELINE = "a robot arm at a table"


class ClipJudge(Judge):
    """reward="clip:PROMPT": how like the prompt a frame is, by CLIP or SigLIP.

    The score is that of VLM-RM (Rocamonde et al. 2023, eq. 5), from unit embeddings of a frame s, the prompt g and the
    baseline b:

        score = 1 - |alpha proj_L(s) + (1 - alpha) s - g|^2 / 2,   L the line through b and g,

    which for alpha = 0 is the cosine of s and g. The progress is the probability that the prompt describes the frame
    rather than the baseline does (a softmax of the model's scaled cosines).

    Args:
        prompt: A sentence that is true of a frame at the goal.
        model: A folder or Hub id of a CLIP or SigLIP.
        baseline: A sentence that is true of any frame of the scene.
        alpha: How much of what is off the line is projected out, in [0, 1].
        threshold: The score above which it is a success (`wm-gym judge measure` proposes one); with 1 there is none.
        device: "auto", "cpu" or a CUDA device.
        batch: Frames at once.

    Raises:
        ValueError: For a prompt or baseline that is empty or too long.
        ImportError: Without wm-gym[judges].
        FileNotFoundError: Where the model is not found.
    """

    def __init__(
        self,
        prompt: str,
        model: str = "openai/clip-vit-base-patch32",
        baseline: str = BASELINE,
        alpha: float = 0.5,
        threshold: float = 1.0,
        device: str = "auto",
        batch: int = 64,
    ):
        if not prompt.strip() or not baseline.strip():
            raise ValueError(
                f"the prompt is {prompt!r} and the baseline {baseline!r}; expected a sentence each, e.g. "
                "'the block is on the green square'"
            )
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha is {alpha}, expected a number in [0, 1]: how much of the rest is projected out")
        if batch < 1:
            raise ValueError(f"batch is {batch}, expected at least 1")
        self.name, self.threshold = f"clip:{prompt}", threshold
        self.alpha, self.batch, self.device = alpha, batch, judge_device(device)
        self.model, self.processor = load_pretrained("AutoModel", model, self.device)
        if not hasattr(self.model, "get_image_features") or not hasattr(self.model, "get_text_features"):
            raise ValueError(
                f"the judge's model {model!r} is a {type(self.model).__name__}; expected one with image "
                "and text embeddings, as CLIP or SigLIP"
            )
        self.goal, self.base = self._embed_text([prompt, baseline])
        if torch.equal(self.goal, self.base):
            raise ValueError(
                f"the prompt {prompt!r} and the baseline {baseline!r} mean the same to {model}; give "
                "reward_kwargs={'baseline': a sentence for any frame of the scene}"
            )

    @torch.inference_mode()
    def look(self, frames: np.ndarray, starts: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Scores [N] and progress [N] of frames uint8 [N, H, W, 3]."""
        parts = [self._embed(frames[i : i + self.batch]) for i in range(0, len(frames), self.batch)]
        seen = torch.cat(parts).double()
        goal, base = self.goal.double(), self.base.double()
        along = (goal - base) / (goal - base).norm()
        projected = base + ((seen - base) @ along)[:, None] * along
        score = 1 - (self.alpha * projected + (1 - self.alpha) * seen - goal).square().sum(1) / 2
        scale = self.model.logit_scale.exp().double()
        progress = torch.sigmoid(scale * (seen @ goal - seen @ base))
        return score.cpu().numpy(), progress.cpu().numpy()

    def _embed(self, frames: np.ndarray) -> torch.Tensor:
        """Unit embeddings [n, D] of frames."""
        inputs = self.processor.image_processor(images=list(frames), return_tensors="pt")
        inputs = inputs.to(self.device, self.model.dtype)
        return F.normalize(_pooled(self.model.get_image_features(**inputs)), dim=-1)

    @torch.inference_mode()
    def _embed_text(self, sentences: list[str]) -> torch.Tensor:
        tokenizer = self.processor.tokenizer
        longest = min(tokenizer.model_max_length, self.model.config.text_config.max_position_embeddings)
        for sentence in sentences:
            if (length := len(tokenizer(sentence)["input_ids"])) > longest:
                raise ValueError(
                    f"the sentence {sentence!r} has {length} tokens, the judge's model reads {longest}; shorten it"
                )
        inputs = tokenizer(sentences, padding="max_length", max_length=longest, return_tensors="pt").to(self.device)
        return F.normalize(_pooled(self.model.get_text_features(**inputs)), dim=-1)


def _pooled(features: Any) -> torch.Tensor:
    """transformers 5 wraps what transformers 4 returned."""
    return features if isinstance(features, torch.Tensor) else features.pooler_output
