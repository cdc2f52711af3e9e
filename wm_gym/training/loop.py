"""How is one stage trained? Updates with EMA, checkpoints that resume exactly, TensorBoard and a progress bar."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import nn
from tqdm import tqdm

from wm_gym.common.files import full_disk_named, put, write_json
from wm_gym.training.presets import Preset
from wm_gym.training.segments import update_generators

SECONDS_FILE = "seconds.json"
STAGES = ("tokenizer", "dynamics", "heads", "pose", "uncertainty")  # a stage's place decides its random stream


@dataclass
class Run:
    """What the stages of a training share."""

    folder: Path
    preset: Preset
    seed: int
    accelerator: Accelerator
    progress: bool = True

    def log(self, stage: str, update: int, values: dict[str, float]) -> None:
        if self.accelerator.is_main_process:
            self.accelerator.log({f"{stage}/{k}": float(v) for k, v in values.items()}, step=update)

    def seconds(self) -> dict[str, float]:
        """What each stage has taken up to its last checkpoint, pauses and lost updates left out."""
        path = self.folder / SECONDS_FILE
        return json.loads(path.read_text()) if path.is_file() else {}

    def spend(self, stage: str, seconds: float) -> None:
        if self.accelerator.is_main_process:
            spent = self.seconds()
            spent[stage] = round(spent.get(stage, 0.0) + seconds, 1)
            write_json(self.folder / SECONDS_FILE, spent)


def fit(
    run: Run,
    stage: str,
    module: nn.Module,
    updates: int,
    batch: Callable,
    report: Callable[[int], None] | None = None,
    rate: float | None = None,
) -> None:
    """Train `module` (whose forward returns loss and metrics) in place; it ends holding the EMA weights.

    `batch(numpy generator, torch generator, update) -> dict of forward's arguments`. rate: the highest learning rate
    (default: the preset's). A checkpoint every `checkpoint_every` updates goes to `folder/checkpoints`; a killed run
    continues from the newest one, bit for bit, because everything random in an update is keyed by (seed, stage,
    update, rank).
    """
    preset, accelerator, rate = run.preset, run.accelerator, rate or run.preset.learning_rate
    trained = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=1e-3, betas=(0.9, 0.99))
    model, optimizer = accelerator.prepare(module, optimizer)
    ema = EMAModel(trained, decay=preset.ema_decay, use_ema_warmup=True, power=0.75)
    ema.to(accelerator.device)
    accelerator._models, accelerator._optimizers = [model], [optimizer]  # one stage at a time is checkpointed
    accelerator._custom_objects = [ema]
    checkpoints = run.folder / "checkpoints"
    done = _restore(accelerator, checkpoints, stage)
    bar = tqdm(
        range(done, updates),
        desc=stage,
        initial=done,
        total=updates,
        mininterval=1.0,
        disable=not (run.progress and accelerator.is_main_process),
    )
    model.train()
    clock = time.monotonic()
    for update in bar:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(update, updates, rate, preset.warmup)
        numpy_rng, torch_rng = update_generators(run.seed, STAGES.index(stage), update, accelerator.process_index)
        inputs = {
            k: v.to(accelerator.device) if isinstance(v, torch.Tensor) else v
            for k, v in batch(numpy_rng, torch_rng, update).items()
        }
        loss, metrics = model(**inputs)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ema.step(trained)
        step = update + 1
        if step % 50 == 0:
            values = {"loss": loss.item(), **{k: v.item() for k, v in metrics.items()}}
            if not math.isfinite(values["loss"]):
                raise FloatingPointError(
                    f"{stage}: the loss is {values['loss']} at update {step}; look at the data "
                    "(`wm-gym train` names NaN actions) or lower the learning rate"
                )
            bar.set_postfix({k: f"{v:.3g}" for k, v in values.items()})
            run.log(stage, step, values)
        if step % preset.checkpoint_every == 0 or step == updates:
            _save(accelerator, checkpoints, stage, step)
            run.spend(stage, time.monotonic() - clock)
            clock = time.monotonic()
        if report and (step % preset.report_every == 0 or step == updates) and accelerator.is_main_process:
            ema.store(trained)
            ema.copy_to(trained)
            module.eval()
            report(step)
            module.train()
            ema.restore(trained)
    ema.copy_to(trained)
    module.eval()


def learning_rate(update: int, updates: int, highest: float, warmup: int) -> float:
    """Linear warm-up, then a cosine down to 2 %."""
    warm = min(1.0, (update + 1) / warmup)
    return highest * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * update / updates)))


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
