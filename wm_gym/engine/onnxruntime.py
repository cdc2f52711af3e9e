"""The second CPU back-end and the parity oracle: the exported step in ONNX Runtime, one static graph a batch size."""

from collections.abc import Callable

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from wm_gym.engine.artefacts import artefact
from wm_gym.engine.base import Engine
from wm_gym.engine.onnx import OPSET, export_step, step_names


class ONNXRuntimeEngine(Engine):
    """ONNX Runtime on the CPU in fp32, with as many threads as torch; a batch size is exported at its first use."""

    name = "onnxruntime"

    def _build(self, batch: int) -> Callable[..., tuple[Tensor, ...]]:
        graph = artefact(
            {"backend": "onnx", "opset": OPSET, **self.made_from(batch)},
            lambda: export_step(self.world, batch, self.decode),
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
        session = onnxruntime.InferenceSession(graph, options, ["CPUExecutionProvider"])
        names, results = step_names(self.world, self.decode)

        def run(*inputs: Tensor) -> tuple[Tensor, ...]:
            feed = {name: np.ascontiguousarray(x.numpy()) for name, x in zip(names, inputs)}
            return tuple(map(torch.from_numpy, session.run(results, feed)))

        return run
