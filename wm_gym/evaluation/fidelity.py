"""Do generated frames put the end-effector where physics puts it, under the same actions?"""

from __future__ import annotations

import numpy as np

from wm_gym.data.cache import ClipData
from wm_gym.engine import make_engine
from wm_gym.evaluation.state_decoder import DecoderReport
from wm_gym.training.report import mirrored, psnr, roll_out


def fidelity(world, held: ClipData, report: DecoderReport, horizons: tuple[int, ...] = (1, 10, 50),
             backend: str = "auto") -> dict:
    """End-effector error in cm and PSNR at each horizon on whole held-out physics episodes, same start and actions.

    Errors are medians over episodes with their 95th percentiles, PSNRs means. Beside the world: `physics` (the decoder
    on the true frames: the floor), `frozen` (the first frame repeated), `deaf` (the same world given zero actions). The
    state decoder reads the first three proprioception dimensions, the end-effector's position in metres.
    ValueError where no episode is long enough.
    """
    n = max(horizons)
    length = np.diff(held.episode_offset)
    starts = held.episode_offset[:-1][length > n]
    if not len(starts):
        raise ValueError(f"no held-out episode has {n} steps (the longest has {length.max() - 1}); record longer ones")
    rows = starts[:, None] + np.arange(n + 1)
    truth, actions = held.frames[rows], held.action[rows[:, :-1]]
    position = held.proprioception[rows][..., :3]
    poses = held.proprioception[starts][:, None]
    engine = make_engine(world, backend)
    zero = np.clip(np.zeros_like(actions), world.spec.action_low, world.spec.action_high).astype(np.float32)
    rolls = {"world": roll_out(world, truth[:, :1], actions, poses, engine=engine),
             "deaf": roll_out(world, truth[:, :1], zero, poses, engine=engine),
             "mirrored": roll_out(world, truth[:, :1], mirrored(actions, world.spec), poses, engine=engine)}
    made = {name: roll["frame"] for name, roll in rolls.items()}
    made["physics"] = truth[:, 1:]
    made["frozen"] = np.repeat(truth[:, :1], n, axis=1)
    result = {"episodes": len(starts), "horizons": list(horizons), "back-end": engine.name,
              "decoder_median_cm": 100 * report.median_error, "decoder_p95_cm": 100 * report.p95_error}
    ceiling = np.stack([engine.render(engine.encode(truth[:, t:t + 1])).cpu().numpy() for t in horizons], axis=1)
    for i, t in enumerate(horizons):
        row = {}
        for name, frames in made.items():
            error = 100 * np.linalg.norm(report.decoder.read(frames[:, t - 1]) - position[:, t], axis=-1)
            row[name] = {"end_effector_cm_median": float(np.median(error)),
                         "end_effector_cm_p95": float(np.quantile(error, 0.95)),
                         "psnr_db": float(psnr(frames[:, t - 1], truth[:, t]).mean())}
        integrated = 100 * np.linalg.norm(rolls["world"]["proprioception"][:, t - 1, :3] - position[:, t], axis=-1)
        row["integrated_pose_cm_median"] = float(np.median(integrated))
        row["round_trip_psnr_db"] = float(psnr(ceiling[:, i], truth[:, t]).mean())
        row["delta_psnr_true_minus_mirrored_db"] = row["world"]["psnr_db"] - row["mirrored"]["psnr_db"]
        result[f"at_{t}"] = row
    return result
