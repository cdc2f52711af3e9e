"""Which worlds must a measurement tell from a good one? Five that are wrong in one known way each, and physics itself.

A world that is measured is a RollOut: Episodes -> arrays as `roll_out` gives them, frame uint8 [E, n, H, W, 3], reward
[E, n, R], success [E, n], uncertainty [E, n, h, w] and proprioception [E, n, P] of steps 1 .. n. A measurement takes
{name: RollOut}, so that world, physics and controls are measured alike:

    world, twin = learned(load_world("Push-v0")), physics(gym.make("wm_gym/PushPyBullet-v0", render_mode="rgb_array"))
    delta_psnr({"world": world, "physics": twin, **control_worlds(world, spec, twin)}, episodes, spec)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from wm_gym.engine.base import Engine
from wm_gym.engine.rollout import roll_out
from wm_gym.engine.shared import load_engine
from wm_gym.evaluation.episodes import Episodes
from wm_gym.models.tokenizer import Codec
from wm_gym.training.report import mirrored as mirrored_actions
from wm_gym.worlds.spec import WorldSpec
from wm_gym.worlds.world import World

Roll = dict[str, np.ndarray]
RollOut = Callable[[Episodes], Roll]
NOISE = 25.0  # standard deviation of `jitter`, of 255 levels


def learned(world: World, engine: Engine | None = None, seed: int = 0) -> RollOut:
    """A learned World, on an engine (default: the fastest here, made once a process)."""
    engine = engine or load_engine(world, "auto", "auto", decode=True)

    def roll(episodes: Episodes) -> Roll:
        clips, start = episodes.clips, episodes.rows[:, :1]
        return roll_out(world, clips.frames[start], episodes.action, clips.proprioception[start], seed, engine)

    return roll


def recorded(episodes: Episodes) -> Roll:
    """What physics did when the episodes were recorded, whatever the actions are now."""
    return _shown(episodes, episodes.rows[:, 1:]) | {"reward": episodes.clips.reward[episodes.rows[:, :-1]]}


def physics(env: gym.Env, perturbed: Callable[[np.ndarray], np.ndarray] | None = None) -> RollOut:
    """A physics twin from the episodes' physics states, under any actions; also gives "physics_state" [E, n, S].

    perturbed: changes a start's physics state [S] (`TrackedObject.perturbed`: the chaos floor). ValueError where the
    twin draws nothing (its render_mode is not "rgb_array") and where the recording holds no physics states.
    """
    twin = drawing_twin(env)

    def roll(episodes: Episodes) -> Roll:
        steps = []
        for start, actions in zip(episodes.physics_state[:, 0], episodes.action):
            twin.reset(options={"physics_state": perturbed(start) if perturbed else start})
            for action in actions:
                info = twin.step(action)[-1]
                terms = [info[key] for key in sorted(info) if key.startswith("reward/")]
                made = {"frame": twin.render(), "reward": terms, "physics_state": twin.get_physics_state()}
                steps.append(made | {key: info[key] for key in ("success", "proprioception")})
        size = episodes.action.shape[:2]
        arrays = {
            key: np.reshape([step[key] for step in steps], (*size, *np.shape(one))) for key, one in steps[0].items()
        }
        sure = _certain(episodes, size[1])
        return {**arrays, "success": arrays["success"].astype(np.float32), "uncertainty": sure}

    return roll


def drawing_twin(env: gym.Env) -> Any:
    """A physics twin without its wrappers; ValueError where it draws nothing."""
    twin: Any = env.unwrapped
    if twin.render_mode != "rgb_array":
        raise ValueError(
            f"the twin's render_mode is {twin.render_mode!r}, expected 'rgb_array': "
            "gym.make(ENV_ID, render_mode='rgb_array')"
        )
    return twin


def through(world: RollOut, tokenizer: Codec) -> RollOut:
    """A world's frames as a tokenizer draws them: the most that a perfect world with this tokenizer can show."""

    def roll(episodes: Episodes) -> Roll:
        made = world(episodes)
        return made | {"frame": np.stack([tokenizer.round_trip(frames) for frames in made["frame"]])}

    return roll


def frozen(episodes: Episodes) -> Roll:
    """The first frame, repeated: nothing ever happens."""
    made = _shown(episodes, np.repeat(episodes.rows[:, :1], episodes.action.shape[1], axis=1))
    return made | {"reward": np.zeros((*made["success"].shape, episodes.clips.reward.shape[1]), np.float32)}


def still(actions: np.ndarray, spec: WorldSpec) -> np.ndarray:
    """Zero actions in the shape of others, clipped to the world's bounds."""
    return np.clip(np.zeros_like(actions), spec.action_low, spec.action_high).astype(np.float32)


def zero_action(world: RollOut, spec: WorldSpec) -> RollOut:
    """The same world given zero actions whatever it is given."""
    return lambda episodes: world(episodes.acting(still(episodes.action, spec)))


def mirrored(world: RollOut, spec: WorldSpec) -> RollOut:
    """The same world given mirrored actions: it obeys, the wrong way."""
    return lambda episodes: world(episodes.acting(mirrored_actions(episodes.action, spec)))


def always_success(world: RollOut) -> RollOut:
    """The same world with a judge that always says success."""

    def roll(episodes: Episodes) -> Roll:
        made = world(episodes)
        return made | {"success": np.ones_like(made["success"])}

    return roll


def jitter(truth: RollOut = recorded, noise: float = NOISE, seed: int = 0) -> RollOut:
    """True frames with normal noise of so many levels, another in every frame."""

    def roll(episodes: Episodes) -> Roll:
        made = truth(episodes)
        return made | {"frame": noisy(made["frame"], noise, np.random.default_rng(seed))}

    return roll


def noisy(frames: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Frames uint8 [E, ...] with normal noise of so many levels; an episode at a time, for it is drawn in float32."""
    made = np.empty_like(frames)
    for i, one in enumerate(frames):
        made[i] = (one + level * rng.standard_normal(one.shape, dtype=np.float32)).round().clip(0, 255)
    return made


def shuffle(truth: RollOut = recorded, seed: int = 0) -> RollOut:
    """True frames of another episode; ValueError where there is one episode only."""
    return lambda episodes: truth(episodes.select(episodes.others(seed)))


def control_worlds(world: RollOut, spec: WorldSpec, truth: RollOut = recorded) -> dict[str, RollOut]:
    """The five controls. truth: `recorded` for measurements of recorded actions, `physics` for any actions."""
    return {
        "frozen": frozen,
        "zero_action": zero_action(world, spec),
        "always_success": always_success(world),
        "jitter": jitter(truth),
        "shuffle": shuffle(truth),
    }


def _shown(episodes: Episodes, rows: np.ndarray) -> Roll:
    """What the recording shows in rows [E, n], but for the reward."""
    clips = episodes.clips
    return {
        "frame": clips.frames[rows],
        "success": clips.success[rows].astype(np.float32),
        "uncertainty": _certain(episodes, rows.shape[1]),
        "proprioception": clips.proprioception[rows],
    }


def _certain(episodes: Episodes, steps: int) -> np.ndarray:
    """No uncertainty, in the shape of a world's: a value a patch of 4 x 4 pixels."""
    height, width = episodes.clips.frames.shape[1:3]
    return np.zeros((len(episodes), steps, height // 4, width // 4), np.float32)
