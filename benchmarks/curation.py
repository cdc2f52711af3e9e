"""How well does `wm-gym data curate` find what is wrong? Defects of each kind are put into a clean recording.

python benchmarks/curation.py RECORDING                  # e.g. 350 episodes of the Push twin
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from common import Bar, command, write_results

from wm_gym.data import open_clips
from wm_gym.data.curation.curate import curate

KINDS = ("still", "jerky", "cut", "blurred", "exposure", "duplicate", "outlier")
BARS = {
    f"curation_{name}": [
        *(Bar(f"{kind}, recall", (kind, "recall"), show="{:.0%}") for kind in KINDS),
        *(Bar(f"{kind}, precision", (kind, "precision"), show="{:.0%}") for kind in KINDS),
        Bar(
            "lags estimated wrong",
            lambda found: sum(int(lag) != row["estimated"] for lag, row in found["lag"].items()),
            show="{:d} of 4",
        ),
    ]
    for name in ("push-held", "drawer-cal", "reach-cal")
}


def damage(kind: str, e: int, frames: np.ndarray, action: np.ndarray, offset: np.ndarray, rng) -> int | None:
    """Put one defect into episode e in place -> the row of a cut."""
    start, end = offset[e : e + 2]
    part = frames[start:end]
    if kind == "still":
        part[:] = np.clip(part[:1] + rng.integers(-1, 2, part.shape), 0, 255)
    elif kind == "jerky":
        for t in range(2, len(part), 4):
            part[t] = part[t - 1]
    elif kind == "cut":
        other = int(rng.choice(np.setdiff1d(np.arange(len(offset) - 1), [e])))
        t = int(rng.integers(8, len(part) - 8))
        length = min(len(part) - t, offset[other + 1] - offset[other] - t)
        part[t : t + length] = frames[offset[other] + t : offset[other] + t + length]
        action[start + t : start + t + length] = action[offset[other] + t : offset[other] + t + length]
        return t
    elif kind == "blurred":
        part[:] = [cv2.GaussianBlur(frame, (0, 0), 2) for frame in part]
    elif kind == "exposure":
        part[:] = np.clip(part * rng.choice([0.3, 2.5]), 0, 255)
    elif kind == "duplicate":
        other = e - 1
        length = min(len(part), offset[other + 1] - offset[other])
        part[:length] = np.clip(
            frames[offset[other] : offset[other] + length].astype(int) + rng.integers(-1, 2, part[:length].shape),
            0,
            255,
        )
        action[start : start + length] = action[offset[other] : offset[other] + length]
    elif kind == "outlier":
        action[rng.integers(start, end)] = rng.choice([-20, 20], action.shape[1])
    return None


def main() -> None:
    parser = command(__doc__, BARS)
    parser.add_argument("recording")
    parser.add_argument("--each", type=int, default=20, help="episodes with each defect (default: 20)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    clips, rng = open_clips(args.recording), np.random.default_rng(args.seed)
    found = {one.name: sorted(one.found) for one in curate(clips).findings}
    result = {
        "recording": Path(args.recording).name,
        "episodes": len(clips),
        "each": args.each,
        "clean": {name: len(episodes) for name, episodes in found.items()},
    }
    frames, action, offset = np.array(clips.frames[:]), clips.action.copy(), clips.episode_offset
    bad = rng.permutation(np.arange(1, len(clips), 2))[: args.each * len(KINDS)]  # a duplicate's twin stays as it is
    if len(bad) < args.each * len(KINDS):
        parser.error(f"{len(clips)} episodes are too few for {args.each} of each defect; give --each {len(bad) // 7}")
    truth = {kind: sorted(bad[i :: len(KINDS)].tolist()) for i, kind in enumerate(KINDS)}
    at = {e: damage(kind, e, frames, action, offset, rng) for kind in KINDS for e in truth[kind]}
    made = curate(replace(clips, frames=frames, action=action))
    for one in made.findings:
        right = set(one.found) & set(truth[one.name])
        result[one.name] = {
            "found": len(one.found),
            "right": len(right),
            "of": len(truth[one.name]),
            "precision": len(right) / len(one.found) if one.found else None,
            "recall": len(right) / len(truth[one.name]),
        }
    result["cut"]["at_the_frame"] = sum(at[e] in made.cuts.get(e, []) for e in truth["cut"])
    result["lag"] = {}
    for lag in (-1, 0, 1, 2):
        late = clips.action.copy()
        for start, end in zip(offset[:-1], offset[1:]):  # the video follows its actions by so many frames more
            late[start:end] = clips.action[np.clip(np.arange(start, end) + lag, start, end - 1)]
        found = curate(replace(clips, action=late)).lag
        result["lag"][lag] = {"estimated": found.lag, "share": found.share}
    write_results(f"curation_{result['recording']}", result)


if __name__ == "__main__":
    main()
