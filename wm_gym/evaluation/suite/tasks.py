"""Which questions is a world asked, and how is each answered?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from wm_gym.common.statistics import mean
from wm_gym.engine.shared import load_engine
from wm_gym.evaluation.control_worlds import Roller, control_worlds, deaf, frozen, physics, recorded, through, turned
from wm_gym.evaluation.episodes import Episodes
from wm_gym.evaluation.judges.attribution import judge_errors
from wm_gym.evaluation.metrics.control import delta_psnr, directions, distractor, loss_ratio, no_op
from wm_gym.evaluation.metrics.drift import drift
from wm_gym.evaluation.metrics.fvd import frechet_distance, i3d_features
from wm_gym.evaluation.metrics.perceptual import perceptual
from wm_gym.evaluation.metrics.physics_iq import compare, score
from wm_gym.evaluation.metrics.violations import UNITS, Detector, violations
from wm_gym.evaluation.probes.inverse import fit_inverse, inverse_accuracy, inverse_error
from wm_gym.evaluation.suite.context import Lab, or_reason, shifted_twin, starts_of
from wm_gym.evaluation.trust.coverage import auroc
from wm_gym.evaluation.trust.injected import Injector, detector_quality
from wm_gym.evaluation.trust.signals import StartCheck
from wm_gym.evaluation.trust.uncertainty import detects_shifts, teacher_forced_errors, uncertainty
from wm_gym.models.i3d import load_i3d
from wm_gym.physics.shift import VISIBLE

CLIP, CLIPS = 16, 32  # frames that an FVD looks at, and how many such clips: more take I3D an hour
OTHER_TAKE = {"mass": 1.1, "friction": 0.95}


def ask_fidelity(lab: Lab) -> dict[str, Any]:
    """PSNR, SSIM and ST-LPIPS per horizon beside a frozen frame and the tokenizer; FVD of the clips that end there."""
    episodes, horizons = lab.held, lab.horizons
    truth, half = episodes.frames[:, 1:], len(episodes) // 2
    made = {
        "world": lab.acting(episodes)["frame"],
        "frozen": frozen(episodes)["frame"],
        "tokenizer": through(recorded, lab.world.tokenizer)(episodes)["frame"],
    }
    found: dict[str, Any] = {"episodes": len(episodes), "horizons": list(horizons)} | or_reason(
        lambda: _looks({name: perceptual(frames, truth, horizons) for name, frames in made.items()}, horizons)
    )
    n = min(half, CLIPS)
    for t in (t for t in horizons if t >= CLIP):
        clips = {"real": truth[:n], "floor": truth[half : half + n], **{name: x[:n] for name, x in made.items()}}
        found[f"fvd_at_{t}"] = or_reason(lambda t=t, clips=clips: _fvds(clips, t))
    return found


def _looks(of_each: dict[str, dict], horizons: tuple[int, ...]) -> dict[str, dict]:
    """`perceptual` of each of the videos, by horizon first."""
    return {f"at_{t}": {name: found[f"at_{t}"] for name, found in of_each.items()} for t in horizons}


def _fvds(videos: dict[str, np.ndarray], t: int) -> dict[str, Any]:
    """`fvd` of each of the videos from the "real" ones, "floor" being others as real; all end at step t."""
    network = load_i3d()
    features = {name: i3d_features(frames[:, t - CLIP : t], network) for name, frames in videos.items()}
    real = features.pop("real")
    return {
        "n": len(real),
        "frames": CLIP,
        "features": "I3D Kinetics-400 logits",
        **{name: frechet_distance(real, each) for name, each in features.items()},
    }


def ask_drift(lab: Lab) -> dict[str, Any]:
    """`drift` at 5, 15 and 30 s under random actions."""
    return _drift(lab, lab.long)


def ask_agent_drift(lab: Lab) -> dict[str, Any]:
    """`drift` at 5, 15 and 30 s under an agent's."""
    return _drift(lab, lab.agent_long) | {"agent": Path(lab.agent).name}


def _drift(lab: Lab, episodes: Episodes) -> dict[str, Any]:
    rollers = {
        "world": lab.acting,
        "physics": recorded,
        "tokenizer": through(recorded, lab.world.tokenizer),
        "nudged": _nudged(lab),
        "frozen": frozen,
    }
    return drift(rollers, episodes, lab.tracked, lab.reader.read, lab.world.spec.fps)


def _nudged(lab: Lab) -> Roller:
    """Physics whose object starts 2 mm and 3 degrees off."""
    rng = np.random.default_rng(lab.seed)
    return physics(lab.env, lambda state: lab.tracked.perturbed(state, rng))


def ask_control(lab: Lab) -> dict[str, Any]:
    """What the world, physics and the controls make of actions: every measure of `wm_gym.evaluation.metrics.control`."""
    spec, twin = lab.world.spec, physics(lab.env)
    rollers = {
        "world": lab.acting,
        "physics": twin,
        **control_worlds(lab.acting, spec, twin),
        "turned": turned(lab.acting, spec),
    }
    pieces = Episodes.of(lab.held.clips, 10, every=25)
    hands = lambda frames: lab.reader.read(frames)[..., : lab.tracked.hand]
    return {
        "delta_psnr": delta_psnr(rollers, lab.held, spec, seed=lab.seed),
        "loss_ratio": loss_ratio(rollers, lab.held, seed=lab.seed),
        "directions": directions(rollers, pieces, spec, hands, lab.tracked.hand, twin=twin, seed=lab.seed),
        "no_op": no_op(rollers, pieces, spec, hands, lab.tracked.hand),
        "distractor": _distractor(lab, twin),
    }


def _distractor(lab: Lab, plain: Roller) -> dict[str, Any]:
    if isinstance(lab.wandering, dict):
        return lab.wandering
    env = shifted_twin(lab.twin, "wanderer")
    try:
        return distractor({"world": lab.acting, "physics": physics(env)}, lab.wandering, lab.world.spec, plain)
    finally:
        env.close()


def ask_inverse(lab: Lab) -> dict[str, Any]:
    """Which actions the frames show: `inverse_accuracy` of real pairs, `inverse_error` of world and controls."""
    horizons, half = lab.horizons, len(lab.held) // 2
    taught = lab.whole(lab.recording("reader", "mix", lab.size.reader_episodes, 3))
    inverse = fit_inverse(taught, lab.held.select(np.arange(half)), lab.world.tokenizer.round_trip, seed=lab.seed)
    asked = lab.held.select(np.arange(half, len(lab.held)))
    rollers = {"world": lab.acting, **control_worlds(lab.acting, lab.world.spec)}
    return {
        "real": inverse_accuracy(inverse, asked, lab.world.spec),
        "made": inverse_error(rollers, asked, inverse, horizons),
    }


def ask_judge(lab: Lab) -> dict[str, Any]:
    """`judge_errors` under the recorded actions."""
    return judge_errors(
        lab.world,
        lab.acting,
        lab.held,
        lab.env,
        lab.tracked,
        lab.reader.read,
        load_engine(lab.world, "auto", "auto", decode=False),
        lab.seed,
    )


def ask_physics_iq(lab: Lab) -> dict[str, Any]:
    """Physics-IQ's score against physics; the other take is a twin whose object is heavier and smoother by a little."""
    other = shifted_twin(lab.twin, OTHER_TAKE)
    takes = {
        "world": lab.acting,
        "other take": physics(other),
        "frozen": frozen,
        "deaf": deaf(lab.acting, lab.world.spec),
    }
    truth = lab.held.frames[:, 1:]
    found = {name: [compare(*pair) for pair in zip(roller(lab.held)["frame"], truth)] for name, roller in takes.items()}
    other.close()
    return {
        "episodes": len(truth),
        "other_take": OTHER_TAKE,
        **{
            name: {
                "score": score(rows, found["other take"]),
                **{key: mean([row[key] for row in rows]) for key in rows[0]},
            }
            for name, rows in found.items()
        },
    }


def ask_violations(lab: Lab) -> dict[str, Any]:
    """`violations` beside noise floors, with the detector's own precision and recall; half the episodes fit it.

    "nudged" is physics whose object starts a little off: beside the twin's replay it is where a good world may be.
    """
    asked, detector = lab.asked_of_violations, lab.detector
    tokenizer = lab.world.tokenizer
    found = violations(
        {
            "world": lab.acting,
            "nudged": through(_nudged(lab), tokenizer),
            "physics through the tokenizer": through(recorded, tokenizer),
            "physics": recorded,
            "frozen": frozen,
        },
        asked,
        detector,
    )
    return {
        "episodes": len(asked),
        "steps": asked.action.shape[1],
        "limits": detector.limits,
        "detector": detector_quality(detector, Injector(lab.env, lab.tracked), asked, tokenizer.round_trip),
        "violations": found,
        "worst": _worst(detector, lab.acting, asked),
        "per_100_frames": {name: sum(row["per_100_frames"] for row in rows.values()) for name, rows in found.items()},
    }


def ask_uncertainty(lab: Lab) -> dict[str, Any]:
    """`uncertainty` under the recorded actions."""
    return uncertainty(lab.world, lab.promised, lab.horizons, seed=lab.seed)


def ask_shifts(lab: Lab) -> dict[str, Any]:
    """AUROC of `StartCheck` for visible shifts, of one-step errors on true frames for hidden ones."""
    engine, n = load_engine(lab.world, "auto", "auto", True), lab.size.starts
    usual = starts_of(lab.twin, None, n, lab.seed)
    visible = {name: or_reason(lambda name=name: starts_of(lab.twin, name, n, lab.seed + n)) for name in VISIBLE}
    known = {name: pictures for name, pictures in visible.items() if not isinstance(pictures, dict)}
    plain = teacher_forced_errors(lab.world, lab.usual)
    hidden = {
        name: some if isinstance(some, dict) else {"auroc": auroc(plain, teacher_forced_errors(lab.world, some))}
        for name, some in lab.shifted.items()
    }
    return {
        "starts": n,
        "visible": detects_shifts(StartCheck(lab.world, engine), usual, known)
        | {name: reason for name, reason in visible.items() if isinstance(reason, dict)},
        "hidden": hidden,
    }


def _worst(detector: Detector, roller: Roller, episodes: Episodes, most: int = 12) -> list[dict[str, Any]]:
    """The events that exceed their limit most, in multiples of it, the worst first."""
    severities = detector.severities(detector.read(roller(episodes)["frame"], episodes))
    found = [
        {
            "class": kind,
            "severity": event.excess,
            "unit": UNITS[kind],
            "episode": event.episode,
            "step": int(event.first + np.nanargmax(severities[kind][event.episode, event.first - 1 : event.last])),
            "over_limit": event.excess / max(detector.limits[kind], 1e-9),
        }
        for kind, events in detector.events(severities).items()
        for event in events
    ]
    worst = sorted(found, key=lambda event: -event["over_limit"])[:most]
    return [event | {"frame": number} for number, event in enumerate(worst)]


QUESTIONS: dict[str, Callable[[Lab], dict[str, Any]]] = {
    "fidelity": ask_fidelity,
    "drift": ask_drift,
    "agent_drift": ask_agent_drift,
    "control": ask_control,
    "inverse": ask_inverse,
    "judge": ask_judge,
    "physics_iq": ask_physics_iq,
    "violations": ask_violations,
    "uncertainty": ask_uncertainty,
    "shifts": ask_shifts,
}
NEEDS: dict[str, tuple[str, ...]] = {
    "fidelity": ("held",),
    "drift": ("reader", "long"),
    "agent_drift": ("reader", "agent_long"),
    "control": ("reader", "held", "wandering"),
    "inverse": ("reader", "held"),
    "judge": ("reader", "held"),
    "physics_iq": ("held",),
    "violations": ("reader", "held"),
    "uncertainty": ("promised",),
    "shifts": ("usual", "shifted"),
}
"""What of a `Lab` each question needs; all of it must be there before questions are asked at once."""
