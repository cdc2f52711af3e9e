"""Is the transformer's ring cache exact, does it remember what it should, and does it learn, save and load?"""

from __future__ import annotations

import pytest
import torch
from short import short
from tiny_world import make_world

from wm_gym.models import DiTDynamics
from wm_gym.training import train
from wm_gym.worlds.world import World


@pytest.fixture
def dynamics():
    torch.manual_seed(0)
    return make_world(dynamics="dit").dynamics


def predict(dynamics, memory, first):
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(first.shape, generator=generator)
    vector, zero = torch.randn(len(first), dynamics.vector_dim, generator=generator), torch.zeros(len(first))
    return dynamics(noise, zero, memory, first, vector, zero)[0]


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_the_ring_holds_what_a_fresh_memory_of_its_frames_would(dynamics, steps):
    window = dynamics.config.context_frames
    frames, first = torch.randn(3, window + steps, 4, 16, 16), torch.randn(3, 4, 16, 16)
    memory = dynamics.remember(frames[:, :window], first)
    for i in range(steps):
        memory = dynamics.append(memory, frames[:, window + i], first)
    fresh = dynamics.remember(frames[:, -window:], first)
    torch.testing.assert_close(predict(dynamics, memory, first), predict(dynamics, fresh, first))


def test_the_order_of_the_past_matters(dynamics):
    frames, first = torch.randn(2, 2, 4, 16, 16), torch.randn(2, 4, 16, 16)
    frames[:, 1] = frames[:, 1] * 0.5  # the gate copies the newest: compare with the newest alike
    newest_alike = frames.flip(1).clone()
    memory, turned = (dynamics.remember(z, first) for z in (frames, newest_alike))
    turned["latents"] = memory["latents"]
    assert (predict(dynamics, memory, first) - predict(dynamics, turned, first)).abs().max() > 1e-4


def test_memory_shapes_are_those_of_the_memory(dynamics):
    memory = dynamics.remember(torch.randn(3, dynamics.config.context_frames, 4, 16, 16), torch.randn(3, 4, 16, 16))
    assert {key: tuple(value.shape[1:]) for key, value in memory.items()} == dynamics.memory_shapes()


def test_a_transformer_world_trains_saves_and_loads(balls, tmp_path):
    few = short(12, dynamics="dit", context_frames=3)
    world = World.from_pretrained(train(balls, tmp_path / "w", preset="tiny", overrides=few, progress=False))
    assert isinstance(world.dynamics, DiTDynamics) and world.spec.context_frames == 3
    block = world.dynamics.blocks[0]
    assert block.age_bias.abs().max() > 0 and block.modulation.weight.abs().max() > 0


def test_unknown_dynamics_name_the_known_ones(balls, tmp_path):
    with pytest.raises(ValueError, match="'unet' or 'dit'"):
        train(balls, tmp_path / "w", preset="tiny", overrides={"dynamics": "mamba"})
    assert not list(tmp_path.iterdir())
