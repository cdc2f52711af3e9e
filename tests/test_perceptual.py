"""Are PSNR, SSIM and ST-LPIPS those of their definitions, horizon by horizon? Against numpy, SciPy and the package."""

import zipfile
from io import BytesIO

import numpy as np
import pytest
import torch
from published import archive_of, noisy, push_clips
from scipy.ndimage import gaussian_filter

from wm_gym.evaluation.metrics.perceptual import perceptual
from wm_gym.models.st_lpips import STLPIPS, WEIGHTS, load_st_lpips


@pytest.fixture(scope="module")
def network():
    return load_st_lpips(archive_of(WEIGHTS))


@pytest.fixture(scope="module")
def published():
    """The package's tensors under their published names."""
    with zipfile.ZipFile(archive_of(WEIGHTS)) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(WEIGHTS.member)]
        tensors = torch.load(BytesIO(archive.read(name)), "cpu", weights_only=True)
    return {name: tensor.double().numpy() for name, tensor in tensors.items()}


@pytest.fixture(scope="module")
def clips():
    return push_clips(3, 8, seed=0)


def pictures(side, seed=0, n=2):
    rng = np.random.default_rng(seed)
    a = rng.uniform(-1, 1, (n, 3, *side))
    return a.astype(np.float32), np.clip(a + rng.normal(0, 0.3, a.shape), -1, 1).astype(np.float32)


# ---------------------------------------------------------------- ST-LPIPS


def windows(x, k, stride=1):
    return np.lib.stride_tricks.sliding_window_view(x, (k, k), (-2, -1))[..., ::stride, ::stride, :, :]


def padded(x, n, mode):
    return np.pad(x, ((0, 0), (n, n), (n, n)), mode)


def activations_by_numpy(x, published):
    """The paper's AlexNet of one picture [3, H, W], with sums over windows, under the package's names of layers."""

    def blur(x, name):
        kernels = published[f"{name}.filt"][:, 0]
        return np.einsum("chwij,cij->chw", windows(padded(x, 2, "reflect"), 3, 2), kernels)

    def convolution(x, name, padding):
        kernels, bias = published[f"{name}.weight"], published[f"{name}.bias"]
        patches = windows(padded(x, padding, "constant"), kernels.shape[-1])
        return np.tensordot(kernels, patches, ([1, 2, 3], [0, 3, 4])) + bias[:, None, None]

    x = (x - published["scaling_layer.shift"][0]) / published["scaling_layer.scale"][0]
    layers = [np.maximum(blur(convolution(x, "net.slice1.0", 2), "net.slice1.1"), 0)]
    for name, blurred, padding in (
        ("net.slice2.5", "net.slice2.4", 2),
        ("net.slice3.9", "net.slice3.8", 1),
        ("net.slice4.11", None, 1),
        ("net.slice5.13", None, 1),
    ):
        x = layers[-1]
        if blurred:
            x = blur(windows(x, 3).max((-2, -1)), blurred)
        layers.append(np.maximum(convolution(x, name, padding), 0))
    return layers


def distance_by_numpy(a, b, published):
    total = 0
    for layer, (x, y) in enumerate(zip(*(activations_by_numpy(p.astype(float), published) for p in (a, b)))):
        x, y = (z / (np.sqrt((z**2).sum(0)) + 1e-10) for z in (x, y))
        total += (published[f"lin{layer}.model.1.weight"][0] * (x - y) ** 2).sum(0).mean()
    return total


@pytest.mark.parametrize("side", [(21, 21), (64, 64), (33, 46)])
def test_st_lpips_is_its_definition_in_numpy(network, published, side):
    a, b = pictures(side)
    with torch.inference_mode():
        found = network(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    assert (found > 1e-3).all()
    assert found == pytest.approx([distance_by_numpy(x, y, published) for x, y in zip(a, b)], rel=1e-4)


def test_st_lpips_is_the_packages_own(network):
    """In an environment that the package can be imported in: torchvision, torchsummary, IPython and its own folder."""
    package = pytest.importorskip(
        "stlpips_pytorch.stlpips", reason="stlpips-pytorch is what is compared with", exc_type=ImportError
    )
    theirs = package.LPIPS(net="alex", variant="shift_tolerant", verbose=False)
    for side in ((21, 21), (64, 64), (65, 78)):
        a, b = (torch.from_numpy(x) for x in pictures(side))
        with torch.inference_mode():
            assert network(a, b).numpy() == pytest.approx(theirs(a, b).flatten().numpy(), rel=1e-5)


def test_a_shift_by_a_pixel_looks_less_far_than_noise_of_the_same_error(network, clips):
    truth = clips[:, 1:, :, 1:]
    shifted = clips[:, 1:, :, :-1]
    mse = ((shifted.astype(float) - truth) ** 2).mean()
    off, same_error = (perceptual(made, truth, (1, 7), network) for made in (shifted, noisy(truth, mse**0.5)))
    for t in ("at_1", "at_7"):
        assert off[t].st_lpips < same_error[t].st_lpips / 2, (off, same_error)


def test_pictures_of_other_shapes_are_refused(network):
    for a, b in (((1, 3, 20, 64), (1, 3, 20, 64)), ((1, 3, 64, 64), (2, 3, 64, 64)), ((1, 64, 64, 3),) * 2):
        with pytest.raises(ValueError, match=r"expected \[B, 3, H, W\] twice, of one shape, with sides of at least 21"):
            network(torch.zeros(a), torch.zeros(b))


# ---------------------------------------------------------------- horizons


def ssim_in_words(a, b):
    """Wang et al. 2004 of frames [H, W, 3] in [0, 1]: Gaussian windows with sigma 1.5, reflected borders."""

    def smooth(x):
        return gaussian_filter(x, (1.5, 1.5, 0), mode="mirror", radius=(5, 5, 0))

    mean_a, mean_b = smooth(a), smooth(b)
    var_a, var_b, cov = smooth(a * a) - mean_a**2, smooth(b * b) - mean_b**2, smooth(a * b) - mean_a * mean_b
    value = (2 * mean_a * mean_b + 0.01**2) * (2 * cov + 0.03**2)
    return (value / ((mean_a**2 + mean_b**2 + 0.01**2) * (var_a + var_b + 0.03**2))).mean()


def test_each_horizon_is_the_mean_over_videos_of_its_own_frames(network, clips):
    made = clips.copy()
    made[:, 4:] = noisy(made[:, 4:], 25)
    result = perceptual(made, clips, (4, 5, 8), network, batch=2)
    assert list(result) == ["at_4", "at_5", "at_8"]
    assert vars(result["at_4"]) == {"psnr_db": pytest.approx(68.13, abs=0.01), "ssim": pytest.approx(1), "st_lpips": 0}
    for t in (5, 8):
        a, b = made[:, t - 1], clips[:, t - 1]
        errors = ((a / 255 - b / 255) ** 2).mean((1, 2, 3))
        assert result[f"at_{t}"].psnr_db == pytest.approx((-10 * np.log10(errors)).mean(), abs=1e-4)
        assert result[f"at_{t}"].ssim == pytest.approx(
            np.mean([ssim_in_words(x / 255, y / 255) for x, y in zip(a, b)]), abs=1e-6
        )


def test_worse_frames_of_real_pushes_are_worse_in_each_number(network, clips):
    light, strong, frozen = (
        perceptual(made, clips, (2, 8), network)
        for made in (noisy(clips, 3), noisy(clips, 40), clips[:, :1].repeat(8, 1))
    )
    for t in ("at_2", "at_8"):
        assert light[t].psnr_db > strong[t].psnr_db and light[t].ssim > strong[t].ssim
        assert 0 < 10 * light[t].st_lpips < strong[t].st_lpips
    assert frozen["at_2"].st_lpips < frozen["at_8"].st_lpips > 2 * light["at_8"].st_lpips
    assert frozen["at_2"].ssim > frozen["at_8"].ssim and frozen["at_2"].psnr_db > frozen["at_8"].psnr_db


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda v: perceptual(v, v[:, 1:], (1,), STLPIPS()), r"\[2, 3, 32, 32, 3\] and uint8 \[2, 2, 32, 32, 3\]"),
        (lambda v: perceptual(v / 255, v / 255, (1,), STLPIPS()), "frames are float64"),
        (lambda v: perceptual(v[:, :, :20], v[:, :, :20], (1,), STLPIPS()), "sides of at least 21"),
        (lambda v: perceptual(v[:0], v[:0], (1,), STLPIPS()), r"\[0, 3, 32, 32, 3\]"),
        (lambda v: perceptual(v, v, (0, 1), STLPIPS()), r"horizons \(0, 1\); expected steps from 1 to the videos' 3"),
        (lambda v: perceptual(v, v, (4,), STLPIPS()), "from 1 to the videos' 3"),
    ],
)
def test_what_is_no_pair_of_videos_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call(np.zeros((2, 3, 32, 32, 3), np.uint8))


def test_without_weights_the_next_command_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("WM_GYM_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="run: python -m wm_gym.models.st_lpips"):
        perceptual(*np.zeros((2, 2, 3, 32, 32, 3), np.uint8), (1,))
