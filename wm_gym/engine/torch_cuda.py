"""The GPU back-end: the step compiled whole by torch and captured in a CUDA graph, one a batch size."""

import torch

from wm_gym.engine.base import Engine, WorldStep, step_inputs
from wm_gym.engine.cuda_graph import CudaGraph
from wm_gym.worlds.world import World


class TorchCudaEngine(Engine):
    """torch.compile on a CUDA device; a batch size is compiled and captured at its first use."""

    name = "torch-cuda"

    def __init__(self, world: World, device: str = "cuda", decode: bool = True, precision: str = "bf16"):
        super().__init__(world, device, decode, precision)
        self._step = torch.compile(WorldStep(world, decode, precision).to(self.device).eval(), dynamic=False)

    def _build(self, batch: int) -> CudaGraph:
        return CudaGraph(self._step, tuple(x.to(self.device) for x in step_inputs(self.world, batch)))
