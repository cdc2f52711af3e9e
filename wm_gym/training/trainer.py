"""From a dataset to a world folder: tokenizer, pose, dynamics, heads, uncertainty in that order, always resumable."""

import contextlib
import itertools
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from accelerate.utils.environment import get_int_from_env

from wm_gym.common.files import check_same, clear, locked
from wm_gym.common.options import with_changes
from wm_gym.data.clips import ClipData, join_clips, open_clips
from wm_gym.data.curation.selection import Selection, select, without_actions
from wm_gym.models import StateHeads, Tokenizer
from wm_gym.models.conditioning import VectorCode
from wm_gym.models.integrator import LARGEST, Integrator
from wm_gym.training.build import new_world, with_actions, world_on_base
from wm_gym.training.card import Measured, write_card
from wm_gym.training.check import check_world
from wm_gym.training.hindsight import Hindsight
from wm_gym.training.loop import Run
from wm_gym.training.options import TrainOptions
from wm_gym.training.presets import Preset, sizes_of
from wm_gym.training.rare import reward_bounds, usual_rewards
from wm_gym.training.report import early_report
from wm_gym.training.segments import split_episodes
from wm_gym.training.stages import (
    encode_all,
    fit_termination,
    held_out_segments,
    train_dynamics,
    train_heads,
    train_outcome,
    train_pose,
    train_tokenizer,
    train_uncertainty,
)
from wm_gym.worlds.spec import WorldSpec
from wm_gym.worlds.starts import StartBank, most_starts
from wm_gym.worlds.world import World, digest_of_world, is_angle

NOTE = "run.json"  # what a run was asked for
RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")  # what launchers number processes with


def alone_in(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Hold a run's folder for this training (the first process of a distributed one, for all); ValueError if taken."""
    return contextlib.nullcontext() if get_int_from_env(RANKS, 0) else locked(folder, "is training in")


def train(
    dataset: str | Path | Sequence[str | Path], out: str | Path, options: TrainOptions | None = None, **changes: Any
) -> Path:
    """Train a world on one or several datasets of one environment.

    Checkpoints, TensorBoard logs and pictures lie in `<out>.training` (in `<out>.log` once it is done); a killed run
    started again with the same arguments continues there and ends with the uninterrupted run's weights.

    Args:
        dataset: A dataset's folder, or several.
        out: The world folder to write.
        options: How; the defaults if None.
        **changes: Fields of `TrainOptions`, as in `train(dataset, out, preset="tiny")`.

    Returns:
        The world folder.

    Raises:
        ValueError: For an unknown preset, a finished `out` without `overwrite`, or an `<out>.training` that belongs to
            other arguments or to a training that is running.
        TypeError: For an unknown option.
    """
    options, out = with_changes(TrainOptions, options, changes), Path(out)
    folder = out.with_name(out.name + ".training")
    with alone_in(folder):
        sizes = _sizes(options)
        if (out / "spec.yaml").is_file() and not (folder / NOTE).is_file() and not options.overwrite:
            raise ValueError(f"{out} already holds a finished world; choose another --out, or pass --overwrite")
        clips = _clips([dataset] if isinstance(dataset, (str, Path)) else list(dataset), options)
        claim(folder, _asked(clips, sizes, options), options.overwrite)
        run = begin_run(folder, sizes, options.seed, options.cpu, options.progress)
        world = _untrained(clips, sizes, options, options.name or out.name)
        background = median_frame(clips, options.seed)
        _train_stages(run, world, clips, background)
        run.accelerator.wait_for_everyone()
        if run.accelerator.is_main_process:
            run.accelerator.end_training()
            world.at_rest()
            _finish(out, world, clips, run, background, options)
            (folder / "latents.npy").unlink(missing_ok=True)
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
            folder.rename(_free_name(out.with_name(out.name + ".log")))
    return out


def _finish(out: Path, world: World, clips: ClipData, run: Run, background: np.ndarray, options: TrainOptions) -> None:
    """Measure the world on held-out episodes, and save it with its card."""
    shown = held_out_segments(clips, world.spec.context_frames, options.seed)
    numbers = early_report(world, clips, shown, background) if world.spec.draws else {}
    found = check_world(world, clips) if world.spec.action_dim else None
    settings = {"preset": options.preset, "seed": options.seed}
    told = Measured(numbers, found, len(clips), run.seconds())
    world.save_pretrained(out, also=lambda beside: write_card(beside, world.spec, settings, told))
    if found is not None and options.progress:
        print(found)


def _sizes(options: TrainOptions) -> Preset:
    """The preset with its changes; ValueError where it does not go with the other options."""
    sizes = sizes_of(options.preset, options.overrides)
    if sizes.decoder_only and not options.init:
        raise ValueError("decoder_only keeps the encoder of a trained world, and there is none; pass --init WORLD")
    if not (options.init or options.base) and not sizes.tokenizer_updates:
        raise ValueError(
            f"preset {options.preset!r} keeps the tokenizer of another model; pass --init WORLD, choose another "
            "preset, or see: wm-gym finetune --help"
        )
    return sizes


def _clips(datasets: list[str | Path], options: TrainOptions) -> ClipData:
    """What is trained on; ValueError for frames of odd size, and where nobody said that there may be no actions."""
    clips = join_clips(_open(datasets, options))
    height, width = clips.frames.shape[1:3]
    if height % 4 or width % 4:
        raise ValueError(
            f"frames are {height}x{width}, but 4 must divide both sides; resize them, e.g. "
            f"--size {max(4, height // 4 * 4)}x{max(4, width // 4 * 4)}"
        )
    if options.action_free:
        return without_actions(clips)
    if not clips.action.shape[1] and not options.init:
        raise ValueError(
            f"{datasets[0]} has no actions; pass --action-free to train on the video alone, then --init "
            "the world on episodes that have some"
        )
    return clips


def _asked(clips: ClipData, sizes: Preset, options: TrainOptions) -> dict[str, Any]:
    """What the weights of a run depend on."""
    return {
        "dataset": clips.meta["dataset_hash"],
        "camera": clips.meta["camera"],
        "init": str(options.init or ""),
        "init_weights": digest_of_world(options.init) if options.init else "",
        "frame_size": list(clips.frames.shape[1:3]),
        "seed": options.seed,
        **asdict(sizes),
        **({"base": str(options.base), "prompt": options.prompt} if options.base else {}),
    }


def _untrained(clips: ClipData, sizes: Preset, options: TrainOptions, name: str) -> World:
    """The world that the stages begin with."""
    spec, seed, widened = spec_of(clips, name), options.seed, True
    starts = make_starts(clips, sizes, seed)
    if options.base:
        world = world_on_base(options.base, spec, sizes, options.prompt, seed, starts)
        spec.trained_on += f", on the pretrained video model {options.base}"
    elif options.init:
        world, widened = continued(options.init, spec, starts, seed, sizes.decoder_depth)
    else:
        world = new_world(spec, sizes, seed, starts=starts, numbers=clips.proprioception)
    if widened:
        fit_statistics(world, clips)
    fit_bounds(world, clips, wider=not widened)
    if not sizes.draws and not spec.has_state:
        raise ValueError(
            f"draws=False learns numbers alone, and the observations of {spec.twin or 'this recording'} hold "
            f"{'pictures' if spec.observation_space else 'no numbers that were recorded'}; choose another --preset"
        )
    spec.draws = sizes.draws
    spec.sampling_steps = sizes.sampling_steps or spec.sampling_steps
    spec.check()  # now, not when hours of training are to be saved
    return world


def _train_stages(run: Run, world: World, clips: ClipData, background: np.ndarray) -> None:
    train_pose(run, world, clips)
    train_outcome(run, world, clips)
    fit_termination(world, clips, run.seed)
    if not run.preset.draws:
        return
    train_tokenizer(run, world, clips, background)
    latents = encode_all(run, world.tokenizer, clips, world.spec.latent_shape)
    train_dynamics(run, world, clips, latents, background)
    train_heads(run, world, clips, latents)
    train_uncertainty(run, world, clips, split_episodes(clips)[1])


def _open(datasets: list[str | Path], options: TrainOptions) -> list[ClipData]:
    """Open each dataset with the filter list that was made for it; ValueError where one was made for none of them."""
    filters = [Selection.load(path) for path in options.filters]
    plain = [
        open_clips(one, camera=options.camera, size=options.size, skip_damaged=options.skip_damaged) for one in datasets
    ]
    known = [clips.meta["dataset_hash"] for clips in plain]
    for one in filters:
        if one.dataset not in known:
            raise ValueError(
                f"a filter list was made for the dataset {one.dataset}, given are {', '.join(known)}; "
                f"make it anew with: wm-gym data curate {datasets[0]} --out FILE.json"
            )
    chosen = {one.dataset: one for one in filters}
    return [select(clips, chosen[name]) if name in chosen else clips for clips, name in zip(plain, known)]


def begin_run(folder: Path, sizes: Preset, seed: int, cpu: bool = False, progress: bool = True) -> Run:
    """A run with its accelerator (bf16 where the hardware multiplies it), logging to TensorBoard in its folder."""
    accelerator = Accelerator(
        cpu=cpu, mixed_precision="bf16" if has_bf16(cpu) else "no", log_with="tensorboard", project_dir=str(folder)
    )
    accelerator.init_trackers("tensorboard")
    set_seed(seed)
    return Run(folder, sizes, seed, accelerator, progress)


def continued(
    init: str | Path, spec: WorldSpec, starts: StartBank, seed: int = 0, decoder_depth: int = 1
) -> tuple[World, bool]:
    """The networks of a trained world with a new spec and starts, and whether they were widened for its first actions.

    Args:
        init: The trained world.
        spec: Of the new one; what the networks decide is set in it.
        starts: Of the new one.
        seed: Of weights that are new.
        decoder_depth: Blocks that the decoder gets where it has fewer.

    Raises:
        ValueError: Where they do not fit the data.
    """
    world = World.from_pretrained(init)
    widened = spec.action_dim > 0 == world.spec.action_dim
    if widened:
        world = with_actions(world, spec, seed)
    for field in ("latent_shape", "context_frames", "sampling_steps"):
        setattr(spec, field, getattr(world.spec, field))
    spec.trained_on += f", from the world {world.spec.name} ({world.spec.trained_on})"
    if isinstance(world.tokenizer, Tokenizer) and decoder_depth > world.tokenizer.config.decoder_depth:
        world = replace(world, tokenizer=world.tokenizer.deepened(decoder_depth))
    world = replace(world, spec=spec, starts=starts, calibration=None, origin=None)
    world.check(f"--init {init} on this dataset")
    return world, widened


def has_bf16(cpu: bool) -> bool:
    """True where the hardware multiplies bf16 itself."""
    if torch.cuda.is_available() and not cpu:
        return torch.cuda.is_bf16_supported()
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # an older torch does not say: fp32
    return capabilities.get("avx512_bf16", False)


def spec_of(clips: ClipData, name: str) -> WorldSpec:
    """The contract of a world trained on these clips."""
    meta = clips.meta
    return WorldSpec(
        name=name,
        frame_size=list(clips.frames.shape[1:3]),
        action_low=[float(x) for x in meta["action_low"]],
        action_high=[float(x) for x in meta["action_high"]],
        action_names=list(meta["action_names"]),
        action_unit=meta["action_unit"],
        proprioception_names=list(meta["proprioception_names"]),
        proprioception_unit=meta["proprioception_unit"],
        reward_components=list(meta["reward_terms"]),
        fps=float(meta["fps"]),
        horizon=int(meta["horizon"]),
        camera=meta["camera"],
        twin=meta["env_id"],
        task_description=meta["task_description"],
        success_threshold=0.5 if meta["has_success"] else 2.0,
        termination_threshold=0.5 if clips.terminated.any() else 2.0,
        success_ends=meta["success_ends"],
        observation_space=meta["spaces"].get("observation"),
        action_space=meta["spaces"].get("action"),
        trained_on=f"{len(clips)} episodes, {len(clips.frames)} frames, dataset {meta['dataset_hash'][:12]}",
    )


def fit_statistics(world: World, clips: ClipData) -> None:
    """Set the normalisation buffers from the data; angles keep mean 0 and standard deviation 1."""

    def normalise(code: VectorCode, values: np.ndarray, names: list[str]) -> None:
        for i in range(values.shape[1]):
            if not is_angle(names[i]):
                code.mean[i], code.std[i] = float(values[:, i].mean()), max(float(values[:, i].std()), 1e-4)

    normalise(world.dynamics.action_code, clips.action, world.spec.action_names)
    normalise(world.dynamics.pose_code, clips.proprioception, world.spec.proprioception_names)
    _fit_steps(world, clips)
    world.heads.reward_mean.copy_(torch.from_numpy(clips.reward.mean(0)))
    world.heads.reward_std.copy_(torch.from_numpy(clips.reward.std(0).clip(1e-3)))


def _fit_steps(world: World, clips: ClipData) -> None:
    """Set how far each number of the state's code moves in a step (what never moves stays where it is), and what a step
    usually pays."""
    net, code = world.dynamics.pose_net, world.dynamics.pose_code
    if not isinstance(net, Integrator):
        return
    for begin, end in net.groups:
        code.mean[begin:end], code.std[begin:end] = 0.0, 1.0
    rows = clips.transitions(range(len(clips)))
    before, after = (code(torch.from_numpy(clips.proprioception[at])) for at in (rows, rows + 1))
    net.step.copy_((after - before).square().mean(0).sqrt())
    if isinstance(world.heads, StateHeads):
        world.heads.step.copy_(torch.where(net.step > 0, net.step, torch.ones_like(net.step)))
        usual, near = usual_rewards(clips)
        world.heads.usual.copy_(torch.from_numpy(usual))
        world.heads.near_usual.copy_(torch.from_numpy(near))


def fit_bounds(world: World, clips: ClipData, wider: bool = False) -> None:
    """Set which numbers a state can have and what a step can pay, so that no long closed loop runs away to infinity.

    A number is not farther from those recorded than these are from each other; an angle, and what never moves, has no
    bounds.

    Args:
        world: Changed in place, where it has an `Integrator` and `StateHeads`.
        clips: The recordings.
        wider: Whether what was possible before stays possible.
    """
    net, heads = world.dynamics.pose_net, world.heads
    if not isinstance(net, Integrator):
        return
    low, high = (torch.from_numpy(edge(clips.proprioception, axis=0)) for edge in (np.min, np.max))
    free = high <= low
    free[world.dynamics.pose_code.angles] = True
    ends = [(net.low, net.high, (2 * low - high).where(~free, -LARGEST), (2 * high - low).where(~free, LARGEST))]
    if isinstance(heads, StateHeads):
        ends.append((heads.lowest, heads.highest, *map(torch.from_numpy, reward_bounds(clips))))
    for lowest, highest, below, above in ends:
        lowest.copy_(torch.minimum(lowest, below) if wider else below)
        highest.copy_(torch.maximum(highest, above) if wider else above)


def make_starts(clips: ClipData, sizes: Preset, seed: int) -> StartBank:
    """The bank of starts: first frames of training episodes, then random later ones until there are enough.

    Where observations say a goal and nothing is drawn, half of them get another one.
    """
    start, end = clips.episode_offset[:-1], clips.episode_offset[1:]
    trained, _ = split_episodes(clips)
    rng, most = np.random.default_rng([seed, 1]), min(sizes.starts, most_starts(1, *clips.frames.shape[1:3]))
    firsts = start[rng.permutation(trained)[: min(most, sizes.first_starts)]]
    later = np.concatenate([np.arange(start[e] + 1, end[e] - 1) for e in trained])
    more = rng.permutation(later)[: max(0, min(most - len(firsts), len(later)))]
    rows = np.sort(np.concatenate([firsts, more]))
    episode = np.searchsorted(clips.episode_offset, rows, side="right") - 1
    poses, hindsight = clips.proprioception[rows][:, None], None if sizes.draws else Hindsight.of(clips)
    if hindsight:  # pictures would show the old goals
        poses = hindsight.other_goals(torch.from_numpy(poses), rng)[0].numpy()
    made = StartBank(
        clips.frames[rows][:, None],
        np.zeros((len(rows), 0, clips.action.shape[1]), np.float32),
        poses,
        episode,
        rows - clips.episode_offset[episode],
        None if clips.physics_state is None else np.asarray(clips.physics_state[rows], np.float64),
    )
    made.check()
    return made


def median_frame(clips: ClipData, seed: int) -> np.ndarray:
    """The background: the per-pixel median of 200 random frames, uint8 [H, W, 3]."""
    rows = np.random.default_rng([seed, 2]).integers(0, len(clips.frames), 200)
    return np.median(clips.frames[np.sort(rows)], axis=0).astype(np.uint8)


def claim(
    folder: Path,
    asked: dict[str, Any],
    overwrite: bool = False,
    again: str = "choose another --out, repeat the old arguments to resume it, or pass --overwrite to start over",
) -> None:
    """Begin a run in its folder (held by `alone_in`), or check that the one there belongs to the same arguments.

    Args:
        folder: The run's.
        asked: What its result depends on.
        overwrite: Whether one that is there is removed.
        again: What to do where its arguments differ, for the error.

    Raises:
        ValueError: Where they differ.
    """
    if get_int_from_env(RANKS, 0):
        return
    if overwrite or not (folder / NOTE).is_file():
        clear(folder)
    check_same(folder / NOTE, asked, again, since=("init_weights",))


def _free_name(path: Path) -> Path:
    """The path itself, or the first of path-2, path-3, … that does not exist."""
    names = itertools.chain([path.name], (f"{path.name}-{k}" for k in itertools.count(2)))
    return next(free for name in names if not (free := path.with_name(name)).exists())
