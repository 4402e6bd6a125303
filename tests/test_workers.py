"""slideqc/workers.py: a worker may die at any moment, and only the call that it was working on is lost."""

import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from harness import until
from slideqc import workers as workers_module
from slideqc.workers import Workers

LONG = 600       # seconds: what must not be waited for
GENEROUS = 120   # seconds, for what takes one or two on an idle machine

pytestmark = pytest.mark.skipif(os.name == "nt", reason="kill -9 is POSIX")


class Killed(NamedTuple):
    """What the tests make of an item whose worker died."""

    item: object
    death: str


class DiesOnTheWay:
    """A result whose worker is killed while it sends the result."""

    def __reduce__(self):
        os.kill(os.getpid(), signal.SIGKILL)


def work(item: object) -> object:
    if item == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if item == "killed while sending":
        return DiesOnTheWay()
    if item == "raises":
        raise KeyError(item)
    if item == "asks who":
        return os.getpid()
    time.sleep(0.005)
    return item


def half_written(path: Path) -> None:
    try:
        path.touch()
        time.sleep(LONG)
    finally:
        path.unlink(missing_ok=True)


def stuck(mark: Path) -> None:
    """Deaf to SIGTERM, like a call deep in a library; the file `mark` tells that it has begun."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    mark.touch()
    time.sleep(LONG)


def then_fails(marks: list[Path]) -> Iterator[Path]:
    """The items; once every one is being worked on, an error."""
    yield from marks
    until(lambda: all(mark.exists() for mark in marks), "the workers are stuck", GENEROUS)
    raise ZeroDivisionError


def ready() -> None:
    """An initializer that does nothing."""


def start(count: int, function: Callable = work) -> Workers:
    return Workers(count, function, initializer=ready, if_killed=lambda item, death: Killed(item, str(death)))


@pytest.fixture(autouse=True)
def no_process_left():
    yield
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("death", ["killed", "killed while sending"])
def test_a_death_costs_its_own_call(death):
    items = [0, 1, death, 2, 3, death, 4, 5]
    with start(2) as workers:
        done = list(workers.each(items))
    assert [result for result in done if isinstance(result, Killed)] == 2 * [
        (death, "its worker died (exit status -9)")]
    assert sorted(result for result in done if isinstance(result, int)) == [0, 1, 2, 3, 4, 5]


def test_killed_at_any_moment():
    items, ended = list(range(400)), threading.Event()

    def kill() -> None:
        while not ended.wait(random.uniform(0.02, 0.2)):
            for process in random.sample(multiprocessing.active_children(), k=1):
                psutil.Process(process.pid).kill()

    killer = threading.Thread(target=kill)
    with start(3) as workers:
        calls = workers.each(items)
        done = [next(calls)]
        killer.start()
        done += calls
        ended.set()
        killer.join()
    died = [result for result in done if isinstance(result, Killed)]
    assert sorted(result.item if isinstance(result, Killed) else result for result in done) == items
    assert 0 < len(died) < len(items) / 2


def test_where_processes_are_not_forked(monkeypatch):
    """As on macOS and Windows."""
    spawn = multiprocessing.get_context("spawn")
    monkeypatch.setattr("slideqc.workers.multiprocessing.Process", spawn.Process)
    with start(2) as workers:
        done = list(workers.each([0, 1, "killed", 2]))
    assert [result.item for result in done if isinstance(result, Killed)] == ["killed"]
    assert sorted(result for result in done if isinstance(result, int)) == [0, 1, 2]


def test_killed_with_nothing_to_do():
    with start(1) as workers:
        first, second = workers.each(["asks who", "asks who"])
        assert first == second
        dead = psutil.Process(first)
        dead.kill()
        until(lambda: dead.status() == psutil.STATUS_ZOMBIE, "the worker is dead", GENEROUS)
        [third] = workers.each(["asks who"])
        assert third != first


def test_errors_of_the_function_arrive():
    with pytest.raises(KeyError, match="raises"), start(2) as workers:
        list(workers.each(["raises"]))


def test_items_are_taken_as_they_are_needed():
    """Items are not collected first, and each result is returned as soon as it is there."""
    taken = []
    with start(2) as workers:
        calls = workers.each(taken.append(item) or item for item in range(50))
        next(calls)
        assert len(taken) <= 4


def test_left_early_the_workers_end_at_once():
    began = time.monotonic()
    with pytest.raises(ZeroDivisionError), start(2, time.sleep) as workers:
        for _ in workers.each([0, LONG, LONG]):
            raise ZeroDivisionError
    assert time.monotonic() - began < GENEROUS


def test_left_early_no_half_file_stays(tmp_path):
    def at_work() -> Iterator[Path]:
        yield tmp_path / "half"
        while not (tmp_path / "half").exists():
            time.sleep(0.01)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), start(2, half_written) as workers:
        list(workers.each(at_work()))
    assert not list(tmp_path.iterdir())


def test_left_early_stuck_workers_are_waited_for_together(tmp_path, monkeypatch):
    monkeypatch.setattr(workers_module, "SECONDS_TO_END", 4)
    join, waited = multiprocessing.Process.join, []

    def noted(process: multiprocessing.Process, timeout: float | None = None) -> None:
        waited.append(timeout or 0)
        join(process, timeout)

    monkeypatch.setattr(multiprocessing.Process, "join", noted)
    with pytest.raises(ZeroDivisionError), start(4, stuck) as workers:
        list(workers.each(then_fails([tmp_path / str(number) for number in range(3)])))
    assert 0 < sum(waited) <= 4, "one after the other they would get 4 s each"


def test_left_early_and_interrupted_while_it_waits_for_stuck_workers(tmp_path, monkeypatch):
    """As a second Ctrl-C does."""
    monkeypatch.setattr(workers_module, "SECONDS_TO_END", LONG)
    join = multiprocessing.Process.join

    def interrupted(process: multiprocessing.Process, timeout: float | None = None) -> None:
        if timeout:
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        join(process, timeout)

    monkeypatch.setattr(multiprocessing.Process, "join", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # which is ignored where tests run in background
    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt), start(3, stuck) as workers:
            list(workers.each(then_fails([tmp_path / "0", tmp_path / "1"])))
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - began < GENEROUS
