"""The CPU back-end: the step compiled by OpenVINO, static graphs for each batch size."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import openvino
import torch
from torch import nn

from wm_gym.engine.artefacts import artefact
from wm_gym.engine.base import Engine, WorldStep, step_inputs
from wm_gym.models import Dynamics

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
        dynamics, inputs = self.world.dynamics, step_inputs(self.world, batch)
        _, pose, _, action, *_ = inputs
        integrate = self._compile("pose", PoseStep(dynamics), (pose, action), "f32") if dynamics.pose_net else None
        draw = self._compile("draw", DrawStep(self.world, self.decode), (pose, *inputs), HINTS[self.precision])

        def run(first: torch.Tensor, pose: torch.Tensor, doubt: torch.Tensor, action: torch.Tensor,
                *others: torch.Tensor) -> tuple[torch.Tensor, ...]:
            next_pose = integrate(pose, action)[0] if integrate else pose
            return draw(next_pose, first, pose, doubt, action, *others)

        return run

    def _compile(self, part: str, module: nn.Module, example: tuple[torch.Tensor, ...],
                 hint: str) -> Callable[..., tuple[torch.Tensor, ...]]:
        """A part of the step for inputs in the shapes of `example`, from the cache where it has been made before."""
        settings = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY",
                    "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        core = openvino.Core()
        made_from = {"backend": "openvino", "part": part, "version": openvino.__version__,
                     "cpu": core.get_property("CPU", "FULL_DEVICE_NAME"), **settings, **self.made_from(len(example[0]))}
        compiled = artefact(made_from, lambda: _convert(module, example, settings).export_model().getvalue())
        request = core.import_model(compiled, "CPU", settings).create_infer_request()

        def run(*inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
            results = request.infer([np.ascontiguousarray(x.numpy()) for x in inputs], share_inputs=True)
            return tuple(torch.from_numpy(np.array(results[i])) for i in range(len(results)))

        return run


class PoseStep(nn.Module):
    """(proprioception [B, P], action [B, A]) -> proprioception', a graph of its own: in bf16 OpenVINO would round the
    pose, and 2026.4 the whole step, with ReLUs in it, wrong below a batch of 9."""

    def __init__(self, dynamics: Dynamics):
        super().__init__()
        self.dynamics = dynamics

    def forward(self, proprioception: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        return self.dynamics.next_pose(proprioception, action)


class DrawStep(WorldStep):
    """`WorldStep` with the next pose as its first input."""

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.draw(*inputs)


def _convert(module: nn.Module, example: tuple[torch.Tensor, ...], settings: dict) -> openvino.CompiledModel:
    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's, about constants that are meant to be constant
        graph = openvino.convert_model(module.eval(), example_input=example, input=[tuple(x.shape) for x in example])
    return openvino.compile_model(graph, "CPU", settings)
