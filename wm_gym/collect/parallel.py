"""How are episodes simulated in worker processes and given back in order?"""

import collections
import concurrent.futures
import os

from wm_gym.collect.episodes import EpisodeSource
from wm_gym.common.processes import begin_worker, one_thread, spawned_pool


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

    waiting, numbers = collections.deque(), iter(numbers)
    try:
        with spawned_pool(workers, interrupts, _start_worker, (source,)) as pool:
            while True:
                with interrupts.ignored_by_children(), one_thread():
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
            f"on from there (try workers=1)"
        ) from None


_source = None  # the worker's environment


def _start_worker(arguments):
    global _source
    begin_worker()
    _source = arguments


def _rollout(number):
    global _source
    if isinstance(_source, tuple):  # made here, not in the initializer, so that its error reaches the caller
        _source = EpisodeSource(*_source)
    return _source.describe, _source.rollout(number)
