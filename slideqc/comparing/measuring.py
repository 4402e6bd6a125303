"""One script, run as an attendee runs it: as a whole process, on the clock, with all its children watched.

seconds   from the moment before the process is started to the moment at which it has ended
start-up  from the same moment to its first line on standard output, which every script writes once it has imported
          its packages, understood its flags and listed the slides
memory    the greatest, at any look, of the script, its children, and what has to run beside it (a cluster, a server):
          those count whole, since without them the row could not run. On Linux the sum of what is each process's own
          (PSS: what forked processes share is divided among them), and once the files that they map, which are the
          same libraries for all: PSS alone would divide those among all programs of the machine, so that a row
          seemed smaller the more ran beside it. Elsewhere RSS, where shared pages count for each process
CPU       user and system seconds of the same processes. What has run beside counts from the run's start to its end.

A look takes milliseconds, and looks are spaced so that they take at most 3 % of one core from what they watch.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

try:
    from resource import RUSAGE_CHILDREN, getrusage
except ImportError:  # Windows
    getrusage = None

GIVEN_UP = 124       # exit status
LOOK_EVERY = 0.05    # seconds
LOOK_SHARE = 0.03    # of one core
SETTLE = 20          # seconds at most that processes of a server's agent may take to end after the script
# Ctrl-C is for the comparison, which then ends what it has started.
OWN_GROUP = ({"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP} if os.name == "nt" else
             {"start_new_session": True})


@dataclass(frozen=True)
class Measured:
    """What one run took."""

    status: int              # exit status, or GIVEN_UP
    seconds: float
    start_up: float          # seconds; the whole run, if it never wrote a line
    cpu: float               # seconds
    memory: int              # bytes
    memory_before: int       # bytes held, before the run, by what runs beside it: part of `memory`
    said: str                # the last line of standard error, else of standard output


class Watch:
    """Memory and CPU of the processes of a run; `beside` are those that were there before it."""

    def __init__(self, beside: Sequence[psutil.Process]) -> None:
        self.beside, self.memory = beside, 0
        self.cpu: dict[psutil.Process, float] = {}       # of the run's own processes, at the latest look
        self.cpu_beside: dict[psutil.Process, float] = {}
        self.look([])
        self.memory_before, self.cpu_before = self.memory, sum(self.cpu_beside.values())
        self.there_before = set(self.cpu_beside)

    def look(self, roots: Iterable[psutil.Process]) -> None:
        """Look at every process once."""
        own, mapped = 0, 0
        for processes, cpu in ((family(roots), self.cpu), (family(self.beside), self.cpu_beside)):
            for process in processes:
                with suppress(psutil.Error):  # it has ended meanwhile
                    times = process.cpu_times()
                    cpu[process] = times.user + times.system
                    private, files = held(process)
                    own, mapped = own + private, max(mapped, files)
        self.memory = max(self.memory, own + mapped)

    def follow(self, process: subprocess.Popen, ended: threading.Event, limit: float) -> None:
        """Look again and again, until the process has ended; end it after `limit` seconds."""
        with suppress(psutil.Error):
            root, end = psutil.Process(process.pid), time.perf_counter() + limit
            while not ended.is_set():
                began = time.perf_counter()
                self.look([root])
                if began > end:
                    end_family([root])
                ended.wait(max(LOOK_EVERY, (time.perf_counter() - began) / LOOK_SHARE))

    def settle(self) -> None:
        """Wait until what runs beside is as it was before: an agent's processes end a moment after the script."""
        end = time.perf_counter() + SETTLE
        while any(map(_runs, set(family(self.beside)) - self.there_before)) and time.perf_counter() < end:
            self.look([])
            time.sleep(LOOK_EVERY)
        self.look([])

    def cpu_seconds(self, reaped: float) -> float:
        """Of all processes; the system's own count of ended children is exact, where they were waited for."""
        return max(sum(self.cpu.values()), reaped) + sum(self.cpu_beside.values()) - self.cpu_before


def run(command: Sequence[object], log: Path, *, env: dict[str, str], limit: float, cwd: Path,
        beside: Sequence[psutil.Process] = ()) -> Measured:
    """Run `command` to its end, or for `limit` seconds; what it says goes to `log`, and its errors beside it."""
    errors = log.with_suffix(".err")
    watch, ended, first = Watch(beside), threading.Event(), []
    reaped = _reaped()
    with log.open("wb") as said, errors.open("wb") as complained:

        def listen() -> None:
            with process.stdout, suppress(ValueError):  # the log was closed before a straggler fell silent
                for line in process.stdout:
                    first.append(time.perf_counter())
                    said.write(line)

        began = time.perf_counter()
        process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=complained,
                                   stdin=subprocess.DEVNULL, env=env, cwd=cwd, **OWN_GROUP)
        threads = [threading.Thread(target=listen, daemon=True),
                   threading.Thread(target=watch.follow, args=(process, ended, limit), daemon=True)]
        try:
            for thread in threads:
                thread.start()
            status = process.wait()
            seconds = time.perf_counter() - began
        finally:
            ended.set()
            if process.poll() is None:
                end_family([psutil.Process(process.pid)])
                process.wait()
            for thread in threads:
                thread.join(5)
    reaped = _reaped() - reaped
    watch.settle()
    return Measured(status=GIVEN_UP if seconds > limit else status, seconds=seconds,
                    start_up=first[0] - began if first else seconds, cpu=watch.cpu_seconds(reaped),
                    memory=watch.memory, memory_before=watch.memory_before,
                    said=last_line(errors) or last_line(log))


def last_line(log: Path) -> str:
    """The last line of a file that is not empty, or nothing."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    return next(filter(None, reversed(lines)), "")


def family(roots: Iterable[psutil.Process]) -> list[psutil.Process]:
    """The processes that are still there, and all that descend from them."""
    found = []
    for root in roots:
        with suppress(psutil.Error):
            found += [root, *root.children(recursive=True)]
    return found


def _runs(process: psutil.Process) -> bool:
    """Does it still run? An agent lets those that have ended wait for half a minute until it takes note of them."""
    with suppress(psutil.Error):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def held(process: psutil.Process) -> tuple[int, int]:
    """The memory of a process, in bytes: its own, and the files that it maps, where the system tells them apart."""
    try:
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    except OSError:  # no Linux, or the process has ended: then the next line says so
        return process.memory_info().rss, 0
    size = {name: 1024 * int(kilobytes.split()[0]) for name, _, kilobytes in (line.partition(":") for line in lines)}
    own = size["Pss_Anon"] + size["Pss_Shmem"]
    return own, size["Rss"] - size["Anonymous"] - size["Pss_Shmem"]


def end_family(roots: Iterable[psutil.Process]) -> None:
    """End processes and all that descend from them: politely, and after three seconds otherwise."""
    processes = family(roots)
    for process in processes:
        with suppress(psutil.Error):
            process.terminate()
    _, stubborn = psutil.wait_procs(processes, timeout=3)
    for process in stubborn:
        with suppress(psutil.Error):
            process.kill()


@contextmanager
def stopped_once() -> Iterator[None]:
    """Ctrl-C, an order to end, and a terminal that closes raise KeyboardInterrupt, once: then comes tidying up."""
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # Others are left alone: nohup, for one, has SIGHUP ignored.
    before = {number: handler for number in numbers
              if (handler := signal.getsignal(number)) in (signal.SIG_DFL, signal.default_int_handler)}

    def stop(number: int, frame: object) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _reaped() -> float:
    """CPU seconds of the children of this process that have ended, and of theirs."""
    if getrusage is None:
        return 0.0
    usage = getrusage(RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
