"""The ways in which action and pose reach the dynamics, the null condition and guidance."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_world import make_world

from wm_gym.engine import make_engine
from wm_gym.engine.base import step_inputs
from wm_gym.models import dit
from wm_gym.models.conditioning import CONDITIONINGS, ways_of
from wm_gym.models.sampling import denoiser
from wm_gym.training.losses import Corruption, DynamicsLoss
from wm_gym.training.presets import PRESETS, Preset
from wm_gym.worlds.world import World


def world_of(**changes) -> World:
    """A tiny world whose networks all listen (zero-initialised layers are drawn)."""
    world = make_world(**changes)
    torch.manual_seed(0)
    for value in world.dynamics.parameters():
        if not value.any():
            value.data.normal_(0, 0.1)
    return world


def asked(world: World, vector: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(1)
    first, noise = torch.randn(2, len(vector), *world.spec.latent_shape)
    memory = world.dynamics.remember(first[:, None].repeat(1, world.spec.context_frames, 1, 1, 1), first)
    with torch.no_grad():
        return world.dynamics(noise, torch.zeros(len(vector)), memory, first, vector, torch.zeros(len(vector)))[0]


@pytest.mark.parametrize(
    "dynamics, way",
    [("unet", way) for way in (*CONDITIONINGS, "film+map", "film+cross+concat")]
    + [("dit", way) for way in dit.CONDITIONINGS],
)
def test_every_way_reaches_the_picture(dynamics, way):
    world = world_of(dynamics=dynamics, conditioning=way)
    vector = torch.randn(2, world.dynamics.vector_dim)
    other = vector + torch.tensor([[0.0], [1.0]])
    a, b = asked(world, vector), asked(world, other)
    assert torch.allclose(a[0], b[0], atol=1e-6)
    assert (a[1] - b[1]).abs().max() > 1e-4


@pytest.mark.parametrize(
    "text, known",
    [
        ("flim", tuple(CONDITIONINGS)),
        ("film+film", tuple(CONDITIONINGS)),
        ("", tuple(CONDITIONINGS)),
        ("cross", dit.CONDITIONINGS),
    ],
)
def test_unknown_ways_are_named(text, known):
    with pytest.raises(ValueError, match="expected one or several of"):
        ways_of(text, known)


def test_dropped_clips_have_no_condition():
    world = world_of(condition_dropout=0.5)
    dynamics, spec = world.dynamics.requires_grad_(True), world.spec
    loss = DynamicsLoss(dynamics, world.tokenizer, Preset())
    torch.manual_seed(2)
    k, (c, h, w) = spec.context_frames, spec.latent_shape
    inputs = {
        "latents": torch.randn(2, k + 2, c, h, w),
        "first": torch.randn(2, c, h, w),
        "poses": torch.randn(2, 3, spec.proprioception_dim),
        "noise": torch.randn(2, 2, c, h, w),
    }
    corruption = Corruption(torch.zeros(2), torch.zeros(2), torch.zeros(2, k, c, h, w))
    actions = torch.randn(2, 2, 2, spec.action_dim)
    kept, dropped = (
        [loss(actions=a, corruption=corruption._replace(dropped=torch.full((2,), which)), **inputs)[0] for a in actions]
        for which in (False, True)
    )
    assert kept[0] != kept[1]
    assert dropped[0] == dropped[1]
    dropped[0].backward()
    assert dynamics.null.grad.abs().sum() > 0


def test_guidance_goes_from_the_null_condition_through_the_told_one():
    world = world_of(condition_dropout=0.1)
    dynamics = world.dynamics
    torch.manual_seed(3)
    first, noise = torch.randn(2, 2, *world.spec.latent_shape)
    memory = dynamics.remember(first[:, None].repeat(1, world.spec.context_frames, 1, 1, 1), first)
    vector, tau = torch.randn(2, dynamics.vector_dim), torch.zeros(2)
    with torch.no_grad():
        null, told, far = (denoiser(dynamics, memory, first, vector, scale)(noise, tau)[0] for scale in (0.0, 1.0, 3.0))
        assert torch.allclose(null, dynamics(noise, tau, memory, first, dynamics.forget(vector), tau)[0], atol=1e-5)
        assert torch.allclose(far, null + 3 * (told - null), atol=1e-4)


@pytest.mark.parametrize("backend", ["torch", "openvino", "onnxruntime"])
def test_a_guided_step_is_the_same_in_every_backend(backend):
    pytest.importorskip(backend)
    world = world_of(condition_dropout=0.1, conditioning="film+map+cross+token+concat")
    world.spec.guidance_scale = 2.0
    torch.manual_seed(4)
    inputs = [torch.randn_like(x) for x in step_inputs(world, 2)]
    reference = make_engine(world, "torch", "cpu", precision="fp32").compile(2)(*inputs)
    made = make_engine(world, backend, "cpu", precision="fp32").compile(2)(*inputs)
    plain = replace(world, spec=replace(world.spec, guidance_scale=1.0))
    assert torch.allclose(reference[2], made[2], atol=2e-2)
    assert all(
        torch.allclose(a.float(), b.float(), atol=2e-2 if a.is_floating_point() else 2) for a, b in zip(reference, made)
    )
    unguided = make_engine(plain, "torch", "cpu", precision="fp32").compile(2)(*inputs)
    assert not torch.allclose(reference[-2], unguided[-2], atol=1e-3)


def test_guidance_without_a_null_condition_is_refused():
    world = world_of()
    world.spec.guidance_scale = 2.0
    with pytest.raises(ValueError, match="condition_dropout"):
        world.check()
    with pytest.raises(ValueError, match="condition_dropout"):
        world.dynamics.forget(torch.zeros(1, world.dynamics.vector_dim))


def test_dropout_of_everything_is_refused():
    with pytest.raises(ValueError, match=r"condition_dropout is 1\.0"):
        replace(PRESETS["tiny"], condition_dropout=1.0)
