"""The CPU back-end: the step compiled by OpenVINO, static graphs for each batch size."""

import os
import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wm_gym.engine.artefacts import artefact
from wm_gym.engine.base import Engine, WorldStep, step_inputs
from wm_gym.models import Dynamics
from wm_gym.worlds.world import World

if os.path.expanduser("~") == "~":  # a user whom the system does not know: openvino's import would fail
    os.environ["HOME"] = os.devnull
import openvino

HINTS = {"fp32": "f32", "bf16": "bf16"}


class OpenVINOEngine(Engine):
    """OpenVINO on the CPU with as many threads as torch; a batch size is compiled at its first use, once a machine.

    precision: "bf16", where OpenVINO itself chooses what to round, the default on a CPU that computes in it; or "fp32".
    """

    name = "openvino"

    @classmethod
    def best_precision(cls) -> str:
        """bf16 where the CPU computes in it."""
        return "bf16" if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "fp32"

    @torch.inference_mode()
    def imagine(
        self, state: dict[str, Tensor], actions: Tensor, noise: Tensor, uncertainty: bool = True
    ) -> dict[str, Tensor]:
        """As of every engine. The stack of latents stays out of the graph, where bf16 converts it at every step."""
        if self.world.dynamics.memory_keys != ("latents",):
            return super().imagine(state, actions, noise, uncertainty)
        first, pose, error_distribution, latents = (
            state[key] for key in ("first", "proprioception", "error_distribution", "latents")
        )
        part, batch = "imagine" if uncertainty else "imagine certainly", len(first)
        integrate, imagined = self._once(
            (part, batch), lambda: self._parts(batch, part, ImaginedStep(self.world, uncertainty))
        )
        seen = []
        for action, drawn in zip(actions.unbind(1), noise.unbind(1)):
            next_pose = integrate(pose, action)
            *out, latent, error_distribution = imagined(
                next_pose, first, pose, error_distribution, action, drawn, latents
            )
            latents = self.world.dynamics.append({"latents": latents}, latent, first)["latents"]
            pose = next_pose
            seen.append((latent, *out))
        return dict(zip(("latent", "reward", "success", "uncertainty"), (torch.stack(x, dim=1) for x in zip(*seen))))

    def _build(self, batch: int) -> Callable[..., tuple[Tensor, ...]]:
        integrate, draw = self._parts(batch, "draw", DrawStep(self.world, self.decode))

        def run(
            first: Tensor, pose: Tensor, error_distribution: Tensor, action: Tensor, *others: Tensor
        ) -> tuple[Tensor, ...]:
            return draw(integrate(pose, action), first, pose, error_distribution, action, *others)

        return run

    def _parts(self, batch: int, part: str, module: nn.Module) -> tuple[Callable, Callable]:
        """What integrates the pose, and a module that takes the next pose before the step's inputs."""
        inputs = step_inputs(self.world, batch)
        drawn = self._compile(part, module, (inputs[1], *inputs), HINTS[self.precision])
        if not self.world.dynamics.pose_net:
            return lambda pose, action: pose, drawn
        integrate = self._compile("pose", PoseStep(self.world.dynamics), (inputs[1], inputs[3]), "f32")
        return lambda pose, action: integrate(pose, action)[0], drawn

    def _compile(
        self, part: str, module: nn.Module, example: tuple[Tensor, ...], hint: str
    ) -> Callable[..., tuple[Tensor, ...]]:
        """A part of the step for inputs in the shapes of `example`, from the cache where it has been made before."""
        settings = {
            "INFERENCE_PRECISION_HINT": hint,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        core = openvino.Core()
        made_from = {
            "backend": "openvino",
            "part": part,
            "version": openvino.__version__,
            "cpu": core.get_property("CPU", "FULL_DEVICE_NAME"),
            **settings,
            **self.made_from(len(example[0])),
        }
        compiled = artefact(made_from, lambda: _convert(module, example, settings).export_model().getvalue())
        request, alone = core.import_model(compiled, "CPU", settings).create_infer_request(), threading.Lock()

        def run(*inputs: Tensor) -> tuple[Tensor, ...]:
            arrays = [np.ascontiguousarray(x.numpy()) for x in inputs]
            with alone:  # until its results are copied: environments of several threads share the request's buffers
                results = request.infer(arrays, share_inputs=True)
                copies = [np.array(results[i]) for i in range(len(results))]
            return tuple(map(torch.from_numpy, copies))

        return run


class PoseStep(nn.Module):
    """(proprioception [B, P], action [B, A]) -> proprioception', a graph of its own: in bf16 OpenVINO would round the
    pose, and 2026.4 the whole step, with ReLUs in it, wrong below a batch of 9."""

    def __init__(self, dynamics: Dynamics):
        super().__init__()
        self.dynamics = dynamics

    def forward(self, proprioception: Tensor, action: Tensor) -> Tensor:
        """The next pose."""
        return self.dynamics.next_pose(proprioception, action)


class DrawStep(WorldStep):
    """`WorldStep` with the next pose as its first input."""

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The step, for inputs of `draw`."""
        return self.draw(*inputs)


class ImaginedStep(WorldStep):
    """`DrawStep` without a frame and with the newest latent in place of the memory.

    -> (reward [B, R], success [B], uncertainty [B, h, w] if it is asked for, latent [B, C, h, w], error_distribution').
    """

    def __init__(self, world: World, uncertainty: bool):
        super().__init__(world, decode=False)
        self.uncertain = uncertainty

    def forward(  # type: ignore[override]  # the tracer names the graph's inputs after these
        self,
        next_pose: Tensor,
        first: Tensor,
        proprioception: Tensor,
        error_distribution: Tensor,
        action: Tensor,
        noise: Tensor,
        latents: Tensor,
    ) -> tuple[Tensor, ...]:
        """The step, with the latents before it."""
        latent, features, reward, success, _ = self.predict(
            next_pose, first, proprioception, action, noise, {"latents": latents}
        )
        if not self.uncertain:
            return reward, success, latent, error_distribution
        error_distribution = self.uncertainty(error_distribution, features, latent, latents[:, -1], first).exp()
        return reward, success, self.uncertainty.expected_error(error_distribution), latent, error_distribution


def _convert(module: nn.Module, example: tuple[Tensor, ...], settings: dict[str, Any]) -> openvino.CompiledModel:
    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's, about constants that are meant to be constant
        graph = openvino.convert_model(module.eval(), example_input=example, input=[tuple(x.shape) for x in example])
    return openvino.compile_model(graph, "CPU", settings)
