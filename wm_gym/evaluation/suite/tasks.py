"""Which tasks measure a world, and how?"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import numpy as np

from wm_gym.common.records import Blank, Undefined, or_blank
from wm_gym.common.statistics import Mean, mean
from wm_gym.engine.shared import load_engine
from wm_gym.evaluation.control_worlds import (
    RollOut,
    control_worlds,
    frozen,
    mirrored,
    physics,
    recorded,
    through,
    zero_action,
)
from wm_gym.evaluation.episodes import Episodes
from wm_gym.evaluation.judges.attribution import JudgeErrors, judge_errors
from wm_gym.evaluation.metrics import control
from wm_gym.evaluation.metrics.drift import DriftResult, drift
from wm_gym.evaluation.metrics.fvd import frechet_distance, i3d_features
from wm_gym.evaluation.metrics.perceptual import Looks, perceptual
from wm_gym.evaluation.metrics.physics_iq import METRICS, compare, score
from wm_gym.evaluation.metrics.violations import UNITS, Broken, Detector, violations
from wm_gym.evaluation.probes.inverse import InverseAccuracy, InverseError, fit_inverse, inverse_accuracy, inverse_error
from wm_gym.evaluation.suite.context import Context, shifted_twin, starts_of
from wm_gym.evaluation.trust.coverage import auroc
from wm_gym.evaluation.trust.injected import DetectorQuality, Injector, detector_quality
from wm_gym.evaluation.trust.signals import StartCheck
from wm_gym.evaluation.trust.uncertainty import (
    ShiftSeen,
    UncertaintyResult,
    detects_shifts,
    teacher_forced_errors,
    uncertainty,
)
from wm_gym.models.i3d import load_i3d
from wm_gym.models.st_lpips import load_st_lpips
from wm_gym.physics.shift import HIDDEN, VISIBLE

Network = TypeVar("Network")
CLIP, CLIPS = 16, 32  # frames that an FVD looks at, and how many such clips: more take I3D an hour
OTHER_TAKE = {"mass": 1.1, "friction": 0.95}


@dataclass(frozen=True)
class Task:
    """A measurement: what it calls, and what of the context that must have been made before tasks run at once."""

    measure: Callable[[Context], Any]
    """Its signature says which dataclass it returns: by that one the report reads what was kept."""
    needs: tuple[str, ...] = ()
    """Names of properties of a `Context`."""

    def __post_init__(self) -> None:
        if not is_dataclass(self.result):
            raise TypeError(
                f"{self.measure.__name__} returns {self.result}; expected a dataclass, named in the signature: "
                f"def {self.measure.__name__}(context: Context) -> MyResult"
            )
        if unknown := [need for need in self.needs if not hasattr(Context, need)]:
            raise ValueError(f"{self.measure.__name__} needs {unknown}, which a Context does not have")

    @property
    def result(self) -> Any:
        """The dataclass of its results."""
        return get_type_hints(self.measure).get("return")


@dataclass(frozen=True)
class Distances:
    """Frechet Video Distances from true clips that end at one step."""

    n: int
    frames: int
    features: str
    of: dict[str, float]
    """By name; "floor" are other true clips."""


@dataclass(frozen=True)
class FidelityResult:
    """How close frames are to the true ones, by horizon ("at_{t}") and name."""

    episodes: int
    horizons: list[int]
    looks: dict[str, dict[str, Looks]] | Blank
    fvd: dict[str, Distances | Blank]


def measure_fidelity(context: Context) -> FidelityResult:
    """PSNR, SSIM and ST-LPIPS per horizon beside a frozen frame and the tokenizer; FVD of the clips that end there."""
    episodes, horizons = context.held, context.horizons
    truth, half = episodes.frames[:, 1:], len(episodes) // 2
    made = {
        "world": context.acting(episodes)["frame"],
        "frozen": frozen(episodes)["frame"],
        "tokenizer": through(recorded, context.world.tokenizer)(episodes)["frame"],
    }
    n = min(half, CLIPS)
    clips = {"real": truth[:n], "floor": truth[half : half + n], **{name: frames[:n] for name, frames in made.items()}}
    return FidelityResult(
        len(episodes),
        list(horizons),
        or_blank(partial(_looks, made, truth, horizons)),
        {f"at_{t}": or_blank(partial(_distances, clips, t)) for t in horizons if t >= CLIP},
    )


def _looks(made: dict[str, np.ndarray], truth: np.ndarray, horizons: tuple[int, ...]) -> dict[str, dict[str, Looks]]:
    """`perceptual` of each of the videos, by horizon first."""
    network = _weights(load_st_lpips)
    of_each = {name: perceptual(frames, truth, horizons, network) for name, frames in made.items()}
    return {f"at_{t}": {name: found[f"at_{t}"] for name, found in of_each.items()} for t in horizons}


def _distances(videos: dict[str, np.ndarray], t: int) -> Distances:
    """FVD of each of the videos from the "real" ones, "floor" being others as real; all end at step t."""
    network, n = _weights(load_i3d), len(videos["real"])
    if n < 2:
        raise Undefined(f"{n} clips; a Frechet distance needs at least 2: measure more episodes (--episodes N)")
    features = {name: i3d_features(frames[:, t - CLIP : t], network) for name, frames in videos.items()}
    real = features.pop("real")
    distances = {name: frechet_distance(real, each) for name, each in features.items()}
    return Distances(n, CLIP, "I3D Kinetics-400 logits", distances)


def _weights(load: Callable[[], Network]) -> Network:
    """A published network; Undefined where its weights are not in the cache."""
    try:
        return load()
    except FileNotFoundError as error:
        raise Undefined(str(error)) from error


def measure_drift(context: Context) -> DriftResult:
    """`drift` at 5, 15 and 30 s under random actions."""
    return _drift(context, context.long)


def measure_agent_drift(context: Context) -> DriftResult:
    """`drift` at 5, 15 and 30 s under an agent's."""
    return replace(_drift(context, context.agent_long), agent=Path(context.agent).name)


def _drift(context: Context, episodes: Episodes) -> DriftResult:
    roll_outs = {
        "world": context.acting,
        "physics": recorded,
        "tokenizer": through(recorded, context.world.tokenizer),
        "perturbed": _perturbed(context),
        "frozen": frozen,
    }
    return drift(roll_outs, episodes, context.tracked, context.decoder.read, context.world.spec.fps)


def _perturbed(context: Context) -> RollOut:
    """Physics whose object starts 2 mm and 3 degrees off."""
    rng = np.random.default_rng(context.seed)
    return physics(context.env, lambda state: context.tracked.perturbed(state, rng))


@dataclass(frozen=True)
class ControlResult:
    """What worlds and controls make of actions; None for what an earlier version did not measure."""

    delta_psnr: dict[str, control.DeltaPsnr] | None = None
    loss_ratio: dict[str, control.LossRatio] | None = None
    directions: control.DirectionsResult | None = None
    no_op: dict[str, control.Rest] | None = None
    distractor: control.DistractorResult | Blank | None = None
    without_physics: str | None = None
    """Why physics, directions and rest were not asked, where they were not."""


def measure_control(context: Context) -> ControlResult:
    """What the world, physics and the controls make of actions: every measure of `metrics.control`.

    Without a simulator whose object is followed, of the world and the controls alone, and of recorded frames.
    """
    spec, held = context.world.spec, context.held
    if isinstance(reason := context.decoder_or_blank, Blank):
        alone = {"world": context.acting, "frozen": frozen, "zero_action": zero_action(context.acting, spec)}
        return ControlResult(
            control.delta_psnr(alone, held, spec, min(4, held.action.shape[1]), seed=context.seed),
            control.loss_ratio(alone, held, seed=context.seed),
            without_physics=reason.undefined,
        )
    twin = physics(context.env)
    roll_outs = {
        "world": context.acting,
        "physics": twin,
        **control_worlds(context.acting, spec, twin),
        "mirrored": mirrored(context.acting, spec),
    }
    pieces = Episodes.of(context.held.clips, 10, every=25)

    def hands(frames: np.ndarray) -> np.ndarray:
        return context.decoder.read(frames)[..., : context.tracked.hand]

    return ControlResult(
        control.delta_psnr(roll_outs, context.held, spec, seed=context.seed),
        control.loss_ratio(roll_outs, context.held, seed=context.seed),
        control.directions(roll_outs, pieces, spec, hands, context.tracked.hand, twin=twin, seed=context.seed),
        control.no_op(roll_outs, pieces, spec, hands, context.tracked.hand),
        or_blank(lambda: _distractor(context, twin)),
    )


def _distractor(context: Context, plain: RollOut) -> control.DistractorResult:
    wandering, spec = context.wandering, context.world.spec
    with closing(shifted_twin(context.twin, "wanderer")) as env:
        return control.distractor({"world": context.acting, "physics": physics(env)}, wandering, spec, plain)


@dataclass(frozen=True)
class InverseResult:
    """Which actions the frames show: real ones, and by name those that were made, up to each horizon."""

    real: InverseAccuracy
    made: dict[str, dict[str, InverseError]]


def measure_inverse(context: Context) -> InverseResult:
    """Which actions the frames show: `inverse_accuracy` of real pairs, `inverse_error` of world and controls."""
    horizons, half = context.horizons, len(context.held) // 2
    taught = context.whole(context.recording("reader", "mix", context.size.decoder_episodes, 3))
    inverse = fit_inverse(
        taught, context.held.select(np.arange(half)), context.world.tokenizer.round_trip, seed=context.seed
    )
    asked = context.held.select(np.arange(half, len(context.held)))
    roll_outs = {"world": context.acting, **control_worlds(context.acting, context.world.spec)}
    return InverseResult(
        inverse_accuracy(inverse, asked, context.world.spec), inverse_error(roll_outs, asked, inverse, horizons)
    )


def measure_judge(context: Context) -> JudgeErrors:
    """`judge_errors` under the recorded actions."""
    engine, read = load_engine(context.world, "auto", "auto", decode=False), context.decoder.read
    return judge_errors(
        context.world, context.acting, context.held, context.env, context.tracked, read, engine, context.seed
    )


@dataclass(frozen=True)
class PhysicsIQ:
    """Physics-IQ's score and the means of its parts."""

    score: float
    spatiotemporal_iou: Mean
    spatial_iou: Mean
    weighted_spatial_iou: Mean
    mse: Mean


@dataclass(frozen=True)
class PhysicsIQResult:
    """Physics-IQ against physics; the other take is a twin with other parameters, by so many times."""

    episodes: int
    other_take: dict[str, float]
    of: dict[str, PhysicsIQ]


def measure_physics_iq(context: Context) -> PhysicsIQResult:
    """Physics-IQ's score against physics; the other take is a twin whose object is heavier and smoother by a little."""
    truth = context.held.frames[:, 1:]
    with shifted_twin(context.twin, OTHER_TAKE) as other:
        takes = {
            "world": context.acting,
            "other take": physics(other),
            "frozen": frozen,
            "zero_action": zero_action(context.acting, context.world.spec),
        }
        found = {
            name: [compare(*pair) for pair in zip(roll_out(context.held)["frame"], truth)]
            for name, roll_out in takes.items()
        }
    return PhysicsIQResult(
        len(truth),
        OTHER_TAKE,
        {
            name: PhysicsIQ(
                score(rows, found["other take"]), **{key: mean([row[key] for row in rows]) for key in METRICS}
            )
            for name, rows in found.items()
        },
    )


@dataclass(frozen=True)
class WorstEvent:
    """One of the violations that exceed their limit most."""

    kind: str
    severity: float
    unit: str
    episode: int
    step: int
    frame: int
    """Which of the worst frames of the films shows it."""
    over_limit: float | None = None
    """The severity in multiples of the limit."""


@dataclass(frozen=True)
class ViolationsResult:
    """Which laws are broken, by name and class."""

    episodes: int
    steps: int
    violations: dict[str, dict[str, Broken]]
    limits: dict[str, float | None] = field(default_factory=dict)
    detector: dict[str, DetectorQuality] | None = None
    worst: list[WorstEvent] = field(default_factory=list)
    per_100_frames: dict[str, float] = field(default_factory=dict)
    """All classes together, by name."""


def measure_violations(context: Context) -> ViolationsResult:
    """`violations` beside noise floors, with the detector's own precision and recall; half the episodes fit it.

    "perturbed" is physics whose object starts a little off: beside the twin's replay it is where a good world may be.
    """
    asked, detector = context.violation_episodes, context.detector
    tokenizer = context.world.tokenizer
    found = violations(
        {
            "world": context.acting,
            "perturbed": through(_perturbed(context), tokenizer),
            "physics through the tokenizer": through(recorded, tokenizer),
            "physics": recorded,
            "frozen": frozen,
        },
        asked,
        detector,
    )
    return ViolationsResult(
        episodes=len(asked),
        steps=asked.action.shape[1],
        violations=found,
        limits={kind: limit if np.isfinite(limit) else None for kind, limit in detector.limits.items()},
        detector=detector_quality(detector, Injector(context.env, context.tracked), asked, tokenizer.round_trip),
        worst=_worst(detector, context.acting, asked),
        per_100_frames={name: sum(row.per_100_frames for row in rows.values()) for name, rows in found.items()},
    )


def measure_uncertainty(context: Context) -> UncertaintyResult:
    """`uncertainty` under the recorded actions."""
    return uncertainty(context.drawing, context.guarantee_held, context.horizons, seed=context.seed)


@dataclass(frozen=True)
class HiddenShift:
    """AUROC of one-step errors on true frames for a shift that no picture shows."""

    auroc: float


@dataclass(frozen=True)
class ShiftsResult:
    """Which shifts are noticed."""

    starts: int
    """Usual ones, and as many shifted ones each."""
    visible: dict[str, ShiftSeen | Blank]
    hidden: dict[str, HiddenShift | Blank]


def measure_shifts(context: Context) -> ShiftsResult:
    """AUROC of `StartCheck` for visible shifts, of one-step errors on true frames for hidden ones."""
    engine, n = load_engine(context.drawing, "auto", "auto", True), context.size.starts
    height, width = context.world.spec.frame_size
    starts = partial(starts_of, context.twin, n=n, size=(height, width))
    usual = starts(None, seed=context.seed)
    check = StartCheck(context.world, engine)
    plain = teacher_forced_errors(context.world, context.usual)

    pictures = {
        name: or_blank(partial(starts_of, context.twin, name, n, context.seed + n, (height, width))) for name in VISIBLE
    }
    seen = detects_shifts(check, usual, {name: some for name, some in pictures.items() if not isinstance(some, Blank)})

    def hidden(name: str) -> HiddenShift:
        return HiddenShift(auroc(plain, teacher_forced_errors(context.world, context.shifted(name))))

    return ShiftsResult(
        n,
        {name: some if isinstance(some, Blank) else seen[name] for name, some in pictures.items()},
        {name: or_blank(partial(hidden, name)) for name in HIDDEN},
    )


def _worst(detector: Detector, roll_out: RollOut, episodes: Episodes, most: int = 12) -> list[WorstEvent]:
    """The events that exceed their limit most, in multiples of it, the worst first."""
    severities = detector.severities(detector.read(roll_out(episodes)["frame"], episodes))
    found = [
        (event.excess / max(detector.limits[kind], 1e-9), kind, event)
        for kind, events in detector.events(severities).items()
        for event in events
    ]
    found.sort(key=lambda one: -one[0])
    return [
        WorstEvent(
            kind=kind,
            severity=event.excess,
            unit=UNITS[kind],
            episode=event.episode,
            step=int(event.first + np.nanargmax(severities[kind][event.episode, event.first - 1 : event.last])),
            frame=number,
            over_limit=over,
        )
        for number, (over, kind, event) in enumerate(found[:most])
    ]


TASKS: dict[str, Task] = {
    "fidelity": Task(measure_fidelity, ("held",)),
    "drift": Task(measure_drift, ("decoder", "long")),
    "agent_drift": Task(measure_agent_drift, ("decoder", "agent_long")),
    "control": Task(measure_control, ("decoder_or_blank", "held", "wandering_or_blank")),
    "inverse": Task(measure_inverse, ("decoder", "held")),
    "judge": Task(measure_judge, ("decoder", "held")),
    "physics_iq": Task(measure_physics_iq, ("held",)),
    "violations": Task(measure_violations, ("decoder", "held")),
    "uncertainty": Task(measure_uncertainty, ("guarantee_held",)),
    "shifts": Task(measure_shifts, ("usual", "all_shifted")),
}
"""Each result is kept in a file of its task's name. What is named here is measured by `wm-gym evaluate` and shown by
`wm-gym report`; the report's section is in `report.sections.SECTIONS`, or else a table of the result's fields."""
