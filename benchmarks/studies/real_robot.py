"""Does a world trained on real robot video listen to its actions? True against another episode's, on its own scenes.

python benchmarks/studies/real_robot.py WORLD DATASET --name droid
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import gymnasium as gym
import imageio.v3 as iio
import numpy as np
from common import Bar, command, write_results

from wm_gym.data import open_clips
from wm_gym.data.curation.selection import Selection, select
from wm_gym.engine.torch import TorchEngine
from wm_gym.evaluation.control_worlds import frozen, learned
from wm_gym.evaluation.episodes import Episodes
from wm_gym.evaluation.metrics.control import delta_psnr
from wm_gym.training.segments import split_episodes
from wm_gym.worlds.world import World

BARS = {
    "real_robot_droid": [
        Bar(
            f"what true actions give on training scenes after {n} steps, dB, lower end",
            (f"training scenes, {n} steps", "world", "shuffled", "low"),
            least=0,
            show="{:.2f}",
        )
        for n in (1, 4, 10)
    ]
}


def main() -> None:
    parser = command(__doc__, BARS)
    parser.add_argument("world")
    parser.add_argument("dataset")
    parser.add_argument("--name", required=True, help="of the file in benchmarks/results")
    parser.add_argument("--filter", default=None, help="the filter list that it was trained with")
    parser.add_argument("--film", default=None, help="write true frames over the world's as a PNG")
    args = parser.parse_args()
    world = World.from_pretrained(args.world)
    clips = open_clips(args.dataset, camera=world.spec.camera, size=tuple(world.spec.frame_size))
    if args.filter:
        clips = select(clips, Selection.load(args.filter))
    rollout, result = (
        learned(world, TorchEngine(world)),
        {"world": world.spec.name, "trained_on": world.spec.trained_on},
    )
    trained, held = split_episodes(clips)
    for scenes, left_out in (("training scenes", held), ("held-out scene", trained)):
        some = select(clips, Selection(clips.meta["dataset_hash"], {int(e): ["split"] for e in left_out}))
        for horizon in (1, 4, 10):
            try:
                pieces = Episodes.of(some, horizon, every=max(2, horizon // 2))
                measured = delta_psnr({"world": rollout, "frozen": frozen}, pieces, world.spec, horizon)
            except ValueError as error:
                measured = {"undefined": str(error)}
            result[f"{scenes}, {horizon} steps"] = {"pieces": len(pieces), "episodes": len(some), **measured}
    env = gym.make("wm_gym/World-v0", world=args.world)
    env.reset(seed=0)
    for _ in range(50):
        frame, *_ = env.step(env.action_space.sample())
    result["stepped"] = {"steps": 50, "frame": list(np.shape(frame))}
    if args.film:
        pieces = Episodes.of(clips, 10, every=30)
        chosen = pieces.select(np.linspace(0, len(pieces) - 1, 5).astype(int))
        made = rollout(chosen)["frame"]
        rows = [
            np.concatenate([x[i][t] for t in (0, 2, 4, 6, 8, 9)], 1)
            for i in range(len(chosen))
            for x in (chosen.frames[:, 1:], made)
        ]
        iio.imwrite(args.film, np.concatenate(rows).repeat(2, 0).repeat(2, 1))
    write_results(f"real_robot_{args.name}", result)


if __name__ == "__main__":
    main()
