"""How far can this world be believed? Every measurement of a world beside its physics twin, an answer a file.

    wm-gym evaluate WORLD --twin ENV_ID

A twin is any Gymnasium environment with the world's spaces that gives `info["proprioception"]` and its physics state
away (`get_physics_state`, `reset(options={"physics_state"})`), and says what object its task moves (`tracked`, see
`wm_gym.physics.tracked`). What it lacks leaves the questions that need it undefined, with the reason.
"""

from __future__ import annotations

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
from wm_gym.evaluation.control import delta_psnr, directions, no_op
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
from wm_gym.evaluation.fvd import fvd
from wm_gym.evaluation.injected import Injector, detector_quality
from wm_gym.evaluation.perceptual import perceptual
from wm_gym.evaluation.physics_iq import compare, score
from wm_gym.evaluation.signals import StartCheck
from wm_gym.evaluation.state_decoder import StateDecoder, fit_state_decoder
from wm_gym.evaluation.uncertainty import detects_shifts, teacher_forced_errors, uncertainty
from wm_gym.evaluation.violations import Detector, violations
from wm_gym.files import write_json
from wm_gym.physics.shift import HIDDEN, VISIBLE
from wm_gym.physics.tracked import TrackedObject, displacement, tracked_by
from wm_gym.registration import find_spec
from wm_gym.rl.agent_folder import load_agent
from wm_gym.rl.statistics import mean
from wm_gym.shared import load_engine
from wm_gym.world import World, find_world

SETTING_FILE, FILMS_FILE = "setting.json", "films.npz"
CLIP = 16  # frames that an FVD looks at
FILMS = 8
OTHER_TAKE = {"mass": 1.1, "friction": 0.95}


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
    def long(self) -> Episodes:
        """Of 30 s, under random actions: scripts that reach their goal stop moving things."""
        return self.half_minutes("long", "random", 2)

    def half_minutes(self, name: str, policy: str, stream: int) -> Episodes:
        """Episodes of 30 s under a policy."""
        steps = round(30 * self.world.spec.fps)
        return Episodes.of(self.recording(name, policy, self.size.long_episodes, stream,
                                          {"max_episode_steps": steps}), steps)

    @cached_property
    def reader(self) -> StateDecoder:
        """Frames to end-effector and object, learned once on recordings of its own."""
        file, columns = self.out / "reader.safetensors", self.tracked.read
        clips = self.recording("reader", "mix", self.size.reader_episodes, 3)
        if file.is_file():
            decoder = StateDecoder(clips.frames.shape[1:3], columns)
            decoder.load_state_dict(load_file(file))
            return decoder.eval().requires_grad_(False)
        told = self.tracked.states(clips)[:, :columns]
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
             only: Sequence[str] | None = None, agent: str | Path | None = None, size: Size = Size(),
             seed: int = 0) -> Path:
    """Ask a world all `QUESTIONS` (or `only` some) and write each answer to `out`/<question>.json; returns `out`.

    twin: id of its physics twin (default: the one that the world names). out: a folder, by default
    `<world's name>-evaluation` here. agent: a policy's folder, under whose actions the drift is measured too
    ("agent_drift"). What an earlier call answered for the same weights and arguments is not asked
    again. ValueError for an unknown question and a world without a twin.
    """
    folder = find_world(world)
    lab_world = World.from_pretrained(folder)
    asked = [name for name in QUESTIONS if agent or name != "agent_drift"] if only is None else list(only)
    if unknown := sorted(set(asked) - set(QUESTIONS)):
        raise ValueError(f"questions {unknown} are unknown; choose of {list(QUESTIONS)}")
    if not (twin := twin or lab_world.spec.twin):
        raise ValueError(f"{folder} names no twin; pass the id of an environment with its spaces (--twin ENV_ID)")
    if "agent_drift" in asked and not agent:
        raise ValueError("agent_drift is the drift under an agent's actions: pass its folder (--agent AGENT)")
    find_spec(twin)
    out = Path(out or f"{lab_world.spec.name}-evaluation")
    lab = Lab(folder, twin, out, size, seed, str(load_agent(agent).folder) if agent else "")
    question = {"weights": {name: digest_of(part) for name, part in lab_world.modules().items()}, "twin": twin,
                "agent": lab.agent, "seed": seed, **asdict(size)}
    write_json(out / SETTING_FILE, setting(lab), indent=1)
    for number, name in enumerate(asked):
        print(f"{number + 1}/{len(asked)}  {name}", flush=True)
        answer_once(lab, name, question)
    return out


def setting(lab: Lab) -> dict[str, Any]:
    """What the answers are about."""
    spec, promised = lab.world.spec, lab.world.calibration
    return {"world": spec.name, "world_folder": str(lab.folder), "twin": lab.twin, "episodes": lab.size.episodes,
            "fps": spec.fps, "horizon": spec.horizon, "seed": lab.seed, "trained_on": spec.trained_on,
            "calibration": asdict(promised) if promised else None}


def answer_once(lab: Lab, name: str, question: dict[str, Any]) -> dict[str, Any]:
    """A question's answer, from its file where that answers the same."""
    path = lab.out / f"{name}.json"
    if path.is_file() and (kept := json.loads(path.read_text())).get("question") == question:
        return kept
    answer = QUESTIONS[name](lab) | {"question": question}
    write_json(path, answer, indent=1)
    return answer


def ask_fidelity(lab: Lab) -> dict[str, Any]:
    """PSNR, SSIM and ST-LPIPS per horizon beside a frozen frame and the tokenizer; FVD of the clips that end there."""
    episodes, horizons = lab.held, lab_horizons(lab)
    truth, half = episodes.frames[:, 1:], len(episodes) // 2
    made = {"world": lab.acting(episodes)["frame"], "frozen": frozen(episodes)["frame"],
            "tokenizer": through(recorded, lab.world.tokenizer)(episodes)["frame"]}
    found: dict[str, Any] = {name: _or_reason(lambda frames=frames: perceptual(frames, truth, horizons))
                             for name, frames in made.items()}
    for t in (t for t in horizons if t >= CLIP):
        real, again = truth[:half, t - CLIP:t], truth[half:2 * half, t - CLIP:t]
        found[f"fvd_at_{t}"] = {name: _or_reason(lambda frames=frames: fvd(real, frames[:half, t - CLIP:t], again))
                                for name, frames in made.items()}
    return found


def ask_drift(lab: Lab) -> dict[str, Any]:
    """`drift` at 5, 15 and 30 s under random actions."""
    return _drift(lab, lab.long)


def ask_agent_drift(lab: Lab) -> dict[str, Any]:
    """`drift` at 5, 15 and 30 s under an agent's."""
    return _drift(lab, lab.half_minutes("agent", f"agent:{lab.agent}", 7)) | {"agent": Path(lab.agent).name}


def _drift(lab: Lab, episodes: Episodes) -> dict[str, Any]:
    rng = np.random.default_rng(lab.seed)
    rollers = {"world": lab.acting, "physics": recorded, "tokenizer": through(recorded, lab.world.tokenizer),
               "nudged": physics(lab.env, lambda state: lab.tracked.nudged(state, rng)), "frozen": frozen}
    return drift(rollers, episodes, lab.tracked, lab.reader.read, lab.world.spec.fps)


def ask_control(lab: Lab) -> dict[str, Any]:
    """`delta_psnr`, `directions` and `no_op` of the world, physics and the controls."""
    spec, twin = lab.world.spec, physics(lab.env)
    rollers = {"world": lab.acting, "physics": twin, **control_worlds(lab.acting, spec, twin),
               "turned": turned(lab.acting, spec)}
    pieces = Episodes.of(lab.held.clips, 10, every=25)
    hands = lambda frames: lab.reader.read(frames)[..., :lab.tracked.hand]  # noqa: E731
    return {"delta_psnr": delta_psnr(rollers, lab.held, spec, seed=lab.seed),
            "directions": directions(rollers, pieces, spec, hands, lab.tracked.hand, twin=twin, seed=lab.seed),
            "no_op": no_op(rollers, pieces, spec, hands, lab.tracked.hand)}


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
    half = len(lab.held) // 2
    fitted, asked = lab.held.select(np.arange(half)), lab.held.select(np.arange(half, len(lab.held)))
    floor = through(recorded, lab.world.tokenizer)
    detector = Detector.fit(floor, fitted, lab.tracked, lab.reader.read)
    found = violations({"world": lab.acting, "physics through the tokenizer": floor, "physics": recorded,
                        "frozen": frozen}, asked, detector)
    return {"episodes": len(asked), "steps": asked.action.shape[1], "limits": detector.limits,
            "detector": detector_quality(detector, Injector(lab.env, lab.tracked), asked,
                                         lab.world.tokenizer.round_trip),
            "violations": found, "worst": _worst(detector, lab.acting, asked, lab.out),
            "per_100_frames": {name: sum(row["per_100_frames"] for row in rows.values())
                               for name, rows in found.items()}}


def ask_uncertainty(lab: Lab) -> dict[str, Any]:
    """`uncertainty` under the recorded actions."""
    many = lab.whole(lab.recording("promised", "mix", lab.size.promised_episodes, 6))
    return uncertainty(lab.world, many, lab_horizons(lab), seed=lab.seed)


def ask_shifts(lab: Lab) -> dict[str, Any]:
    """AUROC of `StartCheck` for visible shifts, of one-step errors on true frames for hidden ones."""
    engine, n = load_engine(lab.world, "auto", "auto", True), lab.size.starts
    usual = starts_of(lab.twin, None, n, lab.seed)
    visible = {name: _or_reason(lambda name=name: starts_of(lab.twin, name, n, lab.seed + n)) for name in VISIBLE}
    known = {name: pictures for name, pictures in visible.items() if not isinstance(pictures, dict)}
    steps = min(30, lab.world.spec.horizon)
    plain = teacher_forced_errors(lab.world, Episodes.of(lab.recording("expert", "expert", n // 2, 4), steps))
    hidden = {}
    for name in HIDDEN:
        hidden[name] = _or_reason(lambda name=name: {"auroc": auroc(plain, teacher_forced_errors(
            lab.world, Episodes.of(lab.recording(name, "expert", n // 2, 5, {"shift": name}), steps)))})
    return {"starts": n, "visible": detects_shifts(StartCheck(lab.world, engine), usual, known) |
            {name: reason for name, reason in visible.items() if isinstance(reason, dict)}, "hidden": hidden}


def ask_films(lab: Lab) -> dict[str, Any]:
    """Not a measurement: what the report shows, `films.npz` with "world", "physics" and "uncertainty"."""
    moved = displacement(lab.held, lab.tracked)[:, -1]
    some = lab.held.select(np.sort(np.argsort(-moved, kind="stable")[:FILMS]))
    made = lab.acting(some)
    start = some.frames[:, :1]
    np.savez_compressed(lab.out / FILMS_FILE, world=np.concatenate([start, made["frame"]], axis=1),
                        physics=some.frames, uncertainty=made["uncertainty"].astype(np.float16))
    return {"films": len(some)}


QUESTIONS: dict[str, Callable[[Lab], dict[str, Any]]] = {
    "fidelity": ask_fidelity, "drift": ask_drift, "agent_drift": ask_agent_drift, "control": ask_control,
    "physics_iq": ask_physics_iq, "violations": ask_violations, "uncertainty": ask_uncertainty, "shifts": ask_shifts,
    "films": ask_films}


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


def _worst(detector: Detector, roller: Roller, episodes: Episodes, out: Path, most: int = 12) -> list[dict[str, Any]]:
    """The worst event of each episode and class, the worst first; their frames go to `worst.npz`."""
    made = roller(episodes)["frame"]
    severities = detector.severities(detector.read(made, episodes))
    found = [{"class": kind, "severity": event.excess, "episode": event.episode,
              "step": int(event.first + np.nanargmax(severities[kind][event.episode, event.first - 1:event.last])),
              "over_limit": event.excess / max(detector.limits[kind], 1e-9)}
             for kind, events in detector.events(severities).items() for event in events]
    found = sorted(found, key=lambda event: -event["over_limit"])[:most]
    pairs = [(made[event["episode"], event["step"] - 1], episodes.frames[event["episode"], event["step"]])
             for event in found]
    np.savez_compressed(out / "worst.npz", frames=np.stack(pairs) if pairs else np.zeros((0, 2, 1, 1, 3), np.uint8))
    return found


def _or_reason(measure: Callable[[], Any]) -> Any:
    """What it gives, or {"undefined": why} where weights, spaces or episodes for it are missing."""
    try:
        return measure()
    except (FileNotFoundError, ValueError, TypeError) as error:
        return {"undefined": str(error)}
