"""Which commands tell how far a world can be believed?"""

from __future__ import annotations

import argparse

from wm_gym.cli.command import Command, add_spreading, positive_int


def add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("world", metavar="WORLD", help="a world folder, a Hub id, or the name of a shipped one")
    parser.add_argument("--twin", default=None, metavar="ENV_ID", help="(default: the twin that the world names)")
    parser.add_argument("--out", default=None, metavar="DIR", help="(default: NAME-evaluation; goes on there)")
    parser.add_argument("--only", nargs="+", default=None, metavar="QUESTION",
                        help="of fidelity, drift, agent_drift, control, inverse, judge, physics_iq, violations, "
                             "uncertainty, shifts, films (default: all, agent_drift with --agent)")
    parser.add_argument("--agent", default=None, metavar="AGENT", help="also measure the drift under this policy")
    parser.add_argument("--episodes", type=positive_int, default=200, metavar="N",
                        help="of the world's horizon (default: 200)")
    parser.add_argument("--long-episodes", type=positive_int, default=100, metavar="N",
                        help="of 30 s, for the drift (default: 100)")
    parser.add_argument("--promised-episodes", type=positive_int, default=1000, metavar="N",
                        help="that the calibration's promises are held against (default: 1000)")
    add_spreading(parser, "questions")


def run_evaluate(args: argparse.Namespace) -> None:
    from wm_gym.evaluation.lab import Size
    from wm_gym.evaluation.suite import evaluate

    out = evaluate(args.world, args.twin, args.out, args.only, args.agent, seed=args.seed, workers=args.workers,
                   ray=args.ray, size=Size(episodes=args.episodes, long_episodes=args.long_episodes,
                                           promised_episodes=args.promised_episodes))
    print(f"measured: {out}\nnext: wm-gym report {out}")


def add_report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", help="a folder of measurements, as `wm-gym evaluate` writes it")
    parser.add_argument("--out", default=None, metavar="FILE.html", help="(default: FOLDER/report.html)")


def run_report(args: argparse.Namespace) -> None:
    from wm_gym.evaluation.report import write_trust_report

    print(f"written: {write_trust_report(args.folder, args.out)}")


COMMANDS = (
    Command("evaluate", "measure a world beside its physics twin: drift, control, physics, uncertainty and more",
            "wm-gym evaluate Push-v0 --only drift uncertainty --out trust",
            add_evaluate, run_evaluate),
    Command("report", "turn the measurements of a world into one HTML page: what to trust, what fails, what to do",
            "wm-gym report outputs/Push-v0-evaluation",
            add_report, run_report),
)
