"""Does the critic tell means of frames from frames and teach the dynamics, and are lost roll-outs no target?"""

from __future__ import annotations

import torch
from tiny_world import make_world
from torch import nn

from wm_gym.training.critic import Critic
from wm_gym.training.losses import Corruption, DynamicsLoss
from wm_gym.training.presets import Preset


def squares(n: int, generator: torch.Generator) -> torch.Tensor:
    """Latents [n, 1, 16, 16] of a bright square somewhere on a dark ground."""
    latent = torch.zeros(n, 1, 16, 16)
    for one, (row, column) in zip(latent, torch.randint(0, 12, (n, 2), generator=generator).tolist()):
        one[0, row : row + 4, column : column + 4] = 1
    return latent


def test_what_is_taught_by_it_is_not_blurred():
    """A square is at one of two places, the input does not say at which: the squared error alone draws both, grey."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    drawn = {}
    for critic_weight in (0.0, 0.1):
        net = nn.Sequential(
            nn.Conv2d(2, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 1, 3, padding=1),
        )
        critic = Critic(1, 16)
        optimizer = torch.optim.Adam([*net.parameters(), *critic.parameters()], lr=2e-3, betas=(0.5, 0.99))
        for _ in range(400):
            where, noise = squares(32, generator), torch.randn(32, 1, 1, 1, generator=generator).expand(32, 1, 16, 16)
            moved = torch.rand(32, 1, 1, 1, generator=generator) < 0.5
            target = torch.where(moved, where.roll(4, 3), where)
            made = net(torch.cat([where, noise], dim=1))
            fooled, told = critic.losses(made, target, torch.ones(32, 16, 16))
            loss = (made - target).square().mean() + critic_weight * (fooled + told)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        drawn[critic_weight] = made.detach()
    grey = {weight: ((made > 0.25) & (made < 0.75)).float().sum((1, 2, 3)).mean() for weight, made in drawn.items()}
    assert grey[0.0] > 24  # of the 32 cells of the two places
    assert grey[0.1] < 0.7 * grey[0.0]


def test_each_of_its_losses_teaches_one_side():
    torch.manual_seed(0)
    critic, true = Critic(4), torch.randn(3, 4, 16, 16)
    made = torch.randn(3, 4, 16, 16, requires_grad=True)
    fooled, told = critic.losses(made, true, torch.ones(3, 16, 16))
    fooled.backward()
    assert made.grad.abs().sum() > 0 and all(p.grad is None for p in critic.parameters())
    made.grad = None
    told.backward()
    assert made.grad is None and all(p.grad is not None for p in critic.parameters())


def test_a_lost_roll_out_is_no_target():
    """With every roll-out lost the true frame does not matter; teacher-forced clips are never lost."""
    world = make_world()
    spec, k = world.spec, world.spec.context_frames
    loss = DynamicsLoss(world.dynamics.requires_grad_(True), world.tokenizer, Preset(lost_above=1e-6))
    torch.manual_seed(0)
    for steps, lost in ((1, False), (2, True)):
        told = loss(
            torch.randn(2, k + steps, *spec.latent_shape),
            torch.randn(2, *spec.latent_shape),
            torch.randn(2, steps, spec.action_dim),
            torch.randn(2, steps + 1, spec.proprioception_dim),
            torch.randn(steps, 2, *spec.latent_shape),
            Corruption(torch.zeros(2), torch.zeros(2), torch.zeros(2, k, *spec.latent_shape)),
        )[0]
        assert (told == 0) == lost
