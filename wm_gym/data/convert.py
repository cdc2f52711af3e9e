"""How does a dataset of any format become a LeRobotDataset v3.0, the one that training, lerobot and the Hub take?"""

from pathlib import Path

from tqdm import tqdm

from wm_gym.data.formats import open_reader, open_writer
from wm_gym.data.lerobot_schema import INDEX_FEATURES, INFO_PATH, DatasetError, feature, video_feature


def convert(source, to, cameras=None, progress=True, **options):
    """Write the dataset `source` of any format as LeRobotDataset v3.0 into the folder `to`; returns `to`.

    The frames are stored without loss, so pictures decode to the same bytes as in `source`. cameras: short or whole
    names, default all. options: of `formats.open_reader` (format, fps, split). What a killed run wrote is kept and
    gone on from. Raises DatasetError.
    """
    source, to = Path(source), Path(to)
    if to.resolve() == source.resolve() or source.resolve() in to.resolve().parents:
        raise DatasetError(f"cannot convert {source} into {to}, which is part of it; give another folder")
    if to.is_dir() and any(to.iterdir()) and not (to / INFO_PATH).is_file():
        raise DatasetError(f"{to} holds other files; give a new folder")
    reader = open_reader(source, **options)
    chosen = reader.cameras if cameras is None else [reader.camera(name) for name in cameras]
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
    with open_writer(to, reader.fps, features, extra=extra) as writer:
        if writer.num_episodes > len(reader):
            raise DatasetError(f"{to} has {writer.num_episodes} episodes already, {source} has {len(reader)}; give "
                               f"another folder")
        for e in tqdm(range(writer.num_episodes, len(reader)), unit="episode", desc="converting", disable=not progress):
            part = slice(int(reader.offset[e]), int(reader.offset[e + 1]))
            writer.add_episode({key: columns[key][part] for key in numbers},
                               {key: reader.frames(key, e) for key in chosen}, reader.tasks[e])
    return to
