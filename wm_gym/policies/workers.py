"""How are many episodes run in the environment of a world? In this process, or in several where that pays."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import as_completed
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from wm_gym.common.processes import Interrupts, begin_worker, one_thread, spawned_pool
from wm_gym.common.registry import find_spec
from wm_gym.policies.agent import Agent
from wm_gym.policies.loaders import load_agent
from wm_gym.policies.options import BASELINES, MatchedOptions
from wm_gym.policies.rollouts import Outcome, Start, run_source
from wm_gym.policies.source import make_source
from wm_gym.worlds.world import World

PART = 5  # episodes a worker takes at a time


@dataclass(frozen=True)
class SourceRuns:
    """Where policies are run beside a world, and how."""

    id: str
    """Of the environment."""
    horizon: int
    world: World | str
    """The world as whose policies see the environment."""
    options: MatchedOptions
    frames: bool = True
    """Whether starts are to have frames."""
    env_kwargs: dict[str, Any] = field(default_factory=dict)

    def run(self, policy: Agent | str, seeds: list[int]) -> tuple[list[Outcome], list[Start]]:
        """One episode a seed, in this process or in several, as pays."""
        name = policy if isinstance(policy, str) else "agent"
        with episodes_bar(f"{self.id}, {name}", len(seeds), self.options.progress) as bar:
            if self._pays(policy, seeds):
                return self._in_processes(policy, seeds, bar.update)
            env = make_source(self.id, self.world, policy, self.horizon, frames=self.frames, **self.env_kwargs)
            try:
                return run_source(policy, env, seeds, self.options.deterministic, bar.update, frames=self.frames)
            finally:
                env.close()

    def _pays(self, policy: Agent | str, seeds: list[int]) -> bool:
        """Whether processes pay: there are several, enough to do, and all that they need can be loaded by name."""
        if not isinstance(policy, str):
            if policy.folder is None or not policy.folder.is_dir() or not isinstance(self.world, str):
                return False
        if not isinstance(find_spec(self.id).entry_point, str):
            return False
        workers = self.options.workers
        return len(seeds) > 4 * PART and ((os.cpu_count() or 1) if workers is None else workers) > 1

    def _in_processes(
        self, policy: Agent | str, seeds: list[int], progress: Callable[..., object]
    ) -> tuple[list[Outcome], list[Start]]:
        """Spawned, as forking after torch or OpenVINO has threads hangs; outcomes in the order of the seeds."""
        workers = self.options.workers or min(os.cpu_count() or 1, 8)
        named = (policy, None) if isinstance(policy, str) else (str(policy.folder), self.world)
        where = (*named, self.id, self.horizon, self.frames, self.env_kwargs)
        parts = [seeds[i : i + PART] for i in range(0, len(seeds), PART)]
        with Interrupts() as interrupts:
            with spawned_pool(workers, interrupts, _begin_worker, where) as pool:
                with interrupts.ignored_by_children(), one_thread():
                    futures = [pool.submit(_work, part, self.options.deterministic) for part in parts]
                for future in as_completed(futures):
                    if interrupts.seen:
                        raise KeyboardInterrupt
                    progress(len(future.result()[0]))
        done = [future.result() for future in futures]
        return [o for outcomes, _ in done for o in outcomes], [s for _, starts in done for s in starts]


def episodes_bar(what: str, total: int, show: bool) -> tqdm:
    """A progress bar of episodes."""
    return tqdm(total=total, desc=what, unit="episode", disable=not show)


_worker: dict[str, Any] = {}


def _begin_worker(*arguments: Any) -> None:
    begin_worker()
    _worker["arguments"] = arguments


def _work(seeds: list[int], deterministic: bool) -> tuple[list[Outcome], list[Start]]:
    if "env" not in _worker:  # made here, not in the initializer, so that its error reaches the caller
        import torch

        torch.set_num_threads(1)
        name, world, env_id, horizon, frames, env_kwargs = _worker["arguments"]
        policy = name if name in BASELINES else load_agent(name)
        env = make_source(env_id, world, policy, horizon, frames=frames, **env_kwargs)
        _worker.update(policy=policy, env=env, frames=frames)
    return run_source(_worker["policy"], _worker["env"], seeds, deterministic, frames=_worker["frames"])
