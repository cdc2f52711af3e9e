"""What came of learning an environment? One HTML file that holds its pictures and needs no network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
import torch
from markupsafe import Markup

from wm_gym.common.files import write_text
from wm_gym.common.page import GREY, PHYSICS, WORLD, axes, fill, page, picture
from wm_gym.data.clips import ClipData, join_clips, open_clips
from wm_gym.training.check import check_world
from wm_gym.training.segments import split_episodes
from wm_gym.worlds.world import World

SHOWN, COLUMNS, STEPS = 6, 3, 100
"""Numbers of a state, in how many columns, and steps, of the figure that has the world beside the environment."""


def write_learn_page(path: Path, notes: dict[str, Any], world: World, datasets: Sequence[Path]) -> None:
    """Write the page of a finished `learn`.

    Args:
        path: The HTML file to write.
        notes: What learn.json holds.
        world: The last one.
        datasets: What it was trained on.
    """
    clips = join_clips([open_clips(one, progress=False) for one in datasets])
    numbers, steps = _beside(world, clips)
    body = fill(
        "learn.html",
        env_id=notes["env_id"],
        notes=notes,
        tiles=_tiles(notes),
        rounds=_rounds(notes),
        numbers=numbers,
        steps=steps,
        check=check_world(world, clips),
        command=f"wm-gym agent evaluate {quote(notes['best'])} --env {quote(notes['env_id'])} --episodes 400",
    )
    write_text(path, page(f"{notes['env_id']}, learned in a world", body))


def _tiles(notes: dict[str, Any]) -> list[tuple[str, str, str]]:
    there, here = notes["environment"], notes["world"]
    return [
        ("physics", f"{there['mean']:.4g}", f"return in the environment, standard deviation {there['std']:.3g}"),
        ("world", f"{here['mean']:.4g}", "return in the last world, same starts"),
        ("", f"{notes['per_round'][0]['return_recorded']:.4g}", "return of random actions, as recorded"),
        ("", f"{notes['steps_used']:,}", "environment steps"),
        ("", f"{notes['minutes']:g} min", "for all of it"),
    ]


def _rounds(notes: dict[str, Any]) -> Markup:
    """The return in the environment against the steps that were recorded before."""
    figure, (axis,) = axes(1, (9.2, 3.0))
    rounds = notes["per_round"]
    before = np.cumsum([0, *(note["steps"] for note in rounds)])
    returns = [*(note["return_recorded"] for note in rounds), notes["environment"]["mean"]]
    axis.plot(before, returns, "-", color=GREY, linewidth=1)
    axis.plot(before, returns, "o", color=PHYSICS, markersize=7)
    axis.set(xlabel="environment steps that were learned from", ylabel="return in the environment")
    return picture(figure, "return in the environment after each round")


@torch.inference_mode()
def _beside(world: World, clips: ClipData) -> tuple[Markup, int]:
    """Numbers of the observation in the world and in the last held-out episode, and for how many steps."""
    episode = split_episodes(clips)[1][-1]
    first, end = clips.episode_offset[episode : episode + 2]
    true = np.asarray(clips.proprioception[first : min(end, first + STEPS + 1)])
    pose, made = torch.from_numpy(true[:1].copy()), [true[0]]
    for action in torch.from_numpy(np.array(clips.action[first : first + len(true) - 1])).unbind(0):
        pose = world.dynamics.next_pose(pose, action[None])
        made.append(pose[0].numpy())
    varies = true.std(0) / world.dynamics.pose_code.std.numpy()
    chosen = np.sort(np.argsort(-varies, kind="stable")[:SHOWN])
    rows = -(-len(chosen) // COLUMNS)
    figure, panels = axes(COLUMNS, (9.2, 2.0 * rows), rows)
    for axis, place in zip(panels, chosen):
        axis.plot(true[:, place], color=PHYSICS, linewidth=2)
        axis.plot(np.stack(made)[:, place], color=WORLD, linewidth=1.5)
        axis.set_title(world.spec.proprioception_names[place])
    for axis in panels[len(chosen) :]:
        axis.set_visible(False)
    return picture(figure, "numbers of the observation, the world beside the environment"), len(true) - 1
