"""How does the world move? A latent U-Net that denoises the next frame's latent, one or a few evaluations a frame."""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn
from torch.nn import functional as F

from wm_gym.models.blocks import PoseMaps, ResBlock, full_precision, group_norm


class VectorCode(nn.Module):
    """Normalise a vector and write its angles as (sin, cos): [B, D] -> [B, D + number of angles]."""

    def __init__(self, dim: int, angle_dims: list[int]):
        super().__init__()
        self.angles = list(angle_dims)
        self.lines = [d for d in range(dim) if d not in self.angles]
        self.dim, self.out_dim = dim, dim + len(self.angles)
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        lines = ((x - self.mean) / self.std)[:, self.lines]
        if not self.angles:
            return lines
        angles = x[:, self.angles]
        return torch.cat([lines, angles.sin(), angles.cos()], dim=1)

    def decode(self, code: torch.Tensor) -> torch.Tensor:
        """[B, D + angles] -> [B, D], angles in (-pi, pi]."""
        n, k = len(self.lines), len(self.angles)
        if not k:
            return code * self.std + self.mean
        columns = [None] * self.dim
        for i, d in enumerate(self.lines):
            columns[d] = code[:, i] * self.std[d] + self.mean[d]
        for i, d in enumerate(self.angles):
            columns[d] = torch.atan2(code[:, n + i], code[:, n + k + i])
        return torch.stack(columns, dim=1)


class UNetDynamics(ModelMixin, ConfigMixin):
    """x-prediction of the next latent from the last `context_frames` latents, the pinned first one, pose and action.

    The next pose is integrated first, p' = p + f(p, a), and conditions the U-Net through FiLM and a projected
    spatial map. The output is gated, z' = m * x + (1 - m) * z_t, so that what does not move is copied.
    """

    @register_to_config
    def __init__(self, latent_channels: int = 4, grid: tuple[int, int] = (16, 16), context_frames: int = 2,
                 action_dim: int = 3, proprioception_dim: int = 3, action_angles: tuple[int, ...] = (),
                 proprioception_angles: tuple[int, ...] = (), widths: tuple[int, ...] = (32, 64, 96),
                 condition_dim: int = 128, pose_maps: int = 8):
        super().__init__()
        c, k, p = latent_channels, context_frames, proprioception_dim
        self.action_code = VectorCode(action_dim, action_angles)
        self.pose_code = VectorCode(p, proprioception_angles)
        pose_dim = self.pose_code.out_dim
        self.pose_net = nn.Sequential(nn.Linear(pose_dim + self.action_code.out_dim, 128), nn.SiLU(),
                                      nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, pose_dim)) if p else None
        if p:
            nn.init.zeros_(self.pose_net[-1].weight)
            nn.init.zeros_(self.pose_net[-1].bias)
        self.pose_projection = PoseMaps(2 * pose_dim, pose_maps, grid) if p else None
        vector_dim = self.action_code.out_dim + 2 * pose_dim + 2
        self.condition = nn.Sequential(nn.Linear(vector_dim, condition_dim), nn.SiLU(),
                                       nn.Linear(condition_dim, condition_dim), nn.SiLU())
        inputs = c * (k + 2) + (pose_maps if p else 0)
        self.stem = nn.Conv2d(inputs, widths[0], 3, padding=1)
        self.down_blocks, self.downs = nn.ModuleList(), nn.ModuleList()
        self.up_blocks, self.ups = nn.ModuleList(), nn.ModuleList()
        for narrow, wide in zip(widths[:-1], widths[1:]):
            self.down_blocks.append(ResBlock(narrow, narrow, condition_dim))
            self.downs.append(nn.Conv2d(narrow, wide, 3, stride=2, padding=1))
            self.ups.append(nn.Conv2d(wide, narrow, 3, padding=1))
            self.up_blocks.append(ResBlock(2 * narrow, narrow, condition_dim))
        self.middle = ResBlock(widths[-1], widths[-1], condition_dim)
        self.norm = group_norm(widths[0])
        self.out = nn.Conv2d(widths[0], c + 1, 3, padding=1)

    def next_pose(self, proprioception: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Integrate the pose: [B, P], [B, A] -> [B, P]."""
        if self.pose_net is None:
            return proprioception
        with full_precision(proprioception):
            code = self.pose_code(proprioception)
            return self.pose_code.decode(code + self.pose_net(torch.cat([code, self.action_code(action)], dim=1)))

    def encode_condition(self, proprioception: torch.Tensor, next_proprioception: torch.Tensor,
                         action: torch.Tensor) -> torch.Tensor:
        """What moves the scene, as one vector [B, V]: the coded action, pose and next pose."""
        return torch.cat([self.action_code(action), self.pose_code(proprioception),
                          self.pose_code(next_proprioception)], dim=1)

    def forward(self, noisy: torch.Tensor, tau: torch.Tensor, context: torch.Tensor, first: torch.Tensor,
                vector: torch.Tensor, context_noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Predict the clean next latent [B, C, h, w] and the features [B, widths[0], h, w] it was read from.

        noisy [B, C, h, w] = (1 - tau) * noise + tau * x; tau [B] in [0, 1); context [B, K, C, h, w], newest last;
        first [B, C, h, w]; vector [B, V] from `encode_condition`; context_noise [B], the level added to the context.
        """
        inputs = [noisy, context.flatten(1, 2), first]
        if self.pose_projection is not None:
            inputs.append(self.pose_projection(vector[:, self.action_code.out_dim:]))
        condition = self.condition(torch.cat([vector, tau[:, None], context_noise[:, None]], dim=1))
        h, skips = self.stem(torch.cat(inputs, dim=1)), []
        for block, down in zip(self.down_blocks, self.downs):
            h = block(h, condition)
            skips.append(h)
            h = down(h)
        h = self.middle(h, condition)
        for up, block in zip(reversed(self.ups), reversed(self.up_blocks)):
            skip = skips.pop()
            h = up(F.interpolate(h, size=skip.shape[-2:], mode="nearest"))
            h = block(torch.cat([h, skip], dim=1), condition)
        features = F.silu(self.norm(h))
        x, gate = self.out(features).split([context.shape[2], 1], dim=1)
        gate = torch.sigmoid(gate)
        return gate * x + (1 - gate) * context[:, -1], features
