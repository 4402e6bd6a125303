"""What the flows share and no step teaches: a picture, a lost cluster, a final state that names the slides."""

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

_broken_off = []  # what broke a flow run off, which its own slides had no part in


def finish(flow: Flow, state: State, reference_task_states: set[State]) -> State:
    """A terminal state handler: a failed flow run says which slides failed, and why.

    Where an agent started the run, no script may be waiting for its end: then it also sees to the table.
    """
    if state.is_failed():
        runs = [run for task in reference_task_states for run in getattr(task, "map_states", None) or [task]]
        state.message = " | ".join(sorted(str(run.message) for run in runs if run.is_failed()))
    if prefect.context.get("running_with_backend"):
        from slideqc.orchestration import servers  # brings in what a run without a server does not need
        servers.see_to_the_table(Path(prefect.context.parameters["output"]))
    return state


def check_scheduler(options: argparse.Namespace) -> None:
    """Make sure of the Dask scheduler that was named, now, and not after half a minute of tries; CommandError."""
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
    for handler in logging.getLogger().handlers:  # of a connection that closes, Dask tells in pages
        handler.addFilter(lambda record: not (record.exc_info and record.name.startswith("distributed")))
    logging.getLogger("prefect.FlowRunner").addFilter(lambda record: _is_no_loss(record, address))


def _is_no_loss(record: logging.LogRecord, address: str) -> bool:
    """A log filter: where the cluster breaks a flow run off, one line on standard error instead of Prefect's pages."""
    if not record.exc_info:
        return True
    if not _broken_off:
        print(f"{Path(sys.argv[0]).name}: the run broke off ({record.exc_info[0].__name__}): the Dask scheduler at "
              f"{address} went away or lacks this repository on its PYTHONPATH, or its workers kept dying; start them "
              "again, then run this again", file=sys.stderr)
    _broken_off.append(record.exc_info[1])
    return False


def visualize(flow: Flow, picture: Path) -> int:
    """Draw the flow's tasks and who waits for whom; CommandError where graphviz is missing or the ending is unknown."""
    if not shutil.which("dot"):
        raise CommandError("drawing a flow needs the program dot, which the Python package graphviz does not bring: "
                           "apt install graphviz, brew install graphviz, or winget install graphviz")
    ending = picture.suffix.lstrip(".").lower()
    if ending not in ("png", "svg", "pdf"):
        raise CommandError(f"cannot draw {picture.name}: its name has to end in .png, .svg or .pdf")
    try:
        picture.parent.mkdir(parents=True, exist_ok=True)
        flow.visualize(filename=str(picture.with_suffix("")), format=ending)
    except OSError as error:
        raise CommandError(f"cannot draw {picture} ({error.strerror}): give another file with --visualize") from error
    print(f"{picture}: {len(flow.tasks)} tasks, {len(flow.edges)} edges")
    return 0
