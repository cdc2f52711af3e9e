"""Does the U-Net see the frames that its lags name, and find again what was hidden for a while?"""

from __future__ import annotations

import pytest
import torch

from wm_gym.models import UNetDynamics


def network(**kwargs) -> UNetDynamics:
    torch.manual_seed(0)
    return UNetDynamics(grid=(8, 8), action_dim=2, proprioception_dim=0, widths=(16, 32), condition_dim=16, **kwargs)


def predict(dynamics, latents):
    batch, zero = len(latents), torch.zeros(len(latents))
    return dynamics(
        torch.zeros(batch, 4, 8, 8),
        zero,
        dynamics.remember(latents, latents[:, 0] * 0),
        latents[:, 0] * 0,
        torch.zeros(batch, dynamics.vector_dim),
        zero,
    )[0]


@pytest.mark.parametrize("lags, context, seen", [((), 3, {1, 2, 3}), ((1, 2, 8), 8, {1, 2, 8}), ((4, 1), 6, {1, 4})])
def test_only_the_frames_of_the_lags_matter(lags, context, seen):
    dynamics = network(lags=lags, context_frames=context)
    latents = torch.randn(2, context, 4, 8, 8, requires_grad=True)
    predict(dynamics, latents).square().sum().backward()
    felt = latents.grad.abs().amax((0, 2, 3, 4)) > 0
    assert {context - i for i in range(context) if felt[i]} == seen
    assert dynamics.memory_shapes() == {"latents": (context, 4, 8, 8)}


@pytest.mark.parametrize("lags, context", [((1, 9), 8), ((2, 4), 8), ((0, 1), 8)])
def test_lags_outside_the_memory_are_refused(lags, context):
    with pytest.raises(ValueError, match=r"expected ages from 1, the newest, to context_frames"):
        network(lags=lags, context_frames=context)


def hidden_error(lags) -> float:
    """Squared error of predicting what the last six frames of eight did not show, after a short training."""
    dynamics, generator = network(lags=lags, context_frames=8), torch.Generator().manual_seed(1)
    optimizer = torch.optim.AdamW(dynamics.parameters(), lr=3e-3)
    for _ in range(150):
        scene = torch.randn(16, 4, 1, 1, generator=generator).expand(-1, -1, 8, 8)
        latents = torch.cat([scene[:, None].repeat(1, 2, 1, 1, 1), torch.zeros(16, 6, 4, 8, 8)], dim=1)
        loss = (predict(dynamics, latents) - scene).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


def test_an_old_frame_brings_back_what_was_hidden():
    assert hidden_error((1, 2, 8)) < 0.2 < 0.6 < hidden_error((1, 2))
