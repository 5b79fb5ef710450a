"""How are recordings read and windows computed at the same time? Some threads read ahead, others compute batches."""

import collections
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")


class ReadAhead(Iterator[Item]):
    """Runs generators in threads, a few items ahead of the consumer.

    The items of one generator keep their order; the items of several generators are mixed. An error in a generator is
    raised in the consumer.

    Args:
        generators: each is run by the next free thread.
        depth: the largest number of items that are kept ready for each thread.
    """

    def __init__(self, generators: Iterable[Iterator[Item]], n_threads: int, depth: int):
        self._generators, self._lock = iter(generators), threading.Lock()
        self._ready: queue.Queue = queue.Queue(maxsize=depth * n_threads)
        self._stop = threading.Event()
        self._running = n_threads
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(n_threads)]

    def __enter__(self) -> "ReadAhead[Item]":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def __next__(self) -> Item:
        while self._running:
            kind, item = self._ready.get()
            if kind == "item":
                return item
            if kind == "error":
                raise item
            self._running -= 1
        raise StopIteration

    def _work(self) -> None:
        try:
            while (generator := self._next_generator()) is not None:
                for item in generator:
                    if not self._put("item", item):
                        return
            self._put("end", None)
        except Exception as error:  # every error is raised again, in the consumer's thread
            self._put("error", error)

    def _next_generator(self) -> Iterator[Item] | None:
        with self._lock:
            return next(self._generators, None)

    def _put(self, kind: str, item: Any) -> bool:
        """Wait until the queue has room; False if the consumer has stopped."""
        while not self._stop.is_set():
            try:
                self._ready.put((kind, item), timeout=0.2)
                return True
            except queue.Full:
                continue
        return False


class Batches:
    """Collects items into batches, lets threads compute them, and hands out the results in order.

    Args:
        compute: ``(items) -> results``, one result for each item; called in threads.
        pool: the threads; several ``Batches`` may share them.
        size: the number of items in a batch.
        under_way: the largest number of batches at the same time; one more than there are threads keeps all threads
            busy.
    """

    def __init__(
        self, compute: Callable[[list[Any]], Sequence[Any]], pool: ThreadPoolExecutor, *, size: int, under_way: int
    ):  # fmt: skip
        self._compute, self._pool, self._size, self._most = compute, pool, size, under_way
        self._waiting: list[tuple[Any, Callable[[Any], None]]] = []
        self._under_way: collections.deque[tuple[list[Callable[[Any], None]], Future]] = collections.deque()

    def add(self, item: Any, receive: Callable[[Any], None]) -> None:
        """Compute ``item`` later; then ``receive`` is called with its result, in the thread that uses this object."""
        self._waiting.append((item, receive))
        if len(self._waiting) == self._size:
            self._submit()
        while self._under_way and self._under_way[0][1].done():
            self._hand_out()

    def finish(self) -> None:
        """Compute the last items and hand out all results."""
        if self._waiting:
            self._submit()
        while self._under_way:
            self._hand_out()

    def _submit(self) -> None:
        while len(self._under_way) >= self._most:
            self._hand_out()
        items, receivers = zip(*self._waiting, strict=True)
        self._waiting = []
        self._under_way.append((receivers, self._pool.submit(self._compute, list(items))))

    def _hand_out(self) -> None:
        receivers, future = self._under_way.popleft()
        for receive, result in zip(receivers, future.result(), strict=True):
            receive(result)
