"""How is a new world made? With random weights, on a pretrained video model, or of one trained on video alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from wm_gym.models import DiTDynamics, Dynamics, Heads, StateHeads, Tokenizer, Uncertainty, UNetDynamics, VideoTokenizer
from wm_gym.models.integrator import levels_of
from wm_gym.models.pretrained import on_base
from wm_gym.models.saving import resized
from wm_gym.training.presets import PRESETS, Preset
from wm_gym.worlds.spec import WorldSpec
from wm_gym.worlds.starts import StartBank
from wm_gym.worlds.world import World, is_angle

ZERO = ("stem.weight", "condition.0.weight", "embed_pose.weight", "embed_pose.bias")
"""The layers through which new inputs come in, with weights of zero."""


def new_world(
    spec: WorldSpec,
    preset: str | Preset = "tiny",
    seed: int = 0,
    starts: StartBank | None = None,
    numbers: np.ndarray | None = None,
) -> World:
    """A world with random weights in a preset's size, for tests and as the start of training.

    Args:
        spec: Its contract; latent_shape and context_frames are set.
        preset: One of `PRESETS`, or sizes of its own.
        seed: Of the weights.
        starts: Its bank of starts; 8 pictures of noise by default.
        numbers: States that were recorded [N, P]: integers that take few values there are learned as choices.
    """
    sizes = PRESETS[preset] if isinstance(preset, str) else preset
    common: dict[str, Any] = dict(
        latent_channels=sizes.latent_channels,
        grid=tuple(s // Tokenizer.factor for s in spec.frame_size),
        context_frames=max(sizes.lags) if sizes.dynamics == "unet" else sizes.context_frames,
        conditioning=sizes.conditioning,
        nullable=sizes.condition_dropout > 0,
        **_conditions(spec, sizes, numbers),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokenizer = Tokenizer(sizes.latent_channels, sizes.encoder_width, sizes.decoder_width, sizes.decoder_depth)
        dynamics: Dynamics
        if sizes.dynamics == "dit":
            dynamics = DiTDynamics(**common, width=sizes.dit_width, layers=sizes.dit_layers, heads=sizes.dit_heads)
        else:
            dynamics = UNetDynamics(**common, widths=sizes.widths, lags=sizes.lags)
        return _with_heads(tokenizer, dynamics, spec, sizes, seed, starts)


def world_on_base(
    base: str | Path, spec: WorldSpec, sizes: Preset, prompt: str = "", seed: int = 0, starts: StartBank | None = None
) -> World:
    """A world on a pretrained video pipeline (`wm_gym.models.pretrained`), its adapter not yet trained.

    Raises:
        FileNotFoundError: Where there is no such pipeline.
        ValueError: Where it cannot become a world of this spec.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokenizer, dynamics = on_base(
            base,
            prompt,
            frame_size=spec.frame_size,
            context_frames=sizes.context_frames,
            lora_rank=sizes.lora_rank,
            **_conditions(spec, sizes),
        )
        return _with_heads(tokenizer, dynamics, spec, sizes, seed, starts)


def with_actions(world: World, spec: WorldSpec, seed: int = 0) -> World:
    """A world trained on video alone, with room for the actions and proprioception of a spec.

    All weights are kept. New inputs begin with weights of zero, so that it draws what it drew; what has no old weights
    (pose network, heads on new inputs) is drawn from the seed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        dynamics = resized(world.dynamics, **_inputs(spec))
        heads = resized(
            world.heads,
            vector_dim=dynamics.vector_dim,
            pose_dim=dynamics.pose_code.out_dim,
            reward_dim=len(spec.reward_components),
        )
    keep(world.dynamics, dynamics)
    keep(world.heads, heads)
    return replace(world, dynamics=dynamics, heads=heads, calibration=None)


@torch.no_grad()
def keep(old: nn.Module, new: nn.Module) -> None:
    """Copy an old network's weights into a new one: tensors of the same place, and the inputs of wider layers."""
    before = old.state_dict()
    for name, value in new.state_dict().items():
        if name in ZERO:
            value.zero_()
        if name not in before:
            continue
        given = before[name]
        if given.shape == value.shape:
            value.copy_(given)
        elif name == "condition.0.weight":  # the vector is in front, tau and the noise level behind it
            value[:, -given.shape[1] :] = given
        elif name == "stem.weight":  # the maps are behind the latents
            value[:, : given.shape[1]] = given


def _inputs(spec: WorldSpec) -> dict[str, Any]:
    """The networks' arguments about actions and proprioception: their sizes, and which numbers are angles."""
    angles = {
        f"{what}_angles": tuple(i for i, name in enumerate(names) if is_angle(name))
        for what, names in (("action", spec.action_names), ("proprioception", spec.proprioception_names))
    }
    return {"action_dim": spec.action_dim, "proprioception_dim": spec.proprioception_dim, **angles}


def _conditions(spec: WorldSpec, sizes: Preset, numbers: np.ndarray | None = None) -> dict[str, Any]:
    codec = spec.codec("observation")
    integrator: dict[str, Any] | None = None
    if codec is not None and codec.size:
        integrator = {"width": sizes.pose_width, "layers": sizes.pose_layers}
        integrator |= {"groups": [list(group) for group in codec.groups], "whole": codec.whole}
        levels = {} if numbers is None else levels_of(numbers, codec.whole)
        integrator |= {"levels": {str(place): values for place, values in levels.items()}} if levels else {}
    return _inputs(spec) | {
        "integrator": integrator,
        "condition_dim": sizes.condition_dim,
        "pose_width": sizes.pose_width,
        "pose_activation": "relu",
    }


def _with_heads(
    tokenizer: Tokenizer | VideoTokenizer,
    dynamics: Dynamics,
    spec: WorldSpec,
    sizes: Preset,
    seed: int,
    starts: StartBank | None,
) -> World:
    """A world of tokenizer and dynamics, with new heads and uncertainty."""
    c = dynamics.config
    spec.latent_shape, spec.context_frames = [c.latent_channels, *c.grid], c.context_frames
    pose_dim, terms = dynamics.pose_code.out_dim, len(spec.reward_components)
    common = (c.latent_channels, c.grid, dynamics.vector_dim, pose_dim, terms, sizes.head_width)
    heads = StateHeads(*common) if spec.has_state else Heads(*common, terminates=spec.termination_threshold <= 1)
    uncertainty = Uncertainty(dynamics.feature_dim, c.latent_channels, c.grid)
    if starts is None:
        rng, (h, w) = np.random.default_rng(seed), spec.frame_size
        starts = StartBank(
            rng.integers(0, 255, (8, 1, h, w, 3), dtype=np.uint8),
            np.zeros((8, 0, spec.action_dim), np.float32),
            rng.uniform(-0.1, 0.1, (8, 1, spec.proprioception_dim)).astype(np.float32),
            np.arange(8),
            np.zeros(8, np.int64),
        )
    return World(spec, tokenizer, dynamics, heads, uncertainty, starts)
