"""How is a file written so that nobody ever reads half of one? Beside its place, then renamed there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, line ends as they are. Makes the folder where it is not there."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8", newline="")
    beside.replace(path)


def write_json(path: str | Path, value: Any, indent: int | None = None) -> None:
    """Write `value` as JSON; numpy arrays and numbers become plain ones. Makes the folder where it is not there."""
    write_text(path, json.dumps(value, indent=indent, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} {value!r} cannot be written as JSON")
