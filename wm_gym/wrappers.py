"""Which wrappers change an environment's actions, pictures or reward?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.error import ResetNeeded

from wm_gym.common import accepted
from wm_gym.common.copies import deepcopy_sharing
from wm_gym.common.reading import check, many, read_json, real
from wm_gym.common.spaces import action_space, check_action
from wm_gym.engine.packed import PackedEngine
from wm_gym.judges import Judge, make_judge
from wm_gym.judges.reward import JudgedReward

if TYPE_CHECKING:
    from wm_gym.worlds.world import World


def discrete_table(box: spaces.Box) -> np.ndarray:
    """The actions float32 [2A+1, A]: nothing, then each axis at its highest and at its lowest, the others at rest."""
    rest = np.clip(0.0, box.low, box.high).astype(np.float32)
    table = np.tile(rest, (2 * len(rest) + 1, 1))
    for axis in range(len(rest)):
        table[2 * axis + 1, axis], table[2 * axis + 2, axis] = box.high[axis], box.low[axis]
    return table


def check_box(space: spaces.Space) -> spaces.Box:
    """A Box of shape [A] as it is; ValueError for any other space."""
    if not isinstance(space, spaces.Box) or len(space.shape) != 1:
        raise ValueError(f"DiscreteActions needs a Box action space of shape [A], this environment has {space}")
    return space


class DiscreteActions(gym.ActionWrapper, gym.utils.RecordConstructorArgs):
    """A Box of A axes as Discrete(2A + 1): 0 does nothing, 2k+1 and 2k+2 push axis k to its highest and lowest.

    For learners with discrete actions (DQN); `make_sb3_env` takes it as wrapper_class.

    Args:
        env: The environment.

    Raises:
        ValueError: Where its actions are no Box of shape [A].
    """

    def __init__(self, env: gym.Env):
        gym.utils.RecordConstructorArgs.__init__(self)
        gym.ActionWrapper.__init__(self, env)
        self.table = discrete_table(check_box(env.action_space))
        self.action_space = spaces.Discrete(len(self.table))

    def action(self, action: int) -> np.ndarray:
        """The environment's action float32 [A]; ValueError for none of 0..2A."""
        if action not in self.action_space:
            raise ValueError(f"action is {action!r}, expected an integer in 0..{len(self.table) - 1}")
        return self.table[int(action)].copy()


BOUNDS = many(real(-1e9, 1e9), 1)
MAP = {"matrix": many(BOUNDS, 1), "action_low": BOUNDS, "action_high": BOUNDS}
"""What a file that maps actions may hold."""


class RealActions(gym.ActionWrapper, gym.utils.RecordConstructorArgs):
    """Real actions for a world of latent ones: z = [a, 1] @ matrix, clipped to the world's box.

    Args:
        env: The world's environment.
        file: What `wm-gym idm map` wrote.

    Raises:
        FileNotFoundError: Where the file is missing.
        ValueError: Where it maps no actions, or those of another world.
    """

    def __init__(self, env: gym.Env, file: str | Path):
        gym.utils.RecordConstructorArgs.__init__(self, file=str(file))
        gym.ActionWrapper.__init__(self, env)
        if not Path(file).is_file():
            raise FileNotFoundError(f"{file} is missing; make it with: wm-gym idm map IDM DATASET --out {file}")
        try:
            found = {key: value for key, value in read_json(file).items() if key in MAP}
            check(file, found, MAP, needed=tuple(MAP))
            low, high = np.array(found["action_low"]), np.array(found["action_high"])
            if low.shape != high.shape or not (low <= high).all():
                raise ValueError("action_low and action_high do not bound the same actions")
            self.matrix = np.array(found["matrix"], np.float32)
            self._real = self.action_space = action_space(low, high)
        except (ValueError, AttributeError) as error:
            raise ValueError(f"{file} maps no actions ({error}); make it with: wm-gym idm map") from None
        self._latent = check_box(env.action_space)
        latent, real = self._latent.shape[0], len(low)
        if self.matrix.shape != (real + 1, latent):
            raise ValueError(
                f"{file} maps {self.matrix.shape[0] - 1} actions to {self.matrix.shape[-1]}, this world "
                f"takes {latent}; make it with the inverse dynamics that labelled the world's video"
            )

    def action(self, action: np.ndarray) -> np.ndarray:
        """The latent action float32 of a real one float32 [A]."""
        latent = np.append(check_action(action, self._real), np.float32(1)) @ self.matrix
        return latent.clip(self._latent.low, self._latent.high)


class TokenizerRoundTrip(gym.ObservationWrapper, gym.utils.RecordConstructorArgs):
    """A physics environment's frames as a world's tokenizer draws them.

    A policy trained in the world then sees the same kind of picture in both.

    Args:
        env: An environment that observes frames uint8 [H, W, 3], or a dict with them at "pixels".
        world: The World, its folder, catalogue name or Hub id.
        device: Where the tokenizer runs.

    Raises:
        ValueError: For frames of another size than the world's.
    """

    def __init__(self, env: gym.Env, world: World | str | Path, device: str = "cpu"):
        from wm_gym.engine.shared import load_engine, load_world

        gym.utils.RecordConstructorArgs.__init__(self, world=world, device=device)
        gym.ObservationWrapper.__init__(self, env)
        self._source, self._asked, loaded = world, ("torch", device, True, "auto"), load_world(world)
        self._engine = load_engine(loaded, *self._asked)
        space, size = env.observation_space, (*loaded.spec.frame_size, 3)
        pixels = space["pixels"] if isinstance(space, spaces.Dict) and "pixels" in space.spaces else space
        if pixels.shape != size or pixels.dtype != np.uint8:
            raise ValueError(
                f"TokenizerRoundTrip needs frames uint8 {list(size)} of the world {loaded.spec.name!r}, "
                f"the environment's observation space is {space}"
            )

    def __deepcopy__(self, memo: dict[int, Any]) -> TokenizerRoundTrip:
        return deepcopy_sharing(self, memo, self._engine, self._engine.world)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_engine": PackedEngine.of(self._engine, self._source, self._asked)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _engine=state["_engine"].unpack())

    def observation(self, observation: Any) -> Any:
        """The observation with its frame drawn anew."""
        if isinstance(observation, dict):
            return {**observation, "pixels": self._draw(observation["pixels"])}
        return self._draw(observation)

    def _draw(self, frame: np.ndarray) -> np.ndarray:
        return self._engine.render(self._engine.encode(frame[None, None])).cpu().numpy()[0].copy()


class JudgeReward(gym.Wrapper, gym.utils.RecordConstructorArgs):
    """Any environment that shows frames, rewarded by a judge of them: a physics twin, or one of another package.

    Frames are the observation uint8 [H, W, 3], the "pixels" of a dict, or else what `render` draws with
    render_mode="rgb_array". `info` gets judge/score, judge/progress, the reward's terms, success and is_success from
    the judge; the environment's own success becomes env/success. Where the judge fails (JudgeError) the environment has
    made its step all the same.

    Args:
        env: The environment.
        reward: As of `EnvOptions`, but not "learned".
        reward_kwargs: The judge's own options; {"world": WORLD} for one that needs a world.
        terminate_on_success: End the episode where the judge says success, besides where the environment ends it.

    Raises:
        ValueError: For an unknown judge or option, and for an environment that shows no frames.
    """

    def __init__(
        self,
        env: gym.Env,
        reward: str | Judge | Sequence[str | Judge],
        reward_kwargs: Mapping[str, Any] | None = None,
        terminate_on_success: bool = True,
    ):
        gym.utils.RecordConstructorArgs.__init__(
            self, reward=reward, reward_kwargs=reward_kwargs, terminate_on_success=terminate_on_success
        )
        gym.Wrapper.__init__(self, env)
        task = getattr(env.unwrapped, "task_description", "")
        judge = make_judge(reward, **{"task": task, **accepted.options("reward_kwargs", reward_kwargs)})
        if judge is None:
            raise ValueError(
                "reward='learned' is a world's head and judges no other environment's frames; choose "
                "another judge, e.g. reward='goal:goal.png'"
            )
        observed = env.observation_space
        space = observed.spaces.get("pixels") if isinstance(observed, spaces.Dict) else observed
        self._seen = isinstance(space, spaces.Box) and space.dtype == np.uint8 and space.shape[2:] == (3,)
        if not self._seen and env.render_mode != "rgb_array":
            raise ValueError(
                f"JudgeReward needs frames: the environment observes {env.observation_space}; make it "
                "with render_mode='rgb_array'"
            )
        self._judge, self.terminate_on_success = judge, terminate_on_success
        self._judged: JudgedReward | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode, as the environment does it, and show the judge its first frame."""
        observation, info = self.env.reset(seed=seed, options=options)
        frame = self._frame(observation)
        self._judged = self._judged or JudgedReward(self._judge, 1, frame.shape[:2])
        seen = self._judged.begin(np.array([0]), frame[None])
        return observation, self._info(info, seen, False)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """The environment's step with the judge's reward; ResetNeeded before the first reset."""
        if self._judged is None:
            raise ResetNeeded("step was called before reset; call reset() first")
        observation, _, terminated, truncated, info = self.env.step(action)
        terms, (success,), seen = self._judged.step(self._frame(observation)[None], np.ones(1, bool))
        own = {key: value for key, value in info.items() if not key.startswith("reward/")}
        seen |= {f"reward/{name}": values for name, values in terms.items()}
        terminated = bool(terminated or (success and self.terminate_on_success))
        reward = float(sum(values[0] for values in terms.values()))
        return observation, reward, terminated, truncated, self._info(own, seen, bool(success))

    def _frame(self, observation: Any) -> np.ndarray:
        if not self._seen:
            return np.asarray(self.env.render())
        return observation["pixels"] if isinstance(observation, dict) else observation

    @staticmethod
    def _info(info: dict[str, Any], seen: dict[str, np.ndarray], success: bool) -> dict[str, Any]:
        own = {"env/success": info["success"]} if "success" in info else {}
        return {
            **info,
            **own,
            **{key: float(values[0]) for key, values in seen.items()},
            "success": success,
            "is_success": success,
        }
