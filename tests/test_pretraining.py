"""Training on video alone, then on a few episodes with actions."""

from __future__ import annotations

import gymnasium as gym
import imageio.v3 as iio
import numpy as np
import pytest
import torch
from short import short

import wm_gym  # noqa: F401
from wm_gym.data import open_clips
from wm_gym.training import train
from wm_gym.training.presets import PRESETS
from wm_gym.training.trainer import continued, make_starts, spec_of
from wm_gym.worlds.world import World

FEW = dict(preset="tiny", progress=False, overrides=short(10))


@pytest.fixture(scope="module")
def watched(balls, tmp_path_factory):
    return train(balls, tmp_path_factory.mktemp("watched") / "world", action_free=True, **FEW)


def test_video_alone_makes_an_environment_without_actions(watched):
    env = gym.make("wm_gym/World-v0", world=str(watched))
    first, _ = env.reset(seed=0)
    frame, *_ = env.step(env.action_space.sample())
    assert env.action_space.shape == (0,)
    assert frame.shape == first.shape == (32, 32, 3)


def test_a_widened_world_draws_what_it_drew_and_then_learns_to_follow(watched, balls):
    clips = open_clips(balls, progress=False)
    sizes = PRESETS["tiny"]
    world, widened = continued(watched, spec_of(clips, "world"), make_starts(clips, sizes, 0))
    old = World.from_pretrained(watched)
    assert widened and world.dynamics.vector_dim > old.dynamics.vector_dim == 0
    first, noise = torch.randn(2, 3, *world.spec.latent_shape)
    memory, tau = old.dynamics.remember(first[:, None].repeat(1, 2, 1, 1, 1), first), torch.zeros(3)
    vector = torch.randn(3, world.dynamics.vector_dim)
    with torch.no_grad():
        before, _ = old.dynamics(noise, tau, memory, first, torch.zeros(3, 0), tau)
        after, _ = world.dynamics(noise, tau, memory, first, vector, tau)
    assert torch.allclose(before, after, atol=1e-5)


def test_labels_after_video(watched, balls, tmp_path):
    out = train(
        balls, tmp_path / "world", init=watched, **FEW | {"overrides": FEW["overrides"] | {"tokenizer_updates": 0}}
    )
    world = World.from_pretrained(out)
    assert world.spec.action_dim == world.dynamics.config.action_dim > 0
    assert "from the world" in world.spec.trained_on
    old = World.from_pretrained(watched)
    assert torch.equal(world.tokenizer.encoder[0].weight, old.tokenizer.encoder[0].weight)
    moved = world.dynamics.condition[0].weight[:, : world.dynamics.vector_dim].abs().max()
    assert moved > 0


def test_videos_without_numbers_are_refused_or_watched(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(2):
        iio.imwrite(folder / f"{i}.mp4", rng.integers(0, 255, (12, 32, 32, 3), dtype=np.uint8), fps=10)
    with pytest.raises(ValueError, match="--action-free"):
        train(folder, tmp_path / "world", **FEW)
    assert World.from_pretrained(train(folder, tmp_path / "world", action_free=True, **FEW)).spec.action_dim == 0
