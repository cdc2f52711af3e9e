"""How are many independent measurements run, here, in processes or on a Ray cluster, with the same results?

Every mode calls the same function with the same JSON-able arguments and one thread for torch (what is compiled for a
number of threads, as OpenVINO's engines are, must be made by the job itself). Only the caller writes files.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import torch
from tqdm import tqdm

from wm_gym.common.cluster import on_ray
from wm_gym.common.files import json_text, write_json
from wm_gym.common.processes import Interrupts, one_thread, spawned_pool
from wm_gym.common.registry import adopt, carried
from wm_gym.evaluation.kept import is_of_job, read_kept

LOST = (
    "its worker was lost (out of memory, a crash, a calling script without `if __name__ == '__main__':`, a machine "
    "without wm-gym); try workers=1"
)


@dataclass(frozen=True)
class Job:
    """A measurement: what a function returns for its arguments, a dict that JSON can write, and the file to keep it in.

    function: "module:name", importable wherever the job runs. arguments: by keyword, JSON-able; function and arguments
    are what the kept file is the result of. Files that they name must be there under the same path on every
    machine that runs jobs; `path` needs to be there for the caller alone.
    """

    path: Path
    function: str
    arguments: dict[str, Any]

    def call(self) -> dict[str, Any]:
        """{"function", "arguments"} as JSON gives them back. Raises TypeError naming what JSON cannot write."""
        try:
            return json.loads(json_text({"function": self.function, "arguments": self.arguments}))
        except TypeError as error:
            raise TypeError(f"the arguments of the job for {self.path}: {error}") from None


@dataclass(frozen=True)
class Outcome:
    """What came of a job: its result as JSON, or its error with the traceback."""

    result: str | None = None
    error: str | None = None


def run_jobs(
    jobs: Sequence[Job], workers: int | None = None, ray: str | None = None, progress: bool = True
) -> list[dict]:
    """Run the jobs whose files are not there yet; the results of all, in order, as their files keep them.

    workers: 1 runs them in this process, more in so many spawned ones (default: one a core). ray: the address of a
    cluster as `ray.init` takes it ("auto", "ray://HOST:10001"), one CPU a job, or "local" for one of `workers` CPUs on
    this machine; a Ray that this process has begun is used and left running. Results do not depend on either. A job
    that fails does not stop the others. Raises ValueError for two jobs of one file and for a file of another
    call, RuntimeError naming the jobs that failed, and KeyboardInterrupt: the same call then goes on with those
    not kept.
    """
    workers = (os.cpu_count() or 1) if workers is None else workers
    if workers < 1:
        raise ValueError(f"workers is {workers}, expected at least 1")
    paths = [job.path for job in jobs]
    if twice := next((path for path in paths if paths.count(path) > 1), None):
        raise ValueError(f"two jobs would keep their results in {twice}; give each a file of its own")
    waiting = [job for job in jobs if _kept(job) is None]
    failed: dict[Path, str] = {}
    with (
        tqdm(total=len(jobs), initial=len(jobs) - len(waiting), unit="job", disable=not progress) as bar,
        contextlib.closing(_outcomes(waiting, workers, ray)) as outcomes,
    ):
        try:
            for job, outcome in outcomes:
                if outcome.error:
                    failed[job.path] = outcome.error
                    if progress:
                        bar.write(f"failed: {job.path}: {outcome.error.strip().splitlines()[-1]}", file=sys.stderr)
                    continue
                write_json(job.path, job.call() | {"result": json.loads(outcome.result or "null")})
                bar.update()
        except KeyboardInterrupt:
            kept = sum(job.path.is_file() for job in jobs)
            bar.write(
                f"interrupted: {kept} of {len(jobs)} jobs are kept; the same call goes on from there", file=sys.stderr
            )
            raise
    if failed:
        first = next(iter(failed))
        raise RuntimeError(
            f"{len(failed)} of {len(jobs)} jobs failed, the others are kept: "
            f"{', '.join(map(str, failed))}\nthe first, {first}: {failed[first]}"
        )
    return [result for job in jobs if (result := _kept(job)) is not None]  # all: each has its file now


def attempt(function: str, arguments: dict[str, Any], known: tuple | None = None) -> Outcome:
    """Call "module:name" with the arguments and one thread for torch; its error becomes part of the outcome.

    The name is a job's own, never one that a kept file gave. known: what `carried` gave elsewhere of environments.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if known:
            adopt(*known)
        return Outcome(json_text(resolve_name(function)(**arguments)))
    except Exception:
        return Outcome(error=traceback.format_exc())
    finally:
        torch.set_num_threads(threads)


def _outcomes(jobs: Sequence[Job], workers: int, ray: str | None) -> Generator[tuple[Job, Outcome], None, None]:
    """Each job with its outcome, as they come."""
    if ray is not None:
        return _on_cluster(jobs, workers, ray)
    if workers == 1 or len(jobs) < 2:
        return ((job, attempt(**job.call())) for job in jobs)
    return _in_processes(jobs, workers)


def _in_processes(jobs: Sequence[Job], workers: int) -> Generator[tuple[Job, Outcome], None, None]:
    with Interrupts() as interrupts, spawned_pool(min(workers, len(jobs)), interrupts) as pool:
        with interrupts.ignored_by_children(), one_thread():
            futures = {pool.submit(attempt, **job.call()): job for job in jobs}

        def some(waiting: set) -> tuple[set, set]:
            return wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)

        yield from _as_they_come(futures, some, lambda future: future.result(), BrokenProcessPool, interrupts)


def _on_cluster(jobs: Sequence[Job], workers: int, address: str) -> Generator[tuple[Job, Outcome], None, None]:
    if not jobs:
        return
    with on_ray(address, workers) as ray:
        futures = {}
        try:
            remote = ray.remote(num_cpus=1)(attempt)
            with Interrupts() as interrupts:
                known = carried()
                futures = {remote.remote(**job.call(), known=known): job for job in jobs}

                def some(waiting: set) -> tuple[list, list]:
                    return ray.wait(list(waiting), num_returns=1, timeout=0.2)

                yield from _as_they_come(futures, some, ray.get, ray.exceptions.RayError, interrupts)
        finally:
            for future in futures:  # those that are done do not mind
                ray.cancel(future, force=True)


def _as_they_come(
    futures: dict[Any, Job], some: Callable, result: Callable, lost: type[Exception], interrupts: Interrupts
) -> Generator[tuple[Job, Outcome], None, None]:
    """Yield what `some` of the futures gives whenever it looks; a first Ctrl-C ends it after what is done already."""
    waiting = set(futures)
    while waiting:
        done, waiting = some(waiting)
        for future in done:
            try:
                outcome = result(future)
            except lost as error:
                outcome = Outcome(error=f"{LOST}\n{type(error).__name__}: {error}")
            yield futures[future], outcome
        if interrupts.seen:
            raise KeyboardInterrupt


def _kept(job: Job) -> dict[str, Any] | None:
    """The result in a job's file, or None where there is no file."""
    if not job.path.is_file():
        return None
    try:
        kept = read_kept(job.path)
    except ValueError:
        kept = None
    if not is_of_job(kept):
        raise ValueError(f"{job.path} keeps no job's result; remove it, or choose another folder (--out)")
    before, now = ({"function": each["function"], **each["arguments"]} for each in (kept, job.call()))
    if before != now:
        other = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
        raise ValueError(
            f"{job.path} answers { ({key: before.get(key) for key in other}) }, not "
            f"{ ({key: now.get(key) for key in other}) }; remove it, or choose another --out"
        )
    return kept["result"]
