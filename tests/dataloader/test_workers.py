"""Do the workers give every result, also when one of them dies?"""

import functools
import os
import signal
import sys

import pytest

from dataloader.workers import run_jobs
from utils.errors import DataError


def square(number):
    return number * number


def deadly(number, victim):
    if number == victim:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def run(work, jobs, *, n_workers=2, threads=False, backend="local"):
    results = run_jobs(
        work, jobs, n_workers=n_workers, threads=threads, backend=backend, died=lambda job: f"died of {job}"
    )
    return sorted(map(str, results))


@pytest.mark.parametrize(("n_workers", "threads"), [(1, False), (2, False), (2, True)])
def test_every_job_is_done_once(n_workers, threads):
    assert run(square, range(20), n_workers=n_workers, threads=threads) == sorted(str(n * n) for n in range(20))


def test_nothing_to_do_starts_no_worker():
    assert run(square, []) == []


@pytest.mark.parametrize("n", [15, 100], ids=["one by one", "in batches"])
def test_a_worker_that_dies_of_a_recording_costs_that_recording_only(n):
    results = run(functools.partial(deadly, victim=7), range(n))
    assert results == sorted([*(str(number) for number in range(n) if number != 7), "died of 7"])


def test_dask_does_the_same_on_a_cluster():
    distributed = pytest.importorskip("distributed", reason="dask[distributed] is an extra")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        os.environ["DASK_SCHEDULER_ADDRESS"] = cluster.scheduler_address
        try:
            assert run(abs, [-1, 2, -3], backend="dask") == ["1", "2", "3"]
        finally:
            del os.environ["DASK_SCHEDULER_ADDRESS"]


@pytest.mark.parametrize(("backend", "module"), [("dask", "dask.distributed"), ("ray", "ray.util.joblib")])
def test_a_backend_that_is_not_installed_says_what_to_install(monkeypatch, backend, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DataError, match=rf"backend = {backend}: .* is not installed; pip install '{backend}\["):
        run(square, [1], backend=backend)
