"""Does a world folder survive disk, and is every damaged one refused with a clear error?"""

import json
import shutil

import numpy as np
import pytest
import torch
import yaml

from wm_gym.engine import make_engine
from wm_gym.worlds.world import WEIGHTS_FILE, World


@pytest.fixture
def folder(tiny_world_folder, tmp_path):
    """A copy of the tiny world's folder that a test may damage."""
    return shutil.copytree(tiny_world_folder, tmp_path / "world")


def outputs_of(world):
    engine = make_engine(world, "torch")
    state = engine.encode(world.starts.frames[:2], world.starts.proprioception[:2])
    rng = np.random.default_rng(0)
    for _ in range(3):
        action = torch.from_numpy(rng.uniform(-1, 1, (2, world.spec.action_dim)).astype(np.float32))
        noise = torch.from_numpy(rng.standard_normal((2, *engine.noise_shape), dtype=np.float32))
        state, out = engine.step(state, action, noise)
    return out


def test_save_and_load_change_nothing(tiny_world, tmp_path):
    loaded = World.from_pretrained(tiny_world.save_pretrained(tmp_path / "w"))
    assert loaded.spec == tiny_world.spec
    for name, module in tiny_world.modules().items():
        for key, tensor in module.state_dict().items():
            assert torch.equal(tensor, getattr(loaded, name).state_dict()[key]), (name, key)
    np.testing.assert_array_equal(loaded.starts.frames, tiny_world.starts.frames)
    for key, value in outputs_of(tiny_world).items():
        assert torch.equal(value, outputs_of(loaded)[key]), key


def test_saving_again_keeps_the_card(tiny_world, tmp_path):
    folder = tiny_world.save_pretrained(tmp_path / "w")
    (folder / "README.md").write_text("card")
    tiny_world.save_pretrained(folder)
    assert (folder / "README.md").read_text() == "card"
    assert [p.name for p in tmp_path.iterdir()] == ["w"]


def test_diffusers_pipeline_makes_a_video(folder):
    from wm_gym.pipeline import WorldPipeline

    world, pipeline = World.from_pretrained(folder), WorldPipeline.from_pretrained(folder)
    frames = pipeline(world.starts.frames[0, 0], np.zeros((4, 3)), generator=torch.Generator().manual_seed(0)).frames
    assert frames.shape == (4, 64, 64, 3) and frames.dtype == np.uint8


@pytest.mark.parametrize("backend, message", [("tpu", "unknown"), ("torch", "CUDA")])
def test_unusable_engines_are_named(tiny_world, backend, message):
    if backend == "torch" and torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(ValueError, match=message):
        make_engine(tiny_world, backend, device="cuda" if backend == "torch" else "auto")


def test_missing_world_names_the_next_command():
    with pytest.raises(FileNotFoundError, match="wm-gym train"):
        World.from_pretrained("./no/such/world")


@pytest.mark.parametrize("part", ["tokenizer", "dynamics", "heads"])
def test_missing_weights(folder, part):
    (folder / part / WEIGHTS_FILE).unlink()
    with pytest.raises(FileNotFoundError, match=f"{part}.*missing"):
        World.from_pretrained(folder)


def test_truncated_weights(folder):
    path = folder / "dynamics" / WEIGHTS_FILE
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="dynamics.*truncated"):
        World.from_pretrained(folder)


def test_pickle_where_safetensors_belong(folder):
    path = folder / "heads" / WEIGHTS_FILE
    torch.save({}, path.with_name("diffusion_pytorch_model.bin"))
    path.unlink()
    with pytest.raises(ValueError, match="pickle"):
        World.from_pretrained(folder)


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("action_low", [-1.0], "action_low"),
        ("proprioception_names", ["x"], "proprioception"),
        ("reward_components", ["a", "b", "c"], "reward_components"),
        ("frame_size", [32, 32], "frame_size"),
        ("format_version", 99, "format_version"),
        ("colour", "red", "unknown fields"),
    ],
)
def test_spec_that_disagrees(folder, field, value, message):
    spec = yaml.safe_load((folder / "spec.yaml").read_text())
    spec[field] = value
    (folder / "spec.yaml").write_text(yaml.safe_dump(spec))
    with pytest.raises(ValueError, match=message):
        World.from_pretrained(folder)


def test_config_that_disagrees(folder):
    path = folder / "dynamics" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"widths": [8, 16]}))
    with pytest.raises(ValueError, match="dynamics"):
        World.from_pretrained(folder)


def test_damaged_starts(folder):
    path = folder / "starts.safetensors"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match="starts.safetensors is truncated or damaged"):
        World.from_pretrained(folder)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="starts.safetensors"):
        World.from_pretrained(folder)
