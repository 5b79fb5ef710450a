"""Do the workers give every result, also when one of them dies?"""

import ctypes
import errno
import functools
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dataloader.cache.workers import run_jobs
from utils.errors import DataError

ROOT = Path(__file__).parents[3]


def square(number):
    return number * number


def deadly(number, victim):
    if number == victim:
        ctypes.string_at(0)  # what a C library does that crashes
    return number


def threads_of_torch(_):
    import torch  # late, as a worker that imports this file for other work would load it too

    return torch.get_num_threads()


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


@pytest.mark.parametrize(("n", "n_workers"), [(15, 1), (100, 2)], ids=["one by one", "in batches"])
def test_a_worker_that_dies_of_a_recording_costs_that_recording_only(n, n_workers):
    results = run(functools.partial(deadly, victim=7), range(n), n_workers=n_workers)
    assert results == sorted([*(str(number) for number in range(n) if number != 7), "died of 7"])


@pytest.fixture
def cluster(monkeypatch):
    distributed = pytest.importorskip("distributed", reason="dask[distributed] is an extra")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", cluster.scheduler_address)
        yield cluster


@pytest.mark.filterwarnings("ignore")
def test_dask_does_the_same_on_a_cluster_and_outlives_a_worker(cluster):
    def deadly_7(number):  # sent by value: the workers cannot import this file
        if number == 7:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    expected = sorted([*(str(n) for n in range(30) if n != 7), "died of 7"])
    assert run(deadly_7, range(30), backend="dask") == expected


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "foo"])
def test_an_unreachable_scheduler_is_an_error(monkeypatch, address):
    dask = pytest.importorskip("dask", reason="dask[distributed] is an extra")
    monkeypatch.setenv("DASK_SCHEDULER_ADDRESS", address)
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(DataError, match=rf"DASK_SCHEDULER_ADDRESS = '{address}': there is no scheduler .*; start one"),
    ):
        run(abs, [1], backend="dask")


@pytest.mark.parametrize("threads", [True, False])
def test_a_worker_has_one_thread_of_the_numerical_libraries(threads, monkeypatch):
    import torch

    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # 1 in all of our tests
    torch.set_num_threads(2)
    try:
        assert run(threads_of_torch, range(4), n_workers=2 if threads else 1, threads=threads) == ["1"] * 4
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


SCRIPT = """
import multiprocessing, os, time
from dataloader.cache.workers import run_jobs
if __name__ == "__mp_main__":
    try:
        os.mkdir("begun")
    except FileExistsError:
        time.sleep(1)  # the second worker is still being loaded when the signal comes
def slow(n):
    time.sleep(0.01)
if __name__ == "__main__":
    jobs = run_jobs(slow, range(10_000), n_workers=2, threads=False, backend="local", died=None)
    next(jobs)
    try:
        print(*(child.pid for child in multiprocessing.active_children()), flush=True)
        for _ in jobs:
            pass
    except KeyboardInterrupt:
        pass
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_main_process_without_a_traceback(tmp_path, number):
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(
        [sys.executable, "script.py"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    workers = list(map(int, child.stdout.readline().split()))
    assert workers
    if number == signal.SIGINT:
        os.killpg(child.pid, number)  # as a terminal does: to the workers too
    else:
        os.kill(child.pid, number)
    assert "Traceback" not in child.communicate(timeout=60)[1]  # which waits for all that hold the pipe
    assert not any(Path(f"/proc/{worker}/cwd").exists() for worker in workers)


def test_processes_that_cannot_start_are_reported_in_a_line(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT.replace('if __name__ == "__main__":', "if True:"))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    line = [sys.executable, "script.py"]
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "DataError: no worker process can be started: they end as soon as they begin" in done.stderr


def test_a_dev_shm_without_space_for_semaphores_is_named(monkeypatch):
    def refuse(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("dataloader.cache.workers.ProcessPoolExecutor", refuse)
    with pytest.raises(DataError, match=r"/dev/shm: Read-only file system; make it writable, or set \[data\] multi"):
        run(square, [1])


def test_without_dask_the_error_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "dask.distributed", None)
    with pytest.raises(DataError, match=r"backend = dask: .* is not installed; pip install 'dask\["):
        run(square, [1], backend="dask")
