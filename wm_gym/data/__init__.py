"""How does robot video with actions get on disk and back? Formats, curation, and the clips that training reads.

`open_reader` reads a folder of any format, `LeRobotWriter` writes LeRobotDataset v3.0, `open_clips` gives training a memory map of the frames. Everything loads on
first use.
"""

import importlib

_HOME = {
    "DatasetError": "formats.lerobot_schema",
    "LeRobotReader": "formats.lerobot_reader",
    "LeRobotWriter": "formats.lerobot_writer",
    "ClipData": "clips",
    "FORMATS": "formats.registry",
    "detect": "formats.registry",
    "open_reader": "formats.registry",
    "open_writer": "formats.registry",
    "join_clips": "clips",
    "open_clips": "clips",
}
__all__ = sorted(_HOME)


def __getattr__(name):
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
