"""Do three worlds judge policies as physics does? Push's today, Drawer's and Reach's beside an earlier Push world.

    wm-gym evaluate-policies AGENT ... --out runs/policies                      # 24 policies of three worlds
    python benchmarks/studies/policies.py keep runs/policies/policies.json
    python benchmarks/trust.py --policies AGENT ...                             # today's Push world
    python benchmarks/studies/policies.py join

`join` takes Push from evaluation_Push-v0/policies.json and the other worlds from policies_three_worlds.json, writes
policies_joined.json, and draws success in the worlds over success in physics (policies.png). Rates are exact; optimism
and pessimism come from their counts in each world.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import RESULTS, Bar, command, read_results, write_results

OLD, PUSH, JOINED = "policies_three_worlds", "evaluation_Push-v0/policies", "policies_joined"
BARS = {
    JOINED: [
        Bar("policies", ("agreement", "all", "policies"), least=20),
        Bar("Pearson's r", ("agreement", "all", "pearson"), least=0.93),
        Bar("Pearson's r, lower end", ("agreement", "all", "low"), least=0.80),
        Bar("MMRV", ("agreement", "mmrv"), most=lambda found: found["agreement"]["perfect_world"]["mmrv"] + 0.02),
        Bar("largest change of r when one policy is left out", ("agreement", "all", "largest_drop_one"), most=0.05),
        Bar("optimism", ("agreement", "optimism"), show="{:.1%}"),
    ],
    OLD: [
        Bar("Drawer: Pearson's r", ("agreement", "Drawer-v0", "all", "pearson")),
        Bar("Drawer: optimism", ("agreement", "Drawer-v0", "optimism"), show="{:.1%}"),
        Bar("Drawer: optimism of perturbed physics", ("nudged", "Drawer-v0", "optimism"), show="{:.1%}"),
    ],
}


def join(push: dict, old: dict) -> dict:
    """The policies of both, and how far worlds and physics agree over all of them."""
    import numpy as np

    from wm_gym.evaluation.ranking.agreement import agreement

    sources = {"Push-v0": push, "Drawer-v0": old, "Reach-v0": old}
    keys = ("agent", "world_name", "world", "physics")
    chosen = sorted(push["policies"], key=lambda row: f"{row['agent']}.json")  # in the order of their files
    chosen += [row for row in old["policies"] if row["world_name"] != "Push-v0"]
    rows = [{key: row[key] for key in keys} for row in chosen]

    def outcomes(side: str) -> np.ndarray:
        """Successes first: right in number, in no start's order."""
        return np.array([np.arange(row[side]["n"]) < row[side]["successes"] for row in rows])

    def share(of: str, wanted: bool) -> float:
        """The episodes that worlds get wrong, of those that physics fails (or wins)."""
        wrong = asked = 0.0
        for name, source in sources.items():
            some = [row["physics"] for row in rows if row["world_name"] == name]
            count = sum(one["successes"] if wanted else one["n"] - one["successes"] for one in some)
            wrong, asked = wrong + count * source["agreement"][name][of], asked + count
        return wrong / asked

    found = agreement(outcomes("world"), outcomes("physics"))
    found |= {"optimism": share("optimism", False), "pessimism": share("pessimism", True)}
    return {"policies": rows, "agreement": found}


def main() -> None:
    parser = command(__doc__, BARS)
    parser.add_argument("what", choices=["keep", "join"])
    parser.add_argument("results", nargs="?", type=Path, help="to keep: what wm-gym evaluate-policies wrote")
    args = parser.parse_args()
    if args.what == "keep":
        shutil.copy(args.results, RESULTS / f"{OLD}.json")
        return
    from wm_gym.evaluation.ranking.policies import policy_plot

    found = join(read_results(PUSH), read_results(OLD))
    write_results(JOINED, found)
    policy_plot(found["policies"], RESULTS / "policies.png")


if __name__ == "__main__":
    main()
