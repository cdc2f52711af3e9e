"""How is each stage of a world trained? Tokenizer, pose, dynamics, heads, uncertainty; a finished one is loaded."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wm_gym.common.files import atomic_file, atomic_folder, reserve
from wm_gym.data.clips import ClipData
from wm_gym.models import Heads, StateHeads, Tokenizer, VideoTokenizer
from wm_gym.models.saving import Network
from wm_gym.models.tokenizer import to_float
from wm_gym.models.transition import condition
from wm_gym.training.hindsight import Hindsight
from wm_gym.training.loop import Run, fit
from wm_gym.training.losses import Corruption, DynamicsLoss, HeadsLoss, PoseLoss, StateHeadsLoss, Targets, TokenizerLoss
from wm_gym.training.rare import best_threshold, rare_transitions
from wm_gym.training.report import early_report
from wm_gym.training.segments import Segments, SegmentSampler, split_episodes
from wm_gym.training.uncertainty import UncertaintyLoss, own_roll_outs
from wm_gym.worlds.world import World

UNCERTAINTY_RATE = 3e-3  # its network is tiny


def train_tokenizer(run: Run, world: World, clips: ClipData, background: np.ndarray) -> None:
    """Train the networks that turn frames into latents and back; background: uint8 [H, W, 3]."""
    tokenizer, sizes = world.tokenizer, run.preset
    done = _load_stage(run, "tokenizer", tokenizer, sizes.tokenizer_updates)
    if done or not isinstance(tokenizer, Tokenizer):  # a pretrained one is not trained further
        return
    tokenizer.requires_grad_(True)
    tokenizer.encoder.requires_grad_(not sizes.decoder_only)
    loss = TokenizerLoss(tokenizer, to_float(torch.from_numpy(background)), sizes)
    grid = world.spec.latent_shape

    def batch(rng: np.random.Generator, torch_rng: torch.Generator, update: int) -> dict[str, Any]:
        rows = np.sort(rng.integers(0, len(clips.frames), sizes.tokenizer_batch))
        return {
            "frames": torch.from_numpy(clips.frames[rows]),
            "noise": torch.randn(len(rows), *grid, generator=torch_rng),
        }

    fit(run, "tokenizer", loss, sizes.tokenizer_updates, batch)
    if not sizes.decoder_only:
        _normalise(run, tokenizer, clips)
    _save_stage(run, "tokenizer", tokenizer)


@torch.inference_mode()
def _normalise(run: Run, tokenizer: Tokenizer, clips: ClipData) -> None:
    """Set what the latents are divided by."""
    rows = np.sort(np.random.default_rng([run.seed, 3]).integers(0, len(clips.frames), 512))
    pictures = to_float(torch.from_numpy(clips.frames[rows])).to(run.accelerator.device)
    raw = tokenizer.encoder(pictures)
    tokenizer.latent_mean.copy_(raw.mean((0, 2, 3)))
    tokenizer.latent_std.copy_(raw.std((0, 2, 3)).clip(1e-4))


@torch.inference_mode()
def encode_all(run: Run, tokenizer: Tokenizer | VideoTokenizer, clips: ClipData, grid: list[int]) -> np.ndarray:
    """Latents of every frame, float16 memory map [N, C, h, w] in the run's folder (made once)."""
    path, device = run.folder / "latents.npy", run.accelerator.device
    if run.accelerator.is_main_process and not path.exists():
        with atomic_file(path) as beside:
            latents = np.lib.format.open_memmap(beside, "w+", np.float16, (len(clips.frames), *grid))
            reserve(beside)
            for i in range(0, len(latents), tokenizer.frames_at_once):
                frames = to_float(torch.from_numpy(np.array(clips.frames[i : i + tokenizer.frames_at_once]))).to(device)
                latents[i : i + tokenizer.frames_at_once] = tokenizer.encode(frames).cpu().numpy()
            latents.flush()
    run.accelerator.wait_for_everyone()
    return np.load(path, mmap_mode="r")


def train_pose(run: Run, world: World, clips: ClipData) -> None:
    """Train the network that integrates the pose, before the one that draws it, on ever longer roll-outs."""
    dynamics, sizes = world.dynamics, run.preset
    if dynamics.pose_net is None or _load_stage(run, "pose", dynamics, sizes.pose_updates):
        return
    dynamics.pose_net.requires_grad_(True)
    sampler = SegmentSampler(clips, 1, split_episodes(clips)[0], sizes.latest_share)
    hindsight = Hindsight.of(clips)

    def batch(rng: np.random.Generator, torch_rng: torch.Generator, update: int) -> dict[str, Any]:
        steps = of_curriculum(sizes.pose_rollout_lengths, update, sizes.pose_updates)
        moves = _moves(sampler.draw(rng, sizes.pose_batch, steps), clips)
        if hindsight:
            moves["poses"], _ = hindsight.other_goals(moves["poses"], rng)
        return moves

    fit(run, "pose", PoseLoss(dynamics), sizes.pose_updates, batch, rate=sizes.pose_learning_rate)
    _save_stage(run, "pose", dynamics)


def of_curriculum(lengths: tuple[int, ...], update: int, updates: int) -> int:
    """The roll-out length of an update: each takes an equal part of the training."""
    return lengths[min(update * len(lengths) // updates, len(lengths) - 1)]


def train_dynamics(run: Run, world: World, clips: ClipData, latents: np.ndarray, background: np.ndarray) -> None:
    """Train the network that draws the next latent, with early reports on held-out episodes."""
    dynamics, sizes = world.dynamics, run.preset
    if _load_stage(run, "dynamics", dynamics, sizes.dynamics_updates):
        return
    dynamics.requires_grad_(True)
    if dynamics.pose_net is not None:
        dynamics.pose_net.requires_grad_(False)
    loss = DynamicsLoss(dynamics, world.tokenizer, sizes)
    sampler = SegmentSampler(clips, world.spec.context_frames, split_episodes(clips)[0], sizes.latest_share)
    shown = held_out_segments(clips, world.spec.context_frames, run.seed)

    def batch(rng: np.random.Generator, torch_rng: torch.Generator, update: int) -> dict[str, Any]:
        steps = 1
        if rng.random() < sizes.rollout_share:
            steps = of_curriculum(sizes.rollout_lengths, update, sizes.dynamics_updates)
        inputs = _segment_inputs(sampler.draw(rng, sizes.dynamics_batch, steps), clips, latents, torch_rng)
        draw = partial(torch.rand, len(inputs["first"]), generator=torch_rng)
        tau = draw() * (draw() < sizes.partial_share)
        level = sizes.context_noise * draw() * (draw() < 0.5)
        context = inputs["latents"][:, : world.spec.context_frames]
        noise = torch.randn(context.shape, generator=torch_rng)
        dropped = None if dynamics.null is None else draw() < sizes.condition_dropout
        return {**inputs, "corruption": Corruption(tau, level, noise, dropped)}

    def report(update: int) -> None:
        numbers = early_report(world, clips, shown, background, run.folder / "dynamics.png")
        run.log("report", update, numbers)
        _log_picture(run, update)
        if run.progress:
            print(f"dynamics {update}: " + "  ".join(f"{k} {v:.2f}" for k, v in numbers.items()), flush=True)

    fit(run, "dynamics", loss, sizes.dynamics_updates, batch, report)
    _save_stage(run, "dynamics", dynamics)


def train_outcome(run: Run, world: World, clips: ClipData) -> None:
    """Train what is read off the numbers of an observation alone: reward, success and the end of the task."""
    heads, sizes = world.heads, run.preset
    if not isinstance(heads, StateHeads) or _load_stage(run, "outcome", heads, sizes.outcome_updates):
        return
    heads.outcome.requires_grad_(True)
    rare, trained = rare_transitions(clips), split_episodes(clips)[0]
    sampler, targets = SegmentSampler(clips, 1, trained, sizes.latest_share, rare), _targets(heads, clips)
    hindsight = Hindsight.of(clips)

    def batch(rng: np.random.Generator, torch_rng: torch.Generator, update: int) -> dict[str, Any]:
        segments = sampler.draw(rng, sizes.pose_batch, 1)
        inputs = _moves(segments, clips)
        inputs["actions"] = inputs["actions"][:, 0]
        aims = targets(segments, torch_rng, 0.5)
        if hindsight and hindsight.pays:
            inputs["poses"], changed = hindsight.other_goals(inputs["poses"], rng)
            reward, success, ended = aims["targets"]
            paid, *flags = hindsight.outcome(inputs["poses"][:, 1])
            reward[changed] = ((paid[:, None] - heads.reward_mean.cpu()) / heads.reward_std.cpu())[changed]
            success[changed], ended[changed] = (flag[changed] for flag in flags)
        return inputs | aims

    loss = StateHeadsLoss(heads, world.dynamics)
    fit(run, "outcome", loss, sizes.outcome_updates, batch, rate=sizes.pose_learning_rate)
    _save_stage(run, "outcome", heads)


def fit_termination(world: World, clips: ClipData) -> None:
    """Set from which probability on a step ends the task: where single recorded steps are called so best (F1)."""
    rows = clips.transitions(range(len(clips)))
    truth = clips.terminated[rows + 1]
    if isinstance(world.heads, StateHeads) and truth.any():
        ended = recorded_outcomes(world, clips, rows)[2]
        world.spec.termination_threshold = best_threshold(ended, truth)


@torch.inference_mode()
def recorded_outcomes(world: World, clips: ClipData, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reward terms [n, R] and the probabilities [n] of success and of the end that a world reads off recorded numbers.

    Args:
        world: One with `StateHeads`.
        clips: The recordings.
        rows: Where the n transitions begin.
    """
    at = (clips.proprioception[rows], clips.action[rows], clips.proprioception[rows + 1])
    pose, action, after = (torch.from_numpy(values) for values in at)
    read = world.heads.of_vector(condition(world.dynamics, pose, action, after).vector)
    reward, success, ended = (values.numpy() for values in world.heads.outcome_of(read))
    return reward, success, ended


def train_heads(run: Run, world: World, clips: ClipData, latents: np.ndarray) -> None:
    """Train what is read off pictures: the pose, and with `Heads` reward, success and the end of the task."""
    heads, sizes = world.heads, run.preset
    trained = heads if heads.reads_latents else heads.pose
    if trained is None or _load_stage(run, "heads", heads, sizes.heads_updates):
        return
    trained.requires_grad_(True)
    loss = HeadsLoss(heads, world.dynamics)
    sampler = SegmentSampler(clips, world.spec.context_frames, split_episodes(clips)[0], sizes.latest_share)
    targets = _targets(heads, clips)

    def batch(rng: np.random.Generator, torch_rng: torch.Generator, update: int) -> dict[str, Any]:
        segments = sampler.draw(rng, sizes.dynamics_batch, int(rng.integers(1, sizes.rollout_lengths[-1] + 1)))
        inputs = _segment_inputs(segments, clips, latents, torch_rng)
        return inputs | targets(segments, torch_rng, 0.33)

    fit(run, "heads", loss, sizes.heads_updates, batch)
    _save_stage(run, "heads", heads)


def _targets(heads: Heads | StateHeads, clips: ClipData) -> Callable[..., dict[str, Any]]:
    """What gives the targets of the last transitions of segments, and which of them are read as they were recorded."""
    reward = (torch.from_numpy(np.asarray(clips.reward)) - heads.reward_mean.cpu()) / heads.reward_std.cpu()
    known = clips.success if clips.meta["has_success"] else np.full(len(clips.success), np.nan)
    success, ended = (torch.from_numpy(np.asarray(flags, np.float32)) for flags in (known, clips.terminated))

    def of(segments: Segments, torch_rng: torch.Generator, share: float) -> dict[str, Any]:
        before, after = segments.rows[:, -2], segments.rows[:, -1]
        real = torch.rand(len(after), generator=torch_rng) < share
        return {"targets": Targets(reward[before], success[after], ended[after]), "real": real}

    return of


def train_uncertainty(run: Run, world: World, clips: ClipData, episodes: np.ndarray) -> None:
    """Train the uncertainty: last, for it looks at all others' work, on episodes that they were not trained on."""
    uncertainty, sizes = world.uncertainty, run.preset
    if _load_stage(run, "uncertainty", uncertainty, sizes.uncertainty_updates):
        return
    uncertainty.requires_grad_(True)
    horizon, count = clips.meta["horizon"], max(1, sizes.uncertainty_rollouts // 2)
    with run.accelerator.autocast():  # whole episodes, and as many halves that begin anywhere
        made = [own_roll_outs(world, clips, episodes, count, steps, run.seed) for steps in (horizon, -(-horizon // 2))]
    uncertainty.fit_edges(torch.cat([part.error.flatten() for part in made]))

    def batch(rng: np.random.Generator, torch_rng: torch.Generator, update: int) -> dict[str, Any]:
        part = made[rng.integers(len(made))]
        rows = torch.from_numpy(rng.integers(0, len(part), sizes.uncertainty_batch))
        return {name: values[rows].float() for name, values in vars(part).items()}

    fit(run, "uncertainty", UncertaintyLoss(uncertainty), sizes.uncertainty_updates, batch, rate=UNCERTAINTY_RATE)
    _save_stage(run, "uncertainty", uncertainty)


def held_out_segments(clips: ClipData, context: int, seed: int) -> Segments:
    """The 32 held-out segments of up to 25 steps that every report shows."""
    return SegmentSampler(clips, context, split_episodes(clips)[1]).draw(np.random.default_rng([seed, 4]), 32, 25)


def _segment_inputs(
    segments: Segments, clips: ClipData, latents: np.ndarray, torch_rng: torch.Generator
) -> dict[str, Tensor]:
    """Tensors of one batch of segments, as the losses name them."""
    z = torch.from_numpy(latents[segments.rows].astype(np.float32))
    return _moves(segments, clips) | {
        "latents": z,
        "first": torch.from_numpy(latents[segments.first].astype(np.float32)),
        "noise": torch.randn(segments.steps, len(z), *z.shape[2:], generator=torch_rng),
    }


def _moves(segments: Segments, clips: ClipData) -> dict[str, Tensor]:
    actions, poses = clips.action[segments.moves[:, :-1]], clips.proprioception[segments.moves]
    return {"actions": torch.from_numpy(actions), "poses": torch.from_numpy(poses)}


def _load_stage(run: Run, stage: str, module: Network, updates: int) -> bool:
    """Load a stage that is already finished; True for one without updates too."""
    done = (run.folder / stage / "config.json").is_file()
    if done:
        module.load_state_dict(type(module).from_pretrained(run.folder / stage).state_dict())
    module.to(run.accelerator.device, memory_format=torch.channels_last)  # resumed or not: the layout decides the bits
    return done or not updates


def _save_stage(run: Run, stage: str, module: Network) -> None:
    module.requires_grad_(False)
    if run.accelerator.is_main_process:
        with atomic_folder(run.folder / stage) as beside:
            module.save_pretrained(beside)
    run.accelerator.wait_for_everyone()


def _log_picture(run: Run, update: int) -> None:
    import imageio.v3 as iio

    for tracker in run.accelerator.trackers:
        tracker.writer.add_image(
            "report/truth_above_world", iio.imread(run.folder / "dynamics.png"), update, dataformats="HWC"
        )
