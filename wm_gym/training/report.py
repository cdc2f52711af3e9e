"""Is the world failing early? Closed-loop roll-outs of held-out episodes beside frozen and mirrored controls."""

from pathlib import Path

import numpy as np
import torch

from wm_gym.common.files import atomic_file
from wm_gym.common.metrics import psnr
from wm_gym.data.clips import ClipData
from wm_gym.engine.rollout import roll_out
from wm_gym.engine.torch import TorchEngine
from wm_gym.models.integrator import Integrator
from wm_gym.training.segments import Segments, split_episodes
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


def state_report(world: World, clips: ClipData) -> dict[str, float]:
    """How the numbers of an observation are predicted in closed loop, on held-out episodes; {} without an integrator.

    state@t: mean absolute error after t steps, each number in its standard deviation; still@t: that of a state which
    stays as it is; mirrored@t: that of the same steps with mirrored actions.
    """
    dynamics, code = world.dynamics, world.dynamics.pose_code
    if not isinstance(dynamics.pose_net, Integrator):
        return {}
    held, numbers = split_episodes(clips)[1], {}
    for t in (1, 5, 10, 25):
        rows = np.concatenate([np.arange(a, b - t) for a, b in _spans(clips, held)])
        if not len(rows):
            break
        start, truth = (torch.from_numpy(clips.proprioception[at]) for at in (rows, rows + t))
        acts = np.stack([clips.action[rows + i] for i in range(t)], 1)
        ends = []
        for given in (acts, mirrored(acts, world.spec)):
            pose = start
            with torch.inference_mode():
                for action in torch.from_numpy(given).unbind(1):
                    pose = dynamics.next_pose(pose, action)
            ends.append(pose)
        for name, pose in (("state", ends[0]), ("still", start), ("mirrored", ends[1])):
            numbers[f"{name}@{t}"] = float((code(pose) - code(truth)).abs().mean())
    return numbers


def _spans(clips: ClipData, episodes: np.ndarray) -> list[tuple[int, int]]:
    return [(int(clips.episode_offset[e]), int(clips.episode_offset[e + 1])) for e in episodes]
