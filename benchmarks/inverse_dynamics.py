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
    python benchmarks/inverse_dynamics.py runs/held.json runs/long.json --labels data/push-held idm/transformer-0.*
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=Path, help="what wm-gym idm benchmark --out wrote")
    parser.add_argument(
        "--labels", nargs="+", default=[], metavar="DATASET IDM", help="read these, too, on real frames"
    )
    args = parser.parse_args()
    import numpy as np
    from common import write_results

    from wm_gym.data import open_clips
    from wm_gym.evaluation.suite.inverse_benchmark import readings
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
