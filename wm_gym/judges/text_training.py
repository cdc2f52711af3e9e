"""How does the text judge learn? From frames of physics twins, and sentences that are true of them or not."""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import torch
from torch.nn import functional as F

from wm_gym.data.clips import ClipData
from wm_gym.data.frames import Frames
from wm_gym.judges.captions import HELD_OUT, RELATIONS, margins
from wm_gym.judges.text_model import TextMargin, embed
from wm_gym.judges.wordings import sentences
from wm_gym.models.inverse_dynamics import flushed_denormals
from wm_gym.models.tokenizer import Tokenizer, redrawn, to_float
from wm_gym.training.supervised import fit_supervised

LOWEST, HIGHEST = -8.0, 2.0  # margins are learned between these: 24 cm on this side, 6 cm beyond
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
        """The scenes of a recording with a physics twin.

        Args:
            task: "push", "drawer" or "reach".
            clips: The recording.
            tokenizer: Half of the frames are seen as it draws them; None for none.

        Raises:
            ValueError: For a recording without physics states, and for a task without relations.
        """
        if clips.physics_state is None:
            raise ValueError(f"{clips.meta['dataset']} holds no physics states; record a physics twin")
        return cls(clips.frames, margins(task, np.asarray(clips.physics_state), clips.proprioception), tokenizer)

    @classmethod
    def drawn(cls, task: str, count: int, tokenizer: Tokenizer | None = None, seed: int = 0) -> Scenes:
        """Scenes of a physics twin whose hand is put where no script takes it: above, at, below and beside the goal.

        Args:
            task: One whose hand moves in space.
            count: Number of frames.
            tokenizer: Half of the frames are seen as it draws them; None for none.
            seed: Of the starts and places.

        Raises:
            ValueError: For a task whose hand moves over the table only.
        """
        from wm_gym.physics.twin import PandaTwin

        env = gym.make(f"wm_gym/{task.title()}PyBullet-v0", render_mode="rgb_array").unwrapped
        assert isinstance(env, PandaTwin)
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
    phrases: int = 24,
    seed: int = 0,
    init: TextMargin | None = None,
    rate: float = 3e-3,
    progress: bool = True,
) -> TextMargin:
    """Train a `TextMargin` on scenes, a task an update in turn.

    The loss is the margin's L1 distance (smooth), and the cross entropy of its sign.

    Args:
        scenes: Those of the tasks.
        updates: Number of updates.
        frames: Frames an update, half of them where a relation drawn at random is true or nearly so.
        phrases: Sentences an update, three of them about the task's success, a quarter about other tasks.
        seed: Of the weights and of what is drawn.
        init: A model to go on from.
        rate: The highest learning rate.
        progress: Show a bar.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 6])
    book = {name: embed(sentences(name)) for task in RELATIONS for name in RELATIONS[task] if name not in HELD_OUT}
    size = list(scenes[0].frames.shape[1:3])
    model = (init or TextMargin(size)).train().requires_grad_(True)

    def loss(update: int) -> torch.Tensor:
        scene = scenes[update % len(scenes)]
        own = [name for name in scene.margins if name in book]
        others = [name for name in book if name not in scene.margins]
        rows = _rows(scene, own, frames, rng)
        names = [*own[:1] * 3, *rng.choice(own, phrases - phrases // 4 - 3), *rng.choice(others, phrases // 4)]
        said = np.stack([book[name][rng.integers(len(book[name]))] for name in names])
        said = said + NOISE * rng.standard_normal(said.shape, dtype=np.float32)
        true = np.stack(
            [scene.margins[name][rows] if name in scene.margins else np.full(frames, ELSEWHERE) for name in names],
            axis=1,
        )
        truth = torch.from_numpy(true.clip(LOWEST, HIGHEST).astype(np.float32))
        pictures = to_float(torch.from_numpy(scene.frames[rows]))
        if scene.tokenizer is not None:
            pictures[frames // 2 :] = redrawn(scene.tokenizer, pictures[frames // 2 :])
        found = model(pictures, torch.from_numpy(said))
        sure = truth.abs().clamp(max=1)  # at the line neither sign is wrong
        return (
            F.smooth_l1_loss(found, truth, beta=0.2)
            + 0.5 * (sure * F.binary_cross_entropy_with_logits(2 * found, (truth > 0).float(), reduction="none")).mean()
        )

    fit_supervised(
        model, loss, updates, rate, weight_decay=1e-3, largest_gradient=1.0, name="text judge", progress=progress
    )
    return model.eval().requires_grad_(False)


def _rows(scene: Scenes, names: list[str], count: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of frames in random order, half of them from where a relation is within a margin of 1 of true."""
    total = len(scene.frames)
    rows = rng.integers(0, total, count)
    candidates = rng.integers(0, total, 20 * count)
    near = candidates[scene.margins[rng.choice(names)][candidates] > -1][: count // 2]
    rows[: len(near)] = near
    return rng.permutation(rows)
