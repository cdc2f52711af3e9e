"""What happens beside the learning? A progress bar, a curve on the disk, checkpoints, a time limit."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from tqdm import tqdm

from wm_gym.common.files import write_text
from wm_gym.rl.checkpoint import latest_checkpoint, moment, rewind, save_checkpoint

CURVE_FILE = "curve.csv"
CURVE_COLUMNS = ("steps", "seconds", "update_seconds", "success_rate", "episode_length", "episode_reward")


class Progress(BaseCallback):
    """A tqdm bar, and a row of `curve.csv` every `every` steps: the mean over the last 100 episodes.

    The column seconds is training time, without what was lost between a kill and the resumption; update_seconds those
    of them that the algorithm's own updates took, which no faster environment makes shorter.
    """

    def __init__(self, run: Path, total: int, every: int = 1000, bar: bool = True):
        super().__init__()
        self.path, self.total, self.every, self.with_bar = run / CURVE_FILE, total, every, bar
        self.next_row = 0

    def _on_training_start(self) -> None:
        steps = self.model.num_timesteps
        rows = [row for row in read_curve(self.path) if row["steps"] <= steps]
        write_rows(self.path, CURVE_COLUMNS, rows)
        self.offset, self.updating = (rows[-1]["seconds"], rows[-1]["update_seconds"]) if rows else (0.0, 0.0)
        self.update_started: float | None = None
        self.started, self.next_row = time.monotonic(), steps + self.every
        self.bar = tqdm(total=self.total, initial=steps, unit="step", unit_scale=True, disable=not self.with_bar)

    def _on_rollout_start(self) -> None:
        if self.update_started is not None:
            self.updating += time.monotonic() - self.update_started

    def _on_rollout_end(self) -> None:
        self.update_started = time.monotonic()

    def _on_step(self) -> bool:
        self.bar.update(self.training_env.num_envs)
        if self.num_timesteps >= self.next_row:
            self._write_row()
        return True

    def _on_training_end(self) -> None:
        if self.next_row != self.num_timesteps + self.every:  # else it was written at this step
            self._write_row()
        self.bar.close()

    def _write_row(self) -> None:
        self.next_row = self.num_timesteps + self.every
        episodes, successes = self.model.ep_info_buffer, self.model.ep_success_buffer
        if not episodes:
            return
        success = float(np.mean(successes)) if successes else float("nan")
        length, reward = (float(np.mean([e[k] for e in episodes])) for k in ("l", "r"))
        seconds = self.offset + time.monotonic() - self.started
        times, means = f"{seconds:.2f},{self.updating:.2f}", f"{success:.4f},{length:.2f},{reward:.4f}"
        with self.path.open("a", newline="") as file:
            file.write(f"{self.num_timesteps},{times},{means}\r\n")
        self.bar.set_postfix_str(f"success {success:.0%}, {length:.0f} steps an episode, reward {reward:.2f}")


class Checkpoints(BaseCallback):
    """A checkpoint every `every` steps, between two updates, so that nothing half-collected is lost or kept."""

    def __init__(self, run: Path, every: int):
        super().__init__()
        self.run, self.every = run, every
        self.begun: dict[str, Any] | None = None

    def _on_training_start(self) -> None:
        self.next = self.model.num_timesteps + self.every

    def _on_rollout_start(self) -> None:
        if self.num_timesteps >= self.next:
            self.next = self.num_timesteps + self.every
            save_checkpoint(self.model, self.run)
        if isinstance(self.model, OnPolicyAlgorithm):
            self.begun = moment(self.model)

    def _on_step(self) -> bool:
        return True

    def rescue(self, model: BaseAlgorithm) -> Path | None:
        """The checkpoint of a training whose collecting has failed; a half-collected roll-out is collected again.

        None where it failed before the first step.
        """
        if model._last_obs is None:  # no episode has begun since the last checkpoint
            return latest_checkpoint(self.run)
        if self.begun:
            rewind(model, self.begun)
        return save_checkpoint(model, self.run)


class TimeLimit(BaseCallback):
    """Ends the training after so many minutes."""

    def __init__(self, minutes: float):
        super().__init__()
        self.minutes = minutes

    def _on_training_start(self) -> None:
        self.deadline = time.monotonic() + 60 * self.minutes

    def _on_step(self) -> bool:
        return time.monotonic() <= self.deadline


def read_curve(path: Path) -> list[dict[str, float]]:
    """The rows of a `curve.csv` as floats."""
    return read_rows(path, CURVE_COLUMNS)


def read_rows(path: Path, columns: Sequence[str]) -> list[dict[str, float]]:
    """The rows of a CSV file, nan where it lacks a column; none without the file.

    A last row that a kill cut short is left out.
    """
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if all(row.values())]
    return [{column: float(row.get(column, "nan")) for column in columns} for row in rows]


def write_rows(path: Path, columns: Sequence[str], rows: list[dict[str, float]]) -> None:
    """Write a CSV file of such rows."""
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, columns)
    writer.writeheader()
    writer.writerows(row | {"steps": int(row["steps"])} for row in rows)
    write_text(path, table.getvalue())
