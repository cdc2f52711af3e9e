"""How does the world move? A latent U-Net that denoises the next frame's latent, one or a few evaluations a frame."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wm_gym.models.blocks import Attention, ResBlock, group_norm
from wm_gym.models.conditioning import Conditioned, ways_of
from wm_gym.models.saving import ModelMixin, register_to_config  # noqa: F401  see Network


class UNetDynamics(Conditioned):
    """x-prediction of the next latent from the latents of `lags` frames ago, the pinned first one, pose and action.

    The next pose is integrated first, p' = p + f(p, a), and conditions the U-Net through FiLM and a projected spatial
    map, or through others of `CONDITIONINGS`; those with attention have it in every level but the finest. The output is
    gated, z' = m * x + (1 - m) * z_t, so that what does not move is copied. Its memory is the stack of the last
    `context_frames` latents; lags (default: all of them) are the ages that the network looks at: a few old ones let it
    find again what an arm has hidden for a while.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 4,
        grid: tuple[int, int] = (16, 16),
        context_frames: int = 2,
        action_dim: int = 3,
        proprioception_dim: int = 3,
        action_angles: tuple[int, ...] = (),
        proprioception_angles: tuple[int, ...] = (),
        widths: tuple[int, ...] = (32, 64, 96),
        condition_dim: int = 128,
        pose_maps: int = 8,
        lags: tuple[int, ...] = (),
        pose_width: int = 128,
        pose_activation: str = "silu",
        integrator: dict | None = None,
        conditioning: str = "film+map",
        nullable: bool = False,
    ):
        super().__init__()
        self.lags = sorted(lags or range(1, context_frames + 1), reverse=True)
        if not 1 == self.lags[-1] <= self.lags[0] <= context_frames:
            raise ValueError(
                f"lags={tuple(lags)} with context_frames={context_frames}; expected ages from 1, the "
                "newest, to context_frames"
            )
        self.build_conditioning(ways_of(conditioning), pose_maps, nullable)
        inputs = latent_channels * (len(self.lags) + 2) + self.drawn
        self.stem = nn.Conv2d(inputs, widths[0], 3, padding=1)
        self.down_blocks, self.downs = nn.ModuleList(), nn.ModuleList()
        self.up_blocks, self.ups = nn.ModuleList(), nn.ModuleList()
        for narrow, wide in zip(widths[:-1], widths[1:]):
            self.down_blocks.append(ResBlock(narrow, narrow, condition_dim))
            self.downs.append(nn.Conv2d(narrow, wide, 3, stride=2, padding=1))
            self.ups.append(nn.Conv2d(wide, narrow, 3, padding=1))
            self.up_blocks.append(ResBlock(2 * narrow, narrow, condition_dim))
        self.middle = ResBlock(widths[-1], widths[-1], condition_dim)
        self.attention = nn.ModuleDict()
        for way in (way for way in self.ways if way in ("token", "cross")):
            for level, width in enumerate(widths[1:], start=1):
                cells = tuple(-(-size // 2**level) for size in grid)
                for place in ("down", "up") if level < len(widths) - 1 else ("middle",):
                    self.attention[f"{way}_{place}_{level}"] = Attention(width, cells, self.vector_dim, way)
        self.norm = group_norm(widths[0])
        self.out = nn.Conv2d(widths[0], latent_channels + 1, 3, padding=1)

    @property
    def feature_dim(self) -> int:
        """Channels of the features that `forward` returns."""
        return self.config.widths[0]

    def forward(
        self,
        noisy: Tensor,
        tau: Tensor,
        memory: dict[str, Tensor],
        first: Tensor,
        vector: Tensor,
        context_noise: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Predict the clean next latent [B, C, h, w] and the features [B, feature_dim, h, w] it was read from.

        noisy [B, C, h, w] = (1 - tau) * noise + tau * x; tau [B] in [0, 1); memory of `remember` or `append`;
        first [B, C, h, w]; vector [B, V] from `encode_condition`; context_noise [B], the level added to the context.
        """
        context = memory["latents"]
        inputs = [noisy, *(context[:, -lag] for lag in self.lags), first, *self.draw(vector)]
        condition = self.modulate(vector, tau, context_noise)
        h, skips = self.stem(torch.cat(inputs, dim=1)), []
        for level, (block, down) in enumerate(zip(self.down_blocks, self.downs)):
            h = self._attend("down", level, block(h, condition), vector)
            skips.append(h)
            h = down(h)
        h = self._attend("middle", len(self.downs), self.middle(h, condition), vector)
        for level in reversed(range(len(self.ups))):
            up, block = self.ups[level], self.up_blocks[level]
            skip = skips.pop()
            h = up(F.interpolate(h, size=skip.shape[-2:], mode="nearest"))
            h = self._attend("up", level, block(torch.cat([h, skip], dim=1), condition), vector)
        features = F.silu(self.norm(h))
        x, gate = self.out(features).split([context.shape[2], 1], dim=1)
        gate = torch.sigmoid(gate)
        return gate * x + (1 - gate) * context[:, -1], features

    def _attend(self, place: str, level: int, h: Tensor, vector: Tensor) -> Tensor:
        for way in self.ways:
            name = f"{way}_{place}_{level}"
            if name in self.attention:
                h = self.attention[name](h, vector)
        return h
