"""What some rows need beside them: a Dask cluster, or a Prefect server with an agent.

They are started once, on this machine alone, before anything is timed, and with nobody's settings but their own.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from slideqc import flags
from slideqc.comparing.measuring import OWN_GROUP, end_family, last_line
from slideqc.errors import CommandError

PATIENCE = 120  # seconds that a cluster or a server may take to be ready


@dataclass
class Beside:
    """Processes that are there while rows are measured."""

    processes: list[psutil.Process] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=lambda: dict(os.environ))  # of the scripts that use them
    scheduler: str | None = None                                           # address of the Dask scheduler
    may_sleep: bool = False                                                # while other rows are timed

    @contextmanager
    def asleep(self) -> Iterator[None]:
        """Stand still, where that does no harm: even an idle cluster takes 6 % of a CPU from what is timed."""
        sleepers = self.processes if self.may_sleep else []
        for process in sleepers:
            with suppress(psutil.Error):  # one that has died shows in the next row that needs it
                process.suspend()
        try:
            yield
        finally:
            for process in sleepers:
                with suppress(psutil.Error):
                    process.resume()


@contextmanager
def cluster(folder: Path, workers: int) -> Iterator[Beside]:
    """`dask scheduler` and so many `dask worker`, one thread each, as somebody would start them by hand."""
    folder.mkdir()
    address_file = folder / "scheduler.json"
    # As docs/scaling.md says: scheduler and workers need the project on their Python path.
    paths = os.pathsep.join(filter(None, [str(flags.HOME), os.environ.get("PYTHONPATH")]))
    # Its workers are silent while other rows are timed: the scheduler must not give them up.
    env = os.environ | {"PYTHONPATH": paths, "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "1 day"}
    beside = Beside(may_sleep=True)
    with ExitStack() as running:
        def start(name: str, *arguments: str) -> None:
            command = [sys.executable, "-m", "dask", *arguments, "--no-dashboard"]
            beside.processes.append(running.enter_context(
                _started(command, folder / f"{name}.log", env)))

        start("scheduler", "scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(address_file))
        _wait_for(address_file.exists, "the Dask scheduler", beside, folder)
        beside.scheduler = json.loads(address_file.read_text(encoding="utf-8"))["address"]
        for number in range(workers):
            start(f"worker-{number}", "worker", beside.scheduler, "--nthreads", "1", "--no-nanny",
                  "--host", "127.0.0.1", "--local-directory", str(folder / f"worker-{number}"))
        _wait_for(lambda: _all_came(folder, workers), "the Dask cluster", beside, folder)
        yield beside


@contextmanager
def server(folder: Path, project: str = "Image QC") -> Iterator[Beside]:
    """A server of its own with the workshop's project, and the stock agent.

    They stay awake while other rows are timed, and take 0.2 % of a CPU: asleep, the agent would keep other times.
    """
    folder.mkdir()
    with socket.socket() as one, socket.socket() as other:
        ports = [probe.bind(("127.0.0.1", 0)) or str(probe.getsockname()[1]) for probe in (one, other)]
    api, pages = (f"http://127.0.0.1:{port}" for port in ports)
    others = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT__")}
    env = others | {
        "HOME": str(folder), "USERPROFILE": str(folder), "PREFECT__HOME_DIR": str(folder),
        "PREFECT__USER_CONFIG_PATH": str(folder / "config.toml"),
        "PREFECT__BACKEND_CONFIG_PATH": str(folder / "backend.toml"),
        "PREFECT__BACKEND": "server", "PREFECT__SERVER__ENDPOINT": api, "PREFECT__SERVER__UI__ENDPOINT": pages}
    beside = Beside(env=env)
    prefect = str(Path(sys.executable).parent / "prefect")
    with ExitStack() as running:
        serve = [sys.executable, "-m", "workshop_server", "--database", str(folder / "server.sqlite"),
                 "--port", ports[0], "--ui-port", ports[1]]
        beside.processes.append(running.enter_context(_started(serve, folder / "server.log", env)))
        _wait_for(lambda: _healthy(api), "the server", beside, folder)
        made = subprocess.run([prefect, "create", "project", project], env=env, capture_output=True, text=True)
        if made.returncode:
            raise CommandError(f"prefect create project failed: {' '.join((made.stderr or made.stdout).split())}")
        agent = [prefect, "agent", "local", "start"]
        beside.processes.append(running.enter_context(_started(agent, folder / "agent.log", env)))
        log = folder / "agent.log"
        _wait_for(lambda: "Waiting for flow runs" in log.read_text(encoding="utf-8", errors="replace"),
                  "the agent", beside, folder)
        yield beside


@contextmanager
def _started(command: list[str], log: Path, env: dict[str, str]) -> Iterator[psutil.Process]:
    """A program that runs until the end of the block; what it says goes to `log`."""
    with log.open("wb") as said:
        process = subprocess.Popen(command, cwd=flags.HOME, env=env, stdout=said, stderr=subprocess.STDOUT,
                                   stdin=subprocess.DEVNULL, **OWN_GROUP)
    try:
        yield psutil.Process(process.pid)
    finally:
        with suppress(psutil.Error):
            end_family([psutil.Process(process.pid)])
        process.wait()


def _wait_for(ready: Callable[[], bool], what: str, beside: Beside, folder: Path) -> None:
    """Return once `ready()`; CommandError, with its last words, if a process ends instead, or takes too long."""
    end = time.monotonic() + PATIENCE
    while not ready():
        gone = [process for process in beside.processes
                if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE]
        if gone or time.monotonic() > end:
            latest = max(folder.glob("*.log"), key=lambda log: log.stat().st_mtime)
            raise CommandError(f"{what} did not start: {last_line(latest)}")
        time.sleep(0.1)


def _all_came(folder: Path, workers: int) -> bool:
    """Do so many workers say that they have joined?"""
    logs = [log.read_text(encoding="utf-8", errors="replace") for log in folder.glob("worker-*.log")]
    return sum("Registered to:" in log for log in logs) == workers


def _healthy(api: str) -> bool:
    try:
        return urllib.request.urlopen(f"{api}/health", timeout=5).status == 200
    except (urllib.error.URLError, OSError):
        return False
