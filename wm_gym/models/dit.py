"""How does the world move, at GPU scale? A block-causal diffusion transformer with a ring cache of keys and values."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wm_gym.models.blocks import LayerNorm
from wm_gym.models.conditioning import Conditioned, ways_of
from wm_gym.models.saving import ModelMixin, register_to_config  # noqa: F401  see Network

PATCH = 2
CONDITIONINGS = ("film", "map", "concat")


class DiTBlock(nn.Module):
    """Attention and MLP with AdaLN-zero (Peebles and Xie 2023, "Scalable Diffusion Models with Transformers")."""

    def __init__(self, width: int, heads: int, condition_dim: int, window: int):
        super().__init__()
        self.heads = heads
        self.modulation = nn.Linear(condition_dim, 6 * width)
        self.norm1, self.norm2 = (nn.LayerNorm(width, elementwise_affine=False) for _ in range(2))
        self.query, self.keys_values = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.query_norm, self.key_norm = (LayerNorm(width // heads) for _ in range(2))
        self.project = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))
        self.age_bias = nn.Parameter(torch.zeros(heads, window))
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(
        self, x: Tensor, condition: Tensor, past: tuple[Tensor, Tensor] | None = None, age: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Tokens [B, N, D] and condition [B, c] -> (tokens, their keys and values, [B, heads, N, D / heads] each).

        past: keys and values [B, heads, W * N, D / heads] of the last W frames, whose ages int64 [B, W] count from 0,
        the newest.
        """
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition)[:, None].chunk(6, dim=2)
        h = self.norm1(x) * (1 + scale1) + shift1
        keys, values = (self._split(part) for part in self.keys_values(h).chunk(2, dim=2))
        query, keys = self.query_norm(self._split(self.query(h))), self.key_norm(keys)
        own, bias = (keys, values), None
        if past is not None:
            bias = self.age_bias.T[age].transpose(1, 2)  # [B, heads, W]
            bias = bias[..., None].expand(-1, -1, -1, x.shape[1]).flatten(2)
            bias = torch.cat([bias, torch.zeros_like(bias[:, :, : x.shape[1]])], dim=2)[:, :, None].to(query)
            bias = bias.expand(-1, -1, x.shape[1], -1)  # ONNX Runtime's Attention does not broadcast it over queries
            keys, values = (torch.cat([a.to(b), b], dim=2) for a, b in zip(past, own))
        h = F.scaled_dot_product_attention(query, keys, values, bias)
        x = x + gate1 * self.project(h.transpose(1, 2).flatten(2))
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2), own

    def _split(self, x: Tensor) -> Tensor:
        """[B, n, D] -> [B, heads, n, D / heads]."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class DiTDynamics(Conditioned):
    """The interface of `UNetDynamics` with attention over the last `context_frames` frames, 2 x 2 latents a token.

    The next frame's tokens attend to their own and to the keys and values of the frames before. Those come from a
    pass over each frame by itself (tau = 1, no action), so the cache is exact however long the episode: what it holds
    does not depend on frames that have left it. Memory: the newest latent, the slot of the ring that is written next,
    and a layer's keys and values [heads, W * N, D / heads] each, frame by frame in the order of the slots.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 4,
        grid: tuple[int, int] = (16, 16),
        context_frames: int = 4,
        action_dim: int = 3,
        proprioception_dim: int = 3,
        action_angles: tuple[int, ...] = (),
        proprioception_angles: tuple[int, ...] = (),
        width: int = 128,
        layers: int = 6,
        heads: int = 4,
        condition_dim: int = 128,
        pose_maps: int = 8,
        pose_width: int = 128,
        pose_activation: str = "silu",
        integrator: dict | None = None,
        conditioning: str = "film+map",
        nullable: bool = False,
    ):
        super().__init__()
        self.build_conditioning(ways_of(conditioning, CONDITIONINGS), pose_maps, nullable)
        if width % heads or width % PATCH**2 or any(side % PATCH for side in grid):
            raise ValueError(
                f"width={width} with heads={heads} on a grid of {list(grid)}; expected a width that heads "
                f"and {PATCH**2} divide, and even sides of the grid (frames of multiples of 8)"
            )
        tokens = (grid[0] // PATCH) * (grid[1] // PATCH)
        self.embed = nn.Conv2d(2 * latent_channels, width, PATCH, stride=PATCH)
        self.embed_pose = nn.Conv2d(self.drawn, width, PATCH, stride=PATCH) if self.drawn else None
        self.position = nn.Parameter(0.02 * torch.randn(1, tokens, width))
        self.blocks = nn.ModuleList(DiTBlock(width, heads, condition_dim, context_frames) for _ in range(layers))
        self.norm = LayerNorm(width)
        self.unpatch = nn.Linear(width, width)
        self.out = nn.Conv2d(width // PATCH**2, latent_channels + 1, 3, padding=1)

    @property
    def feature_dim(self) -> int:
        """Channels of the features that `forward` returns."""
        return self.config.width // PATCH**2

    def memory_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each tensor of the memory, without the batch axis."""
        c = self.config
        ring = (c.heads, c.context_frames * self.position.shape[1], c.width // c.heads)
        return {"latents": (1, c.latent_channels, *c.grid), "slot": (), **dict.fromkeys(self._ring_keys(), ring)}

    def remember(self, latents: Tensor, first: Tensor, level: Tensor | None = None) -> dict[str, Tensor]:
        """The memory of the last `context_frames` latents [B, K, C, h, w], newest last (level [B]: of their noise)."""
        b, k = latents.shape[:2]
        level = latents.new_zeros(b) if level is None else level
        frames, firsts = latents.flatten(0, 1), first[:, None].expand(-1, k, -1, -1, -1).flatten(0, 1)
        rings = (
            ring.unflatten(0, (b, k)).transpose(1, 2).flatten(2, 3)
            for ring in self._keys_values(frames, firsts, level.repeat_interleave(k))
        )
        return {"latents": latents[:, -1:], "slot": latents.new_zeros(b), **dict(zip(self._ring_keys(), rings))}

    def append(self, memory: dict[str, Tensor], latent: Tensor, first: Tensor) -> dict[str, Tensor]:
        """The memory one frame later, latent [B, C, h, w]: its keys and values take the place of the oldest."""
        slot, names = memory["slot"], self._ring_keys()
        new = self._keys_values(latent, first, torch.zeros_like(slot))
        return {
            "latents": latent[:, None],
            "slot": torch.remainder(slot + 1, self.config.context_frames),
            **{name: write_ring(memory[name], part, slot) for name, part in zip(names, new)},
        }

    def forward(
        self,
        noisy: Tensor,
        tau: Tensor,
        memory: dict[str, Tensor],
        first: Tensor,
        vector: Tensor,
        context_noise: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """As `UNetDynamics.forward`."""
        x = self._tokens(noisy, first)
        if self.embed_pose is not None:
            x = x + self.embed_pose(torch.cat(self.draw(vector), dim=1)).flatten(2).transpose(1, 2)
        condition = self.modulate(vector, tau, context_noise)
        window = self.config.context_frames
        ring = torch.arange(window, device=x.device)
        age = torch.remainder(memory["slot"][:, None] - 1 - ring, window).long()
        rings = [memory[name] for name in self._ring_keys()]
        for block, past in zip(self.blocks, zip(rings[::2], rings[1::2])):
            x, _ = block(x, condition, past, age)
        rows, columns = (size // PATCH for size in self.config.grid)
        h = self.unpatch(F.silu(self.norm(x))).transpose(1, 2).unflatten(2, (rows, columns))
        features = F.silu(F.pixel_shuffle(h, PATCH))
        x, gate = self.out(features).split([noisy.shape[1], 1], dim=1)
        gate = torch.sigmoid(gate)
        return gate * x + (1 - gate) * memory["latents"][:, -1], features

    def _tokens(self, latent: Tensor, first: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, N, D]."""
        return self.embed(torch.cat([latent, first], dim=1)).flatten(2).transpose(1, 2) + self.position

    def _ring_keys(self) -> list[str]:
        """Names of the rings in the memory, a layer's keys before its values."""
        return [f"{part}_{layer}" for layer in range(len(self.blocks)) for part in ("keys", "values")]

    def _keys_values(self, latent: Tensor, first: Tensor, level: Tensor) -> list[Tensor]:
        """Keys and values of frames by themselves, [B, heads, N, D / heads] each, in the order of `_ring_keys`.

        latent, first [B, C, h, w]; level [B]: of their noise.
        """
        x, one = self._tokens(latent, first), torch.ones_like(level)
        condition = self.modulate(latent.new_zeros(len(latent), self.vector_dim), one, level)
        layers = []
        for block in self.blocks:
            x, own = block(x, condition)
            layers.extend(own)
        return layers


def write_ring(ring: Tensor, new: Tensor, slot: Tensor) -> Tensor:
    """ring [B, heads, W * N, d] with new [B, heads, N, d] in the place of the frame that slot [B] names.

    Exported to ONNX it is a TensorScatter, which TensorRT carries out in place.
    """
    if torch.onnx.is_in_onnx_export():
        row = (slot * new.shape[2]).long()
        return torch.onnx.ops.symbolic(
            "TensorScatter",
            (ring, new.to(ring.dtype), row),
            {"axis": 2, "mode": "linear"},
            dtype=ring.dtype,
            shape=ring.shape,
            version=24,
        )
    frames = ring.unflatten(2, (-1, new.shape[2]))
    here = torch.arange(frames.shape[2], device=slot.device) == slot[:, None]
    return torch.where(here[:, None, :, None, None], new[:, :, None], frames).flatten(2, 3)
