"""How should action and pose reach the dynamics, and what does guidance give? Every way, dropout and scale, on Drawer.

    wm-gym record wm_gym/DrawerPyBullet-v0 --episodes 1000 --seed 100 --out data/drawer-mix
    wm-gym record wm_gym/DrawerPyBullet-v0 --episodes 200 --seed 900 --out data/drawer-held
    python benchmarks/studies/conditioning.py data/drawer-mix data/drawer-held --out runs/conditioning

Screens every cell with one seed, then trains the best two ways and the default longer, with three. What is finished is
taken from --out. Tokenizer, latents and pose network are the same for all cells.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from common import Bar, command, write_results

CONDITIONINGS = ("film+map", "film", "cross", "token", "concat", "map")
DROPOUTS = (0.0, 0.1, 0.2)
SCALES = (0.0, 1.0, 1.5, 2.0, 3.0, 4.0)
LONG = 25  # steps


def of_cells(stage: str, way: str, key: str) -> Callable[[dict], float]:
    """The mean over the cells of a way without dropout, unguided."""

    def read(found: dict) -> float:
        cells = [one["scales"]["1.0"] for one in found[stage] if is_plain(one["cell"], way)]
        return float(np.mean([one[key]["mean"] if isinstance(one[key], dict) else one[key] for one in cells]))

    return read


def is_plain(cell: dict, way: str) -> bool:
    return cell["conditioning"] == way and cell["dropout"] == 0


BARS = {
    "conditioning": [
        *(
            Bar(f"PSNR after 4 steps, screened, {way}, dB", of_cells("screened", way, "psnr_4"), show="{:.1f}")
            for way in CONDITIONINGS
        ),
        *(
            Bar(f"PSNR after {LONG} steps, confirmed, {way}, dB", of_cells("confirmed", way, "psnr_25"), show="{:.2f}")
            for way in ("film+map", "map", "cross")
        ),
        Bar(
            "seeds of each that is confirmed",
            lambda found: min(Counter(one["cell"]["conditioning"] for one in found["confirmed"]).values()),
            least=3,
        ),
    ]
}


@dataclass(frozen=True)
class Cell:
    """A training."""

    conditioning: str
    dropout: float
    seed: int
    updates: int

    @property
    def name(self) -> str:
        return f"{self.conditioning}-{self.dropout}-{self.seed}-{self.updates}"


def prepare(dataset: str, held: str, out: Path) -> None:
    """What all cells share: tokenizer, latents, pose network and the reader of states."""
    from wm_gym.data import open_clips
    from wm_gym.training.presets import PRESETS
    from wm_gym.training.stages import encode_all, train_pose, train_tokenizer
    from wm_gym.training.trainer import begin_run, median_frame

    clips, run = open_clips(dataset), begin_run(out / "shared", PRESETS["small"], 0)
    world = new_world(clips, run.preset, 0)
    train_tokenizer(run, world, clips, median_frame(clips, 0))
    encode_all(run, world.tokenizer, clips, world.spec.latent_shape)
    train_pose(run, world, clips)
    fit_reader(clips, held, world.tokenizer, out)
    (out / "shared" / "ready").touch()


def fit_reader(clips, held: str, tokenizer, out: Path) -> None:
    """Learn to read states off frames, as `ask` does; made once."""
    import gymnasium as gym
    from safetensors.torch import save_file

    from wm_gym.common.registry import registered
    from wm_gym.data import open_clips
    from wm_gym.evaluation.probes.state_decoder import fit_state_decoder
    from wm_gym.physics.tracked import tracked_by

    if (out / "reader.safetensors").is_file():
        return
    tracked = tracked_by(gym.make(registered(clips.meta["env_id"], "env_id"), render_mode="rgb_array"))
    apart = open_clips(held)
    truth, seen = (tracked.states(some)[:, : tracked.read] for some in (clips, apart))
    made = fit_state_decoder(clips.frames, truth, apart.frames[::50], seen[::50], views=tokenizer.round_trip)
    print(f"reader: median error {100 * made.median_error:.2f} cm")
    save_file({k: v.contiguous() for k, v in made.decoder.state_dict().items()}, out / "reader.safetensors")


def new_world(clips, sizes, seed: int):
    """A world for these clips before any training."""
    from wm_gym.training.build import new_world
    from wm_gym.training.trainer import fit_statistics, make_starts, spec_of

    world = new_world(spec_of(clips, "Drawer"), sizes, seed, starts=make_starts(clips, sizes, seed))
    fit_statistics(world, clips)
    return world


def measure_cell(cell: Cell, dataset: str, held: str, out: Path) -> Path:
    """Train a cell and ask it at every scale; returns the file of its numbers."""
    from dataclasses import replace

    from safetensors.torch import load_file

    from wm_gym.data import open_clips
    from wm_gym.training.presets import PRESETS
    from wm_gym.training.stages import train_dynamics, train_pose, train_tokenizer
    from wm_gym.training.trainer import begin_run, median_frame

    file, shared, folder = out / f"{cell.name}.json", out / "shared", out / cell.name
    if file.is_file():
        return file
    clips = open_clips(dataset)
    sizes = replace(
        PRESETS["small"],
        conditioning=cell.conditioning,
        condition_dropout=cell.dropout,
        pose_updates=0,
        dynamics_updates=cell.updates,
        dynamics_batch=32,
        rollout_lengths=(2, 4, 8),
        report_every=10**9,
    )
    folder.mkdir(exist_ok=True)
    shutil.copytree(shared / "tokenizer", folder / "tokenizer", dirs_exist_ok=True)
    run = begin_run(folder, sizes, cell.seed, progress=False)
    world = new_world(clips, sizes, cell.seed)
    background = median_frame(clips, 0)
    train_tokenizer(run, world, clips, background)
    train_pose(run, world, clips)
    pose = load_file(shared / "pose" / "diffusion_pytorch_model.safetensors")
    world.dynamics.pose_net.load_state_dict(
        {k.removeprefix("pose_net."): v for k, v in pose.items() if k.startswith("pose_net.")}
    )
    train_dynamics(run, world, clips, np.load(shared / "latents.npy", mmap_mode="r"), background)
    result = {"cell": asdict(cell), "seconds": run.seconds()}
    scales = SCALES if world.dynamics.null is not None else (1.0,)
    result["scales"] = {str(scale): ask(world.at_rest(), held, out, scale) for scale in scales}
    file.with_suffix(".writing").write_text(json.dumps(result))
    file.with_suffix(".writing").rename(file)
    shutil.rmtree(folder)
    return file


def ask(world, held: str, out: Path, scale: float) -> dict:
    """Following, fidelity and drift of a world at a guidance scale."""
    import gymnasium as gym
    from safetensors.torch import load_file

    from wm_gym.common.metrics import psnr
    from wm_gym.common.registry import registered
    from wm_gym.data import open_clips
    from wm_gym.engine.torch import TorchEngine
    from wm_gym.evaluation.control_worlds import learned, physics
    from wm_gym.evaluation.episodes import Episodes
    from wm_gym.evaluation.metrics.control import delta_psnr, directions
    from wm_gym.evaluation.probes.state_decoder import StateDecoder
    from wm_gym.physics.tracked import tracked_by

    world.spec.guidance_scale = scale
    rollout, clips = learned(world, TorchEngine(world)), open_clips(held)
    env = gym.make(registered(clips.meta["env_id"], "env_id"), render_mode="rgb_array")
    tracked, weights = tracked_by(env), load_file(out / "reader.safetensors")
    reader = StateDecoder(clips.frames.shape[1:3], len(weights["mean"]))
    reader.load_state_dict(weights)
    reader.eval()
    short, long = Episodes.of(clips, 4, every=50), Episodes.of(clips, LONG).select(np.arange(100))
    gained = delta_psnr({"w": rollout}, short, world.spec)["w"]
    sent = directions({"w": rollout}, Episodes.of(clips, 5, every=50), world.spec, reader.read, twin=physics(env))
    made = rollout(long)["frame"]
    states = tracked.states(clips)[long.rows[:, -1], : tracked.read]

    def apart(frames):
        """Of hand and drawer together."""
        cm = 100 * np.linalg.norm(reader.read(frames) - states, axis=1)
        return {"median_cm": float(np.median(cm)), "p90_cm": float(np.quantile(cm, 0.9))}

    return {
        "within_45": sent.of["w"]["frames"].within_45,
        "along_cm": sent.of["w"]["frames"].along_cm,
        "delta_psnr_shuffled": gained.shuffled,
        "psnr_4": gained.psnr_true_db,
        "psnr_25": float(psnr(made[:, -1], long.frames[:, -1]).mean()),
        "drift_25": apart(made[:, -1]),
        "reader": apart(long.frames[:, -1]),
    }


def run_cells(cells: list[Cell], args: argparse.Namespace) -> list[dict]:
    """Cells beside each other, one core each."""
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(args.workers, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(measure_cell, cell, args.dataset, args.held, args.out) for cell in cells]
        return [json.loads(one.result().read_text()) for one in waiting]


def main() -> None:
    parser = command(__doc__, BARS)
    parser.add_argument("dataset")
    parser.add_argument("held", help="recorded with another seed")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--updates", type=int, default=1000, help="of a cell that is screened (default: 1000)")
    parser.add_argument("--more-updates", type=int, default=2000, help="of one that is confirmed (default: 2000)")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if not (args.out / "shared" / "ready").is_file():
        prepare(args.dataset, args.held, args.out)
    screened = run_cells([Cell(way, dropout, 0, args.updates) for dropout in DROPOUTS for way in CONDITIONINGS], args)
    order = sorted(screened, key=lambda r: -r["scales"]["1.0"]["psnr_4"]["mean"])
    best = [r["cell"] for r in order if (r["cell"]["conditioning"], r["cell"]["dropout"]) != (CONDITIONINGS[0], 0.0)][
        :2
    ]
    chosen = [(CONDITIONINGS[0], 0.0), *((cell["conditioning"], cell["dropout"]) for cell in best)]
    confirmed = run_cells(
        [Cell(way, dropout, seed, args.more_updates) for seed in (1, 2, 3) for way, dropout in chosen], args
    )
    plot(screened, write_results("conditioning", {"screened": screened, "confirmed": confirmed}).with_suffix(".png"))


def plot(cells: list[dict], path: Path) -> None:
    """Following, fidelity and drift against the guidance scale, a line a cell that was trained with dropout."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 4, figsize=(15, 4), layout="constrained")
    read = {
        "followed within 45 degrees": lambda r: r["within_45"]["rate"],
        "PSNR after 4 steps, dB": lambda r: r["psnr_4"]["mean"],
        "PSNR after 25 steps, dB": lambda r: r["psnr_25"],
        "hand and drawer after 25 steps, cm off": lambda r: r["drift_25"]["median_cm"],
    }
    for axis, (title, value) in zip(axes, read.items()):
        for cell in cells:
            sizes = cell["cell"]
            x = [float(s) for s in cell["scales"]]
            y = [value(r) for r in cell["scales"].values()]
            style = {0.0: "o", 0.1: "-", 0.2: "--"}[sizes["dropout"]]
            axis.plot(
                x,
                y,
                style,
                color=f"C{CONDITIONINGS.index(sizes['conditioning'])}",
                markersize=4,
                label=f"{sizes['conditioning']}, {sizes['dropout']:.0%}",
            )
        axis.set(title=title, xlabel="guidance scale")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=8)
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
