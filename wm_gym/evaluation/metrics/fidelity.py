"""Do generated frames put the end-effector where physics puts it, under the same actions?"""

from __future__ import annotations

from typing import Any

import numpy as np

from wm_gym.common.metrics import psnr
from wm_gym.data.clips import ClipData
from wm_gym.engine import make_engine
from wm_gym.evaluation.control_worlds import frozen, learned, mirrored, recorded, zero_action
from wm_gym.evaluation.episodes import Episodes
from wm_gym.evaluation.probes.state_decoder import DecoderReport
from wm_gym.worlds.world import World


def fidelity(
    world: World, held: ClipData, report: DecoderReport, horizons: tuple[int, ...] = (1, 10, 50), backend: str = "auto"
) -> dict[str, Any]:
    """End-effector error in cm and PSNR at each horizon on whole held-out physics episodes, same start and actions.

    Errors are medians over episodes with their 95th percentiles, PSNRs means. Beside the world: `physics` (the decoder
    on the true frames: the floor), `frozen` (the first frame repeated), `zero_action` and `mirrored` (the same world
    given zero or mirrored actions). The state decoder reads the first three proprioception dimensions, the
    end-effector's position in metres. Undefined where no episode is long enough.
    """
    episodes = Episodes.of(held, max(horizons))
    truth, position = episodes.frames, episodes.proprioception[..., :3]
    engine = make_engine(world, backend)
    acting = learned(world, engine)
    rolls = {
        "world": acting(episodes),
        "zero_action": zero_action(acting, world.spec)(episodes),
        "mirrored": mirrored(acting, world.spec)(episodes),
        "physics": recorded(episodes),
        "frozen": frozen(episodes),
    }
    result: dict[str, Any] = {
        "episodes": len(episodes),
        "horizons": list(horizons),
        "back-end": engine.name,
        "decoder_median_cm": 100 * report.median_error,
        "decoder_p95_cm": 100 * report.p95_error,
    }
    ceiling = np.stack([engine.render(engine.encode(truth[:, t : t + 1])).cpu().numpy() for t in horizons], axis=1)
    for i, t in enumerate(horizons):
        row: dict[str, Any] = {}
        for name, roll in rolls.items():
            frames = roll["frame"][:, t - 1]
            error = 100 * np.linalg.norm(report.decoder.read(frames) - position[:, t], axis=-1)
            row[name] = {
                "end_effector_cm_median": float(np.median(error)),
                "end_effector_cm_p95": float(np.quantile(error, 0.95)),
                "psnr_db": float(psnr(frames, truth[:, t]).mean()),
            }
        integrated = 100 * np.linalg.norm(rolls["world"]["proprioception"][:, t - 1, :3] - position[:, t], axis=-1)
        row["integrated_pose_cm_median"] = float(np.median(integrated))
        row["round_trip_psnr_db"] = float(psnr(ceiling[:, i], truth[:, t]).mean())
        row["delta_psnr_true_minus_mirrored_db"] = row["world"]["psnr_db"] - row["mirrored"]["psnr_db"]
        result[f"at_{t}"] = row
    return result
