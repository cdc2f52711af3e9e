"""Does a latent look like one of a true frame? A critic that keeps a dynamics from drawing means of frames."""

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm


class Critic(nn.Module):
    """A spectrally normalised patch critic [B, C, h, w] -> [B, 1, h/2, w/2]; each score sees 10 x 10 latent cells.

    Squared errors are least for the mean of all frames that may come next, which blurs an object whose turn is hard to
    predict; a critic discerns such a mean from a frame (Miyato et al. 2018, arXiv 1802.05957: hinge loss).
    """

    def __init__(self, channels: int, width: int = 64):
        super().__init__()
        self.layers = nn.Sequential(
            spectral_norm(nn.Conv2d(channels, width, 3, padding=1)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(width, width, 4, stride=2, padding=1)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(width, width, 3, padding=1)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(width, 1, 1)),
        )

    def forward(self, latent: Tensor) -> Tensor:
        """Scores [B, 1, h/2, w/2] of latents [B, C, h, w], high where they look true."""
        return self.layers(latent)

    def losses(self, made: Tensor, true: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of the dynamics and that of the critic; weight [B, h, w] of the latent's cells."""
        weight = F.avg_pool2d(weight[:, None], 2)
        weight = weight / weight.mean()
        critic_loss = (weight * (F.relu(1 - self(true)) + F.relu(1 + self(made.detach())))).mean()
        self.requires_grad_(False)  # what follows trains the dynamics alone
        fooled = -(weight * self(made)).mean()
        self.requires_grad_(True)
        return fooled, critic_loss
