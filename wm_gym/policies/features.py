"""Which network turns 64x64 pixels into features that a policy learns from within minutes on a CPU?

`SpatialSoftmaxCNN`: three small convolutions, every map normalised to mean 0 and variance 1 so that it looks at
places from the first update on instead of averaging the whole picture, then the expected image coordinates of each
(Levine et al. 2016, "End-to-End Training of Deep Visuomotor Policies", section 4): the policy is handed
*where* things are instead of having to learn it from a flattened feature map. It has about a hundredth of
NatureCNN's parameters. Use it as any Stable-Baselines3 features extractor:

    PPO("CnnPolicy", env, policy_kwargs=dict(features_extractor_class=SpatialSoftmaxCNN))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import torch
from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn


class SpatialSoftmax(nn.Module):
    """Expected coordinates of C feature maps: [B, C, h, w] -> [B, 2C] in [-1, 1] (all x first, then all y).

    f_c = sum_ij softmax(a_c / T)_ij * (x_ij, y_ij), Levine et al. 2016, with one learned temperature a map.
    """

    def __init__(self, channels: int, height: int, width: int, temperature: float = 1.0):
        super().__init__()
        self.log_scale = nn.Parameter(torch.full((channels, 1), -float(torch.tensor(temperature, device="cpu").log())))
        y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
        self.grid: torch.Tensor
        self.register_buffer("grid", torch.stack([x.flatten(), y.flatten()], dim=1), persistent=False)  # [h*w, 2]

    def forward(self, activation: torch.Tensor) -> torch.Tensor:
        """The coordinates of each map."""
        attention = torch.softmax(activation.flatten(2) * self.log_scale.exp(), dim=-1)  # [B, C, h*w]
        return (attention @ self.grid).transpose(1, 2).flatten(1)


class SpatialSoftmaxCNN(BaseFeaturesExtractor):
    """Features of an image observation, or of a Dict of images and vectors (`{"pixels", "agent_pos"}`).

    Images: channels-first Box [C, H, W] (Stable-Baselines3 transposes and scales to [0, 1] by itself), each
    through its own three convolutions (total stride 4) to 2*channels[-1] keypoint coordinates; vectors are
    appended as they are, times `state_scale`. Raises ValueError for a space that holds no image.
    """

    def __init__(
        self,
        observation_space: gym.Space,
        channels: Sequence[int] = (16, 32, 32),
        temperature: float = 0.25,
        features_dim: int | None = None,
        state_scale: float = 1.0,
        normalized_image: bool = False,
    ):
        parts = observation_space.spaces if isinstance(observation_space, gym.spaces.Dict) else {"": observation_space}
        images = {k: s for k, s in parts.items() if is_image_space(s, normalized_image=normalized_image)}
        if not images:
            raise ValueError(
                f"SpatialSoftmaxCNN needs an image (uint8 [H, W, 3]) in the observation space, got "
                f"{observation_space}; for vectors use policy: MlpPolicy and no extractor, or make the env with "
                "observation='pixels'"
            )
        vectors = {k: s for k, s in parts.items() if k not in images}
        keypoints = 2 * channels[-1] * len(images)
        total = keypoints + sum(gym.spaces.flatdim(s) for s in vectors.values())
        super().__init__(observation_space, features_dim or total)
        self.is_dict = isinstance(observation_space, gym.spaces.Dict)
        self.vectors, self.state_scale = sorted(vectors), state_scale
        self.cnn = nn.ModuleDict(
            {k or "pixels": _keypoint_cnn(s, channels, temperature) for k, s in sorted(images.items())}
        )
        self.out = nn.Sequential(nn.Linear(total, features_dim), nn.ReLU()) if features_dim else nn.Identity()

    def forward(self, observation: Any) -> torch.Tensor:
        """Features [B, F] of images in [0, 1], channels first, and vectors."""
        if not self.is_dict:
            return self.out(self.cnn["pixels"](observation))
        features = [cnn(observation[key]) for key, cnn in self.cnn.items()]
        features += [observation[key].flatten(1).float() * self.state_scale for key in self.vectors]
        return self.out(torch.cat(features, dim=1))


def _keypoint_cnn(space: gym.Space, channels: Sequence[int], temperature: float) -> nn.Sequential:
    """Convolutions at stride 4 in all (5x5/2, 3x3/2, 3x3/1), then the spatial softmax."""
    assert isinstance(space, gym.spaces.Box)  # an image
    planes, height, width = space.shape if is_image_space_channels_first(space) else (space.shape[2], *space.shape[:2])
    c1, c2, c3 = channels
    return nn.Sequential(
        nn.Conv2d(planes, c1, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(c1, c2, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(c2, c3, 3, padding=1),
        nn.InstanceNorm2d(c3),
        SpatialSoftmax(c3, -(-height // 4), -(-width // 4), temperature),
    )
