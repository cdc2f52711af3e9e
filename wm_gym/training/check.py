"""Does a world follow its actions, and is it of use? Held-out episodes beside controls that must do worse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from wm_gym.common.metrics import psnr
from wm_gym.common.statistics import mean
from wm_gym.data.clips import ClipData
from wm_gym.engine.rollout import roll_out
from wm_gym.models import StateHeads
from wm_gym.models.integrator import Integrator
from wm_gym.training.report import mirrored
from wm_gym.training.segments import SegmentSampler, split_episodes
from wm_gym.training.stages import recorded_outcomes
from wm_gym.worlds.world import World

HORIZONS, JUDGED = (1, 5, 10, 25), (5, 10)
FEWEST = 30
"""Held-out starts from which a horizon can be reached, or a shorter one is the longest."""
STARTS, PICTURES = 512, 48
"""Segments of a measurement of numbers, and of one of pictures."""
TRAINING, LOOKING, NOTHING = "usable for training", "usable for looking, not for training", "not usable"
IGNORED = (
    "it ignores its actions: record more episodes in which they matter, give it a state (an observation of numbers or "
    "info['proprioception']), larger frames, or train longer"
)
REMEDY = {
    "mirrored": IGNORED,
    "shuffled": IGNORED,
    "still": "it is worse than a world that stands still: record more, train longer, or take a larger preset",
    "reward": "its rewards are unsure: record more episodes in which they differ, or set outcome_updates higher",
    "terminated": "it does not know where the task ends: record more episodes that end",
}
"""What helps where a line about it falls short."""


@dataclass(frozen=True)
class Line:
    """One number that was measured on held-out episodes."""

    name: str
    about: str
    """The control that it is compared with, "reward" or "terminated"; "" where it only informs."""
    kind: str
    """Of what: "state", "picture" or "step"."""
    value: float
    low: float | None = None
    high: float | None = None
    """Of its 95 % interval, where it has one."""
    met: bool | None = None
    """Whether it is as it must be; None where it only informs."""

    def __str__(self) -> str:
        interval = "" if self.low is None else f" [{self.low:.3g}, {self.high:.3g}]"
        return f"{ {True: 'ok', False: 'SHORT', None: '-'}[self.met]:5} {self.name}: {self.value:.3g}{interval}"


@dataclass(frozen=True)
class Check:
    """What `check_world` found."""

    lines: list[Line]
    verdict: str
    """One of TRAINING, LOOKING, NOTHING."""
    todo: list[str]
    """For each failure what helps."""

    def __str__(self) -> str:
        return "\n".join([*map(str, self.lines), f"verdict: {self.verdict}", *(f"- {one}" for one in self.todo)])


def check_world(world: World, clips: ClipData, seed: int = 0) -> Check:
    """Measure a world on episodes that it was not trained on: those that every training of `clips` holds out.

    In closed loop, after 1, 5, 10 and 25 steps (as far as episodes are long enough): how much worse mirrored and
    shuffled actions (of other episodes) are than the true ones, and a world that stands still. Numbers are compared in
    their standard deviations, pictures in dB. Then the reward (R2 of its sum) and the end of the task (F1), over single
    steps.

    Args:
        world: Which.
        clips: Recordings of the environment.
        seed: Draws the segments.

    Raises:
        ValueError: Where the recordings have other sizes than the world.
    """
    if clips.action.shape[1] != world.spec.action_dim or clips.proprioception.shape[1] != world.spec.proprioception_dim:
        raise ValueError(
            f"the dataset has {clips.action.shape[1]} actions and {clips.proprioception.shape[1]} state numbers, the "
            f"world {world.spec.name!r} {world.spec.action_dim} and {world.spec.proprioception_dim}; give "
            "recordings of its source"
        )
    held, lines = split_episodes(clips)[1], list[Line]()
    if isinstance(world.dynamics.pose_net, Integrator):
        lines += _compared("state", "standard deviations", _numbers(world, clips, held, seed))
    if world.spec.draws:
        lines += _compared("picture", "minus dB", _pictures(world, clips, held, seed))
    lines += _outcomes(world, clips, held)
    failed = {line.about for line in lines if line.met is False}
    advice = list(dict.fromkeys(remedy for about, remedy in REMEDY.items() if about in failed))
    if not (_beats(lines, "still") and (_beats(lines, "mirrored") or _beats(lines, "shuffled"))):
        return Check(lines, NOTHING, advice)
    return Check(lines, LOOKING if failed & {"reward", "terminated"} else TRAINING, advice)


def _beats(lines: list[Line], control: str) -> bool:
    """Whether a world's numbers, or where it has none its pictures, beat a control wherever that is judged."""
    judged = [line for line in lines if line.about == control and line.met is not None]
    ours = [line for line in judged if line.kind == judged[0].kind]  # numbers come first
    return bool(ours) and all(line.met for line in ours)


Errors = dict[str, np.ndarray]
"""{"true" and each control: the error of each segment after each step [B, n]}."""
PerStep = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From rows [B, n + 1] and actions [B, n, A] to errors [B, n]."""


def _compared(kind: str, unit: str, errors: Errors) -> list[Line]:
    """How much each control is worse than the true actions."""
    longest = errors["true"].shape[1]
    horizons = [steps for steps in HORIZONS if steps <= longest]
    judged = [steps for steps in horizons if steps in JUDGED] or horizons[-1:]
    lines = []
    for steps in horizons:
        of = {name: values[:, steps - 1] for name, values in errors.items()}
        lines.append(Line(f"{kind}, {unit}, after {steps} steps", "", kind, float(of["true"].mean())))
        for control in ("still", "mirrored", "shuffled"):
            gap = mean(of[control] - of["true"])
            low = gap["mean"] if gap["low"] is None else gap["low"]
            met = bool(low > 0) if steps in judged else None
            name = f"{kind}, {unit} lost after {steps} steps, {control}"
            lines.append(Line(name, control, kind, gap["mean"], low, gap["high"], met))
    return lines


def _numbers(world: World, clips: ClipData, held: np.ndarray, seed: int) -> Errors:
    """Errors of the observation's numbers, the mean of all, each in its standard deviation."""
    dynamics, code = world.dynamics, world.dynamics.pose_code

    def against(made: torch.Tensor, row: np.ndarray) -> np.ndarray:
        return (code(made) - code(torch.from_numpy(clips.proprioception[row]))).abs().mean(1).numpy()

    @torch.inference_mode()
    def after(rows: np.ndarray, actions: np.ndarray) -> np.ndarray:
        pose, errors = torch.from_numpy(clips.proprioception[rows[:, 0]]), []
        for action, row in zip(torch.from_numpy(actions).unbind(1), rows.T[1:]):
            pose = dynamics.next_pose(pose, action)
            errors.append(against(pose, row))
        return np.stack(errors, 1)

    @torch.inference_mode()
    def still(rows: np.ndarray, actions: np.ndarray) -> np.ndarray:
        start = torch.from_numpy(clips.proprioception[rows[:, 0]])
        return np.stack([against(start, row) for row in rows.T[1:]], 1)

    return _errors(world, clips, SegmentSampler(clips, 1, held), (STARTS, seed), after, still)


def _pictures(world: World, clips: ClipData, held: np.ndarray, seed: int) -> Errors:
    """Errors of frames: minus their PSNR in dB."""

    def after(rows: np.ndarray, actions: np.ndarray) -> np.ndarray:
        start = rows[:, :1]
        made = roll_out(world, clips.frames[start], actions, clips.proprioception[start])["frame"]
        return -psnr(made, clips.frames[rows[:, 1:]])

    def still(rows: np.ndarray, actions: np.ndarray) -> np.ndarray:
        return -psnr(clips.frames[rows[:, :1]], clips.frames[rows[:, 1:]])

    return _errors(world, clips, SegmentSampler(clips, 1, held), (PICTURES, seed), after, still)


def _errors(
    world: World, clips: ClipData, sampler: SegmentSampler, drawn: tuple[int, int], after: PerStep, still: PerStep
) -> Errors:
    """Errors of segments under their own actions and under controls; drawn: how many, and the seed."""
    enough = [n for n in HORIZONS if int((sampler.rows + n < sampler.end).sum()) >= FEWEST]
    rng = np.random.default_rng([drawn[1], 7])
    rows = sampler.draw(rng, drawn[0], max(enough, default=1)).rows
    actions = clips.action[rows[:, :-1]]
    return {
        "true": after(rows, actions),
        "still": still(rows, actions),
        "mirrored": after(rows, mirrored(actions, world.spec)),
        "shuffled": after(rows, actions[rng.permutation(len(actions))]),
    }


def _outcomes(world: World, clips: ClipData, held: np.ndarray) -> list[Line]:
    """Reward and end of single steps, of heads that read them off numbers."""
    if not isinstance(world.heads, StateHeads):
        return []
    rows = clips.transitions(held)
    reward, _, ended = recorded_outcomes(world, clips, rows)
    said, truth = reward.sum(1), clips.reward[rows].sum(1)
    lines, spread = [], float(truth.var())
    if spread > 1e-12:
        r2 = 1 - float(np.square(said - truth).mean()) / spread
        lines.append(Line("R2 of the reward", "reward", "step", r2, met=r2 >= 0.5))
    elif float(np.var(clips.reward.sum(1))) > 1e-12:
        lines.append(Line("held-out steps that are paid unlike the others", "reward", "step", 0.0, met=False))
    known = clips.terminated[rows + 1]
    if known.any():
        yes = ended > world.spec.termination_threshold
        f1 = 2 * float((yes & known).sum()) / float(yes.sum() + known.sum())
        lines.append(Line("F1 of terminated", "terminated", "step", f1, met=f1 >= 0.8))
    return lines
