"""Which commands look at a dataset and make a better one?"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from wm_gym.cli.command import Command, positive_int
from wm_gym.data.formats.registry import FORMATS

if TYPE_CHECKING:
    from wm_gym.data.formats.reader import Reader


def add_dataset(parser: argparse.ArgumentParser) -> None:
    """The dataset, and what has to be said where its format does not store it."""
    parser.add_argument("dataset", metavar="DATASET", help="; ".join(one.what for one in FORMATS.values()))
    parser.add_argument(
        "--format", choices=list(FORMATS), default=None, help="its format (default: what the folder holds)"
    )
    parser.add_argument("--fps", type=float, default=None, help="frames a second, where the format does not store it")
    parser.add_argument("--split", default=None, help="which split of an RLDS dataset (default: its first)")


def add_skip_damaged(parser: argparse.ArgumentParser, always: bool) -> None:
    parser.add_argument(
        "--skip-damaged",
        action="store_true",
        default=always,
        help=(
            "go on without episodes that cannot be read, and name them "
            + ("(always so: this only looks)" if always else "(without it they are an error)")
        ),
    )


def add_info(parser: argparse.ArgumentParser) -> None:
    add_dataset(parser)
    add_skip_damaged(parser, always=True)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run_info(args: argparse.Namespace) -> None:
    from wm_gym.common.files import json_text
    from wm_gym.data.curation.summary import summarize, summary_text

    summary = summarize(open_dataset(args))
    print(json_text(summary, indent=1) if args.json else summary_text(summary))


def open_dataset(args: argparse.Namespace) -> Reader:
    """The dataset to look at; damaged episodes are named and left out."""
    from wm_gym.data.formats.registry import open_reader

    return open_reader(args.dataset, args.format, skip_damaged=True, fps=args.fps, split=args.split)


def add_convert(parser: argparse.ArgumentParser) -> None:
    add_dataset(parser)
    add_skip_damaged(parser, always=False)
    parser.add_argument(
        "--to",
        required=True,
        metavar="DIR",
        help="the LeRobotDataset v3.0 folder to write; the same command goes on after a kill",
    )
    parser.add_argument(
        "--camera", action="append", default=None, metavar="KEY", help="which camera; may be repeated (default: all)"
    )


def run_convert(args: argparse.Namespace) -> None:
    from wm_gym.data.formats.convert import convert

    out = convert(
        args.dataset,
        args.to,
        args.camera,
        skip_damaged=args.skip_damaged,
        format=args.format,
        fps=args.fps,
        split=args.split,
    )
    print(f"converted: {out}\nnext: wm-gym train {out} --out WORLD")


def add_view(parser: argparse.ArgumentParser) -> None:
    add_dataset(parser)
    add_skip_damaged(parser, always=True)
    parser.add_argument("--out", required=True, metavar="FILE.html", help="one file that needs no network")
    parser.add_argument(
        "--episodes",
        type=positive_int,
        default=4,
        metavar="N",
        help="shown with video, spread over the dataset (default: 4)",
    )
    parser.add_argument("--camera", default=None, metavar="KEY", help="which camera (default: the first)")


def run_view(args: argparse.Namespace) -> None:
    from wm_gym.common.files import write_text
    from wm_gym.data.curation.view import view_page
    from wm_gym.data.formats.reader import warn_left_out

    reader = open_dataset(args)
    write_text(args.out, view_page(reader, args.camera, args.episodes))
    warn_left_out(reader, reader.damaged)
    print(f"written: {args.out}")


def add_curate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", metavar="DATASET", help="any that `wm-gym data info` opens and training takes")
    add_skip_damaged(parser, always=True)
    parser.add_argument(
        "--out",
        required=True,
        metavar="FILE.json",
        help="the filter list to write, for wm-gym train --filter; FILE.html beside it shows why",
    )
    parser.add_argument("--camera", default=None, metavar="KEY", help="which camera (default: the first)")
    parser.add_argument(
        "--max-lag",
        type=positive_int,
        default=3,
        metavar="K",
        help="lags of the video behind its actions from -K to K are tried (default: 3)",
    )
    parser.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="FILTER",
        help="do not leave out what this filter finds, e.g. outlier, or lag; may be repeated",
    )


def run_curate(args: argparse.Namespace) -> None:
    from pathlib import Path

    from wm_gym.common.files import write_text
    from wm_gym.data import open_clips
    from wm_gym.data.curation.curate import curate, without
    from wm_gym.data.curation.curate_page import curation_page, curation_text

    out = Path(args.out)
    if out.suffix != ".json":
        raise ValueError(f"--out {args.out} is not a .json file; the filter list is JSON")
    clips = open_clips(args.dataset, camera=args.camera, skip_damaged=True)
    made = without(curate(clips, args.max_lag), args.keep)
    write_text(out.with_suffix(".html"), curation_page(clips, made))
    made.selection.save(out)
    print(
        f"{curation_text(clips, made)}\nwritten: {out} and {out.with_suffix('.html')}\nnext: wm-gym train "
        f"{args.dataset} {'--skip-damaged ' if clips.meta.get('damaged') else ''}--filter {out} --out WORLD"
    )


COMMANDS = (
    Command("data info", "Say what is in a dataset", "wm-gym data info data/reach", add_info, run_info),
    Command(
        "data convert",
        "Write a dataset of any format as LeRobotDataset v3.0",
        "wm-gym data convert bridge_dataset/1.0.0 --fps 5 --to data/bridge",
        add_convert,
        run_convert,
    ),
    Command(
        "data view",
        "Show a dataset as an HTML page: video, its numbers under it, a contact sheet",
        "wm-gym data view data/reach --out reach.html",
        add_view,
        run_view,
    ),
    Command(
        "data curate",
        "Find clips that would teach a world something wrong; nothing is deleted",
        "wm-gym data curate data/reach --out reach.filter.json",
        add_curate,
        run_curate,
    ),
)
