"""How is one stage trained? Updates with EMA, checkpoints that resume exactly, TensorBoard and a progress bar."""

import json
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from tqdm import tqdm

from wm_gym.common.files import full_disk_named, put, write_json
from wm_gym.training.presets import Preset
from wm_gym.training.segments import update_generators

SECONDS_FILE = "seconds.json"
STAGES = (
    "tokenizer",
    "dynamics",
    "heads",
    "pose",
    "uncertainty",
    "outcome",
)  # a stage's place decides its random stream


class Averages:
    """The EMA weights of the stage that is trained now, as the accelerator checkpoints them."""

    now: EMAModel

    def state_dict(self) -> dict[str, Any]:
        """Of the stage's EMA."""
        return self.now.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Into the stage's EMA."""
        self.now.load_state_dict(state)


@dataclass
class Run:
    """What the stages of a training share."""

    folder: Path
    """Where checkpoints, logs and finished stages lie."""
    preset: Preset
    seed: int
    accelerator: Accelerator
    progress: bool = True
    averages: Averages = field(default_factory=Averages)

    def __post_init__(self) -> None:
        self.accelerator.register_for_checkpointing(self.averages)
        self.accelerator.register_save_state_pre_hook(_store_apart)

    def log(self, stage: str, update: int, values: dict[str, float]) -> None:
        """Write a stage's numbers into its TensorBoard log."""
        if self.accelerator.is_main_process:
            self.accelerator.log({f"{stage}/{k}": float(v) for k, v in values.items()}, step=update)

    def average(self, trained: list[nn.Parameter]) -> EMAModel:
        """The EMA of a stage's parameters, checkpointed from now on."""
        self.averages.now = EMAModel(trained, decay=self.preset.ema_decay, use_ema_warmup=True, power=0.75)
        self.averages.now.to(self.accelerator.device)
        return self.averages.now

    def seconds(self) -> dict[str, float]:
        """The seconds that each stage took up to its last checkpoint, pauses and lost updates left out."""
        path = self.folder / SECONDS_FILE
        return json.loads(path.read_text()) if path.is_file() else {}

    def spend(self, stage: str, seconds: float) -> None:
        """Add to the seconds of a stage."""
        if self.accelerator.is_main_process:
            spent = self.seconds()
            spent[stage] = round(spent.get(stage, 0.0) + seconds, 1)
            write_json(self.folder / SECONDS_FILE, spent)


Batch = Callable[[np.random.Generator, torch.Generator, int], dict[str, Any]]
"""The arguments of a module's forward, drawn for an update."""


def fit(
    run: Run,
    stage: str,
    module: nn.Module,
    updates: int,
    batch: Batch,
    report: Callable[[int], None] | None = None,
    rate: float | None = None,
) -> None:
    """Train a module in place; it ends holding the EMA weights.

    A checkpoint every `checkpoint_every` updates goes to `folder/checkpoints`; a killed run continues from the newest
    one, bit for bit, because everything random in an update is keyed by (seed, stage, update, rank).
    FloatingPointError where the loss is not finite.

    Args:
        run: What the stages share.
        stage: One of `STAGES`.
        module: Its forward returns (loss, metrics).
        updates: How many in all.
        batch: Of each update.
        report: Called with the number of updates done every `report_every`, while the module holds the EMA weights.
        rate: The highest learning rate; the preset's if None.
    """
    preset, accelerator, rate = run.preset, run.accelerator, rate or run.preset.learning_rate
    trained = [p for p in module.parameters() if p.requires_grad]
    accelerator.free_memory()  # one stage at a time is checkpointed
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=1e-3, betas=(0.9, 0.99))
    model, optimizer = accelerator.prepare(module, optimizer)
    ema = run.average(trained)
    done = _restore(accelerator, run.folder / "checkpoints", stage)
    shown = run.progress and accelerator.is_main_process
    bar = tqdm(range(done, updates), stage, initial=done, total=updates, mininterval=1.0, disable=not shown)
    model.train()
    clock = time.monotonic()
    for update in bar:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(update, updates, rate, preset.warmup)
        generators = update_generators(run.seed, STAGES.index(stage), update, accelerator.process_index)
        loss, metrics = model(**send_to_device(batch(*generators, update), accelerator.device))
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ema.step(trained)
        step = update + 1
        if step % 50 == 0:
            _log(run, stage, step, {"loss": loss.item(), **{k: v.item() for k, v in metrics.items()}}, bar)
        if step % preset.checkpoint_every == 0 or step == updates:
            _save(accelerator, run.folder / "checkpoints", stage, step)
            run.spend(stage, time.monotonic() - clock)
            clock = time.monotonic()
        if report and (step % preset.report_every == 0 or step == updates) and accelerator.is_main_process:
            ema.store(trained)
            _finish(module, ema, trained)
            report(step)
            module.train()
            ema.restore(trained)
    _finish(module, ema, trained)


def _finish(module: nn.Module, ema: EMAModel, trained: list[nn.Parameter]) -> None:
    ema.copy_to(trained)
    module.eval()


def _log(run: Run, stage: str, step: int, values: dict[str, float], bar: tqdm) -> None:
    if not math.isfinite(values["loss"]):
        raise FloatingPointError(
            f"{stage}: the loss is {values['loss']} at update {step}; look at the data "
            "(`wm-gym train` names NaN actions) or lower the learning rate"
        )
    bar.set_postfix({k: f"{v:.3g}" for k, v in values.items()})
    run.log(stage, step, values)


def learning_rate(update: int, updates: int, highest: float, warmup: int) -> float:
    """The learning rate of an update: a linear warm-up, then a cosine down to 2 % of the highest."""
    warm = min(1.0, (update + 1) / warmup)
    return highest * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * update / updates)))


def _store_apart(models: list[nn.Module], weights: list[dict[str, Tensor]], folder: str) -> None:
    """Give each empty tensor memory of its own: accelerate takes all without any for one, and keeps only the first."""
    for state in weights:
        empty = {name: value for name, value in state.items() if not value.numel()}
        state.update({name: value.new_empty(1)[:0].reshape(value.shape) for name, value in empty.items()})


def _save(accelerator: Accelerator, folder: Path, stage: str, step: int) -> None:
    beside, final = folder / f".{stage}-{step}", folder / f"{stage}-{step}"  # every process writes into the same
    if accelerator.is_main_process:
        shutil.rmtree(beside, ignore_errors=True)
    accelerator.wait_for_everyone()
    with full_disk_named(folder):
        accelerator.save_state(str(beside), safe_serialization=True)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        put(beside, final)
        for old in folder.iterdir():
            if old != final:
                shutil.rmtree(old)
    accelerator.wait_for_everyone()


def _restore(accelerator: Accelerator, folder: Path, stage: str) -> int:
    """Load the newest checkpoint of a stage; returns the updates done (0 without one)."""
    found = sorted((int(p.name.split("-")[1]), p) for p in folder.glob(f"{stage}-*"))
    if not found:
        return 0
    accelerator.load_state(str(found[-1][1]))
    return found[-1][0]
