"""Which files, columns and dtypes make a LeRobotDataset v3.0 folder?

    meta/info.json                                      what is in it, and how much of it counts
    meta/tasks.parquet                                  task text -> task_index
    meta/stats.json                                     statistics over all episodes
    meta/episodes/chunk-000/file-000.parquet            one row an episode: length, where its rows and frames are
    data/chunk-000/file-000.parquet                     one row a frame, one row group an episode
    videos/<camera key>/chunk-000/file-000.mp4          episodes one after the other

The layout is lerobot 0.4.4's own; a folder written here opens there, and the other way round.
"""

import json
from pathlib import Path


CODEBASE_VERSION = "v3.0"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
INFO_PATH, TASKS_PATH, STATS_PATH = "meta/info.json", "meta/tasks.parquet", "meta/stats.json"
FILES_PER_CHUNK = 1000
CAMERA_PREFIX = "observation.images."

# The columns that every dataset has; the writer fills them in.
INDEX_FEATURES = {
    "timestamp": {"dtype": "float32", "shape": [1], "names": None},
    "frame_index": {"dtype": "int64", "shape": [1], "names": None},
    "episode_index": {"dtype": "int64", "shape": [1], "names": None},
    "index": {"dtype": "int64", "shape": [1], "names": None},
    "task_index": {"dtype": "int64", "shape": [1], "names": None},
}


class DatasetError(ValueError):
    """A dataset folder, or something put into one, is not what it should be; the message says what to do."""


def feature(dtype, size=1, names=None):
    """Describe one column: `size` numbers of `dtype` a row (`names` one name for each, or None)."""
    return {"dtype": dtype, "shape": [int(size)], "names": list(names) if names else None}


def video_feature(height, width, fps):
    """Describe one camera whose frames are stored losslessly: [height, width, 3] at `fps`."""
    return {
        "dtype": "video",
        "shape": [int(height), int(width), 3],
        "names": ["height", "width", "channels"],
        "info": {
            "video.height": int(height),
            "video.width": int(width),
            "video.codec": "h264",
            "video.pix_fmt": "gbrp",
            "video.is_depth_map": False,
            "video.fps": fps,
            "video.channels": 3,
            "has_audio": False,
        },
    }


def is_scalar(spec):
    """Say whether lerobot stores this column as plain values (shape [1]) rather than as lists."""
    return list(spec["shape"]) == [1]


def arrow_schema(features):
    """Give the parquet schema of the data files for these features (video columns are left out)."""
    import pyarrow as pa

    kinds = {"float32": pa.float32(), "float64": pa.float64(), "int64": pa.int64(), "int32": pa.int32(),
             "bool": pa.bool_()}
    fields, described = [], {}
    for key, spec in features.items():
        if spec["dtype"] == "video":
            continue
        if spec["dtype"] not in kinds or len(spec["shape"]) != 1:
            raise DatasetError(f"feature {key!r} has dtype {spec['dtype']!r} and shape {spec['shape']}; "
                               f"the writer stores vectors of {', '.join(kinds)}: flatten or convert it")
        kind, value = kinds[spec["dtype"]], {"dtype": spec["dtype"], "_type": "Value"}
        size = spec["shape"][0]
        fields.append(pa.field(key, kind if is_scalar(spec) else pa.list_(kind, size)))
        described[key] = value if is_scalar(spec) else {"feature": value, "length": size, "_type": "List"}
    huggingface = json.dumps({"info": {"features": described}})  # what datasets.Features reads
    return pa.schema(fields, metadata={"huggingface": huggingface})


def read_info(root):
    """Read and check `meta/info.json` of the dataset at `root`; raises DatasetError with what to do."""
    root = Path(root)
    path = root / INFO_PATH
    if not root.is_dir():
        raise DatasetError(f"no dataset folder at {root}; record one with: wm-gym record ENV_ID --out {root}")
    if not path.is_file():
        raise DatasetError(f"{root} is not a LeRobotDataset: it has no {INFO_PATH}; give the folder that holds "
                           f"meta/, data/ and videos/, or record one with: wm-gym record ENV_ID --out DIR")
    try:
        info = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise DatasetError(f"{path} is not JSON ({error}); fetch or record the dataset again") from None
    version = info.get("codebase_version")
    if version != CODEBASE_VERSION:
        raise DatasetError(
            f"{root} has codebase_version {version!r}, expected {CODEBASE_VERSION!r}; convert it with lerobot: "
            f"python -m lerobot.datasets.v30.convert_dataset_v21_to_v30 --repo-id=USER/NAME")
    missing = [key for key in ("fps", "features", "total_episodes", "total_frames") if key not in info]
    if missing:
        raise DatasetError(f"{path} lacks {', '.join(missing)}; fetch or record the dataset again")
    return info
