"""What does each stage minimise?"""

from collections import deque
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wm_gym.models import Dynamics, Heads, StateHeads, Tokenizer, VideoTokenizer
from wm_gym.models.heads import Outcome
from wm_gym.models.integrator import Integrator, discrete_places
from wm_gym.models.tokenizer import to_float
from wm_gym.models.transition import condition, roll
from wm_gym.training.critic import Critic
from wm_gym.training.presets import Preset

SHARPNESS = 8.0
"""Of the logits of a choice in its one-hot numbers, whose distance of 1 is then near to certain."""


class Corruption(NamedTuple):
    """What the clips of a batch of B are corrupted with before a step is learned from them."""

    tau: Tensor
    """How much of the target is left, [B] in [0, 1); 0 is pure noise."""
    level: Tensor
    """The standard deviation of the noise on the context [B]."""
    context_noise: Tensor
    """Standard normal noise on the context [B, K, C, h, w]."""
    dropped: Tensor | None = None
    """Bool [B], the clips without a condition (`transition.condition`)."""


class TokenizerLoss(nn.Module):
    """L1 between frame and reconstruction, foreground pixels weighted, noise on the latents."""

    background: Tensor

    def __init__(self, tokenizer: Tokenizer, background: Tensor, sizes: Preset):
        super().__init__()
        self.tokenizer, self.sizes = tokenizer, sizes
        self.register_buffer("background", background, persistent=False)

    def forward(self, frames: Tensor, noise: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of frames uint8 [B, H, W, 3] under noise [B, C, h, w], and its parts."""
        target = to_float(frames)
        latent = self.tokenizer.encode(target)
        spread = latent.detach().float().std(dim=(0, 2, 3), keepdim=True)
        error = (self.tokenizer.decode(latent + self.sizes.latent_noise * spread * noise) - target).abs().mean(1)
        foreground = ((target - self.background).abs().amax(1) > 0.1).float()
        weight = 1 + (self.sizes.foreground_weight - 1) * foreground
        keep_small = 1e-4 * latent.float().square().mean()
        loss = (error * weight).sum() / weight.sum() + keep_small
        return loss, {"l1": error.mean(), "foreground_l1": (error * foreground).sum() / foreground.sum().clamp(min=1)}


class PoseLoss(nn.Module):
    """Error of the coded pose along a roll-out of the pose network, gradients through all of it.

    L1 of numbers, each as a share of how far it moves in a step where an `Integrator` knows that; the cross-entropy of
    one-hot choices, and of integers that take few values, whose sum is that of a whole grid of them.
    """

    def __init__(self, dynamics: Dynamics):
        super().__init__()
        self.dynamics, net, code = dynamics, dynamics.pose_net, dynamics.pose_code
        self.groups = net.groups if isinstance(net, Integrator) else []
        self.levels = net.levels if isinstance(net, Integrator) else None
        chosen = discrete_places(self.groups) + (self.levels.places if self.levels else [])
        numbers = [i for i in range(code.out_dim) if i >= len(code.lines) or code.lines[i] not in chosen]
        self.numbers: slice | list[int] = numbers if chosen else slice(None)
        "Places in the code of what is no choice."

    def forward(self, actions: Tensor, poses: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of actions [B, n, A] between poses [B, n+1, P], and its parts."""
        n, pose, code, net = actions.shape[1], poses[:, 0], self.dynamics.pose_code, self.dynamics.pose_net
        scale = torch.where(net.step > 0, net.step, 1.0)[self.numbers] if isinstance(net, Integrator) else 1.0
        loss = poses.new_zeros(())
        for i in range(n):
            (moved, levels), truth = self.dynamics.moved_pose(pose, actions[:, i]), poses[:, i + 1]
            if self.numbers:
                loss = loss + ((code(moved) - code(truth))[:, self.numbers].abs() / scale).mean() / n
            for begin, end in self.groups:
                logits = SHARPNESS * moved[:, begin:end]
                loss = loss + F.cross_entropy(logits, truth[:, begin:end].argmax(1)) / (n * len(self.groups))
            if self.levels and levels is not None:
                wrong = F.cross_entropy(self.levels.padded(levels).flatten(0, 1), self.levels.which(truth).flatten())
                loss = loss + wrong * len(self.levels.places) / n
            pose = self.dynamics.settle(moved, levels)
        return loss, {"last_l1": (code(pose) - code(poses[:, -1])).abs().mean()}


class DynamicsLoss(nn.Module):
    """Weighted x-space error of the next latent, teacher-forced or at the end of an own roll-out.

    With a critic_weight, latents that a critic discerns from true ones cost so much more; the same updates train it. A
    roll-out whose last frame is farther than lost_above from the truth (squared error summed over the latent's cells)
    is judged by the critic alone, because chaos is no target.
    """

    def __init__(self, dynamics: Dynamics, tokenizer: Tokenizer | VideoTokenizer, sizes: Preset):
        super().__init__()
        self.dynamics, self.tokenizer, self.sizes = dynamics, tokenizer.requires_grad_(False), sizes
        self.critic = Critic(dynamics.config.latent_channels) if sizes.critic_weight else None

    def forward(
        self, latents: Tensor, first: Tensor, actions: Tensor, poses: Tensor, noise: Tensor, corruption: Corruption
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of the last of n transitions, and its parts.

        Args:
            latents: Of the context and what follows, [B, K+n, C, h, w].
            first: The pinned first latents [B, C, h, w].
            actions: [B, n, A].
            poses: [B, n+1, P].
            noise: Standard normal noise of each transition [n, B, C, h, w].
            corruption: Of the last one.
        """
        tau, level, context_noise, dropped = corruption
        n, moved_weight = actions.shape[1], self.sizes.moved_weight
        k = latents.shape[1] - n
        target, previous = latents[:, -1], latents[:, -2]
        context, pose = latents[:, :k], poses[:, 0]
        if n > 1:
            with torch.no_grad():
                memory = self.dynamics.remember(context, first)
                for made, _ in roll(self.dynamics, memory, first, pose, actions[:, :-1], noise, dropped):
                    context = torch.cat([context[:, 1:], made.latent.to(context)[:, None]], dim=1)
                pose = made.condition.pose
        vector = condition(self.dynamics, pose, actions[:, -1], dropped=dropped).vector
        noisy = torch.lerp(noise[-1], target, tau[:, None, None, None])
        seen = context + level[:, None, None, None, None] * context_noise
        memory = self.dynamics.remember(seen, first, level)
        predicted, _ = self.dynamics(noisy, tau, memory, first, vector, level)
        error = (predicted.float() - target).square().mean(1)
        moved = ((target - previous).abs().mean(1) > 0.2).float()
        ramp = torch.where(tau > 0, 0.9 * tau + 0.1, torch.ones_like(tau))  # one evaluation from pure noise counts full
        missed = (context[:, -1] - previous).square().mean(1).sum((1, 2))
        kept = (missed <= self.sizes.lost_above).float()[:, None, None]
        loss = (error * (1 + moved_weight * moved) * ramp[:, None, None] * kept).mean()
        metrics = {"latent_mse": error.mean()}
        if self.critic:
            fooled, critic_loss = self.critic.losses(predicted.float(), target, 1 + moved_weight * moved)
            loss = loss + self.sizes.critic_weight * (fooled + critic_loss)
            metrics |= {"critic": critic_loss, "fooled": fooled}
        if not self.sizes.pixel_weight:
            return loss, metrics
        part = max(1, len(target) // 4)
        with torch.no_grad():
            picture, before = (self.tokenizer.decode(z[:part]) for z in (target, previous))
            weight = 1 + moved_weight * ((picture - before).abs().amax(1, keepdim=True) > 0.1)
        pixel_loss = ((self.tokenizer.decode(predicted[:part]) - picture).abs() * weight * kept[:part, None]).mean()
        return loss + self.sizes.pixel_weight * pixel_loss, metrics | {"pixel_l1": pixel_loss}


class Targets(NamedTuple):
    """What is true of B transitions."""

    reward: Tensor
    """Standardised reward terms [B, R]."""
    success: Tensor
    """Whether a transition ends in success, 0 or 1 [B]; NaN where the source does not say."""
    ended: Tensor
    """Whether it ends the task, 0 or 1 [B]; NaN where that is not known."""


def outcome_loss(read: Outcome, targets: Targets) -> dict[str, Tensor]:
    """The parts of the loss of an outcome that the heads read off transitions."""
    reward, success, ended = targets
    return {
        "reward_mse": F.mse_loss(read.reward.float(), reward),
        "success_bce": _known_bce(read.success.float(), success),
        "terminated_bce": _known_bce(read.terminated.float(), ended)
        if read.terminated.requires_grad
        else reward.new_zeros(()),
    }


def _known_bce(logits: Tensor, truth: Tensor) -> Tensor:
    """The binary cross-entropy of those of which the truth is known; 0 where it is of none."""
    known = ~truth.isnan()
    if not known.any():
        return 0.0 * logits.mean()
    return F.binary_cross_entropy_with_logits(logits[known], truth[known])


class StateHeadsLoss(nn.Module):
    """Reward, success and end, read off the true numbers of a transition and those that the integrator gives."""

    def __init__(self, heads: StateHeads, dynamics: Dynamics):
        super().__init__()
        self.heads, self.dynamics = heads, dynamics.requires_grad_(False)

    def forward(
        self, actions: Tensor, poses: Tensor, targets: Targets, real: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of transitions, and its parts.

        Args:
            actions: [B, A].
            poses: Before and after, [B, 2, P].
            targets: What is true of them.
            real: Bool [B], where the true pose after is read instead of the integrated one.
        """
        with torch.no_grad():
            made = self.dynamics.next_pose(poses[:, 0], actions)
            after = torch.where(real[:, None], poses[:, 1], made)
            vector = condition(self.dynamics, poses[:, 0], actions, after).vector
        metrics = outcome_loss(self.heads.of_vector(vector), targets)
        return sum(metrics.values(), poses.new_zeros(())), metrics


class HeadsLoss(nn.Module):
    """Reward, success, end and pose, read off real and generated transitions alike."""

    def __init__(self, heads: Heads | StateHeads, dynamics: Dynamics):
        super().__init__()
        self.heads = heads
        self.dynamics = dynamics.requires_grad_(False)

    def forward(
        self,
        latents: Tensor,
        first: Tensor,
        actions: Tensor,
        poses: Tensor,
        noise: Tensor,
        targets: Targets,
        real: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of the last transition, and its parts.

        Args:
            latents: As of `DynamicsLoss`, like `first`, `actions`, `poses` and `noise`.
            targets: What is true of the last transition.
            real: Bool [B], where the true last transition is read instead of the generated one.
        """
        n = actions.shape[1]
        with torch.no_grad():
            memory = self.dynamics.remember(latents[:, :-n], first)
            [(made, memory)] = deque(roll(self.dynamics, memory, first, poses[:, 0], actions, noise), maxlen=1)
            before = memory["latents"][:, -1]
            true = condition(self.dynamics, poses[:, -2], actions[:, -1], poses[:, -1]).vector
            pick = real[:, None, None, None]
            next_latent = torch.where(pick, latents[:, -1], made.latent.float())
            before = torch.where(pick, latents[:, -2], before)
            vector = torch.where(real[:, None], true, made.condition.vector)
        metrics = {}
        if self.heads.reads_latents:
            metrics = outcome_loss(self.heads(next_latent, before, first, vector), targets)
        loss = sum(metrics.values(), poses.new_zeros(()))
        if poses.shape[2]:
            code = self.dynamics.pose_code(poses[:, -1])
            metrics["pose_mse"] = F.mse_loss(self.heads.estimate_pose(next_latent).float(), code)
            loss = loss + metrics["pose_mse"]
        return loss, metrics
