"""Code that the scripts with a server share: check the server, wait for flow runs, and write the table at their end."""

import shlex
import time
from collections.abc import Iterator
from pathlib import Path

from slideqc.console import progress

import pendulum
import prefect
import requests
from prefect import Client
from prefect.backend.flow_run import check_for_compatible_agents
from prefect.engine.state import State
from prefect.exceptions import ClientError
from prefect.utilities.graphql import EnumValue, parse_graphql, with_args

from slideqc.errors import CommandError
from slideqc.output import results
from slideqc.output.run import Run

TIMEOUT = 5      # seconds in which the server must answer
SECONDS_PER_ROW = 0.02  # the table is rewritten at most every SECONDS_PER_ROW × number of rows
POLL_EVERY = 1   # seconds between two requests for the states of the runs
NO_AGENT = 15    # seconds without a started run after which a hint about agents is printed


def check(project: str) -> None:
    """Check that the server answers and has the project: Prefect's client would try for a minute.

    Raises CommandError if the server does not answer, is not a Prefect server, reports an error, or lacks the project.
    """
    client = Client()
    url = client.api_server
    headers = {"Authorization": f"Bearer {client.api_key}"} if client.api_key else {}
    query = parse_graphql({"query": {with_args("project", {"where": {"name": {"_eq": project}}}): {"id"}}})
    try:
        answer = requests.post(url, json={"query": query}, headers=headers, timeout=TIMEOUT)
    except requests.RequestException as error:
        hint = ("start one with `python -m workshop_server` in another terminal"
                if prefect.config.backend == "server" else
                "set PREFECT__CLOUD__API to its address, or choose your own with `prefect backend server`")
        raise CommandError(f"no server at {url} ({type(error).__name__}): {hint}") from None
    try:
        found = answer.json()
        errors = [str(error["message"]) for error in found.get("errors") or []]
        projects = [] if errors else [project["id"] for project in found["data"]["project"]]
    except (ValueError, AttributeError, TypeError, KeyError):
        raise CommandError(f"the program at {url} is not a Prefect server: end it, or start the server on another "
                           "port, see python -m workshop_server --help") from None
    if errors:
        raise CommandError(f"the server at {url} reports: {errors[0]}")
    if not projects:
        raise CommandError(f"no project {project!r} on the server: prefect create project {shlex.quote(project)}")


def print_address(flow_runs: list[str]) -> int:
    """Print the address of the submitted flow runs; returns the exit status 0. Raises CommandError without a server."""
    _print_address(flow_runs)
    print("an agent runs them: prefect agent local start")
    return 0


def wait_for_runs(run: Run, flow_runs: list[str]) -> int:
    """Wait for all flow runs, print the final state of each, and finish `run`; returns the exit status.

    It is 1 if a flow run or a slide failed. Raises CommandError if the server no longer answers.
    """
    _print_address(flow_runs)
    ended = {}
    for flow_run, name, state in progress(_final_states(flow_runs), total=len(flow_runs)):
        ended[flow_run] = state
        print(f"{name}: {state.__class__.__name__}{'' if state.is_successful() else f', {state.message}'}")
    status = run.finish()
    return status if all(state.is_successful() for state in ended.values()) else 1


def _print_address(flow_runs: list[str]) -> None:
    client = Client()
    try:
        url = client.get_cloud_url("flow-run", flow_runs[-1])
    except (requests.RequestException, ClientError) as error:
        raise _lost_server(client, error) from None
    more = f", the last of them: {url}" if len(flow_runs) > 1 else f": {url}"
    print(f"submitted: {len(flow_runs)} flow run{'s' * (len(flow_runs) > 1)}{more}", flush=True)


def _lost_server(client: Client, error: Exception) -> CommandError:
    return CommandError(f"lost the server at {client.api_server} ({type(error).__name__}): start it again; its "
                        "pages show how the runs ended")


def _final_states(flow_runs: list[str]) -> Iterator[tuple[str, str, State]]:
    """Yield each flow run when it ends: its id, name and final state."""
    client, waiting, started, hinted = Client(), set(flow_runs), time.monotonic(), False
    while waiting:
        runs = with_args("flow_run", {"where": {"id": {"_in": sorted(waiting)}}})
        try:
            found = client.graphql({"query": {runs: {"id", "name", "labels", "serialized_state"}}}).data.flow_run
        except (requests.RequestException, ClientError) as error:
            raise _lost_server(client, error) from None
        states = {each.id: State.deserialize(each.serialized_state) for each in found}
        for each in found:
            if states[each.id].is_finished():
                waiting.remove(each.id)
                yield each.id, each.name, states[each.id]
        waiting &= set(states)  # a run that the server no longer knows was deleted
        all_scheduled = all(state.is_scheduled() for state in states.values())
        if not hinted and time.monotonic() - started > NO_AGENT and all_scheduled:
            hinted = True
            print(f"no run has started yet. {check_for_compatible_agents(found[0].labels)}")
        time.sleep(POLL_EVERY if waiting else 0)


def write_table(output: Path) -> None:
    """Write the table and the report at the end of a flow run, unless a later run of the same flow will do it.

    A later run is one whose slides have no row yet. Each run writes its rows before it calls this function. So the last
    run to finish finds no later run, and writes the table. Until then the table is rewritten now and then, less often
    the longer it is: rewriting it after every slide would take time proportional to the square of the slides.
    """
    table = output / "results.csv"
    rows = sum(1 for _ in output.glob(f"*{results.ROW_FILE}"))
    is_old = not table.exists() or time.time() - table.stat().st_mtime > rows * SECONDS_PER_ROW
    if is_old or not _later_runs(output):
        results.assemble(output)


def _later_runs(output: Path) -> bool:
    """Is there an unfinished run of this flow, due by now, with a slide that has no row in `output`?"""
    context = prefect.context
    unfinished = with_args("flow_run", {
        "where": {"flow_id": {"_eq": context.flow_id}, "id": {"_neq": context.flow_run_id},
                  "state": {"_in": ["Scheduled", "Submitted", "Running", "Queued", "Retrying"]},
                  "scheduled_start_time": {"_lte": pendulum.now("UTC").isoformat()}},
        "order_by": {"scheduled_start_time": EnumValue("desc")}, "limit": 20})
    try:
        others = Client().graphql({"query": {unfinished: {"parameters"}}}).data.flow_run
    except Exception:  # without an answer, this run writes the table itself
        return False
    return any(not results.has_row(output, slide) for other in others if other.parameters.get("output") == str(output)
               for slide in other.parameters.get("file_names") or [other.parameters.get("file_name")])
