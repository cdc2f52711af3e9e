"""Which cheap metric predicts whether a world is useful? Push worlds of different quality, measured and used.

    python benchmarks/studies/usefulness.py WORK --data DATASET --judged POLICIES --starter AGENT [--worlds NAME ...]
    python benchmarks/studies/usefulness.py WORK --table

Every world has the shipped one's tokenizer, pose and heads; what draws the next frame is trained anew, for longer or
shorter, on more or fewer episodes, narrower, without its own roll-outs or on wrong actions, or is the shipped one with
noise on its weights. Kept in WORK, a folder a world, so that the same command goes on after a kill:

- metrics, on 60 held-out episodes: those of `METRICS`; the last two need no truth;
- as a judge: the policies of POLICIES (a folder that `wm-gym evaluate-policies` wrote) in the world, against what
  physics said of them there;
- as a place to learn: STARTER goes on in the world with the recipe's PPO, and is then measured in physics.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from common import Bar, command, write_results

from wm_gym.common.files import write_json
from wm_gym.data import ClipData, open_clips
from wm_gym.engine.shared import load_world
from wm_gym.evaluation.control_worlds import learned, physics, recorded, through
from wm_gym.evaluation.episodes import Episodes
from wm_gym.evaluation.metrics.control import delta_psnr, loss_ratio, no_op
from wm_gym.evaluation.metrics.drift import drift
from wm_gym.evaluation.metrics.fvd import frechet_distance, i3d_features
from wm_gym.evaluation.metrics.perceptual import perceptual
from wm_gym.evaluation.metrics.physics_iq import compare, score
from wm_gym.evaluation.metrics.violations import Detector, violations
from wm_gym.evaluation.ranking.agreement import agreement
from wm_gym.evaluation.ranking.usefulness import usefulness
from wm_gym.evaluation.suite.context import Context, shifted_twin
from wm_gym.evaluation.suite.tasks import CLIP, OTHER_TAKE
from wm_gym.models.i3d import load_i3d
from wm_gym.policies.loaders import load_agent
from wm_gym.policies.matched import evaluate_alone
from wm_gym.policies.rollouts import Start, draw_start, run_world
from wm_gym.policies.source import make_source
from wm_gym.rl.train import train_agent
from wm_gym.training.build import new_world
from wm_gym.training.presets import PRESETS, Preset
from wm_gym.training.stages import encode_all, train_dynamics
from wm_gym.training.trainer import begin_run, median_frame
from wm_gym.worlds.catalogue import find_world
from wm_gym.worlds.world import World

SHIPPED, TWIN = "Push-v0", "wm_gym/PushPyBullet-v0"
EPISODES, CLIPS, STARTS, TIMESTEPS, PHYSICS_STARTS = 60, 32, 100, 40_000, 200
SHORT = replace(
    PRESETS["small"], dynamics_updates=2000, rollout_lengths=(2, 4, 8), checkpoint_every=10**6, report_every=10**6
)
METRICS = {
    "psnr_at_10": 1,
    "psnr_at_50": 1,
    "ssim_at_50": 1,
    "st_lpips_at_50": -1,
    "fvd_at_50": -1,
    "object_cm_at_5s": -1,
    "lost_at_5s": -1,
    "delta_psnr": 1,
    "loss_ratio": 1,
    "physics_iq": 1,
    "violations_per_100_frames": -1,
    "seed_disagreement": -1,
    "flicker_at_rest": -1,
}
"""1 where more is better, -1 where less is."""
USES = {"pearson": 1, "mmrv": -1, "outcomes_wrong": -1, "transfer": 1}
BARS = {
    "usefulness_Push-v0": [
        Bar(f"Spearman's rho of {name} with {use}", ("spearman", name, use, "rho"), show="{:.2f}")
        for use in ("pearson", "transfer")
        for name in METRICS
    ]
}


@dataclass(frozen=True)
class Variant:
    """How a world's dynamics came about: trained by `preset` on so many episodes, or the shipped one with noise."""

    preset: Preset | None = SHORT
    episodes: int = 1000
    wrong_actions: float = 0.0
    """Share of the episodes that are given another's actions."""
    weight_noise: float = 0.0
    """Standard deviation, of each tensor's own."""


VARIANTS = {
    "shipped": Variant(None),
    "noise 5 %": Variant(None, weight_noise=0.05),
    "noise 20 %": Variant(None, weight_noise=0.2),
    "noise 40 %": Variant(None, weight_noise=0.4),
    "200 updates": Variant(replace(SHORT, dynamics_updates=200)),
    "700 updates": Variant(replace(SHORT, dynamics_updates=700)),
    "2,000 updates": Variant(),
    "15 episodes": Variant(episodes=15),
    "60 episodes": Variant(episodes=60),
    "250 episodes": Variant(episodes=250),
    "single steps": Variant(replace(SHORT, rollout_share=0.0)),
    "narrow": Variant(replace(SHORT, widths=(12, 16, 24))),
    "one lag": Variant(replace(SHORT, lags=(1,))),
    "wrong actions": Variant(wrong_actions=0.4),
}


def make(name: str, work: Path, data: Path) -> Path:
    """The world folder of a variant."""
    variant, folder, shipped = VARIANTS[name], work / name / "world", World.from_pretrained(SHIPPED)
    if (folder / "spec.yaml").is_file():
        return folder
    world = shipped
    if variant.preset:
        world = new_world(replace(shipped.spec), variant.preset, starts=shipped.starts)
        for part in ("tokenizer", "heads"):
            getattr(world, part).load_state_dict(getattr(shipped, part).state_dict())
        keep = {
            key: value
            for key, value in shipped.dynamics.state_dict().items()
            if key.startswith(("pose", "action_code"))
        }
        world.dynamics.load_state_dict(world.dynamics.state_dict() | keep)
        everything = open_clips(data)
        clips = first_episodes(everything, variant)
        run = begin_run(work / "training", SHORT, 0, progress=False)
        latents = encode_all(run, world.tokenizer, first_episodes(everything, Variant()), world.spec.latent_shape)
        run = begin_run(work / name / "training", variant.preset, 0, progress=False)
        train_dynamics(run, world, clips, latents, median_frame(clips, 0))
    rng = torch.Generator().manual_seed(0)
    for key, value in world.dynamics.named_parameters():
        if variant.weight_noise and not key.startswith("pose"):
            value.data += variant.weight_noise * value.std(correction=0) * torch.randn(value.shape, generator=rng)
    world.spec.name, world.calibration = name, None
    return world.at_rest().save_pretrained(folder)


def first_episodes(clips: ClipData, variant: Variant) -> ClipData:
    """The first so many episodes; some with the actions of the episode before."""
    end = clips.episode_offset[min(variant.episodes, len(clips))]
    cut = {
        key: getattr(clips, key)[:end]
        for key in ("frames", "action", "proprioception", "reward", "success", "terminated")
    }
    cut["action"] = np.array(cut["action"])
    for e in range(1, round(variant.wrong_actions * variant.episodes)):
        (a, b), c = clips.episode_offset[e : e + 2], clips.episode_offset[e - 1]
        cut["action"][a:b] = np.resize(clips.action[c:a], (b - a, cut["action"].shape[1]))
    return replace(
        clips,
        **cut,
        episode_offset=clips.episode_offset[: variant.episodes + 1],
        episode_success=clips.episode_success[: variant.episodes],
        physics_state=None,
    )


@cache
def floors(work: Path) -> tuple:
    """What all worlds are measured against: episodes, their features, another take of them, the detector."""
    shipped = Context(find_world(SHIPPED), TWIN, work / "lab")
    episodes = shipped.held.select(np.arange(EPISODES))
    other = shifted_twin(TWIN, OTHER_TAKE)
    take = physics(other)(episodes)["frame"]
    other.close()
    detector = Detector.fit(
        through(recorded, shipped.world.tokenizer),
        shipped.held.select(np.arange(100, 200)),
        shipped.tracked,
        shipped.decoder.read,
    )
    truth = episodes.frames[:, 1:]
    return (
        shipped,
        episodes,
        i3d_features(truth[:CLIPS, 50 - CLIP : 50], load_i3d()),
        [compare(*pair) for pair in zip(take, truth)],
        detector,
    )


def metrics(folder: Path, work: Path) -> dict[str, float]:
    """Every number of `METRICS`."""
    shipped, episodes, real, takes, detector = floors(work)
    context = Context(folder, TWIN, work / "lab")
    world, spec = {"world": context.acting}, context.world.spec
    truth, made = episodes.frames[:, 1:], context.acting(episodes)["frame"]
    looks = perceptual(made, truth, (10, 50))
    far = drift(world, episodes, shipped.tracked, shipped.decoder.read, spec.fps, seconds=(5,)).at["5s"]["world"]
    broken = violations(world, episodes, detector)["world"]
    pieces = Episodes.of(episodes.clips, 10, every=25).select(np.arange(200))
    again = learned(context.world, seed=1)(episodes)["frame"]
    return {
        "psnr_at_10": looks["at_10"].psnr_db,
        "psnr_at_50": looks["at_50"].psnr_db,
        "ssim_at_50": looks["at_50"].ssim,
        "st_lpips_at_50": looks["at_50"].st_lpips,
        "fvd_at_50": frechet_distance(real, i3d_features(made[:CLIPS, 50 - CLIP : 50], load_i3d())),
        "object_cm_at_5s": far.object_cm["median"],
        "lost_at_5s": far.lost["rate"],
        "delta_psnr": delta_psnr(world, episodes, spec)["world"].random["mean"],
        "loss_ratio": loss_ratio(world, episodes)["world"].ratio["ratio"],
        "physics_iq": score([compare(*pair) for pair in zip(made, truth)], takes),
        "violations_per_100_frames": sum(row.per_100_frames for row in broken.values()),
        "seed_disagreement": float(np.abs(made[:, 49].astype(int) - again[:, 49]).mean()),
        "flicker_at_rest": no_op(world, pieces, spec, shipped.decoder.read)["world"].flicker["mean"],
    }


def judged(folder: Path, policies: Path) -> dict:
    """`agreement` of the world's verdicts with those that physics gave, from the same starts."""
    rows, world, real = [], load_world(folder), []
    for file in sorted((policies / "policies").glob("*.json")):
        kept = json.loads(file.read_text())
        if kept["result"]["twin_id"] != TWIN:
            continue
        agent, outcomes = load_agent(kept["arguments"]["agent"]), kept["result"]["per_episode"]
        starts = starts_of_seeds(tuple(outcomes["seed"][:STARTS]))
        rows.append([o.success for o in run_world(agent, world, starts, kept["result"]["horizon"])])
        real.append(outcomes["physics_success"][:STARTS])
    found = agreement(np.array(rows), np.array(real))
    return {
        "policies": len(rows),
        "starts": STARTS,
        "pearson": found["all"]["pearson"],
        "mmrv": found["mmrv"],
        "pearson_within_band": found["within_band"]["pearson"],
        "optimism": found["optimism"],
        "outcomes_wrong": float(np.not_equal(rows, real).mean()),
    }


@cache
def starts_of_seeds(seeds: tuple[int, ...]) -> list[Start]:
    """Where the twin begins; policies and worlds share it."""
    env = make_source(TWIN, None, "no-op")
    starts = [draw_start(env, seed)[0] for seed in seeds]
    env.close()
    return starts


def learned_in(folder: Path, starter: str, out: Path) -> dict:
    """Success in physics of `starter` after PPO in the world."""
    agent = train_agent(
        "ppo",
        "wm_gym/World-v0",
        out,
        timesteps=TIMESTEPS,
        env_kwargs={"world": str(folder)},
        recipe_id="wm_gym/Push-v0",
        recipe={"physics_check": None},
        init=starter,
        overwrite=True,
        progress=False,
    )
    return evaluate_alone(agent, TWIN, PHYSICS_STARTS, seed=5)["success"]


def table(work: Path) -> dict:
    """Of all worlds in WORK that are measured."""
    found = {
        name: json.loads(path.read_text()) for name in VARIANTS if (path := work / name / "measured.json").is_file()
    }
    column = lambda sign, values: [None if value is None else sign * value for value in values]
    cheap = {name: column(sign, [each["metrics"][name] for each in found.values()]) for name, sign in METRICS.items()}
    uses = {
        name: column(
            sign, [each["transfer"]["rate"] if name == "transfer" else each["judge"][name] for each in found.values()]
        )
        for name, sign in USES.items()
    }
    return {
        "worlds": found,
        "episodes": EPISODES,
        "timesteps": TIMESTEPS,
        "physics_starts": PHYSICS_STARTS,
        "spearman": usefulness(cheap, uses),
    }


def main() -> None:
    parser = command(__doc__, BARS)
    parser.add_argument("work", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--judged", type=Path)
    parser.add_argument("--starter")
    parser.add_argument("--worlds", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    if args.table:
        write_results("usefulness_Push-v0", table(args.work))
        return
    for name in args.worlds:
        folder, file = make(name, args.work, args.data), args.work / name / "measured.json"
        found = json.loads(file.read_text()) if file.is_file() else {}
        for what, measure, *given in (
            ("metrics", metrics, folder, args.work),
            ("judge", judged, folder, args.judged),
            ("transfer", learned_in, folder, args.starter, args.work / name / "agent"),
        ):
            if what not in found:
                found[what] = measure(*given)
                write_json(file, found, indent=1)
                print(name, what, found[what], flush=True)


if __name__ == "__main__":
    main()
