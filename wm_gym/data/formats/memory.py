"""Would what a file declares fit into this machine's memory?"""

from __future__ import annotations

import os

from wm_gym.data.formats.lerobot_schema import DatasetError


def check_memory(what: str, need: int) -> None:
    """Raise DatasetError where `need` bytes are more than half of the memory that is free."""
    free = free_memory()
    if need > free / 2:
        raise DatasetError(
            f"{what} needs {need / 1e9:.3g} GB, {free / 1e9:.3g} GB of memory are free; take fewer "
            f"columns or part of the dataset, or fetch it again if it should not be this large"
        )


def free_memory() -> int:
    """The bytes of memory that are available without swapping."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
