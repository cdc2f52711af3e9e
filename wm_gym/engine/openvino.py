"""The CPU back-end: the whole step compiled by OpenVINO, one static graph a batch size."""

from __future__ import annotations

import warnings

import numpy as np
import openvino
import torch

from wm_gym.engine.base import Engine, WorldStep


class OpenVINOEngine(Engine):
    """OpenVINO on the CPU in fp32, with as many threads as torch; a batch size is compiled at its first use."""

    name = "openvino"

    def __init__(self, world, decode: bool = True, precision: str = "f32"):
        super().__init__(world, "cpu", decode)
        self._module = WorldStep(world, decode).eval()
        self._precision, self._requests = precision, {}

    def _request(self, inputs: tuple[torch.Tensor, ...]):
        batch = inputs[0].shape[0]
        if batch not in self._requests:
            with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the tracer's, about constants that are meant to be constant
                example = tuple(torch.zeros_like(x) for x in inputs)
                graph = openvino.convert_model(self._module, example_input=example,
                                               input=[tuple(x.shape) for x in inputs])
            compiled = openvino.compile_model(graph, "CPU", {
                "INFERENCE_PRECISION_HINT": self._precision, "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_NUM_THREADS": torch.get_num_threads()})
            self._requests[batch] = compiled.create_infer_request()
        return self._requests[batch]

    def _run(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        request = self._request(inputs)
        results = request.infer([np.ascontiguousarray(x.numpy()) for x in inputs], share_inputs=True)
        return tuple(torch.from_numpy(np.array(results[i])) for i in range(len(results)))
