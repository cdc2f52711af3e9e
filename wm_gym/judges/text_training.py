"""How does the text judge learn? From frames of physics twins, and sentences that are true of them or not."""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import torch
from torch.nn import functional as F
from tqdm import tqdm

from wm_gym.data.clips import ClipData
from wm_gym.data.frames import Frames
from wm_gym.judges.captions import HELD_OUT, RELATIONS, margins
from wm_gym.judges.text_model import TextMargin, embed
from wm_gym.judges.wordings import sentences
from wm_gym.models.inverse_dynamics import flushed_denormals
from wm_gym.models.tokenizer import Tokenizer, redrawn, to_float
from wm_gym.training.schedule import one_cycle

LOWEST, HIGHEST = -8.0, 2.0  # margins are told apart between these: 24 cm on this side, 6 cm beyond
ELSEWHERE = -4.0  # of a sentence about another task's scene
NOISE = 0.005  # on each number of a unit embedding of 384: other words for the same


@dataclass
class Scenes:
    """Frames of a task uint8 [N, H, W, 3], and each relation's margin [N] in them."""

    frames: Frames
    margins: dict[str, np.ndarray]
    tokenizer: Tokenizer | None = None

    @classmethod
    def of(cls, task: str, clips: ClipData, tokenizer: Tokenizer | None = None) -> Scenes:
        """Of a recording with a physics twin; tokenizer: half of the frames are seen as it draws them."""
        if clips.physics_state is None:
            raise ValueError(f"{clips.meta['dataset']} holds no physics states; record a physics twin")
        return cls(clips.frames, margins(task, np.asarray(clips.physics_state), clips.proprioception), tokenizer)

    @classmethod
    def drawn(cls, task: str, count: int, tokenizer: Tokenizer | None = None, seed: int = 0) -> Scenes:
        """Of a physics twin whose hand is put where no script takes it: above, at, below and beside the goal.

        For tasks whose hand moves in space; ValueError for others.
        """
        env = gym.make(f"wm_gym/{task.title()}PyBullet-v0", render_mode="rgb_array").unwrapped
        rng, scene, made = np.random.default_rng([seed, 7]), env.task, []
        if env.action_space.shape != (3,):
            raise ValueError(f"the hand of {task!r} moves over the table only: it is where the scripts take it, too")
        for i in range(count):
            if i % 8 == 0:
                env.reset(seed=seed + i)
                goal = env.get_physics_state()[-3:]
            place = rng.uniform(scene.low, scene.high)
            if i % 8 < 5:
                place[:2] = goal[:2] + rng.normal(scale=0.03, size=2)
            scene.scene.teleport(scene.constrain(place))
            made.append((scene.scene.render(), env.get_physics_state(), scene.scene.end_effector()))
        env.close()
        frames, states, hands = (np.stack(part) for part in zip(*made))
        return cls(frames, margins(task, states, hands), tokenizer)


@flushed_denormals()
def fit_text_margin(
    scenes: list[Scenes],
    updates: int = 6000,
    frames: int = 48,
    asked: int = 24,
    seed: int = 0,
    init: TextMargin | None = None,
    rate: float = 3e-3,
    progress: bool = True,
) -> TextMargin:
    """Learn margins from recordings of tasks, a task an update in turn.

    Each update: `frames` frames of a task, half of them where a relation drawn at random is true or nearly so, and
    `asked` sentences, three of them about the task's success, a quarter about other tasks. Loss: the margin's L1
    distance (smooth), and the cross entropy of its sign. init: a model to go on from; rate: the highest learning rate.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 6])
    book = {name: embed(sentences(name)) for task in RELATIONS for name in RELATIONS[task] if name not in HELD_OUT}
    size = list(scenes[0].frames.shape[1:3])
    model = (init or TextMargin(size)).train().requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=1e-3)
    schedule = one_cycle(optimizer, rate, updates)
    for update in tqdm(range(updates), desc="text judge", mininterval=2.0, disable=not progress):
        scene = scenes[update % len(scenes)]
        own = [name for name in scene.margins if name in book]
        others = [name for name in book if name not in scene.margins]
        rows = _rows(scene, own, frames, rng)
        names = [*own[:1] * 3, *rng.choice(own, asked - asked // 4 - 3), *rng.choice(others, asked // 4)]
        told = np.stack([book[name][rng.integers(len(book[name]))] for name in names])
        told = told + NOISE * rng.standard_normal(told.shape, dtype=np.float32)
        truth = np.stack(
            [scene.margins[name][rows] if name in scene.margins else np.full(frames, ELSEWHERE) for name in names],
            axis=1,
        )
        truth = torch.from_numpy(truth.clip(LOWEST, HIGHEST).astype(np.float32))
        pictures = to_float(torch.from_numpy(scene.frames[rows]))
        if scene.tokenizer is not None:
            pictures[frames // 2 :] = redrawn(scene.tokenizer, pictures[frames // 2 :])
        found = model(pictures, torch.from_numpy(told))
        sure = truth.abs().clamp(max=1)  # at the line neither answer is wrong
        loss = (
            F.smooth_l1_loss(found, truth, beta=0.2)
            + 0.5 * (sure * F.binary_cross_entropy_with_logits(2 * found, (truth > 0).float(), reduction="none")).mean()
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval().requires_grad_(False)


def _rows(scene: Scenes, names: list[str], count: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of frames in random order, half of them from where a relation is within a margin of 1 of true."""
    total = len(scene.frames)
    rows = rng.integers(0, total, count)
    candidates = rng.integers(0, total, 20 * count)
    near = candidates[scene.margins[rng.choice(names)][candidates] > -1][: count // 2]
    rows[: len(near)] = near
    return rng.permutation(rows)
