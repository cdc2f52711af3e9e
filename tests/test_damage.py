"""Does a damaged folder ever do more than load and step, or be refused by name? Worlds, agents, planners, datasets."""

from __future__ import annotations

import json
import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import yaml
from damage_folders import KINDS, damaged, sources
from damage_trial import GOOD, try_folder
from safetensors.numpy import load_file, save_file

from wm_gym.worlds.starts import StartBank

SEEDS = 24


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> dict[str, Path]:
    return sources(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def broken(sound, tmp_path):
    """A copy of a sound folder to damage."""
    import shutil

    return lambda kind: Path(shutil.copytree(sound[kind], tmp_path / kind))


@pytest.mark.parametrize("kind", KINDS)
def test_undamaged_folders_are_sound(sound, kind):
    assert try_folder(kind, sound[kind]) == ("sound", "")


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_folder_is_sound_or_refused(sound, tmp_path, kind):
    faults = {}
    for seed in range(SEEDS):
        what = damaged(sound[kind], tmp_path / "broken", seed)
        verdict, text = try_folder(kind, tmp_path / "broken")
        if verdict not in GOOD:
            faults[seed] = what, verdict, text
    assert not faults


# --- faults found by attack -------------------------------------------------------------------------------------------


def edit(path: Path, way: str, value) -> None:
    """Set the value at "a.b" of a JSON or YAML file."""
    read, write = (json.loads, json.dumps) if path.suffix == ".json" else (yaml.safe_load, yaml.safe_dump)
    node = everything = read(path.read_text())
    *keys, last = way.split(".")
    for key in keys:
        node = node[key]
    node[last] = value
    path.write_text(write(everything))


NAN, INF = float("nan"), float("inf")
VALUES = [
    # kind, file, key, value, what the refusal says of the range
    ("world", "spec.yaml", "sampling_steps", 10**9, "from 1 to 100"),
    ("world", "spec.yaml", "sampling_steps", 1e9, "from 1 to 100"),
    ("world", "spec.yaml", "fps", 0, "above 0"),
    ("world", "spec.yaml", "fps", -1, "above 0"),
    ("world", "spec.yaml", "fps", NAN, "finite"),
    ("world", "spec.yaml", "fps", True, "above 0"),
    ("world", "spec.yaml", "horizon", -5, "from 1"),
    ("world", "spec.yaml", "horizon", 10**30, "from 1"),
    ("world", "spec.yaml", "frame_size", [10**6, 10**6], "multiple of 4"),
    ("world", "spec.yaml", "frame_size", [16, 15], "multiple of 4"),
    ("world", "spec.yaml", "frame_size", 16, "list"),
    ("world", "spec.yaml", "action_low", ["-1", 0], "number"),
    ("world", "spec.yaml", "action_low", [3, 0], "lower"),
    ("world", "spec.yaml", "action_high", [1e39, 1], "number"),
    ("world", "spec.yaml", "name", 3, "text"),
    ("world", "spec.yaml", "guidance_scale", INF, "finite"),
    ("world", "spec.yaml", "guidance_scale", 2, "condition"),
    ("world", "spec.yaml", "context_frames", 2**31, "from 1"),
    ("world", "spec.yaml", "context_frames", 3, "disagree"),
    ("world", "spec.yaml", "latent_shape", [4, 4, 0], "from 1"),
    ("world", "spec.yaml", "success_threshold", NAN, "finite"),
    ("world", "spec.yaml", "reward_components", ["a", "a"], "name of its own"),
    ("world", "spec.yaml", "format_version", 2, "format_version"),
    ("world", "spec.yaml", "speed", 1, "unknown"),
    ("world", "tokenizer/config.json", "decoder_depth", 10**7, "from 1 to 64"),
    ("world", "tokenizer/config.json", "decoder_depth", 40, "lacks"),
    ("world", "tokenizer/config.json", "decoder_width", 16384, "shape"),
    ("world", "tokenizer/config.json", "latent_channels", 0, "from 1"),
    ("world", "dynamics/config.json", "widths", [], "list of 1"),
    ("world", "dynamics/config.json", "widths", [8] * 10**5, "list of 1"),
    ("world", "dynamics/config.json", "lags", [0, 1], "from 1"),
    ("world", "dynamics/config.json", "lags", [2], "lags"),
    ("world", "dynamics/config.json", "grid", [0, 4], "from 1"),
    ("world", "dynamics/config.json", "grid", [4], "2"),
    ("world", "dynamics/config.json", "pose_activation", "evil", "'relu'"),
    ("world", "dynamics/config.json", "conditioning", "film+film", "conditioning"),
    ("world", "dynamics/config.json", "action_angles", [7], "angles"),
    ("world", "dynamics/config.json", "_class_name", ["UNetDynamics"], "_class_name"),
    ("world", "heads/config.json", "grid", [8, 8], "shape"),
    ("world", "heads/config.json", "hidden", 2.0, "whole"),
    ("world", "uncertainty/config.json", "bins", 1, "from 2"),
    ("world", "uncertainty/config.json", "grid", [5, 4], "disagree"),
    ("world", "calibration.json", "alpha", 0, "above 0"),
    ("world", "calibration.json", "trust", [], "rows"),
    ("world", "calibration.json", "trust", [[0, -1]], "rows"),
    ("world", "calibration.json", "factor", NAN, "finite"),
    ("agent", "config.yml", "policy_kwargs.net_arch", [64] * 10**5, "MB"),
    ("agent", "config.yml", "policy_kwargs.net_arch", [64] * 1000, "list of 0 to 64"),
    ("agent", "config.yml", "policy_kwargs.net_arch", [10**9], "list of 0 to 64"),
    ("agent", "config.yml", "policy_kwargs.net_arch", [16384, 16384], "does not fit"),
    ("agent", "config.yml", "policy_kwargs.optimizer_class", "os.system", "unknown"),
    ("agent", "config.yml", "policy_kwargs.log_std_init", INF, "number"),
    ("agent", "config.yml", "action_space.shape", [10**6, 10**6], "from 0 to 4,096"),
    ("agent", "config.yml", "action_space.low", [NAN], "numbers"),
    ("agent", "config.yml", "action_space.high", [-2], "low"),
    ("agent", "config.yml", "observation_space.spaces.pixels.shape", [4096, 4096, 3], "16,777,216"),
    ("agent", "config.yml", "observation_space.spaces.pixels.dtype", "object", "'uint8'"),
    ("agent", "config.yml", "observation_space.spaces", {}, "config.yml"),
    ("agent", "config.yml", "frame_stack", -1, "from 1"),
    ("agent", "config.yml", "algo", ["ppo"], "text"),
    ("agent", "config.yml", "hyperparameters.learning_rate", "lin_x", "lin_ and a number"),
    ("planner", "config.yml", "search.iterations", 10**12, "from 1 to 1,000"),
    ("planner", "config.yml", "search.candidates", 10**9, "from 2"),
    ("planner", "config.yml", "search.horizon", 0, "from 1"),
    ("planner", "config.yml", "search.spread", NAN, "above 0"),
    ("planner", "config.yml", "sampling_steps", 10**9, "from 1 to 100"),
    ("planner", "config.yml", "seed", -1, "from 0"),
    ("planner", "config.yml", "uncertainty_penalty", INF, "from 0"),
    ("planner", "config.yml", "search", [], "mapping"),
    ("planner", "config.yml", "env_kwargs", {"world": "/"}, "spec.yaml is missing"),
    ("dataset", "meta/info.json", "fps", NAN, "fps"),
    ("dataset", "meta/info.json", "fps", -1, "fps"),
    ("dataset", "meta/info.json", "total_episodes", 10**13, "count"),
    ("dataset", "meta/info.json", "codebase_version", [], "codebase_version"),
]


@pytest.mark.parametrize("kind, file, key, value, says", VALUES, ids=lambda value: str(value)[:30])
def test_a_value_out_of_its_range_is_refused_with_file_key_value_and_range(broken, kind, file, key, value, says):
    folder = broken(kind)
    edit(folder / file, key, value)
    verdict, text = try_folder(kind, folder)
    assert verdict == "refused", text
    assert says in text and Path(file).name in text or "disagree" in text, text


BOMBS = {
    "laughs": "a: &a [x, x]\n" + "\n".join(f"{n}: &{n} [*{m}, *{m}, *{m}]" for m, n in zip("abcdefgh", "bcdefghi")),
    "deep": "[" * 100_000,
    "tag": "!!python/object/apply:os.system [exit]",
    "twice": "name: a\nname: b\n",
    "date": "name: 2020-01-01",
    "no text": b"\xff\xfe\x00",
    "nothing": "",
    "large": "a: " + "x" * 10**7,
    "keys": "{1: 2}",
    "words": "- a",
}


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("kind, file", [("world", "spec.yaml"), ("world", "tokenizer/config.json")])
def test_bombs_are_refused(broken, kind, file, bomb):
    folder, data = broken(kind), BOMBS[bomb]
    (folder / file).write_bytes(data if isinstance(data, bytes) else data.encode())
    verdict, text = try_folder(kind, folder)
    assert verdict == "refused" and Path(file).name in text, text


def weights(folder: Path, part: str, name: str, change) -> None:
    path = folder / part
    tensors = load_file(path)
    tensors[name] = change(tensors[name].copy())
    save_file(tensors, path)


def filled(value):
    def fill(array):
        array.reshape(-1)[-1] = value
        return array

    return fill


DYNAMICS = "dynamics/diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize(
    "kind, part, name, change, says",
    [
        ("world", DYNAMICS, "out.bias", filled(NAN), "NaN"),
        ("world", DYNAMICS, "out.bias", filled(-INF), "infinity"),
        ("world", DYNAMICS, "out.bias", lambda a: a.astype(np.int64), "I64"),
        ("world", DYNAMICS, "out.bias", lambda a: np.concatenate([a, a]), "shape"),
        ("world", DYNAMICS, "more", None, "more"),
        ("world", "starts.safetensors", "proprioception", filled(NAN), "proprioception of clip 7"),
        ("world", "starts.safetensors", "proprioception", lambda a: a[:3], "proprioception has shape"),
        ("world", "starts.safetensors", "frames_shape", lambda a: a * 0, "expected 1 to"),
        ("world", "starts.safetensors", "frames_shape", lambda a: np.array([16, 16, 1, 8]), "actions has shape"),
        ("world", "starts.safetensors", "frames_shape", lambda a: np.array([8, 1, 2**40, 16]), "pixels at most"),
        ("world", "starts.safetensors", "frames_shape", lambda a: np.array([8, 1, 4096, 4096]), "cannot hold"),
        ("world", "starts.safetensors", "frames_png", lambda a: a[:100], "damaged"),
        ("world", "starts.safetensors", "t", filled(-1), "t holds"),
        ("world", "starts.safetensors", "episode", lambda a: a.astype(np.float32), "F32"),
        ("agent", "policy.safetensors", "action_net.bias", filled(NAN), "NaN"),
        ("agent", "policy.safetensors", "action_net.bias", lambda a: a.astype(np.int64), "I64"),
        ("agent", "policy.safetensors", "log_std", lambda a: a[:1], "shape"),
    ],
)
def test_tensors_are_checked(broken, kind, part, name, change, says):
    folder = broken(kind)
    if change is None:
        save_file(load_file(folder / part) | {name: np.zeros(3, np.float32)}, folder / part)
    else:
        weights(folder, part, name, change)
    verdict, text = try_folder(kind, folder)
    assert verdict == "refused" and says in text and Path(part).name in text, text


def test_a_head_that_promises_gigabytes_allocates_nothing(broken):
    folder = broken("world")
    head = json.dumps({"out.bias": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    (folder / DYNAMICS).write_bytes(struct.pack("<Q", len(head)) + head)
    with open(folder / DYNAMICS, "r+b") as file:
        file.truncate(2**42 + 8 + len(head))  # a sparse file, true to its head
    verdict, text = try_folder("world", folder)
    assert verdict == "refused" and "does not fit" in text, text


def test_weights_that_blow_up_are_told(broken):
    folder = broken("world")
    weights(folder, DYNAMICS, "out.weight", lambda a: a * 0 + np.float32(3e38))
    verdict, text = try_folder("world", folder)
    assert verdict == "refused" and "not finite" in text, text
    agent = broken("agent")
    weights(agent, "policy.safetensors", "mlp_extractor.policy_net.0.weight", lambda a: a * 0 + np.float32(3e38))
    assert try_folder("agent", agent)[0] in GOOD


def test_links_to_nowhere_and_round_do_not_matter(broken):
    folder = broken("world")
    for name, to in (("nowhere", "/no/such/file"), ("round", "."), ("disk", "/")):
        os.symlink(to, folder / name)
    assert try_folder("world", folder) == ("sound", "")


@pytest.mark.parametrize("where", ["/", "/proc", os.curdir])
def test_a_folder_that_is_no_world_is_not_walked(monkeypatch, where):
    from wm_gym.engine.shared import load_world
    from wm_gym.worlds.world import digest_of_world

    def walk(*args):
        raise AssertionError("it walks the disk")

    monkeypatch.setattr(Path, "rglob", walk)
    for load in (load_world, digest_of_world):
        with pytest.raises(FileNotFoundError, match=re.escape("spec.yaml is missing")):
            load(where)


def test_a_changed_world_is_read_again(broken):
    from wm_gym.engine.shared import load_world

    folder = broken("world")
    world = load_world(folder)
    assert load_world(folder) is world
    (folder / "README.md").write_text("a card")
    assert load_world(folder) is world
    (folder / "calibration.json").unlink()
    assert load_world(folder).calibration is None
    edit(folder / "spec.yaml", "horizon", 3)
    assert load_world(folder).spec.horizon == 3


# --- the bank of starts -----------------------------------------------------------------------------------------------


def bank(n: int, t: int, h: int, w: int) -> StartBank:
    frames = np.arange(n, dtype=np.uint8)[:, None, None, None, None] + np.zeros((n, t, h, w, 3), np.uint8)
    return StartBank(
        frames,
        np.zeros((n, t - 1, 2), np.float32),
        np.zeros((n, t, 1), np.float32),
        np.arange(n),
        np.zeros(n, np.int64),
    )


def test_a_bank_larger_than_pillow_likes_is_read_again(tmp_path, monkeypatch):
    import wm_gym.worlds.starts

    made = bank(7, 2, 16, 16)
    monkeypatch.setattr(wm_gym.worlds.starts, "STRIP", 1100)
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 1200)  # twice as many are an error to it
    for one_strip, strips in ((3584, 1), (3583, 4)):
        monkeypatch.setattr(wm_gym.worlds.starts, "ONE_STRIP", one_strip)
        made.save(tmp_path)
        assert sum(name.startswith("frames_png") for name in load_file(tmp_path / "starts.safetensors")) == strips
        assert np.array_equal(StartBank.load(tmp_path).frames, made.frames)


def test_a_bank_that_cannot_be_loaded_is_not_saved(tmp_path):
    made = bank(2, 1, 8, 8)
    made.proprioception[1] = np.nan
    with pytest.raises(ValueError, match="proprioception of clip 1 holds NaN"):
        made.save(tmp_path)
    made = bank(1, 1, 8, 8)
    made.frames = np.broadcast_to(made.frames[:, :, :1, :1], (10**5, 1, 4096, 4096, 3))
    with pytest.raises(ValueError, match="pixels at most"):
        made.save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_spec_that_cannot_be_loaded_is_not_saved(sound, tmp_path):
    from wm_gym.worlds.spec import WorldSpec

    spec = WorldSpec.load(sound["world"])
    spec.fps = 0
    with pytest.raises(ValueError, match="fps is 0, expected a number above 0"):
        spec.save(tmp_path)
