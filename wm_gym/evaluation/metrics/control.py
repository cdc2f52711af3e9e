"""Does a world obey its actions? Delta-PSNR, loss ratio, commanded directions, and what moves without an action.

Every function takes roll-out functions by name (`wm_gym.evaluation.control_worlds`) and measures each alike: put the
world, physics' own twin (the floor) and the controls in. Intervals of means are over episodes, those of rates over
roll-outs.

A distractor is something that moves by itself, which no shipped world has seen. Starts with one are recorded so:

    wm-gym record wm_gym/PushPyBullet-v0 --episodes 50 --out data/push-wanderer --env-kwargs '{"shift": "wanderer"}'
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi

import numpy as np
from scipy.ndimage import binary_dilation

from wm_gym.common.metrics import psnr
from wm_gym.common.records import Undefined
from wm_gym.common.statistics import Mean, Median, Rate, Ratio, mean, median, rate, ratio
from wm_gym.evaluation.control_worlds import Roll, RollOut, still
from wm_gym.evaluation.episodes import Episodes
from wm_gym.training.report import mirrored as mirrored_actions
from wm_gym.worlds.spec import WorldSpec

Decoder = Callable[[np.ndarray], np.ndarray]
"""Frames uint8 [..., H, W, 3] -> end-effector's position [..., D] in metres, its leading dimensions those of
proprioception (`StateDecoder.read`)."""
WITHIN = cos(pi / 4)
LEVELS = 8  # of 255 that a pixel must differ by to show something else
MARGIN = 3  # pixels around what the scene moves, where a world's drawing of it may still reach
LEAST_PIXELS = 8  # pixels of a distractor's region for a start to count


@dataclass(frozen=True)
class DeltaPsnr:
    """PSNR in dB under the true actions, and how much of it is lost under others."""

    psnr_true_db: Mean
    random: Mean
    """Uniform within the bounds."""
    shuffled: Mean
    """Another episode's."""
    mirrored: Mean


@dataclass(frozen=True)
class LossRatio:
    """A loss under another episode's actions over that under the true ones."""

    ratio: Ratio
    """1 is a world that does not listen, None one without loss, as physics is."""
    true: float
    shuffled: float


@dataclass(frozen=True)
class Distracted:
    """What a roll-out makes of something that moves by itself."""

    attributed: Ratio
    """The share of the change that depends on the action, 0 to 1; None where nothing changes."""
    moved: Ratio
    """The change made / the true change."""


@dataclass(frozen=True)
class DistractorResult:
    """`distractor` of worlds and controls by name."""

    counted: Rate
    """Of the starts that show a distractor."""
    of: dict[str, Distracted]


@dataclass(frozen=True)
class Obedience:
    """How the end-effector follows commands."""

    same_side: Rate
    within_45: Rate
    """Degrees of the command; no displacement is wrong."""
    chance_within_45: float | None
    """Its displacements against the commands of other starts; None for one start."""
    along_cm: Mean
    """Over episodes, of the displacement along the command."""


@dataclass(frozen=True)
class DirectionsResult:
    """`directions` of worlds and controls by name."""

    carried_out_by_physics: Rate | None
    """None without a twin."""
    of: dict[str, dict[str, Obedience]]
    """By name, and by where the displacement is read: "frames", "proprioception"."""


@dataclass(frozen=True)
class Rest:
    """What moves under zero actions."""

    frame_change: Mean
    """Mean absolute difference of the last frame to the start, levels of 255."""
    flicker: Mean
    """The same to the frame before it."""
    frames_cm: Median | None
    """The end-effector's displacement, as read off the frames."""
    proprioception_cm: Median | None
    """As predicted; None where it is not."""


def delta_psnr(
    roll_outs: dict[str, RollOut], episodes: Episodes, spec: WorldSpec, horizon: int = 4, seed: int = 0
) -> dict[str, DeltaPsnr]:
    """PSNR under the true actions less PSNR under others at a horizon, in dB: does it matter what a world is given?

    Delta_t PSNR = PSNR(x_t, x^_t) - PSNR(x_t, x^'_t) (Bruce et al. 2024, "Genie", sec. 3.1; t = 4), x_t the true frame
    and x^'_t made under other actions: "random" (uniform within the bounds), "shuffled" (another episode's) and
    "mirrored". Means are over episodes; 0 is a world that does not listen. PSNR stops at 68 dB, so physics' own
    difference is no bound: `through(physics, tokenizer)` is one.

    Args:
        roll_outs: Worlds by name.
        episodes: Of two recorded episodes at least.
        spec: Has the actions' bounds.
        horizon: Steps.
        seed: Of the other actions.

    Raises:
        ValueError: For one episode only, or fewer steps than the horizon.
    """
    episodes = _first(episodes, horizon)
    rng = np.random.default_rng(seed)
    other = {
        "random": rng.uniform(spec.action_low, spec.action_high, episodes.action.shape),
        "shuffled": episodes.action[episodes.others(seed)],
        "mirrored": mirrored_actions(episodes.action, spec),
    }
    truth, result = episodes.clips.frames[episodes.rows[:, horizon]], {}
    for name, roll_out in roll_outs.items():
        true = psnr(roll_out(episodes)["frame"][:, -1], truth)
        lost = {
            what: true - psnr(roll_out(episodes.acting(actions))["frame"][:, -1], truth)
            for what, actions in other.items()
        }
        result[name] = DeltaPsnr(
            mean(episodes.means(true)), **{what: mean(episodes.means(values)) for what, values in lost.items()}
        )
    return result


def loss_ratio(
    roll_outs: dict[str, RollOut],
    episodes: Episodes,
    horizon: int = 1,
    encode: Callable[[np.ndarray], np.ndarray] | None = None,
    seed: int = 0,
) -> dict[str, LossRatio]:
    """The loss under another episode's actions over that under the true ones, of means over episodes.

    The loss is the mean squared error of the frame at a horizon. Controls: `zero_action`, `frozen`.

    Args:
        roll_outs: Worlds by name.
        episodes: Of two recorded episodes at least.
        horizon: Steps.
        encode: Frames uint8 [E, H, W, 3] -> what is compared: latents [E, ...] of the world's tokenizer (default:
            pixels in [0, 1]).
        seed: Of the other actions.

    Raises:
        ValueError: For one episode only, or fewer steps than the horizon.
    """
    episodes = _first(episodes, horizon)
    asked = {"true": episodes, "shuffled": episodes.acting(episodes.action[episodes.others(seed)])}
    encode, result = encode or (lambda frames: frames.astype(np.float32) / 255), {}
    truth = encode(episodes.clips.frames[episodes.rows[:, horizon]])
    for name, roll_out in roll_outs.items():
        error = {what: encode(roll_out(some)["frame"][:, -1]) - truth for what, some in asked.items()}
        loss = {what: episodes.means((e**2).reshape(len(e), -1).mean(1)) for what, e in error.items()}
        result[name] = LossRatio(
            ratio(loss["shuffled"], loss["true"]), float(loss["true"].mean()), float(loss["shuffled"].mean())
        )
    return result


def distractor(roll_outs: dict[str, RollOut], episodes: Episodes, spec: WorldSpec, plain: RollOut) -> DistractorResult:
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
    Undefined where no start counts.
    """
    acting = [
        episodes.acting(actions)
        for actions in (episodes.action, still(episodes.action, spec), mirrored_actions(episodes.action, spec))
    ]
    truth = episodes.frames.astype(np.float32)
    bare = np.stack([plain(some)["frame"] for some in acting])
    passed = (np.abs(truth[:, 1:] - bare[0]).max(-1) > LEVELS).any(1)
    busy = (np.ptp(bare, axis=(0, 2)) > LEVELS).any(-1)
    region = passed & ~binary_dilation(busy, np.ones((1, 3, 3)), iterations=MARGIN)
    counts = region.sum((1, 2)) >= LEAST_PIXELS
    if not counts.any():
        raise Undefined(
            f"none of {len(counts)} starts shows a distractor away from what the actions move; record "
            'more, or fewer steps: wm-gym record ENV_ID --env-kwargs \'{"shift": "wanderer"}\''
        )
    acting, truth, region = [some.select(counts) for some in acting], truth[counts], region[counts]

    def total(change: np.ndarray) -> np.ndarray:
        return acting[0].means((change.mean(-1) * region[:, None]).sum((1, 2, 3)))

    moved, result = total((truth[:, 1:] - truth[:, :1]) ** 2), {}
    for name, roll_out in roll_outs.items():
        made = np.stack([roll_out(some)["frame"] for some in acting]).astype(np.float32)
        change = total(((made - truth[:, :1]) ** 2).mean(0))
        result[name] = Distracted(attributed=ratio(total(made.var(0)), change), moved=ratio(change, moved))
    return DistractorResult(rate(counts), result)


def directions(
    roll_outs: dict[str, RollOut],
    episodes: Episodes,
    spec: WorldSpec,
    decoder: Decoder,
    dims: int = 2,
    steps: int = 5,
    twin: RollOut | None = None,
    seed: int = 0,
) -> DirectionsResult:
    """How the end-effector follows one random direction a start, commanded at full scale for all steps.

    The displacement is read off start and last frame ("frames") and, where a world predicts one, taken from its
    "proprioception", which it may integrate from the action without a look at its frames. Controls: `mirrored`,
    `zero_action`, `shuffle`.

    Args:
        roll_outs: Worlds by name.
        episodes: 200 starts or more: `Episodes.of(held, 5, every=10)` cuts five from an episode of 50 steps.
        spec: Has the actions' bounds.
        decoder: Reads the end-effector's position off frames.
        dims: So many leading dimensions of the action move it along as many of proprioception.
        steps: Of a command.
        twin: With one, only commands count that physics carries out (within 45 degrees, half as far as is usual), for
            at the workspace's edge nothing moves.
        seed: Of the directions.

    Raises:
        ValueError: Where the bounds do not lie around 0, the episodes are shorter, or physics carries out nothing.
    """
    low, high = np.array(spec.action_low[:dims]), np.array(spec.action_high[:dims])
    if not 1 <= dims <= spec.action_dim or not ((low < 0) & (high > 0)).all():
        raise ValueError(
            f"the first {dims} action bounds are {low.tolist()} and {high.tolist()}; expected bounds "
            "around 0, of actions that displace the end-effector; give dims= how many do"
        )
    if steps > episodes.action.shape[1]:
        raise ValueError(f"steps is {steps}, expected at most {episodes.action.shape[1]}, the episodes' steps")
    way = np.random.default_rng(seed).standard_normal((len(episodes), dims))
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    action = np.zeros((len(episodes), steps, spec.action_dim), np.float32)
    action[..., :dims] = (way * np.minimum(-low, high).min())[:, None]
    episodes, carried = episodes.acting(action), None
    if twin is not None:
        moved = _moved(episodes, twin(episodes), None, dims)["proprioception"]
        along = (moved * way).sum(1)
        obeyed = _within(moved, way) & (along > np.median(along) / 2)
        if not obeyed.any():
            raise ValueError(
                f"physics carries out none of {len(way)} commands; are the action's first {dims} "
                "dimensions those that move the end-effector along proprioception's? Give dims="
            )
        carried, episodes, way = rate(obeyed), episodes.select(obeyed), way[obeyed]
    made = {name: _moved(episodes, roll_out(episodes), decoder, dims) for name, roll_out in roll_outs.items()}
    followed = {
        name: {what: _obedience(moved, way, episodes) for what, moved in sources.items()}
        for name, sources in made.items()
    }
    return DirectionsResult(carried, followed)


def no_op(
    roll_outs: dict[str, RollOut], episodes: Episodes, spec: WorldSpec, decoder: Decoder, dims: int = 2, steps: int = 10
) -> dict[str, Rest]:
    """What moves in the same starts under zero actions (clipped to the bounds).

    Means are over episodes, medians over pieces. Floors: physics, and `through(physics, tokenizer)`, for drawing a
    start changes it once. ValueError for fewer than 2 steps, or fewer in the episodes.
    """
    episodes = _first(episodes, steps, "steps", least=2)
    episodes = episodes.acting(still(episodes.action, spec))
    start, result = episodes.clips.frames[episodes.rows[:, 0]], {}
    for name, roll_out in roll_outs.items():
        made = roll_out(episodes)
        frames = made["frame"]
        change, flicker = (
            mean(episodes.means(np.abs(frames[:, -1] - before.astype(np.float32)).mean((1, 2, 3))))
            for before in (start, frames[:, -2])
        )
        moved = {
            what: median(100 * np.linalg.norm(way, axis=1))
            for what, way in _moved(episodes, made, decoder, dims).items()
        }
        result[name] = Rest(change, flicker, moved.get("frames"), moved.get("proprioception"))
    return result


def _first(episodes: Episodes, steps: int, name: str = "horizon", least: int = 1) -> Episodes:
    """The first steps of each piece; ValueError where there are fewer."""
    most = episodes.action.shape[1]
    if not least <= steps <= most:
        raise ValueError(f"{name} is {steps}, expected {least} to {most}, the episodes' steps")
    return episodes.acting(episodes.action[:, :steps])


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


def _obedience(moved: np.ndarray, way: np.ndarray, episodes: Episodes) -> Obedience:
    along, every = (moved * way).sum(1), _within(moved[:, None], way[None])
    n = len(way)
    return Obedience(
        same_side=rate(along > 0),
        within_45=rate(np.diag(every)),
        chance_within_45=float(every[~np.eye(n, dtype=bool)].mean()) if n > 1 else None,
        along_cm=mean(episodes.means(100 * along)),
    )
