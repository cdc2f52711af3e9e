"""Does what a policy learns inside still hold outside? A small measurement every so often while it trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file, save_file
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from wm_gym.common.files import atomic_file
from wm_gym.policies.agent import Agent
from wm_gym.policies.folder import distinct_tensors
from wm_gym.policies.matched import evaluate_alone, evaluate_matched
from wm_gym.rl.callbacks import read_rows, write_rows

CHECKS_FILE = "checks.csv"
COLUMNS = ("steps", "world", "physics", "physics_steps", "gap")


class PhysicsCheck(BaseCallback):
    """Every `every` steps and at the end, success in the world and in the environment it was learned from (a physics
    twin, or any other) from the same `episodes` starts: a row of checks.csv. Where one of the two knows no success, the
    mean return. For an agent that trains in an environment itself, what it reaches there alone (the world's is nan).

    The training ends once the last two checks together say that what is imagined exceeds what is found outside by more
    than `max_gap`. `take_best` puts the policy back to the check that was best outside: what is learned after it may be
    of use in imagination only.

    Args:
        run: The folder of checks.csv and of the checked weights.
        config: Of the agent that is trained.
        every: Environment steps between two checks.
        episodes: Of each check.
        max_gap: Success imagined minus success outside that is accepted; of returns, their difference as a share of the
            larger of the two in size.
    """

    def __init__(
        self, run: Path, config: dict[str, Any], every: int = 50_000, episodes: int = 20, max_gap: float = 0.3
    ):
        super().__init__()
        self.run, self.path, self.config = run, run / CHECKS_FILE, config
        self.every, self.episodes, self.max_gap = every, episodes, max_gap

    def _on_training_start(self) -> None:
        rows = read_checks(self.path)
        self.spent = int(rows[-1]["physics_steps"]) if rows else 0  # what a kill made us measure again was spent, too
        self.rows = [row for row in rows if row["steps"] <= self.model.num_timesteps]
        write_rows(self.path, COLUMNS, self.rows)
        self.next = self.rows[-1]["steps"] + self.every if self.rows else self.every

    def _on_rollout_start(self) -> None:
        if self.num_timesteps >= self.next:
            self._check()

    def _on_step(self) -> bool:
        return not self.parted

    def _on_training_end(self) -> None:
        if not self.parted and (not self.rows or self.rows[-1]["steps"] < self.num_timesteps):
            self._check()

    @property
    def parted(self) -> bool:
        """Whether the last two checks together put what is imagined too far above what is found outside."""
        last = [row["world"] - row["physics"] if np.isnan(row["gap"]) else row["gap"] for row in self.rows[-2:]]
        return len(last) == 2 and sum(last) / 2 > self.max_gap

    def take_best(self, model: BaseAlgorithm) -> int:
        """Put the policy back to the check that was best outside (the latest of equals); returns its step."""
        _, best = max((row["physics"], int(row["steps"])) for row in read_checks(self.path))
        model.policy.load_state_dict(load_file(self._weights(best)), strict=False)  # shared tensors are there once
        return best

    def _check(self) -> None:
        agent, steps = Agent(self.model.policy, self.config), self.num_timesteps
        row = {"steps": steps, **(self._alone(agent) if agent.world is None else self._beside(agent))}
        self.spent += int(row["physics_steps"])
        row["physics_steps"] = self.spent
        with atomic_file(self._weights(steps)) as beside:
            save_file(distinct_tensors(self.model.policy), beside)
        self.rows.append(row)
        write_rows(self.path, COLUMNS, self.rows)
        self.next = steps + self.every

    def _alone(self, agent: Agent) -> dict[str, float]:
        """A row of an agent that trains in an environment itself."""
        found = evaluate_alone(agent, self.config["env_id"], self.episodes, self.model.seed or 0)
        reached = found["success"]["rate"] if found["success"] else found["reward"]["mean"]
        steps = round(found["steps"]["mean"] * self.episodes)
        return {"world": float("nan"), "physics": reached, "physics_steps": steps, "gap": float("nan")}

    def _beside(self, agent: Agent) -> dict[str, float]:
        """A row of an agent that trains in a world."""
        quiet: dict[str, Any] = {"baselines": (), "progress": False}
        found = evaluate_matched(agent, agent.world, None, self.episodes, self.model.seed or 0, **quiet)
        steps = sum(found["per_episode"]["physics_steps"])
        if "table" in found:
            world, physics = found["world"]["rate"], found["physics"]["rate"]
            return {"world": world, "physics": physics, "physics_steps": steps, "gap": world - physics}
        world, physics = (found["returns"][side]["mean"] for side in ("world", "physics"))
        gap = (world - physics) / max(abs(world), abs(physics), 1e-9)
        return {"world": world, "physics": physics, "physics_steps": steps, "gap": gap}

    def _weights(self, steps: int) -> Path:
        """Where the policy of a check lies."""
        return self.run / f"check-{steps:09d}.safetensors"


def read_checks(path: Path) -> list[dict[str, float]]:
    """The rows of a checks.csv; none where there is no such file."""
    return read_rows(path, COLUMNS)
