"""slideqc/workers.py: a worker may die at any moment, and only the call that it was busy with is lost."""

import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from slideqc import workers as workers_module
from slideqc.workers import WorkerError, Workers

pytestmark = pytest.mark.skipif(os.name == "nt", reason="kill -9 is POSIX")


class DiesOnTheWay:
    """A result whose worker is killed while it sends it, half-way."""

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
        time.sleep(60)
    finally:
        path.unlink(missing_ok=True)


def stuck(_: object) -> None:
    """As deep in a library, which no signal reaches."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)


def ready() -> None:
    """The initializer of workers that need none."""


def outcome(future) -> object:
    return future.exception() or future.result()


@pytest.fixture(autouse=True)
def nobody_left():
    yield
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("death", ["killed", "killed while sending"])
def test_a_death_costs_its_own_call(death):
    items = [0, 1, death, 2, 3, death, 4, 5]
    start = time.monotonic()
    with Workers(2, work, ready) as workers:
        done = [(item, outcome(future)) for item, future in workers.each(items)]
    assert time.monotonic() - start < 30
    assert sorted(str(item) for item, _ in done) == sorted(map(str, items))
    for item, result in done:
        if item == death:
            assert isinstance(result, WorkerError) and str(result) == "its worker died (exit status -9)"
        else:
            assert result == item


def test_killed_at_any_moment():
    items, ended = list(range(400)), threading.Event()

    def kill() -> None:
        while not ended.wait(random.uniform(0.02, 0.2)):
            for process in random.sample(multiprocessing.active_children(), k=1):
                psutil.Process(process.pid).kill()

    killer = threading.Thread(target=kill)
    with Workers(3, work, ready) as workers:
        calls = workers.each(items)
        done = [next(calls)]
        killer.start()
        done += calls
        ended.set()
        killer.join()
    assert sorted(item for item, _ in done) == items
    results = [outcome(future) for _, future in done]
    died = [result for result in results if isinstance(result, WorkerError)]
    assert died and sorted(r for r in results if isinstance(r, int)) == sorted(
        item for item, future in done if future.exception() is None)
    assert len(died) < len(items) / 2


def test_where_processes_are_not_forked(monkeypatch):
    """As on macOS and Windows."""
    spawn = multiprocessing.get_context("spawn")
    monkeypatch.setattr("slideqc.workers.multiprocessing.Process", spawn.Process)
    with Workers(2, work, ready) as workers:
        done = {item: outcome(future) for item, future in workers.each([0, 1, "killed", 2])}
    assert [done[0], done[1], done[2]] == [0, 1, 2] and isinstance(done["killed"], WorkerError)


def test_killed_with_nothing_to_do():
    with Workers(1, work, ready) as workers:
        calls = workers.each(["asks who", "asks who"])
        _, first = next(calls)
        [(_, second)] = calls
        assert first.result() == second.result()
        psutil.Process(first.result()).kill()
        time.sleep(0.5)
        [(_, third)] = workers.each(["asks who"])
        assert third.result() != first.result()


def test_errors_of_the_function_arrive():
    with Workers(2, work, ready) as workers:
        [(_, future)] = workers.each(["raises"])
    with pytest.raises(KeyError):
        future.result()


def test_items_are_taken_as_they_are_needed():
    """Ten thousand slides do not wait in a pool, and what is done is handed over before the rest is."""
    taken = []
    with Workers(2, work, ready) as workers:
        calls = workers.each(taken.append(item) or item for item in range(50))
        next(calls)
        assert len(taken) <= 4


def test_left_early_the_workers_end_at_once():
    start = time.monotonic()
    with pytest.raises(ZeroDivisionError), Workers(2, time.sleep, ready) as workers:
        for _ in workers.each([0, 60, 60]):
            raise ZeroDivisionError
    assert time.monotonic() - start < 20


def test_left_early_no_half_file_stays(tmp_path):
    def at_work() -> Iterator[Path]:
        yield tmp_path / "half"
        while not (tmp_path / "half").exists():
            time.sleep(0.01)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), Workers(2, half_written, ready) as workers:
        list(workers.each(at_work()))
    assert not list(tmp_path.iterdir())


def test_left_early_stuck_workers_are_waited_for_together(monkeypatch):
    monkeypatch.setattr(workers_module, "SECONDS_TO_END", 1)

    def items() -> Iterator[int]:
        yield from range(3)
        time.sleep(0.5)  # until they are stuck
        raise ZeroDivisionError

    start = time.monotonic()
    with pytest.raises(ZeroDivisionError), Workers(4, stuck, ready) as workers:
        list(workers.each(items()))
    assert time.monotonic() - start < 2.5


def test_left_early_and_interrupted_while_it_waits_for_stuck_workers():
    """As a second Ctrl-C does."""
    def items() -> Iterator[int]:
        yield from range(2)
        time.sleep(0.5)  # until they are stuck
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        raise ZeroDivisionError

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt), Workers(3, stuck, ready) as workers:
        list(workers.each(items()))
    assert time.monotonic() - start < 5
