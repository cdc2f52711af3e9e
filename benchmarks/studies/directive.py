"""Does a world that has never seen the block go left push it left when asked to? On Push, in the picture's directions.

    wm-gym record wm_gym/PushPyBullet-v0 --episodes 1000 --seed 200 --out data/push-mix
    python benchmarks/studies/directive.py filter data/push-mix --out runs/no-left.json
    S="--set tokenizer_updates=1200 --set pose_updates=2000 --set dynamics_updates=2500 --set dynamics_batch=32
       --set heads_updates=0 --set uncertainty_updates=0"
    wm-gym train data/push-mix --filter runs/no-left.json --out runs/no-left $S
    wm-gym train data/push-mix --out runs/all-ways $S
    python benchmarks/studies/directive.py measure runs/no-left runs/all-ways Push-v0

The foot begins beside the block and is asked to go left (and, from the other side, right) at full speed. A push counts
if the block has moved by half of what physics moves it, within 45 degrees of the command. "chance" is the rate at which
the block goes left under a command drawn from the four directions.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import gymnasium as gym
import numpy as np
from common import Bar, command, write_results

STEPS, SPEED = 10, 0.005
SIDES = {"left": -1, "right": 1}
BARS = {
    "directive": [
        *(
            Bar(f"{world}: goes {side} when asked to", (world, side, "obeyed", "rate"), show="{:.1%}")
            for world in ("no-left", "all-ways", "Push-v0")
            for side in SIDES
        ),
        Bar("all-ways: goes left by chance", ("all-ways", "left", "chance", "rate"), show="{:.1%}"),
        Bar("all-ways: goes left when sent right", ("all-ways", "left", "mirrored command", "rate"), show="{:.1%}"),
        Bar("starts", ("n",), least=200),
    ]
}


def sideways(positions: np.ndarray) -> np.ndarray:
    """Metres to the right in the picture: Push's camera looks along x from behind, so that right is +y."""
    return positions[..., 1]


def make_filter(args: argparse.Namespace) -> None:
    """Leave out every episode in which the block goes left by more than 5 mm between any two rows."""
    from wm_gym.common.registry import registered
    from wm_gym.data import open_clips
    from wm_gym.data.curation.selection import Selection
    from wm_gym.physics.tracked import tracked_by

    clips = open_clips(args.dataset)
    tracked = tracked_by(gym.make(registered(clips.meta["env_id"], "env_id"), render_mode="rgb_array"))
    where = sideways(np.asarray(clips.physics_state)[:, list(tracked.position)])
    drop = {}
    for e, (start, end) in enumerate(zip(clips.episode_offset[:-1], clips.episode_offset[1:])):
        if (np.maximum.accumulate(where[start:end]) - where[start:end]).max() > SPEED:
            drop[e] = ["the block goes left"]
    Selection(clips.meta["dataset_hash"], drop).save(args.out)
    print(f"{len(drop)} of {len(clips)} episodes are left out: {args.out}")


def measure(args: argparse.Namespace) -> None:
    from wm_gym.common.statistics import rate
    from wm_gym.engine.rollout import roll_out
    from wm_gym.engine.torch import TorchEngine
    from wm_gym.physics.push import BESIDE
    from wm_gym.physics.tracked import tracked_by
    from wm_gym.worlds.world import World

    env = gym.make("wm_gym/PushPyBullet-v0", render_mode="rgb_array").unwrapped
    tracked = tracked_by(env)
    column, low, high = list(tracked.position), env.action_space.low, env.action_space.high
    commands = {
        way: np.tile(np.array([0.0, high[1] if sign > 0 else low[1]], np.float32), (STEPS, 1))
        for way, sign in SIDES.items()
    }
    commands |= {"away": np.tile([high[0], 0.0], (STEPS, 1)), "near": np.tile([low[0], 0.0], (STEPS, 1))}
    starts: dict[str, list] = {way: [] for way in SIDES}
    seed = 0
    while min(map(len, starts.values())) < args.n:
        _, info = env.reset(seed=seed)
        seed += 1
        state = env.get_physics_state()
        foot, block = np.array(info["proprioception"][:2]), state[column]
        side, along = sideways(foot) - sideways(block), abs(foot[0] - block[0])
        for way, sign in SIDES.items():
            room = sideways(block) * -sign + 0.06
            if BESIDE < -sign * side < BESIDE + 0.05 and along < 0.02 and room > 0.05 and len(starts[way]) < args.n:
                starts[way].append((state, env.render(), info["proprioception"]))
    result: dict = {"n": args.n, "steps": STEPS}
    frames_of, moved_of = [], []
    truth = {}
    for way, begun in starts.items():
        for order, actions in commands.items():
            last, moves = [], []
            for state, _, _ in begun:
                env.reset(options={"physics_state": state})
                for action in actions:
                    env.step(action.astype(np.float32))
                last.append(env.render())
                moves.append(env.get_physics_state()[column] - state[column])
                frames_of.append(last[-1])
                moved_of.append(env.get_physics_state()[column])
            truth[way, order] = np.array(moves)
    read = block_decoder(np.stack(frames_of), np.stack(moved_of), tracked)
    rng = np.random.default_rng(0)
    for name in args.worlds:
        world, name = World.from_pretrained(name), Path(name).name
        engine = TorchEngine(world)
        result[name] = {"trained_on": world.spec.trained_on}
        for way, begun in starts.items():
            pictures, poses = np.stack([b[1] for b in begun]), np.stack([b[2] for b in begun]).astype(np.float32)
            before, went = read(pictures), {}
            for order, actions in commands.items():
                made = roll_out(
                    world,
                    pictures[:, None],
                    np.tile(actions, (len(begun), 1, 1)).astype(np.float32),
                    poses[:, None],
                    engine=engine,
                )["frame"][:, -1]
                went[order] = read(made) - before
            half = np.linalg.norm(truth[way, way], axis=1) / 2
            drawn = rng.choice(list(commands), len(begun))
            chance = np.stack([went[order][i] for i, order in enumerate(drawn)])
            result[name][way] = {
                "obeyed": rate(goes(went[way], way, half)),
                "chance": rate(goes(chance, way, half)),
                "mirrored command": rate(goes(went["right" if way == "left" else "left"], way, half)),
                "lost": rate(np.isnan(went[way]).any(1)),
                "median_cm": float(100 * np.nanmedian(SIDES[way] * sideways(went[way]))),
            }
    for way in SIDES:
        half = np.linalg.norm(truth[way, way], axis=1) / 2
        result.setdefault("physics", {})[way] = {
            "obeyed": rate(goes(truth[way, way], way, half)),
            "median_cm": float(100 * np.median(SIDES[way] * sideways(truth[way, way]))),
        }
    wrong = np.linalg.norm(read(np.stack(frames_of)) - np.stack(moved_of), axis=1)
    result["reader_cm"] = float(100 * np.nanmedian(wrong))
    write_results("directive", result)


def goes(moves: np.ndarray, way: str, least: np.ndarray) -> np.ndarray:
    """bool [N]: displacements [N, 2] of at least so many metres, within 45 degrees of a way; nan is none."""
    length, along = np.linalg.norm(moves, axis=1), SIDES[way] * sideways(moves)
    with np.errstate(invalid="ignore"):
        return (length >= np.maximum(least, 0.005)) & (along >= np.cos(np.pi / 4) * length)


def block_decoder(frames: np.ndarray, positions: np.ndarray, tracked):
    """Frames -> block [N, 2] in metres: the centre of its pixels, to metres by least squares on physics' own frames."""

    def centre(pictures: np.ndarray) -> np.ndarray:
        mask = np.stack([tracked.mask(picture) for picture in pictures])
        y, x = np.indices(mask.shape[1:])
        area = np.where((n := mask.sum((1, 2))) >= 10, n, np.nan)
        return np.stack([(mask * axis).sum((1, 2)) / area for axis in (x, y)], 1)

    def terms(c: np.ndarray) -> np.ndarray:
        return np.stack([np.ones(len(c)), c[:, 0], c[:, 1], c[:, 0] * c[:, 1], c[:, 1] ** 2], 1)

    seen = centre(frames)
    good = np.isfinite(seen).all(1)
    fit = np.linalg.lstsq(terms(seen[good]), positions[good], rcond=None)[0]
    return lambda pictures: terms(centre(pictures)) @ fit


def main() -> None:
    parser = command(__doc__, BARS)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("filter")
    one.add_argument("dataset")
    one.add_argument("--out", required=True)
    one.set_defaults(run=make_filter)
    two = commands.add_parser("measure")
    two.add_argument("worlds", nargs="+")
    two.add_argument("--n", type=int, default=200)
    two.set_defaults(run=measure)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
