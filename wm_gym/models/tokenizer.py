"""How does a frame become a latent and back? A small convolutional autoencoder with a cheap decoder."""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from wm_gym.models.blocks import ResBlock
from wm_gym.models.saving import ModelMixin, Network, register_to_config, resized  # noqa: F401  see Network


class Codec(Protocol):
    """Any tokenizer: this module's, or that of a pretrained video model."""

    def encode(self, frames: Tensor) -> Tensor:
        """Normalised latents [B, C, h, w] of frames [B, 3, H, W] in [-1, 1]."""

    def decode(self, latents: Tensor) -> Tensor:
        """Frames [B, 3, H, W] of normalised latents [B, C, h, w]."""

    def round_trip(self, frames: np.ndarray) -> np.ndarray:
        """Frames uint8 [N, H, W, 3] as they are drawn."""


class Tokenizer(Network):
    """Frames [B, 3, H, W] in [-1, 1] <-> latents [B, C, H/4, W/4], normalised to unit variance a channel.

    decoder_depth: residual blocks of the decoder at each of its two resolutions.
    """

    factor, frames_at_once = 4, 512
    latent_mean: Tensor
    latent_std: Tensor

    @register_to_config
    def __init__(
        self, latent_channels: int = 4, encoder_width: int = 32, decoder_width: int = 48, decoder_depth: int = 1
    ):
        super().__init__()
        if decoder_width % 2:
            raise ValueError(f"decoder_width is {decoder_width}, expected an even number")
        w, d = encoder_width, decoder_width
        self.encoder = nn.Sequential(
            nn.Conv2d(3, w, 5, stride=2, padding=2),
            ResBlock(w, w),
            nn.Conv2d(w, 2 * w, 3, stride=2, padding=1),
            ResBlock(2 * w, 2 * w),
            ResBlock(2 * w, 2 * w),
            nn.Conv2d(2 * w, latent_channels, 1),
        )
        more = range(2, decoder_depth + 1)
        layers: dict[str, nn.Module] = {  # a deeper one has the names of a shallower one, and more
            "0": nn.Conv2d(latent_channels, d, 3, padding=1),
            "1": ResBlock(d, d),
            **{f"1_{n}": ResBlock(d, d) for n in more},
            "2": nn.Conv2d(d, 2 * d, 3, padding=1),
            "3": nn.PixelShuffle(2),
            "4": ResBlock(d // 2, d // 2),
            **{f"4_{n}": ResBlock(d // 2, d // 2) for n in more},
            "5": nn.Conv2d(d // 2, 12, 3, padding=1),
            "6": nn.PixelShuffle(2),
        }
        self.decoder = nn.Sequential(OrderedDict(layers))
        self.register_buffer("latent_mean", torch.zeros(latent_channels))
        self.register_buffer("latent_std", torch.ones(latent_channels))

    def deepened(self, decoder_depth: int) -> Tokenizer:
        """The same tokenizer with so many blocks; the new ones begin as identities, so that it draws what it drew."""
        deeper = resized(self, decoder_depth=decoder_depth)
        deeper.load_state_dict(deeper.state_dict() | self.state_dict())
        return deeper.eval()

    def encode(self, frames: Tensor) -> Tensor:
        """Normalised latents [B, C, H/4, W/4] of frames [B, 3, H, W] in [-1, 1]."""
        return (self.encoder(frames) - self.latent_mean[:, None, None]) / self.latent_std[:, None, None]

    def decode(self, latents: Tensor) -> Tensor:
        """Frames [B, 3, 4h, 4w], about [-1, 1] (not clipped), of normalised latents [B, C, h, w]."""
        return self.decoder(latents * self.latent_std[:, None, None] + self.latent_mean[:, None, None])

    @torch.inference_mode()
    def round_trip(self, frames: np.ndarray) -> np.ndarray:
        """Frames uint8 [B, H, W, 3] as the decoder draws them, on the CPU."""
        return to_uint8(self.decode(self.encode(to_float(torch.from_numpy(frames))))).numpy()


@torch.inference_mode()
def redrawn(tokenizer: Codec, frames: Tensor) -> Tensor:
    """Frames [..., 3, H, W] in [-1, 1] through the tokenizer and back, in grey levels as a world shows them.

    In bf16, which is off by two levels at most and four times as fast.
    """
    with torch.autocast(frames.device.type, torch.bfloat16):
        flat = frames.flatten(0, -4).contiguous(memory_format=torch.channels_last)
        drawn = tokenizer.decode(tokenizer.encode(flat))
    return to_float(to_uint8(drawn.float())).unflatten(0, frames.shape[:-3])


def to_float(frames: Tensor) -> Tensor:
    """Frames uint8 [..., H, W, 3] as float32 [..., 3, H, W] in [-1, 1]."""
    return frames.movedim(-1, -3).float() / 127.5 - 1.0


def to_uint8(frames: Tensor) -> Tensor:
    """Frames float [..., 3, H, W] in [-1, 1] as uint8 [..., H, W, 3], rounded and clipped."""
    return ((frames + 1.0) * 127.5).round().clamp(0, 255).movedim(-3, -1).to(torch.uint8)  # uint8 last: TensorRT
