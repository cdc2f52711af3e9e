"""Is a latent world worth it against a pixel U-Net? Speed and block error for the same data and training time.

    python benchmarks/studies/versus_unet.py WORLD TRAIN_DATASET HELD_OUT_DATASET --minutes 60

The rival has DIAMOND's default widths, depths and recipe (Alonso et al. 2024, "Diffusion for World Modeling: Visual
Details Matter in Atari"): a U-Net over 4 stacked frames, EDM preconditioning, 3 Euler steps a frame. Built of
diffusers' U-Net it has 3.3 M parameters instead of 4.4 M, for its blocks are modulated once, not twice.
`--minutes` is what the world's training took on the same threads. It goes on from its checkpoint after a kill.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from common import Bar, command, write_results
from diffusers import UNet2DModel
from push import HORIZONS, TRACKED, pushes
from timing import alternate, ratio
from torch import nn

from wm_gym.core import WorldCore
from wm_gym.data import ClipData, open_clips
from wm_gym.engine import make_engine
from wm_gym.evaluation.control_worlds import learned
from wm_gym.evaluation.metrics.contact import object_errors
from wm_gym.evaluation.probes.state_decoder import fit_state_decoder
from wm_gym.training.segments import SegmentSampler, update_generators
from wm_gym.worlds.world import World

FRAMES = 4  # that condition the next one
SIGMA_DATA, OFFSET, LOG_MEAN, LOG_STD = 0.5, 0.3, -0.4, 1.2
SIGMA_MIN, SIGMA_MAX, RHO, STEPS = 2e-3, 5.0, 7, 3
BARS = {
    "versus_unet_Push-unet": [
        Bar("times as fast as a pixel U-Net of DIAMOND's size", ("times_faster", "median"), least=50),
        Bar(
            "block error after 50 steps, median cm",
            ("block_error", "world", "at_50", "cm_median"),
            most=lambda found: found["block_error"]["pixel U-Net"]["at_50"]["cm_median"],
        ),
    ]
}


class PixelWorld(nn.Module):
    """Denoiser D(x; sigma) of the next frame, float [-1, 1], from the last frames and actions (EDM, Karras 2022)."""

    def __init__(self, action_dim: int, size: int):
        super().__init__()
        self.unet = UNet2DModel(
            sample_size=size,
            in_channels=3 * (FRAMES + 1),
            out_channels=3,
            layers_per_block=2,
            block_out_channels=(64, 64, 64, 64),
            down_block_types=("DownBlock2D",) * 4,
            norm_num_groups=2,
            up_block_types=("UpBlock2D",) * 4,
            add_attention=False,
            resnet_time_scale_shift="scale_shift",
            class_embed_type="identity",
            mid_block_type="UNetMidBlock2D",
        )
        self.action = nn.Sequential(nn.Linear(FRAMES * action_dim, 256), nn.SiLU(), nn.Linear(256, 256))

    def forward(self, noisy: torch.Tensor, sigma: torch.Tensor, past: torch.Tensor, actions: torch.Tensor):
        """noisy [B, 3, H, W], sigma [B], past [B, FRAMES, 3, H, W], actions [B, FRAMES, A] -> clean [B, 3, H, W]."""
        total = (sigma**2 + OFFSET**2 + SIGMA_DATA**2)[:, None, None, None]
        skip = SIGMA_DATA**2 / total
        out = (sigma**2 + OFFSET**2).sqrt()[:, None, None, None] * SIGMA_DATA / total.sqrt()
        inputs = torch.cat([noisy / total.sqrt(), past.flatten(1, 2) / SIGMA_DATA], dim=1)
        made = self.unet(inputs, 250 * sigma.log(), self.action(actions.flatten(1))).sample
        return skip * noisy + out * made

    def loss(self, target: torch.Tensor, past: torch.Tensor, actions: torch.Tensor, generator) -> torch.Tensor:
        """The EDM loss: squared error of the denoised frame, weighted so that the network's target has variance 1."""
        sigma = torch.exp(LOG_MEAN + LOG_STD * torch.randn(len(target), generator=generator)).clamp(SIGMA_MIN, 20)
        noise = torch.randn(target.shape, generator=generator)
        noise = noise * sigma[:, None, None, None] + OFFSET * torch.randn((len(target), 3, 1, 1), generator=generator)
        made = self(target + noise, sigma, past, actions)
        variance = sigma**2 + OFFSET**2
        weight = (variance + SIGMA_DATA**2) / (variance * SIGMA_DATA**2)
        return (weight[:, None, None, None] * (made - target) ** 2).mean()

    @torch.inference_mode()
    def sample(self, past: torch.Tensor, actions: torch.Tensor, generator) -> torch.Tensor:
        """The next frame [B, 3, H, W] in 3 Euler steps from sigma_max to 0."""
        ramp = torch.linspace(0, 1, STEPS)
        sigmas = (SIGMA_MAX ** (1 / RHO) + ramp * (SIGMA_MIN ** (1 / RHO) - SIGMA_MAX ** (1 / RHO))) ** RHO
        x = SIGMA_MAX * torch.randn(past[:, 0].shape, generator=generator)
        for now, then in zip(sigmas, [*sigmas[1:], torch.zeros(())]):
            clean = self(x, now.expand(len(x)), past, actions)
            x = x + (x - clean) / now * (then - now)
        return x.clamp(-1, 1)


def as_floats(frames: np.ndarray) -> torch.Tensor:
    """uint8 [..., H, W, 3] -> float [..., 3, H, W] in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frames)).movedim(-1, -3).float() / 127.5 - 1


def train_rival(
    clips: ClipData, seconds: float, path: Path, batch: int = 32, every: float = 120.0
) -> tuple[PixelWorld, dict]:
    """Train for so many seconds, in checkpoints at `path`; returns the network and {"updates", "seconds"}."""
    torch.manual_seed(0)
    rival = PixelWorld(clips.action.shape[1], clips.frames.shape[1])
    optimizer = torch.optim.AdamW(rival.parameters(), lr=1e-4, weight_decay=1e-2)
    done = {"updates": 0, "seconds": 0.0}
    if path.is_file():
        kept = torch.load(path, weights_only=True)
        rival.load_state_dict(kept["model"]), optimizer.load_state_dict(kept["optimizer"])
        done = kept["done"]
    sampler = SegmentSampler(clips, FRAMES, np.arange(len(clips.episode_offset) - 1))
    rival.train()
    started = saved = time.monotonic()
    before = done["seconds"]
    while done["seconds"] < seconds:
        rng, generator = update_generators(0, 9, done["updates"])
        rows = sampler.draw(rng, batch, 1).rows
        frames = as_floats(clips.frames[rows])
        actions = torch.from_numpy(clips.action[rows[:, :-1]])
        with torch.autocast("cpu", torch.bfloat16):
            loss = rival.loss(frames[:, -1], frames[:, :-1], actions, generator)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(rival.parameters(), 1.0)
        optimizer.step()
        done = {"updates": done["updates"] + 1, "seconds": before + time.monotonic() - started}
        if time.monotonic() - saved > every or done["seconds"] >= seconds:
            saved, beside = time.monotonic(), path.with_suffix(".writing")
            torch.save({"model": rival.state_dict(), "optimizer": optimizer.state_dict(), "done": done}, beside)
            beside.rename(path)
            print(f"{done['seconds'] / 60:.1f} min, {done['updates']} updates, loss {loss.item():.4f}", flush=True)
    return rival.eval(), done


def rival_roll_out(rival: PixelWorld, frames: np.ndarray, actions: np.ndarray, batch: int = 32) -> np.ndarray:
    """Frames uint8 [E, n, H, W, 3] from first frames [E, H, W, 3] under actions [E, n, A]."""
    made = np.zeros((*actions.shape[:2], *frames.shape[1:]), np.uint8)
    for b in range(0, len(frames), batch):
        generator = torch.Generator().manual_seed(b)
        past = as_floats(frames[b : b + batch])[:, None].repeat(1, FRAMES, 1, 1, 1)
        acted = torch.zeros(len(past), FRAMES, actions.shape[2])
        for t in range(actions.shape[1]):
            acted = torch.cat([acted[:, 1:], torch.from_numpy(actions[b : b + batch, t])[:, None]], dim=1)
            after = rival.sample(past, acted, generator)
            past = torch.cat([past[:, 1:], after[:, None]], dim=1)
            made[b : b + batch, t] = ((after + 1) * 127.5).round().byte().movedim(1, -1).numpy()
    return made


def main() -> None:
    parser = command(__doc__, BARS)
    parser.add_argument("world")
    parser.add_argument("train")
    parser.add_argument("held_out")
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--checkpoint", default="runs/versus_unet.pt")
    parser.add_argument("--episodes", type=int, default=64, help="of the block error (default: 64)")
    parser.add_argument("--batch", type=int, default=32, help="of the timing (default: 32)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="auto")
    args = parser.parse_args()
    world, clips, held = World.from_pretrained(args.world), open_clips(args.train), open_clips(args.held_out)
    rival, done = train_rival(clips, 60 * args.minutes, Path(args.checkpoint))

    known, held_states = TRACKED.states(clips), TRACKED.states(held)
    report = fit_state_decoder(
        clips.frames, known[:, :4], held.frames[::7], held_states[::7, :4], views=world.tokenizer.round_trip
    )
    episodes = pushes(held, args.episodes)
    truth = TRACKED.states(episodes)
    acting = learned(world, make_engine(world, precision=args.precision))
    made = {
        "world": acting(episodes)["frame"],
        "pixel U-Net": rival_roll_out(rival, episodes.frames[:, 0], episodes.action),
    }
    errors = {}
    for name, pictures in made.items():
        found, lost = TRACKED.followed(report.decoder.read, pictures, episodes)
        errors[name] = object_errors(found[..., 2:4], truth[..., 2:4], lost, TRACKED.width, HORIZONS)

    core = WorldCore(world, args.batch, precision=args.precision, max_episode_steps=-1, terminate_on_success=False)
    core.reset(seeds=list(range(args.batch)))
    still = np.zeros((args.batch, core.spec.action_dim), np.float32)
    past = torch.zeros(args.batch, FRAMES, 3, *core.spec.frame_size)
    acted = torch.zeros(args.batch, FRAMES, still.shape[1])

    def world_step() -> int:
        core.step(still)
        core.observation()
        return args.batch

    def rival_step() -> int:
        with torch.autocast("cpu", torch.bfloat16):
            rival.sample(past, acted, torch.Generator().manual_seed(0))
        return args.batch

    rates = alternate({"world": world_step, "pixel U-Net": rival_step}, args.rounds, 4.0)
    write_results(
        f"versus_unet_{world.spec.name}",
        {
            "world": world.spec.name,
            "engine": core.engine.name,
            "precision": core.engine.precision,
            "batch": args.batch,
            "rival_parameters": sum(p.numel() for p in rival.parameters()),
            "rival_training": done,
            "episodes": len(episodes),
            "block_error": errors,
            "frames_per_second": {name: round(float(np.median(rate)), 2) for name, rate in rates.items()},
            "times_faster": ratio(rates, "world", "pixel U-Net"),
        },
    )


if __name__ == "__main__":
    main()
