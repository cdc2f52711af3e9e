"""Pretrained video models as worlds: what is trained, what is saved, and that it steps as it did."""

from __future__ import annotations

import json
import os
import shutil

import gymnasium as gym
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from short import flags
from tiny_bases import write_index, write_svd, write_wan

import wm_gym  # noqa: F401
from wm_gym.cli import main
from wm_gym.models.pretrained import prompt_embedding
from wm_gym.training import train
from wm_gym.training.build import world_on_base
from wm_gym.worlds.world import World

pytest.importorskip("peft")
FEW = dict(
    preset="adapter",
    progress=False,
    overrides=dict(
        pose_updates=5,
        dynamics_updates=6,
        heads_updates=3,
        uncertainty_updates=2,
        uncertainty_rollouts=2,
        lora_rank=4,
        condition_dim=16,
        pose_width=16,
        head_width=8,
        sampling_steps=1,
        warmup=1,
        starts=8,
        learning_rate=3e-3,
        checkpoint_every=3,
    ),
)


@pytest.fixture(scope="module", params=["svd", "wan"])
def base(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    return write_svd(folder) if request.param == "svd" else write_wan(folder)


@pytest.fixture(scope="module")
def finetuned(base, balls, tmp_path_factory):
    return train(balls, tmp_path_factory.mktemp("worlds") / "world", base=base, prompt="the ball moves", **FEW)


def base_weights(world: World) -> dict[str, torch.Tensor]:
    return {
        name: value.clone()
        for part in (world.tokenizer, world.dynamics)
        for name, value in part.pretrained.named_parameters()
        if "lora_" not in name
    }


def test_a_training_step_moves_only_the_adapter(base, balls, finetuned):
    from dataclasses import replace

    from wm_gym.data import open_clips
    from wm_gym.training.presets import PRESETS
    from wm_gym.training.trainer import spec_of

    sizes = replace(PRESETS["adapter"], **FEW["overrides"])
    new = world_on_base(base, spec_of(open_clips(balls, progress=False), "new"), sizes, "the ball moves")
    trained = World.from_pretrained(finetuned)
    before, after = base_weights(new), base_weights(trained)
    assert before.keys() == after.keys() and len(before) > 20
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert trained.dynamics.tell.weight.abs().max() > 0
    moved = [value.abs().max() for name, value in trained.dynamics.named_parameters() if "lora_B" in name]
    assert len(moved) >= 4 and max(moved) > 0


def test_a_saved_world_holds_the_adapter_alone(base, finetuned):
    saved = load_file(finetuned / "dynamics" / "diffusion_pytorch_model.safetensors")
    assert all("lora_" in name for name in saved if ".pretrained." in f".{name}")
    assert {"tell.weight", "condition.0.weight"} <= set(saved)
    whole = sum(path.stat().st_size for path in base.rglob("*.safetensors"))
    assert sum(value.nbytes for value in saved.values()) < whole


def test_reloaded_it_gives_the_same_frames(finetuned):
    def film():
        world = World.from_pretrained(finetuned)
        world.spec.sampling_steps = 2
        env = gym.make("wm_gym/World-v0", world=world, terminate_on_success=False)
        first, _ = env.reset(seed=3)
        env.action_space.seed(3)
        return [first, *(env.step(env.action_space.sample())[0] for _ in range(3))]

    once, twice = film(), film()
    assert all(np.array_equal(a, b) for a, b in zip(once, twice))
    assert once[0].shape == (32, 32, 3)
    again = finetuned.with_name("again")
    World.from_pretrained(finetuned).save_pretrained(again)
    copied = World.from_pretrained(again)
    original = World.from_pretrained(finetuned)
    assert all(
        torch.equal(value, copied.dynamics.state_dict()[name]) for name, value in original.dynamics.state_dict().items()
    )


def test_actions_reach_the_frame_that_is_drawn(finetuned):
    env = gym.make_vec(
        "wm_gym/World-v0",
        num_envs=3,
        vectorization_mode="vector_entry_point",
        world=str(finetuned),
        observation="latent",
        terminate_on_success=False,
    )
    env.reset(seed=[5, 5, 5])
    low, high = env.single_action_space.low, env.single_action_space.high
    latents, *_ = env.step(np.stack([low, high, low]))
    assert np.array_equal(latents[0], latents[2])
    assert not np.allclose(latents[0], latents[1], atol=1e-5)


@pytest.mark.slow
def test_the_loss_falls_over_200_steps(base, balls, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    out = train(
        balls,
        tmp_path / "world",
        base=base,
        **FEW | {"overrides": FEW["overrides"] | {"dynamics_updates": 200, "dynamics_batch": 8, "report_every": 1000}},
    )
    logs = next(out.with_name("world.log").rglob("events.out.tfevents.*"))
    events = EventAccumulator(str(logs))
    events.Reload()
    losses = [event.value for event in events.Scalars("dynamics/latent_mse")]
    assert len(losses) == 4 and losses[-1] < 0.8 * losses[0], losses


def test_the_prompt_is_what_the_text_encoder_says(tmp_path):
    folder = write_wan(tmp_path)
    said = prompt_embedding(folder, "the ball moves")
    assert said.shape == (4, 16)
    assert not torch.equal(said, prompt_embedding(folder, "the ball ball"))


def test_a_base_that_is_gone_is_named(base, finetuned, tmp_path):
    moved = tmp_path / "world"
    shutil.copytree(finetuned, moved)
    config = json.loads((moved / "dynamics" / "config.json").read_text())
    (moved / "dynamics" / "config.json").write_text(json.dumps(config | {"base": str(tmp_path / "gone")}))
    with pytest.raises((ValueError, FileNotFoundError), match="gone holds no model_index.json"):
        World.from_pretrained(moved)


@pytest.mark.parametrize(
    "index, message",
    [
        ({"_class_name": "StableDiffusionPipeline"}, "expected one of StableVideoDiffusionPipeline"),
        ({"_class_name": "WanImageToVideoPipeline"}, "without expand_timesteps"),
    ],
)
def test_other_pipelines_are_refused(balls, tmp_path, index, message):
    with pytest.raises(ValueError, match=message):
        train(balls, tmp_path / "world", base=write_index(tmp_path, index), **FEW)


def test_a_hub_id_that_cannot_be_fetched_says_what_to_do(balls, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match="hf download nobody/nothing"):
        train(balls, tmp_path / "world", base="nobody/nothing", **FEW)


def test_frames_of_a_size_that_it_cannot_draw(balls, tmp_path):
    with pytest.raises(ValueError, match="multiples of 16; pass --size 32x32"):
        train(balls, tmp_path / "world", base=write_wan(tmp_path / "wan"), size=(28, 28), **FEW)


def test_other_backends_are_refused(finetuned):
    from wm_gym.engine import make_engine

    with pytest.raises(ValueError, match="use 'torch'"):
        make_engine(World.from_pretrained(finetuned), "onnxruntime", "cpu")


def test_the_adapter_preset_needs_a_base(balls, tmp_path):
    with pytest.raises(ValueError, match="wm-gym finetune"):
        train(balls, tmp_path / "world", preset="adapter")


def test_command(balls, tmp_path, capsys):
    few = FEW["overrides"] | {"pose_updates": 1, "dynamics_updates": 1, "heads_updates": 1, "uncertainty_updates": 1}
    main(
        [
            "finetune",
            str(balls),
            "--base",
            str(write_svd(tmp_path / "svd")),
            "--out",
            str(tmp_path / "world"),
            *flags(**few),
        ]
    )
    assert "finetuned" in capsys.readouterr().out
    assert os.path.isfile(tmp_path / "world" / "spec.yaml")
