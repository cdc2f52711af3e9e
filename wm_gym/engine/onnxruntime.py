"""The second CPU back-end and the parity oracle: the exported step in ONNX Runtime, one static graph a batch size."""

from __future__ import annotations

import numpy as np
import onnxruntime
import torch

from wm_gym.engine.artefacts import artefact
from wm_gym.engine.base import Engine
from wm_gym.engine.onnx import OPSET, export_step, step_names


class ONNXRuntimeEngine(Engine):
    """ONNX Runtime on the CPU in fp32, with as many threads as torch; a batch size is exported at its first use."""

    name = "onnxruntime"

    def __init__(self, world, device: str = "cpu", decode: bool = True, precision: str = "fp32"):
        super().__init__(world, device, decode, precision)
        self._inputs, self._outputs = step_names(world, decode)
        self._sessions: dict[int, onnxruntime.InferenceSession] = {}

    def compile(self, batch: int) -> None:
        if batch not in self._sessions:
            graph = artefact({"backend": "onnx", "opset": OPSET, "torch": torch.__version__, **self.made_from(batch)},
                             lambda: export_step(self.world, batch, self.decode))
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
            self._sessions[batch] = onnxruntime.InferenceSession(graph, options, ["CPUExecutionProvider"])

    def _run(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        self.compile(len(inputs[0]))
        feed = {name: np.ascontiguousarray(x.numpy()) for name, x in zip(self._inputs, inputs)}
        return tuple(map(torch.from_numpy, self._sessions[len(inputs[0])].run(self._outputs, feed)))
