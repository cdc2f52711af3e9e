"""Which episodes and frames of a dataset does training take? The filter list of `wm-gym data curate`, applied."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from wm_gym.common.files import write_json
from wm_gym.data.clips import ClipData, hashed
from wm_gym.data.formats.lerobot_schema import DatasetError, read_json
from wm_gym.data.frames import SelectedFrames


@dataclass
class Selection:
    """A filter list: nothing of the dataset is deleted or changed by it. Episodes have the dataset's own numbers."""

    dataset: str
    """The content hash that it was made for."""
    drop: dict[int, list[str]] = field(default_factory=dict)
    """{episode: why}."""
    cut: dict[int, list[int]] = field(default_factory=dict)
    """{episode: the first rows after a cut}, where the episode becomes two."""
    action_lag: int = 0
    """The frames by which the video follows its actions beyond the usual next one; training then pairs row t with
    action t - action_lag."""

    def save(self, path: str | Path) -> None:
        """Write the filter list as JSON."""
        write_json(path, asdict(self), indent=1)

    @classmethod
    def load(cls, path: str | Path) -> Selection:
        """Read a filter list; DatasetError where it is none."""
        path = Path(path)
        if not path.is_file():
            raise DatasetError(f"no filter list at {path}; make one with: wm-gym data curate DATASET --out {path}")
        value = read_json(path)
        try:
            made = cls(
                str(value["dataset"]),
                {int(e): list(why) for e, why in value.get("drop", {}).items()},
                {int(e): [int(t) for t in at] for e, at in value.get("cut", {}).items()},
                int(value.get("action_lag", 0)),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DatasetError(
                f"{path} is no filter list ({type(error).__name__}: {error}); make one with: "
                f"wm-gym data curate DATASET --out {path}"
            ) from None
        return made


def select(clips: ClipData, selection: Selection) -> ClipData:
    """The rows of a recording that a Selection leaves; DatasetError where none are left."""
    if selection.dataset != clips.meta["dataset_hash"]:
        raise DatasetError(
            f"the filter list was made for the dataset {selection.dataset}, {clips.meta['dataset']} is "
            f"{clips.meta['dataset_hash']}; make it anew with: wm-gym data curate "
            f"{clips.meta['dataset']} --out FILE.json"
        )
    parts: list[tuple[int, np.ndarray]] = []
    lag = selection.action_lag
    for e, (number, start, end) in enumerate(zip(clips.numbers, clips.episode_offset[:-1], clips.episode_offset[1:])):
        if number in selection.drop:
            continue
        edges = [0, *sorted(t for t in selection.cut.get(number, []) if 0 < t < end - start), end - start]
        for first, stop in zip(edges[:-1], edges[1:]):
            part = np.arange(start + first + max(lag, 0), start + stop + min(lag, 0))
            if len(part) >= 2:
                parts.append((e, part))
    if not parts:
        raise DatasetError(f"the filter list leaves nothing of {clips.meta['dataset']}; drop less")
    episodes = [e for e, _ in parts]
    rows = np.concatenate([part for _, part in parts])
    digest = hashed(json.dumps([clips.meta["dataset_hash"], asdict(selection)], sort_keys=True))
    tasks, numbers = clips.meta["tasks"], clips.numbers
    return replace(
        clips,
        frames=SelectedFrames(clips.frames, rows),
        action=clips.action[rows - lag],
        proprioception=clips.proprioception[rows],
        reward=clips.reward[rows],
        success=clips.success[rows],
        terminated=clips.terminated[rows],
        episode_offset=np.cumsum([0, *(len(part) for _, part in parts)]),
        physics_state=None if clips.physics_state is None else clips.physics_state[rows],
        episode_success=clips.episode_success[episodes],
        meta=clips.meta
        | {"dataset_hash": digest, "tasks": [tasks[e] for e in episodes], "episodes": [numbers[e] for e in episodes]},
    )


def without_actions(clips: ClipData) -> ClipData:
    """The same video as ClipData without action and proprioception [N, 0], for pretraining on video alone."""
    nobody = np.zeros((len(clips.frames), 0), np.float32)
    return replace(
        clips,
        action=nobody,
        proprioception=nobody,
        meta=clips.meta
        | {
            "action_names": [],
            "action_low": [],
            "action_high": [],
            "proprioception_names": [],
            "spaces": {},
            "dataset_hash": hashed(f"{clips.meta['dataset_hash']} video"),
        },
    )
