"""Does the world put the end-effector where physics does? Held-out episodes, same actions, controls beside it.

python benchmarks/fidelity.py WORLD TRAIN_DATASET HELD_OUT_DATASET
"""

from __future__ import annotations

import numpy as np
from common import Bar, command, write_results

from wm_gym.data import open_clips
from wm_gym.evaluation.metrics.fidelity import fidelity
from wm_gym.evaluation.probes.state_decoder import fit_state_decoder
from wm_gym.worlds.world import World

BARS = {
    "fidelity_Reach-v0": [
        *(
            Bar(f"end-effector, median cm off after {n} steps, {who}", (f"at_{n}", who, "end_effector_cm_median"))
            for n in (1, 10, 50)
            for who in ("world", "frozen")
        ),
        Bar("the decoder's own error, median cm", ("decoder_median_cm",)),
        Bar("PSNR of true over mirrored actions after 10 steps, dB", ("at_10", "delta_psnr_true_minus_mirrored_db")),
    ]
}


def main() -> None:
    parser = command(__doc__, BARS)
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
