"""How are episodes simulated in worker processes and given back in order?"""

from __future__ import annotations

import collections
import concurrent.futures
import os
from collections.abc import Generator, Sequence

from wm_gym.collect.episodes import EpisodeSource, EpisodeSpec, RecordedEpisode
from wm_gym.collect.source import Description
from wm_gym.common.processes import Interrupts, begin_worker, one_thread, spawned_pool

Simulated = tuple[Description, RecordedEpisode]


def simulate(
    spec: EpisodeSpec, numbers: Sequence[int], workers: int | None, interrupts: Interrupts
) -> Generator[Simulated, None, None]:
    """Yield (what the environment says of itself, episode) for the numbers, in order.

    Args:
        spec: Whose episodes.
        numbers: Of the episodes.
        workers: Processes; None for one a core, 0 for this process alone.
        interrupts: After a Ctrl-C no more episodes are given.

    Raises:
        RuntimeError: Where a worker dies.
    """
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(workers, len(numbers))
    if workers == 0:
        env = EpisodeSource(spec)
        try:
            for episode in numbers:
                if interrupts.seen:
                    return
                yield env.describe, env.rollout(episode)
        finally:
            env.close()
        return

    waiting: collections.deque[concurrent.futures.Future[Simulated]] = collections.deque()
    left = iter(numbers)
    try:
        with spawned_pool(workers, interrupts, _start_worker, (spec,)) as pool:
            while True:
                with interrupts.ignored_by_children(), one_thread():
                    while len(waiting) < 3 * workers and (number := next(left, None)) is not None:
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
            f"a worker died while it simulated episodes of {spec.env_id}: out of memory, a crash in the simulator, or "
            f"a calling script without `if __name__ == '__main__':`; the episodes before are kept, the same call goes "
            f"on from there (try workers=1)"
        ) from None


_source: EpisodeSpec | EpisodeSource  # the worker's environment


def _start_worker(spec: EpisodeSpec) -> None:
    global _source
    begin_worker()
    _source = spec


def _rollout(number: int) -> Simulated:
    global _source
    if isinstance(_source, EpisodeSpec):  # made here, not in the initializer, so that its error reaches the caller
        _source = EpisodeSource(_source)
    return _source.describe, _source.rollout(number)
