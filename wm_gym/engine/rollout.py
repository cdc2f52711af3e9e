"""What does a world make of a clip and the actions after it? One closed-loop roll-out of a batch."""

import numpy as np
import torch

from wm_gym.engine.base import Engine
from wm_gym.engine.torch import TorchEngine
from wm_gym.worlds.world import World

LEFT_OUT = ("latent", "error_distribution", "terminated")
"""What is given on request only: it is large, or a recording cannot say it."""


def roll_out(
    world: World,
    frames: np.ndarray,
    actions: np.ndarray,
    proprioception: np.ndarray,
    seed: int = 0,
    engine: Engine | None = None,
    also: tuple[str, ...] = (),
) -> dict[str, np.ndarray]:
    """A closed-loop roll-out of a world.

    Args:
        world: Which.
        frames: The context, uint8 [B, T, H, W, 3].
        actions: What follows, float32 [B, n, A].
        proprioception: Of the context, [B, T, P].
        seed: Of the noise.
        engine: What runs it; eager torch on the CPU by default.
        also: Some of `LEFT_OUT`.

    Returns:
        Arrays [B, n, ...]: "frame" (where the engine decodes), "reward", "success", "uncertainty", "proprioception",
        and those of `also`.
    """
    engine = engine or TorchEngine(world)
    pose = proprioception if proprioception.shape[-1] else None
    state, noise = engine.encode(frames, pose), np.random.default_rng(seed)
    steps = []
    for t in range(actions.shape[1]):
        draw = noise.standard_normal((len(frames), *engine.noise_shape), dtype=np.float32)
        state, out = engine.step(
            state,
            torch.from_numpy(np.ascontiguousarray(actions[:, t])).to(engine.device),
            torch.from_numpy(draw).to(engine.device),
        )
        out |= {"error_distribution": state["error_distribution"]}
        steps.append({k: v.cpu().numpy() for k, v in out.items() if k not in LEFT_OUT or k in also})
    return {k: np.stack([s[k] for s in steps], axis=1) for k in steps[0]}
