"""What are the statistics that LeRobotDataset keeps of an episode, and how do they add up?

Each feature has min, max, mean, std, count and the quantiles q01 q10 q50 q90 q99; images in [0, 1], a channel each
as [3, 1, 1]. As in lerobot, the dataset's quantiles are count-weighted means of the episodes' quantiles.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
STATISTICS = ("min", "max", "mean", "std", "count", *QUANTILES)
MAX_FRAMES = 100  # frames of an episode that image statistics look at
MAX_SIDE = 160  # larger pictures are strided down to about this

Stats = dict[str, np.ndarray]
"""The statistics of one feature by their names."""


def vector_stats(values: np.ndarray) -> Stats:
    """The statistics [D] of one column [L, D] of an episode, and its count [1]."""
    real = values.astype(np.float64)
    stats = {
        "min": values.min(0),
        "max": values.max(0),
        "mean": real.mean(0),
        "std": real.std(0),
        "count": np.array([len(values)], np.int64),
    }
    quantiles = np.quantile(real, list(QUANTILES.values()), axis=0)
    return stats | dict(zip(QUANTILES, quantiles))


def image_stats(frames: np.ndarray) -> Stats:
    """The statistics [3, 1, 1] in [0, 1] of one camera's frames uint8 [L, H, W, 3], and their count [1]."""
    stride = -(-max(frames.shape[1:3]) // MAX_SIDE)
    pick = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), MAX_FRAMES)).round().astype(int))
    pixels = frames[pick][:, ::stride, ::stride]
    levels = np.arange(256) / 255.0
    stats = {key: np.empty((3, 1, 1)) for key in STATISTICS} | {"count": np.array([len(pick)], np.int64)}
    for channel in range(3):
        share = np.bincount(pixels[..., channel].ravel(), minlength=256) / pixels[..., channel].size
        cumulative, seen = np.cumsum(share), np.flatnonzero(share)
        mean = (share * levels).sum()
        stats["min"][channel], stats["max"][channel] = levels[seen[0]], levels[seen[-1]]
        stats["mean"][channel], stats["std"][channel] = mean, np.sqrt((share * (levels - mean) ** 2).sum())
        for key, q in QUANTILES.items():
            stats[key][channel] = levels[min(int(np.searchsorted(cumulative, q)), 255)]
    return stats


def aggregate(episodes: Sequence[dict[str, Stats]]) -> dict[str, Stats]:
    """The statistics {feature: ...} of a dataset, added up from those of its episodes."""
    return {key: _added([episode[key] for episode in episodes]) for key in episodes[0]}


def _added(each: list[Stats]) -> Stats:
    count = np.array([int(np.ravel(e["count"])[0]) for e in each], np.int64)

    def weighted(values: np.ndarray | list[np.ndarray]) -> np.ndarray:
        return np.tensordot(count / count.sum(), np.asarray(values, np.float64), axes=1)

    means = np.asarray([e["mean"] for e in each], np.float64)
    mean = weighted(means)
    variance = weighted(np.asarray([e["std"] for e in each], np.float64) ** 2 + (means - mean) ** 2)
    total = {
        "min": np.min([e["min"] for e in each], axis=0),
        "max": np.max([e["max"] for e in each], axis=0),
        "mean": mean,
        "std": np.sqrt(variance),
        "count": np.array([count.sum()]),
    }
    return total | {q: weighted([e[q] for e in each]) for q in QUANTILES}
