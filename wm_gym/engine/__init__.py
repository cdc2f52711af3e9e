"""Which back-end runs the compiled step of a world?"""

from __future__ import annotations

import importlib.util
import logging
import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wm_gym.engine.base import Engine
    from wm_gym.worlds.world import World

LOG = logging.getLogger("wm_gym")


@dataclass(frozen=True)
class Backend:
    """What a back-end is and needs."""

    engine: str
    """The class of its engine, as `module:Class` of this package."""
    runs_on: str
    """"cpu", "cuda" or "any"."""
    packages: tuple[str, ...]
    """Any one of them must be installed."""
    install: str
    """What pip installs for it."""
    precisions: tuple[str, ...]
    """The first is what "auto" takes, unless the engine knows better."""


KNOWN = {
    "torch": Backend("torch:TorchEngine", "any", ("torch",), "torch", ("fp32", "bf16")),
    "openvino": Backend("openvino:OpenVINOEngine", "cpu", ("openvino",), "openvino", ("fp32", "bf16")),
    "onnxruntime": Backend("onnxruntime:ONNXRuntimeEngine", "cpu", ("onnxruntime",), "'wm-gym[onnx]'", ("fp32",)),
    "torch-cuda": Backend("torch_cuda:TorchCudaEngine", "cuda", ("torch",), "torch", ("bf16", "fp16", "fp32")),
    "tensorrt": Backend(
        "tensorrt:TensorRTEngine", "cuda", ("tensorrt", "tensorrt_rtx"), "'wm-gym[tensorrt]'", ("bf16", "fp16")
    ),
}
BACKENDS, PRECISIONS = tuple(KNOWN), ("fp32", "bf16", "fp16")


def make_engine(
    world: World, backend: str = "auto", device: str = "auto", decode: bool = True, precision: str = "auto"
) -> Engine:
    """An engine for a loaded World.

    Args:
        world: Which.
        backend: One of `BACKENDS`, or "auto": torch-cuda on a GPU, OpenVINO on a CPU (torch where OpenVINO is not
            installed); it logs which and why.
        device: "auto", "cpu" or a torch CUDA device.
        decode: Whether `step` makes the frame.
        precision: "fp32", "bf16", "fp16" or "auto": bf16 on a GPU, and with OpenVINO where the CPU computes in it;
            else fp32.

    Raises:
        ValueError: For what is unknown or does not go together.
        ImportError: Where the back-end's package is not installed.
    """
    import torch

    if backend not in ("auto", *BACKENDS):
        raise ValueError(f"backend={backend!r} is unknown; choose 'auto' or one of {BACKENDS}")
    if device == "auto":
        on_gpu = backend == "auto" or KNOWN[backend].runs_on != "cpu"
        device = "cuda" if on_gpu and torch.cuda.is_available() else "cpu"
    if device != "cpu" and not torch.cuda.is_available():
        raise ValueError(f"device={device!r} asked for, but torch sees no CUDA device; use device='cpu'")
    if backend == "auto" and world.dynamics.exports:
        backend, why = _best(device)
        LOG.info("backend='auto' takes %s: %s", backend, why)
    if not world.dynamics.exports:
        if backend not in ("auto", "torch"):
            raise ValueError(f"backend={backend!r} does not run a world on a pretrained video model; use 'torch'")
        backend = "torch"
    needs = KNOWN[backend]
    if needs.runs_on == "cuda" and device == "cpu":
        raise ValueError(
            f"backend={backend!r} needs a CUDA device and torch sees none; use backend='auto'"
            if not torch.cuda.is_available()
            else f"backend={backend!r} runs on a CUDA device, not on device='cpu'"
        )
    if needs.runs_on == "cpu" and device != "cpu":
        raise ValueError(f"backend={backend!r} runs on device='cpu', not {device!r}")
    if not any(map(importlib.util.find_spec, needs.packages)):
        raise ImportError(f"backend={backend!r} needs the {needs.packages[0]} package: pip install {needs.install}")
    if precision not in ("auto", *PRECISIONS):
        raise ValueError(f"precision={precision!r} is unknown; choose 'auto' or one of {PRECISIONS}")
    if precision not in ("auto", *needs.precisions):
        raise ValueError(f"backend={backend!r} does not run in {precision}; choose one of {needs.precisions}")
    engine = pkgutil.resolve_name(f"{__name__}.{needs.engine}")
    return engine(world, device, decode, engine.best_precision() if precision == "auto" else precision)


def _best(device: str) -> tuple[str, str]:
    """The back-end for a device, and why."""
    if device != "cpu":
        return "torch-cuda", f"there is a CUDA device ({device})"
    if importlib.util.find_spec("openvino"):
        return "openvino", "it is installed and the fastest measured on a CPU"
    return "torch", "there is no CUDA device and openvino is not installed"
