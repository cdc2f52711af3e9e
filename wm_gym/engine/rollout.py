"""What does a world make of a clip and the actions after it? One closed-loop roll-out of a batch."""

from __future__ import annotations

import numpy as np
import torch

from wm_gym.engine.torch import TorchEngine


def roll_out(
    world,
    frames: np.ndarray,
    actions: np.ndarray,
    proprioception: np.ndarray,
    seed: int = 0,
    engine=None,
    also: tuple[str, ...] = (),
) -> dict[str, np.ndarray]:
    """Closed-loop roll-out: frames [B, T, H, W, 3] (context), actions [B, n, A] -> dict of arrays [B, n, ...].

    Keys: frame (where the engine decodes), reward, success, uncertainty, proprioception, and of `also` (they are large)
    "latent" and "error_distribution".
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
        steps.append(
            {k: v.cpu().numpy() for k, v in out.items() if k not in ("latent", "error_distribution") or k in also}
        )
    return {k: np.stack([s[k] for s in steps], axis=1) for k in steps[0]}
