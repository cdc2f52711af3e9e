"""How does a diffusers user run a world? `WorldPipeline`: a start picture and actions in, a video out."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from diffusers.pipelines.pipeline_utils import DiffusionPipeline
from diffusers.utils import BaseOutput

from wm_gym.models import Dynamics, Heads, Tokenizer, Uncertainty
from wm_gym.models.saving import read_index
from wm_gym.models.tokenizer import to_float, to_uint8
from wm_gym.models.transition import Sampling, roll
from wm_gym.worlds.catalogue import find_world


@dataclass
class WorldPipelineOutput(BaseOutput):
    """`frames`: uint8 [T, H, W, 3]."""

    frames: np.ndarray


class WorldPipeline(DiffusionPipeline):
    """A world folder as a diffusers pipeline: `WorldPipeline.from_pretrained(folder)`, to Hub and back as usual."""

    tokenizer: Tokenizer
    dynamics: Dynamics
    heads: Heads

    def __init__(
        self, tokenizer: Tokenizer, dynamics: Dynamics, heads: Heads, uncertainty: Uncertainty, scheduler: Any
    ):
        super().__init__()
        self.register_modules(
            tokenizer=tokenizer, dynamics=dynamics, heads=heads, uncertainty=uncertainty, scheduler=scheduler
        )

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any) -> Self:
        """The pipeline of a world's folder, name or Hub id; the other arguments are diffusers'.

        Raises:
            FileNotFoundError: Where the world is not found.
            ValueError: Where its index names classes of other packages.
        """
        folder = find_world(os.fspath(pretrained_model_name_or_path))
        read_index(folder, ("wm_gym.models", "diffusers"))
        return super().from_pretrained(folder, **kwargs)

    @torch.inference_mode()
    def __call__(
        self,
        image: np.ndarray,
        actions: np.ndarray,
        num_inference_steps: int = 1,
        guidance_scale: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> WorldPipelineOutput:
        """The video that actions make from a picture; the pose is read from the picture.

        Args:
            image: uint8 [H, W, 3].
            actions: float [T, A].
            num_inference_steps: Steps of the sampler for each frame.
            guidance_scale: Of the guidance by the actions; 1 for none.
            generator: Of the noise; None for torch's global one.

        Returns:
            frames uint8 [T, H, W, 3].
        """
        first = self.tokenizer.encode(to_float(torch.from_numpy(np.array(image))[None]).to(self.device))
        context = self.dynamics.config["context_frames"]
        memory = self.dynamics.remember(first[:, None].repeat(1, context, 1, 1, 1), first)
        pose = first.new_zeros(1, 0)
        if self.heads.pose is not None:
            pose = self.dynamics.pose_code.decode(self.heads.estimate_pose(first))
        given = torch.as_tensor(actions, dtype=torch.float32, device=self.device)[None]
        noise = (torch.randn(first.shape, generator=generator).to(first) for _ in range(given.shape[1]))
        sampling = Sampling(num_inference_steps, guidance_scale)
        steps = roll(self.dynamics, memory, first, pose, given, noise, sampling=sampling)
        frames = [to_uint8(self.tokenizer.decode(made.latent))[0].cpu().numpy() for made, _ in steps]
        return WorldPipelineOutput(frames=np.stack(frames))
