"""Run one function over many recordings on several workers, and outlive a worker that dies.

joblib does the work: processes (loky), threads, or the machines of a ray cluster. On those of dask it is asked itself:
through joblib the death of a worker would be waited for without end.
"""

import contextlib
import functools
import itertools
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TypeVar

import joblib
import torch
from joblib.externals.loky.process_executor import BrokenProcessPool, TerminatedWorkerError

from utils.errors import DataError, first_line

log = logging.getLogger(__name__)

Job = TypeVar("Job")
Result = TypeVar("Result")

# Recordings handed over at once: a hand-over costs 0.7 ms of this process, and a short recording 14 of a worker's.
_BATCH = 4
_EXTRAS = {"dask": "dask[distributed]", "ray": "ray[default]"}


def run_jobs(
    work: Callable[[Job], Result],
    jobs: Sequence[Job],
    *,
    n_workers: int,
    threads: bool,
    backend: str,
    died: Callable[[Job], Result],
    in_hand: Callable[[Job], AbstractContextManager] = contextlib.nullcontext,
) -> Iterator[Result]:
    """Yield ``work(job)`` of every job, in the order in which they are done.

    Args:
        work: called in the workers; picklable where these are processes.
        n_workers: one runs in this process.
        threads: the workers are threads of this process, else processes.
        backend: ``local``, ``dask`` (the cluster at DASK_SCHEDULER_ADDRESS, else one on this
            machine) or ``ray``.
        died: the result of a job of which a worker died, for instance in a C library. The other
            jobs of that worker are done again.
        in_hand: entered around a job that is done in this very process, which a crash would take along.
    """
    if not jobs:
        return
    if backend == "dask":
        yield from _run_on_dask(work, jobs, n_workers, threads, died)
        return
    with _parallel_config(backend, n_workers, threads):
        left, most = dict(enumerate(jobs)), _BATCH
        while left:
            handed_out: set[int] = set()
            n_jobs = min(n_workers, len(left))
            batch = max(1, min(most, len(left) // (8 * n_jobs)))  # of few, small ones, for all to end together
            here = backend == "local" and (threads or n_jobs == 1)
            doing = functools.partial(_watched, work, in_hand) if here else work
            try:
                for number, result in _run(doing, left, handed_out, n_jobs, batch):
                    del left[number]
                    yield result
            except (TerminatedWorkerError, BrokenProcessPool):
                if batch > 1:  # from now on one by one, so that few are under suspicion when it happens again
                    log.warning("a worker died; going on with one recording at a time")
                    most = 1
                    continue
                # One of those handed out and not done is the culprit: each gets a process of its own.
                suspects = [number for number in sorted(handed_out) if number in left]
                log.warning("a worker died; trying its %d recordings one by one", len(suspects))
                for number in suspects:
                    yield run_alone(work, left.pop(number), died)


def _run(
    work: Callable[[Job], Result], jobs: dict[int, Job], handed_out: set[int], n_workers: int, batch: int
) -> Iterator[tuple[int, Result]]:
    def tasks() -> Iterator:
        for number, job in list(jobs.items()):
            handed_out.add(number)
            yield joblib.delayed(_numbered)(work, number, job)

    parallel = joblib.Parallel(
        n_jobs=n_workers, return_as="generator_unordered", batch_size=batch, pre_dispatch=4 * n_workers * batch
    )
    with contextlib.closing(parallel(tasks())) as results:
        yield from results


def _numbered(work: Callable[[Job], Result], number: int, job: Job) -> tuple[int, Result]:
    return number, work(job)


def _watched(work: Callable[[Job], Result], in_hand: Callable[[Job], AbstractContextManager], job: Job) -> Result:
    with in_hand(job):
        return work(job)


def run_alone(work: Callable[[Job], Result], job: Job, died: Callable[[Job], Result]) -> Result:
    """The result of ``job`` in a process of its own, which may die of it."""
    # Two workers, as joblib runs a single one in this process.
    try:
        return joblib.Parallel(n_jobs=2, backend="loky", batch_size=1)([joblib.delayed(work)(job)])[0]
    except (TerminatedWorkerError, BrokenProcessPool):
        return died(job)


@contextlib.contextmanager
def _parallel_config(backend: str, n_workers: int, threads: bool) -> Iterable[None]:
    """joblib's backend for the settings; a worker has one thread of the numerical libraries."""
    if backend == "ray":
        with _needs("ray"):
            from ray.util.joblib import register_ray

            register_ray()
        with joblib.parallel_config(backend="ray"):
            yield
    elif threads or n_workers == 1:
        with joblib.parallel_config(backend="threading"), _one_thread():
            yield
    else:
        _hush_loky()
        with joblib.parallel_config(
            backend="loky", inner_max_num_threads=1, initializer=_leave_ctrl_c_to_the_main_process
        ):
            yield


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Within it torch computes with one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _leave_ctrl_c_to_the_main_process() -> None:
    """In a worker: a terminal sends Ctrl-C to it as well, and it would print a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _hush_loky() -> None:
    """Have the thread that manages loky's workers end without a traceback when they are stopped, as by Ctrl-C.

    It logs that no more work can be handed out, and dies of work that is gone. What a worker dies of reaches us as
    an exception all the same.
    """
    logging.getLogger("concurrent.futures").setLevel(logging.CRITICAL)
    others = threading.excepthook
    if getattr(others, "is_ours", False):
        return

    def hook(failed: threading.ExceptHookArgs) -> None:
        if failed.thread is None or failed.thread.name != "ExecutorManagerThread":
            others(failed)

    hook.is_ours = True
    threading.excepthook = hook


@contextlib.contextmanager
def _needs(backend: str) -> Iterator[None]:
    """Within it what an optional backend needs is imported."""
    try:
        yield
    except ImportError as error:
        raise DataError(
            f"[data] backend = {backend}: {error.name} is not installed; pip install '{_EXTRAS[backend]}'"
        ) from None


def _run_on_dask(
    work: Callable[[Job], Result], jobs: Sequence[Job], n_workers: int, threads: bool, died: Callable[[Job], Result]
) -> Iterator[Result]:
    """``run_jobs`` on the cluster at DASK_SCHEDULER_ADDRESS, else on one on this machine."""
    with _needs("dask"):
        from dask.distributed import Client, KilledWorker, as_completed
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
            except KilledWorker:  # it has been tried on four workers, and all died
                result = died(job)
            yield result
            hand_out(1)


def _dask_client(client: type, n_workers: int, threads: bool) -> AbstractContextManager:
    address = os.environ.get("DASK_SCHEDULER_ADDRESS")
    if not address:
        local = {"n_workers": 1 if threads else n_workers, "threads_per_worker": n_workers if threads else 1}
        return client(**local, dashboard_address=None)
    try:
        return client(address)
    except (OSError, ValueError) as error:
        why = first_line(error)
        text = f"DASK_SCHEDULER_ADDRESS = {address!r}: no scheduler answers there ({why}); start one, or unset it"
        raise DataError(text) from None
