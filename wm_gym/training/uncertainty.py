"""How wrong does a world get on its own? Roll-outs beside the recordings, and the loss that teaches it to say so."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wm_gym.data.clips import ClipData
from wm_gym.models import Uncertainty
from wm_gym.models.tokenizer import to_float
from wm_gym.models.transition import Sampling, roll
from wm_gym.training.segments import Segments, SegmentSampler
from wm_gym.worlds.world import World

BATCH = 32  # roll-outs at once


@dataclass
class RollOuts:
    """N roll-outs of n steps, float16: what the uncertainty reads, and the errors that it learns to predict."""

    features: Tensor
    """[N, n, F, h, w], of the dynamics."""
    latents: Tensor
    """[N, n + 1, C, h, w]; the first is the true one that the roll-out begins with."""
    first: Tensor
    """[N, C, h, w]."""
    error: Tensor
    """[N, n, h, w], the mean over channels of |predicted - true latent|."""

    def __len__(self) -> int:
        return len(self.error)


def own_roll_outs(
    world: World, clips: ClipData, episodes: np.ndarray, count: int, steps: int, seed: int = 0
) -> RollOuts:
    """Roll-outs of a world under recorded actions, from anywhere in an episode that leaves so many steps.

    Args:
        world: Whose.
        clips: The recording.
        episodes: Which of its episodes, best none that the world was trained on.
        count: How many roll-outs, drawn with replacement.
        steps: The length of each, at most the longest episode's.
        seed: Of the draws and the noise.
    """
    sampler, rng = SegmentSampler(clips, world.spec.context_frames, episodes), np.random.default_rng([seed, 5])
    noise = torch.Generator().manual_seed(seed)
    sizes = [min(BATCH, count - at) for at in range(0, count, BATCH)]
    pieces = [_roll_out(world, clips, sampler.draw(rng, size, steps), noise) for size in sizes]
    return RollOuts(*(torch.from_numpy(np.concatenate(parts)) for parts in zip(*pieces)))


@torch.inference_mode()
def _roll_out(world: World, clips: ClipData, segments: Segments, noise: torch.Generator) -> list[np.ndarray]:
    """The fields of `RollOuts`."""
    dynamics, moves, n = world.dynamics, segments.moves, segments.steps
    device = next(dynamics.parameters()).device

    def encode(rows: np.ndarray) -> Tensor:
        pictures = torch.from_numpy(np.array(clips.frames[rows.reshape(-1)]))
        pieces = pictures.split(world.tokenizer.frames_at_once)
        latents = torch.cat([world.tokenizer.encode(to_float(piece).to(device)) for piece in pieces])
        return latents.reshape(*rows.shape, *world.spec.latent_shape)

    true, first = encode(segments.rows), encode(segments.rows[:, 0])
    actions = torch.from_numpy(clips.action[moves[:, :-1]]).to(device)
    pose = torch.from_numpy(clips.proprioception[moves[:, 0]]).to(device)
    memory = dynamics.remember(true[:, :-n], first)
    seen, drawn = [], [true[:, -n - 1]]
    draws = (torch.randn(first.shape, generator=noise).to(device) for _ in range(n))
    sampling = Sampling(world.spec.sampling_steps, world.spec.guidance_scale)
    for made, _ in roll(dynamics, memory, first, pose, actions, draws, sampling=sampling):
        seen.append(made.features)
        drawn.append(made.latent)
    features, latents = torch.stack(seen, 1), torch.stack(drawn, 1)
    error = (latents[:, 1:] - true[:, -n:]).abs().mean(2)
    return [x.half().cpu().numpy() for x in (features, latents, first, error)]


class UncertaintyLoss(nn.Module):
    """Cross-entropy of the histogram of each patch's error along a roll-out, gradients through all of it.

    The log score is proper: it is least where the histogram is the error's distribution given what the network sees.
    """

    def __init__(self, uncertainty: Uncertainty):
        super().__init__()
        self.uncertainty = uncertainty

    def forward(
        self, features: Tensor, latents: Tensor, first: Tensor, error: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of roll-outs, as of `RollOuts` with N = B, and its parts."""
        error_distribution, loss = self.uncertainty.none(len(first)), torch.zeros((), device=first.device)
        wanted = torch.bucketize(error, self.uncertainty.edges)
        for i in range(features.shape[1]):
            log = self.uncertainty(error_distribution, features[:, i], latents[:, i + 1], latents[:, i], first)
            loss, error_distribution = loss + F.nll_loss(log, wanted[:, i]) / features.shape[1], log.exp()
        return loss, {"log_score": loss}
