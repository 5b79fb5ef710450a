"""How does one function run over many recordings on several workers, and survive a worker that dies?

The workers are processes, so that an error in a C library ends only one of them; or threads of this process; or the
workers of a dask cluster.
"""

import contextlib
import functools
import itertools
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from threadpoolctl import threadpool_limits

from utils.command import cannot_start
from utils.errors import DataError, counted, first_line

log = logging.getLogger(__name__)

Task = TypeVar("Task")
Result = TypeVar("Result")
Numbered = tuple[int, Any]  # a job, or its result, with the number of the job

_BATCH = 4  # jobs that are sent at once: this takes 1 ms of this process, and a short recording 14 ms of a worker
_WAITING = 4  # batches for each worker that are sent and not finished, so that no worker must wait for this process


def run_jobs(
    work: Callable[[Task], Result],
    jobs: Sequence[Task],
    *,
    n_workers: int,
    threads: bool,
    backend: str,
    died: Callable[[Task], Result],
) -> Iterator[Result]:
    """Yield ``work(job)`` of every job, in the order in which they finish.

    Args:
        work: called in the workers; picklable if these are processes.
        threads: whether the workers are threads of this process, or processes.
        backend: ``local``, or ``dask`` (the cluster at DASK_SCHEDULER_ADDRESS, else one on this machine).
        died: returns the result of a job that ended its worker process, for instance in a C library. The other jobs of
            that worker are repeated.

    Raises:
        DataError: the workers cannot be started.
    """
    if not jobs:
        return
    n_workers = min(n_workers, len(jobs))
    if backend == "dask":
        yield from _run_on_dask(work, jobs, n_workers, threads, died)
    elif threads:
        log.info("[data] multi_threading = true: if a C library crashes on a recording, the whole run ends")
        with _one_thread(), contextlib.closing(_run_in_threads(work, jobs, n_workers)) as results:
            yield from results
    else:
        yield from _run_in_processes(work, jobs, n_workers, died)


def _run_in_threads(work: Callable[[Task], Result], jobs: Sequence[Task], n_workers: int) -> Iterator[Result]:
    pool = ThreadPoolExecutor(n_workers)
    try:
        for _, result in _as_done(pool, functools.partial(_do, work), enumerate(jobs), 1, _WAITING * n_workers):
            yield result
    finally:
        pool.shutdown(cancel_futures=True)


def _run_in_processes(
    work: Callable[[Task], Result], jobs: Sequence[Task], n_workers: int, died: Callable[[Task], Result]
) -> Iterator[Result]:
    left, with_care = dict(enumerate(jobs)), False
    while left:
        handed_out: set[int] = set()
        # Small batches at the end, so that all workers end at about the same time.
        batch = max(1, min(_BATCH, len(left) // (8 * n_workers)))
        batch, waiting = (1, n_workers) if with_care else (batch, _WAITING * n_workers)
        try:
            with _processes(work, n_workers) as pool:
                for number, result in _as_done(pool, _do_in_worker, left.items(), batch, waiting, handed_out):
                    del left[number]
                    yield result
        except BrokenProcessPool:
            if not with_care:  # then few recordings are affected if it happens again
                log.warning("a worker process died; continuing with one recording at a time")
                with_care = True
                continue
            # One of the unfinished jobs ended the process, so each of them runs in a process of its own.
            suspects = [number for number in sorted(handed_out) if number in left]
            log.warning("a worker process died; trying %s one by one", counted(len(suspects), "recording"))
            for number in suspects:
                yield _run_alone(work, left.pop(number), died)


def _run_alone(work: Callable[[Task], Result], job: Task, died: Callable[[Task], Result]) -> Result:
    """The result of ``job`` in a process of its own, which the job may end."""
    try:
        with _processes(work, 1) as pool:
            return _submit(pool, _do_in_worker, [(0, job)]).result()[0][1]
    except BrokenProcessPool:
        return died(job)


def _as_done(
    pool: Executor,
    do: Callable[[Sequence[Numbered]], list[Numbered]],
    jobs: Iterator[Numbered],
    batch: int,
    most_waiting: int,
    handed_out: set[int] | None = None,
) -> Iterator[Numbered]:
    """The result of every numbered job when it is finished; ``handed_out`` receives the numbers of submitted jobs."""
    coming, waiting = iter(list(jobs)), set()
    while True:
        while len(waiting) < most_waiting and (numbered := list(itertools.islice(coming, batch))):
            if handed_out is not None:
                handed_out.update(number for number, _ in numbered)
            waiting.add(_submit(pool, do, numbered))
        if not waiting:
            return
        done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        for future in done:
            yield from future.result()


def _submit(pool: Executor, do: Callable[[Sequence[Numbered]], list[Numbered]], jobs: Sequence[Numbered]) -> Future:
    """Submit jobs. For a worker process that is started for them Ctrl-C is blocked until it can leave that to us."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        return pool.submit(do, jobs)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # a new process begins with the same
    try:
        return pool.submit(do, jobs)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _do(work: Callable[[Task], Result], jobs: Sequence[Numbered]) -> list[Numbered]:
    return [(number, work(job)) for number, job in jobs]


_work: Callable | None = None  # of a worker process; it is sent once, because it holds the mel filters


def _do_in_worker(jobs: Sequence[Numbered]) -> list[Numbered]:
    return _do(_work, jobs)


def _begin_worker(work: Callable) -> None:
    """In a new worker process: keep the work, use one thread, ignore Ctrl-C, and end with the main process."""
    global _work
    _work = work
    os.environ["OMP_NUM_THREADS"] = "1"  # for a library that is loaded later
    if torch := sys.modules.get("torch"):  # its import takes seconds, and work that does not need it has not loaded it
        torch.set_num_threads(1)
    threadpool_limits(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all processes
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # see _submit
    threading.Thread(target=_end_with_the_main_process, daemon=True).start()


def _end_with_the_main_process() -> None:
    multiprocessing.parent_process().join()  # returns when the main process is dead, however it died
    os._exit(1)


@contextlib.contextmanager
def _processes(work: Callable, n_workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes that know ``work``; after an error or a signal in this block they are stopped at once.

    Raises:
        DataError: no process can be started.
    """
    earlier = set(multiprocessing.active_children())
    remedy = "set [data] multi_threading = true, which needs no processes"
    try:
        # spawn, because a fork would copy the locks of libraries that already have threads.
        pool = ProcessPoolExecutor(n_workers, multiprocessing.get_context("spawn"), _begin_worker, (work,))
    except OSError as error:  # there are no semaphores, for instance because /dev/shm is read-only
        raise DataError(cannot_start("worker process", error, remedy)) from None
    try:
        _must_start(pool, remedy)
        yield pool
    except BaseException:  # also Ctrl-C, and a caller that stops reading
        for process in set(multiprocessing.active_children()) - earlier:
            process.terminate()
        raise
    finally:
        pool.shutdown()


def _must_start(pool: ProcessPoolExecutor, remedy: str) -> None:
    """Wait for the first worker; if one dies later, a recording was the cause."""
    try:
        _submit(pool, _do_in_worker, []).result()
    except BrokenProcessPool:
        why = "they end as soon as they begin, because memory is short or the script has no if __name__ == '__main__'"
        raise DataError(f"no worker process can be started: {why}; {remedy}") from None
    except OSError as error:  # too many open files, too many processes
        raise DataError(cannot_start("worker process", error, remedy)) from None


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """In this block torch computes with one thread."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _run_on_dask(
    work: Callable[[Task], Result], jobs: Sequence[Task], n_workers: int, threads: bool, died: Callable[[Task], Result]
) -> Iterator[Result]:
    """``run_jobs`` on the cluster at DASK_SCHEDULER_ADDRESS, else on one on this machine."""
    try:
        from dask.distributed import Client, KilledWorker, as_completed
    except ImportError as error:
        what = f"{error.name} is not installed; pip install 'dask[distributed]'"
        raise DataError(f"[data] backend = dask: {what}") from None
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # importing it has set another level
    with _dask_client(Client, n_workers, threads) as client:
        waiting, job_of, done = iter(jobs), {}, as_completed(loop=client.loop)

        def hand_out(n: int) -> None:
            for job in itertools.islice(waiting, n):
                future = client.submit(work, job, pure=False)
                job_of[future.key] = job
                done.add(future)

        hand_out(8 * max(n_workers, sum(client.nthreads().values())))
        for future in done:
            job = job_of.pop(future.key)
            try:
                result = future.result()
            except KilledWorker:  # it was tried on four workers, and all died
                result = died(job)
            yield result
            hand_out(1)


def _dask_client(client: type, n_workers: int, threads: bool) -> AbstractContextManager:
    address = os.environ.get("DASK_SCHEDULER_ADDRESS")
    if not address:
        local = {"n_workers": 1 if threads else n_workers, "threads_per_worker": n_workers if threads else 1}
        return client(**local, dashboard_address=None, silence_logs=logging.CRITICAL)
    try:
        return client(address)
    except (OSError, ValueError) as error:
        why = first_line(error)
        text = f"DASK_SCHEDULER_ADDRESS = {address!r}: there is no scheduler ({why}); start one, or unset it"
        raise DataError(text) from None
