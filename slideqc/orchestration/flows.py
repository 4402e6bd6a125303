"""Code that the flows share: the final state's message, the check of the Dask scheduler, and the flow's diagram."""

import argparse
import logging
import shutil
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

import prefect
from prefect import Flow
from prefect.engine.state import State

from slideqc.errors import CommandError
from slideqc.orchestration import runners

runners.use()

_cluster_errors = []  # exceptions of the Dask cluster that ended a flow run


def finish(flow: Flow, state: State, reference_task_states: set[State]) -> State:
    """A terminal state handler: the message of a failed flow run says which slides failed, and why.

    If an agent runs the flow, perhaps no script waits for its end. Then the handler also writes the table.
    """
    if state.is_failed():
        runs = [run for task in reference_task_states for run in getattr(task, "map_states", None) or [task]]
        state.message = " | ".join(sorted(str(run.message) for run in runs if run.is_failed()))
    if prefect.context.get("running_with_backend"):
        from slideqc.orchestration import servers  # imported here: only a run on a server needs it
        servers.write_table(Path(prefect.context.parameters["output"]))
    return state


def check_scheduler(options: argparse.Namespace) -> None:
    """Check that the Dask scheduler of --scheduler-address answers: Dask itself would try for half a minute.

    Raises CommandError if it does not answer, or if another executor is chosen.
    """
    address = options.scheduler_address
    if not address:
        return
    if options.executor != "distributed":
        raise CommandError("--scheduler-address goes with --executor distributed")
    try:
        parts = urlsplit(address)
        socket.create_connection((parts.hostname, parts.port), timeout=5).close()
    except (OSError, ValueError, TypeError) as error:
        raise CommandError(f"no Dask scheduler at {address} ({error}): start one with `dask scheduler`, which prints "
                           "its address, such as tcp://192.168.0.7:8786") from error
    for handler in logging.getLogger().handlers:  # Dask logs a long traceback when a connection closes
        handler.addFilter(lambda record: not (record.exc_info and record.name.startswith("distributed")))
    logging.getLogger("prefect.FlowRunner").addFilter(lambda record: _report_lost_cluster(record, address))


def _report_lost_cluster(record: logging.LogRecord, address: str) -> bool:
    """A log filter: if the cluster ends a flow run, print one line instead of Prefect's long traceback."""
    if not record.exc_info:
        return True
    if not _cluster_errors:
        print(f"{Path(sys.argv[0]).name}: the run broke off ({record.exc_info[0].__name__}): the Dask scheduler at "
              f"{address} has stopped, or its PYTHONPATH lacks this repository, or its workers died repeatedly; start "
              "them again, then run this again", file=sys.stderr)
    _cluster_errors.append(record.exc_info[1])
    return False


def visualize(flow: Flow, picture: Path) -> int:
    """Draw the flow's tasks and their dependencies to the file `picture`; returns the exit status 0.

    Raises CommandError if the program dot is missing, if the ending is not .png, .svg or .pdf, or if the file cannot be
    written.
    """
    if not shutil.which("dot"):
        raise CommandError("drawing a flow needs the program dot, which the Python package graphviz does not include: "
                           "apt install graphviz, brew install graphviz, or winget install graphviz")
    ending = picture.suffix.lstrip(".").lower()
    if ending not in ("png", "svg", "pdf"):
        raise CommandError(f"cannot draw {picture.name}: its name must end in .png, .svg or .pdf")
    try:
        picture.parent.mkdir(parents=True, exist_ok=True)
        flow.visualize(filename=str(picture.with_suffix("")), format=ending)
    except OSError as error:
        raise CommandError(f"cannot draw {picture} ({error.strerror}): choose another file with --visualize") from error
    print(f"{picture}: {len(flow.tasks)} tasks, {len(flow.edges)} edges")
    return 0
