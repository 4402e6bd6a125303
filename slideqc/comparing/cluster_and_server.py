"""The backends that some rows need: a Dask cluster, or a Prefect server with an agent.

They are started once, on this machine alone, before anything is timed, and without the user's settings.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from slideqc import flags, own_server
from slideqc.child_process import ChildProcess


@dataclass
class Backend:
    """Processes that run while rows are measured."""

    processes: list[psutil.Process] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=lambda: dict(os.environ))  # of the scripts that use them
    scheduler: str | None = None                                           # address of the Dask scheduler
    may_be_suspended: bool = False                                         # while other rows are timed

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Suspend the processes, if allowed: even an idle cluster takes 6 % of a CPU from what is timed."""
        processes = self.processes if self.may_be_suspended else []
        for process in processes:
            with suppress(psutil.Error):  # one that has died shows in the next row that needs it
                process.suspend()
        try:
            yield
        finally:
            for process in processes:
                with suppress(psutil.Error):
                    process.resume()


@contextmanager
def cluster(folder: Path, workers: int) -> Iterator[Backend]:
    """`dask scheduler` and so many `dask worker`, one thread each, as a user would start them by hand."""
    folder.mkdir()
    address_file = folder / "scheduler.json"
    # docs/scaling.md says so: scheduler and workers need the project on their Python path.
    paths = os.pathsep.join(filter(None, [str(flags.HOME), os.environ.get("PYTHONPATH")]))
    # Workers send nothing while they are suspended: the scheduler must not give them up.
    env = os.environ | {"PYTHONPATH": paths, "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "1 day"}
    with ExitStack() as running:
        def start(name: str, *arguments: str) -> ChildProcess:
            command = [sys.executable, "-m", "dask", *arguments, "--no-dashboard"]
            return running.enter_context(ChildProcess(command, cwd=flags.HOME, env=env, log=folder / name))

        scheduler = start("scheduler", "scheduler", "--host", "127.0.0.1", "--port", "0",
                          "--scheduler-file", str(address_file))
        scheduler.wait_until(address_file.exists, "the Dask scheduler")
        address = json.loads(address_file.read_text(encoding="utf-8"))["address"]
        started = [start(f"worker-{number}", "worker", address, "--nthreads", "1", "--no-nanny", "--host", "127.0.0.1",
                         "--local-directory", str(folder / f"worker-{number}")) for number in range(workers)]
        for worker in started:
            worker.wait_until(lambda worker=worker: "Registered to:" in "".join(worker.output()), "a Dask worker")
        yield Backend([psutil.Process(child.pid) for child in (scheduler, *started)], scheduler=address,
                      may_be_suspended=True)


@contextmanager
def server(folder: Path) -> Iterator[Backend]:
    """A server with the workshop's project, and Prefect's agent.

    They are not suspended, and take 0.2 % of a CPU while other rows are timed: a suspended agent would look for work
    at other times.
    """
    with own_server.run_server(folder) as running:
        agent = running.start_agent()
        agent.wait_until(lambda: "Waiting for flow runs" in "".join(agent.output()), "the agent")
        yield Backend([psutil.Process(child.pid) for child in (running.process, agent)], running.env)
