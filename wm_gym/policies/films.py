"""How does a roll-out look? The learned world beside its environment under the same actions, as mp4 or GIF."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import imageio.v2 as imageio
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from wm_gym.common.codec import batch_of_one, one_of_batch
from wm_gym.common.files import atomic_file
from wm_gym.common.registry import find_spec
from wm_gym.core import WorldCore
from wm_gym.data.observed import ends_on_success, success_of
from wm_gym.engine.shared import load_world
from wm_gym.policies.actor import Actor
from wm_gym.policies.agent import Agent
from wm_gym.policies.loaders import load_agent
from wm_gym.policies.rollouts import draw_start, endless_core, start_seeds, world_options
from wm_gym.policies.source import Source, make_source, source_of
from wm_gym.worlds.world import World

PANEL = 256  # pixels, about
LABEL, GAP, HOLD = 32, 16, 8
INK, PAPER, GREEN = (28, 30, 34), (250, 250, 248), (22, 140, 70)


@dataclass
class Clip:
    """One episode of both under the same actions."""

    world: np.ndarray
    """uint8 [T, H, W, 3], what the world imagined."""
    physics: np.ndarray
    """uint8 [T, H, W, 3], what the environment showed."""
    world_success: np.ndarray
    """bool [T]"""
    physics_success: np.ndarray
    """bool [T]"""


def matched_clips(
    agent: Agent | str | Path,
    world: World | str | Path,
    twin_id: str | None = None,
    episodes: int = 4,
    seed: int = 0,
    *,
    deterministic: bool = True,
    **engine: Any,
) -> list[Clip]:
    """Roll the policy out in the world and apply its actions to its environment, too, from the same start.

    An episode ends when the world's succeeds, when either says that the task has ended, or at the horizon.

    Args:
        agent: An agent, its folder, or what else `load_agent` takes.
        world: A World, a folder, a catalogue name or a Hub id.
        twin_id: The id of the environment; None for the one that the world names.
        episodes: How many.
        seed: Of the starts.
        deterministic: Take the policy's most likely action instead of drawing one.
        **engine: backend, device and precision of `make_engine`.

    Raises:
        ValueError: Where the world names no environment and none is given, and where it draws nothing.
    """
    agent, source, world = load_agent(agent), world, load_world(world)
    twin_id, horizon = source_of(world.spec, twin_id)
    core = endless_core(world, agent, render=True, terminate=True, terminate_on_success=False, **engine)
    goes_on = {"terminate_on_success": False} if ends_on_success(find_spec(twin_id)) else {}
    env = make_source(twin_id, source, agent, horizon, **goes_on)
    try:
        return [
            _clip(Actor(agent, env.action_space, deterministic, s), core, env, s, horizon)
            for s in start_seeds(episodes, seed)
        ]
    finally:
        env.close()


def _clip(actor: Actor, core: WorldCore, env: Source, seed: int, horizon: int) -> Clip:
    start, _ = draw_start(env, seed)
    core.reset(seeds=[seed], options=[world_options(core, start)])
    frames, flags = ([core.render(0)], [env.frame]), ([False], [False])
    for _ in range(horizon):
        action = actor.act(core.observation())
        _, ended, _ = core.step(action)
        *_, terminated, truncated, info = env.step(one_of_batch(action, 0))
        frames[0].append(core.render(0))
        frames[1].append(env.frame)
        flags[0].append(flags[0][-1] or bool(core.info().get("success", [False])[0]))
        flags[1].append(flags[1][-1] or bool(success_of(info)))
        if flags[0][-1] or ended[0] or terminated or truncated:
            break
    return Clip(np.stack(frames[0]), np.stack(frames[1]), np.array(flags[0]), np.array(flags[1]))


def side_by_side(clips: list[Clip]) -> np.ndarray:
    """Clips one after the other as uint8 [T, H', W', 3]: labelled, upscaled (nearest neighbour), last frames held."""
    pictures = []
    for clip in clips:
        for t in [*range(len(clip.world)), *[len(clip.world) - 1] * HOLD]:
            world = _panel(clip.world[t], "learned world", clip.world_success[t])
            pictures.append(_row([world, _panel(clip.physics[t], "physics", clip.physics_success[t])]))
    return np.stack(pictures)


def film_alone(
    agent: Agent | str | Path,
    env_id: str,
    path: str | Path,
    episodes: int = 4,
    seed: int = 0,
    env_kwargs: dict[str, Any] | None = None,
) -> Path:
    """Write an mp4 or GIF of some episodes in any environment that renders."""
    agent = load_agent(agent)
    kwargs = {**agent.kwargs_for(env_id), **(env_kwargs or {})}
    env = gym.make(find_spec(env_id), render_mode="rgb_array", **kwargs)
    env = agent.env_wrapper(env) if agent.env_wrapper else env
    pictures, fps = [], env.metadata.get("render_fps", 10)
    try:
        for s in start_seeds(episodes, seed):
            observation, _ = env.reset(seed=s)
            done = success = False
            pictures.append(_row([_panel(_frame_of(env), env_id, False)]))
            while not done:
                action = one_of_batch(agent.act(batch_of_one(observation)), 0)
                observation, _, terminated, truncated, info = env.step(action)
                done, success = terminated or truncated, success or bool(success_of(info))
                pictures.append(_row([_panel(_frame_of(env), env_id, success)]))
            pictures += [pictures[-1]] * HOLD
    finally:
        env.close()
    return write_video(path, np.stack(pictures), fps)


def _frame_of(env: gym.Env) -> np.ndarray:
    """What an environment with render_mode="rgb_array" shows, uint8 [H, W, 3]."""
    frame = env.render()
    assert isinstance(frame, np.ndarray)
    return frame


def check_suffix(path: str | Path) -> Path:
    """The path, if it ends in .mp4 or .gif; ValueError for another."""
    path = Path(path)
    if path.suffix not in (".mp4", ".gif"):
        raise ValueError(f"{path} is neither .mp4 nor .gif; choose one of the two endings")
    return path


def write_video(path: str | Path, frames: np.ndarray, fps: float) -> Path:
    """Write uint8 [T, H, W, 3] as .mp4 (H.264) or .gif (`atomic_file`); ValueError for another suffix."""
    path = check_suffix(path)
    with atomic_file(path) as beside:
        if path.suffix == ".gif":
            _write_gif(beside, frames, fps)
        else:
            imageio.mimwrite(beside, list(frames), fps=fps, codec="libx264", quality=8, macro_block_size=16)
    return path


def _write_gif(path: Path, frames: np.ndarray, fps: float) -> None:
    """One palette for all frames (about a third of the size, no flicker), looping."""
    sample = Image.fromarray(np.concatenate(frames[:: max(1, len(frames) // 12)]))
    palette = sample.quantize(128, dither=Image.Dither.NONE)
    pictures = [Image.fromarray(f).quantize(palette=palette, dither=Image.Dither.NONE) for f in frames]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=round(1000 / fps), loop=0)


def _panel(frame: np.ndarray, label: str, success: bool) -> np.ndarray:
    """A frame under its label; a green bar and word once it has succeeded."""
    scale = max(1, round(PANEL / frame.shape[0]))
    picture = np.kron(frame, np.ones((scale, scale, 1), np.uint8))
    strip = Image.new("RGB", (picture.shape[1], LABEL), PAPER)
    draw = ImageDraw.Draw(strip)
    font = ImageFont.load_default(16)
    draw.text((4, 6), label, fill=INK, font=font)
    if success:
        width = draw.textlength("success", font=font)
        draw.text((picture.shape[1] - width - 4, 6), "success", fill=GREEN, font=font)
        draw.rectangle((0, LABEL - 4, picture.shape[1], LABEL), fill=GREEN)
    return np.concatenate([np.asarray(strip), picture])


def _row(panels: list[np.ndarray]) -> np.ndarray:
    """Panels side by side, padded to multiples of 16 (what H.264 stores without resizing)."""
    height, width = panels[0].shape[0], sum(panel.shape[1] + GAP for panel in panels) - GAP
    row = np.full((-(-height // 16) * 16, -(-width // 16) * 16, 3), PAPER, np.uint8)
    left = 0
    for panel in panels:
        row[:height, left : left + panel.shape[1]] = panel
        left += panel.shape[1] + GAP
    return row
