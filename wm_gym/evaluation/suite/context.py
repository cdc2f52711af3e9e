"""What is measured? One world, its environment, and recordings of that which are made when first needed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from safetensors.torch import load_file, save_file

from wm_gym.collect.acting import policy_kinds
from wm_gym.collect.policies import MIX
from wm_gym.collect.record import record
from wm_gym.common.files import atomic_file
from wm_gym.common.records import Blank, Undefined, or_blank
from wm_gym.common.registry import registered
from wm_gym.data import ClipData, open_clips
from wm_gym.data.observed import draws, observation_codec, picture_of, proprioception_of
from wm_gym.data.resize import resized
from wm_gym.engine.artefacts import digest_of
from wm_gym.evaluation.control_worlds import RollOut, learned, recorded, through
from wm_gym.evaluation.episodes import Episodes
from wm_gym.evaluation.metrics.violations import Detector
from wm_gym.evaluation.probes.state_decoder import FitOptions, StateDecoder, fit_state_decoder
from wm_gym.evaluation.suite.options import Size
from wm_gym.physics.shift import HIDDEN
from wm_gym.physics.tracked import TrackedObject, tracked_by
from wm_gym.worlds.world import World

DISTRACTED = 12  # steps


@dataclass(frozen=True)
class Context:
    """The evaluation context: a world, its twin, and recordings of the twin, made when first needed, kept in `out`.

    The twin is the environment that the world was learned from, a physics twin or any other; what it lacks, or the
    world, is Undefined.
    """

    folder: Path
    twin: str
    out: Path
    size: Size = Size()
    seed: int = 0
    agent: str = ""
    """Folder of an agent, whose drift is measured too."""

    @cached_property
    def world(self) -> World:
        """The world."""
        return World.from_pretrained(self.folder)

    @property
    def drawing(self) -> World:
        """The world; Undefined where it was trained without pictures."""
        if not self.world.spec.draws:
            raise Undefined(
                f"{self.world.spec.name} was trained without pictures, which this compares; its numbers are checked by "
                "wm-gym check, its policies' returns by wm-gym evaluate-policies"
            )
        return self.world

    @property
    def weights(self) -> dict[str, str]:
        """What tells the world's weights from others, by component."""
        return {name: digest_of(part) for name, part in self.world.modules().items()}

    @cached_property
    def acting(self) -> RollOut:
        """The world's roll-out function."""
        return learned(self.drawing)

    @cached_property
    def env(self) -> gym.Env:
        """The twin, which draws; Undefined where it cannot, or the world does not."""
        self.drawing  # noqa: B018
        return drawing_env(self.twin)

    @cached_property
    def tracked(self) -> TrackedObject:
        """The object that the twin's task moves; Undefined where it names none."""
        return tracked_by(self.env)

    @cached_property
    def held(self) -> Episodes:
        """Of the twin's `mix` of policies, as long as the world's horizon."""
        return self.whole(self.recording("held", "mix", self.size.episodes, 1))

    @property
    def horizons(self) -> tuple[int, ...]:
        """1, 10, 25 and 50 steps as far as the episodes go, and their last."""
        n = self.held.action.shape[1]
        return tuple(sorted({t for t in (1, 10, 25, 50) if t < n} | {n}))

    @cached_property
    def violation_episodes(self) -> Episodes:
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
    def guarantee_held(self) -> Episodes:
        """That the calibration's guarantees are held against."""
        return self.whole(self.recording("promised", "mix", self.size.guarantee_episodes, 6))

    @cached_property
    def usual(self) -> Episodes:
        """Of the expert, who touches things early."""
        return self.pushes("expert")

    def shifted(self, name: str) -> Episodes:
        """The same of a twin whose physics differs; Undefined where there is no such twin."""
        return self.pushes(name, {"shift": name})

    @property
    def all_shifted(self) -> list[Episodes | Blank]:
        """Of all hidden shifts."""
        return [or_blank(partial(self.shifted, name)) for name in HIDDEN]

    @cached_property
    def wandering(self) -> Episodes:
        """Pieces of a twin in which something moves by itself; Undefined where there is none."""
        clips = self.recording("wanderer", "mix", max(1, self.size.starts // 4), 8, {"shift": "wanderer"})
        return Episodes.of(clips, DISTRACTED)

    @property
    def wandering_or_blank(self) -> Episodes | Blank:
        """`wandering`, or why there is none."""
        return or_blank(lambda: self.wandering)

    def pushes(self, name: str, env_kwargs: dict[str, Any] | None = None) -> Episodes:
        """Episodes of the expert."""
        clips = self.recording(name, "expert", max(1, self.size.starts // 2), 4, env_kwargs)
        return Episodes.of(clips, min(30, self.world.spec.horizon))

    def half_minutes(self, name: str, policy: str, stream: int) -> Episodes:
        """Episodes of 30 s under a policy."""
        steps = round(30 * self.world.spec.fps)
        return Episodes.of(
            self.recording(name, policy, self.size.long_episodes, stream, {"max_episode_steps": steps}), steps
        )

    @cached_property
    def decoder(self) -> StateDecoder:
        """Frames to end-effector and object, learned once on recordings of its own.

        Not to its turn: a decoder of that as well puts the object a centimetre off (see `drift`'s floor).
        """
        tracked, file = self.tracked, self.out / "reader.safetensors"
        clips = self.recording("reader", "mix", self.size.decoder_episodes, 3)
        states = tracked.states(clips)[:, : tracked.read]
        if file.is_file():
            decoder = StateDecoder((clips.frames.shape[1], clips.frames.shape[2]), states.shape[1])
            decoder.load_state_dict(load_file(file))
            return decoder.eval().requires_grad_(False)
        options = FitOptions(views=self.world.tokenizer.round_trip, updates=self.size.decoder_updates)
        decoder = fit_state_decoder(clips.frames, states, clips.frames[::50], states[::50], options).decoder
        with atomic_file(file) as beside:
            save_file({key: value.contiguous() for key, value in decoder.state_dict().items()}, beside)
        return decoder

    @property
    def decoder_or_blank(self) -> StateDecoder | Blank:
        """`decoder`, or why there is none."""
        return or_blank(lambda: self.decoder)

    @cached_property
    def detector(self) -> Detector:
        """Of violations, fitted on the first half of `held` as the tokenizer draws it."""
        floor = through(recorded, self.world.tokenizer)
        return Detector.fit(floor, self.held.select(np.arange(len(self.held) // 2)), self.tracked, self.decoder.read)

    def whole(self, clips: ClipData) -> Episodes:
        """A recording's episodes, as long as the world's horizon."""
        return Episodes.whole(clips, self.world.spec.horizon)

    def recording(self, name: str, policy: str, episodes: int, stream: int, env_kwargs: dict | None = None) -> ClipData:
        """A recording of the twin in `out`; what is there already is taken. Undefined without such a policy."""
        twin_spec(self.twin)
        self.drawing  # noqa: B018  or nothing is recorded
        if policy in MIX and policy not in (kinds := policy_kinds(self.env)):
            raise Undefined(f"{self.twin} has no scripted policy {policy!r}, only {', '.join(kinds)}")
        if env_kwargs and "shift" in env_kwargs:
            shifted_twin(self.twin, env_kwargs["shift"]).close()
        out, seed = self.out / "recordings" / name, self.seed + 1000 * stream
        height, width = self.world.spec.frame_size
        made = record(self.twin, episodes, policy, out=out, seed=seed, env_kwargs=env_kwargs)
        return open_clips(made, size=(height, width))


def starts_of(
    twin: str, shift: str | None, n: int, seed: int, size: tuple[int, int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """n first frames uint8 [n, H, W, 3] of a twin, shifted or not, and their proprioception [n, P].

    size: (H, W) of the frames; None for the twin's own.
    """
    starts = []
    with shifted_twin(twin, shift) if shift else drawing_env(twin) as env:
        codec = observation_codec(env)
        for k in range(n):
            observation, info = env.reset(seed=seed + k)
            frame, pose = picture_of(env, observation, codec), proprioception_of(observation, info, codec)
            starts.append((frame if size is None else resized(frame, size), np.zeros(0) if pose is None else pose))
    return np.stack([frame for frame, _ in starts]), np.stack([pose for _, pose in starts])


def drawing_env(twin: str) -> gym.Env:
    """A twin with render_mode="rgb_array"; Undefined where it cannot be made so."""
    spec = twin_spec(twin)
    if not draws(spec):
        raise Undefined(f"{twin} draws no pictures: its render_modes do not hold 'rgb_array'")
    return gym.make(spec, render_mode="rgb_array")


def twin_spec(twin: str) -> EnvSpec:
    """Of a twin, which a world's file may have named: nothing is imported, `evaluate` has done so if it was typed."""
    return registered(twin, "the twin")


def shifted_twin(twin: str, shift: str | dict[str, float]) -> gym.Env:
    """A twin that differs in one known way (`wm_gym.physics.shift`); Undefined where it cannot."""
    spec = twin_spec(twin)
    try:
        return gym.make(spec, render_mode="rgb_array", shift=shift)
    except (TypeError, ValueError) as error:
        raise Undefined(f"{twin} cannot be shifted: {error}") from error
