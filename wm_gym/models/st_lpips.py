"""How far apart do two pictures look? Shift-tolerant LPIPS on AlexNet, with its published weights.

Ghildyal and Liu 2022, "Shift-tolerant Perceptual Similarity Metric": LPIPS (Zhang et al. 2018) whose AlexNet has stride
1 in its first convolution and blurs before each subsampling, so that a shift by a pixel hardly counts. It is not the
canonical LPIPS: numbers compare with its own only. PyPI's `stlpips-pytorch` (BSD) carries the trunk and the heads.
`python -m wm_gym.models.st_lpips` puts them into the cache.
"""

import io
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wm_gym.models.published import Published, keep, load

WIDTHS, KERNELS, PADDING = (64, 192, 384, 256, 256), (11, 5, 3, 3, 3), (2, 2, 1, 1, 1)
SMALLEST_SIDE = 21
"""Below it the third blur has less to reflect than its margin."""
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class STLPIPS(nn.Module):
    """d = sum_l mean_hw sum_c w_lc (a_lc - b_lc)^2, a and b activations of layer l, of length 1 over channels c.

    Pictures float32 [B, 3, H, W] in [-1, 1], sides >= 21, twice -> [B], >= 0. Inference only.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(c_in, c_out, kernel, padding=padding)
            for c_in, c_out, kernel, padding in zip((3, *WIDTHS), WIDTHS, KERNELS, PADDING)
        )
        self.heads = nn.ParameterList(nn.Parameter(torch.zeros(c, 1, 1)) for c in WIDTHS)
        for name, values in (("shift", SHIFT), ("scale", SCALE)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)
        self.requires_grad_(False).eval()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """The distances [B] of pictures; ValueError for others than are expected."""
        if a.shape != b.shape or a.ndim != 4 or a.shape[1] != 3 or min(a.shape[2:]) < SMALLEST_SIDE:
            raise ValueError(
                f"pictures are {list(a.shape)} and {list(b.shape)}; expected [B, 3, H, W] twice, of one "
                f"shape, with sides of at least {SMALLEST_SIDE}"
            )
        pairs = zip(self.heads, self.activations(a), self.activations(b))
        layers = [(head * (x - y) ** 2).sum(1).mean((1, 2)) for head, x, y in pairs]
        return sum(layers[1:], start=layers[0])

    def activations(self, x: Tensor) -> list[Tensor]:
        """The activations of each layer, divided by their length over channels."""
        x, found = (x - self.shift) / self.scale, []
        for layer, convolution in enumerate(self.convolutions):
            if layer in (1, 2):
                x = blurred_half(F.max_pool2d(x, 3, 1))
            x = convolution(x)
            x = F.relu(blurred_half(x) if layer == 0 else x)
            found.append(x / (x.norm(dim=1, keepdim=True) + 1e-10))
        return found


def blurred_half(x: Tensor) -> Tensor:
    """Every other pixel of x [B, C, H, W] after a binomial 3 x 3 blur, two reflected pixels around (Zhang 2019)."""
    row = torch.tensor([0.25, 0.5, 0.25], dtype=x.dtype, device=x.device)
    kernel = torch.outer(row, row).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel, stride=2, groups=x.shape[1])


def load_st_lpips(source: str | Path | None = None, download: bool = False) -> STLPIPS:
    """The network with its published weights, from the cache, `source` or pip; errors as of `published.load`."""
    network = STLPIPS()
    network.load_state_dict(load(WEIGHTS, source, download))
    return network


def from_checkpoint(content: bytes) -> dict[str, Tensor]:
    """stlpips-pytorch's checkpoint -> state dict of `STLPIPS`; convolutions come in the order of their layers."""
    published = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    tensors: dict[str, Tensor] = {}
    for key in ("weight", "bias"):
        layers = [value for name, value in published.items() if name.startswith("net.") and name.endswith(f".{key}")]
        tensors |= {f"convolutions.{i}.{key}": value for i, value in enumerate(layers)}
    heads = {f"heads.{i}": published[f"lin{i}.model.1.weight"].reshape(-1, 1, 1) for i in range(len(WIDTHS))}
    return {name: value.contiguous() for name, value in (tensors | heads).items()}


WEIGHTS = Published(
    name="st_lpips",
    module="wm_gym.models.st_lpips",
    requirement="stlpips-pytorch==0.0.2",
    archive_sha256="a412bf901a97c942b37af57c7c63b6e5d1aebfe8d1dfc17853d4b2f878630645",
    member="weights/vST0.0/alex_shift_tolerant.pth",
    member_sha256="b356b382f96010f77d085ee8343ecd9fd322d0a56e8de2b2d0549fafcad8b9ee",
    convert=from_checkpoint,
)

if __name__ == "__main__":
    keep(WEIGHTS)
