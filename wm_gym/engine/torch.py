"""The reference back-end: the step in eager torch, on a CPU or a GPU."""

from __future__ import annotations

import torch

from wm_gym.engine.base import Engine, WorldStep


class TorchEngine(Engine):
    """Eager torch: what every other back-end is compared with, in fp32."""

    name = "torch"

    def __init__(self, world, device: str = "cpu", decode: bool = True, precision: str = "fp32"):
        super().__init__(world, device, decode, precision)
        self._step = WorldStep(world, decode, precision).to(self.device).eval()

    @torch.inference_mode()
    def _run(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self._step(*(x.to(self.device) for x in inputs))
