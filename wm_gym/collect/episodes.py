"""What does one recorded episode of any Gymnasium environment consist of?

An episode depends only on (seed, its number): worker count, order and resuming do not change it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from wm_gym.collect.acting import Player, players_of
from wm_gym.collect.policies import Policies
from wm_gym.collect.source import describe
from wm_gym.common.codec import SpaceCodec
from wm_gym.data.bars import bars
from wm_gym.data.observed import observation_codec, physics_state_of, picture_of, proprioception_of, success_of
from wm_gym.data.resize import resized

Row = tuple[np.ndarray, np.ndarray | None, np.ndarray | None]
"""What one observation gives: frame, proprioception, state of the physics."""
Step = tuple[np.ndarray, float, Any, bool]
"""What one step gives: the action's numbers, the reward, success where the environment says, the end of the task."""


@dataclass
class RecordedEpisode:
    """One episode of L observations."""

    frames: np.ndarray
    """uint8 [L, H, W, 3]."""
    columns: dict[str, np.ndarray]
    """{feature: [L, D]}."""
    task: str
    reward_terms: list[str]


@dataclass(frozen=True)
class EpisodeSpec:
    """Whose episodes are recorded: with an episode's number it says all that the episode depends on."""

    env_id: str
    env_kwargs: dict[str, Any]
    policy: str
    """As `Policies.parse` reads it."""
    seed: int = 0
    noise: float = 0.3
    size: tuple[int, int] | None = None
    pictures: bool = True
    """Record what is seen, not the observation's numbers as bars."""
    trust: bool = False
    """Load a Stable-Baselines3 zip."""


class EpisodeSource:
    """An environment, made once, of which episodes are rolled out by number."""

    def __init__(self, spec: EpisodeSpec) -> None:
        self.spec, self.policies = spec, Policies.parse(spec.policy)
        drawn = spec.pictures
        self.players = players_of(self.policies.names, spec.env_id, spec.env_kwargs, spec.noise, spec.trust, drawn)
        acts = self.players[0].shown.action_space
        self.actions = SpaceCodec(acts, pictures=False, part=f"{spec.env_id}: the action space")
        self.observations = [observation_codec(player.shown) for player in self.players]
        self.describe = describe(self.players[0].shown, self.actions, self.observations[0])

    def rollout(self, episode: int) -> RecordedEpisode:
        """The episode of that number."""
        env_seed, policy_seed = np.random.SeedSequence([self.spec.seed, episode]).generate_state(2, np.uint32)
        rng = np.random.default_rng(policy_seed)
        shares = self.policies.shares
        number = int(rng.choice(len(shares), p=shares)) if len(shares) > 1 else 0
        player, codec = self.players[number], self.observations[number]
        kind = player.choose(rng)
        observation, info = player.env.reset(seed=int(env_seed % 2**31))
        act = player.begin(kind, rng, info)
        rows, infos = [self._row(player, codec, observation, info)], [info]
        steps: list[Step] = []
        over = False
        while not over:
            action = act(observation)
            observation, reward, terminated, truncated, info = player.env.step(action)
            encoded = self.actions.numbers(player.taken(action))
            rows.append(self._row(player, codec, observation, info))
            steps.append((encoded, self._number("reward", reward), success_of(info), bool(terminated)))
            infos.append(info)
            over = terminated or truncated
        acted = self.policies.kinds.index(kind or self.policies.labels[number])
        return self._assemble(acted, rows, steps, infos)

    def close(self) -> None:
        """Let go of the environments."""
        for env in {id(player.env): player.env for player in self.players}.values():
            env.close()

    def _number(self, name: str, value: Any) -> float:
        """A reward as a float, from an array of one number too; ValueError naming what is none."""
        try:
            return float(value.item() if hasattr(value, "item") else value)
        except (TypeError, ValueError, RuntimeError):  # NumPy's and torch's for several
            shape = f" of shape {list(np.shape(value))}" if np.ndim(value) else ""
            raise ValueError(
                f"{self.spec.env_id}: {name} is {value!r}{shape}, expected a number or an array of one; wrap "
                "the environment so that each step gives one reward"
            ) from None

    def _row(self, player: Player, codec: SpaceCodec | None, observation: Any, info: Mapping[str, Any]) -> Row:
        observation = player.given(observation)
        if self.spec.pictures:
            frame = picture_of(player.shown, observation, codec)
        elif codec and codec.size:
            frame = bars(codec.numbers(observation))
        else:
            raise ValueError(f"{self.spec.env_id}: its observation holds no numbers; record its pictures")
        frame = frame if self.spec.size is None else resized(frame, self.spec.size)
        return frame, proprioception_of(observation, info, codec), physics_state_of(player.env)

    def _assemble(self, kind: int, rows: list[Row], steps: list[Step], infos: list[dict[str, Any]]) -> RecordedEpisode:
        frames, proprioception, physics = zip(*rows)
        actions, rewards, successes, ends = zip(*steps)
        length = len(rows)
        last = np.zeros_like(actions[0])  # the last observation has no successor
        columns: dict[str, np.ndarray] = {"action": np.stack([*actions, last]).astype(np.float32)}
        if proprioception[0] is not None:
            columns["observation.state"] = np.stack(proprioception)
        columns["next.reward"] = np.array([*rewards, 0.0], np.float32)
        keys = {key for info in infos for key in info if key.startswith("reward/")}
        terms = [key.removeprefix("reward/") for key in sorted(keys)]
        for term in terms:
            values = [self._number(f"reward/{term}", info.get(f"reward/{term}", 0.0)) for info in infos[1:]]
            columns[f"next.reward.{term}"] = np.array([*values, 0.0], np.float32)
        columns["next.done"] = np.arange(length) == length - 1
        columns["next.terminated"] = np.array([*ends, ends[-1]])
        if successes[0] is not None:
            flags = [bool(flag) for flag in successes]
            columns["next.success"] = np.array([*flags, flags[-1]])
        if physics[0] is not None:
            columns["physics_state"] = np.stack(physics)
        columns["policy_kind"] = np.full(length, kind, np.int64)
        columns = {key: value.reshape(length, -1) for key, value in columns.items()}
        return RecordedEpisode(np.stack(frames), columns, self.describe["task_description"], terms)
