"""How does a dataset of any format become a LeRobotDataset v3.0, the one that training, lerobot and the Hub take?"""

from pathlib import Path

from tqdm import tqdm

from wm_gym.data.formats.lerobot_schema import (
    INDEX_FEATURES,
    INFO_PATH,
    DatasetError,
    feature,
    read_info,
    video_feature,
)
from wm_gym.data.formats.reader import SKIP, Damaged, warn_left_out
from wm_gym.data.formats.registry import open_reader, open_writer

SOURCE = "wm_gym_source"  # of info.json: what was converted


def convert(source, to, cameras=None, progress=True, skip_damaged=False, shard_frames=2000, **options):
    """Write the dataset `source` of any format as LeRobotDataset v3.0 into the folder `to`; returns `to`.

    The frames are stored without loss, so pictures decode to the same bytes as in `source`. cameras: short or whole
    names, default all. skip_damaged: leave damaged episodes out, with a warning that names them; so does info.json.
    options: of `formats.open_reader` (format, fps, split). What a killed run wrote is kept and gone on from, to the
    files of an unbroken run. Raises DatasetError, also where `to` holds another dataset.
    """
    source, to = Path(source), Path(to)
    if to.resolve() == source.resolve() or source.resolve() in to.resolve().parents:
        raise DatasetError(f"cannot convert {source} into {to}, which is part of it; give another folder")
    reader = open_reader(source, skip_damaged=skip_damaged, **options)
    chosen = reader.cameras if cameras is None else [reader.camera(name) for name in cameras]
    asked = {
        "dataset": source.resolve().name,
        "content": reader.content_hash(*chosen),
        "cameras": chosen,
        "fps": reader.fps,
        "left_out": {},
    }
    if (to / INFO_PATH).is_file():
        _check_source(to, read_info(to).get(SOURCE), asked)
    features = {key: video_feature(*reader.frame_size(key), reader.fps) for key in chosen}
    numbers = {}
    for key in reader.number_keys():
        dtype = reader.features[key]["dtype"]
        if key not in INDEX_FEATURES:
            numbers[key] = dtype if dtype in ("float32", "float64", "int64", "int32", "bool") else "float32"
    columns = reader.columns(list(numbers))
    rows = int(reader.offset[-1])
    for key, dtype in numbers.items():
        columns[key] = columns[key].reshape(rows, -1)
        names = reader.features[key].get("names")
        flat = isinstance(names, list) and len(names) == columns[key].shape[1]
        features[key] = feature(dtype, columns[key].shape[1], names if flat else None)
    extra = {"wm_gym": reader.notes} if reader.notes else {}
    with open_writer(to, reader.fps, features, extra=extra | {SOURCE: asked}, shard_frames=shard_frames) as writer:
        _check_source(to, writer.info.get(SOURCE), asked)
        left_out = writer.info[SOURCE]["left_out"]
        if left_out and not skip_damaged:
            raise DatasetError(f"{to} was begun without the damaged episodes {', '.join(left_out)}; go on with {SKIP}")
        before = len(left_out)
        try:
            for e in tqdm(
                range(writer.num_episodes + before, len(reader)),
                unit="episode",
                desc="converting",
                initial=writer.num_episodes + before,
                total=len(reader),
                disable=not progress,
            ):
                part = slice(int(reader.offset[e]), int(reader.offset[e + 1]))
                try:
                    frames = {key: reader.frames(key, e) for key in chosen if e not in reader.damaged}
                except Damaged as error:
                    if not skip_damaged:
                        raise
                    reader.damaged |= error.episodes
                if e in reader.damaged:
                    left_out[str(e)] = reader.damaged[e]
                else:
                    writer.add_episode({key: columns[key][part] for key in numbers}, frames, reader.tasks[e])
            if not writer.num_episodes:
                raise Damaged(reader, reader.damaged)
            writer.flush()
            if len(left_out) > before:  # those after the last shard
                writer.write_info()
        except BaseException:
            writer.discard()
            raise
    warn_left_out(reader, {int(e): why for e, why in left_out.items()})
    return to


def _check_source(to, there, asked):
    """Refuse to go on in a folder with what was begun from another dataset or with other arguments."""
    if not isinstance(there, dict) or not isinstance(there.get("left_out"), dict):
        raise DatasetError(
            f"{to} holds a dataset that does not say which one it was converted from; give another folder"
        )
    other = [key for key in ("content", "cameras", "fps") if there.get(key) != asked[key]]
    if other:
        raise DatasetError(
            f"{to} was converted from the dataset {there.get('dataset')!r}, now it would be "
            f"{asked['dataset']!r}: "
            + "; ".join(f"{key} {str(there.get(key))[:80]}, now {str(asked[key])[:80]}" for key in other)
            + "; give another folder"
        )
