"""Which commands measure how far a world can be trusted?"""

from __future__ import annotations

import argparse

from wm_gym.cli.command import Command, add_options, options_of
from wm_gym.evaluation.suite.options import EvaluateOptions, ProbeOptions, Size


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("world", metavar="WORLD", help="a world folder, a Hub id, or the name of a shipped one")
    add_options(parser, EvaluateOptions, ("size", "progress"))
    leave_out = ("decoder_episodes", "decoder_updates", "starts")
    add_options(parser, Size, leave_out, guarantee_episodes="promised-episodes")


def run_evaluate(args: argparse.Namespace) -> None:
    from wm_gym.evaluation.suite.suite import evaluate

    out = evaluate(args.world, options_of(EvaluateOptions, args, size=options_of(Size, args)))
    print(f"measured: {out}\nnext: wm-gym report {out}")


def add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", help="a folder of measurements, as `wm-gym evaluate` writes it")
    parser.add_argument(
        "--out", default=None, metavar="FILE.html", help="the page to write (default: FOLDER/report.html)"
    )


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
    add_options(parser, ProbeOptions, ("device",))
    parser.add_argument("--device", default="auto", help="auto, cpu or a CUDA device (default: auto)")
    parser.add_argument("--out", default="zero-shot", metavar="DIR", help="probe.json and a film (default: zero-shot)")


def run_probe(args: argparse.Namespace) -> None:
    from pathlib import Path

    import imageio.v3 as iio
    import torch

    from wm_gym.common.files import write_json
    from wm_gym.evaluation.suite.zero_shot import probe

    device = ("cuda" if torch.cuda.is_available() else "cpu") if args.device == "auto" else args.device
    image = iio.imread(args.image)[..., :3]
    result, films = probe(args.base, image, args.prompt, options_of(ProbeOptions, args, device=device))
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
