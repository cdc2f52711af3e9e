"""Which commands read actions off video, and measure how well?"""

from __future__ import annotations

import argparse

from wm_gym.cli.command import Command, add_options, options_of, positive_int
from wm_gym.inverse.options import FitOptions

IDM_HELP = "a folder that wm-gym idm train made"


def add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", metavar="DATASET", help="a recording with actions")
    parser.add_argument("--out", required=True, metavar="IDM", help="the folder to write")
    parser.add_argument(
        "--kind", default="transformer", help="pair, video, transformer, flow, masked or latent (default: transformer)"
    )
    parser.add_argument(
        "--labels",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="share of the episodes whose actions are learned (default: 1; 0 learns latent actions from the "
        "video alone, with --kind latent)",
    )
    parser.add_argument(
        "--world",
        default=None,
        metavar="WORLD",
        help="the world whose generated video will be read: half of the training's frames are drawn by its "
        "tokenizer, and video that surprises it is refused",
    )
    add_options(parser, FitOptions, ("batch", "progress"))
    parser.add_argument("--overwrite", action="store_true", help="replace the inverse dynamics in --out")


def run_train(args: argparse.Namespace) -> None:
    from wm_gym.data import open_clips
    from wm_gym.evaluation.suite.inverse_benchmark import reading_text, readings
    from wm_gym.inverse.fit import split_labels
    from wm_gym.inverse.labeller import train_labeller

    clips = open_clips(args.dataset)
    options = options_of(FitOptions, args)
    made = train_labeller(clips, args.out, args.kind, args.labels, args.world, args.overwrite, options)
    if args.labels:
        print(reading_text({"held out": readings(made, clips, split_labels(clips)[1])}))
    print(f"written: {args.out}\nnext: wm-gym idm label VIDEOS --idm {args.out} --out DATASET")


def add_label(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", metavar="VIDEOS", help="any dataset of video; actions in it are not looked at")
    parser.add_argument("--idm", required=True, metavar="IDM", help=IDM_HELP)
    parser.add_argument("--out", required=True, metavar="DIR", help="the LeRobotDataset v3.0 folder to write")
    parser.add_argument("--camera", default=None, metavar="KEY", help="which camera (default: the first)")


def run_label(args: argparse.Namespace) -> None:
    from wm_gym.inverse.labeller import VideoLabeller, label_dataset

    kept, rejected = label_dataset(args.dataset, VideoLabeller.load(args.idm), args.out, args.camera)
    for episode, why in rejected.items():
        print(f"episode {episode} is left out: {why}")
    print(
        f"labelled: {kept} of {kept + len(rejected)} episodes, in {args.out}"
        if kept
        else f"nothing is written: all {len(rejected)} episodes are left out"
    )


def add_map(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("idm", metavar="IDM", help="latent ones: wm-gym idm train --kind latent --labels 0")
    parser.add_argument("dataset", metavar="DATASET", help="recordings with real actions")
    parser.add_argument("--episodes", type=positive_int, default=None, metavar="N", help="the first N (default: all)")
    parser.add_argument("--out", required=True, metavar="FILE.json", help="for wm_gym.wrappers.RealActions")


def run_map(args: argparse.Namespace) -> None:
    import numpy as np

    from wm_gym.common.files import write_json
    from wm_gym.data import open_clips
    from wm_gym.inverse.labeller import VideoLabeller, fit_real_actions

    clips = open_clips(args.dataset)
    found = fit_real_actions(VideoLabeller.load(args.idm), clips, np.arange(len(clips))[: args.episodes])
    write_json(args.out, found, indent=1)
    print(
        f'written: {args.out}\nnext: wm_gym.wrappers.RealActions(gym.make("wm_gym/World-v0", world=WORLD), '
        f'"{args.out}")'
    )


def add_benchmark(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", metavar="DATASET", help="a recording that none of them was trained on")
    parser.add_argument("idm", nargs="+", metavar="IDM", help=IDM_HELP)
    parser.add_argument(
        "--world",
        default=None,
        metavar="WORLD",
        help="read its generated video of the same actions, too; a folder, a Hub id, a shipped one's name",
    )
    parser.add_argument("--episodes", type=positive_int, default=None, metavar="N", help="the first N (default: all)")
    parser.add_argument("--out", default=None, metavar="FILE.json", help="write all the numbers there, too")


def run_benchmark(args: argparse.Namespace) -> None:
    from wm_gym.common.files import write_json
    from wm_gym.data import open_clips
    from wm_gym.engine.shared import load_world
    from wm_gym.evaluation.suite.inverse_benchmark import benchmark, reading_text
    from wm_gym.inverse.labeller import VideoLabeller

    labellers = {name: VideoLabeller.load(name) for name in args.idm}
    world = load_world(args.world) if args.world else None
    found = benchmark(labellers, open_clips(args.dataset), world, args.episodes)
    if args.out:
        write_json(args.out, found, indent=1)
    for name, conditions in found.items():
        print(f"{name}\n{reading_text(conditions['reading'])}")
        if conditions["replay"]:
            print(
                "replayed in physics: "
                + ", ".join(f"{what} {_share(rate)}" for what, rate in conditions["replay"].items())
            )
        print("refused: " + ", ".join(f"{what} {_share(rate)}" for what, rate in conditions["rejected"].items()))


def _share(rate: dict) -> str:
    return f"{100 * rate['rate']:.1f} % of {rate['n']}" if rate["n"] else "none there"


COMMANDS = (
    Command(
        "idm train",
        "Learn to read actions off video (inverse dynamics)",
        "wm-gym idm train data/push --world Push-v0 --out idm/push",
        add_train,
        run_train,
    ),
    Command(
        "idm label",
        "Give video the actions that it shows; refuse video of what no robot does",
        "wm-gym idm label videos/ --idm idm/push --out data/labelled",
        add_label,
        run_label,
    ),
    Command(
        "idm map",
        "Learn from a few recordings which latent action a real one is",
        "wm-gym idm map idm/latent data/push --episodes 10 --out real_actions.json",
        add_map,
        run_map,
    ),
    Command(
        "idm benchmark",
        "Count how well actions are read off real, generated, noisy and occluded video",
        "wm-gym idm benchmark data/push-held idm/push --world Push-v0",
        add_benchmark,
        run_benchmark,
    ),
)
