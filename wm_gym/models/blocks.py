"""Which convolution blocks do the networks share?"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class GroupNorm(nn.GroupNorm):
    """GroupNorm whose weights follow its input's type under autocast; TensorRT refuses mixed ones."""

    def forward(self, x: Tensor) -> Tensor:
        """As nn.GroupNorm's."""
        return F.group_norm(x, self.num_groups, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


class LayerNorm(nn.LayerNorm):
    """LayerNorm whose weights follow its input's type under autocast, as `GroupNorm`'s do."""

    def forward(self, x: Tensor) -> Tensor:
        """As nn.LayerNorm's."""
        return F.layer_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.bias.to(x.dtype), self.eps)


def group_norm(channels: int) -> GroupNorm:
    """A GroupNorm with 16 channels a group, or one group of fewer."""
    return GroupNorm(max(1, channels // 16), channels)


class ResBlock(nn.Module):
    """Residual block h + conv(silu(norm(conv(silu(norm(h)))))) with optional FiLM of the second norm.

    FiLM (Perez et al. 2018): norm(h) * (1 + scale(c)) + shift(c), c [B, condition_dim].
    """

    def __init__(self, in_channels: int, out_channels: int, condition_dim: int = 0):
        super().__init__()
        self.norm1, self.conv1 = group_norm(in_channels), nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2, self.conv2 = group_norm(out_channels), nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.film = nn.Linear(condition_dim, 2 * out_channels) if condition_dim else None
        self.skip = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()
        nn.init.zeros_(self.conv2.weight)
        if self.conv2.bias is not None:
            nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Maps [B, out_channels, h, w] of maps [B, in_channels, h, w] and a condition [B, c]."""
        h = self.norm2(self.conv1(F.silu(self.norm1(x))))
        if self.film is not None:
            scale, shift = self.film(condition).chunk(2, dim=1)  # flat: OpenVINO 2026.4 crashes on [B, 2C, 1, 1]
            h = h * (1 + scale[:, :, None, None]) + shift[:, :, None, None]
        return self.skip(x) + self.conv2(F.silu(h))


class Attention(nn.Module):
    """Residual attention of a picture's cells to a condition vector: h + project(attention(norm(h) + position, ...)).

    way: "cross" (keys and values are a token for each number of the vector, its value times a learned embedding plus
    another) or "token" (they are the cells themselves and one token, a projection of the vector).
    """

    def __init__(self, width: int, cells: tuple[int, int], vector_dim: int, way: str, heads: int = 4):
        super().__init__()
        if width % heads:
            raise ValueError(f"attention with {heads} heads has a width of {width}, expected a multiple of {heads}")
        self.heads, self.way = heads, way
        self.norm = group_norm(width)
        self.position = nn.Parameter(0.02 * torch.randn(1, cells[0] * cells[1], width))
        self.query, self.keys_values = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.project = nn.Linear(width, width)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)
        if way == "cross":
            self.scale, self.shift = (nn.Parameter(torch.randn(1, vector_dim, width)) for _ in range(2))
        else:
            self.token = nn.Linear(vector_dim, width)

    def forward(self, h: Tensor, vector: Tensor) -> Tensor:
        """Maps [B, C, h, w] of maps h [B, C, h, w] that have attended to a vector [B, V]."""
        x = self.norm(h).flatten(2).transpose(1, 2) + self.position.to(h.dtype)
        if self.way == "cross":
            seen = vector[:, :, None] * self.scale + self.shift
        else:
            seen = torch.cat([x, self.token(vector)[:, None].to(x.dtype)], dim=1)
        keys, values = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.keys_values(seen).chunk(2, dim=2)
        )
        query = self.query(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
        x = F.scaled_dot_product_attention(query, keys, values).transpose(1, 2).flatten(2)
        return h + self.project(x).transpose(1, 2).unflatten(2, h.shape[2:])


def full_precision(x: Tensor) -> torch.autocast:
    """A context in which autocast is off: poses are millimetres, which bf16 would round away."""
    return torch.autocast(x.device.type, enabled=False)


class PoseMaps(nn.Module):
    """Draw a pose as Gaussian blobs on the latent grid: a learned projection into the picture.

    [B, P] -> [B, maps, h, w], values in (0, 1]. Each map has a learned centre (u, v) in [-1.5, 1.5]
    and a learned width, both functions of the pose.
    """

    grid: Tensor

    def __init__(self, pose_dim: int, maps: int, grid: tuple[int, int], hidden: int = 64):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(pose_dim, hidden), nn.SiLU(), nn.Linear(hidden, 3 * maps))
        places = torch.empty(2, *grid)  # u, v of each cell; torch.stack on meta would import torch's compiler
        places[0], places[1] = torch.linspace(-1, 1, grid[1]), torch.linspace(-1, 1, grid[0])[:, None]
        self.register_buffer("grid", places, persistent=False)

    def forward(self, pose: Tensor) -> Tensor:
        """The maps of poses."""
        with full_precision(pose):
            u, v, log_width = self.net(pose)[:, :, None, None].chunk(3, dim=1)
            distance = (self.grid[0] - 1.5 * torch.tanh(u)) ** 2 + (self.grid[1] - 1.5 * torch.tanh(v)) ** 2
            return torch.exp(-distance * torch.exp(3.0 + torch.tanh(log_width) * 2.0))
