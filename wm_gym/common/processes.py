"""How do worker processes start, with one thread each, and end with their parent, by Ctrl-C or by a kill?"""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, Self


@contextlib.contextmanager
def spawned_pool(
    workers: int, interrupts: Interrupts, begin: Callable[..., None] | None = None, arguments: tuple = ()
) -> Iterator[concurrent.futures.ProcessPoolExecutor]:
    """Give a pool of spawned processes (fork and simulators' or torch's threads do not mix).

    The processes know the environments that are registered here. An interrupted pool ends them at once; any other ends
    when they have done what they began.

    Args:
        workers: How many.
        interrupts: Says whether there was a Ctrl-C.
        begin: What each process runs first.
        arguments: Of `begin`.
    """
    from wm_gym.common.registry import carried

    context = _Recording()
    begins = (carried(), begin or begin_worker, arguments)
    pool = concurrent.futures.ProcessPoolExecutor(workers, context, _begin, begins)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for child in context.started if interrupts.seen else ():  # do not wait for what nobody will keep
            child.terminate()
        pool.shutdown(wait=True)


class _Recording(SpawnContext):
    """Spawns processes and knows which."""

    def __init__(self) -> None:
        self.started: list[SpawnProcess] = []

    def Process(self, *args: Any, **kwargs: Any) -> SpawnProcess:  # type: ignore[override]  # a class in its place
        self.started.append(SpawnProcess(*args, **kwargs))
        return self.started[-1]


def _begin(known: tuple[list[str], list[bytes]], begin: Callable[..., None], arguments: tuple) -> None:
    from wm_gym.common.registry import adopt

    begin(*arguments)
    adopt(*known)


def begin_worker() -> None:
    """Let this worker process leave Ctrl-C to its parent, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()


def die_with_parent() -> None:
    """End this worker process as soon as its parent is gone, killed included."""

    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let processes started inside use one thread each for their arithmetic."""
    key = "OMP_NUM_THREADS"
    before = os.environ.get(key)
    os.environ.setdefault(key, "1")
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(key, None)


class Interrupts:
    """Turn the first Ctrl-C into a flag that is looked at between episodes; the second one interrupts at once."""

    seen = False

    def __enter__(self) -> Self:
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        if self._main:
            signal.signal(signal.SIGINT, self._before)

    def _handle(self, *_: object) -> None:
        if self.seen:
            raise KeyboardInterrupt
        self.seen = True

    @contextlib.contextmanager
    def ignored_by_children(self) -> Iterator[None]:
        """Start processes inside that never see Ctrl-C, not even while they import."""
        if not self._main:
            yield
            return
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, handler)
