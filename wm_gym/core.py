"""What happens in one reset and one step of many learned environments at once? No autoreset: the faces add it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from gymnasium.error import ResetNeeded

from wm_gym import resets
from wm_gym.common import accepted, spaces
from wm_gym.common.copies import deepcopy_sharing
from wm_gym.engine.packed import PackedEngine
from wm_gym.engine.shared import encoded_starts, load_engine, load_world, start_engine
from wm_gym.judges import Judge, make_judge
from wm_gym.judges.reward import SEEN, STATE, TERMS, JudgedReward
from wm_gym.seeding import as_seed, start_draw, step_noise
from wm_gym.worlds.world import World

NO_LIMIT = np.iinfo(np.int64).max


class WorldCore:
    """A batch of independent episodes ("slots") in one world.

    world: a World, a folder, a catalogue name or a Hub id. observation: "pixels" uint8 [H, W, 3]; "pixels+state"
    {"pixels", "agent_pos" float32 [P]}; "latent" float32 [C*h*w], which skips the decoder. max_episode_steps: None
    for the world's horizon, -1 for none. starts: "first" draws from the bank's first frames of episodes, "any" from
    all of it, in the middle of episodes too. Success is a learned probability above success_threshold (None for the
    world's); it ends an episode (unless terminate_on_success is False), and so does the horizon. uncertainty_penalty:
    reward - penalty * uncertainty, as in MOPO (Yu et al. 2020, eq. 4). truncate_on_uncertainty: an episode is truncated
    where the uncertainty passes the calibration's limit. reward: "learned", the world's heads, or another judge of its
    frames (`wm_gym.judges`) with its reward_kwargs, whose reward and success take the place of the learned ones; a step
    or reset whose judge fails (JudgeError) changes nothing. Everything that goes out is a copy.

    Frames follow from the seeds, the back-end with its number of threads, and the batch size, bit for bit; not from
    the slot, its neighbours, the process or a global generator.
    """

    def __init__(
        self,
        world: World | str | Path | None,
        num_envs: int = 1,
        *,
        observation: str = "pixels",
        backend: str = "auto",
        device: str = "auto",
        precision: str = "auto",
        max_episode_steps: int | None = None,
        terminate_on_success: bool = True,
        starts: str = "first",
        success_threshold: float | None = None,
        uncertainty_penalty: float = 0.0,
        truncate_on_uncertainty: bool = False,
        output: str = "numpy",
        reward: str | Judge | Sequence[str | Judge] = "learned",
        reward_kwargs: dict | None = None,
    ):
        if observation not in spaces.OBSERVATIONS:
            raise ValueError(f"observation={observation!r} is unknown; choose one of {spaces.OBSERVATIONS}")
        if starts not in ("first", "any"):
            raise ValueError(f"starts={starts!r} is unknown; choose 'first' or 'any'")
        if output not in ("numpy", "torch"):
            raise ValueError(f"output={output!r} is unknown; choose 'numpy' or 'torch'")
        if accepted.count("num_envs", num_envs) < 1:
            raise ValueError(f"num_envs is {num_envs}, expected at least 1")
        if success_threshold is not None and not 0 <= accepted.number("success_threshold", success_threshold) <= 1:
            raise ValueError(f"success_threshold is {success_threshold}, expected a probability in [0, 1]")
        if accepted.number("uncertainty_penalty", uncertainty_penalty) < 0:
            raise ValueError(f"uncertainty_penalty is {uncertainty_penalty}, expected a finite number >= 0")
        self._source, self.world = world, load_world(world)
        self.spec, self.num_envs, self.observation_mode, self.output = self.world.spec, num_envs, observation, output
        if observation == "pixels+state" and not self.spec.proprioception_dim:
            raise ValueError(
                f"the world {self.spec.name!r} was recorded without proprioception; use observation='pixels'"
            )
        self.success_threshold = self.spec.success_threshold if success_threshold is None else success_threshold
        self.uncertainty_penalty, self.calibration = uncertainty_penalty, self.world.calibration
        if truncate_on_uncertainty and self.calibration is None:
            raise ValueError(
                f"truncate_on_uncertainty needs a calibrated world, and {self.spec.name!r} is not: "
                "wm-gym calibrate WORLD DATASET"
            )
        self.doubt_limit = self.calibration.limit if truncate_on_uncertainty else np.inf
        bank = self.world.starts
        self._start_rows = np.flatnonzero(bank.t == 0 if starts == "first" and (bank.t == 0).any() else bank.t >= 0)
        judge = make_judge(
            reward, self.world, self.spec.task_description, **accepted.options("reward_kwargs", reward_kwargs)
        )
        if judge and success_threshold is not None:
            raise ValueError(
                f"success_threshold={success_threshold} is the learned judge's, and reward={reward!r}; "
                "pass reward_kwargs={'threshold': ...}"
            )
        self.judged = JudgedReward(judge, num_envs, self.spec.frame_size) if judge else None
        self.decode, self.terminate_on_success = observation != "latent" or judge is not None, terminate_on_success
        self._asked = backend, device, self.decode, precision
        self.engine = load_engine(self.world, *self._asked)
        self.single_observation_space = self._observation_space()
        self.single_action_space = spaces.action_space(self.spec.action_low, self.spec.action_high)
        self.horizons = np.full(num_envs, self.spec.horizon, np.int64)
        self.set_horizon(max_episode_steps)

        self.seeds = np.zeros(num_envs, np.uint64)
        self.episodes = np.full(num_envs, -1, np.int64)  # -1: never reset
        self.steps = np.zeros(num_envs, np.int64)
        self.ended = np.ones(num_envs, bool)
        self._state: dict[str, torch.Tensor] | None = None
        self._frames = torch.zeros(num_envs, *self.spec.frame_size, 3, dtype=torch.uint8, device=self.engine.device)
        self._info = self._empty_info()

    def set_horizon(self, max_episode_steps: int | None, slots=slice(None)) -> None:
        """Steps after which episodes are truncated: None for the world's horizon, -1 for never."""
        max_episode_steps = accepted.limit("max_episode_steps", max_episode_steps)
        if max_episode_steps is None:
            max_episode_steps = self.spec.horizon
        self.horizons[slots] = NO_LIMIT if max_episode_steps == -1 else max_episode_steps

    # --- reset -------------------------------------------------------------------------------------------------------

    def reset(self, mask: np.ndarray | None = None, seeds: list | None = None, options: list | None = None) -> None:
        """Begin an episode in the slots of `mask` (bool [B], default all).

        seeds: an int a slot restarts its streams at episode 0; None goes on to the slot's next episode.
        options: a dict a slot, see `wm_gym.resets`. Nothing changes if any of them is wrong.
        """
        start_engine(self.engine)
        slots = range(self.num_envs) if mask is None else np.flatnonzero(mask)
        if self._state is None and len(slots) < self.num_envs:
            raise ResetNeeded("the first reset must be of all environments: call reset() without a reset_mask")
        seeds, options = (given or [None] * self.num_envs for given in (seeds, options))
        for name, given in (("seeds", seeds), ("options", options)):
            if len(given) != self.num_envs:
                raise ValueError(
                    f"{name} has {len(given)} entries, expected one for each of the {self.num_envs} environments"
                )
        begun = []
        for i in slots:
            fresh = seeds[i] is not None or self.episodes[i] < 0
            seed = as_seed(seeds[i]) if fresh else int(self.seeds[i])
            episode = 0 if fresh else int(self.episodes[i]) + 1
            begun.append((i, seed, episode, self._begin(resets.check_options(options[i]), seed, episode)))
        frames = [frame.cpu().numpy() for *_, (_, frame) in begun] if self.judged else []
        judged = self.judged.begin(np.array(slots), np.stack(frames)) if self.judged else {}
        for i, seed, episode, (state, frame) in begun:
            self._write(i, state, frame)
            self.seeds[i], self.episodes[i], self.steps[i], self.ended[i] = seed, episode, 0, False
            for key, values in self._info.items():
                values[i] = 0
            self._info["proprioception"][i] = state["proprioception"][0].cpu().numpy()
            if self.calibration:
                self._info["trust_horizon"][i] = self.calibration.trust_horizon(0.0)
        for key, values in judged.items():
            self._info[key][np.array(slots)] = values

    def _begin(self, options: dict, seed: int, episode: int) -> tuple[dict, torch.Tensor | None]:
        """World state (leading axis of 1) and frame of one start; those of the bank are kept for the process."""
        bank = encoded_starts(self.engine)
        row = resets.start_index(self.world, options, self._start_rows, start_draw(seed, episode))
        if row is not None and row in bank:
            return bank[row]
        if "world_state" in options:
            return self._saved(accepted.mapping("world_state", options["world_state"], resets.SAVED))
        if row is None:
            state = self.engine.encode(*resets.clip_of_options(self.world, options))
        else:
            starts = self.world.starts
            pose = np.array(starts.proprioception[row : row + 1]) if self.spec.proprioception_dim else None
            state = self.engine.encode(starts.frames[row : row + 1], pose)
        frame = self.engine.render(state)[0] if self.decode else None
        if row is not None:
            bank[row] = state, frame
        return state, frame

    # --- step --------------------------------------------------------------------------------------------------------

    def step(self, actions, active: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One step of the slots of `active` (bool [B], default all); the others keep their state.

        actions float32 [B, A] -> reward float64 [B], terminated bool [B], truncated bool [B]. The observation and
        the info are read with `observation()` and `info()`. Raises ResetNeeded where an episode has ended, and
        ValueError for an action of the wrong shape, not finite or outside the box, and where the world gives NaN.
        """
        active = np.ones(self.num_envs, bool) if active is None else active
        self.require_reset("step")
        start_engine(self.engine)
        if (self.ended & active).any():
            raise ResetNeeded(
                f"the episode in slot {np.flatnonzero(self.ended & active).tolist()} has ended; "
                "call reset() before the next step"
            )
        actions = spaces.check_actions(actions, self.single_action_space, self.num_envs, active)
        device = self.engine.device
        noise = step_noise(self.seeds, self.episodes, self.steps, self.engine.noise_shape, device)
        state, out = self.engine.step(self._state, torch.from_numpy(actions).to(device), noise)
        frames = out.pop("frame", None)
        del out["latent"]
        out = {key: value.cpu().numpy() for key, value in out.items()}
        uncertainty = out["uncertainty"].reshape(self.num_envs, -1).mean(axis=1).astype(np.float64)
        total = uncertainty + out["success"] + out["reward"].sum(1) + out["proprioception"].sum(1)
        if not (finite := np.isfinite(total)).all() and not finite[active].all():
            raise self.world.not_finite("rewards, poses or uncertainties")
        judged = self.judged.step(frames.cpu().numpy(), active) if self.judged else None
        self._keep(state, frames, active)

        if judged:
            terms, success, seen = judged
        else:
            success, seen = out["success"] > self.success_threshold, {}
            terms = dict(zip(self.spec.reward_components, out["reward"].astype(np.float64).T))
        penalty = self.uncertainty_penalty * uncertainty
        reward = sum(terms.values(), np.zeros(self.num_envs)) - penalty
        self.steps[active] += 1
        terminated = success & active if self.terminate_on_success else np.zeros(self.num_envs, bool)
        truncated = ((self.steps >= self.horizons) | (uncertainty > self.doubt_limit)) & active
        self.ended[active] = (terminated | truncated)[active]
        news = {
            "success": success,
            "is_success": success,
            "success_probability": out["success"],
            "uncertainty": uncertainty,
            "uncertainty_map": out["uncertainty"],
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

    def _keep(self, state: dict, frames: torch.Tensor | None, active: np.ndarray) -> None:
        if active.all():
            self._state, self._frames = state, frames
            return
        for i in np.flatnonzero(active):
            frame = frames[i] if self.decode else None
            self._write(i, {key: value[i : i + 1] for key, value in state.items()}, frame)

    # --- what goes out -----------------------------------------------------------------------------------------------

    def observation(self):
        """A copy of the current observations with a leading batch axis (a dict of them for "pixels+state").

        NumPy arrays, or tensors on the engine's device with output="torch".
        """
        if self.observation_mode == "latent":
            return self._copy(self._state["latents"][:, -1].flatten(1))
        if self.observation_mode == "pixels":
            return self._copy(self._frames)
        return {"agent_pos": self._copy(self._state["proprioception"]), "pixels": self._copy(self._frames)}

    def _copy(self, values: torch.Tensor) -> torch.Tensor | np.ndarray:
        return values.clone() if self.output == "torch" else values.cpu().numpy().copy()

    def info(self) -> dict[str, np.ndarray]:
        """A copy of what is known beside the observation, each with a leading batch axis."""
        return {key: values.copy() for key, values in self._info.items()}

    def render(self, slot: int) -> np.ndarray:
        """The frame uint8 [H, W, 3] of a slot."""
        self.require_reset("render")
        if self.decode:
            return self._frames[slot].cpu().numpy().copy()
        return self.engine.render({k: v[slot : slot + 1] for k, v in self._state.items()})[0].cpu().numpy().copy()

    # --- state -------------------------------------------------------------------------------------------------------

    def get_state(self, slot: int) -> dict[str, np.ndarray]:
        """Everything a slot's future depends on, as plain arrays: `np.savez(path, **state)` saves it."""
        self.require_reset("get_state")
        state = {key: value[slot].cpu().numpy().copy() for key, value in self._state.items()}
        if self.decode:
            state["frame"] = self._frames[slot].cpu().numpy().copy()
        state |= self.judged.get_state(slot) if self.judged else {}
        counters = {"seed": self.seeds, "episode": self.episodes, "step": self.steps, "ended": self.ended}
        return state | {key: np.array(values[slot]) for key, values in counters.items()}

    def set_state(self, slot: int, state: dict[str, np.ndarray]) -> None:
        """Put a slot where `get_state` was taken: the same actions then give the same frames, bit for bit.

        Raises ValueError where a key is missing, out of its range (`accepted`) or has another world's shape.
        """
        self.set_states([slot], [state])

    def set_states(self, slots: Sequence[int], states: Sequence[dict[str, np.ndarray]]) -> None:
        """`set_state` of several slots. Nothing changes if one of the states is wrong."""
        for slot, (counters, (state, frame), judged) in zip(slots, [self._checked(state) for state in states]):
            self._write(slot, state, frame)
            self.seeds[slot], self.episodes[slot], self.steps[slot], self.ended[slot] = counters
            self._info["proprioception"][slot] = state["proprioception"][0].cpu().numpy()
            if self.judged:
                self.judged.set_state(slot, judged)

    def _checked(self, state: dict) -> tuple[tuple, tuple[dict, torch.Tensor | None], dict]:
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

    def _saved(self, state: dict) -> tuple[dict, torch.Tensor | None]:
        """World state (leading axis of 1) and frame of a saved one."""
        arrays, frame = resets.state_of_options(state, self._state_shapes(), self.spec.frame_size)
        tensors = self._to_torch({key: value[None] for key, value in arrays.items()})
        if not self.decode:
            return tensors, None
        return tensors, self.engine.render(tensors)[0] if frame is None else torch.from_numpy(frame)

    def branch(self, source: int, targets: Sequence[int], seeds: Sequence[int] | None = None) -> None:
        """Fork a slot into others; with `seeds` (one a target) each goes on with noise of its own."""
        source, targets = self._slot("source", source), [self._slot("targets", one) for one in _listed(targets)]
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

    def __deepcopy__(self, memo: dict) -> WorldCore:
        return deepcopy_sharing(self, memo, self.world, self.engine, self.spec, self.calibration)

    def __getstate__(self) -> dict:
        """The slots by value, the engine packed; its world brings spec and calibration."""
        host = None if self._state is None else {key: value.cpu().numpy() for key, value in self._state.items()}
        packed = PackedEngine.of(self.engine, self._source, self._asked)
        frames = None if self._frames is None else self._frames.cpu().numpy()
        left_out = dict.fromkeys(("world", "spec", "calibration", "_source"))
        return vars(self) | left_out | {"engine": packed, "_state": host, "_frames": frames}

    def __setstate__(self, state: dict) -> None:
        packed = state["engine"]
        vars(self).update(state, engine=packed.unpack())
        self.world = self.engine.world
        self._source, self.spec, self.calibration = packed.world, self.world.spec, self.world.calibration
        self._state = None if self._state is None else self._to_torch(self._state)
        self._frames = None if self._frames is None else torch.from_numpy(self._frames).to(self.engine.device)

    # --- small things ------------------------------------------------------------------------------------------------

    def require_reset(self, what: str) -> None:
        """Raise ResetNeeded where there has been no reset yet."""
        if self._state is None:
            raise ResetNeeded(f"{what} was called before reset; call reset() first")

    @torch.inference_mode()
    def _write(self, slot: int, state: dict[str, torch.Tensor], frame: torch.Tensor | None) -> None:
        """Copy one world state (leading axis of 1) into a slot, and its frame where frames are decoded."""
        if self._state is None:
            self._state = {k: v.new_zeros((self.num_envs, *v.shape[1:])) for k, v in state.items()}
        for key, value in state.items():
            self._state[key][slot] = value[0]
        if self.decode:
            self._frames[slot] = frame

    def _slot(self, name: str, value) -> int:
        return accepted.count(name, value, self.num_envs - 1)

    def _state_shapes(self) -> dict[str, tuple[int, ...]]:
        latent = tuple(self.spec.latent_shape)
        return {
            "first": latent,
            "proprioception": (self.spec.proprioception_dim,),
            "error_distribution": self.world.uncertainty.shape(),
            **self.world.dynamics.memory_shapes(),
        }

    def _to_torch(self, arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
        return {key: torch.from_numpy(value).to(self.engine.device) for key, value in arrays.items()}

    def _observation_space(self):
        if self.observation_mode == "latent":
            return spaces.vector_space(int(np.prod(self.spec.latent_shape)))
        if self.observation_mode == "pixels":
            return spaces.pixels_space(*self.spec.frame_size)
        return spaces.pixels_and_state_space(*self.spec.frame_size, self.spec.proprioception_dim)

    def _empty_info(self) -> dict[str, np.ndarray]:
        n, (_, h, w) = self.num_envs, self.spec.latent_shape
        terms = TERMS if self.judged else self.spec.reward_components
        scalars = ["success_probability", "uncertainty", *(f"reward/{r}" for r in terms)]
        scalars += SEEN if self.judged else ()
        return {
            "success": np.zeros(n, bool),
            "is_success": np.zeros(n, bool),
            **{key: np.zeros(n) for key in scalars},
            **({"reward/uncertainty": np.zeros(n)} if self.uncertainty_penalty else {}),
            **({"error_bound": np.zeros(n), "trust_horizon": np.zeros(n, np.int64)} if self.calibration else {}),
            "uncertainty_map": np.zeros((n, h, w), np.float32),
            "proprioception": np.zeros((n, self.spec.proprioception_dim), np.float32),
        }


def _listed(values) -> list:
    return list(values) if isinstance(values, (list, tuple, range)) or np.ndim(values) else [values]
