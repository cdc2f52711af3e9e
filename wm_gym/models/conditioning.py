"""How do action and pose reach the dynamics? Coded as one vector, the pose integrated first, in one of several ways."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from wm_gym.models.blocks import PoseMaps, full_precision
from wm_gym.models.integrator import Integrator
from wm_gym.models.saving import Network

CONDITIONINGS = {
    "film": "scale and shift after each norm (FiLM, AdaLN)",
    "map": "the pose drawn as blobs on the latent grid; the action only by what it does to the pose",
    "concat": "the vector projected to planes, constant over the picture, beside the latents",
    "token": "one token of the vector among the picture's cells, in self-attention",
    "cross": "cross-attention of the picture's cells to a token for each number of the vector",
}
"""The ways in which `conditioning`, joined by "+", lets action and pose reach a network."""


def ways_of(conditioning: str, known: tuple[str, ...] = tuple(CONDITIONINGS)) -> tuple[str, ...]:
    """The ways that "film+map" names; ValueError for others than the known ones."""
    ways = tuple(conditioning.split("+"))
    if not set(ways) <= set(known) or len(set(ways)) < len(ways):
        raise ValueError(f"conditioning={conditioning!r}; expected one or several of {', '.join(known)}, joined by +")
    return ways


class VectorCode(nn.Module):
    """Normalise a vector and write its angles as (sin, cos): [B, D] -> [B, D + number of angles]."""

    mean: Tensor
    std: Tensor

    def __init__(self, dim: int, angle_dims: Sequence[int]):
        super().__init__()
        self.angles = list(angle_dims)
        self.lines = [d for d in range(dim) if d not in self.angles]
        self.dim, self.out_dim = dim, dim + len(self.angles)
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """The code [B, D + angles] of vectors [B, D]."""
        lines = ((x - self.mean) / self.std)[:, self.lines]
        if not self.angles:
            return lines
        angles = x[:, self.angles]
        return torch.cat([lines, angles.sin(), angles.cos()], dim=1)

    def decode(self, code: Tensor) -> Tensor:
        """The vectors [B, D] of codes [B, D + angles], angles in (-pi, pi]."""
        n, k = len(self.lines), len(self.angles)
        if not k:
            return code * self.std + self.mean
        columns = {d: code[:, i] * self.std[d] + self.mean[d] for i, d in enumerate(self.lines)}
        columns |= {d: torch.atan2(code[:, n + i], code[:, n + k + i]) for i, d in enumerate(self.angles)}
        return torch.stack([columns[d] for d in range(self.dim)], dim=1)


class Conditioned(Network):
    """What every dynamics network has: codes of action and pose, the pose integrator p' = p + f(p, a), a memory.

    `condition` takes [B, V + 2]: the vector of `encode_condition`, tau and the context's noise level.
    """

    exports = True
    """False where the step is no graph that another back-end can compile."""

    def build_conditioning(self, ways: tuple[str, ...], pose_maps: int = 8, nullable: bool = False) -> None:
        """Make the sub-modules for what the config says of action and proprioception.

        A world without proprioception has neither pose_net nor pose_projection. Where the config has an `integrator`
        (of the numbers of an observation) that is the pose_net; else the pose_activation is "relu" in new worlds,
        because the pose of a robot has kinks where actions and workspace are clipped.

        Args:
            ways: Of `CONDITIONINGS`.
            pose_maps: How many maps the pose, and the planes, are drawn as.
            nullable: Whether to learn a null condition, for guidance.
        """
        c = self.config
        for what in ("action", "proprioception"):
            angles, dim = c[f"{what}_angles"], c[f"{what}_dim"]
            if not set(angles) <= set(range(dim)) or len(set(angles)) < len(angles):
                raise ValueError(f"{what}_angles is {list(angles)}, expected different places in 0..{dim - 1}")
        self.action_code = VectorCode(c.action_dim, c.action_angles)
        self.pose_code = VectorCode(c.proprioception_dim, c.proprioception_angles)
        pose_dim = self.pose_code.out_dim
        self.pose_net = self._pose_net() if c.proprioception_dim else None
        self.ways, self.grid = ways, c.grid
        self.vector_dim = self.action_code.out_dim + 2 * pose_dim
        drawn = bool(c.proprioception_dim) and "map" in ways
        self.pose_projection = PoseMaps(2 * pose_dim, pose_maps, c.grid) if drawn else None
        self.planes = nn.Linear(self.vector_dim, pose_maps) if "concat" in ways else None
        self.null = nn.Parameter(torch.zeros(self.vector_dim)) if nullable else None
        told = (self.vector_dim if "film" in ways else 0) + 2
        layers = nn.Linear(told, c.condition_dim), nn.SiLU(), nn.Linear(c.condition_dim, c.condition_dim), nn.SiLU()
        self.condition = nn.Sequential(*layers)
        self.drawn = pose_maps * ((self.pose_projection is not None) + (self.planes is not None))

    def _pose_net(self) -> nn.Module:
        if self.config.integrator:
            dim = self.config.proprioception_dim
            return Integrator(self.config.integrator, self.pose_code.out_dim, self.action_code.out_dim, dim)
        width, pose_dim = self.config.pose_width, self.pose_code.out_dim
        bend = {"relu": nn.ReLU, "silu": nn.SiLU}[self.config.pose_activation]
        sizes = [(pose_dim + self.action_code.out_dim, width), (width, width), (width, pose_dim)]
        first, middle, last = (nn.Linear(*size) for size in sizes)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        return nn.Sequential(first, bend(), middle, bend(), last)

    def memory_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each tensor of the memory, without the batch axis."""
        c = self.config
        return {"latents": (c.context_frames, c.latent_channels, *c.grid)}

    def remember(self, latents: Tensor, first: Tensor, level: Tensor | None = None) -> dict[str, Tensor]:
        """The memory of the last `context_frames` latents [B, K, C, h, w], newest last.

        Args:
            latents: Those latents.
            first: The pinned first latent [B, C, h, w].
            level: The standard deviation of the noise on the latents [B]; none by default.
        """
        return {"latents": latents}

    def append(self, memory: dict[str, Tensor], latent: Tensor, first: Tensor) -> dict[str, Tensor]:
        """The memory one frame later, latent [B, C, h, w]."""
        return {"latents": torch.cat([memory["latents"][:, 1:], latent[:, None]], dim=1)}

    @property
    def memory_keys(self) -> tuple[str, ...]:
        """Names of the memory's tensors, in the order in which a compiled step takes and gives them."""
        return tuple(self.memory_shapes())

    def next_pose(self, proprioception: Tensor, action: Tensor) -> Tensor:
        """Integrate the pose: [B, P], [B, A] -> [B, P]."""
        return self.settle(*self.moved_pose(proprioception, action))

    def moved_pose(self, proprioception: Tensor, action: Tensor) -> tuple[Tensor, Tensor | None]:
        """`next_pose` before what is discrete in it is made so, and the logits of `Integrator.levels`."""
        if self.pose_net is None:
            return proprioception, None
        with full_precision(proprioception):
            code, act = self.pose_code(proprioception), self.action_code(action)
            if isinstance(self.pose_net, Integrator):
                change, logits = self.pose_net(proprioception, code, act)
                return self.pose_code.decode(code + change), logits
            return self.pose_code.decode(code + self.pose_net(torch.cat([code, act], dim=1))), None

    def settle(self, pose: Tensor, logits: Tensor | None = None) -> Tensor:
        """A moved pose [B, P] with its discrete numbers discrete."""
        return self.pose_net.snap(pose, logits) if isinstance(self.pose_net, Integrator) else pose

    def encode_condition(self, proprioception: Tensor, next_proprioception: Tensor, action: Tensor) -> Tensor:
        """What moves the scene, as one vector [B, V]: the coded action, pose and next pose."""
        return torch.cat(
            [self.action_code(action), self.pose_code(proprioception), self.pose_code(next_proprioception)], dim=1
        )

    def forget(self, vector: Tensor, which: Tensor | None = None) -> Tensor:
        """A vector [B, V] whose rows in `which` bool [B] (default: all) are the learned null condition.

        Raises:
            ValueError: Where the network was trained without one.
        """
        if self.null is None:
            raise ValueError(
                "this world has no null condition to be guided away from; train it with --set condition_dropout=0.1"
            )
        null = self.null.to(vector).expand_as(vector)
        return null if which is None else torch.where(which[:, None], null, vector)

    def modulate(self, vector: Tensor, tau: Tensor, level: Tensor) -> Tensor:
        """The condition [B, c] of scales and shifts: vector [B, V] where it goes that way, tau and level [B]."""
        film = [vector] if "film" in self.ways else []
        return self.condition(torch.cat([*film, tau[:, None], level[:, None]], dim=1))

    def draw(self, vector: Tensor) -> list[Tensor]:
        """What a vector [B, V] draws beside the latents: none to two of [B, maps, h, w]."""
        maps = [self.pose_projection(vector[:, self.action_code.out_dim :])] if self.pose_projection else []
        planes = [self.planes(vector)[:, :, None, None].expand(-1, -1, *self.grid)] if self.planes else []
        return maps + planes
