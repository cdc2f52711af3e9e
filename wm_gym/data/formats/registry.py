"""Which dataset formats are there, which of them is this folder, and how is it opened?"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wm_gym.data.formats.lerobot_schema import INFO_PATH, DatasetError, Feature
from wm_gym.data.formats.reader import Reader

if TYPE_CHECKING:
    from wm_gym.data.formats.lerobot_writer import LeRobotWriter


@dataclass(frozen=True)
class Format:
    """One format of datasets."""

    name: str
    what: str
    """What it is, as errors say it."""
    reader: str
    """Its `Reader`, "module:class"."""
    extra: str | None = None
    """The extra that installs what the reader imports."""


FORMATS = {
    one.name: one
    for one in (
        Format("lerobot", "a LeRobotDataset folder, v3.0 or v2.1 (meta/info.json)", "lerobot_reader:LeRobotReader"),
        Format(
            "rlds",
            "an RLDS folder of TFRecords (features.json, dataset_info.json), as Open X-Embodiment has them",
            "rlds_reader:RLDSReader",
            "rlds",
        ),
        Format("minari", "a Minari dataset (data/metadata.json)", "minari_reader:MinariReader", "minari"),
        Format("folder", "a folder of NAME.mp4 with NAME.npz or NAME.csv beside them", "folder_reader:FolderReader"),
    )
}


def detect(path: str | Path) -> str:
    """The format that a dataset's folder has, by the files in it; DatasetError for an unknown one."""
    path = Path(path)
    if not path.is_dir():
        raise DatasetError(f"no dataset folder at {path}; record one with: wm-gym record ENV_ID --out {path}")
    if (path / INFO_PATH).is_file():
        return "lerobot"
    if rlds_folder(path) is not None:
        return "rlds"
    if (path / "data/metadata.json").is_file() or (path / "metadata.json").is_file():
        return "minari"
    if any(path.glob("*.mp4")):
        return "folder"
    known = "; ".join(one.what for one in FORMATS.values())
    raise DatasetError(
        f"{path} is in no format that is known here: {known}. Convert it with the library that wrote "
        f"it, or lay it out as the last of these"
    )


def rlds_folder(path: Path) -> Path | None:
    """The folder of an RLDS dataset that holds the records: `path`, or its one version below; None if neither."""
    inside = [path, *sorted(p for p in path.glob("*") if p.is_dir())]
    return next((p for p in inside if (p / "features.json").is_file() and (p / "dataset_info.json").is_file()), None)


def open_reader(path: str | Path, format: str | None = None, skip_damaged: bool = False, **options: Any) -> Reader:
    """Open a dataset for reading.

    Args:
        path: Its folder.
        format: One of FORMATS; what the folder holds by default.
        skip_damaged: Go on where single episodes are damaged, and say which in `Reader.damaged`.
        options: fps (frames a second) where the format does not store it, split for RLDS.

    Raises:
        DatasetError: For bad data.
        ImportError: Naming the extra that is not installed.
    """
    one = FORMATS.get(format or detect(path))
    if one is None:
        raise DatasetError(f"unknown dataset format {format!r}; expected one of {', '.join(FORMATS)}")
    module, _, name = one.reader.partition(":")
    options = {key: value for key, value in options.items() if value is not None}
    try:
        reader = getattr(importlib.import_module(f"wm_gym.data.formats.{module}"), name)
        return reader(path, skip_damaged=skip_damaged, **options)
    except ImportError as error:
        if one.extra is None or (error.name or "").startswith("wm_gym"):
            raise
        raise ImportError(
            f"{path} is {one.what}; reading it needs {error.name}: pip install 'wm-gym[{one.extra}]'", name=error.name
        ) from None
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise DatasetError(f"{path} is {one.what}; it takes none of {', '.join(options)}") from None


def open_writer(
    path: str | Path, fps: float, features: Mapping[str, Feature], format: str = "lerobot", **options: Any
) -> LeRobotWriter:
    """Open a dataset for writing; LeRobotDataset v3.0 is the one format that is written.

    Args:
        path: Its folder.
        fps: Frames a second.
        features: {key: `feature(...)` or `video_feature(...)`}.
        format: "lerobot".
        options: Of `LeRobotWriter`.
    """
    if format != "lerobot":
        raise DatasetError(
            f"cannot write the format {format!r}; LeRobotDataset v3.0 is written ('lerobot'), which "
            f"lerobot's own tools convert further"
        )
    from wm_gym.data.formats.lerobot_writer import LeRobotWriter

    return LeRobotWriter(path, fps, features, **options)
