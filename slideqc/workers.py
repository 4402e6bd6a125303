"""Worker processes, of which one may die without taking the run along.

Each worker is a pool of its own: processes that share a pool take their work from it under one lock, and one that is
killed while it holds that lock leaves the others waiting for ever.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from pebble import ProcessExpired, ProcessPool

Item = TypeVar("Item")


class WorkerError(Exception):
    """The process ended before the call did: killed, or crashed in a library."""


class Workers:
    """`count` processes, each of which calls `initializer(*initargs)` first. To be used with `with`."""

    def __init__(self, count: int, initializer: Callable[..., Any], initargs: Iterable[Any] = ()) -> None:
        self._new = lambda: ProcessPool(1, initializer=initializer, initargs=initargs)
        self._pools = [self._new() for _ in range(count)]

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        for pool in self._pools:
            pool.stop()
        for pool in self._pools:
            pool.join()

    def each(self, function: Callable[[Item], Any], items: Iterable[Item]) -> Iterator[tuple[Item, Future]]:
        """Every item with what `function(item)` came to, in the order in which they are done.

        That is a finished future; where the worker died, its `result()` raises `WorkerError`, and another worker has
        taken the place.
        """
        waiting, idle = iter(items), list(range(len(self._pools)))
        busy: dict[Future, tuple[int, Item]] = {}
        finished: list[tuple[Item, Future]] = []
        while True:
            for place, item in zip(tuple(idle), waiting, strict=False):
                if not self._pools[place].active:  # its worker died with nothing to do
                    self._replace(place)
                idle.remove(place)
                busy[self._pools[place].schedule(function, [item])] = place, item
            yield from finished  # after the next ones are sent: nobody waits for what is done with these
            if not busy:
                return
            finished = []
            for future in wait(busy, return_when=FIRST_COMPLETED).done:
                place, item = busy.pop(future)
                idle.append(place)
                if isinstance(future.exception(), ProcessExpired | BrokenProcessPool):
                    self._replace(place)
                    future = _died(future.exception())
                finished.append((item, future))

    def _replace(self, place: int) -> None:
        self._pools[place].stop()
        self._pools[place].join()
        self._pools[place] = self._new()


def _died(death: BaseException) -> Future:
    """A future that tells of a worker's death as the project does."""
    status = getattr(death, "exitcode", None)
    future: Future = Future()
    future.set_exception(WorkerError("its worker died" + ("" if status is None else f" (exit status {status})")))
    return future
