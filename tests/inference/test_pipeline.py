"""Do readers and scorers go on at the same time, in order, and end when they should?"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from inference.pipeline import Batches, ReadAhead


def alive(before):
    return [thread for thread in threading.enumerate() if thread not in before]


def test_every_item_comes_once_and_those_of_a_generator_in_its_order():
    def items(which):
        for number in range(50):
            yield which, number

    with ReadAhead(map(items, range(5)), 3, 2) as readers:
        found = list(readers)
    assert sorted(found) == [(which, number) for which in range(5) for number in range(50)]
    for which in range(5):
        assert [number for its, number in found if its == which] == list(range(50))


def test_readers_run_ahead_but_not_far():
    made = []

    def items():
        for number in range(100):
            made.append(number)
            yield number

    with ReadAhead([items()], 1, 4) as readers:
        next(readers)
        time.sleep(0.3)
        assert 4 <= len(made) <= 7


def test_what_a_reader_raises_reaches_who_asks_and_all_threads_end():
    before = threading.enumerate()

    def items(which):
        yield which
        if which == 1:
            raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"), ReadAhead(map(items, range(8)), 2, 1) as readers:
        list(readers)
    assert not alive(before)


def test_leaving_early_ends_readers_that_wait_for_room():
    before = threading.enumerate()

    def endless():
        while True:
            yield 0

    with ReadAhead([endless(), endless()], 2, 1) as readers:
        next(readers)
    assert not alive(before)


def test_results_are_handed_out_in_order_to_whom_they_belong():
    sizes = []

    def compute(parts):
        sizes.append(len(parts))
        time.sleep(0.02 if parts[0] == 0 else 0)  # the first batch is overtaken
        return [part * 10 for part in parts]

    with ThreadPoolExecutor(3) as pool:
        batches, got = Batches(compute, pool, size=4, under_way=4), []
        for part in range(18):
            batches.add(part, got.append)
        batches.finish()
    assert got == [part * 10 for part in range(18)]
    assert sorted(sizes) == [2, 4, 4, 4, 4]


def test_no_more_batches_are_under_way_than_may_be():
    go, started = threading.Event(), []

    def compute(parts):
        started.append(parts)
        go.wait()
        return parts

    with ThreadPoolExecutor(2) as pool:
        batches, got = Batches(compute, pool, size=1, under_way=3), []
        for part in range(3):
            batches.add(part, got.append)
        adder = threading.Thread(target=batches.add, args=(3, got.append))
        adder.start()
        adder.join(0.2)
        waits = adder.is_alive()
        go.set()
        adder.join()
        batches.finish()
    assert waits
    assert got == [0, 1, 2, 3]


def test_what_computing_raises_reaches_who_adds():
    def compute(parts):
        raise ValueError("no such shape")

    with ThreadPoolExecutor(1) as pool:
        batches = Batches(compute, pool, size=1, under_way=2)
        with pytest.raises(ValueError, match="no such shape"):  # noqa: PT012 - at once, or with what comes next
            batches.add(0, print)
            batches.finish()
