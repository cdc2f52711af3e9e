"""How are episodes simulated in worker processes, given back in order, and stopped cleanly by Ctrl-C or a kill?"""

import collections
import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import threading

from wm_gym.data.rollout import EpisodeSource


def simulate(source, numbers, workers, interrupts):
    """Yield (description of the env, RecordedEpisode) for the numbers, in order."""
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    workers = min(workers, len(numbers))
    if workers == 0:
        env = EpisodeSource(*source)
        try:
            for number in numbers:
                if interrupts.seen:
                    return
                yield env.describe, env.rollout(number)
        finally:
            env.close()
        return

    context = multiprocessing.get_context("spawn")  # fork and simulators' or torch's threads do not mix
    pool = concurrent.futures.ProcessPoolExecutor(workers, context, _start_worker, (source,))
    waiting, numbers = collections.deque(), iter(numbers)
    try:
        while True:
            with interrupts.ignored_by_children(), _one_thread():
                while len(waiting) < 3 * workers and (number := next(numbers, None)) is not None:
                    waiting.append(pool.submit(_rollout, number))
            if not waiting:
                return
            future = waiting.popleft()
            while not future.done() and not interrupts.seen:
                concurrent.futures.wait([future], timeout=0.2)
            if not future.done():
                return
            yield future.result()
    except concurrent.futures.process.BrokenProcessPool:
        raise RuntimeError(
            f"a worker died while it simulated episodes of {source[0]}: out of memory, a crash in the simulator, or a "
            f"calling script without `if __name__ == '__main__':`; the episodes before are kept, the same call goes "
            f"on from there (try workers=1)") from None
    finally:
        children = list(pool._processes.values()) if interrupts.seen and pool._processes else []
        pool.shutdown(wait=False, cancel_futures=True)
        for child in children:  # interrupted: do not wait for episodes that nobody will write
            child.terminate()
        pool.shutdown(wait=True)


_source = None  # the worker's environment


def _start_worker(arguments):
    global _source
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    die_with_parent()
    _source = arguments


def _rollout(number):
    global _source
    if isinstance(_source, tuple):  # made here, not in the initializer, so that its error reaches the caller
        _source = EpisodeSource(*_source)
    return _source.describe, _source.rollout(number)


def die_with_parent():
    """End this worker process as soon as its parent is gone, killed included."""
    def wait():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


@contextlib.contextmanager
def _one_thread():
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

    def __enter__(self):
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, *_):
        if self._main:
            signal.signal(signal.SIGINT, self._before)

    def _handle(self, *_):
        if self.seen:
            raise KeyboardInterrupt
        self.seen = True

    @contextlib.contextmanager
    def ignored_by_children(self):
        """Start processes inside that never see Ctrl-C, not even while they import."""
        if not self._main:
            yield
            return
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, handler)
