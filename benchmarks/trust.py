"""How far can the shipped Push world be believed? All that is measured of it beside its twin, and policies in it.

    python benchmarks/trust.py --agent ppo-Push-v0            # all that `wm-gym evaluate` measures
    python benchmarks/trust.py --policies AGENT AGENT ...     # success of independently trained policies in both
    python benchmarks/trust.py --only violations --agent ppo-Push-v0

Keeps each answer in results/evaluation_Push-v0; what needs hours is kept in WORK and gone on with after a kill.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from common import RESULTS, Bar, command

NAME = "evaluation_Push-v0"
PERTURBED = ("perturbed", "nudged")  # physics, its object a little off: the name of today, and that of older results
STEPS = (10, 25, 50, 60)


def perturbed(rows: dict) -> Any:
    """What stands for perturbed physics."""
    return next(rows[name] for name in PERTURBED if name in rows)


def over_clock(found: dict) -> float:
    """The least lower end by which uncertainty's rank correlation up to a step exceeds that of a step counter."""
    return min(found["result"]["ranks"][f"at_{n}"]["gain_low"] for n in STEPS)


AGREEMENT = ("agreement", "Push-v0")
BARS = {
    f"{NAME}/policies": [
        Bar("policies", (*AGREEMENT, "all", "policies"), least=20),
        Bar("Pearson's r", (*AGREEMENT, "all", "pearson"), least=0.93),
        Bar("Pearson's r, lower end", (*AGREEMENT, "all", "low"), least=0.80),
        Bar("Pearson's r, policies at 20 to 80 %", (*AGREEMENT, "within_band", "pearson")),
        Bar(
            "MMRV",
            (*AGREEMENT, "mmrv"),
            most=lambda found: found["agreement"]["Push-v0"]["perfect_world"]["mmrv"] + 0.02,
        ),
        Bar("largest change of r when one policy is left out", (*AGREEMENT, "all", "largest_drop_one"), most=0.05),
        Bar(
            "optimism",
            (*AGREEMENT, "optimism"),
            most=lambda found: perturbed(found)["Push-v0"]["optimism"] + 0.05,
            show="{:.1%}",
        ),
        Bar("pessimism", (*AGREEMENT, "pessimism"), show="{:.1%}"),
        Bar(
            "outcomes wrong, gained by the 80 % least uncertain",
            ("gating", "Push-v0", "gain", "wrong", "gain"),
            show="{:+.1%}",
        ),
    ],
    f"{NAME}/uncertainty": [
        Bar("ECE on its own", ("result", "dense", "autoregressive", "ece"), most=0.10),
        Bar("Brier skill on its own", ("result", "dense", "autoregressive", "brier_skill"), least=0),
        Bar("rank correlation over a step counter's, least lower end", over_clock, least=0),
        Bar("episodes that the 90 % bound covers", ("result", "coverage", "up_to_60", "rate"), 0.87, 0.93, "{:.1%}"),
        Bar("moments at which the trust horizon held", ("result", "trust", "kept"), show="{:.1%}"),
    ],
    f"{NAME}/shifts": [
        *(
            Bar(f"AUROC of another {what}", ("result", "visible", what, "score"), least=0.90)
            for what in ("size", "colour", "lighting", "camera", "stranger")
        ),
        *(
            Bar(f"AUROC of another {what}, unseen", ("result", "hidden", what, "auroc"))
            for what in ("mass", "friction")
        ),
    ],
    f"{NAME}/violations": [
        Bar("detector, recall", ("result", "detector", "all", "recall", "rate"), least=0.95, show="{:.1%}"),
        Bar("detector, precision", ("result", "detector", "all", "precision"), least=0.95, show="{:.1%}"),
        Bar(
            "violations in 100 frames",
            ("result", "per_100_frames", "world"),
            most=lambda found: 2 * perturbed(found["result"]["per_100_frames"]),
            show="{:.2f}",
        ),
        Bar(
            "the same of physics through the tokenizer",
            ("result", "per_100_frames", "physics through the tokenizer"),
            show="{:.2f}",
        ),
    ],
    **{
        f"{NAME}/{name}": [
            *(
                Bar(f"block error after {s} s, {who}, median cm", ("result", f"at_{s}s", who, "object_cm", "median"))
                for s in (5, 15, 30)
                for who in ("world", "frozen")
            ),
            Bar("median seconds to 3 cm", ("result", "time_to_failure", "world", "median_s")),
        ]
        for name in ("agent_drift", "drift")
    },
    f"{NAME}/fidelity": [
        Bar(f"PSNR after {n} steps, {who}, dB", ("result", f"at_{n}", who, "psnr_db"))
        for n in (10, 50)
        for who in ("world", "tokenizer", "frozen")
    ],
    f"{NAME}/control": [
        Bar("PSNR that random actions cost, dB", ("result", "delta_psnr", "world", "random", "mean")),
        Bar(
            "error under another episode's actions over the true ones'",
            ("result", "loss_ratio", "world", "ratio", "ratio"),
        ),
    ],
    f"{NAME}/inverse": [Bar("R2 of actions read off real frames", ("result", "real", "r2", "dx"))],
    f"{NAME}/judge": [
        Bar(f"outcomes wrong: {who}", ("result", "verdicts", who, "wrong", "rate"), show="{:.1%}")
        for who in ("learned, world's frames", "learned, true frames")
    ],
    f"{NAME}/physics_iq": [
        Bar("Physics-IQ", ("result", "world", "score")),
        Bar("Physics-IQ of a frozen frame", ("result", "frozen", "score")),
    ],
}


def main() -> None:
    parser = command(__doc__, BARS)
    parser.add_argument("--world", default="Push-v0")
    parser.add_argument("--agent", help="whose closed-loop actions the drift is measured under, too")
    parser.add_argument("--only", nargs="+", help="some measurements (default: all)")
    parser.add_argument("--policies", nargs="+", metavar="AGENT", help="measure these policies, and nothing else")
    parser.add_argument("--work", type=Path, default=Path("runs") / NAME)
    args = parser.parse_args()
    from wm_gym.evaluation.ranking.policies import evaluate_policies
    from wm_gym.evaluation.suite.suite import evaluate

    if args.policies:
        evaluate_policies(args.policies, args.work / "policies", world=args.world)
        written = [args.work / "policies" / "policies.json"]
    else:
        evaluate(args.world, out=args.work, only=args.only, agent=args.agent)
        written = [path for path in args.work.glob("*.json") if f"{NAME}/{path.stem}" in BARS]
    for path in written:
        shutil.copy(path, RESULTS / NAME / path.name)
        print(f"written: {RESULTS / NAME / path.name}")


if __name__ == "__main__":
    main()
