"""How does robot video with actions get on disk and back? Formats, the recorder, the frame cache.

`record.record` makes a dataset from any Gymnasium environment, `open_reader` reads a folder of any format,
`LeRobotWriter` writes LeRobotDataset v3.0, `open_clips` gives training a memory map of the frames. Everything loads on
first use.
"""

import importlib

_HOME = {
    "DatasetError": "lerobot_schema",
    "LeRobotReader": "lerobot_reader",
    "LeRobotWriter": "lerobot_writer",
    "ClipData": "cache",
    "FORMATS": "formats",
    "detect": "formats",
    "open_reader": "formats",
    "open_writer": "formats",
    "join_clips": "cache",
    "open_clips": "cache",
}
__all__ = sorted(_HOME)


def __getattr__(name):
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
