"""Code that the flows share: rows of failed slides, names of task runs, the end of a run, scheduler, diagrams."""

import argparse
import logging
import shutil
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import prefect
import requests
from prefect import Flow, Task
from prefect.backend import create_markdown_artifact
from prefect.engine.state import State, TriggerFailed
from prefect.exceptions import ClientError

from slideqc.errors import CommandError, OutputError
from slideqc.output import results

# What a mapped task does to its slide, for the names of its runs.
VERBS = {"load_image": "load", "tissue_segmentation_simple": "find tissue in",
         "identifyBlurryRegions": "judge focus in", "check_blurry": "check", "blurry_action": "warn of",
         "save_result": "save"}

_cluster_errors = []  # exceptions of the Dask cluster that ended a flow run


def finish(flow: Flow, state: State, reference_task_states: set[State]) -> State:
    """A terminal state handler: the message of a failed flow run says which slides failed, and why.

    If an agent runs the flow, perhaps no script waits for its end. Then the handler also writes the table.
    """
    parameters = prefect.context.parameters
    if state.is_failed():
        slides = parameters["file_names"] if "file_names" in parameters else [parameters["file_name"]]
        state.message = " | ".join(results.failures(parameters["output"], slides)) or state.message
    if prefect.context.get("running_with_backend"):
        from slideqc.orchestration import servers  # imported here: only a run on a server needs it
        servers.write_table(Path(parameters["output"]))
    return state


def leave_artifact(row: dict) -> None:
    """Leave a slide's row as an artifact of the task run, if an agent runs the flow.

    A server that does not answer costs the artifact, and not the slide.
    """
    with suppress(ClientError, requests.RequestException):
        create_markdown_artifact(results.markdown(row))


def save_failures(flow: Flow) -> None:
    """Let each task of the flow write the row of its slide if it fails: the tasks that follow do not run."""
    for task in flow.tasks:
        task.state_handlers = [*task.state_handlers, _save_failure]


def _save_failure(task: Task, old_state: State, state: State) -> None:
    """A state handler: write the row `failed`, with the reason, unless the task will be tried again."""
    context = prefect.context
    is_last_try = context.get("task_run_count", 1) > task.max_retries
    slide = _slide(context.parameters, context.get("map_index"))
    if slide and is_last_try and state.is_failed() and not isinstance(state, TriggerFailed):
        error = state.result if isinstance(state.result, Exception) else RuntimeError(state.message)
        with suppress(OutputError):  # the script, or the run's message, tells of a full folder
            results.save_failure(context.parameters["output"], slide, error)


def _slide(parameters: Mapping, map_index: int | None) -> str | None:
    """The slide of the task run: a mapped task itself, without an index, has none."""
    if "file_name" in parameters:
        return parameters["file_name"]
    return None if map_index is None else parameters["file_names"][map_index]


def name_task_runs(flow: Flow) -> None:
    """Name the runs of mapped tasks after their slides, such as `load CMU-1.svs` instead of `load_image [4]`."""
    for task in flow.tasks:
        if task.name in VERBS:
            task.task_run_name = partial(_task_run_name, VERBS[task.name])


def _task_run_name(verb: str, /, *, map_index: int | None, file_names: Sequence[str], **_: object) -> str | None:
    """The name of a task run; None, which keeps Prefect's name, for a mapped task itself."""
    return None if map_index is None else f"{verb} {Path(file_names[map_index]).name}"


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
