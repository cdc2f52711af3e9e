"""Is the world failing early? Closed-loop roll-outs of held-out episodes beside frozen and mirrored controls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from wm_gym.engine.torch import TorchEngine
from wm_gym.files import atomic_file
from wm_gym.spec import WorldSpec
from wm_gym.training.segments import Segments


def psnr(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio in dB over the last three axes of uint8 arrays."""
    error = ((a.astype(np.float32) - b.astype(np.float32)) ** 2).mean(axis=(-3, -2, -1))
    return 10 * np.log10(255.0**2 / np.maximum(error, 1e-2))


def roll_out(world, frames: np.ndarray, actions: np.ndarray, proprioception: np.ndarray, seed: int = 0,
             engine=None, also: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """Closed-loop roll-out: frames [B, T, H, W, 3] (context), actions [B, n, A] -> dict of arrays [B, n, ...].

    Keys: frame (where the engine decodes), reward, success, uncertainty, proprioception, and of `also` (they are large)
    "latent" and "doubt".
    """
    engine = engine or TorchEngine(world)
    pose = proprioception if proprioception.shape[-1] else None
    state, noise = engine.encode(frames, pose), np.random.default_rng(seed)
    steps = []
    for t in range(actions.shape[1]):
        draw = noise.standard_normal((len(frames), *engine.noise_shape), dtype=np.float32)
        state, out = engine.step(state, torch.from_numpy(np.ascontiguousarray(actions[:, t])).to(engine.device),
                                 torch.from_numpy(draw).to(engine.device))
        out |= {"doubt": state["doubt"]}
        steps.append({k: v.cpu().numpy() for k, v in out.items() if k not in ("latent", "doubt") or k in also})
    return {k: np.stack([s[k] for s in steps], axis=1) for k in steps[0]}


def mirrored(actions: np.ndarray, spec: WorldSpec) -> np.ndarray:
    """Actions reflected at the middle of their range."""
    return (np.add(spec.action_low, spec.action_high) - actions).astype(np.float32)


def early_report(world, clips, segments: Segments, background: np.ndarray, picture: Path | None = None) -> dict:
    """Numbers that show failure early, on held-out segments; writes a truth / world strip to `picture`.

    psnr@t, frozen@t (the first frame repeated), ceiling (tokenizer round trip), mirrored@t (PSNR lost with mirrored
    actions), area@t (foreground pixels generated / true; < 0.8 means that objects fade), motion@t (mean absolute
    change since the start, generated / true).
    """
    n, context = segments.steps, world.spec.context_frames
    frames, actions = clips.frames[segments.rows], clips.action[segments.rows[:, -n - 1:-1]]
    poses, truth = clips.proprioception[segments.rows[:, :context]], frames[:, context:]
    engine = TorchEngine(world, next(world.dynamics.parameters()).device)
    made = roll_out(world, frames[:, :context], actions, poses, engine=engine)["frame"]
    turned = roll_out(world, frames[:, :context], mirrored(actions, world.spec), poses, engine=engine)["frame"]
    present = frames[:, context - 1:context]
    numbers = {"ceiling": float(psnr(engine.render(engine.encode(truth[:, -1:])).cpu().numpy(), truth[:, -1]).mean())}
    foreground = lambda x: (np.abs(x.astype(np.int16) - background).max(-1) > 20).sum((-2, -1))  # noqa: E731
    motion = lambda x: np.abs(x.astype(np.int16) - present[:, 0]).mean((-3, -2, -1))  # noqa: E731
    for t in sorted({1, min(10, n), n}):
        world_t, true_t = made[:, t - 1], truth[:, t - 1]
        numbers[f"psnr@{t}"] = float(psnr(world_t, true_t).mean())
        numbers[f"frozen@{t}"] = float(psnr(present[:, 0], true_t).mean())
        numbers[f"mirrored@{t}"] = numbers[f"psnr@{t}"] - float(psnr(turned[:, t - 1], true_t).mean())
        numbers[f"area@{t}"] = float(np.median(foreground(world_t) / np.maximum(foreground(true_t), 1)))
        numbers[f"motion@{t}"] = float(np.median(motion(world_t) / np.maximum(motion(true_t), 0.1)))
    if picture is not None:
        import imageio.v3 as iio

        shown = np.linspace(0, n - 1, min(n, 8)).astype(int)
        rows = [np.concatenate([np.concatenate(list(x[i, shown]), axis=1) for x in (truth, made)])
                for i in range(min(4, len(made)))]
        with atomic_file(picture) as beside:
            iio.imwrite(beside, np.concatenate(rows).repeat(2, 0).repeat(2, 1))
    return numbers
