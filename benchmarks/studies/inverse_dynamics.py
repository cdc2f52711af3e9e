"""How well are actions read off video, by kind of network and share of labels? What the commands below found, kept.

    wm-gym record wm_gym/PushPyBullet-v0 --episodes 1000 --seed 100 --out data/push-mix
    wm-gym record wm_gym/PushPyBullet-v0 --episodes 200 --seed 900 --out data/push-held
    wm-gym record wm_gym/PushPyBullet-v0 --episodes 60 --seed 901 --env-kwargs '{"max_episode_steps": 155}' \
        --out data/push-long
    for kind in transformer pair flow; do                     # video and masked with --updates 600
        wm-gym idm train data/push-mix --kind $kind --world Push-v0 --out idm/$kind; done
    wm-gym idm train data/push-mix --labels 0.1 --updates 500 --world Push-v0 --out idm/transformer-0.1    # and 0.01
    wm-gym idm benchmark data/push-held idm/transformer idm/pair idm/flow idm/video idm/masked --world Push-v0 \
        --episodes 40 --out runs/held.json
    wm-gym idm benchmark data/push-long idm/transformer --world Push-v0 --episodes 30 --out runs/long.json
    python benchmarks/studies/inverse_dynamics.py runs/held.json runs/long.json \
        --labels data/push-held idm/transformer-0.*
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common import Bar, command, follow, write_results


def of_kinds(*keys: str) -> Callable[[dict], list]:
    """A number of each kind of network."""
    return lambda found: [follow(row, keys) for row in found["benchmark"]["idm_held"].values()]


def lost_on_generated(found: dict) -> float:
    """Strict accuracy that the most accurate kind loses from real to generated video of steps 11 to 50."""
    rows = found["benchmark"]["idm_held"].values()
    reading = max((row["reading"] for row in rows), key=lambda row: row["real"]["strict_told"])
    return reading["real, steps 11 to 50"]["strict_told"] - reading["generated, steps 11 to 50"]["strict_told"]


BARS = {
    "inverse_dynamics": [
        Bar(
            "best R2 on real frames, all steps", lambda found: max(of_kinds("reading", "real", "r2")(found)), least=0.97
        ),
        Bar(
            "best R2 on real frames, steps that can be seen",
            lambda found: max(of_kinds("reading", "real", "r2_told")(found)),
        ),
        Bar("strict accuracy lost on 5 s of generated video, best kind", lost_on_generated, most=0.05, show="{:+.1%}"),
        Bar(
            "replays that succeed, actions read off real video",
            ("benchmark", "idm_held", "flow-1", "replay", "real", "rate"),
            least=0.95,
            show="{:.1%}",
        ),
        Bar(
            "replays that succeed, off generated video",
            ("benchmark", "idm_held", "flow-1", "replay", "generated", "rate"),
            least=0.8,
            show="{:.1%}",
        ),
    ]
}


def main() -> None:
    parser = command(__doc__, BARS)
    parser.add_argument("results", nargs="+", type=Path, help="what wm-gym idm benchmark --out wrote")
    parser.add_argument(
        "--labels", nargs="+", default=[], metavar="DATASET IDM", help="read these, too, on real frames"
    )
    args = parser.parse_args()
    import numpy as np

    from wm_gym.data import open_clips
    from wm_gym.evaluation.probes.inverse_benchmark import readings
    from wm_gym.inverse.labeller import VideoLabeller

    found, labelled = {file.stem: json.loads(file.read_text()) for file in args.results}, {}
    if args.labels:
        clips = open_clips(args.labels[0])
        for folder in args.labels[1:]:
            labeller = VideoLabeller.load(folder)
            labelled[folder] = {"taught_on": labeller.about["episodes"], **readings(labeller, clips, np.arange(40))}
    write_results("inverse_dynamics", {"benchmark": found, "labels": labelled})


if __name__ == "__main__":
    main()
