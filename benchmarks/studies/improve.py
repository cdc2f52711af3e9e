"""What do rounds of training in a world and recording in its twin give? What `wm-gym improve` found on Drawer, kept.

wm-gym record wm_gym/DrawerPyBullet-v0 --episodes 1000 --seed 100 --out data/drawer-mix
wm-gym train data/drawer-mix --name Drawer-v0 --out runs/drawer
wm-gym improve runs/drawer --data data/drawer-mix --rounds 6 --episodes 300 --out runs/improve-drawer
python benchmarks/studies/improve.py runs/improve-drawer --name Drawer-v0
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import RESULTS, Bar, command

BARS = {
    "improve_Drawer-v0": [
        Bar("rounds", len),
        *(
            Bar(f"success in {where}, {which} round", (i, where, "rate"), show="{:.0%}")
            for i, which in ((0, "first"), (-1, "last"))
            for where in ("world", "physics")
        ),
        Bar("physics steps in all", (-1, "physics_steps"), show="{:,}"),
    ]
}


def main() -> None:
    parser = command(__doc__, BARS)
    parser.add_argument("folder", type=Path, help="what wm-gym improve --out wrote")
    parser.add_argument("--name", required=True, help="of the world")
    args = parser.parse_args()
    from wm_gym.common.files import write_json
    from wm_gym.rl.improve import NOTES_FILE
    from wm_gym.rl.report import improvement_plot

    rounds = json.loads((args.folder / NOTES_FILE).read_text())
    write_json(RESULTS / f"improve_{args.name}.json", rounds, indent=1)
    improvement_plot(rounds, RESULTS / f"improve_{args.name}.png")


if __name__ == "__main__":
    main()
