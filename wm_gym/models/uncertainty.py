"""How wrong is each patch of a roll-out by now? A histogram of its error, carried from step to step."""

import torch
from torch import Tensor, nn

from wm_gym.models.saving import ModelMixin, Network, register_to_config  # noqa: F401  see Network


class Uncertainty(Network):
    """P(|predicted - true latent| <= epsilon) of each patch of a roll-out, the true one being what really happens.

    A patch's error is the mean over channels of |predicted - true|. `error_distribution` [B, bins, h, w] is its
    histogram: bin k holds errors up to `edges[k]`, the last one those above all edges. That of the step before is an
    input, so that an error once made is remembered; the dynamics' features and the latents say where new ones arise.
    """

    edges: Tensor
    means: Tensor

    @register_to_config
    def __init__(
        self,
        feature_dim: int = 32,
        latent_channels: int = 4,
        grid: tuple[int, int] = (16, 16),
        bins: int = 12,
        width: int = 24,
    ):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(feature_dim + 3 * latent_channels + bins, width, 1),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(width, bins, 1),
        )
        self.register_buffer("edges", torch.logspace(-2, 0.5, bins - 1))
        self.register_buffer("means", torch.logspace(-2, 0.5, bins))

    def shape(self) -> tuple[int, ...]:
        """The shape of an error distribution, without the batch axis."""
        return (self.config.bins, *self.config.grid)

    def none(self, batch: int) -> Tensor:
        """The error distribution [batch, bins, h, w] at the start of a roll-out: every error in the lowest bin."""
        error_distribution = self.means.new_zeros(batch, *self.shape())
        error_distribution[:, 0] = 1
        return error_distribution

    def forward(
        self, error_distribution: Tensor, features: Tensor, latent: Tensor, before: Tensor, first: Tensor
    ) -> Tensor:
        """The logarithm of the error distribution after a step from `before` to `latent` [B, C, h, w]."""
        change = self.net(torch.cat([features, latent, before, first, error_distribution], dim=1)).float()
        return torch.log_softmax(change + torch.log(error_distribution.float().clamp(min=0) + 1e-3), dim=1)

    def expected_error(self, error_distribution: Tensor) -> Tensor:
        """The mean [B, h, w] of the histogram, in units of a latent's standard deviation."""
        return (error_distribution * self.means[:, None, None]).sum(1)

    @torch.no_grad()
    def fit_edges(self, errors: Tensor) -> None:
        """Set the bins for errors such as these (any shape): evenly in their logarithm, 5 % to 99.9 % of them."""
        errors = errors.flatten().float()
        low, high = (errors.kthvalue(max(1, round(q * len(errors)))).values for q in (0.05, 0.999))
        self.edges.copy_(torch.logspace(low.clamp(min=1e-4).log10(), high.clamp(min=2e-4).log10(), len(self.edges)))
        place = torch.bucketize(errors, self.edges)
        count = torch.bincount(place, minlength=len(self.means))
        middles = torch.cat([self.edges[:1] / 2, (self.edges[1:] + self.edges[:-1]) / 2, self.edges[-1:] * 1.5])
        sums = torch.zeros_like(self.means).index_add_(0, place, errors)
        self.means.copy_(torch.where(count > 0, sums / count.clamp(min=1), middles))
