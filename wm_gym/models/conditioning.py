"""How do action and pose reach the dynamics? Coded as vectors; the pose is integrated first; then in several ways."""

from __future__ import annotations

import torch
from torch import nn

from wm_gym.models.blocks import PoseMaps, full_precision

WAYS = {
    "film": "scale and shift after each norm (FiLM, AdaLN)",
    "map": "the pose drawn as blobs on the latent grid; the action only by what it does to the pose",
    "concat": "the vector projected to planes, constant over the picture, beside the latents",
    "token": "one token of the vector among the picture's cells, in self-attention",
    "cross": "cross-attention of the picture's cells to a token for each number of the vector",
}
"""The ways in which `conditioning`, joined by "+", lets action and pose reach a network."""


def ways_of(conditioning: str, known: tuple[str, ...] = tuple(WAYS)) -> tuple[str, ...]:
    """The ways that "film+map" names; ValueError for others than the known ones."""
    ways = tuple(conditioning.split("+"))
    if not set(ways) <= set(known) or len(set(ways)) < len(ways):
        raise ValueError(f"conditioning={conditioning!r}; expected one or several of {', '.join(known)}, joined by +")
    return ways


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


class Conditioned:
    """A mixin of every dynamics network: codes of action and pose, and the pose integrator p' = p + f(p, a).

    `condition` takes [B, V + 2]: the vector of `encode_condition`, tau and the context's noise level.
    """

    exports = True
    """False where the step is no graph that another back-end can compile."""

    def build_conditioning(
        self,
        action_dim: int,
        proprioception_dim: int,
        action_angles,
        proprioception_angles,
        condition_dim: int,
        pose_maps: int,
        grid: tuple[int, int],
        pose_width: int,
        pose_activation: str,
        ways: tuple[str, ...],
        nullable: bool,
    ) -> None:
        """Make the sub-modules; a world without proprioception has neither pose_net nor pose_projection.

        pose_activation: "relu", because where robots clip actions and workspace the pose has kinks; or "silu". ways:
        of `WAYS`. nullable: learn a vector that says nothing, for guidance.
        """
        p = proprioception_dim
        for what, angles, dim in (("action", action_angles, action_dim), ("proprioception", proprioception_angles, p)):
            if not set(angles) <= set(range(dim)) or len(set(angles)) < len(angles):
                raise ValueError(f"{what}_angles is {list(angles)}, expected different places in 0..{dim - 1}")
        self.action_code = VectorCode(action_dim, action_angles)
        self.pose_code = VectorCode(p, proprioception_angles)
        pose_dim = self.pose_code.out_dim
        bend = {"relu": nn.ReLU, "silu": nn.SiLU}[pose_activation]
        self.pose_net = (
            nn.Sequential(
                nn.Linear(pose_dim + self.action_code.out_dim, pose_width),
                bend(),
                nn.Linear(pose_width, pose_width),
                bend(),
                nn.Linear(pose_width, pose_dim),
            )
            if p
            else None
        )
        if p:
            nn.init.zeros_(self.pose_net[-1].weight)
            nn.init.zeros_(self.pose_net[-1].bias)
        self.ways, self.grid = ways, grid
        self.vector_dim = self.action_code.out_dim + 2 * pose_dim
        self.pose_projection = PoseMaps(2 * pose_dim, pose_maps, grid) if p and "map" in ways else None
        self.planes = nn.Linear(self.vector_dim, pose_maps) if "concat" in ways else None
        self.null = nn.Parameter(torch.zeros(self.vector_dim)) if nullable else None
        self.condition = nn.Sequential(
            nn.Linear((self.vector_dim if "film" in ways else 0) + 2, condition_dim),
            nn.SiLU(),
            nn.Linear(condition_dim, condition_dim),
            nn.SiLU(),
        )
        self.drawn = pose_maps * ((self.pose_projection is not None) + (self.planes is not None))

    @property
    def memory_keys(self) -> tuple[str, ...]:
        """Names of the memory's tensors, in the order in which a compiled step takes and gives them."""
        return tuple(self.memory_shapes())

    def next_pose(self, proprioception: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        """Integrate the pose: [B, P], [B, A] -> [B, P]."""
        if self.pose_net is None:
            return proprioception
        with full_precision(proprioception):
            code = self.pose_code(proprioception)
            return self.pose_code.decode(code + self.pose_net(torch.cat([code, self.action_code(action)], dim=1)))

    def encode_condition(
        self, proprioception: torch.Tensor, next_proprioception: torch.Tensor, action: torch.Tensor
    ) -> torch.Tensor:
        """What moves the scene, as one vector [B, V]: the coded action, pose and next pose."""
        return torch.cat(
            [self.action_code(action), self.pose_code(proprioception), self.pose_code(next_proprioception)], dim=1
        )

    def forget(self, vector: torch.Tensor, which: torch.Tensor | None = None) -> torch.Tensor:
        """A vector [B, V] that says nothing, in the rows of bool [B] (default: all); the learned null condition.

        ValueError where the network was trained without one.
        """
        if self.null is None:
            raise ValueError(
                "this world has no null condition to be guided away from; train it with --set condition_dropout=0.1"
            )
        null = self.null.to(vector).expand_as(vector)
        return null if which is None else torch.where(which[:, None], null, vector)

    def modulate(self, vector: torch.Tensor, tau: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        """The condition [B, c] of scales and shifts: vector [B, V] where it goes that way, tau and level [B]."""
        told = [vector] if "film" in self.ways else []
        return self.condition(torch.cat([*told, tau[:, None], level[:, None]], dim=1))

    def draw(self, vector: torch.Tensor) -> list[torch.Tensor]:
        """What a vector [B, V] draws beside the latents: none to two of [B, maps, h, w]."""
        maps = [self.pose_projection(vector[:, self.action_code.out_dim :])] if self.pose_projection else []
        planes = [self.planes(vector)[:, :, None, None].expand(-1, -1, *self.grid)] if self.planes else []
        return maps + planes
