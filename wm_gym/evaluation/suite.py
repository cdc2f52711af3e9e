"""How far can this world be believed? Every measurement of a world beside its physics twin, an answer a file.

    wm-gym evaluate WORLD --twin ENV_ID

A twin is any Gymnasium environment with the world's spaces that gives `info["proprioception"]` and its physics state
away (`get_physics_state`, `reset(options={"physics_state"})`), and says what object its task moves (`tracked`, see
`wm_gym.physics.tracked`). What it lacks leaves the questions that need it undefined, with the reason.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from safetensors.torch import load_file, save_file

from wm_gym.data import ClipData, open_clips
from wm_gym.data.record import record
from wm_gym.engine.artefacts import digest_of
from wm_gym.evaluation.calibration import auroc
from wm_gym.evaluation.control import delta_psnr, directions, distractor, loss_ratio, no_op
from wm_gym.evaluation.controls import (
    Roller,
    control_worlds,
    deaf,
    frozen,
    learned,
    physics,
    recorded,
    through,
    turned,
)
from wm_gym.evaluation.drift import drift
from wm_gym.evaluation.episodes import Episodes
from wm_gym.evaluation.fvd import frechet_distance, i3d_features
from wm_gym.evaluation.inverse import fit_inverse, inverse_accuracy, inverse_error
from wm_gym.evaluation.jobs import Job, run_jobs
from wm_gym.evaluation.injected import Injector, detector_quality
from wm_gym.evaluation.perceptual import perceptual
from wm_gym.evaluation.physics_iq import compare, score
from wm_gym.evaluation.signals import StartCheck
from wm_gym.evaluation.state_decoder import StateDecoder, fit_state_decoder
from wm_gym.evaluation.uncertainty import detects_shifts, teacher_forced_errors, uncertainty
from wm_gym.evaluation.violations import UNITS, Detector, violations
from wm_gym.files import write_json
from wm_gym.physics.shift import HIDDEN, VISIBLE
from wm_gym.physics.tracked import TrackedObject, displacement, tracked_by
from wm_gym.registration import find_spec
from wm_gym.rl.agent_folder import load_agent
from wm_gym.rl.statistics import mean
from wm_gym.shared import load_engine
from wm_gym.spec import WorldSpec
from wm_gym.world import World, find_world

SETTING_FILE, FILMS_FILE = "setting.json", "films.npz"
CLIP, CLIPS = 16, 32  # frames that an FVD looks at, and how many such clips: more take I3D an hour
FILMS, FILMED = "films", 8  # not a question, but asked for like one; so many episodes
OTHER_TAKE = {"mass": 1.1, "friction": 0.95}
DISTRACTED = 12  # steps


@dataclass(frozen=True)
class Size:
    """How much is recorded and measured."""

    episodes: int = 200
    """Of the world's horizon."""
    long_episodes: int = 100
    """Of 30 s."""
    promised_episodes: int = 1000
    """That the calibration's promises are held against: 1,000 tell 90 % from 87 %."""
    reader_episodes: int = 400
    """That the state decoder learns from."""
    reader_updates: int = 3000
    starts: int = 200
    """Of each shift."""


@dataclass(frozen=True)
class Lab:
    """One world, its twin, and recordings of the twin that are made when first asked for and kept in `out`."""

    folder: Path
    twin: str
    out: Path
    size: Size = Size()
    seed: int = 0
    agent: str = ""
    """Folder of an agent, whose drift is asked for too."""

    @cached_property
    def world(self) -> World:
        return World.from_pretrained(self.folder)

    @cached_property
    def acting(self) -> Roller:
        return learned(self.world)

    @cached_property
    def env(self) -> gym.Env:
        return gym.make(self.twin, render_mode="rgb_array")

    @cached_property
    def tracked(self) -> TrackedObject:
        return tracked_by(self.env)

    @cached_property
    def held(self) -> Episodes:
        """Of the twin's `mix` of policies, as long as the world's horizon."""
        return self.whole(self.recording("held", "mix", self.size.episodes, 1))

    @cached_property
    def asked_of_violations(self) -> Episodes:
        """The half of `held` that the detector is not fitted on."""
        return self.held.select(np.arange(len(self.held) // 2, len(self.held)))

    @cached_property
    def long(self) -> Episodes:
        """Of 30 s, under random actions: scripts that reach their goal stop moving things."""
        return self.half_minutes("long", "random", 2)

    @cached_property
    def agent_long(self) -> Episodes:
        """Of 30 s, under the agent's actions."""
        return self.half_minutes("agent", f"agent:{self.agent}", 7)

    @cached_property
    def promised(self) -> Episodes:
        """That the calibration's promises are held against."""
        return self.whole(self.recording("promised", "mix", self.size.promised_episodes, 6))

    @cached_property
    def usual(self) -> Episodes:
        """Of the expert, who touches things early."""
        return self.pushes("expert")

    @cached_property
    def shifted(self) -> dict[str, Episodes | dict]:
        """The same of the twins whose physics differs; {"undefined"} where there is no such twin."""
        return {name: _or_reason(lambda name=name: self.pushes(name, {"shift": name})) for name in HIDDEN}

    @cached_property
    def wandering(self) -> Episodes | dict:
        """Pieces of a twin in which something moves by itself; {"undefined"} where there is none."""
        return _or_reason(lambda: Episodes.of(self.recording(
            "wanderer", "mix", max(1, self.size.starts // 4), 8, {"shift": "wanderer"}), DISTRACTED))

    def pushes(self, name: str, env_kwargs: dict | None = None) -> Episodes:
        clips = self.recording(name, "expert", max(1, self.size.starts // 2), 4, env_kwargs)
        return Episodes.of(clips, min(30, self.world.spec.horizon))

    def half_minutes(self, name: str, policy: str, stream: int) -> Episodes:
        """Episodes of 30 s under a policy."""
        steps = round(30 * self.world.spec.fps)
        return Episodes.of(self.recording(name, policy, self.size.long_episodes, stream,
                                          {"max_episode_steps": steps}), steps)

    @cached_property
    def reader(self) -> StateDecoder:
        """Frames to end-effector and object, learned once on recordings of its own.

        Not to its turn: a reader of that as well puts the object a centimetre off (see `drift`'s floor).
        """
        file, clips = self.out / "reader.safetensors", self.recording("reader", "mix", self.size.reader_episodes, 3)
        told = self.tracked.states(clips)[:, :self.tracked.read]
        if file.is_file():
            decoder = StateDecoder(clips.frames.shape[1:3], told.shape[1])
            decoder.load_state_dict(load_file(file))
            return decoder.eval().requires_grad_(False)
        decoder = fit_state_decoder(clips.frames, told, clips.frames[::50], told[::50],
                                    views=self.world.tokenizer.round_trip, updates=self.size.reader_updates).decoder
        save_file({key: value.contiguous() for key, value in decoder.state_dict().items()}, file)
        return decoder

    def whole(self, clips: ClipData) -> Episodes:
        """A recording's episodes, as long as the world's horizon."""
        return Episodes.of(clips, min(self.world.spec.horizon, int(np.diff(clips.episode_offset).max()) - 1))

    def recording(self, name: str, policy: str, episodes: int, stream: int, env_kwargs: dict | None = None) -> ClipData:
        """A recording of the twin in `out`; what is there already is taken."""
        folder = record(self.twin, episodes, policy, out=self.out / "recordings" / name, seed=self.seed + 1000 * stream,
                        env_kwargs=env_kwargs)
        return open_clips(folder)


def evaluate(world: str | Path, twin: str | None = None, out: str | Path | None = None,
             only: Sequence[str] | None = None, agent: str | Path | None = None, size: Size = Size(), seed: int = 0,
             workers: int | None = None, ray: str | None = None, progress: bool = True) -> Path:
    """Ask a world all `QUESTIONS` (or `only` some) and keep each answer in `out`/<question>.json; returns `out`.

    twin: id of its physics twin (default: the one that the world names). out: a folder, by default
    `<world's name>-evaluation` here. agent: a policy's folder, under whose actions the drift is measured too
    ("agent_drift"). workers: questions asked at once (default: one a core). ray: on this cluster instead (`run_jobs`),
    where the world must lie under the same path. What is answered is not asked again. ValueError for an unknown
    question, a world without a twin, and an `out` that holds answers about other weights, sizes or seeds.
    """
    folder = find_world(world).resolve()
    spec = WorldSpec.load(folder)
    known = [*QUESTIONS, FILMS]
    asked = [name for name in known if agent or name != "agent_drift"] if only is None else list(only)
    if unknown := sorted(set(asked) - set(known)):
        raise ValueError(f"questions {unknown} are unknown; choose of {known}")
    if "agent_drift" in asked and not agent:
        raise ValueError("agent_drift is the drift under an agent's actions: pass its folder (--agent AGENT)")
    if not (twin := twin or spec.twin):
        raise ValueError(f"{folder} names no twin; pass the id of an environment with its spaces (--twin ENV_ID)")
    find_spec(twin)
    out = Path(out or f"{spec.name}-evaluation").resolve()
    lab = Lab(folder, twin, out, size, seed, str(load_agent(agent).folder) if agent else "")
    write_json(out / SETTING_FILE, setting(lab), indent=1)
    for name in asked:
        for need in NEEDS[name]:
            getattr(lab, need)
    about = {"folder": str(folder), "twin": twin, "out": str(out), "size": asdict(size), "seed": seed}
    weights = {name: digest_of(part) for name, part in lab.world.modules().items()}
    jobs = [Job(out / f"{name}.json", f"{__name__}:answer", {
        **about, "agent": lab.agent if name == "agent_drift" else "", "question": name, "weights": weights})
        for name in asked if name != FILMS]
    run_jobs(jobs, workers, ray, progress)
    if FILMS in asked:
        write_films(lab)
    return out


def answer(folder: str, twin: str, out: str, size: dict[str, int], seed: int, agent: str, question: str,
           weights: dict[str, str]) -> dict[str, Any]:
    """One question's answer; weights say which world was meant, where its folder has changed since: ValueError."""
    lab = Lab(Path(folder), twin, Path(out), Size(**size), seed, agent)
    if weights != (here := {name: digest_of(part) for name, part in lab.world.modules().items()}):
        raise ValueError(f"{folder} holds other weights than were asked about: {sorted(set(weights) ^ set(here))}")
    return QUESTIONS[question](lab)


def setting(lab: Lab) -> dict[str, Any]:
    """What the answers are about."""
    spec, promised = lab.world.spec, lab.world.calibration
    return {"world": spec.name, "world_folder": str(lab.folder), "twin": lab.twin, "episodes": lab.size.episodes,
            "fps": spec.fps, "horizon": spec.horizon, "seed": lab.seed, "trained_on": spec.trained_on,
            "calibration": asdict(promised) if promised else None}


def ask_fidelity(lab: Lab) -> dict[str, Any]:
    """PSNR, SSIM and ST-LPIPS per horizon beside a frozen frame and the tokenizer; FVD of the clips that end there."""
    episodes, horizons = lab.held, lab_horizons(lab)
    truth, half = episodes.frames[:, 1:], len(episodes) // 2
    made = {"world": lab.acting(episodes)["frame"], "frozen": frozen(episodes)["frame"],
            "tokenizer": through(recorded, lab.world.tokenizer)(episodes)["frame"]}
    found: dict[str, Any] = {"episodes": len(episodes), "horizons": list(horizons)} | _or_reason(
        lambda: _looks({name: perceptual(frames, truth, horizons) for name, frames in made.items()}, horizons))
    n = min(half, CLIPS)
    for t in (t for t in horizons if t >= CLIP):
        clips = {"real": truth[:n], "floor": truth[half:half + n], **{name: x[:n] for name, x in made.items()}}
        found[f"fvd_at_{t}"] = _or_reason(lambda t=t, clips=clips: _fvds(clips, t))
    return found


def _looks(of_each: dict[str, dict], horizons: tuple[int, ...]) -> dict[str, dict]:
    """`perceptual` of each of the videos, by horizon first."""
    return {f"at_{t}": {name: found[f"at_{t}"] for name, found in of_each.items()} for t in horizons}


def _fvds(videos: dict[str, np.ndarray], t: int) -> dict[str, Any]:
    """`fvd` of each of the videos from the "real" ones, "floor" being others as real; all end at step t."""
    features = {name: i3d_features(frames[:, t - CLIP:t]) for name, frames in videos.items()}
    real = features.pop("real")
    return {"n": len(real), "frames": CLIP, "features": "I3D Kinetics-400 logits",
            **{name: frechet_distance(real, each) for name, each in features.items()}}


def ask_drift(lab: Lab) -> dict[str, Any]:
    """`drift` at 5, 15 and 30 s under random actions."""
    return _drift(lab, lab.long)


def ask_agent_drift(lab: Lab) -> dict[str, Any]:
    """`drift` at 5, 15 and 30 s under an agent's."""
    return _drift(lab, lab.agent_long) | {"agent": Path(lab.agent).name}


def _drift(lab: Lab, episodes: Episodes) -> dict[str, Any]:
    rng = np.random.default_rng(lab.seed)
    rollers = {"world": lab.acting, "physics": recorded, "tokenizer": through(recorded, lab.world.tokenizer),
               "nudged": physics(lab.env, lambda state: lab.tracked.nudged(state, rng)), "frozen": frozen}
    return drift(rollers, episodes, lab.tracked, lab.reader.read, lab.world.spec.fps)


def ask_control(lab: Lab) -> dict[str, Any]:
    """What the world, physics and the controls make of actions: every measure of `wm_gym.evaluation.control`."""
    spec, twin = lab.world.spec, physics(lab.env)
    rollers = {"world": lab.acting, "physics": twin, **control_worlds(lab.acting, spec, twin),
               "turned": turned(lab.acting, spec)}
    pieces = Episodes.of(lab.held.clips, 10, every=25)
    hands = lambda frames: lab.reader.read(frames)[..., :lab.tracked.hand]  # noqa: E731
    return {"delta_psnr": delta_psnr(rollers, lab.held, spec, seed=lab.seed),
            "loss_ratio": loss_ratio(rollers, lab.held, seed=lab.seed),
            "directions": directions(rollers, pieces, spec, hands, lab.tracked.hand, twin=twin, seed=lab.seed),
            "no_op": no_op(rollers, pieces, spec, hands, lab.tracked.hand), "distractor": _distractor(lab, twin)}


def _distractor(lab: Lab, plain: Roller) -> dict[str, Any]:
    if isinstance(lab.wandering, dict):
        return lab.wandering
    env = gym.make(lab.twin, render_mode="rgb_array", shift="wanderer")
    try:
        return distractor({"world": lab.acting, "physics": physics(env)}, lab.wandering, lab.world.spec, plain)
    finally:
        env.close()


def ask_inverse(lab: Lab) -> dict[str, Any]:
    """Which actions the frames show: `inverse_accuracy` of real pairs, `inverse_error` of world and controls."""
    horizons, half = lab_horizons(lab), len(lab.held) // 2
    taught = lab.whole(lab.recording("reader", "mix", lab.size.reader_episodes, 3))
    inverse = fit_inverse(taught, lab.held.select(np.arange(half)), lab.world.tokenizer.round_trip, seed=lab.seed)
    asked = lab.held.select(np.arange(half, len(lab.held)))
    rollers = {"world": lab.acting, **control_worlds(lab.acting, lab.world.spec)}
    return {"real": inverse_accuracy(inverse, asked, lab.world.spec),
            "made": inverse_error(rollers, asked, inverse, horizons)}


def ask_physics_iq(lab: Lab) -> dict[str, Any]:
    """Physics-IQ's score against physics; the other take is a twin whose object is heavier and smoother by a little."""
    other = gym.make(lab.twin, render_mode="rgb_array", shift=OTHER_TAKE)
    takes = {"world": lab.acting, "other take": physics(other), "frozen": frozen,
             "deaf": deaf(lab.acting, lab.world.spec)}
    truth = lab.held.frames[:, 1:]
    found = {name: [compare(*pair) for pair in zip(roller(lab.held)["frame"], truth)] for name, roller in takes.items()}
    other.close()
    return {"episodes": len(truth), "other_take": OTHER_TAKE, **{
        name: {"score": score(rows, found["other take"]), **{key: mean([row[key] for row in rows]) for key in rows[0]}}
        for name, rows in found.items()}}


def ask_violations(lab: Lab) -> dict[str, Any]:
    """`violations` beside the noise floor, with the detector's own precision and recall; half the episodes fit it."""
    fitted, asked = lab.held.select(np.arange(len(lab.held) // 2)), lab.asked_of_violations
    floor = through(recorded, lab.world.tokenizer)
    detector = Detector.fit(floor, fitted, lab.tracked, lab.reader.read)
    found = violations({"world": lab.acting, "physics through the tokenizer": floor, "physics": recorded,
                        "frozen": frozen}, asked, detector)
    return {"episodes": len(asked), "steps": asked.action.shape[1], "limits": detector.limits,
            "detector": detector_quality(detector, Injector(lab.env, lab.tracked), asked,
                                         lab.world.tokenizer.round_trip),
            "violations": found, "worst": _worst(detector, lab.acting, asked),
            "per_100_frames": {name: sum(row["per_100_frames"] for row in rows.values())
                               for name, rows in found.items()}}


def ask_uncertainty(lab: Lab) -> dict[str, Any]:
    """`uncertainty` under the recorded actions."""
    return uncertainty(lab.world, lab.promised, lab_horizons(lab), seed=lab.seed)


def ask_shifts(lab: Lab) -> dict[str, Any]:
    """AUROC of `StartCheck` for visible shifts, of one-step errors on true frames for hidden ones."""
    engine, n = load_engine(lab.world, "auto", "auto", True), lab.size.starts
    usual = starts_of(lab.twin, None, n, lab.seed)
    visible = {name: _or_reason(lambda name=name: starts_of(lab.twin, name, n, lab.seed + n)) for name in VISIBLE}
    known = {name: pictures for name, pictures in visible.items() if not isinstance(pictures, dict)}
    plain = teacher_forced_errors(lab.world, lab.usual)
    hidden = {name: some if isinstance(some, dict) else {"auroc": auroc(plain, teacher_forced_errors(lab.world, some))}
              for name, some in lab.shifted.items()}
    return {"starts": n, "visible": detects_shifts(StartCheck(lab.world, engine), usual, known) |
            {name: reason for name, reason in visible.items() if isinstance(reason, dict)}, "hidden": hidden}


def write_films(lab: Lab) -> None:
    """What a report shows, `films.npz`: "world" and "physics" uint8 [E, n+1, H, W, 3], "uncertainty" float16.

    Of the episodes in which the object moves most; with "worst_frames" uint8 [k, 2, H, W, 3], world and physics of
    `violations.json`'s worst events, where it is there.
    """
    some = lab.held.select(np.arange(min(FILMED, len(lab.held))))
    with contextlib.suppress(ValueError):  # nothing is tracked
        moved = displacement(lab.held, lab.tracked)[:, -1]
        some = lab.held.select(np.sort(np.argsort(-moved, kind="stable")[:FILMED]))
    made, start = lab.acting(some), some.frames[:, :1]
    films = {"world": np.concatenate([start, made["frame"]], axis=1), "physics": some.frames,
             "uncertainty": made["uncertainty"].astype(np.float16)}
    if (path := lab.out / "violations.json").is_file() and (worst := json.loads(path.read_text())["result"]["worst"]):
        asked = lab.asked_of_violations
        imagined, real = lab.acting(asked)["frame"], asked.frames
        films["worst_frames"] = np.stack([(imagined[event["episode"], event["step"] - 1],
                                           real[event["episode"], event["step"]]) for event in worst])
    np.savez_compressed(lab.out / FILMS_FILE, **films)


QUESTIONS: dict[str, Callable[[Lab], dict[str, Any]]] = {
    "fidelity": ask_fidelity, "drift": ask_drift, "agent_drift": ask_agent_drift, "control": ask_control,
    "inverse": ask_inverse, "physics_iq": ask_physics_iq, "violations": ask_violations,
    "uncertainty": ask_uncertainty, "shifts": ask_shifts}
NEEDS: dict[str, tuple[str, ...]] = {
    "fidelity": ("held",), "drift": ("reader", "long"), "agent_drift": ("reader", "agent_long"),
    "control": ("reader", "held", "wandering"), "inverse": ("reader", "held"), "physics_iq": ("held",),
    "violations": ("reader", "held"), "uncertainty": ("promised",), "shifts": ("usual", "shifted"), FILMS: ("held",)}
"""What of a `Lab` must be there before questions are asked at once."""


def lab_horizons(lab: Lab) -> tuple[int, ...]:
    """1, 10, 25 and 50 steps as far as the episodes go, and their last."""
    n = lab.held.action.shape[1]
    return tuple(sorted({t for t in (1, 10, 25, 50) if t < n} | {n}))


def starts_of(twin: str, shift: str | None, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """n first frames uint8 [n, H, W, 3] of a twin, shifted or not, and their proprioception [n, P]."""
    env = gym.make(twin, render_mode="rgb_array", **({"shift": shift} if shift else {}))
    frames, poses = [], []
    for k in range(n):
        info = env.reset(seed=seed + k)[1]
        frames.append(env.render())
        poses.append(info["proprioception"])
    env.close()
    return np.stack(frames), np.stack(poses)


def _worst(detector: Detector, roller: Roller, episodes: Episodes, most: int = 12) -> list[dict[str, Any]]:
    """The events that exceed their limit most, in multiples of it, the worst first."""
    severities = detector.severities(detector.read(roller(episodes)["frame"], episodes))
    found = [{"class": kind, "severity": event.excess, "unit": UNITS[kind], "episode": event.episode,
              "step": int(event.first + np.nanargmax(severities[kind][event.episode, event.first - 1:event.last])),
              "over_limit": event.excess / max(detector.limits[kind], 1e-9)}
             for kind, events in detector.events(severities).items() for event in events]
    worst = sorted(found, key=lambda event: -event["over_limit"])[:most]
    return [event | {"frame": number} for number, event in enumerate(worst)]


def _or_reason(measure: Callable[[], Any]) -> Any:
    """What it gives, or {"undefined": why} where weights, spaces or episodes for it are missing."""
    try:
        return measure()
    except (FileNotFoundError, ValueError, TypeError) as error:
        return {"undefined": str(error)}
