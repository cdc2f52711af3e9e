"""Does a world obey its actions? Delta-PSNR, loss ratio, commanded directions, and what moves without an action.

Every function takes roll_outs by name (`wm_gym.evaluation.control_worlds`) and answers for each alike: put the world, physics'
own twin (the floor) and the controls in. An interval of a mean is over episodes, those of rates are over roll-outs.

A distractor is something that moves by itself, which no shipped world has seen. Starts with one are recorded so:

    wm-gym record wm_gym/PushPyBullet-v0 --episodes 50 --out data/push-wanderer --env-kwargs '{"shift": "wanderer"}'
"""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi

import numpy as np
from scipy.ndimage import binary_dilation

from wm_gym.common.metrics import psnr
from wm_gym.common.statistics import mean, median, rate, ratio
from wm_gym.evaluation.control_worlds import Roll, RollOut, still
from wm_gym.evaluation.episodes import Episodes
from wm_gym.training.report import mirrored
from wm_gym.worlds.spec import WorldSpec

Decoder = Callable[[np.ndarray], np.ndarray]
"""Frames uint8 [..., H, W, 3] -> end-effector's position [..., D] in metres, its leading dimensions those of
proprioception (`StateDecoder.read`)."""
WITHIN = cos(pi / 4)
LEVELS = 8  # of 255 that a pixel must differ by to show something else
MARGIN = 3  # pixels around what the scene moves, where a world's drawing of it may still reach
LEAST = 8  # pixels of a distractor's region for a start to count


def delta_psnr(
    roll_outs: dict[str, RollOut], episodes: Episodes, spec: WorldSpec, horizon: int = 4, seed: int = 0
) -> dict[str, dict]:
    """Does it matter which actions a world is given? PSNR(true actions) - PSNR(other actions) at a horizon, in dB.

    Delta_t PSNR = PSNR(x_t, x^_t) - PSNR(x_t, x^'_t) (Bruce et al. 2024, "Genie", sec. 3.1; t = 4), x_t the true frame
    and x^'_t made under other actions: "random" (uniform within the bounds), "shuffled" (another episode's) and
    "mirrored". Returns per roll-out `mean` over episodes of these and of "psnr_true_db"; 0 is a world that does not
    listen. PSNR stops at 68 dB, so physics' own difference is no bound: `through(physics, tokenizer)` is one.
    ValueError for one episode only, or fewer steps than the horizon.
    """
    episodes = _up_to(episodes, horizon)
    rng = np.random.default_rng(seed)
    other = {
        "random": rng.uniform(spec.action_low, spec.action_high, episodes.action.shape),
        "shuffled": episodes.action[episodes.others(seed)],
        "mirrored": mirrored(episodes.action, spec),
    }
    truth, result = episodes.clips.frames[episodes.rows[:, horizon]], {}
    for name, roll_out in roll_outs.items():
        true = psnr(roll_out(episodes)["frame"][:, -1], truth)
        lost = {
            what: true - psnr(roll_out(episodes.acting(actions))["frame"][:, -1], truth)
            for what, actions in other.items()
        }
        result[name] = {
            "psnr_true_db": mean(episodes.means(true)),
            **{what: mean(episodes.means(values)) for what, values in lost.items()},
        }
    return result


def loss_ratio(
    roll_outs: dict[str, RollOut],
    episodes: Episodes,
    horizon: int = 1,
    encode: Callable[[np.ndarray], np.ndarray] | None = None,
    seed: int = 0,
) -> dict[str, dict]:
    """How much worse is a world when it is given another episode's actions? Its loss then / its loss given the true ones.

    The loss is the mean squared error of the frame at a horizon, of pixels in [0, 1], or of what encode makes of
    frames uint8 [E, H, W, 3]: latents [E, ...] of the world's tokenizer. Returns per roll-out "ratio" (`ratio`: of the
    means over episodes; 1 is a world that does not listen, None one without loss, as physics is) with both losses,
    "true" and "shuffled". Controls: `zero_action`, `frozen`. ValueError for one episode only, or fewer steps than the horizon.
    """
    episodes = _up_to(episodes, horizon)
    asked = {"true": episodes, "shuffled": episodes.acting(episodes.action[episodes.others(seed)])}
    encode, result = encode or (lambda frames: frames.astype(np.float32) / 255), {}
    truth = encode(episodes.clips.frames[episodes.rows[:, horizon]])
    for name, roll_out in roll_outs.items():
        error = {what: encode(roll_out(some)["frame"][:, -1]) - truth for what, some in asked.items()}
        loss = {what: episodes.means((e**2).reshape(len(e), -1).mean(1)) for what, e in error.items()}
        result[name] = {
            "ratio": ratio(loss["shuffled"], loss["true"]),
            **{what: float(values.mean()) for what, values in loss.items()},
        }
    return result


def distractor(roll_outs: dict[str, RollOut], episodes: Episodes, spec: WorldSpec, plain: RollOut) -> dict[str, dict]:
    """Is what moves by itself taken for the action's doing? Roll-outs from starts that show a distractor.

    Each start is rolled out under its recorded, zero and mirrored actions. The squared change of a pixel since the
    start, averaged over the three, is the change that they share plus their variance; "attributed" is the variance's
    part (`ratio` over episodes of sums over steps and pixels, 0 to 1; None where nothing changes). "moved" (`ratio`) is
    the change made / the true change: a world that lets the distractor stand still attributes nothing of it, and is far
    below 1 there. Pixels are those that the distractor passes in the recording, less those where `plain`, physics
    without it, shows that actions or time change anything, and 3 around them; "counted" is the `rate` of starts that
    keep 8 pixels.

    episodes: whole from the first row of each, of a twin with the shift "wanderer" (see above), for its way begins at a
    reset. Floor: that twin's `physics`, 0. A world without memory cannot know from one frame that something moves.
    ValueError where no start counts.
    """
    asked = [
        episodes.acting(actions)
        for actions in (episodes.action, still(episodes.action, spec), mirrored(episodes.action, spec))
    ]
    truth = episodes.frames.astype(np.float32)
    bare = np.stack([plain(some)["frame"] for some in asked])
    passed = (np.abs(truth[:, 1:] - bare[0]).max(-1) > LEVELS).any(1)
    busy = (np.ptp(bare, axis=(0, 2)) > LEVELS).any(-1)
    region = passed & ~binary_dilation(busy, np.ones((1, 3, 3)), iterations=MARGIN)
    counts = region.sum((1, 2)) >= LEAST
    if not counts.any():
        raise ValueError(
            f"none of {len(counts)} starts shows a distractor away from what the actions move; record "
            'more, or fewer steps: wm-gym record ENV_ID --env-kwargs \'{"shift": "wanderer"}\''
        )
    asked, truth, region = [some.select(counts) for some in asked], truth[counts], region[counts]

    def total(change: np.ndarray) -> np.ndarray:
        return asked[0].means((change.mean(-1) * region[:, None]).sum((1, 2, 3)))

    moved, result = total((truth[:, 1:] - truth[:, :1]) ** 2), {}
    for name, roll_out in roll_outs.items():
        made = np.stack([roll_out(some)["frame"] for some in asked]).astype(np.float32)
        change = total(((made - truth[:, :1]) ** 2).mean(0))
        result[name] = {"attributed": ratio(total(made.var(0)), change), "moved": ratio(change, moved)}
    return {"counted": rate(counts), **result}


def directions(
    roll_outs: dict[str, RollOut],
    episodes: Episodes,
    spec: WorldSpec,
    decoder: Decoder,
    dims: int = 2,
    steps: int = 5,
    twin: RollOut | None = None,
    seed: int = 0,
) -> dict[str, dict]:
    """Does the end-effector go where it is sent? One random direction a start, commanded at full scale for all steps.

    Give 200 starts or more: `Episodes.of(held, 5, every=10)` cuts five from an episode of 50 steps.
    The action's first `dims` dimensions move it along the first `dims` of proprioception. Returns per roll-out "frames"
    (displacement read off start and last frame) and, where it predicts one, "proprioception" (which a world may
    integrate from the action without a look at its frames): "same_side" and "within_45" degrees of the command
    (`rate`; no displacement is wrong), "chance_within_45" (its displacements against the commands of other starts) and
    "along_cm" (`mean` over episodes of the displacement along the command). With a twin, only commands count that
    physics carries out (within 45 degrees, half as far as is usual), for at the workspace's edge nothing moves:
    "carried_out_by_physics" is their rate. Controls: `mirrored`, `zero_action`, `shuffle`. ValueError where the bounds do not
    lie around 0, the episodes are shorter, or physics carries out nothing.
    """
    low, high = np.array(spec.action_low[:dims]), np.array(spec.action_high[:dims])
    if not 1 <= dims <= spec.action_dim or not ((low < 0) & (high > 0)).all():
        raise ValueError(
            f"the first {dims} action bounds are {low.tolist()} and {high.tolist()}; expected bounds "
            "around 0, of actions that displace the end-effector; give dims= how many do"
        )
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
            raise ValueError(
                f"physics carries out none of {len(way)} commands; are the action's first {dims} "
                "dimensions those that move the end-effector along proprioception's? Give dims="
            )
        carried, episodes, way = {"carried_out_by_physics": rate(obeyed)}, episodes.select(obeyed), way[obeyed]
    return {
        **carried,
        **{
            name: {
                what: _agreement(moved, way, episodes)
                for what, moved in _moved(episodes, roll_out(episodes), decoder, dims).items()
            }
            for name, roll_out in roll_outs.items()
        },
    }


def no_op(
    roll_outs: dict[str, RollOut], episodes: Episodes, spec: WorldSpec, decoder: Decoder, dims: int = 2, steps: int = 10
) -> dict[str, dict]:
    """Does nothing move without an action? The same starts under zero actions (clipped to the bounds).

    Returns per roll-out "frame_change": mean absolute difference of the last frame to the start, "flicker": to the frame
    before it (levels of 255, `mean` over episodes), and "frames", "proprioception": the end-effector's displacement in
    cm (`median` over pieces with its 95th percentile), read off the frames and as predicted. Floors: physics, and
    `through(physics, tokenizer)`, for drawing a start changes it once. ValueError for fewer than 2 steps, or fewer in
    the episodes.
    """
    if not 2 <= steps <= episodes.action.shape[1]:
        raise ValueError(f"steps is {steps}, expected 2 to {episodes.action.shape[1]}, the episodes' steps")
    episodes = episodes.acting(still(episodes.action[:, :steps], spec))
    start, result = episodes.clips.frames[episodes.rows[:, 0]], {}
    for name, roll_out in roll_outs.items():
        made = roll_out(episodes)
        frames = made["frame"]
        result[name] = {
            what: mean(episodes.means(np.abs(frames[:, -1] - before.astype(np.float32)).mean((1, 2, 3))))
            for what, before in (("frame_change", start), ("flicker", frames[:, -2]))
        }
        result[name] |= {
            what: {
                f"{key}_cm" if key != "n" else key: value
                for key, value in median(100 * np.linalg.norm(moved, axis=1)).items()
            }
            for what, moved in _moved(episodes, made, decoder, dims).items()
        }
    return result


def _up_to(episodes: Episodes, horizon: int) -> Episodes:
    """The first steps of each piece; ValueError where there are fewer."""
    if not 1 <= horizon <= episodes.action.shape[1]:
        raise ValueError(f"horizon is {horizon}, expected 1 to {episodes.action.shape[1]}, the episodes' steps")
    return episodes.acting(episodes.action[:, :horizon])


def _moved(episodes: Episodes, made: Roll, decoder: Decoder | None, dims: int) -> dict[str, np.ndarray]:
    """The end-effector's displacement [E, dims] in metres over a roll-out, as read and as predicted, by source."""
    found = {}
    if decoder is not None:
        start = episodes.clips.frames[episodes.rows[:, 0]]
        found["frames"] = (decoder(made["frame"][:, -1]) - decoder(start))[:, :dims]
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
    return {
        "same_side": rate(along > 0),
        "within_45": rate(np.diag(every)),
        "chance_within_45": float(every[~np.eye(n, dtype=bool)].mean()) if n > 1 else None,
        "along_cm": mean(episodes.means(100 * along)),
    }
