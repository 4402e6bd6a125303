"""Worker processes, of which one may die at any moment without taking the run along.

Each has a pipe of its own, and nothing else to share: the processes of the usual pools take their work from one queue
under one lock, and one that is killed while it holds that lock leaves the others waiting for ever.
"""

import contextlib
import multiprocessing
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from multiprocessing import connection
from typing import Any, TypeVar

SECONDS_TO_END = 10  # for one that is deep in a library

Item = TypeVar("Item")


class WorkerError(Exception):
    """The process ended before the call did: killed, or crashed in a library."""


class Workers:
    """`count` processes that call `function`, each after a first call of `initializer`. To be used with `with`."""

    def __init__(self, count: int, function: Callable[[Item], Any], initializer: Callable[[], object]) -> None:
        self._count = count
        self._does = function, initializer
        self._processes: dict[connection.Connection, multiprocessing.Process] = {}

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.terminate()
        until = time.monotonic() + SECONDS_TO_END
        try:
            for process in self._processes.values():
                process.join(max(0, until - time.monotonic()))
        finally:  # also where Ctrl-C comes once more
            for pipe, process in tuple(self._processes.items()):
                process.kill()
                self._gone(pipe)

    def each(self, items: Iterable[Item]) -> Iterator[tuple[Item, Future]]:
        """Every item with what `function(item)` came to, in the order in which they are done.

        That is a finished future. Where the worker died, its `result()` raises `WorkerError`; another one starts for
        the next item.
        """
        busy: dict[connection.Connection, Item] = {}
        idle = list(self._processes)
        finished: list[tuple[Item, Future]] = []
        waiting = iter(items)
        while True:
            for _, item in zip(range(self._count - len(busy)), waiting, strict=False):
                busy[self._sent(item, idle)] = item
            yield from finished  # after the next ones are sent: no worker waits for what is done with these
            if not busy:
                return
            ready = connection.wait(busy)
            finished = [(busy.pop(pipe), self._answer(pipe)) for pipe in ready]
            idle += [pipe for pipe in ready if pipe in self._processes]

    def _sent(self, item: Item, idle: list[connection.Connection]) -> connection.Connection:
        """Send an item to an idle worker, or to a new one; returns its pipe."""
        while True:
            pipe = idle.pop() if idle else self._start()
            try:
                pipe.send(item)
                return pipe
            except OSError:  # it died with nothing to do
                self._gone(pipe)

    def _start(self) -> connection.Connection:
        ours, theirs = multiprocessing.Pipe()
        forked = [*self._processes, ours]
        process = multiprocessing.Process(target=_serve, args=(theirs, forked, *self._does), daemon=True)
        process.start()
        theirs.close()  # so that the end of the process is the end of the pipe
        self._processes[ours] = process
        return ours

    def _answer(self, pipe: connection.Connection) -> Future:
        future: Future = Future()
        try:
            result, error = pipe.recv()
        except (EOFError, OSError):
            result, error = None, WorkerError(f"its worker died (exit status {self._gone(pipe)})")
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)
        return future

    def _gone(self, pipe: connection.Connection) -> int:
        """See the process off; returns its exit status, negative where a signal ended it."""
        pipe.close()
        process = self._processes.pop(pipe)
        process.join()
        return process.exitcode


def _serve(pipe: connection.Connection, forked: list[connection.Connection], function: Callable[[Any], Any],
           initializer: Callable[[], object]) -> None:
    """A worker's life: one item after the other, until the other end of its pipe is gone, however that came."""
    for inherited in forked:
        inherited.close()  # or the end of a killed run would not be the end of its pipes
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which a terminal sends to all: the others are ended by the first
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that it takes its half files along
    initializer()
    with contextlib.suppress(EOFError, OSError):
        while True:
            item = pipe.recv()
            try:
                answer = function(item), None
            except Exception as error:
                error.add_note(traceback.format_exc())  # which does not travel otherwise
                answer = None, error
            pipe.send(answer)
