"""How does a world that has only watched begin to act? Its networks are widened, and at first do as before."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from wm_gym.models.saving import resized
from wm_gym.spec import WorldSpec
from wm_gym.world import World, is_angle

ZERO = ("stem.weight", "condition.0.weight", "embed_pose.weight", "embed_pose.bias")
"""Where what is new comes in, with weights of zero."""


def with_actions(world: World, spec: WorldSpec, seed: int = 0) -> World:
    """A world trained on video alone, with room for the actions and proprioception of a spec.

    All weights are kept. New inputs begin with weights of zero, so that it draws what it drew; what has no old weights
    (pose network, heads on new inputs) is drawn from the seed.
    """
    angles = {"action_angles": spec.action_names, "proprioception_angles": spec.proprioception_names}
    told = {"action_dim": spec.action_dim, "proprioception_dim": spec.proprioception_dim,
            **{key: tuple(i for i, name in enumerate(names) if is_angle(name)) for key, names in angles.items()}}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        dynamics = resized(world.dynamics, **told)
        heads = resized(world.heads, vector_dim=dynamics.vector_dim, pose_dim=dynamics.pose_code.out_dim,
                        reward_dim=len(spec.reward_components))
    keep(world.dynamics, dynamics)
    keep(world.heads, heads)
    return replace(world, dynamics=dynamics, heads=heads, calibration=None)


@torch.no_grad()
def keep(old: nn.Module, new: nn.Module) -> None:
    """Copy what has the same place: whole tensors, and the inputs of wider layers that the old ones had."""
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
            value[:, -given.shape[1]:] = given
        elif name == "stem.weight":  # the maps are behind the latents
            value[:, :given.shape[1]] = given
