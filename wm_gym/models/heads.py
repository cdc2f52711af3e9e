"""What does a step mean? Reward terms, success, the end of the task, and the pose read back from a frame."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from wm_gym.models.integrator import LARGEST
from wm_gym.models.saving import ModelMixin, Network, register_to_config  # noqa: F401  see Network

NEVER = -100.0
"""The logit of what does not happen."""


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


class Outcome(NamedTuple):
    """What is read off a transition, for a batch of B."""

    reward: Tensor
    """Standardised reward terms [B, R]."""
    success: Tensor
    """Logit [B]."""
    terminated: Tensor
    """Logit [B] of the end of the task that is no time limit; `NEVER` where heads were not trained for it."""


class _Heads(Network):
    """What both kinds of heads have: a scale of rewards, and a pose read off a latent."""

    reads_latents = True
    """False where the outcome depends on action and pose alone."""
    reward_mean: Tensor
    reward_std: Tensor

    def _build(
        self, reward_dim: int, pose_dim: int, grid: tuple[int, int], channels: int, width: int, hidden: int
    ) -> None:
        cells = _cells(grid)
        self.pose = (
            nn.Sequential(
                _trunk(channels, width, grid), nn.Linear(width * cells, hidden), nn.SiLU(), nn.Linear(hidden, pose_dim)
            )
            if pose_dim
            else None
        )
        self.register_buffer("reward_mean", torch.zeros(reward_dim))
        self.register_buffer("reward_std", torch.ones(reward_dim))

    def reward(self, standardised: Tensor) -> Tensor:
        """Reward terms in the environment's units, of standardised ones [B, R]."""
        return standardised * self.reward_std + self.reward_mean

    def outcome_of(self, read: Outcome) -> tuple[Tensor, Tensor, Tensor]:
        """Reward terms [B, R] in the environment's units, and the probabilities [B] of success and of the end."""
        ended = torch.sigmoid(read.terminated.float())
        return self.reward(read.reward), torch.sigmoid(read.success.float()), ended

    def estimate_pose(self, latent: Tensor) -> Tensor:
        """The coded pose [B, pose_dim] (see `VectorCode.decode`) in latents [B, C, h, w]; ValueError without a pose."""
        if self.pose is None:
            raise ValueError("these heads read no pose: the world has no proprioception")
        return self.pose(latent)


class Heads(_Heads):
    """Reads the outcome off the latents of a transition and the condition's vector."""

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
        terminates: bool = False,
    ):
        super().__init__()
        self.scene = _trunk(3 * latent_channels, width, grid)
        self.scene_code = nn.Linear(width * _cells(grid), hidden)
        self.vector_code = nn.Linear(vector_dim, hidden)
        outputs = reward_dim + 1 + terminates
        self.outcome = nn.Sequential(nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, outputs))
        self._build(reward_dim, pose_dim, grid, latent_channels, width, hidden)

    def forward(self, next_latent: Tensor, latent: Tensor, first: Tensor, vector: Tensor) -> Outcome:
        """The outcome of latents [B, C, h, w] and a condition's vector [B, V]."""
        scene = self.scene_code(self.scene(torch.cat([next_latent, latent, first], dim=1)))
        out, count = self.outcome(scene + self.vector_code(vector)), self.config.reward_dim
        success = out[:, count]
        ended = out[:, count + 1] if self.config.terminates else torch.full_like(success, NEVER)
        return Outcome(out[:, :count], success, ended)


class StateHeads(_Heads):
    """Reads the outcome off action, pose and next pose alone, where those are all that an environment shows.

    A reward nearer to the usual one than half of what others differ from it by is the usual one: many small errors
    would else pay more than the rare reward itself. No reward lies outside its bounds.
    """

    reads_latents = False
    step: Tensor
    usual: Tensor
    near_usual: Tensor
    lowest: Tensor
    highest: Tensor

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
        self.outcome = nn.Sequential(
            nn.Linear(vector_dim + pose_dim, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, reward_dim + 2),
        )
        self.register_buffer("step", torch.ones(pose_dim))
        self.register_buffer("usual", torch.zeros(reward_dim))
        self.register_buffer("near_usual", torch.zeros(reward_dim))
        self.register_buffer("lowest", torch.full((reward_dim,), -LARGEST))
        self.register_buffer("highest", torch.full((reward_dim,), LARGEST))
        self._build(reward_dim, pose_dim, grid, latent_channels, width, hidden)

    def forward(self, next_latent: Tensor, latent: Tensor, first: Tensor, vector: Tensor) -> Outcome:
        """As `Heads.forward`; the latents are not looked at."""
        return self.of_vector(vector)

    def reward(self, standardised: Tensor) -> Tensor:
        """As `_Heads.reward`."""
        value = super().reward(standardised).clamp(self.lowest, self.highest)
        return torch.where((value - self.usual).abs() < self.near_usual, self.usual, value)

    def of_vector(self, vector: Tensor) -> Outcome:
        """The outcome of a condition's vector [B, V]: the coded action, pose and next pose."""
        size = self.config.pose_dim
        change = (vector[:, -size:] - vector[:, -2 * size : -size]) / self.step
        out = self.outcome(torch.cat([vector, change], dim=1))
        return Outcome(out[:, :-2], out[:, -2], out[:, -1])


def _cells(grid: tuple[int, int]) -> int:
    return ((grid[0] + 3) // 4) * ((grid[1] + 3) // 4)
