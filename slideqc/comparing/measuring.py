"""Runs one script as an attendee runs it, as a whole process, and measures its time, its memory and its CPU.

seconds   from just before the process is started to its end
start-up  from the same moment to its first line on standard output: packages are imported, slides are listed
memory    the peak of the script, its children and the row's backend (a cluster, a server), without which it cannot
          run. On Linux: each process's own memory (PSS: what forked processes share is divided among them), and the
          mapped files, counted once. PSS alone would divide those among all programs of the machine: the more
          programs run, the smaller a row would seem. On other systems RSS: shared pages count for each process
CPU       user and system seconds of the same processes. The backend's count from the run's start to its end.

A sample takes milliseconds. Samples are spaced so that they use at most 3 % of one core.
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

from slideqc import child_process

GIVEN_UP = 124       # exit status
SAMPLE_EVERY = 0.05  # seconds
SAMPLE_SHARE = 0.03  # of one core
SETTLE_TIMEOUT = 20  # seconds that processes of a server's agent may take to end after the script


@dataclass(frozen=True)
class Measured:
    """What one run took."""

    status: int              # exit status, or GIVEN_UP
    seconds: float
    start_up: float          # seconds; the whole run, if it never wrote a line
    cpu: float               # seconds
    memory: int              # bytes
    memory_before: int       # bytes that the backend holds before the run: part of `memory`
    last_line: str           # of standard error, else of standard output


class ResourceMonitor:
    """Memory and CPU of the processes of a run, and of the backend that was started before it."""

    def __init__(self, backend: Sequence[psutil.Process]) -> None:
        self.backend, self.memory = backend, 0
        self.cpu: dict[psutil.Process, float] = {}       # of the run's own processes, at the latest sample
        self.backend_cpu: dict[psutil.Process, float] = {}
        self.sample([])
        self.memory_before, self.cpu_before = self.memory, sum(self.backend_cpu.values())
        self.processes_before = set(self.backend_cpu)

    def sample(self, roots: Iterable[psutil.Process]) -> None:
        """Read memory and CPU of every process once."""
        own, mapped = 0, 0
        for processes, cpu in ((with_children(roots), self.cpu), (with_children(self.backend), self.backend_cpu)):
            for process in processes:
                with suppress(psutil.Error):  # it has ended meanwhile
                    times = process.cpu_times()
                    cpu[process] = times.user + times.system
                    private, files = memory_of(process)
                    own, mapped = own + private, max(mapped, files)
        self.memory = max(self.memory, own + mapped)

    def sample_until(self, ended: threading.Event, process: subprocess.Popen, limit: float) -> None:
        """Take samples until the process has ended; kill it after `limit` seconds."""
        with suppress(psutil.Error):
            root, deadline = psutil.Process(process.pid), time.perf_counter() + limit
            while not ended.is_set():
                before = time.thread_time()  # not the clock: on a busy machine samples would become rare
                self.sample([root])
                if time.perf_counter() > deadline:
                    child_process.end(process)
                ended.wait(max(SAMPLE_EVERY, (time.thread_time() - before) / SAMPLE_SHARE))

    def settle(self) -> None:
        """Wait until the backend has the processes that it had before: an agent's runs end just after the script."""
        deadline = time.perf_counter() + SETTLE_TIMEOUT
        while (any(map(_is_running, set(with_children(self.backend)) - self.processes_before))
               and time.perf_counter() < deadline):
            self.sample([])
            time.sleep(SAMPLE_EVERY)
        self.sample([])

    def cpu_seconds(self, ended_children: float) -> float:
        """CPU of all processes. The system's count of children that have ended and were waited for is exact."""
        return max(sum(self.cpu.values()), ended_children) + sum(self.backend_cpu.values()) - self.cpu_before


def run(command: Sequence[object], log: Path, *, env: dict[str, str], limit: float, cwd: Path,
        backend: Sequence[psutil.Process] = ()) -> Measured:
    """Run `command` to its end, or for `limit` seconds; output goes to `log`, errors to a file ending in .err."""
    errors = log.with_suffix(".err")
    monitor, ended, first_lines, threads = ResourceMonitor(backend), threading.Event(), [], []
    cpu_before = _cpu_of_ended_children()
    with log.open("wb") as log_file, errors.open("wb") as errors_file:

        def read_output() -> None:
            with process.stdout, suppress(ValueError):  # the log is closed, and a child of the script still writes
                for line in process.stdout:
                    first_lines.append(time.perf_counter())
                    log_file.write(line)

        began = time.perf_counter()
        process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=errors_file,
                                   stdin=subprocess.DEVNULL, env=env, cwd=cwd, **child_process.OWN_GROUP)
        try:
            threads += [threading.Thread(target=read_output, daemon=True),
                        threading.Thread(target=monitor.sample_until, args=(ended, process, limit), daemon=True)]
            for thread in threads:
                thread.start()
            status = process.wait()
            seconds = time.perf_counter() - began
        finally:
            ended.set()
            if process.poll() is None:
                child_process.end(process)
            for thread in threads:
                with suppress(RuntimeError):  # Ctrl-C came before it was started
                    thread.join(5)
    ended_children = _cpu_of_ended_children() - cpu_before
    monitor.settle()
    texts = [file.read_text(encoding="utf-8", errors="replace") for file in (errors, log)]
    return Measured(status=GIVEN_UP if seconds > limit else status, seconds=seconds,
                    start_up=first_lines[0] - began if first_lines else seconds,
                    cpu=monitor.cpu_seconds(ended_children), memory=monitor.memory,
                    memory_before=monitor.memory_before,
                    last_line=next(filter(None, map(child_process.last_line, texts)), ""))


def with_children(roots: Iterable[psutil.Process]) -> list[psutil.Process]:
    """The processes that still run, with all their descendants."""
    found = []
    for root in roots:
        with suppress(psutil.Error):
            found += [root, *root.children(recursive=True)]
    return found


def _is_running(process: psutil.Process) -> bool:
    """Does it still run? A child that has ended stays a zombie until the agent waits for it, up to half a minute."""
    with suppress(psutil.Error):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def memory_of(process: psutil.Process) -> tuple[int, int]:
    """The memory of a process, in bytes: its own, and the files that it maps, if the system reports both."""
    try:
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    except OSError:  # not Linux, or the process has ended: then the next line raises psutil.Error
        return process.memory_info().rss, 0
    size = {name: 1024 * int(kilobytes.split()[0]) for name, _, kilobytes in (line.partition(":") for line in lines)}
    own = size["Pss_Anon"] + size["Pss_Shmem"]
    return own, size["Rss"] - size["Anonymous"] - size["Pss_Shmem"]


@contextmanager
def interrupted_once() -> Iterator[None]:
    """Ctrl-C, SIGTERM and a closed terminal raise KeyboardInterrupt, once: a second one must not stop the clean-up."""
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # Other handlers stay: nohup, for example, ignores SIGHUP.
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


def _cpu_of_ended_children() -> float:
    """CPU seconds of the children of this process that have ended, and of their children; 0 on Windows."""
    return sum(os.times()[2:4])
