"""How does a call reach a Ray cluster, and leave it as it was?"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def on_ray(address: str, workers: int) -> Iterator[Any]:
    """Give the module `ray`, connected; a Ray that this process has begun is used and left running.

    Args:
        address: As `ray.init` takes it ("auto", "ray://HOST:10001"), or "local" for a cluster on this machine.
        workers: CPUs of the local one.

    Raises:
        ImportError: Without the package ray.
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError("ray=... needs the ray package: pip install 'wm-gym[ray]'", name="ray") from error
    began = not ray.is_initialized()
    if began:
        of_its_own = {"include_dashboard": False, "num_cpus": workers} if address == "local" else {}
        ray.init(address=address, log_to_driver=False, **of_its_own)
    try:
        yield ray
    finally:
        if began:
            ray.shutdown()
