"""How large, how long? Every knob of a training run in one table."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Preset:
    """Sizes of the networks and length of each stage. Raises ValueError for unknown dynamics."""

    # networks
    latent_channels: int = 4
    encoder_width: int = 32
    decoder_width: int = 48
    decoder_depth: int = 1  # its residual blocks a resolution; with --init, at least those of the world it goes on from
    dynamics: str = "unet"  # or "dit"
    lags: tuple[int, ...] = (1, 2, 4, 8, 16)  # of the U-Net: ages of the frames it sees
    context_frames: int = 2  # of the DiT: it sees the last so many
    widths: tuple[int, ...] = (32, 64, 96)  # of the U-Net, one block a level
    dit_width: int = 128
    dit_layers: int = 6
    dit_heads: int = 4
    conditioning: str = "film+map"  # how action and pose reach the dynamics, of `CONDITIONINGS`
    condition_dim: int = 128
    pose_width: int = 256
    pose_layers: int = 4  # of the integrator of an observation's numbers
    draws: bool = True  # False: numbers only, no picture is learned (for worlds that nobody looks at)
    head_width: int = 32
    lora_rank: int = 16  # of the adapter of a pretrained video model (`wm-gym finetune`)
    # optimisation
    tokenizer_updates: int = 4000
    pose_updates: int = 6000
    outcome_updates: int = 3000  # of reward and end, where the numbers of the observation are all that is seen
    dynamics_updates: int = 12000
    heads_updates: int = 4000
    uncertainty_updates: int = 1000
    tokenizer_batch: int = 64
    pose_batch: int = 256
    dynamics_batch: int = 64
    uncertainty_batch: int = 16
    uncertainty_rollouts: int = 512  # own roll-outs that it is trained on
    learning_rate: float = 1e-3
    pose_learning_rate: float = 3e-3
    ema_decay: float = 0.998
    warmup: int = 200
    # losses
    foreground_weight: float = 6.0  # tokenizer: weight of pixels that differ from the background
    latent_noise: float = 0.1  # tokenizer: noise on the latents before decoding
    decoder_only: bool = False  # tokenizer: with --init, its encoder stays, and latents mean what they meant
    moved_weight: float = 5.0  # dynamics: extra weight of patches that moved
    pixel_weight: float = 0.1  # dynamics: decoded L1, on a quarter of the batch
    critic_weight: float = 0.0  # dynamics: of a critic that discerns its latents from true ones (0: none)
    lost_above: float = math.inf  # dynamics: roll-outs with a larger error of the latent are no target
    context_noise: float = 0.3  # dynamics: largest noise level put on the context
    latest_share: float = 0.0  # part of each batch from the last of several datasets (0: all rows alike)
    condition_dropout: float = 0.0  # dynamics: share of clips without action and pose, for guidance
    partial_share: float = 0.25  # dynamics: share of clips from a noise level between; the others from pure noise
    rollout_share: float = 0.33  # dynamics: share of updates on the model's own roll-outs
    rollout_lengths: tuple[int, ...] = (2, 4, 8, 16)  # curriculum, equal parts of the training
    pose_rollout_lengths: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 50)  # pose: likewise
    # the finished world: denoising evaluations a frame (None: those of the world it goes on from, else 1), starts
    sampling_steps: int | None = None
    starts: int = 1024
    first_starts: int = 1024  # of them, at most so many first frames of episodes; the others are later frames
    # how often
    checkpoint_every: int = 500
    report_every: int = 500

    def __post_init__(self) -> None:
        if self.dynamics not in ("unet", "dit"):
            raise ValueError(f"dynamics={self.dynamics!r} is unknown; choose 'unet' or 'dit'")
        if not 0 <= self.condition_dropout < 1:
            raise ValueError(f"condition_dropout is {self.condition_dropout}, expected a share in [0, 1)")


PRESETS = {
    # seconds on a CPU: tests
    "tiny": Preset(
        encoder_width=16,
        decoder_width=16,
        lags=(1, 2),
        widths=(16, 32),
        dit_width=32,
        dit_layers=2,
        dit_heads=2,
        condition_dim=32,
        pose_width=64,
        head_width=8,
        tokenizer_updates=150,
        pose_updates=150,
        outcome_updates=150,
        dynamics_updates=150,
        heads_updates=100,
        uncertainty_updates=60,
        uncertainty_rollouts=16,
        tokenizer_batch=32,
        dynamics_batch=32,
        learning_rate=2e-3,
        ema_decay=0.95,
        warmup=10,
        rollout_lengths=(2, 4),
        pose_rollout_lengths=(1, 2, 4),
        starts=64,
        checkpoint_every=50,
        report_every=50,
    ),
    # an hour or two on two CPU cores, minutes on a GPU
    "small": Preset(),
    # the numbers of an observation alone, without pictures: a minute on a CPU
    "state": Preset(
        draws=False,
        lags=(1,),
        widths=(8, 8),
        encoder_width=8,
        decoder_width=8,
        head_width=4,
        pose_updates=2500,
        outcome_updates=2500,
        pose_rollout_lengths=(1, 2, 4),
        pose_learning_rate=1e-3,
        starts=4096,
        first_starts=4096,
    ),
    # a trained world on more recordings of its environment (`--init`): minutes on a CPU
    "finetune": Preset(
        tokenizer_updates=0,
        pose_updates=1500,
        dynamics_updates=3000,
        heads_updates=2000,
        learning_rate=3e-4,
        pose_learning_rate=1e-3,
        latest_share=0.5,
        rollout_lengths=(8, 16),
        pose_rollout_lengths=(16, 50),
    ),
    # the adapter of a pretrained video model (`wm-gym finetune`): a GPU
    "adapter": Preset(
        tokenizer_updates=0,
        dynamics_updates=5000,
        dynamics_batch=8,
        learning_rate=1e-4,
        context_frames=3,
        pixel_weight=0.0,
        partial_share=1.0,
        rollout_share=0.0,
        rollout_lengths=(1,),
        sampling_steps=8,
        uncertainty_rollouts=64,
        starts=256,
        first_starts=256,
    ),
    # a GPU
    "base": Preset(
        encoder_width=64,
        decoder_width=96,
        context_frames=4,
        widths=(96, 192, 256),
        condition_dim=256,
        head_width=64,
        tokenizer_updates=20000,
        dynamics_updates=60000,
        heads_updates=20000,
        uncertainty_updates=4000,
        uncertainty_rollouts=1024,
        tokenizer_batch=256,
        dynamics_batch=256,
        learning_rate=5e-4,
        ema_decay=0.9995,
        warmup=1000,
    ),
}


def sizes_of(preset: str, overrides: Mapping[str, Any] | None = None) -> Preset:
    """A preset with some of its fields changed; ValueError for an unknown one."""
    if preset not in PRESETS:
        raise ValueError(f"preset {preset!r} is unknown; choose one of {sorted(PRESETS)}")
    return replace(PRESETS[preset], **(overrides or {}))
