"""Does the Push world keep the block where physics does? Ceiling, floor and controls beside it.

    python benchmarks/push.py WORLD TRAIN_DATASET HELD_OUT_DATASET [--beside OTHER_WORLD ... --name NAME]

Held-out episodes in which physics moves the block >= 5 cm, same starts and actions. `state model`: an MLP on simulator
states, trained on the same transitions (ceiling). `chaos`: PyBullet against itself, its block put 2 mm and 3 degrees
off at the start (floor). `frozen` repeats the first frame, `deaf` is the world given zero actions, `real frames` are
physics' own, read as the generated ones are. Motion without contact is told from the median of three readings, where
the block is found; where it is not, it counts as lost. Worlds beside the first are read by the same network, which
has learned the first one's reconstructions: let them share its tokenizer.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gymnasium as gym
import numpy as np
from common import write_results

import wm_gym  # noqa: F401
from wm_gym.data import ClipData, open_clips
from wm_gym.engine import make_engine
from wm_gym.evaluation.contact import contact_ratio, motion_without_contact, object_errors, square_gap
from wm_gym.evaluation.state_decoder import fit_state_decoder
from wm_gym.evaluation.state_model import fit_state_model
from wm_gym.physics.push import BESIDE, PushTask
from wm_gym.shared import load_world
from wm_gym.training.report import roll_out
from wm_gym.world import World

HORIZONS = (1, 10, 25, 50)
BLOCK = slice(23, 25)  # x and y of the block in the physics state
TURN = slice(28, 30)  # z and w of its quaternion
WIDTH = float(np.linalg.norm(PushTask.high - PushTask.low))  # of the workspace: the error of a block not found
MOVED, TOUCHED, CLEAR, STILL = 0.05, 0.002, 0.015, 0.005  # metres


def states(clips: ClipData) -> np.ndarray:
    """Foot and block x, y (metres) and the block's turn as sin, cos of 4 yaw (a square): float32 [N, 6]."""
    z, w = np.asarray(clips.physics_state[:, TURN]).T
    yaw = 2 * np.arctan2(z, w)
    return np.concatenate([clips.proprioception[:, :2], clips.physics_state[:, BLOCK],
                           np.stack([np.sin(4 * yaw), np.cos(4 * yaw)], axis=1)], axis=1).astype(np.float32)


def jittered(env: gym.Env, state: np.ndarray, actions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Block positions [n+1, 2] of the twin from a start 2 mm and 3 degrees off."""
    off, angle = state.copy(), rng.uniform(0, 2 * np.pi)
    off[BLOCK] += 0.002 * np.array([np.cos(angle), np.sin(angle)])
    turn = np.arctan2(*off[TURN]) + rng.choice([-1, 1]) * np.radians(3) / 2
    off[TURN] = np.sin(turn), np.cos(turn)
    env.reset(options={"physics_state": off})
    positions = [env.unwrapped.get_physics_state()[BLOCK]]
    for action in actions:
        env.step(action)
        positions.append(env.unwrapped.get_physics_state()[BLOCK])
    return np.array(positions)


def steady(positions: np.ndarray) -> np.ndarray:
    """Each position [E, n+1, D] as the median of itself and its neighbours in time: one stray reading is no motion."""
    padded = np.pad(positions, ((0, 0), (1, 1), (0, 0)), mode="edge")
    return np.median([padded[:, :-2], padded[:, 1:-1], padded[:, 2:]], axis=0)


def block_area(frames: np.ndarray) -> np.ndarray:
    """Pixels of the block's yellow in frames [..., H, W, 3]."""
    r, g, b = np.moveaxis(frames.astype(np.int16), -1, 0)
    return ((r > 120) & (g > 80) & (r - b > 70) & (g - b > 40)).sum((-2, -1))


def pushed_rows(held: ClipData, told: np.ndarray, episodes: int) -> np.ndarray:
    """Rows [E, n+1] of held-out episodes, at most so many, in which physics moves the block >= 5 cm; told: `states`."""
    n = max(HORIZONS)
    start = held.episode_offset[:-1][np.diff(held.episode_offset) > n]
    moved = np.linalg.norm(told[start + n, 2:4] - told[start, 2:4], axis=1) >= MOVED
    return start[moved][:episodes, None] + np.arange(n + 1)


def read_pushes(decoder, made: np.ndarray, frames: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Foot and block [E, n+1, 4] read off made frames [E, n, H, W, 3], row 0 true; bool [E, n+1] where it is lost.

    frames [E, n+1, H, W, 3] and truth [E, n+1, S] are physics'; lost: less than 0.3 of the pixels that physics shows.
    """
    area = np.maximum(block_area(frames), 1)
    lost = np.concatenate([np.zeros((len(made), 1), bool), block_area(made) < 0.3 * area[:, 1:]], axis=1)
    return np.concatenate([truth[:, :1, :4], decoder.read(made)], axis=1), lost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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

    known, told = states(clips), states(held)
    report = fit_state_decoder(clips.frames, known[:, :4], held.frames[::7], told[::7, :4],
                               views=world.tokenizer.round_trip, updates=args.updates)
    error = np.linalg.norm(report.decoder.read(held.frames[::7])[:, 2:] - told[::7, 2:4], axis=1)

    rows = pushed_rows(held, told, args.episodes)
    truth, frames, actions = told[rows], held.frames[rows], held.action[rows[:, :-1]]
    poses = held.proprioception[rows[:, :1]]

    def acted(some: World, taken: np.ndarray) -> np.ndarray:
        return roll_out(some, frames[:, :1], taken, poses, engine=make_engine(some))["frame"]

    made = {"world": acted(world, actions), **{Path(w).name: acted(load_world(w), actions) for w in args.beside},
            "deaf": acted(world, np.zeros_like(actions)),
            "frozen": np.repeat(frames[:, :1], max(HORIZONS), axis=1), "real frames": frames[:, 1:]}
    found, lost = {}, {}
    for name, pictures in made.items():
        found[name], lost[name] = read_pushes(report.decoder, pictures, frames, truth)
    nothing = np.zeros(truth.shape[:2], bool)
    model = fit_state_model(known, clips.action, clips.episode_offset, args.model_updates)
    found["state model"] = model.roll_out(truth[:, 0], actions)[..., :4]
    env, rng = gym.make(world.spec.twin, render_mode=None, terminate_on_success=False), np.random.default_rng(0)
    chaos = np.stack([jittered(env, np.asarray(held.physics_state[r[0]], np.float64), a, rng)
                      for r, a in zip(rows, actions)])
    found["chaos"] = np.concatenate([truth[..., :2], chaos], axis=-1)
    env.close()

    touched = np.linalg.norm(np.diff(truth[..., 2:4], axis=1), axis=-1) > TOUCHED
    numbers = {"episodes": len(rows), "decoder_block_cm_median": 100 * float(np.median(error)),
               "decoder_block_cm_p95": 100 * float(np.quantile(error, 0.95)), "workspace_width_cm": 100 * WIDTH}
    for name, position in found.items():
        gap = square_gap(position[..., :2], position[..., 2:4], BESIDE)
        gone, block = lost.get(name, nothing), position[..., 2:4]
        numbers[name] = object_errors(block, truth[..., 2:4], gone, WIDTH, HORIZONS) | {
            "displacement_in_contact": contact_ratio(block, truth[..., 2:4], touched),
            "motion_without_contact": motion_without_contact(steady(block), gap, gone, CLEAR, STILL),
            "motion_without_contact_single_readings": motion_without_contact(block, gap, gone, CLEAR, STILL)}
    write_results(f"push_{args.name or world.spec.name}", {"world_folder": args.world, **numbers})


if __name__ == "__main__":
    main()
