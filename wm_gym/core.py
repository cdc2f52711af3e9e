"""What happens in one reset and one step of many learned environments at once? No autoreset: the faces add it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import Space
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box
from torch import Tensor

from wm_gym import resets
from wm_gym.common import accepted, spaces
from wm_gym.common.codec import SpaceCodec, map_leaves
from wm_gym.common.copies import deepcopy_sharing
from wm_gym.common.options import takes, with_changes
from wm_gym.data.resize import resize_area
from wm_gym.engine.packed import PackedEngine
from wm_gym.engine.shared import encoded_starts, load_engine, load_world, start_engine
from wm_gym.judges import make_judge
from wm_gym.judges.reward import SEEN, STATE, TERMS, JudgedReward
from wm_gym.novelty import NOVELTY, Novelty
from wm_gym.options import EnvOptions
from wm_gym.seeding import as_seed, start_draw, step_noise
from wm_gym.worlds.calibration import Calibration
from wm_gym.worlds.goals import Goals, has_goals
from wm_gym.worlds.world import World

NO_LIMIT = np.iinfo(np.int64).max
Array = np.ndarray | Tensor
Observation = Array | dict[str, Array]
"""With a leading batch axis; a dict for observation="pixels+state"."""


class WorldCore:
    """A batch of independent episodes ("slots") in one world.

    Frames follow from the seeds, the back-end with its number of threads, and the batch size, bit for bit; not from
    the slot, its neighbours, the process or a global generator. Everything that goes out is a copy.

    Success is a learned probability above the success threshold; it ends an episode, and so does the horizon. With
    another judge than the learned one the reward and the success are that judge's, and a step or reset whose judge
    fails (JudgeError) changes nothing.

    Args:
        world: A World, a folder, a catalogue name or a Hub id.
        num_envs: Number of slots B.
        output: "numpy", or "torch" for observations as tensors on the engine's device.
        render: Whether `render` is to be called, also where the observation needs no picture.
        options: See `EnvOptions`; its fields can also be given one by one.

    Raises:
        ValueError: For an option that is wrong, or that this world does not have.
        TypeError: For an option of another name.
        FileNotFoundError: Where the world is not found.
    """

    @takes(EnvOptions)
    def __init__(
        self,
        world: World | str | Path | None,
        num_envs: int = 1,
        *,
        output: str = "numpy",
        render: bool = False,
        options: EnvOptions | None = None,
        **changes: Any,
    ):
        options = with_changes(EnvOptions, options, changes)
        if output not in ("numpy", "torch"):
            raise ValueError(f"output={output!r} is unknown; choose 'numpy' or 'torch'")
        if accepted.count("num_envs", num_envs) < 1:
            raise ValueError(f"num_envs is {num_envs}, expected at least 1")
        self.world = load_world(world)
        assert world is not None  # or load_world has said so
        self._source = world
        self.spec = self.world.spec
        self.frame_size = (self.spec.frame_size[0], self.spec.frame_size[1])
        self.num_envs, self.output = num_envs, output
        self.observation_mode, self._seen, self._acts = self._observed(options.observation)
        self.terminate = options.terminate
        self.terminate_on_success = options.terminate_on_success and self.spec.success_ends
        asked = options.success_threshold
        self.success_threshold = self.spec.success_threshold if asked is None else asked
        self.uncertainty_penalty = options.uncertainty_penalty
        self.uncertainty_limit = self._limit(options.truncate_on_uncertainty)
        self._start_rows = self._rows_of_starts(options.starts)
        self.novelty = Novelty(self.world) if options.reward == NOVELTY else None
        self.judged = None if self.novelty else self._judge(options)
        judges = self.judged is not None
        self.knows_success = self._seen is None or judges or self.spec.success_threshold <= 1
        self.draws = self._must_draw(options, render)
        self.decode = self.draws and (self.observation_mode != "latent" or judges)
        self._asked = (
            (options.backend, options.device, self.decode, options.precision)
            if self.draws
            else ("state", "cpu", False, "fp32")
        )
        self.engine = load_engine(self.world, *self._asked)
        self.single_observation_space = self._observation_space()
        low, high = (self.spec.action_low, self.spec.action_high) if self._acts is None else self._acts.bounds
        self._action_box = spaces.action_space(low, high)
        self.single_action_space: Space = self._action_box if self._acts is None else self._acts.space
        self.goals = self._goals() if has_goals(self.single_observation_space) else None
        self.horizons = np.full(num_envs, self.spec.horizon, np.int64)
        self.set_horizon(options.max_episode_steps)

        self.seeds = np.zeros(num_envs, np.uint64)
        self.episodes = np.full(num_envs, -1, np.int64)  # -1: never reset
        self.steps = np.zeros(num_envs, np.int64)
        self.ended = np.ones(num_envs, bool)
        self._state: dict[str, Tensor] | None = None
        self._frames = torch.zeros(num_envs, *self.frame_size, 3, dtype=torch.uint8, device=self.engine.device)
        self._info = self._empty_info()

    @property
    def compute_reward(self) -> Callable[[Any, Any, Any], Any]:
        """The source's own reward of goals (`Goals.compute_reward`); AttributeError where observations say no goals."""
        if self.goals is None:
            raise AttributeError(
                f"{self.spec.name!r} has no compute_reward: its observation is no Dict of observation, achieved_goal "
                "and desired_goal, so there is no hindsight replay in it"
            )
        return self.goals.compute_reward

    @property
    def calibration(self) -> Calibration | None:
        """That of the world, where steps have the uncertainty that was calibrated."""
        return self.world.calibration if self.draws else None

    def _observed(self, asked: str) -> tuple[str, SpaceCodec | None, SpaceCodec | None]:
        """What is observed, one of `OBSERVATIONS`, and how the source's observations and actions become numbers."""
        spec, seen, mode = self.spec, self.spec.codec("observation"), self.spec.observed(asked)
        if mode == "pixels+state" and not spec.proprioception_dim:
            raise ValueError(f"the world {spec.name!r} was recorded without proprioception; use observation='pixels'")
        if mode != "source":
            return mode, None, None
        if seen is None:
            raise ValueError(
                f"the world {spec.name!r} does not know its source's spaces, so it has no observation='source'; use "
                "observation='pixels', or record and train it again"
            )
        if seen.layout is not None and (stacked := seen.layout.frames) > 1:
            raise ValueError(
                f"the world {spec.name!r} shows {stacked} stacked frames; use observation='pixels' and stack them "
                "outside: gymnasium.wrappers.FrameStackObservation or stable_baselines3's VecFrameStack"
            )
        return mode, seen, spec.codec("action")

    def _must_draw(self, options: EnvOptions, render: bool) -> bool:
        """Whether a step makes latents and, mostly, frames; ValueError for a world that was trained without."""
        needs = {
            f"observation={self.observation_mode!r}": self._seen is None
            or not self.spec.has_state
            or self.world.heads.reads_latents,
            "render_mode='rgb_array'": render,
            "reward": self.judged is not None,
            "uncertainty_penalty": options.uncertainty_penalty > 0,
            "truncate_on_uncertainty": options.truncate_on_uncertainty,
        }
        asked = [name for name, needed in needs.items() if needed]
        if asked and not self.spec.draws:
            raise ValueError(
                f"the world {self.spec.name!r} was trained without pictures, which {' and '.join(asked)} needs; "
                "train it with another preset, e.g. wm-gym train DATASET --preset small --out WORLD"
            )
        return bool(asked)

    def _limit(self, truncate_on_uncertainty: bool) -> float:
        """The uncertainty beyond which an episode is truncated."""
        if not truncate_on_uncertainty:
            return np.inf
        if self.world.calibration is None:
            raise ValueError(
                f"truncate_on_uncertainty needs a calibrated world, and {self.spec.name!r} is not: "
                "wm-gym calibrate WORLD DATASET"
            )
        return self.world.calibration.limit

    def _rows_of_starts(self, starts: str) -> np.ndarray:
        """The rows of the bank of starts that episodes begin at."""
        first = self.world.starts.t == 0
        return np.flatnonzero(first if starts == "first" and first.any() else np.ones_like(first))

    def _goals(self) -> Goals:
        """A step pays what the source computes of its goals, unless a judge pays, or the reward has several terms."""
        drawn = self._seen is not None and self._seen.layout is not None
        return Goals(self.spec, bool(self.judged or drawn or len(self.spec.reward_components) > 1))

    def _judge(self, options: EnvOptions) -> JudgedReward | None:
        """The judge that takes the place of the learned heads."""
        kwargs = accepted.options("reward_kwargs", options.reward_kwargs)
        judge = make_judge(options.reward, self.world, self.spec.task_description, **kwargs)
        if judge is None:
            return None
        if options.success_threshold is not None:
            raise ValueError(
                f"success_threshold={options.success_threshold} is the learned judge's, and reward={options.reward!r}; "
                "pass reward_kwargs={'threshold': ...}"
            )
        return JudgedReward(judge, self.num_envs, self.frame_size)

    def set_horizon(self, max_episode_steps: int | None, slots: int | slice = slice(None)) -> None:
        """Steps after which episodes are truncated: None for the world's horizon, -1 for never."""
        max_episode_steps = accepted.limit("max_episode_steps", max_episode_steps)
        if max_episode_steps is None:
            max_episode_steps = self.spec.horizon
        self.horizons[slots] = NO_LIMIT if max_episode_steps == -1 else max_episode_steps

    # --- reset -------------------------------------------------------------------------------------------------------

    def reset(
        self,
        mask: np.ndarray | None = None,
        seeds: Sequence[int | None] | None = None,
        options: Sequence[Mapping[str, Any] | None] | None = None,
    ) -> None:
        """Begin an episode in some or all slots.

        Args:
            mask: bool [B], where; None for everywhere.
            seeds: One a slot. An int restarts the slot's streams at episode 0, None goes on to its next episode.
            options: Reset options, a dict a slot, see `wm_gym.resets`.

        Raises:
            ResetNeeded: Where the first reset is not of all slots.
            ValueError: For seeds or options that are wrong; then nothing has changed.
        """
        start_engine(self.engine)
        slots = list(range(self.num_envs)) if mask is None else np.flatnonzero(mask).tolist()
        if self._state is None and len(slots) < self.num_envs:
            raise ResetNeeded("the first reset must be of all environments: call reset() without a reset_mask")
        seeds = self._one_each("seeds", seeds)
        options = self._one_each("options", options)
        begun = []
        for i in slots:
            fresh = seeds[i] is not None or self.episodes[i] < 0
            seed = as_seed(seeds[i]) if fresh else int(self.seeds[i])
            episode = 0 if fresh else int(self.episodes[i]) + 1
            begun.append((i, seed, episode, self._begin(resets.check_options(options[i]), seed, episode)))
        judged: dict[str, np.ndarray] = {}
        if self.judged:
            frames = [frame.cpu().numpy() for *_, (_, frame) in begun if frame is not None]
            judged = self.judged.begin(np.array(slots), np.stack(frames))
        for i, seed, episode, (state, frame) in begun:
            self._write(i, state, frame)
            self.seeds[i], self.episodes[i], self.steps[i], self.ended[i] = seed, episode, 0, False
            for values in self._info.values():
                values[i] = 0
            self._info["proprioception"][i] = state["proprioception"][0].cpu().numpy()
            if self.calibration:
                self._info["trust_horizon"][i] = self.calibration.trust_horizon(np.zeros(()))
        for key, values in judged.items():
            self._info[key][np.array(slots)] = values

    def _one_each(self, name: str, values: Sequence[Any] | None) -> Sequence[Any]:
        if values is None:
            return [None] * self.num_envs
        if len(values) != self.num_envs:
            raise ValueError(
                f"{name} has {len(values)} entries, expected one for each of the {self.num_envs} environments"
            )
        return values

    def _begin(self, options: dict[str, Any], seed: int, episode: int) -> tuple[dict[str, Tensor], Tensor | None]:
        """World state (leading axis of 1) and frame of one start; those of the bank are kept for the process."""
        bank = encoded_starts(self.engine)
        row = resets.start_index(self.world, options, self._start_rows, start_draw(seed, episode))
        if row is not None and row in bank:
            return bank[row]
        if "world_state" in options:
            return self._saved(accepted.mapping("world_state", options["world_state"], resets.SAVED))
        options = resets.with_observation(self.world, options)
        if row is None and "image" in options:
            state = self.engine.encode(*resets.clip_of_options(self.world, options))
        elif row is None and self.draws:
            raise ValueError(
                "reset option 'observation' holds no picture, and this environment draws; give {'observation': …, "
                "'image': frame} with the frame that belongs to it"
            )
        elif row is None:
            state = self.engine.encode(np.zeros(0), options["proprioception"][None, None])
        else:
            starts = self.world.starts
            pose = np.array(starts.proprioception[row : row + 1]) if self.spec.proprioception_dim else None
            state = self.engine.encode(starts.frames[row : row + 1], pose)
        frame = self.engine.render(state)[0] if self.decode else None
        if row is not None:
            bank[row] = state, frame
        return state, frame

    # --- step --------------------------------------------------------------------------------------------------------

    def step(
        self, actions: np.ndarray | Sequence[Any], active: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One step of some or all slots; the others keep their state.

        Args:
            actions: float32 [B, A], in the world's box.
            active: bool [B], where; None for everywhere.

        Returns:
            reward float64 [B], terminated bool [B], truncated bool [B]; `observation` and `info` give the rest.

        Raises:
            ResetNeeded: Where an episode has ended.
            ValueError: For an action of the wrong shape, not finite or outside the box, and where the world gives NaN.
        """
        active = np.ones(self.num_envs, bool) if active is None else active
        before = self.require_reset("step")
        start_engine(self.engine)
        if (self.ended & active).any():
            raise ResetNeeded(
                f"the episode in slot {np.flatnonzero(self.ended & active).tolist()} has ended; "
                "call reset() before the next step"
            )
        actions = self.numbers_of(actions, active)
        device = self.engine.device
        noise = step_noise(self.seeds, self.episodes, self.steps, self.engine.noise_shape, device)
        state, made = self.engine.step(before, torch.from_numpy(actions).to(device), noise)
        frames = made.pop("frame", None)
        made.pop("latent", None)
        out = {key: value.cpu().numpy() for key, value in made.items()}
        uncertainty = np.zeros(self.num_envs)
        if self.draws:
            uncertainty = out["uncertainty"].reshape(self.num_envs, -1).mean(axis=1).astype(np.float64)
        total = uncertainty + out["success"] + out["reward"].sum(1) + out["proprioception"].sum(1)
        if not (finite := np.isfinite(total)).all() and not finite[active].all():
            raise self.world.not_finite("rewards, poses or uncertainties")
        judged = self.judged.step(frames.cpu().numpy(), active) if self.judged and frames is not None else None
        self._keep(state, frames, active)
        return self._score(out, uncertainty, judged, active)

    def _score(
        self,
        out: dict[str, np.ndarray],
        uncertainty: np.ndarray,
        judged: tuple[dict[str, np.ndarray], np.ndarray, dict[str, np.ndarray]] | None,
        active: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Reward and ends of a step that was made; writes the info."""
        if judged:
            terms, success, seen = judged
        else:
            success, seen = out["success"] > self.success_threshold, {}
        if self.novelty:
            terms = {NOVELTY: self.novelty(out["proprioception"])}
        elif not judged:
            terms = dict(zip(self.spec.reward_components, out["reward"].astype(np.float64).T))
            if self.goals and self._seen is not None:
                paid = self.goals.paid(self._seen.batch(out["proprioception"]), active)
                terms = terms if paid is None else dict.fromkeys(terms, paid)
        penalty = self.uncertainty_penalty * uncertainty
        reward = sum(terms.values(), np.zeros(self.num_envs)) - penalty
        self.steps[active] += 1
        over = out["terminated"] > self.spec.termination_threshold
        terminated = (over | success if self.terminate_on_success else over) & active & self.terminate
        truncated = ((self.steps >= self.horizons) | (uncertainty > self.uncertainty_limit)) & active
        self.ended[active] = (terminated | truncated)[active]
        told = {"success": success, "is_success": success, "success_probability": out["success"]}
        news = {
            **(told if self.knows_success else {}),
            **({"uncertainty": uncertainty, "uncertainty_map": out["uncertainty"]} if self.draws else {}),
            "proprioception": out["proprioception"],
            **{f"reward/{name}": values for name, values in terms.items()},
            **seen,
        }
        if self.uncertainty_penalty:
            news["reward/uncertainty"] = -penalty
        if self.calibration:
            news["error_bound"] = self.calibration.factor * uncertainty
            news["trust_horizon"] = self.calibration.trust_horizon(uncertainty)
        for key, values in news.items():
            self._info[key][active] = values[active]
        return np.where(active, reward, 0.0), terminated, truncated

    def _keep(self, state: dict[str, Tensor], frames: Tensor | None, active: np.ndarray) -> None:
        if active.all():
            self._state = state
            if frames is not None:
                self._frames = frames
            return
        for i in np.flatnonzero(active).tolist():
            frame = None if frames is None else frames[i]
            self._write(i, {key: value[i : i + 1] for key, value in state.items()}, frame)

    # --- what goes out -----------------------------------------------------------------------------------------------

    def observation(self) -> Any:
        """A copy of the current observations, with a leading batch axis; a dict for observation="pixels+state".

        NumPy arrays, or tensors on the engine's device with output="torch".
        """
        state = self.require_reset("observation")
        if self._seen is not None:
            return self._source_observation(self._seen, state)
        if self.observation_mode == "latent":
            return self._copy(state["latents"][:, -1].flatten(1))
        if self.observation_mode == "pixels":
            return self._copy(self._frames)
        return {"agent_pos": self._copy(state["proprioception"]), "pixels": self._copy(self._frames)}

    def _source_observation(self, codec: SpaceCodec, state: dict[str, Tensor]) -> Any:
        """The observations as the source gives them."""
        frames = None
        if codec.layout is not None:
            frames = self._frames.cpu().numpy()
            if self.frame_size != (codec.layout.height, codec.layout.width):
                frames = resize_area(frames, (codec.layout.height, codec.layout.width))
            frames = frames[:, None].copy()
        made = codec.batch(state["proprioception"].cpu().numpy(), frames)
        to_device = lambda values: torch.from_numpy(np.asarray(values)).to(self.engine.device)
        return map_leaves(made, to_device) if self.output == "torch" else made

    def numbers_of(self, actions: Any, active: np.ndarray, row: str = "environment") -> np.ndarray:
        """Actions float32 [n, A] as the model takes them, of actions of the space.

        Args:
            actions: A batch of n.
            active: Bool [n]; the others are not looked at.
            row: The word for one of them in errors.

        Raises:
            ValueError: For one that is not in the space.
        """
        count, space = len(active), self.single_action_space
        if self._acts is not None and not (isinstance(space, Box) and space.dtype.kind == "f"):
            return spaces.discrete_numbers(actions, self._acts, active, row)
        if space.shape is not None and len(space.shape) != 1:
            values = accepted.real("action", actions)
            if values.shape != (count, *space.shape):
                raise ValueError(f"action has shape {list(values.shape[1:])}, expected {list(space.shape)}")
            actions = values.reshape(count, -1)
        return spaces.check_actions(actions, self._action_box, count, active, row)

    def _copy(self, values: Tensor) -> Array:
        return values.clone() if self.output == "torch" else values.cpu().numpy().copy()

    def info(self) -> dict[str, np.ndarray]:
        """A copy of what is known beside the observation, each with a leading batch axis."""
        return {key: values.copy() for key, values in self._info.items()}

    def render(self, slot: int) -> np.ndarray:
        """The frame uint8 [H, W, 3] of a slot."""
        state = self.require_reset("render")
        if self.decode:
            return self._frames[slot].cpu().numpy().copy()
        return self.engine.render({k: v[slot : slot + 1] for k, v in state.items()})[0].cpu().numpy().copy()

    # --- state -------------------------------------------------------------------------------------------------------

    def get_state(self, slot: int) -> dict[str, np.ndarray]:
        """Everything a slot's future depends on, as plain arrays: `np.savez(path, **state)` saves it."""
        state = {key: v[slot].cpu().numpy().copy() for key, v in self.require_reset("get_state").items()}
        if self.decode:
            state["frame"] = self._frames[slot].cpu().numpy().copy()
        state |= self.judged.get_state(slot) if self.judged else {}
        counters = {"seed": self.seeds, "episode": self.episodes, "step": self.steps, "ended": self.ended}
        return state | {key: np.array(values[slot]) for key, values in counters.items()}

    def set_state(self, slot: int, state: Mapping[str, Any]) -> None:
        """Put a slot where `get_state` was taken: the same actions then give the same frames, bit for bit.

        Raises:
            ValueError: Where a key is missing, out of its range (`accepted`) or has another world's shape.
        """
        self.set_states([slot], [state])

    def set_states(self, slots: Sequence[int], states: Sequence[Mapping[str, Any]]) -> None:
        """`set_state` of several slots. Nothing changes if one of the states is wrong."""
        for slot, (counters, (state, frame), judged) in zip(slots, [self._checked(state) for state in states]):
            self._write(slot, state, frame)
            self.seeds[slot], self.episodes[slot], self.steps[slot], self.ended[slot] = counters
            self._info["proprioception"][slot] = state["proprioception"][0].cpu().numpy()
            if self.judged:
                self.judged.set_state(slot, judged)

    def _checked(
        self, state: Mapping[str, Any]
    ) -> tuple[tuple[int, int, int, bool], tuple[dict[str, Tensor], Tensor | None], dict[str, np.ndarray]]:
        """A saved state's counters, world state with its frame, and the judge's part; ValueError for what is wrong."""
        state = accepted.mapping("world_state", state, resets.SAVED)
        saved = self._saved(state)
        needed = {"seed", "episode", "step", "ended", *(STATE if self.judged else ())}
        if missing := sorted(needed - set(state)):
            raise ValueError(f"world_state lacks {missing}; pass what env.get_state() gave")
        seed = accepted.count("world_state['seed']", state["seed"], 2**64 - 1)
        episode, step = (accepted.count(f"world_state[{key!r}]", state[key]) for key in ("episode", "step"))
        counters = seed, episode, step, accepted.flag("world_state['ended']", state["ended"])
        return counters, saved, self.judged.check_state(state) if self.judged else {}

    def _saved(self, state: dict[str, Any]) -> tuple[dict[str, Tensor], Tensor | None]:
        """World state (leading axis of 1) and frame of a saved one."""
        arrays, frame = resets.state_of_options(state, self._state_shapes(), self.frame_size)
        tensors = self._to_torch({key: value[None] for key, value in arrays.items()})
        if not self.decode:
            return tensors, None
        return tensors, self.engine.render(tensors)[0] if frame is None else torch.from_numpy(frame)

    def branch(self, source: int, targets: int | Iterable[int], seeds: int | Iterable[int] | None = None) -> None:
        """Fork a slot into others; with `seeds` (one a target) each goes on with noise of its own."""
        last = self.num_envs - 1
        source = accepted.count("source", source, last)
        targets = [accepted.count("targets", one, last) for one in _listed(targets)]
        seeds = None if seeds is None else _listed(seeds)
        if seeds is not None and len(seeds) != len(targets):
            raise ValueError(f"seeds has {len(seeds)} entries, expected one for each of the {len(targets)} targets")
        state = self.get_state(source)
        forks = [state if seeds is None else state | {"seed": as_seed(seeds[k])} for k in range(len(targets))]
        self.set_states(targets, forks)
        for target in targets:
            for values in self._info.values():
                values[target] = values[source]

    # --- copies ------------------------------------------------------------------------------------------------------

    def __deepcopy__(self, memo: dict[int, Any]) -> WorldCore:
        return deepcopy_sharing(self, memo, self.world, self.engine, self.spec, self.calibration)

    def __getstate__(self) -> dict[str, Any]:
        """The slots by value, the engine packed; its world brings the spec."""
        host = None if self._state is None else {key: value.cpu().numpy() for key, value in self._state.items()}
        packed = PackedEngine.of(self.engine, self._source, self._asked)
        left_out = dict.fromkeys(("world", "spec", "_source"))
        return vars(self) | left_out | {"engine": packed, "_state": host, "_frames": self._frames.cpu().numpy()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        packed, host, frames = state["engine"], state["_state"], state["_frames"]
        engine = packed.unpack()
        vars(self).update(state, engine=engine)
        self.world, self._source = engine.world, packed.world
        self.spec = self.world.spec
        self._state = None if host is None else self._to_torch(host)
        self._frames = torch.from_numpy(frames).to(engine.device)

    # --- small things ------------------------------------------------------------------------------------------------

    def require_reset(self, what: str) -> dict[str, Tensor]:
        """The world state of all slots; ResetNeeded where there has been no reset yet."""
        if self._state is None:
            raise ResetNeeded(f"{what} was called before reset; call reset() first")
        return self._state

    @torch.inference_mode()
    def _write(self, slot: int, state: dict[str, Tensor], frame: Tensor | None) -> None:
        """Copy one world state (leading axis of 1) into a slot, and its frame where frames are decoded."""
        if self._state is None:
            self._state = {k: v.new_zeros((self.num_envs, *v.shape[1:])) for k, v in state.items()}
        for key, value in state.items():
            self._state[key][slot] = value[0]
        if frame is not None:
            self._frames[slot] = frame

    def _state_shapes(self) -> dict[str, tuple[int, ...]]:
        if not self.draws:
            return {"proprioception": (self.spec.proprioception_dim,)}
        latent = tuple(self.spec.latent_shape)
        return {
            "first": latent,
            "proprioception": (self.spec.proprioception_dim,),
            "error_distribution": self.world.uncertainty.shape(),
            **self.world.dynamics.memory_shapes(),
        }

    def _to_torch(self, arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
        return {key: torch.from_numpy(value).to(self.engine.device) for key, value in arrays.items()}

    def _observation_space(self) -> Space:
        if self._seen is not None:
            return self._seen.space
        if self.observation_mode == "latent":
            return spaces.vector_space(int(np.prod(self.spec.latent_shape)))
        if self.observation_mode == "pixels":
            return spaces.pixels_space(*self.frame_size)
        return spaces.pixels_and_state_space(*self.frame_size, self.spec.proprioception_dim)

    def _empty_info(self) -> dict[str, np.ndarray]:
        n, (_, h, w) = self.num_envs, self.spec.latent_shape
        terms = TERMS if self.judged else (NOVELTY,) if self.novelty else self.spec.reward_components
        scalars = [*["uncertainty"] * self.draws, *(f"reward/{r}" for r in terms)]
        scalars += SEEN if self.judged else ()
        told = {"success": np.zeros(n, bool), "is_success": np.zeros(n, bool), "success_probability": np.zeros(n)}
        return {
            **(told if self.knows_success else {}),
            **{key: np.zeros(n) for key in scalars},
            **({"reward/uncertainty": np.zeros(n)} if self.uncertainty_penalty else {}),
            **({"error_bound": np.zeros(n), "trust_horizon": np.zeros(n, np.int64)} if self.calibration else {}),
            **({"uncertainty_map": np.zeros((n, h, w), np.float32)} if self.draws else {}),
            "proprioception": np.zeros((n, self.spec.proprioception_dim), np.float32),
        }


def _listed(values: Any) -> list:
    return list(values) if np.iterable(values) else [values]
