"""Which signs of trouble does a world show beside its uncertainty? Asked on demand, for they cost more than a step."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from wm_gym.common.metrics import worst_patch
from wm_gym.engine.base import Engine
from wm_gym.engine.rollout import roll_out
from wm_gym.env import WorldEnv
from wm_gym.evaluation.control_worlds import still
from wm_gym.models.tokenizer import to_float, to_uint8
from wm_gym.models.transition import Sampling, condition, transition
from wm_gym.worlds.world import World


@torch.inference_mode()
def signals(env: WorldEnv, action: np.ndarray, seeds: int = 8) -> dict[str, np.ndarray]:
    """What a learned environment could say of its next step, without taking it: maps float32 [h, w].

    "disagreement": standard deviation of the next latent between `seeds` noises; "flow_instability": mean |difference|
    of the clean latent foreseen at the first and at the middle of the flow; "round_trip": mean |z - encode(decode(z))|
    of the present latent. action: float32 [A]. Raises ResetNeeded before the first reset.
    """
    learned: Any = env.unwrapped
    core = learned.core
    core.require_reset("signals")
    engine, state = core.engine, core._state
    many = {key: value.repeat_interleave(seeds, 0) for key, value in state.items()}
    actions = torch.as_tensor(np.asarray(action, np.float32), device=engine.device).repeat(seeds, 1)
    noise = torch.randn(seeds, *engine.noise_shape, generator=torch.Generator().manual_seed(0)).to(engine.device)
    latents = engine.step(many, actions, noise)[1]["latent"]
    present, tokenizer = state["latents"][:, -1], core.world.tokenizer
    drawn_again = tokenizer.encode(to_float(to_uint8(tokenizer.decode(present))))
    maps = {
        "disagreement": latents.std(0).mean(0),
        "flow_instability": _instability(core.world, many, actions, noise),
        "round_trip": (present - drawn_again).abs().mean(1)[0],
    }
    return {name: values.float().cpu().numpy() for name, values in maps.items()}


def unrest(world: World, engine: Engine, frames: np.ndarray, proprioception: np.ndarray, steps: int = 5) -> np.ndarray:
    """The change of frames uint8 [E, H, W, 3] while the robot [E, P] is commanded to rest: levels, the worst patch [E].

    A world repaints what it has not learned: an object of another colour or size turns into one that it knows.
    """
    rest = still(np.zeros((len(frames), steps, world.spec.action_dim)), world.spec)
    made = roll_out(world, frames[:, None], rest, proprioception[:, None], engine=engine)
    return worst_patch(made["frame"][:, -1], frames)


class Novelty:
    """How far is the strangest piece of a frame from every piece of the frames that a world starts from?

    Pieces are windows of 12 x 12 pixels that show more than the background, the median frame; their distance is
    Euclidean in the 32 directions in which those of the bank differ most (as PatchCore does with features, Roth et al.
    2022).
    """

    WINDOW, STRIDE, DIRECTIONS, FOREGROUND, SCALE = 12, 2, 32, 0.02, 64.0

    def __init__(self, frames: np.ndarray):
        """frames: uint8 [N, H, W, 3], the usual ones; ValueError where none shows anything but the background."""
        self.background = np.median(frames, axis=0)
        each = [self._pieces(frame) for frame in frames]
        self.owner = torch.cat([torch.full((len(piece),), i) for i, piece in enumerate(each)])
        pieces = torch.cat(each)
        if not len(pieces):
            raise ValueError(f"{len(frames)} frames show nothing but one background; expected some that differ")
        some = pieces[torch.from_numpy(np.random.default_rng(0).permutation(len(pieces))[:20_000])]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.directions = torch.svd_lowrank(some, min(self.DIRECTIONS, *some.shape))[2]
        self.bank = pieces @ self.directions
        self.lengths = self.bank.square().sum(1)

    def score(self, frames: np.ndarray, owners: np.ndarray | None = None) -> np.ndarray:
        """Distance [E] of each frame's strangest piece; owners: for frames of the bank, which one each is [E]."""
        return np.array(
            [self._score(frame, None if owners is None else int(owners[i])) for i, frame in enumerate(frames)]
        )

    def _score(self, frame: np.ndarray, owner: int | None) -> float:
        pieces = self._pieces(frame) @ self.directions
        if not len(pieces):
            return 0.0
        squares = self.lengths - 2 * pieces @ self.bank.T
        if owner is not None:
            squares[:, self.owner == owner] = torch.inf
        return float((squares.min(1).values + pieces.square().sum(1)).clamp(min=0).max().sqrt())

    def _pieces(self, frame: np.ndarray) -> Tensor:
        picture = torch.from_numpy((frame - self.background).astype(np.float32) / self.SCALE).movedim(-1, 0)
        windows = F.unfold(picture[None], self.WINDOW, stride=self.STRIDE)[0].T
        return windows[windows.square().mean(1) > self.FOREGROUND]


class StartCheck:
    """Does a picture look like those that a world knows how to go on from? The one number that a reset can be gated by.

    The larger of two signs, `Novelty` and `unrest`, each in units of what it is for the world's own starts: 0 is their
    median, 1 the most that any of them shows.
    """

    def __init__(self, world: World, engine: Engine, most: int = 512):
        """most: how many of the bank's starts make up what is usual."""
        self.world, self.engine = world, engine
        bank = world.starts
        rows = np.flatnonzero(bank.t == 0 if (bank.t == 0).any() else bank.t >= 0)[:most]
        frames, poses = np.array(bank.frames[rows][:, -1]), np.array(bank.proprioception[rows][:, -1])
        self.novelty = Novelty(frames)
        few = np.linspace(0, len(frames) - 1, min(128, len(frames))).astype(int)
        usual = self._signs(frames[few], poses[few], few)
        self.middle = {name: np.median(values) for name, values in usual.items()}
        self.spread = {name: max(values.max() - self.middle[name], 1e-6) for name, values in usual.items()}

    def score(self, frames: np.ndarray, proprioception: np.ndarray) -> dict[str, np.ndarray]:
        """Frames uint8 [E, H, W, 3], proprioception [E, P] -> "score" [E] and both signs [E] in these units."""
        signs = {
            name: (values - self.middle[name]) / self.spread[name]
            for name, values in self._signs(frames, proprioception).items()
        }
        return {"score": np.max(list(signs.values()), axis=0), **signs}

    def _signs(self, frames: np.ndarray, poses: np.ndarray, owners: np.ndarray | None = None) -> dict[str, np.ndarray]:
        return {"unrest": unrest(self.world, self.engine, frames, poses), "novelty": self.novelty.score(frames, owners)}


def _instability(world: World, state: dict[str, Tensor], action: Tensor, noise: Tensor) -> Tensor:
    """Mean |x_hat at tau = 0 - x_hat at tau = 1/2| [h, w] over the noises: of one evaluation of the flow and of two."""
    dynamics = world.dynamics
    memory = {key: state[key] for key in dynamics.memory_keys}
    given = condition(dynamics, state["proprioception"], action)
    early, late = (
        transition(dynamics, memory, state["first"], given, noise, Sampling(steps)).latent for steps in (1, 2)
    )
    return (early - late).abs().mean((0, 1))
