"""Which clips of a recording would teach a world model something wrong, and why?

Each filter looks at all episodes and names those that it would leave out; nothing is deleted. Most compare an episode
with the dataset's median episode, so they need no threshold for a camera, and none fires where all episodes are alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from wm_gym.data.clips import ClipData
from wm_gym.data.curation.selection import Selection
from wm_gym.data.curation.summary import wraps
from wm_gym.data.resize import resize_area

SIDE = 48  # the shorter side at which frames are looked at


@dataclass
class Finding:
    """What one filter found."""

    name: str
    what: str
    """What it looks for."""
    found: dict[int, tuple[float, int]] = field(default_factory=dict)
    """{episode: (score, frame to show)}."""
    threshold: str = ""


@dataclass
class Lag:
    """By how many frames the video follows its actions, beyond the next one."""

    lag: int = 0
    """0 unless 95 % of the bootstrap samples agree on another."""
    best: int = 0
    """The one with the largest R2."""
    r2: dict[int, float] = field(default_factory=dict)
    """{lag: R2}; empty where there are too few episodes to estimate it."""
    share: float = 0.0
    """Of bootstrap samples of the episodes whose best lag is `best`."""


@dataclass
class Curation:
    """What was found in a recording."""

    findings: list[Finding]
    cuts: dict[int, list[int]]
    """{episode: the first rows after a cut}."""
    lag: Lag
    angles: dict[str, int]
    """{action: how often it wraps around}."""
    successes: int | None
    """How many episodes succeed; None where nobody said."""
    selection: Selection


class Looks:
    """What the filters know of one dataset: how its small grey frames look and change, an array an episode."""

    def __init__(self, clips: ClipData, progress: bool = True) -> None:
        from tqdm import tqdm

        self.clips, self.offset = clips, clips.episode_offset
        self.change: list[np.ndarray] = []
        self.moved: list[np.ndarray] = []
        self.residual: list[np.ndarray] = []
        self.sharpness: list[np.ndarray] = []
        self.light: list[np.ndarray] = []
        self.clipped: list[np.ndarray] = []
        self.small: list[np.ndarray] = []
        for e in tqdm(range(len(clips)), unit="episode", desc="looking", disable=not progress):
            grey = self._grey(np.asarray(clips.frames[self.offset[e] : self.offset[e + 1]]))
            change = np.abs(np.diff(grey, axis=0))
            self.change.append(change.mean((1, 2)))
            self.moved.append((change > 8).mean((1, 2)))
            self.residual.append(_flow_residual(grey))
            self.sharpness.append(_sharpness(grey))
            self.light.append(grey.mean((1, 2)))
            self.clipped.append(((grey < 6) | (grey > 249)).mean((1, 2)))
            self.small.append(resize_area(grey[..., None].astype(np.uint8), (8, 8))[..., 0].astype(np.float32))

    def _grey(self, frames: np.ndarray) -> np.ndarray:
        scale = SIDE / min(frames.shape[1:3])
        if scale < 1:
            frames = resize_area(frames, (round(frames.shape[1] * scale), round(frames.shape[2] * scale)))
        return frames.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)


def curate(clips: ClipData, max_lag: int = 3, progress: bool = True) -> Curation:
    """What every filter finds in a recording; training takes its `selection`."""
    looks = Looks(clips, progress)
    cuts, cut = find_cuts(looks)
    findings = [still(looks), jerky(looks), cut, blurred(looks), exposed(looks), duplicates(looks), outliers(looks)]
    lag = action_lag(looks, max_lag)
    drop: dict[int, list[str]] = {}
    for one in findings:
        if one.name != "cut":
            for e in one.found:
                drop.setdefault(e, []).append(one.name)
    of = clips.numbers
    selection = Selection(
        clips.meta["dataset_hash"],
        {of[e]: why for e, why in drop.items()},
        {of[e]: rows for e, rows in cuts.items()},
        lag.lag,
    )
    names = clips.meta["action_names"]
    angles = {name: int(n) for name, n in zip(names, wraps(clips.action, clips.episode_offset)) if n}
    successes = int(clips.episode_success.sum()) if clips.meta["has_success"] else None
    return Curation(findings, cuts, lag, angles, successes, selection)


def without(curation: Curation, filters: Iterable[str]) -> Curation:
    """A Curation that does not act on some filters ("lag": its correction); ValueError for an unknown one."""
    filters, known = list(filters), [*(one.name for one in curation.findings), "lag"]
    for name in filters:
        if name not in known:
            raise ValueError(f"unknown filter {name!r}; expected one of {', '.join(known)}")
    old = curation.selection
    drop = {e: [name for name in why if name not in filters] for e, why in old.drop.items()}
    new = replace(
        old,
        drop={e: why for e, why in drop.items() if why},
        cut={} if "cut" in filters else old.cut,
        action_lag=0 if "lag" in filters else old.action_lag,
    )
    return replace(curation, selection=new)


def still(looks: Looks) -> Finding:
    """Find episodes in which nothing moves: almost no pixel ever changes by more than noise does."""
    level = np.array([moved.mean() if len(moved) else 0.0 for moved in looks.moved])
    limit = 0.05 * np.median(level)
    return Finding(
        "still",
        "nothing moves",
        {int(e): (float(level[e]), 0) for e in np.flatnonzero(level <= limit)},
        f"at most {limit:.2g} of its pixels change by more than 8 levels, 5 % of the median episode's",
    )


def jerky(looks: Looks) -> Finding:
    """Find episodes with frames repeated or skipped: motion stops dead and is made up for at once, again and again."""
    found: dict[int, tuple[float, int]] = {}
    for e, change in enumerate(looks.change):
        if len(change) < 8:
            continue
        middle, leap = change[2:-2], change[3:-1]
        usual = np.median(np.stack([change[:-4], change[1:-3], change[4:]]), 0)
        stop = (middle < 0.1 * usual) & (leap > 1.4 * usual) & (usual > 0.3)
        share = stop.sum() / max((usual > 0.3).sum(), 1)
        if share > 0.08 and stop.sum() >= 3:
            found[e] = (float(share), int(np.flatnonzero(stop)[0]) + 3)
    return Finding(
        "jerky",
        "frames are repeated or skipped",
        found,
        "in more than 8 % of its moving frames motion stops, then leaps",
    )


def find_cuts(looks: Looks) -> tuple[dict[int, list[int]], Finding]:
    """Find jumps to another picture: a change far above the episode's own that optical flow cannot explain."""
    cuts: dict[int, list[int]] = {}
    found: dict[int, tuple[float, int]] = {}
    usual = np.median([np.quantile(r, 0.95) for r in looks.residual if len(r)])
    for e, residual in enumerate(looks.residual):
        if len(residual) < 4:
            continue
        limit = max(4 * np.quantile(residual, 0.75), 2.5 * usual, 1.5)
        around = np.pad(residual, 1)
        alone = residual > 2 * np.maximum(around[:-2], around[2:])  # what moves fast does so for more than a frame
        at = np.flatnonzero((residual > limit) & alone) + 1
        if len(at):
            cuts[e] = at.tolist()
            found[e] = (float(residual.max() / limit), int(at[0]))
    return cuts, Finding(
        "cut",
        "the picture jumps; the episode is split there",
        found,
        "what optical flow leaves of a change is 4 times the episode's 75 % and 2.5 times the "
        "dataset's 95 % quantile, and twice that of the frames beside it",
    )


def blurred(looks: Looks) -> Finding:
    """Find episodes out of focus: the variance of their Laplacian is below a third of the dataset's median."""
    level = np.array([np.median(x) for x in looks.sharpness])
    limit = np.median(level) / 3
    return Finding(
        "blurred",
        "out of focus",
        {int(e): (float(level[e] / np.median(level)), 0) for e in np.flatnonzero(level < limit)},
        "the Laplacian's variance is below a third of the median episode's",
    )


def exposed(looks: Looks) -> Finding:
    """Find episodes too dark or too bright: light far from the dataset's, and pixels that are clipped."""
    light, clipped = (np.array([np.median(x) for x in values]) for values in (looks.light, looks.clipped))
    spread = max(1.4826 * np.median(np.abs(light - np.median(light))), 6.0)
    far = np.abs(light - np.median(light)) / spread
    bad = (far > 6) | (clipped > np.median(clipped) + 0.3)
    return Finding(
        "exposure",
        "too dark or too bright",
        {int(e): (float(far[e]), 0) for e in np.flatnonzero(bad)},
        "its light is 6 spreads from the dataset's median, or 30 % more of its pixels are clipped",
    )


def duplicates(looks: Looks) -> Finding:
    """Find episodes whose pictures and actions are those of an earlier one."""
    found: dict[int, tuple[float, int]] = {}
    seen: list[tuple[int, np.ndarray, np.ndarray]] = []
    for e, small in enumerate(looks.small):
        picked = small[np.linspace(0, len(small) - 1, 8).round().astype(int)]
        action = looks.clips.action[looks.offset[e] : looks.offset[e + 1]]
        action = action[np.linspace(0, len(action) - 1, 16).round().astype(int)]
        for other, pictures, actions in seen:
            if (
                np.abs(picked - pictures).mean() < 1.0
                and np.abs(picked - pictures).max() < 8
                and np.allclose(action, actions, atol=1e-3)
            ):
                found[e] = (float(looks.clips.numbers[other]), 0)
                break
        else:
            seen.append((e, picked, action))
    return Finding(
        "duplicate",
        "the same as an earlier episode (the score is its number)",
        found,
        "pictures differ by less than 1 of 255 levels, actions not at all",
    )


def outliers(looks: Looks) -> Finding:
    """Find episodes with actions or states far outside those of the others; jumps of angles at +-pi do not count."""
    found: dict[int, tuple[float, int]] = {}
    for values in (looks.clips.action, looks.clips.proprioception):
        if not values.shape[1]:
            continue
        middle = np.median(values, 0)
        spread = np.maximum(np.quantile(np.abs(values - middle), 0.99, axis=0), 1e-6)
        far = (np.abs(values - middle) / spread).max(1)
        for e in range(len(looks.clips)):
            part = far[looks.offset[e] : looks.offset[e + 1]]
            if part.max() > 8 and part.max() > found.get(e, (0, 0))[0]:
                found[e] = (float(part.max()), int(part.argmax()))
    return Finding(
        "outlier",
        "an action or state far outside the others",
        found,
        "8 times as far from the median as 99 % of the values are",
    )


def action_lag(looks: Looks, max_lag: int = 3) -> Lag:
    """Estimate by how many frames the video follows its actions, beyond the next one.

    How much a frame changes is regressed on the action's size and change `lag` frames before (ridge regression; R^2 on
    the other half of the episodes, `lag` from -max_lag to max_lag).
    """
    lags = list(range(-max_lag, max_lag + 1))
    scale = np.maximum(looks.clips.action.std(0), 1e-6)
    pieces = []
    for e, change in enumerate(looks.change):
        action = looks.clips.action[looks.offset[e] : looks.offset[e + 1]] / scale
        if len(change) < 4 * max_lag + 8:
            continue
        step = np.diff(action, axis=0, append=action[-1:])
        step = np.where(np.abs(step * scale) > np.pi, 0, step)  # an angle that wrapped
        size, moved = np.linalg.norm(action - action.mean(0), axis=1), np.linalg.norm(step, axis=1)
        x = np.stack([size, moved, np.roll(moved, 1)], 1)
        t = np.arange(max_lag + 1, len(change) - max_lag - 1)
        y = np.log(change[t] + 0.1)
        if len(t) >= 8 and y.std() > 1e-3:
            pieces.append(((y - y.mean()), np.stack([x[t - lag] - x[t - lag].mean(0) for lag in lags])))
    if len(pieces) < 4:
        return Lag()
    error = np.zeros((len(pieces), len(lags)))
    total = np.array([(y**2).sum() for y, _ in pieces])
    for half in (0, 1):
        fit, test = [range(side, len(pieces), 2) for side in (half, 1 - half)]
        for k in range(len(lags)):
            x, y = np.concatenate([pieces[i][1][k] for i in fit]), np.concatenate([pieces[i][0] for i in fit])
            w = np.linalg.solve(x.T @ x + 1e-2 * len(x) * np.eye(x.shape[1]), x.T @ y)
            for i in test:
                error[i, k] = ((pieces[i][0] - pieces[i][1][k] @ w) ** 2).sum()
    r2 = 1 - error.sum(0) / total.sum()
    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(pieces), (1000, len(pieces)))
    best = np.argmin(error[draws].sum(1), 1)
    lag = lags[int(np.argmax(r2))]
    share = float((np.array(lags)[best] == lag).mean())
    return Lag(lag if share >= 0.95 else 0, lag, {lag: float(v) for lag, v in zip(lags, r2)}, share)


def _sharpness(grey: np.ndarray) -> np.ndarray:
    """Variance of the Laplacian over that of the picture, which light and contrast leave as it is -> [L]."""
    beside = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    laplacian = 4 * grey[:, 1:-1, 1:-1] - beside
    return laplacian.var((1, 2)) / np.maximum(grey.var((1, 2)), 1.0)


def _flow_residual(grey: np.ndarray) -> np.ndarray:
    """What is left of each change of picture after the flow from one to the other is taken out -> [L - 1]."""
    import cv2

    flow_of = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    height, width = grey.shape[1:]
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
    left = []
    for before, after in zip(grey[:-1], grey[1:]):
        change = np.abs(after - before).mean()
        if change > 2:
            # OpenCV's stubs do not know that the first flow and the second map may be None
            flow = flow_of.calc(after.astype(np.uint8), before.astype(np.uint8), None)  # type: ignore[call-overload]
            places, edges = grid + flow, cv2.BORDER_REPLICATE
            moved = cv2.remap(before, places, None, cv2.INTER_LINEAR, borderMode=edges)  # type: ignore[call-overload]
            change = min(change, np.abs(after - moved).mean())
        left.append(change)
    return np.array(left)
