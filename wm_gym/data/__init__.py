"""How does robot video with actions get on disk and back? Formats, curation, and the clips that training reads.

`open_reader` reads a folder of any format, `LeRobotWriter` writes LeRobotDataset v3.0, `open_clips` gives training a
memory map of the frames. Everything loads on first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wm_gym.data.clips import ClipData, join_clips, open_clips
    from wm_gym.data.formats.lerobot_reader import LeRobotReader
    from wm_gym.data.formats.lerobot_schema import DatasetError
    from wm_gym.data.formats.lerobot_writer import LeRobotWriter
    from wm_gym.data.formats.registry import FORMATS, detect, open_reader, open_writer

__all__ = [
    "FORMATS",
    "ClipData",
    "DatasetError",
    "LeRobotReader",
    "LeRobotWriter",
    "detect",
    "join_clips",
    "open_clips",
    "open_reader",
    "open_writer",
]
_HOME = {
    "DatasetError": "formats.lerobot_schema",
    "LeRobotReader": "formats.lerobot_reader",
    "LeRobotWriter": "formats.lerobot_writer",
    **dict.fromkeys(("ClipData", "join_clips", "open_clips"), "clips"),
    **dict.fromkeys(("FORMATS", "detect", "open_reader", "open_writer"), "formats.registry"),
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
