"""Which back-end runs the compiled step of a world?"""

from __future__ import annotations

import importlib.util

from wm_gym.engine.base import Engine

BACKENDS = ("torch", "openvino", "onnxruntime")
INSTALL = {"openvino": "openvino", "onnxruntime": "'wm-gym[onnx]'"}  # what pip installs for those that run on the CPU only


def make_engine(world, backend: str = "auto", device: str = "auto", decode: bool = True) -> Engine:
    """An engine for a loaded World.

    backend: "auto", "torch" (any device), "openvino" or "onnxruntime" (CPU). "auto" takes OpenVINO on a CPU where it
    is installed, else torch. device: "auto", "cpu" or a torch CUDA device. decode=False skips the frame in `step`.
    Raises ValueError for an unknown back-end, ImportError where the back-end is not installed.
    """
    import torch

    if backend not in ("auto", *BACKENDS):
        raise ValueError(f"backend={backend!r} is unknown; choose 'auto' or one of {BACKENDS}")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() and backend not in INSTALL else "cpu"
    if device != "cpu" and not torch.cuda.is_available():
        raise ValueError(f"device={device!r} asked for, but torch sees no CUDA device; use device='cpu'")
    if backend == "auto":
        backend = "openvino" if device == "cpu" and importlib.util.find_spec("openvino") else "torch"
    if backend in INSTALL:
        if importlib.util.find_spec(backend) is None:
            raise ImportError(f"backend={backend!r} needs the {backend} package: pip install {INSTALL[backend]}")
        if device != "cpu":
            raise ValueError(f"backend={backend!r} runs on device='cpu', not {device!r}")
    if backend == "openvino":
        from wm_gym.engine.openvino import OpenVINOEngine
        return OpenVINOEngine(world, decode)
    if backend == "onnxruntime":
        from wm_gym.engine.onnxruntime import ONNXRuntimeEngine
        return ONNXRuntimeEngine(world, decode)
    from wm_gym.engine.torch import TorchEngine
    return TorchEngine(world, device, decode)
