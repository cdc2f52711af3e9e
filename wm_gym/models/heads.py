"""What does a step mean? Reward terms, success, and the pose read back from a frame."""

import torch
from torch import Tensor, nn

from wm_gym.models.saving import ModelMixin, Network, register_to_config  # noqa: F401  see Network


def _trunk(in_channels: int, width: int, grid: tuple[int, int]) -> nn.Sequential:
    """[B, in, h, w] -> [B, width * h/4 * w/4]: location survives because the grid is flattened, not pooled."""
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3, padding=1),
        nn.SiLU(),
        nn.Conv2d(width, width, 3, stride=2, padding=1),
        nn.SiLU(),
        nn.Conv2d(width, width, 3, stride=2, padding=1),
        nn.SiLU(),
        nn.Flatten(),
    )


class Heads(Network):
    """Read reward terms [B, R] and a success logit [B] off one transition, and a pose off a latent."""

    reward_mean: Tensor
    reward_std: Tensor

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 4,
        grid: tuple[int, int] = (16, 16),
        vector_dim: int = 9,
        pose_dim: int = 3,
        reward_dim: int = 1,
        width: int = 32,
        hidden: int = 256,
    ):
        super().__init__()
        cells = ((grid[0] + 3) // 4) * ((grid[1] + 3) // 4)
        self.scene = _trunk(3 * latent_channels, width, grid)
        self.scene_code = nn.Linear(width * cells, hidden)
        self.vector_code = nn.Linear(vector_dim, hidden)
        self.outcome = nn.Sequential(nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, reward_dim + 1))
        self.pose = (
            nn.Sequential(
                _trunk(latent_channels, width, grid),
                nn.Linear(width * cells, hidden),
                nn.SiLU(),
                nn.Linear(hidden, pose_dim),
            )
            if pose_dim
            else None
        )
        self.register_buffer("reward_mean", torch.zeros(reward_dim))
        self.register_buffer("reward_std", torch.ones(reward_dim))

    def forward(self, next_latent: Tensor, latent: Tensor, first: Tensor, vector: Tensor) -> tuple[Tensor, Tensor]:
        """(Standardised reward [B, R], success logit [B]) of latents [B, C, h, w] and a condition's vector [B, V]."""
        scene = self.scene_code(self.scene(torch.cat([next_latent, latent, first], dim=1)))
        out = self.outcome(scene + self.vector_code(vector))
        return out[:, :-1], out[:, -1]

    def reward(self, standardised: Tensor) -> Tensor:
        """Reward terms in the environment's units, of standardised ones [B, R]."""
        return standardised * self.reward_std + self.reward_mean

    def estimate_pose(self, latent: Tensor) -> Tensor:
        """The coded pose [B, pose_dim] (see `VectorCode.decode`) in latents [B, C, h, w]; ValueError without a pose."""
        if self.pose is None:
            raise ValueError("these heads read no pose: the world has no proprioception")
        return self.pose(latent)
