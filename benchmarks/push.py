"""Does the Push world keep the block where physics does? Ceiling, floor and controls beside it.

    python benchmarks/push.py WORLD TRAIN_DATASET HELD_OUT_DATASET [--beside OTHER_WORLD ... --name NAME]

Held-out episodes in which physics moves the block >= 5 cm, same starts and actions. `state model`: an MLP on simulator
states, trained on the same transitions (ceiling). `chaos`: PyBullet against itself, its block put 2 mm and 3 degrees
off at the start (floor). `frozen` repeats the first frame, `deaf` the world given zero actions, `real frames` are
physics' own, read as the generated ones are. Motion without contact is judged from the median of three readings, where
the block is found; where it is not, it counts as lost. Worlds beside the first are read by the same network, which
has learned the first one's reconstructions: let them share its tokenizer.
"""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np
from common import Bar, command, write_results

import wm_gym  # noqa: F401
from wm_gym.common.registry import registered
from wm_gym.data import ClipData, open_clips
from wm_gym.engine.shared import load_world
from wm_gym.evaluation.control_worlds import deaf, frozen, learned, physics, recorded
from wm_gym.evaluation.episodes import Episodes
from wm_gym.evaluation.metrics.contact import contact_ratio, motion_without_contact, object_errors, steady
from wm_gym.evaluation.metrics.drift import MOVED
from wm_gym.evaluation.probes.state_decoder import fit_state_decoder
from wm_gym.evaluation.probes.state_model import fit_state_model
from wm_gym.physics.push import PushTask
from wm_gym.physics.tracked import displacement

HORIZONS = (1, 10, 25, 50)
TRACKED = PushTask.tracked
TOUCHED, CLEAR, STILL = 0.002, 0.015, 0.005  # metres
WORLD = "U-Net of 31 minutes"
BARS = {
    "push_dynamics": [
        *(
            Bar(
                f"{WORLD}, block error after {n} steps, median cm",
                ("world", f"at_{n}", "cm_median"),
                most=lambda found, at=f"at_{n}": max(2.0, 1.5 * found["chaos"][at]["cm_median"]),
            )
            for n in (10, 25, 50)
        ),
        *(
            Bar(
                f"block error of a frozen frame after {n} steps, median cm",
                ("frozen", f"at_{n}", "cm_median"),
                least=lambda found, at=f"at_{n}": 4 * found["world"][at]["cm_median"],
            )
            for n in (10, 25, 50)
        ),
        Bar(f"{WORLD}, displacement in contact over physics'", ("world", "displacement_in_contact"), 0.8, 1.2),
        Bar(f"{WORLD}, motion without contact", ("world", "motion_without_contact"), most=0.02, show="{:.1%}"),
        Bar("motion without contact, real frames", ("real frames", "motion_without_contact"), show="{:.1%}"),
        Bar("transformer of 31 minutes, block error after 50 steps, median cm", ("dyn-dit", "at_50", "cm_median")),
    ]
}


def pushes(held: ClipData, at_most: int) -> Episodes:
    """Held-out episodes in which physics moves the block >= 5 cm."""
    episodes = Episodes.of(held, max(HORIZONS))
    return episodes.select(np.flatnonzero(displacement(episodes, TRACKED)[:, -1] >= MOVED)[:at_most])


def main() -> None:
    parser = command(__doc__, BARS)
    parser.add_argument("world")
    parser.add_argument("train")
    parser.add_argument("held_out")
    parser.add_argument("--beside", nargs="*", default=[], metavar="WORLD", help="other worlds, a row each")
    parser.add_argument("--name", help="of the results (default: the world's)")
    parser.add_argument("--updates", type=int, default=5000, help="of the state decoder (default: 5000)")
    parser.add_argument("--model-updates", type=int, default=8000, help="of the state model (default: 8000)")
    parser.add_argument("--episodes", type=int, default=300, help="at most (default: 300)")
    args = parser.parse_args()
    world, clips, held = load_world(args.world), open_clips(args.train), open_clips(args.held_out)

    known, held_states = TRACKED.states(clips), TRACKED.states(held)
    report = fit_state_decoder(
        clips.frames,
        known[:, :4],
        held.frames[::7],
        held_states[::7, :4],
        views=world.tokenizer.round_trip,
        updates=args.updates,
    )
    error = np.linalg.norm(report.decoder.read(held.frames[::7])[:, 2:] - held_states[::7, 2:4], axis=1)

    episodes, acting, rng = pushes(held, args.episodes), learned(world), np.random.default_rng(0)
    rollouts = {
        "world": acting,
        **{Path(w).name: learned(load_world(w)) for w in args.beside},
        "deaf": deaf(acting, world.spec),
        "frozen": frozen,
        "real frames": recorded,
    }
    found, lost = {}, {}
    for name, rollout in rollouts.items():
        found[name], lost[name] = TRACKED.followed(report.decoder.read, rollout(episodes)["frame"], episodes)
    truth = TRACKED.states(episodes)
    nothing = np.zeros(truth.shape[:2], bool)
    model = fit_state_model(known, clips.action, clips.episode_offset, args.model_updates)
    found["state model"] = model.roll_out(truth[:, 0], episodes.action)[..., :4]
    env = gym.make(registered(world.spec.twin, "twin"), render_mode="rgb_array")
    starts = iter(off := np.stack([TRACKED.nudged(state, rng) for state in episodes.physics_state[:, 0]]))
    chaos = np.concatenate([off[:, None], physics(env, lambda _: next(starts))(episodes)["physics_state"]], axis=1)
    found["chaos"] = np.concatenate([truth[..., :2], chaos[..., list(TRACKED.position)]], axis=-1)
    env.close()

    touched = np.linalg.norm(np.diff(truth[..., 2:4], axis=1), axis=-1) > TOUCHED
    numbers = {
        "episodes": len(episodes),
        "decoder_block_cm_median": 100 * float(np.median(error)),
        "decoder_block_cm_p95": 100 * float(np.quantile(error, 0.95)),
        "workspace_width_cm": 100 * TRACKED.width,
    }
    for name, position in found.items():
        gap = TRACKED.gap(position[..., :2], position[..., 2:4])
        gone, block = lost.get(name, nothing), position[..., 2:4]
        numbers[name] = object_errors(block, truth[..., 2:4], gone, TRACKED.width, HORIZONS) | {
            "displacement_in_contact": contact_ratio(block, truth[..., 2:4], touched),
            "motion_without_contact": motion_without_contact(steady(block), gap, gone, CLEAR, STILL),
            "motion_without_contact_single_readings": motion_without_contact(block, gap, gone, CLEAR, STILL),
        }
    write_results(f"push_{args.name or world.spec.name}", {"world_folder": args.world, **numbers})


if __name__ == "__main__":
    main()
