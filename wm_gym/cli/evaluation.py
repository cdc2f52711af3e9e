"""Which commands tell how far a world can be believed?"""

from __future__ import annotations

import argparse

from wm_gym.cli.command import Command


def add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", help="a folder of measurements, as `wm-gym evaluate` writes it")
    parser.add_argument("--out", default=None, metavar="FILE.html", help="(default: FOLDER/report.html)")


def run_report(args: argparse.Namespace) -> None:
    from wm_gym.evaluation.report import write_trust_report

    print(f"written: {write_trust_report(args.folder, args.out)}")


COMMANDS = (
    Command("report", "turn the measurements of a world into one HTML page: what to trust, what fails, what to do",
            "wm-gym report outputs/Push-v0-evaluation",
            add_report, run_report),
)
