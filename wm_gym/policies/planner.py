"""How does one act by planning in a world? From pictures alone, anew after a few steps, as an agent like any other."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn

import gymnasium as gym
import numpy as np
import torch
import yaml
from PIL import Image
from stable_baselines3.common.vec_env import VecEnv

from wm_gym.common import spaces
from wm_gym.common.files import atomic_folder, check_free, write_text
from wm_gym.common.options import with_changes
from wm_gym.common.registry import NAMESPACE
from wm_gym.engine.shared import load_engine, load_world
from wm_gym.judges.goal import read_picture
from wm_gym.policies.agent import Agent, Observation
from wm_gym.policies.card import write_card
from wm_gym.policies.config import CONFIG_FILE, FORMAT_VERSION, PLANNER, PLANNER_OPTIONS
from wm_gym.policies.options import PlannerOptions
from wm_gym.policies.planning import Search
from wm_gym.worlds.catalogue import catalogue_folders, find_world
from wm_gym.worlds.world import World

GOAL_FILE = "goal.png"
DISCOUNT = 0.98  # a step: of two ways to the same reward the shorter one


class WorldPlanner:
    """A policy that searches for actions in a learned world (model-predictive control); Stable-Baselines3's `predict`.

    It sees frames uint8 [H, W, 3], keeps as many as the world remembers, and scores a sequence of actions by what the
    world predicts from there: the discounted sum of reward - uncertainty_penalty * uncertainty until success, or, with
    a goal, minus the distance of the latents to the goal's (root mean square). The first `replan_every` actions of the
    best sequence are taken, the rest is where the next search begins (receding horizon). Actions follow from the frames
    and `seed` alone.

    Args:
        world: A World, a folder, a catalogue name or a Hub id.
        search: How sequences are searched; None for `Search()`.
        options: `PlannerOptions`; None for the defaults.
        goal: A picture to come near to, uint8 [H, W, 3] of the world's size.
        backend: The engine's, as its `device` and `precision`: see `make_engine`.
        device: "auto", "cpu" or a CUDA device.
        precision: "auto", "fp32" and so on.
        **changes: Some fields of the options, e.g. replan_every=1.

    Raises:
        ValueError: For options that cannot be, and for a picture of another size.
    """

    def __init__(
        self,
        world: World | str | Path,
        search: Search | None = None,
        options: PlannerOptions | None = None,
        *,
        goal: np.ndarray | None = None,
        backend: str = "auto",
        device: str = "auto",
        precision: str = "auto",
        **changes: Any,
    ):
        options = with_changes(PlannerOptions, options, changes)
        self.world, self.search = load_world(world), search or Search()
        if (steps := options.sampling_steps) is not None:
            if steps < 1:
                raise ValueError(f"sampling_steps is {steps}, expected at least 1")
            self.world = replace(self.world, spec=replace(self.world.spec, sampling_steps=steps))
        if not 1 <= options.replan_every <= self.search.horizon:
            raise ValueError(f"replan_every is {options.replan_every}, expected 1 to horizon = {self.search.horizon}")
        self.replan_every, self.seed, spec = options.replan_every, options.seed, self.world.spec
        if not spec.draws:
            raise ValueError(
                f"the world {spec.name!r} was trained without pictures, in which planning looks; train it with another "
                "preset, e.g. wm-gym train DATASET --preset small --out WORLD"
            )
        self.engine = load_engine(self.world, backend, device, False, precision)
        self.observation_space = spaces.pixels_space(*spec.frame_size)
        self.action_space = spaces.action_space(spec.action_low, spec.action_high)
        self.uncertainty_penalty = options.uncertainty_penalty
        if not 0 <= self.uncertainty_penalty < np.inf:
            raise ValueError(f"uncertainty_penalty is {self.uncertainty_penalty}, expected a finite number >= 0")
        self.goal: torch.Tensor | None = None
        if goal is not None:
            if goal.shape != self.observation_space.shape or goal.dtype != np.uint8:
                raise ValueError(
                    f"the goal picture is {goal.dtype} {list(goal.shape)}, expected uint8 "
                    f"{list(self.observation_space.shape)}: resize it to the world's frames"
                )
            self.goal = self.engine.encode(goal[None, None])["latents"][:, -1]

    def predict(
        self,
        observation: Observation,
        state: tuple | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = True,
        active: np.ndarray | None = None,
    ) -> tuple[np.ndarray, tuple]:
        """Actions for frames; deterministic, whatever is asked.

        Args:
            observation: Frames uint8 [B, H, W, 3].
            state: What the last call returned; None where all episodes begin.
            episode_start: bool [B], whose frame is the first of an episode.
            deterministic: Not looked at.
            active: bool [B], for whom to plan; the others get the middle of the action space.

        Returns:
            Actions float32 [B, A], and the state to pass with the next frames.
        """
        assert isinstance(observation, np.ndarray)
        n, nothing = len(observation), ((), None, 0)
        memories: list[Any] = list(state) if state is not None else [nothing] * n
        actions = np.tile((self.action_space.low + self.action_space.high) / 2, (n, 1))
        for i in range(n) if active is None else np.flatnonzero(active):
            if episode_start is not None and episode_start[i]:
                memories[i] = nothing
            frames, plan, left = memories[i]
            frames = (*frames[:1], *frames[1:][-self.world.spec.context_frames :], observation[i])
            if not left:
                plan, left = self.plan(np.stack(frames), plan), self.replan_every
            actions[i], memories[i] = plan[0], (frames, np.concatenate([plan[1:], plan[-1:]]), left - 1)
        return actions, tuple(memories)

    def plan(self, frames: np.ndarray, guess: np.ndarray | None = None) -> np.ndarray:
        """The best sequence of actions found, float32 [horizon, A], after a clip of frames uint8 [T, H, W, 3]."""
        start = self.engine.encode(frames[None])
        rng = np.random.default_rng([self.seed, len(frames), int(frames[-1].sum())])
        box = self.action_space
        return self.search.best(lambda actions: self.score(start, actions, rng), box.low, box.high, rng, guess)

    @torch.inference_mode()
    def score(self, start: dict[str, torch.Tensor], actions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """What sequences of actions [N, H, A] are worth from one world state (leading axis of 1): float64 [N].

        All sequences meet the same noise, so that they differ by their actions alone.
        """
        n, horizon, _ = actions.shape
        noise = torch.from_numpy(rng.standard_normal((horizon, *self.engine.noise_shape), np.float32))
        out = self.engine.imagine(
            {key: value.expand(n, *value.shape[1:]).contiguous() for key, value in start.items()},
            torch.from_numpy(actions).to(self.engine.device),
            noise.to(self.engine.device).expand(n, *noise.shape),
            uncertainty=self.uncertainty_penalty > 0,
        )
        if self.goal is None:
            gain, over = out["reward"].sum(2), out["success"] > self.world.spec.success_threshold
            going_on = (over.cumsum(1) - over.to(torch.int64)) == 0
            gain = gain * going_on
        else:
            gain = -(out["latent"] - self.goal).square().mean((2, 3, 4)).sqrt()
        if self.uncertainty_penalty:
            gain = gain - self.uncertainty_penalty * out["uncertainty"].mean((2, 3))
        if not bool(gain.isfinite().all()):
            raise self.world.not_finite("rewards, uncertainties or latents")
        return gain.double().cpu().numpy() @ DISCOUNT ** np.arange(horizon)


class PlannerAgent(Agent):
    """A planner as an agent folder: config.yml says how it searches and in which world, and goal.png for what."""

    policy: WorldPlanner

    def predict(
        self, observation: Observation, state: Any = None, deterministic: bool = True, active: np.ndarray | None = None
    ) -> tuple[np.ndarray, Any]:
        """As `Agent.predict`; slots that are not active are not planned for."""
        return self.policy.predict(observation, state, deterministic=deterministic, active=active)

    def to_sb3(self, env: gym.Env | VecEnv) -> NoReturn:
        """ValueError: there are no weights to train on."""
        raise ValueError(
            f"{self.name} plans and has no weights; train a policy with wm-gym agent train ppo --env {self.env_id}"
        )


def save_planner(
    world: str | Path,
    out: str | Path,
    search: Search | None = None,
    options: PlannerOptions | None = None,
    *,
    goal: str | Path | None = None,
    **changes: Any,
) -> Path:
    """Write an agent folder that plans in a world.

    Args:
        world: A catalogue name, a folder or a Hub id.
        out: The agent folder to write.
        search: How sequences of actions are searched; None for `Search()`.
        options: `PlannerOptions`; None for the defaults.
        goal: A picture file of what to come near to.
        **changes: Some fields of the options, e.g. replan_every=1.

    Returns:
        The agent folder.

    Raises:
        FileExistsError: Where `out` is there.
        ValueError: For what `WorldPlanner` could not be made of, as FileNotFoundError.
    """
    out, options = Path(out), with_changes(PlannerOptions, options, changes)
    check_free(out)
    picture = None if goal is None else read_picture(goal)
    planner = WorldPlanner(world, search, options, goal=picture)
    shipped = catalogue_folders().get(planner.world.spec.name)
    own = shipped is not None and find_world(world).resolve() == shipped.resolve()
    config = {
        "format_version": FORMAT_VERSION,
        "algo": PLANNER,
        "learned": True,
        "seed": options.seed,
        "env_id": f"{NAMESPACE}/{planner.world.spec.name if own else 'World-v0'}",
        "env_kwargs": {} if own else {"world": str(world)},
        "uncertainty_penalty": options.uncertainty_penalty,
        "replan_every": options.replan_every,
        "sampling_steps": options.sampling_steps,
        "search": asdict(planner.search),
    }
    with atomic_folder(out) as beside:
        write_text(beside / CONFIG_FILE, yaml.safe_dump(config, sort_keys=False))
        if picture is not None:
            Image.fromarray(picture).save(beside / GOAL_FILE)
        write_card(beside)
    return out


def load_planner(folder: Path, config: dict[str, Any], device: str = "auto") -> PlannerAgent:
    """The agent of a folder that `save_planner` wrote; ValueError where its config is damaged."""
    agent = PlannerAgent(None, config, folder)  # type: ignore[arg-type]  # its world is looked up first
    goal, path = folder / GOAL_FILE, folder / CONFIG_FILE
    picture = read_picture(goal) if os.path.lexists(goal) else None
    try:
        search, options = Search(**config["search"]), {key: config[key] for key in PLANNER_OPTIONS}
        if agent.world is None:
            raise ValueError("it names no learned world")
        world = load_world(agent.world)
    except (ValueError, TypeError, OSError, gym.error.Error) as error:
        raise ValueError(
            f"{path} names no search or world that is here: {error}; write it anew with wm-gym agent plan"
        ) from error
    try:
        agent.policy = WorldPlanner(world, search, device=device, **options, goal=picture)
    except ValueError as error:
        raise ValueError(f"{goal if 'goal picture' in str(error) else path}: {error}") from error
    return agent
