"""Which commands measure how far a world can be trusted?"""

from __future__ import annotations

import argparse

from wm_gym.cli.command import Command, add_spreading, colour, positive_int


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("world", metavar="WORLD", help="a world folder, a Hub id, or the name of a shipped one")
    parser.add_argument("--twin", default=None, metavar="ENV_ID", help="(default: the twin that the world names)")
    parser.add_argument("--out", default=None, metavar="DIR", help="(default: NAME-evaluation; goes on there)")
    parser.add_argument(
        "--only",
        nargs="+",
        default=None,
        metavar="TASK",
        help="such as fidelity, drift or films; an unknown one is answered with the list (default: all, agent_drift "
        "with --agent)",
    )
    parser.add_argument("--agent", default=None, metavar="AGENT", help="also measure the drift under this policy")
    parser.add_argument(
        "--episodes", type=positive_int, default=200, metavar="N", help="of the world's horizon (default: 200)"
    )
    parser.add_argument(
        "--long-episodes", type=positive_int, default=100, metavar="N", help="of 30 s, for the drift (default: 100)"
    )
    parser.add_argument(
        "--promised-episodes",
        type=positive_int,
        default=1000,
        metavar="N",
        help="that the calibration's guarantees are tested on (default: 1000)",
    )
    add_spreading(parser, "tasks")


def run_evaluate(args: argparse.Namespace) -> None:
    from wm_gym.evaluation.suite.options import Size
    from wm_gym.evaluation.suite.suite import evaluate

    out = evaluate(
        args.world,
        twin=args.twin,
        out=args.out,
        only=args.only,
        agent=args.agent,
        seed=args.seed,
        workers=args.workers,
        ray=args.ray,
        size=Size(episodes=args.episodes, long_episodes=args.long_episodes, guarantee_episodes=args.promised_episodes),
    )
    print(f"measured: {out}\nnext: wm-gym report {out}")


def add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", help="a folder of measurements, as `wm-gym evaluate` writes it")
    parser.add_argument("--out", default=None, metavar="FILE.html", help="(default: FOLDER/report.html)")


def run_report(args: argparse.Namespace) -> None:
    from wm_gym.evaluation.report.page import write_trust_report

    print(f"written: {write_trust_report(args.folder, args.out)}")


def add_probe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--base",
        required=True,
        metavar="PATH_OR_HUB_ID",
        help="a diffusers pipeline: Wan 2.2 TI2V, or Stable Video Diffusion (which takes no prompt)",
    )
    parser.add_argument("--image", required=True, metavar="PICTURE", help="what the video begins with")
    parser.add_argument("--prompt", required=True, help="what is asked, e.g. 'push the block left'")
    parser.add_argument(
        "--direction",
        choices=("left", "right", "up", "down"),
        default=None,
        help="in the picture (default: the one that the prompt names)",
    )
    parser.add_argument(
        "--colour",
        type=colour,
        default=(242, 191, 26),
        metavar="R,G,B",
        help="of the block (default: 242,191,26, the yellow of wm-gym's)",
    )
    parser.add_argument("--n", type=positive_int, default=20, help="videos, and as many of each control (default: 20)")
    parser.add_argument("--frames", type=positive_int, default=25, help="of each video (default: 25)")
    parser.add_argument("--steps", type=positive_int, default=25, help="denoising evaluations (default: 25)")
    parser.add_argument("--device", default="auto", help="auto, cpu or a CUDA device (default: auto)")
    parser.add_argument("--seed", type=int, default=0, help="of the first video (default: 0)")
    parser.add_argument("--out", default="zero-shot", metavar="DIR", help="probe.json and a film (default: zero-shot)")


def run_probe(args: argparse.Namespace) -> None:
    from pathlib import Path

    import imageio.v3 as iio
    import torch

    from wm_gym.common.files import write_json
    from wm_gym.evaluation.suite.zero_shot import probe

    device = ("cuda" if torch.cuda.is_available() else "cpu") if args.device == "auto" else args.device
    image = iio.imread(args.image)[..., :3]
    result, films = probe(
        args.base,
        image,
        args.prompt,
        direction=args.direction,
        n=args.n,
        colour=args.colour,
        frames=args.frames,
        steps=args.steps,
        device=device,
        seed=args.seed,
    )
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "probe.json", {"base": args.base, "image": args.image, **result}, indent=1)
    iio.imwrite(out / "prompted.mp4", films[0], fps=8, macro_block_size=1)
    for name in ("prompted", "unprompted", "mirrored"):
        obeyed = result[name]["obeyed"]
        print(
            f"{name}: {obeyed['successes']} of {obeyed['n']} went {result['direction']} "
            f"[{obeyed['low']:.0%}, {obeyed['high']:.0%}]"
        )
    print(f"written: {out / 'probe.json'}")


COMMANDS = (
    Command(
        "evaluate",
        "measure a world beside its physics twin: drift, control, physics, uncertainty and more",
        "wm-gym evaluate Push-v0 --only drift uncertainty --out trust",
        add_evaluate,
        run_evaluate,
    ),
    Command(
        "report",
        "turn the measurements of a world into one HTML page: what to trust, what fails, what to do",
        "wm-gym report outputs/Push-v0-evaluation",
        add_report,
        run_report,
    ),
    Command(
        "probe-zero-shot",
        "ask a pretrained video model to move a block, before any training",
        "wm-gym probe-zero-shot --base Wan-AI/Wan2.2-TI2V-5B-Diffusers --image start.png "
        "--prompt 'push the block left'",
        add_probe,
        run_probe,
    ),
)
