"""Does the world put the end-effector where physics does? Held-out episodes, same actions, controls beside it.

python benchmarks/fidelity.py WORLD TRAIN_DATASET HELD_OUT_DATASET
"""

from __future__ import annotations

import argparse

import numpy as np
from common import write_results

from wm_gym.data import open_clips
from wm_gym.evaluation.metrics.fidelity import fidelity
from wm_gym.evaluation.probes.state_decoder import fit_state_decoder
from wm_gym.worlds.world import World


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world")
    parser.add_argument("train")
    parser.add_argument("held_out")
    parser.add_argument("--updates", type=int, default=4000, help="of the state decoder (default: 4000)")
    args = parser.parse_args()
    world, clips, held = World.from_pretrained(args.world), open_clips(args.train), open_clips(args.held_out)

    rows = np.random.default_rng(0).permutation(len(held.frames))[:2000]
    report = fit_state_decoder(
        clips.frames,
        clips.proprioception[:, :3],
        held.frames[np.sort(rows)],
        held.proprioception[np.sort(rows), :3],
        views=world.tokenizer.round_trip,
        updates=args.updates,
    )
    write_results(f"fidelity_{world.spec.name}", fidelity(world, held, report))


if __name__ == "__main__":
    main()
