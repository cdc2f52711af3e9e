"""Is the world failing early? Closed-loop roll-outs of held-out episodes beside frozen and mirrored controls."""

from pathlib import Path

import numpy as np

from wm_gym.common.files import atomic_file
from wm_gym.common.metrics import psnr
from wm_gym.data.clips import ClipData
from wm_gym.engine.rollout import roll_out
from wm_gym.engine.torch import TorchEngine
from wm_gym.training.segments import Segments
from wm_gym.worlds.spec import WorldSpec
from wm_gym.worlds.world import World


def mirrored(actions: np.ndarray, spec: WorldSpec) -> np.ndarray:
    """Actions reflected at the middle of their range."""
    return (np.add(spec.action_low, spec.action_high) - actions).astype(np.float32)


def early_report(
    world: World, clips: ClipData, segments: Segments, background: np.ndarray, picture: Path | None = None
) -> dict[str, float]:
    """Numbers that show failure early, on held-out segments; writes a truth / world strip to `picture`.

    psnr@t, frozen@t (the first frame repeated), ceiling (tokenizer round trip), mirrored@t (PSNR lost with mirrored
    actions), area@t (foreground pixels generated / true; < 0.8 means that objects fade), motion@t (mean absolute
    change since the start, generated / true).
    """
    n, context = segments.steps, world.spec.context_frames
    frames, actions = clips.frames[segments.rows], clips.action[segments.rows[:, -n - 1 : -1]]
    poses, truth = clips.proprioception[segments.rows[:, :context]], frames[:, context:]
    engine = TorchEngine(world, str(next(world.dynamics.parameters()).device))
    made = roll_out(world, frames[:, :context], actions, poses, engine=engine)["frame"]
    mirror = roll_out(world, frames[:, :context], mirrored(actions, world.spec), poses, engine=engine)["frame"]
    present = frames[:, context - 1 : context]
    numbers = {"ceiling": float(psnr(engine.render(engine.encode(truth[:, -1:])).cpu().numpy(), truth[:, -1]).mean())}
    foreground = lambda x: (np.abs(x.astype(np.int16) - background).max(-1) > 20).sum((-2, -1))
    motion = lambda x: np.abs(x.astype(np.int16) - present[:, 0]).mean((-3, -2, -1))
    for t in sorted({1, min(10, n), n}):
        world_t, true_t = made[:, t - 1], truth[:, t - 1]
        numbers[f"psnr@{t}"] = float(psnr(world_t, true_t).mean())
        numbers[f"frozen@{t}"] = float(psnr(present[:, 0], true_t).mean())
        numbers[f"mirrored@{t}"] = numbers[f"psnr@{t}"] - float(psnr(mirror[:, t - 1], true_t).mean())
        numbers[f"area@{t}"] = float(np.median(foreground(world_t) / np.maximum(foreground(true_t), 1)))
        numbers[f"motion@{t}"] = float(np.median(motion(world_t) / np.maximum(motion(true_t), 0.1)))
    if picture is not None:
        import imageio.v3 as iio

        shown = np.linspace(0, n - 1, min(n, 8)).astype(int)
        rows = [
            np.concatenate([np.concatenate(list(x[i, shown]), axis=1) for x in (truth, made)])
            for i in range(min(4, len(made)))
        ]
        with atomic_file(picture) as beside:
            iio.imwrite(beside, np.concatenate(rows).repeat(2, 0).repeat(2, 1))
    return numbers
