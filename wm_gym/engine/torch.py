"""The reference back-end: the step in eager torch, on a CPU or a GPU."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from wm_gym.engine.base import Engine, WorldStep
from wm_gym.worlds.world import World

ROWS = 8


class TorchEngine(Engine):
    """Eager torch: what every other back-end is compared with, in fp32.

    On a CPU a batch is filled up to a multiple of 8: in others MKL multiplies the last rows another way, and a slot's
    last bits would depend on its place.
    """

    name = "torch"

    def __init__(self, world: World, device: str = "cpu", decode: bool = True, precision: str = "fp32"):
        super().__init__(world, device, decode, precision)
        self._step = WorldStep(world, decode, precision).to(self.device).eval()

    def _build(self, batch: int) -> Callable[..., tuple[Tensor, ...]]:
        more = -batch % ROWS if self.device.type == "cpu" and batch > 1 else 0

        @torch.inference_mode()
        def run(*inputs: Tensor) -> tuple[Tensor, ...]:
            outputs = self._step(*(_fill(x.to(self.device), more) for x in inputs))
            return tuple(x[:batch] for x in outputs)

        return run


def _fill(x: Tensor, more: int) -> Tensor:
    """x [B, ...] with `more` rows of zeros behind it."""
    return pad(x, (0, 0) * (x.ndim - 1) + (0, more)) if more else x
