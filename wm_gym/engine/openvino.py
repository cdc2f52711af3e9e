"""The CPU back-end: the whole step compiled by OpenVINO, one static graph a batch size."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import openvino
import torch

from wm_gym.engine.artefacts import artefact
from wm_gym.engine.base import Engine, WorldStep, step_inputs

HINTS = {"fp32": "f32", "bf16": "bf16"}


class OpenVINOEngine(Engine):
    """OpenVINO on the CPU with as many threads as torch; a batch size is compiled at its first use, once a machine.

    precision: "bf16", where OpenVINO itself chooses what to round, the default on a CPU that computes in it; or "fp32".
    """

    name = "openvino"

    @staticmethod
    def best_precision() -> str:
        return "bf16" if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "fp32"

    def _build(self, batch: int) -> Callable[..., tuple[torch.Tensor, ...]]:
        settings = {"INFERENCE_PRECISION_HINT": HINTS[self.precision], "PERFORMANCE_HINT": "LATENCY",
                    "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        core = openvino.Core()
        made_from = {"backend": "openvino", "version": openvino.__version__,
                     "cpu": core.get_property("CPU", "FULL_DEVICE_NAME"), **settings, **self.made_from(batch)}
        compiled = artefact(made_from, lambda: self._convert(batch, settings).export_model().getvalue())
        request = core.import_model(compiled, "CPU", settings).create_infer_request()

        def run(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
            results = request.infer([np.ascontiguousarray(x.numpy()) for x in inputs], share_inputs=True)
            return tuple(torch.from_numpy(np.array(results[i])) for i in range(len(results)))

        return run

    def _convert(self, batch: int, settings: dict) -> openvino.CompiledModel:
        example = step_inputs(self.world, batch)
        with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer's, about constants that are meant to be constant
            graph = openvino.convert_model(WorldStep(self.world, self.decode).eval(), example_input=example,
                                           input=[tuple(x.shape) for x in example])
        return openvino.compile_model(graph, "CPU", settings)
