"""Where is kept, between processes, what can be made again: decoded frames, compiled steps, measuring networks, robots?

In the user's cache, `$WM_GYM_CACHE` (a leading ~ is the home folder), by default ~/.cache/wm_gym; an empty variable
means the default. Where that cannot be written to (a read-only home, a user without one, a full disk) there is one
warning a process, and what would have been kept is made again next time.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
_WARNED: list[OSError] = []  # why; once a process


def cache_folder() -> Path:
    """The cache folder; FileNotFoundError where it is below a home that nobody knows."""
    asked = os.environ.get("WM_GYM_CACHE") or "~/.cache/wm_gym"
    try:
        return Path(asked).expanduser()
    except RuntimeError as error:
        raise FileNotFoundError(f"no cache at {asked}: {error}") from None


def kept(write: Callable[[Path], T]) -> T | None:
    """The result of `write(cache folder)`; None, and one warning, where nothing can be written there."""
    try:
        return write(cache_folder())
    except OSError as error:
        _warn(error)
        return None


def kept_or_scratch(write: Callable[[Path], T]) -> T:
    """The result of `write(cache folder)`, for what must lie on a disk.

    Where it cannot be the cache there is one warning, and a folder of this process alone, removed at its end.

    Raises:
        OSError: Where that cannot be written to either.
    """
    try:
        return write(cache_folder())
    except OSError as error:
        _warn(error)
        return write(_scratch(os.getpid()))


def writable(folder: Path) -> Path:
    """The folder, made where it is missing; OSError where nothing can be written into it."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        return folder


def _warn(error: OSError) -> None:
    if not _WARNED:
        _WARNED.append(error)
        warnings.warn(
            f"the cache cannot be written to ({error}); what it would keep is made again by every process. "
            "Set WM_GYM_CACHE to a folder that can be",
            stacklevel=4,
        )


@functools.cache
def _scratch(pid: int) -> Path:
    """A folder of the process `pid`, owner-only."""
    folder = Path(tempfile.mkdtemp(prefix="wm_gym-"))

    def remove() -> None:
        if os.getpid() == pid:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder
