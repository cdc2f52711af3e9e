"""TensorRT: the exported step built into one engine a batch size, captured in a CUDA graph."""

import importlib
import importlib.util
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from wm_gym.engine import KNOWN
from wm_gym.engine.artefacts import artefact
from wm_gym.engine.base import Engine, step_inputs
from wm_gym.engine.cuda_graph import CudaGraph
from wm_gym.engine.onnx import OPSET, export_step, step_names
from wm_gym.worlds.world import World

PACKAGES = KNOWN["tensorrt"].packages
"""One API in two packages: for data-centre GPUs (preferred) and for RTX GPUs."""


def import_tensorrt() -> ModuleType:
    """The first of `PACKAGES` that is installed; ImportError where none is."""
    for package in PACKAGES:
        if importlib.util.find_spec(package):
            return importlib.import_module(package)
    raise ImportError(
        f"TensorRT needs one of the packages {' and '.join(PACKAGES)}: pip install 'wm-gym[tensorrt]' "
        "(data-centre GPUs) or pip install tensorrt-rtx (RTX GPUs)"
    )


def parse_network(graph: bytes) -> tuple[Any, Any, Any]:
    """(builder, network, parser) of a serialized ONNX model; ValueError with the parser's words where it is refused.

    The network lives as long as its builder and parser do.
    """
    trt = import_tensorrt()
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(0)  # TensorRT 11 is always strongly typed: the graph's types are the engine's
    parser = trt.OnnxParser(network, builder.logger)
    if not parser.parse(graph):
        errors = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise ValueError(f"{trt.__name__} {trt.__version__} cannot parse this step: {errors}")
    return builder, network, parser


def build_engine(graph: bytes) -> bytes:
    """A serialized TensorRT engine of a serialized ONNX model. Needs no GPU with `tensorrt_rtx`."""
    builder, network, *_parser = parse_network(graph)
    engine = builder.build_serialized_network(network, builder.create_builder_config())
    if engine is None:
        raise RuntimeError("TensorRT could not build this step (its log says why); use backend='torch-cuda'")
    return bytes(engine)


class TensorRTEngine(Engine):
    """TensorRT on a CUDA device in "bf16" or "fp16"; a transformer's rings are updated in place.

    A batch size is exported, built and captured at its first use; engines are kept in the user's cache.
    """

    name = "tensorrt"

    def __init__(self, world: World, device: str = "cuda", decode: bool = True, precision: str = "bf16"):
        super().__init__(world, device, decode, precision)
        self._trt = import_tensorrt()
        self._runtime = self._trt.Runtime(self._trt.Logger(self._trt.Logger.ERROR))

    def _engine(self, batch: int) -> bytes:
        """The serialized engine of a batch size, from the cache where it is there."""
        made_from = {
            "backend": self._trt.__name__,
            "version": self._trt.__version__,
            "opset": OPSET,
            "gpu": torch.cuda.get_device_name(self.device),
            **self.made_from(batch),
        }
        return artefact(made_from, lambda: build_engine(export_step(self.world, batch, self.decode, self.precision)))

    def _build(self, batch: int) -> CudaGraph:
        engine = self._runtime.deserialize_cuda_engine(self._engine(batch))
        if engine is None:
            card = torch.cuda.get_device_name(self.device)
            raise RuntimeError(
                f"{self._trt.__name__} cannot run its engine on {card} (its log says why); use backend='torch-cuda'"
            )
        context = engine.create_execution_context()
        names, results = step_names(self.world, self.decode)
        buffers = dict(zip(names, (x.to(self.device) for x in step_inputs(self.world, batch))))
        for name in results:
            if name.startswith(("next_keys_", "next_values_")):  # a ring, in place
                buffers[name] = buffers[name.removeprefix("next_")]
            else:
                shape, kind = tuple(engine.get_tensor_shape(name)), torch.uint8 if name == "frame" else torch.float32
                buffers[name] = torch.empty(shape, dtype=kind, device=self.device)
        for name, buffer in buffers.items():
            context.set_tensor_address(name, buffer.data_ptr())

        def run(*_: Tensor) -> tuple[Tensor, ...]:
            context.execute_async_v3(torch.cuda.current_stream().cuda_stream)
            return tuple(buffers[name] for name in results)

        return CudaGraph(run, tuple(buffers[name] for name in names))
