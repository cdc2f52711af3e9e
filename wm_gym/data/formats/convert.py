"""How does a dataset of any format become a LeRobotDataset v3.0, the one that training, lerobot and the Hub take?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from tqdm import tqdm

from wm_gym.data.formats.lerobot_schema import (
    DTYPES,
    INDEX_FEATURES,
    INFO_PATH,
    DatasetError,
    Extra,
    Feature,
    Source,
    feature,
    read_info,
    video_feature,
)
from wm_gym.data.formats.lerobot_writer import LeRobotWriter
from wm_gym.data.formats.reader import SKIP, Damaged, Reader, warn_left_out
from wm_gym.data.formats.registry import open_reader, open_writer

SOURCE: Final = "wm_gym_source"  # of info.json: what was converted


def convert(
    source: str | Path,
    to: str | Path,
    cameras: Iterable[str] | None = None,
    progress: bool = True,
    skip_damaged: bool = False,
    shard_frames: int = 2000,
    **options: Any,
) -> Path:
    """Write a dataset of any format as LeRobotDataset v3.0.

    The frames are stored without loss, so pictures decode to the same bytes as in `source`. What a killed run wrote is
    kept and gone on from, to the files of an unbroken run.

    Args:
        source: The dataset's folder.
        to: The folder to write.
        cameras: Short or whole names; all by default.
        progress: Show a bar.
        skip_damaged: Leave damaged episodes out, with a warning that names them; so does info.json.
        shard_frames: Of `LeRobotWriter`.
        options: Of `open_reader`: format, fps, split.

    Returns:
        `to`.

    Raises:
        DatasetError: For what is wrong with `source`, and where `to` holds another dataset.
    """
    source, to = Path(source), Path(to)
    if to.resolve() == source.resolve() or source.resolve() in to.resolve().parents:
        raise DatasetError(f"cannot convert {source} into {to}, which is part of it; give another folder")
    reader = open_reader(source, skip_damaged=skip_damaged, **options)
    chosen = reader.cameras if cameras is None else [reader.camera(name) for name in cameras]
    asked: Source = {
        "dataset": source.resolve().name,
        "content": reader.content_hash(*chosen),
        "cameras": chosen,
        "fps": reader.fps,
        "left_out": {},
    }
    if (to / INFO_PATH).is_file():
        _check_source(to, read_info(to).get(SOURCE), asked)
    columns, features = _numbers(reader)
    features = {key: video_feature(*reader.frame_size(key), reader.fps) for key in chosen} | features
    extra: Extra = {"wm_gym": reader.notes, SOURCE: asked} if reader.notes else {SOURCE: asked}
    with open_writer(to, reader.fps, features, extra=extra, shard_frames=shard_frames) as writer:
        _check_source(to, writer.info.get(SOURCE), asked)
        left_out = writer.info[SOURCE]["left_out"]
        if left_out and not skip_damaged:
            raise DatasetError(f"{to} was begun without the damaged episodes {', '.join(left_out)}; go on with {SKIP}")
        try:
            _copy(reader, writer, columns, left_out, progress)
        except BaseException:
            writer.discard()
            raise
    warn_left_out(reader, {int(e): why for e, why in left_out.items()})
    return to


def _numbers(reader: Reader) -> tuple[dict[str, np.ndarray], dict[str, Feature]]:
    """The columns [N, D] that are written, and what they are."""
    keys = [key for key in reader.number_keys() if key not in INDEX_FEATURES]
    columns, features = reader.columns(keys), {}
    for key in keys:
        columns[key] = columns[key].reshape(int(reader.offset[-1]), -1)
        dtype, size = reader.features[key]["dtype"], columns[key].shape[1]
        features[key] = feature(dtype if dtype in DTYPES else "float32", size, reader.names(key, size))
    return columns, features


def _copy(
    reader: Reader, writer: LeRobotWriter, columns: Mapping[str, np.ndarray], left_out: dict[str, str], progress: bool
) -> None:
    """Write the episodes that are not there yet, and those that are damaged into `left_out`."""
    before = len(left_out)
    first = writer.num_episodes + before
    bar = tqdm(
        range(first, len(reader)), "converting", len(reader), unit="episode", initial=first, disable=not progress
    )
    for e in bar:
        part = slice(int(reader.offset[e]), int(reader.offset[e + 1]))
        try:
            frames = {key: reader.frames(key, e) for key in writer.cameras if e not in reader.damaged}
        except Damaged as error:
            if not reader.skip_damaged:
                raise
            reader.damaged |= error.episodes
        if e in reader.damaged:
            left_out[str(e)] = reader.damaged[e]
        else:
            writer.add_episode({key: values[part] for key, values in columns.items()}, frames, reader.tasks[e])
    if not writer.num_episodes:
        raise Damaged(reader, reader.damaged)
    writer.flush()
    if len(left_out) > before:  # those after the last shard
        writer.write_info()


def _check_source(to: Path, there: Any, asked: Source) -> None:
    """Refuse to go on in a folder with what was begun from another dataset or with other arguments."""
    if not isinstance(there, dict) or not isinstance(there.get("left_out"), dict):
        raise DatasetError(
            f"{to} holds a dataset that does not say which one it was converted from; give another folder"
        )
    now = {"content": asked["content"], "cameras": asked["cameras"], "fps": asked["fps"]}
    other = [key for key, value in now.items() if there.get(key) != value]
    if other:
        raise DatasetError(
            f"{to} was converted from the dataset {there.get('dataset')!r}, now it would be "
            f"{asked['dataset']!r}: "
            + "; ".join(f"{key} {str(there.get(key))[:80]}, now {str(now[key])[:80]}" for key in other)
            + "; give another folder"
        )
