"""Which files, columns and dtypes make a LeRobotDataset v3.0 folder?

    meta/info.json                                      what is in it, and how much of it counts
    meta/tasks.parquet                                  task text -> task_index
    meta/stats.json                                     statistics over all episodes
    meta/episodes/chunk-000/file-000.parquet            one row an episode: length, where its rows and frames are
    data/chunk-000/file-000.parquet                     one row a frame, one row group an episode
    videos/<camera key>/chunk-000/file-000.mp4          episodes one after the other

The layout is lerobot 0.4.4's own; a folder written here opens there, and the other way round.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from wm_gym.common import reading

if TYPE_CHECKING:
    import pyarrow as pa

CODEBASE_VERSION = "v3.0"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
INFO_PATH, TASKS_PATH, STATS_PATH = "meta/info.json", "meta/tasks.parquet", "meta/stats.json"
FILES_PER_CHUNK = 1000
DTYPES = ("float32", "float64", "int64", "int32", "bool")  # of numbers
CAMERA_PREFIX = "observation.images."
CAMERA = CAMERA_PREFIX + "main"  # of what we record
AXES = ["height", "width", "channels"]  # of a camera's frames

AGAIN = "fetch or record the dataset again"
MOST_FPS, MOST_JSON, MOST_NUMBERS = 1000, 16_000_000, 8192 * 8192 * 3  # what a file may declare


class Feature(TypedDict):
    """One column or camera, as info.json describes it."""

    dtype: str
    """"video" and "image" are cameras; those in DTYPES are numbers."""
    shape: list[int]
    """Of one row; a camera's [height, width, 3]."""
    names: NotRequired[list[str] | dict[str, Any] | None]
    """One name a number; lerobot also writes {"motors": [...]}."""
    info: NotRequired[dict[str, Any]]


class Source(TypedDict):
    """The dataset that a converted one was made from."""

    dataset: str
    content: str
    cameras: list[str]
    fps: float
    left_out: dict[str, str]
    """{damaged episode: why}."""


class Extra(TypedDict, total=False):
    """What info.json holds beside lerobot's own keys."""

    wm_gym: dict[str, Any]
    """What `wm-gym record` notes: the environment, the meaning and bounds of actions, the horizon."""
    wm_gym_source: Source


class Info(Extra):
    """meta/info.json, of which `read_info` checks the first five."""

    codebase_version: str
    fps: float
    features: dict[str, Feature]
    total_episodes: int
    total_frames: int
    total_tasks: NotRequired[int]
    chunks_size: NotRequired[int]
    robot_type: NotRequired[str | None]
    data_files_size_in_mb: NotRequired[int]
    video_files_size_in_mb: NotRequired[int]
    splits: NotRequired[dict[str, str]]
    data_path: NotRequired[str]
    video_path: NotRequired[str]


class DatasetError(ValueError):
    """A dataset folder, or something put into one, is not what it should be; the message says what to do."""


def feature(dtype: str, size: int = 1, names: Iterable[str] | None = None) -> Feature:
    """The description of a column that has `size` numbers of `dtype` a row, and one name for each or none."""
    return {"dtype": dtype, "shape": [int(size)], "names": list(names) if names else None}


INDEX_FEATURES = {"timestamp": feature("float32")} | {
    key: feature("int64") for key in ("frame_index", "episode_index", "index", "task_index")
}
"""The columns that every dataset has; the writer fills them in."""


def video_feature(height: int, width: int, fps: float) -> Feature:
    """The description of a camera whose frames [height, width, 3] are stored without loss at `fps` a second."""
    return {
        "dtype": "video",
        "shape": [int(height), int(width), 3],
        "names": AXES,
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


def is_scalar(spec: Feature) -> bool:
    """True where lerobot stores this column as plain values (shape [1]) rather than as lists."""
    return list(spec["shape"]) == [1]


def arrow_schema(features: Mapping[str, Feature]) -> pa.Schema:
    """The parquet schema of the data files for these features, without the videos.

    Raises:
        DatasetError: For a feature that is no vector of numbers.
    """
    import pyarrow as pa

    fields: list[pa.Field] = []
    described: dict[str, dict[str, Any]] = {}
    for key, spec in features.items():
        if spec["dtype"] == "video":
            continue
        if spec["dtype"] not in DTYPES or len(spec["shape"]) != 1:
            raise DatasetError(
                f"feature {key!r} has dtype {spec['dtype']!r} and shape {spec['shape']}; "
                f"the writer stores vectors of {', '.join(DTYPES)}: flatten or convert it"
            )
        kind, value = pa.type_for_alias(spec["dtype"]), {"dtype": spec["dtype"], "_type": "Value"}
        size = spec["shape"][0]
        fields.append(pa.field(key, kind if is_scalar(spec) else pa.list_(kind, size)))
        described[key] = value if is_scalar(spec) else {"feature": value, "length": size, "_type": "List"}
    huggingface = json.dumps({"info": {"features": described}})  # what datasets.Features reads
    return pa.schema(fields, metadata={"huggingface": huggingface})


def read_info(root: str | Path, versions: Iterable[str] = (CODEBASE_VERSION,)) -> Info:
    """The checked `meta/info.json` of the dataset at `root`.

    Raises:
        DatasetError: Where it is missing, damaged, or of another version; the message says what to do.
    """
    root = Path(root)
    path = root / INFO_PATH
    if not root.is_dir():
        raise DatasetError(f"no dataset folder at {root}; record one with: wm-gym record ENV_ID --out {root}")
    if not path.is_file():
        raise DatasetError(
            f"{root} is not a LeRobotDataset: it has no {INFO_PATH}; give the folder that holds "
            f"meta/, data/ and videos/, or record one with: wm-gym record ENV_ID --out DIR"
        )
    info: Any = read_json(path)
    version = info.get("codebase_version")
    if version not in versions:
        raise DatasetError(
            f"{path} has codebase_version {version!r}, expected {' or '.join(map(repr, versions))}; "
            f"convert it with lerobot's scripts to v2.1 or v3.0"
        )
    missing = [key for key in ("fps", "features", "total_episodes", "total_frames") if key not in info]
    if missing:
        raise DatasetError(f"{path} lacks {', '.join(missing)}; {AGAIN}")
    fps = info["fps"]
    if isinstance(fps, bool) or not isinstance(fps, (int, float)) or not 0 < fps <= MOST_FPS:
        raise DatasetError(
            f"{path}: fps is {fps!r}, expected frames a second, more than 0 and at most {MOST_FPS}; {AGAIN}"
        )
    for key in ("total_episodes", "total_frames", "chunks_size"):
        check_count(path, key, info.get(key, 1))
    check_features(path, info["features"])
    return info


def read_json(path: str | Path) -> dict[str, Any]:
    """The JSON object in a file of at most 16 MB; DatasetError where there is none."""
    try:
        value = reading.read_json(path, MOST_JSON, finite=False)  # statistics may hold NaN
    except (OSError, ValueError) as error:
        raise DatasetError(str(error)) from None
    if not isinstance(value, dict):
        raise DatasetError(f"{path} holds {type(value).__name__}, expected a JSON object; {AGAIN}")
    return value


def check_count(path: str | Path, key: str, value: Any) -> int:
    """The value that was read from a file as `key`, if it is a count; DatasetError where it is not."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**40:
        raise DatasetError(f"{path}: {key} is {value!r}, expected a count; {AGAIN}")
    return value


def check_features(path: str | Path, features: Any) -> None:
    """Check the description of a dataset's columns: dtypes are text, shapes are short lists of plausible sizes.

    Raises:
        DatasetError: Naming the file `path` and the feature.
    """
    if not isinstance(features, dict):
        raise DatasetError(f"{path}: features is {type(features).__name__}, expected an object; {AGAIN}")
    for key, spec in features.items():
        shape = spec.get("shape") if isinstance(spec, dict) else None
        if ".." in Path(key).parts:  # videos/KEY/... is where a camera's files lie
            raise DatasetError(
                f"{path}: the feature {key!r} leads out of the dataset's folder; do not trust this dataset"
            )
        if (
            not isinstance(shape, list)
            or len(shape) > 8
            or not all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in shape)
            or not isinstance(spec.get("dtype"), str)
        ):
            raise DatasetError(
                f"{path}: feature {key!r} is {str(spec)[:200]}, expected a dtype and a shape of "
                f"positive whole numbers; {AGAIN}"
            )
        if math.prod(shape) > MOST_NUMBERS:
            raise DatasetError(
                f"{path}: feature {key!r} declares shape {str(shape)[:80]}, at most {MOST_NUMBERS:,} "
                f"numbers a row can be read; {AGAIN}"
            )
        if spec["dtype"] in ("video", "image") and (len(shape) != 3 or 3 not in (shape[0], shape[2])):
            raise DatasetError(
                f"{path}: the camera {key!r} has shape {shape}, expected [height, width, 3]; depth and "
                f"grey pictures cannot be read: leave that feature out"
            )


def fill_path(root: str | Path, template: Any, **values: Any) -> Path:
    """A path of info.json below `root`, its "{name}" and "{name:03d}" filled in; DatasetError if it leads elsewhere."""

    def value(match: re.Match[str]) -> str:
        name, width = match.group(1), match.group(2)
        if name not in values:
            raise DatasetError(
                f"{root}: the path {template!r} in {INFO_PATH} has the field {name!r}, expected "
                f"{', '.join(values)}; {AGAIN}"
            )
        return str(values[name]).zfill(int(width)) if width else str(values[name])

    if not isinstance(template, str):
        raise DatasetError(f"{root}: {template!r} in {INFO_PATH} is not a path; {AGAIN}")
    path = re.sub(r"\{(\w+)(?::0?(\d)d)?\}", value, template)
    if (
        "{" in path
        or "\0" in path
        or Path(path).is_absolute()
        or ".." in Path(path).parts
        or "\\" in path
        or max(map(len, Path(path).parts), default=0) > 200
        or len(path) > 1000
    ):
        raise DatasetError(
            f"{root}: the path {template!r} in {INFO_PATH} leads to {path!r}, expected one inside the "
            f"dataset's folder; do not trust this dataset"
        )
    return Path(root) / path
