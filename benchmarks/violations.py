"""Which laws of physics does a world break, and how good is the detector that says so?

    python benchmarks/violations.py WORLD TRAIN_DATASET HELD_OUT_DATASET

The state decoder learns on the training recordings; the detector's limits are fitted on one half of the held-out
episodes, as the world's tokenizer draws them. On the other half the twin draws violations of every class (precision and
recall), and the world is measured under the recorded actions beside physics through its tokenizer (the noise floor).
"""

from __future__ import annotations

import argparse

import gymnasium as gym
import numpy as np
from common import write_results

import wm_gym  # noqa: F401  registers the ids
from wm_gym.data import open_clips
from wm_gym.evaluation.controls import frozen, learned, recorded, through
from wm_gym.evaluation.episodes import Episodes
from wm_gym.evaluation.injected import Injector, detector_quality
from wm_gym.evaluation.state_decoder import fit_state_decoder
from wm_gym.evaluation.violations import Detector, violations
from wm_gym.physics.tracked import tracked_by
from wm_gym.shared import load_world


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world")
    parser.add_argument("train")
    parser.add_argument("held_out")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--updates", type=int, default=5000, help="of the state decoder (default: 5000)")
    parser.add_argument("--injected", type=int, default=100, help="episodes that get violations (default: 100)")
    args = parser.parse_args()
    world, clips, held = load_world(args.world), open_clips(args.train), open_clips(args.held_out)
    env = gym.make(world.spec.twin, render_mode="rgb_array")
    tracked = tracked_by(env)
    known, told = (tracked.states(some)[:, :tracked.read] for some in (clips, held))
    report = fit_state_decoder(clips.frames, known, held.frames[::7], told[::7], views=world.tokenizer.round_trip,
                               updates=args.updates)
    episodes = Episodes.of(held, args.steps)
    half = len(episodes) // 2
    fitted, asked = episodes.select(np.arange(half)), episodes.select(np.arange(half, len(episodes)))
    floor = through(recorded, world.tokenizer)
    detector = Detector.fit(floor, fitted, tracked, report.decoder.read)
    some = asked.select(np.arange(min(args.injected, len(asked))))
    quality = detector_quality(detector, Injector(env, tracked), some, world.tokenizer.round_trip)
    broken = violations({"world": learned(world), "physics through the tokenizer": floor, "physics": recorded,
                         "frozen": frozen}, asked, detector)
    write_results(f"violations_{world.spec.name}", {
        "world": world.spec.name, "episodes": len(asked), "steps": args.steps, "limits": detector.limits,
        "detector": quality, "violations": broken,
        "per_100_frames": {name: sum(row["per_100_frames"] for row in rows.values()) for name, rows in broken.items()}})


if __name__ == "__main__":
    main()
