"""Does every back-end compute the same step, and do compiled artefacts survive what happens to files?"""

import importlib.util
import threading

import numpy as np
import pytest
import torch
from tiny_world import make_world

from wm_gym.engine import KNOWN, make_engine
from wm_gym.engine.artefacts import artefact
from wm_gym.engine.base import step_inputs
from wm_gym.engine.onnx import step_names
from wm_gym.engine.openvino import OpenVINOEngine

BATCH = 3


def one_step(world, backend: str, decode: bool = True, precision: str = "fp32") -> dict[str, np.ndarray]:
    """Everything that a step of three slots gives, from given noise."""
    engine, rng = make_engine(world, backend, "cpu", decode, precision), np.random.default_rng(0)
    state = engine.encode(world.starts.frames[:BATCH], world.starts.proprioception[:BATCH])
    action = torch.from_numpy(rng.uniform(-1, 1, (BATCH, 3)).astype(np.float32))
    noise = torch.from_numpy(rng.normal(size=(BATCH, *engine.noise_shape)).astype(np.float32))
    state, out = engine.step(state, action, noise)
    return {key: value.numpy() for key, value in (state | out).items()}


@pytest.mark.parametrize("dynamics", ["unet", "dit"])
@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("decode", [True, False])
def test_a_step_is_within_1e_4_of_eager(dynamics, backend, decode):
    world = make_world(dynamics=dynamics)
    eager, compiled = one_step(world, "torch", decode), one_step(world, backend, decode)
    assert eager.keys() == compiled.keys() and ("frame" in eager) is decode
    for key, value in eager.items():
        limit = 1 if key == "frame" else 1e-4
        assert compiled[key].dtype == value.dtype
        np.testing.assert_allclose(compiled[key].astype(np.float64), value.astype(np.float64), rtol=0, atol=limit)


def test_bf16_stays_near():
    if OpenVINOEngine.best_precision() != "bf16":
        pytest.skip("OpenVINO rounds nothing on a CPU that does not compute in bf16")
    world = make_world()
    exact, rounded = one_step(world, "openvino"), one_step(world, "openvino", precision="bf16")
    difference = np.abs(exact["latent"] - rounded["latent"])
    assert 0 < difference.mean() < 0.02 * np.abs(exact["latent"]).mean()
    assert np.abs(exact["frame"].astype(int) - rounded["frame"]).mean() < 2


def test_bf16_integrates_the_pose_in_fp32():
    world = make_world()
    torch.nn.init.normal_(world.dynamics.pose_net[-1].weight, std=0.02, generator=torch.Generator().manual_seed(0))
    exact, rounded = one_step(world, "torch"), one_step(world, "openvino", precision="bf16")
    moved = np.abs(exact["proprioception"] - one_step(make_world(), "torch")["proprioception"])
    assert moved.max() > 1e-2
    np.testing.assert_allclose(rounded["proprioception"], exact["proprioception"], rtol=0, atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="running an engine needs a CUDA device")
@pytest.mark.parametrize("dynamics", ["unet", "dit"])
@pytest.mark.parametrize(
    "backend",
    [
        "torch-cuda",
        pytest.param(
            "tensorrt",
            marks=pytest.mark.skipif(
                not any(map(importlib.util.find_spec, KNOWN["tensorrt"].packages)), reason="TensorRT is not installed"
            ),
        ),
    ],
)
def test_a_step_on_the_gpu_is_close_to_eager(dynamics, backend):
    world = make_world(dynamics=dynamics)
    inputs = [
        x if name == "slot" else torch.randn_like(x)
        for name, x in zip(step_names(world, True)[0], step_inputs(world, BATCH))
    ]
    eager, compiled = make_engine(world, "torch", "cpu"), make_engine(world, backend)
    for a, b in zip(
        eager.compile(len(inputs[0]))(*inputs), compiled.compile(len(inputs[0]))(*(x.cuda() for x in inputs))
    ):
        assert (a.float() - b.cpu().float()).abs().mean() < 0.02 * (1 if a.dtype != torch.uint8 else 255)


@pytest.mark.parametrize(
    "asked, error, words",
    [
        ({"backend": "tensorrt9"}, ValueError, "'tensorrt9' is unknown"),
        ({"precision": "fp8"}, ValueError, "precision='fp8' is unknown"),
        ({"backend": "onnxruntime", "precision": "bf16"}, ValueError, "does not run in bf16"),
        ({"backend": "torch-cuda", "device": "cpu"}, ValueError, "CUDA device"),
        ({"backend": "tensorrt", "device": "cpu"}, ValueError, "CUDA device"),
        ({"backend": "openvino", "device": "cuda"}, ValueError, "CUDA device|device='cpu'"),
    ],
)
def test_what_cannot_run_is_refused_by_name(asked, error, words):
    with pytest.raises(error, match=words):
        make_engine(make_world(), **asked)


@pytest.mark.parametrize(
    "backend, package, extra",
    [("openvino", "openvino", "pip install openvino"), ("onnxruntime", "onnxruntime", "wm-gym\\[onnx\\]")],
)
def test_what_is_not_installed_names_the_extra(monkeypatch, backend, package, extra):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else find(name))
    with pytest.raises(ImportError, match=extra):
        make_engine(make_world(), backend)
    if package == "openvino" and not torch.cuda.is_available():
        assert make_engine(make_world()).name == "torch"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WM_GYM_CACHE", str(tmp_path))
    return tmp_path / "engines"


def test_an_artefact_is_built_once_owner_only_and_anew_when_damaged(cache):
    built = []

    def build() -> bytes:
        built.append(1)
        return b"engine"

    key = {"backend": "onnx", "batch": 1}
    assert [artefact(key, build) for _ in range(3)] == [b"engine"] * 3 and len(built) == 1
    assert artefact(key | {"batch": 2}, build) == b"engine" and len(built) == 2
    for path in cache.iterdir():
        assert path.stat().st_mode & 0o077 == 0 and cache.stat().st_mode & 0o077 == 0
        path.write_bytes(path.read_bytes()[:-1])
    assert artefact(key, build) == b"engine" and len(built) == 3


def test_two_who_build_at_once_do_not_clash(cache):
    barrier, results = threading.Barrier(2), []

    def build() -> bytes:
        barrier.wait(5)
        return b"engine" * 1000

    threads = [threading.Thread(target=lambda: results.append(artefact({"backend": "onnx"}, build))) for _ in range(2)]
    [t.start() for t in threads], [t.join() for t in threads]
    assert results == [b"engine" * 1000] * 2
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("backend, parts", [("onnxruntime", 1), ("openvino", 2)])
def test_a_compiled_step_is_kept_for_the_weights_it_was_made_from(cache, backend, parts):
    steps = []
    for seed, kept in ((0, 1), (0, 1), (1, 2)):
        steps.append(one_step(make_world(seed=seed), backend))
        assert len(list(cache.iterdir())) == parts * kept
    np.testing.assert_array_equal(steps[0]["latent"], steps[1]["latent"])
    assert (steps[0]["latent"] != steps[2]["latent"]).any()
