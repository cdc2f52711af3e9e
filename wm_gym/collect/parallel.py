"""How are episodes simulated here, in worker processes or on a Ray cluster, and given back in order?"""

from __future__ import annotations

import collections
import concurrent.futures
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

from wm_gym.collect.episodes import EpisodeSource, EpisodeSpec, RecordedEpisode
from wm_gym.collect.source import Description
from wm_gym.common.cluster import on_ray
from wm_gym.common.processes import Interrupts, begin_worker, one_thread, spawned_pool
from wm_gym.common.registry import adopt, carried

Simulated = tuple[Description, RecordedEpisode]
AHEAD = 3
"""Episodes a worker that are begun before the first of them is written."""


def simulate(
    spec: EpisodeSpec, numbers: Sequence[int], workers: int | None, interrupts: Interrupts, ray: str | None = None
) -> Generator[Simulated, None, None]:
    """Yield (what the environment says of itself, episode) for the numbers, in order.

    Args:
        spec: Whose episodes.
        numbers: Of the episodes.
        workers: Processes; None for one a core, 0 for this process alone.
        interrupts: After a Ctrl-C no more episodes are given.
        ray: Address of a cluster to simulate on instead (`on_ray`), one CPU an episode.

    Raises:
        RuntimeError: Where a worker dies.
    """
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(workers, len(numbers))
    if ray is not None:
        return _on_ray(spec, numbers, max(workers, 1), interrupts, ray)
    return _in_processes(spec, numbers, workers, interrupts) if workers else _here(spec, numbers, interrupts)


def _here(spec: EpisodeSpec, numbers: Sequence[int], interrupts: Interrupts) -> Generator[Simulated, None, None]:
    env = EpisodeSource(spec)
    try:
        for episode in numbers:
            if interrupts.seen:
                return
            yield env.describe, env.rollout(episode)
    finally:
        env.close()


def _in_processes(
    spec: EpisodeSpec, numbers: Sequence[int], workers: int, interrupts: Interrupts
) -> Generator[Simulated, None, None]:
    try:
        with spawned_pool(workers, interrupts, _start_worker, (spec,)) as pool:

            def begin(number: int) -> concurrent.futures.Future[Simulated]:
                with interrupts.ignored_by_children(), one_thread():
                    return pool.submit(_rollout, number)

            def is_done(future: concurrent.futures.Future[Simulated]) -> bool:
                return bool(concurrent.futures.wait([future], timeout=0.2).done)

            for future in _in_order(numbers, begin, is_done, AHEAD * workers, interrupts):
                yield future.result()
    except concurrent.futures.process.BrokenProcessPool:
        raise _lost(spec) from None


def _on_ray(
    spec: EpisodeSpec, numbers: Sequence[int], workers: int, interrupts: Interrupts, address: str
) -> Generator[Simulated, None, None]:
    with on_ray(address, workers) as ray:
        task, known = ray.remote(num_cpus=1)(_rollout_of), ray.put(carried())
        ahead = AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
        begun: collections.deque[Any] = collections.deque(maxlen=ahead)

        def begin(number: int) -> Any:
            begun.append(task.remote(spec, known, number))
            return begun[-1]

        def is_done(future: Any) -> bool:
            return bool(ray.wait([future], timeout=0.2)[0])

        try:
            for future in _in_order(numbers, begin, is_done, ahead, interrupts):
                yield ray.get(future)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None  # as the other ways raise it
        except ray.exceptions.RayError:
            raise _lost(spec) from None
        finally:
            for future in begun:  # those that are done do not mind
                ray.cancel(future, force=True)


def _in_order(
    numbers: Sequence[int], begin: Callable[[int], Any], is_done: Callable[[Any], bool], ahead: int, till: Interrupts
) -> Iterator[Any]:
    """The futures of the numbers as each is done, in order, so many begun ahead; none after a Ctrl-C."""
    waiting: collections.deque[Any] = collections.deque()
    left = iter(numbers)
    while True:
        while len(waiting) < ahead and (number := next(left, None)) is not None:
            waiting.append(begin(number))
        if not waiting:
            return
        future = waiting.popleft()
        while not is_done(future):
            if till.seen:
                return
        yield future


def _lost(spec: EpisodeSpec) -> RuntimeError:
    return RuntimeError(
        f"a worker died while it simulated episodes of {spec.env_id}: out of memory, a crash in the simulator, a "
        "calling script without `if __name__ == '__main__':`, or a machine without wm-gym; the episodes before are "
        "kept, the same call goes on from there (try workers=1)"
    )


_source: EpisodeSpec | EpisodeSource | None = None  # the worker's environment


def _start_worker(spec: EpisodeSpec) -> None:
    global _source
    begin_worker()
    _source = spec


def _rollout(number: int) -> Simulated:
    global _source
    if isinstance(_source, EpisodeSpec):  # made here, not in the initializer, so that its error reaches the caller
        _source = EpisodeSource(_source)
    assert _source is not None
    return _source.describe, _source.rollout(number)


def _rollout_of(spec: EpisodeSpec, known: tuple[list[str], list[bytes]], number: int) -> Simulated:
    """The same in a process of the cluster, which may have simulated for another call before."""
    global _source
    if not (isinstance(_source, EpisodeSource) and _source.spec == spec):
        if isinstance(_source, EpisodeSource):
            _source.close()
        adopt(*known)
        _source = spec
    return _rollout(number)
