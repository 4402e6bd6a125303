"""Worker processes: when one dies, at any moment, the run loses one item and goes on.

Each worker has a pipe of its own. The workers of the usual pools share one queue and one lock: a worker that is killed
while it holds the lock leaves the others waiting for ever. The kept library that comes nearest, pebble, lost calls in 3
of 6 trials of the test that kills workers, and hung in one.
"""

import contextlib
import multiprocessing
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import connection
from typing import Any, TypeVar

SECONDS_TO_END = 10  # for one that is deep in a library

Item = TypeVar("Item")
Result = TypeVar("Result")


class WorkerError(Exception):
    """The process ended before the call did: killed, or crashed in a library."""


class Workers:
    """`count` processes that call `function`, each after a first call of `initializer`. To be used with `with`.

    Where a process dies, `if_killed(item, error)` is called here, and gives the result of its item.
    """

    def __init__(self, count: int, function: Callable[[Item], Result], *, initializer: Callable[[], object],
                 if_killed: Callable[[Item, WorkerError], Result]) -> None:
        self._count = count
        self._does = function, initializer
        self._if_killed = if_killed
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

    def each(self, items: Iterable[Item]) -> Iterator[Result]:
        """The result of `function(item)` for each item, in the order in which they are done; raises what it raised."""
        busy: dict[connection.Connection, Item] = {}
        idle = list(self._processes)
        finished: list[tuple[Item, Any, Exception | None]] = []
        waiting = iter(items)
        while True:
            for _, item in zip(range(self._count - len(busy)), waiting, strict=False):
                busy[self._sent(item, idle)] = item
            for item, result, error in finished:  # only now, after the next ones are sent: no worker has to wait
                if isinstance(error, WorkerError):
                    result, error = self._if_killed(item, error), None
                if error:
                    raise error
                yield result
            if not busy:
                return
            ready = connection.wait(busy)
            finished = [(busy.pop(pipe), *self._answer(pipe)) for pipe in ready]
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

    def _answer(self, pipe: connection.Connection) -> tuple[Any, Exception | None]:
        """The result that a worker sent, or its error; a WorkerError where it died first."""
        try:
            return pipe.recv()
        except (EOFError, OSError):
            return None, WorkerError(f"its worker died (exit status {self._gone(pipe)})")

    def _gone(self, pipe: connection.Connection) -> int:
        """See the process off; returns its exit status, negative where a signal ended it."""
        pipe.close()
        process = self._processes.pop(pipe)
        process.join()
        return process.exitcode


def _serve(pipe: connection.Connection, forked: list[connection.Connection], function: Callable[[Any], Any],
           initializer: Callable[[], object]) -> None:
    """Work on one item after the other, until the other end of the pipe is closed."""
    for inherited in forked:
        inherited.close()  # or the end of a killed run would not be the end of its pipes
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which a terminal sends to all: the others are ended by the first
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # it removes its half-written files
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
