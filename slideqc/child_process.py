"""Starts a program as a child process, and ends it with everything that it has started."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from slideqc.errors import CommandError

START_TIMEOUT = 120  # seconds
# A process group of its own: Ctrl-C in the terminal does not reach it, and it can be ended as a whole.
OWN_GROUP = ({"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP} if os.name == "nt" else
             {"start_new_session": True})


class ChildProcess:
    """A running program. Its standard output goes to the file `log` + .out, its standard error to `log` + .err.

    Leaving the `with` block ends the program and the processes that it started.
    """

    def __init__(self, command: Sequence[object], *, cwd: Path, env: Mapping[str, str], log: Path) -> None:
        self._logs = [log.with_name(f"{log.name}.{ending}") for ending in ("out", "err")]
        with self._logs[0].open("wb") as output, self._logs[1].open("wb") as errors:
            self._process = subprocess.Popen([*map(str, command)], cwd=cwd, env=env, stdout=output, stderr=errors,
                                             stdin=subprocess.DEVNULL, **OWN_GROUP)
        self.pid = self._process.pid

    def __enter__(self) -> "ChildProcess":
        return self

    def __exit__(self, kind: type | None, problem: BaseException | None, trace: TracebackType | None) -> None:
        end(self._process)

    def status(self, timeout: float = 0) -> int | None:
        """The exit status; None if the program still runs after `timeout` seconds."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout)
        return None

    def wait_until(self, ready: Callable[[], bool], what: str) -> None:
        """Return as soon as `ready()`. CommandError, with the last words, if it ends instead or takes too long."""
        deadline = time.monotonic() + START_TIMEOUT
        while not ready():
            if self.status(0.05) is not None or time.monotonic() > deadline:
                raise CommandError(f"{what} does not start ({self.last_line() or 'it says nothing'}): "
                                   "python check.py setup says what is missing, and how to get it")

    def output(self) -> list[str]:
        """What it has written so far to standard output, and to standard error."""
        return [file.read_text(encoding="utf-8", errors="replace") for file in self._logs]

    def last_line(self) -> str:
        """The last line of standard error that is not blank, else of standard output."""
        output, errors = self.output()
        return last_line(errors) or last_line(output)


def end(process: subprocess.Popen) -> None:
    """Kill a process that was started with OWN_GROUP, and the processes that it started, if they still run."""
    with suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        elif process.poll() is None:
            subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)], capture_output=True, check=False)
    process.wait()


def last_line(text: str) -> str:
    """The last line that is not blank, or an empty text."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def describe_status(status: int) -> str:
    """An exit status in words."""
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
