"""Which back-end runs the compiled step of a world?"""

from __future__ import annotations

import importlib.util

from wm_gym.engine.base import Engine

BACKENDS = ("torch", "openvino")


def make_engine(world, backend: str = "auto", device: str = "auto", decode: bool = True) -> Engine:
    """An engine for a loaded World.

    backend: "auto", "torch" (any device) or "openvino" (CPU). "auto" takes OpenVINO on a CPU where it is installed,
    else torch. device: "auto", "cpu" or a torch CUDA device. decode=False skips the frame in `step`.
    Raises ValueError for an unknown back-end, ImportError where the back-end is not installed.
    """
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() and backend != "openvino" else "cpu"
    if device != "cpu" and not torch.cuda.is_available():
        raise ValueError(f"device={device!r} asked for, but torch sees no CUDA device; use device='cpu'")
    has_openvino = importlib.util.find_spec("openvino") is not None
    if backend == "auto":
        backend = "openvino" if device == "cpu" and has_openvino else "torch"
    if backend == "torch":
        from wm_gym.engine.torch import TorchEngine
        return TorchEngine(world, device, decode)
    if backend == "openvino":
        if not has_openvino:
            raise ImportError("backend='openvino' needs the openvino package: pip install openvino")
        if device != "cpu":
            raise ValueError(f"backend='openvino' runs on device='cpu', not {device!r}")
        from wm_gym.engine.openvino import OpenVINOEngine
        return OpenVINOEngine(world, decode)
    raise ValueError(f"backend={backend!r} is unknown; choose 'auto' or one of {BACKENDS}")
