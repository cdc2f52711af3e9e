"""How does a world step that is its numbers alone? No picture is drawn, no latent made: two small networks."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from wm_gym.engine.base import Engine
from wm_gym.models import StateHeads
from wm_gym.models.transition import condition
from wm_gym.worlds.world import World


class StateEngine(Engine):
    """The integrator and the outcome of a world whose observation is a vector; its state is "proprioception" [B, P]."""

    name = "state"

    def __init__(self, world: World, device: str = "cpu"):
        if not isinstance(world.heads, StateHeads):
            raise ValueError(f"the world {world.spec.name!r} reads rewards off pictures; use another observation")
        super().__init__(world, device, decode=False)
        self.noise_shape = ()

    def encode(self, frames: np.ndarray, proprioception: np.ndarray | None = None) -> dict[str, Tensor]:
        """The state at the end of clips: the last of proprioception [B, T, P], or what is read off the last frame.

        Raises:
            ValueError: Without proprioception, in a world that was trained without pictures.
        """
        if proprioception is None:
            if not self.world.spec.draws:
                raise ValueError(
                    f"the world {self.world.spec.name!r} was trained without pictures; begin from an observation: "
                    "reset(options={'observation': ...})"
                )
            return {"proprioception": super().encode(frames)["proprioception"]}
        pose = torch.as_tensor(proprioception[:, -1], dtype=torch.float32, device=self.device)
        if not bool(pose.isfinite().all()):
            raise self.world.not_finite("poses of a start")
        return {"proprioception": pose.clone()}

    def render(self, state: dict[str, Tensor]) -> Tensor:
        """No picture: a ValueError."""
        raise ValueError("this environment steps without pictures; make it with render_mode='rgb_array'")

    def step(
        self, state: dict[str, Tensor], action: Tensor, noise: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """As `Engine.step`, without frame, latent and uncertainty."""
        pose, reward, success, terminated = self.compile(len(action))(state["proprioception"], action)
        outcome = {"reward": reward, "success": success, "terminated": terminated}
        return {"proprioception": pose}, {**outcome, "proprioception": pose}

    def _build(self, batch: int) -> Callable[..., tuple[Tensor, ...]]:
        dynamics, heads = self._here(self.world.dynamics), self._here(self.world.heads)

        @torch.inference_mode()
        def run(pose: Tensor, action: Tensor) -> tuple[Tensor, ...]:
            given = condition(dynamics, pose, action)
            assert isinstance(heads, StateHeads)
            return given.pose, *heads.outcome_of(heads.of_vector(given.vector))

        return run
