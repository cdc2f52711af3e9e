"""Does a world obey its actions? Delta-PSNR, commanded against measured directions, and what moves without an action.

Every function takes rollers by name (`wm_gym.evaluation.controls`) and answers for each alike: put the world, physics'
own twin (the floor) and the controls in. An interval of a mean is over episodes, those of rates are over roll-outs.

Open: a distractor that moves by itself must not be attributed to the action. No shipped twin has one.
"""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi

import numpy as np

from wm_gym.evaluation.controls import Roll, Roller, still
from wm_gym.evaluation.episodes import Episodes
from wm_gym.rl.statistics import mean, median, rate
from wm_gym.spec import WorldSpec
from wm_gym.training.report import mirrored, psnr

Reader = Callable[[np.ndarray], np.ndarray]
"""Frames uint8 [..., H, W, 3] -> end-effector's position [..., D] in metres, its leading dimensions those of
proprioception (`StateDecoder.read`)."""
WITHIN = cos(pi / 4)


def delta_psnr(rollers: dict[str, Roller], episodes: Episodes, spec: WorldSpec, horizon: int = 4,
               seed: int = 0) -> dict[str, dict]:
    """Does it matter what the world is told? PSNR(true actions) - PSNR(other actions) at a horizon, in dB.

    Delta_t PSNR = PSNR(x_t, x^_t) - PSNR(x_t, x^'_t) (Bruce et al. 2024, "Genie", sec. 3.1; t = 4), x_t the true frame
    and x^'_t made under other actions: "random" (uniform within the bounds), "shuffled" (another episode's) and
    "mirrored". Returns per roller `mean` over episodes of these and of "psnr_true_db"; 0 is a world that does not
    listen. PSNR stops at 68 dB, so physics' own difference is no bound: `through(physics, tokenizer)` is one.
    ValueError for one episode only, or fewer steps than the horizon.
    """
    if not 1 <= horizon <= episodes.action.shape[1]:
        raise ValueError(f"horizon is {horizon}, expected 1 to {episodes.action.shape[1]}, the episodes' steps")
    episodes = episodes.acting(episodes.action[:, :horizon])
    rng = np.random.default_rng(seed)
    other = {"random": rng.uniform(spec.action_low, spec.action_high, episodes.action.shape),
             "shuffled": episodes.action[episodes.others(seed)], "mirrored": mirrored(episodes.action, spec)}
    truth, result = episodes.clips.frames[episodes.rows[:, horizon]], {}
    for name, roller in rollers.items():
        true = psnr(roller(episodes)["frame"][:, -1], truth)
        lost = {what: true - psnr(roller(episodes.acting(actions))["frame"][:, -1], truth)
                for what, actions in other.items()}
        result[name] = {"psnr_true_db": mean(episodes.means(true)),
                        **{what: mean(episodes.means(values)) for what, values in lost.items()}}
    return result


def directions(rollers: dict[str, Roller], episodes: Episodes, spec: WorldSpec, reader: Reader, dims: int = 2,
               steps: int = 5, twin: Roller | None = None, seed: int = 0) -> dict[str, dict]:
    """Does the end-effector go where it is sent? One random direction a start, commanded at full scale for all steps.

    Give 200 starts or more: `Episodes.of(held, 5, every=10)` cuts five from an episode of 50 steps.
    The action's first `dims` dimensions move it along the first `dims` of proprioception. Returns per roller "frames"
    (displacement read off start and last frame) and, where it predicts one, "proprioception" (which a world may
    integrate from the action without a look at its frames): "same_side" and "within_45" degrees of the command
    (`rate`; no displacement is wrong), "chance_within_45" (its displacements against the commands of other starts) and
    "along_cm" (`mean` over episodes of the displacement along the command). With a twin, only commands count that
    physics carries out (within 45 degrees, half as far as is usual), for at the workspace's edge nothing moves:
    "carried_out_by_physics" is their rate. Controls: `turned`, `deaf`, `shuffle`. ValueError where the bounds do not
    lie around 0, the episodes are shorter, or physics carries out nothing.
    """
    low, high = np.array(spec.action_low[:dims]), np.array(spec.action_high[:dims])
    if not 1 <= dims <= spec.action_dim or not ((low < 0) & (high > 0)).all():
        raise ValueError(f"the first {dims} action bounds are {low.tolist()} and {high.tolist()}; expected bounds "
                         "around 0, of actions that displace the end-effector; give dims= how many do")
    if steps > episodes.action.shape[1]:
        raise ValueError(f"steps is {steps}, expected at most {episodes.action.shape[1]}, the episodes' steps")
    rng = np.random.default_rng(seed)
    way = rng.standard_normal((len(episodes), dims))
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    action = np.zeros((len(episodes), steps, spec.action_dim), np.float32)
    action[..., :dims] = (way * np.minimum(-low, high).min())[:, None]
    episodes, carried = episodes.acting(action), {}
    if twin is not None:
        moved = _moved(episodes, twin(episodes), None, dims)["proprioception"]
        along = (moved * way).sum(1)
        obeyed = _within(moved, way) & (along > np.median(along) / 2)
        if not obeyed.any():
            raise ValueError(f"physics carries out none of {len(way)} commands; are the action's first {dims} "
                             "dimensions those that move the end-effector along proprioception's? Give dims=")
        carried, episodes, way = {"carried_out_by_physics": rate(obeyed)}, episodes.select(obeyed), way[obeyed]
    return {**carried, **{
        name: {what: _agreement(moved, way, episodes)
               for what, moved in _moved(episodes, roller(episodes), reader, dims).items()}
        for name, roller in rollers.items()}}


def no_op(rollers: dict[str, Roller], episodes: Episodes, spec: WorldSpec, reader: Reader, dims: int = 2,
          steps: int = 10) -> dict[str, dict]:
    """Does nothing move without an action? The same starts under zero actions (clipped to the bounds).

    Returns per roller "frame_change": mean absolute difference of the last frame to the start, "flicker": to the frame
    before it (levels of 255, `mean` over episodes), and "frames", "proprioception": the end-effector's displacement in
    cm (`median` over pieces with its 95th percentile), read off the frames and as predicted. Floors: physics, and
    `through(physics, tokenizer)`, for drawing a start changes it once. ValueError for fewer than 2 steps, or fewer in
    the episodes.
    """
    if not 2 <= steps <= episodes.action.shape[1]:
        raise ValueError(f"steps is {steps}, expected 2 to {episodes.action.shape[1]}, the episodes' steps")
    episodes = episodes.acting(still(episodes.action[:, :steps], spec))
    start, result = episodes.clips.frames[episodes.rows[:, 0]], {}
    for name, roller in rollers.items():
        made = roller(episodes)
        frames = made["frame"]
        result[name] = {what: mean(episodes.means(np.abs(frames[:, -1] - before.astype(np.float32)).mean((1, 2, 3))))
                        for what, before in (("frame_change", start), ("flicker", frames[:, -2]))}
        result[name] |= {what: {f"{key}_cm" if key != "n" else key: value for key, value in median(
            100 * np.linalg.norm(moved, axis=1)).items()} for what, moved in _moved(
                episodes, made, reader, dims).items()}
    return result


def _moved(episodes: Episodes, made: Roll, reader: Reader | None, dims: int) -> dict[str, np.ndarray]:
    """The end-effector's displacement [E, dims] in metres over a roll-out, as read and as predicted, by source."""
    found = {}
    if reader is not None:
        start = episodes.clips.frames[episodes.rows[:, 0]]
        found["frames"] = (reader(made["frame"][:, -1]) - reader(start))[:, :dims]
    if made["proprioception"].shape[-1] >= dims:
        start = episodes.clips.proprioception[episodes.rows[:, 0]]
        found["proprioception"] = (made["proprioception"][:, -1] - start)[:, :dims]
    return found


def _within(moved: np.ndarray, way: np.ndarray) -> np.ndarray:
    """bool [...]: the displacement is within 45 degrees of a unit direction; where nothing moves it is not."""
    length = np.linalg.norm(moved, axis=-1)
    return (length > 0) & ((moved * way).sum(-1) >= WITHIN * length)


def _agreement(moved: np.ndarray, way: np.ndarray, episodes: Episodes) -> dict:
    along, every = (moved * way).sum(1), _within(moved[:, None], way[None])
    n = len(way)
    return {"same_side": rate(along > 0), "within_45": rate(np.diag(every)),
            "chance_within_45": float(every[~np.eye(n, dtype=bool)].mean()) if n > 1 else None,
            "along_cm": mean(episodes.means(100 * along))}
