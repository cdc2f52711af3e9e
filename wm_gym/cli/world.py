"""Which commands make a world, from recordings to a compiled step?"""

from __future__ import annotations

import argparse
from dataclasses import replace

from wm_gym.cli.command import ENV_ID_HELP, Command, add_options, options_of, positive_int
from wm_gym.collect.episodes import POLICIES
from wm_gym.collect.options import RecordOptions
from wm_gym.engine import BACKENDS, PRECISIONS
from wm_gym.rl.options import ImproveOptions
from wm_gym.training.options import TrainOptions
from wm_gym.training.presets import PRESETS


def add_record(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("env_id", metavar="ENV_ID", help=ENV_ID_HELP)
    parser.add_argument(
        "--episodes",
        type=positive_int,
        required=True,
        metavar="N",
        help="how many the dataset holds at the end (with what an interrupted run left there)",
    )
    parser.add_argument(
        "--policy",
        default="mix",
        help=f"who acts: {', '.join(POLICIES)} or agent:FOLDER; mix takes of the scripts what the "
        "environment has: all for wm-gym's physics twins, random alone for any other "
        "(default: mix)",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="the LeRobotDataset v3.0 folder to write")
    add_options(parser, RecordOptions, ("resume", "progress", "shard_frames"))
    parser.add_argument(
        "--no-resume", dest="resume", action="store_false", help="fail if DIR holds a dataset, instead of going on"
    )


def run_record(args: argparse.Namespace) -> None:
    from wm_gym.collect.record import record

    out = record(args.env_id, args.episodes, args.policy, out=args.out, options=options_of(RecordOptions, args))
    print(f"recorded: {out}\nnext: wm-gym train {out} --out WORLD")


def add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "dataset",
        metavar="DATASET",
        nargs="+",
        help="a dataset folder (`wm-gym data info` says which), or several of one environment",
    )
    parser.add_argument(
        "--out",
        required=True,
        metavar="WORLD",
        help="the world folder to write; checkpoints and logs lie in WORLD.training, and the same "
        "command goes on from there; what is of use later is WORLD.log in the end",
    )
    parser.add_argument(
        "--preset",
        choices=[name for name in PRESETS if name != "adapter"],
        default=TrainOptions.preset,
        help="tiny: seconds, for tests; small: a CPU in an hour or two; base: a GPU; finetune: "
        "minutes, with --init (default: small)",
    )
    add_options(parser, TrainOptions, ("preset", "progress", "base", "prompt"), filters="filter", overrides="set")


def run_train(args: argparse.Namespace) -> None:
    from wm_gym.training import train

    out = train(args.dataset, args.out, options_of(TrainOptions, args))
    print(f'trained: {out}\nnext: gym.make("wm_gym/World-v0", world="{out}")')


def add_finetune(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", metavar="DATASET", nargs="+", help="as for `wm-gym train`")
    parser.add_argument(
        "--base",
        required=True,
        metavar="PATH_OR_HUB_ID",
        help="a diffusers pipeline: Stable Video Diffusion, or Wan 2.2 TI2V",
    )
    parser.add_argument("--out", required=True, metavar="WORLD", help="the world folder to write: the adapter alone")
    leave_out = ("preset", "init", "progress", "action_free", "base")
    add_options(parser, TrainOptions, leave_out, filters="filter", overrides="set")


def run_finetune(args: argparse.Namespace) -> None:
    from wm_gym.training import train

    out = train(args.dataset, args.out, options_of(TrainOptions, args, preset="adapter"))
    print(f'finetuned: {out}\nnext: gym.make("wm_gym/World-v0", world="{out}")')


def add_improve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("world", metavar="WORLD", help="a world folder, or the name of a shipped one")
    parser.add_argument(
        "--dataset",
        required=True,
        action="append",
        metavar="DATASET",
        help="what the world was trained on; may be repeated",
    )
    parser.add_argument(
        "--out",
        required=True,
        metavar="DIR",
        help="agents, recordings, worlds, improve.json and improve.png; the same command goes on there",
    )
    add_options(parser, ImproveOptions, ("preset", "progress"), twin_id="twin", recipe_file="recipe", overrides="set")


def run_improve(args: argparse.Namespace) -> None:
    from wm_gym.rl.improve import NOTES_FILE, PLOT_FILE, improve

    options = options_of(ImproveOptions, args)
    options = replace(options, overrides=options.overrides or {})  # as the notes of earlier runs have it
    out = improve(args.world, args.dataset, args.out, options)
    print(f"improved: {out / NOTES_FILE} and {out / PLOT_FILE}")


def add_calibrate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("world", metavar="WORLD", help="a world folder; what is measured is written into it")
    parser.add_argument(
        "dataset",
        metavar="DATASET",
        nargs="*",
        help="recordings that the world was not trained on, as its users will act in it; 1,000 "
        "episodes make the guaranteed 90 %% exact to 2 points",
    )
    parser.add_argument(
        "--policies",
        nargs="+",
        default=[],
        metavar="AGENT",
        help="set the world's success_threshold so that these succeed as often in it as in its twin",
    )
    parser.add_argument(
        "--episodes",
        type=positive_int,
        default=400,
        metavar="N",
        help="matched starts of each of the policies (default: 400)",
    )
    parser.add_argument(
        "--refit", action="store_true", help="first train the world's uncertainty anew on half of the episodes"
    )
    parser.add_argument(
        "--alpha", type=float, default=0.1, help="the guarantee holds in 1 - ALPHA of episodes (default: 0.1)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the roll-outs and of the refit (default: 0)")
    parser.add_argument("--cpu", action="store_true", help="leave the GPUs alone")


def run_calibrate(args: argparse.Namespace) -> None:
    import numpy as np

    from wm_gym.evaluation.ranking.threshold import calibrate_judge
    from wm_gym.evaluation.trust.calibrate import calibrate
    from wm_gym.worlds.spec import WorldSpec

    if not (args.dataset or args.policies):
        raise ValueError("nothing to calibrate on: give recordings, --policies AGENT ..., or both")
    if args.dataset:
        before = WorldSpec.load(args.world).success_threshold
        made = calibrate(args.world, args.dataset, args.refit, args.alpha, args.seed, args.cpu)
        print(
            f"calibrated on {made.measured_on}: the error stays below {made.factor:.2f} x the uncertainty in "
            f"{1 - made.alpha:.0%} of episodes; trust_horizon at a start {made.trust_horizon(np.array(0.0))} of "
            f"{made.steps} steps; success_threshold {before} -> {WorldSpec.load(args.world).success_threshold}"
        )
    if args.policies:
        found = calibrate_judge(args.world, args.policies, args.episodes, args.seed)
        print(
            f"success_threshold {found['before']} -> {found['threshold']} on {found['policies']} policies: of what "
            f"physics fails the world calls {found['was']['optimism']['rate']:.1%} -> "
            f"{found['now']['optimism']['rate']:.1%} a success, of what succeeds there "
            f"{found['was']['pessimism']['rate']:.1%} -> {found['now']['pessimism']['rate']:.1%} a failure"
        )


def add_compile(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("world", metavar="WORLD", help="a world folder, a Hub id, or the name of a shipped one")
    parser.add_argument(
        "--batch",
        type=positive_int,
        nargs="+",
        default=[1, 32],
        metavar="B",
        help="numbers of environments stepped at once (default: 1 32)",
    )
    parser.add_argument("--backend", default="auto", help=f"auto, {', '.join(BACKENDS)} (default: auto)")
    parser.add_argument("--device", default="auto", help="auto, cpu or a CUDA device (default: auto)")
    parser.add_argument("--precision", default="auto", help=f"auto, {', '.join(PRECISIONS)} (default: the back-end's)")
    parser.add_argument("--no-frames", action="store_true", help="the step of observation='latent', without pictures")


def run_compile(args: argparse.Namespace) -> None:
    import time

    from wm_gym.engine import make_engine
    from wm_gym.engine.shared import load_world

    engine = make_engine(load_world(args.world), args.backend, args.device, not args.no_frames, args.precision)
    for batch in args.batch:
        started = time.monotonic()
        engine.compile(batch)
        print(f"{engine.name} {engine.precision}, batch {batch}: {time.monotonic() - started:.1f} s")


def add_push(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="WORLD|AGENT", help="its folder, or the name of a shipped one")
    parser.add_argument(
        "--to",
        required=True,
        metavar="REPO",
        help="user/repo on the Hub (log in first: hf auth login), or a new folder, . or / in front",
    )
    parser.add_argument("--private", action="store_true", help="make the repository private where it is new")


def run_push(args: argparse.Namespace) -> None:
    from wm_gym.publish import push

    where = push(args.folder, args.to, args.private)
    print(f'pushed: {where}\nnext: gym.make("wm_gym/World-v0", world="{args.to}")  # of a world')


COMMANDS = (
    Command(
        "record",
        "record an environment's episodes as video and actions (LeRobotDataset v3.0)",
        "wm-gym record wm_gym/ReachPyBullet-v0 --episodes 100 --policy mix --out reach-data",
        add_record,
        run_record,
    ),
    Command(
        "train",
        "train a world on a dataset",
        "wm-gym train reach-data --out my-world --preset small",
        add_train,
        run_train,
    ),
    Command(
        "finetune",
        "make a pretrained video model a world, by an adapter for actions",
        "wm-gym finetune reach-data --base Wan-AI/Wan2.2-TI2V-5B-Diffusers --size 256 --out my-world",
        add_finetune,
        run_finetune,
    ),
    Command(
        "improve",
        "train an agent in a world, record it in the twin, finetune the world, and again",
        "wm-gym improve my-world --dataset reach-data --rounds 2 --out improved",
        add_improve,
        run_improve,
    ),
    Command(
        "calibrate",
        "measure how wrong a world is at each uncertainty",
        "wm-gym calibrate my-world held-out-data",
        add_calibrate,
        run_calibrate,
    ),
    Command(
        "compile",
        "compile a world's step ahead of time, into the user's cache",
        "wm-gym compile Push-v0 --batch 1 32",
        add_compile,
        run_compile,
    ),
    Command(
        "push",
        "upload a world or an agent to the Hugging Face Hub, with LeRobot's EnvHub entry point",
        "wm-gym push my-world --to user/my-world",
        add_push,
        run_push,
    ),
)
