"""How much of what a world judges wrong is its drawing? Policies in physics seen through its tokenizer; its decoder.

    wm-gym evaluate-policies AGENT ... --out runs/policies
    python benchmarks/studies/drawing.py policies runs/policies "9 clones of a camera's pictures" NAME ...
    python benchmarks/studies/drawing.py decoder data/push-111 shipped=Push-v0 "depth 2=runs/deeper"

`policies` tells, of some policies that were measured there, the outcomes that differ from physics': in the world, in
physics seen as the world draws it, and in physics whose object starts 2 mm and 3 degrees off. `decoder` tells the PSNR
of worlds' round trips of the same frames (`wm-gym train ... --init Push-v0 --set decoder_only=true` trains such).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import Bar, command, read_results, write_results

NAME, FRAMES = "drawing_Push-v0", 256
CLONES, NOISY = "9 clones of a camera's pictures", "clone of 120 noisy demonstrations"
VIEWS = f"{NOISY}, half of its frames drawn by the world"
BARS = {
    NAME: [
        *(
            Bar(f"{CLONES}, outcomes wrong: {who}", ("policies", CLONES, who, "wrong"), show="{:.1%}")
            for who in ("world", "drawn", "perturbed")
        ),
        *(Bar(f"{name}, success in physics", ("policies", name, "physics"), show="{:.1%}") for name in (NOISY, VIEWS)),
        *(
            Bar(f"{name}, optimism through the tokenizer", ("policies", name, "drawn", "optimism"), show="{:.1%}")
            for name in (NOISY, VIEWS)
        ),
        *(Bar(f"round trip of the {name} decoder, dB", ("psnr", name)) for name in ("shipped", "depth 2")),
        *(
            Bar(
                f"8 clones, outcomes wrong with the {name} decoder",
                ("policies", f"8 clones, {name}", "world", "wrong"),
                show="{:.1%}",
            )
            for name in ("shipped", "depth 2")
        ),
    ]
}


def of_policies(work: Path, names: list[str]) -> dict:
    """What each way of seeing the same episodes gets wrong, over the named policies that `evaluate_policies` kept."""
    import numpy as np

    from wm_gym.common.statistics import matched_table
    from wm_gym.evaluation.ranking.policies import CONTROLS

    def kept(folder: str) -> list[dict]:
        return [json.loads((work / folder / f"{name}.json").read_text())["result"] for name in names]

    rows = kept("policies")
    physics = np.concatenate([row["per_episode"]["physics_success"] for row in rows]).astype(bool)
    seen = {"world": [row["per_episode"]["world_success"] for row in rows]}
    seen |= {control: [row["success"] for row in kept(control)] for control in CONTROLS}
    found = {"policies": len(names), "episodes": rows[0]["episodes"], "physics": float(physics.mean())}
    for name, outcomes in seen.items():
        if all(outcomes):
            table = matched_table(np.concatenate(outcomes).astype(bool), physics)
            wrong = (table["table"]["world_only"] + table["table"]["physics_only"]) / len(physics)
            found["perturbed" if name == "nudged" else name] = {
                "optimism": table["optimism"]["rate"],
                "pessimism": table["pessimism"]["rate"],
                "wrong": wrong,
            }
    return found


def of_decoders(dataset: str, worlds: dict[str, str]) -> dict:
    """Mean PSNR in dB of each world's round trip of the same frames."""
    import numpy as np

    from wm_gym.common.metrics import psnr
    from wm_gym.data import open_clips
    from wm_gym.engine.shared import load_world

    frames = open_clips(dataset).frames
    some = np.array(frames[np.linspace(0, len(frames) - 1, FRAMES).astype(int)])
    return {
        name: float(psnr(load_world(world).tokenizer.round_trip(some), some).mean()) for name, world in worlds.items()
    }


def main() -> None:
    parser = command(__doc__, BARS)
    parts = parser.add_subparsers(dest="part", required=True)
    policies = parts.add_parser("policies", help="of a folder that wm-gym evaluate-policies wrote")
    policies.add_argument("work", type=Path)
    policies.add_argument("group", help="what the results call these policies")
    policies.add_argument("names", nargs="+")
    decoder = parts.add_parser("decoder", help="PSNR of worlds' round trips")
    decoder.add_argument("dataset")
    decoder.add_argument("worlds", nargs="+", metavar="NAME=WORLD")
    args = parser.parse_args()
    found = read_results(NAME) or {}
    if args.part == "policies":
        found["policies"] = found.get("policies", {}) | {args.group: of_policies(args.work, args.names)}
    else:
        found["psnr"] = found.get("psnr", {}) | of_decoders(
            args.dataset, dict(one.split("=", 1) for one in args.worlds)
        )
    write_results(NAME, found)


if __name__ == "__main__":
    main()
