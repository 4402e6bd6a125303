"""What the scripts that send flow runs to a server share: is one there, and how did the runs end?"""

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

PATIENCE = 5    # seconds that a server may take to answer
SECONDS_A_ROW = 0.02  # of the table, between two times that runs make it anew
LOOK_EVERY = 1  # seconds between two looks at the runs
NO_AGENT = 15   # seconds after which it is time to wonder whether an agent is there


def check(project: str) -> None:
    """Make sure of the server and the project, now, and not after a minute of the client's tries; CommandError."""
    client = Client()
    url = client.api_server
    headers = {"Authorization": f"Bearer {client.api_key}"} if client.api_key else {}
    query = parse_graphql({"query": {with_args("project", {"where": {"name": {"_eq": project}}}): {"id"}}})
    try:
        answer = requests.post(url, json={"query": query}, headers=headers, timeout=PATIENCE)
    except requests.RequestException as error:
        way_out = ("start one with `python -m workshop_server`, in a terminal of its own"
                   if prefect.config.backend == "server" else
                   "set PREFECT__CLOUD__API to its address, or choose your own with `prefect backend server`")
        raise CommandError(f"no server at {url} ({type(error).__name__}): {way_out}") from None
    try:
        found = answer.json()
        errors = [str(error["message"]) for error in found.get("errors") or []]
        projects = [] if errors else [project["id"] for project in found["data"]["project"]]
    except (ValueError, AttributeError, TypeError, KeyError):
        raise CommandError(f"what answers at {url} is no Prefect server: end it, or start the server on another port, "
                           "see python -m workshop_server --help") from None
    if errors:
        raise CommandError(f"the server at {url} says: {errors[0]}")
    if not projects:
        raise CommandError(f"no project {project!r} on the server: prefect create project {shlex.quote(project)}")


def leave(flow_runs: list[str]) -> int:
    """Say where the runs that were submitted can be watched; the exit status."""
    _say_where(flow_runs)
    print("an agent runs them: prefect agent local start")
    return 0


def follow(run: Run, flow_runs: list[str]) -> int:
    """Wait for every flow run and say how it ended; then finish `run`. The exit status is 1 if one did not succeed."""
    _say_where(flow_runs)
    ended = {}
    for flow_run, name, state in progress(_endings(flow_runs), total=len(flow_runs)):
        ended[flow_run] = state
        print(f"{name}: {state.__class__.__name__}{'' if state.is_successful() else f', {state.message}'}")
    status = run.finish()
    return status if all(state.is_successful() for state in ended.values()) else 1


def _say_where(flow_runs: list[str]) -> None:
    client = Client()
    try:
        url = client.get_cloud_url("flow-run", flow_runs[-1])
    except (requests.RequestException, ClientError) as error:
        raise _lost(client, error) from None
    more = f", the last of them: {url}" if len(flow_runs) > 1 else f": {url}"
    print(f"submitted: {len(flow_runs)} flow run{'s' * (len(flow_runs) > 1)}{more}", flush=True)


def _lost(client: Client, error: Exception) -> CommandError:
    return CommandError(f"lost the server at {client.api_server} ({type(error).__name__}): start it again, and "
                        "its pages say how the runs ended")


def _endings(flow_runs: list[str]) -> Iterator[tuple[str, str, State]]:
    """Each flow run as it ends: id, name, final state."""
    client, waiting, since, asked = Client(), set(flow_runs), time.monotonic(), False
    while waiting:
        these = with_args("flow_run", {"where": {"id": {"_in": sorted(waiting)}}})
        try:
            found = client.graphql({"query": {these: {"id", "name", "labels", "serialized_state"}}}).data.flow_run
        except (requests.RequestException, ClientError) as error:
            raise _lost(client, error) from None
        states = {each.id: State.deserialize(each.serialized_state) for each in found}
        for each in found:
            if states[each.id].is_finished():
                waiting.remove(each.id)
                yield each.id, each.name, states[each.id]
        waiting &= set(states)  # the others were deleted meanwhile
        if not asked and time.monotonic() - since > NO_AGENT and all(state.is_scheduled() for state in states.values()):
            asked = True
            print(f"no run has started yet. {check_for_compatible_agents(found[0].labels)}")
        time.sleep(LOOK_EVERY if waiting else 0)


def see_to_the_table(output: Path) -> None:
    """Assemble the table at the end of a flow run, unless another run that will end later is sure to do it.

    Those are the runs of the same flow whose slides have no row yet: each writes its rows first, and then looks as this
    one does, so that the last finds nobody to leave it to. Meanwhile the table is made anew at intervals that grow with
    its length: a run in which every slide wrote it all would take time with the square of the slides.
    """
    table = output / "results.csv"
    rows = sum(1 for _ in output.glob(f"*{results.ROW_FILE}"))
    is_old = not table.exists() or time.time() - table.stat().st_mtime > rows * SECONDS_A_ROW
    if is_old or not _others_to_come(output):
        results.assemble(output)


def _others_to_come(output: Path) -> bool:
    context = prefect.context
    unfinished = with_args("flow_run", {
        "where": {"flow_id": {"_eq": context.flow_id}, "id": {"_neq": context.flow_run_id},
                  "state": {"_in": ["Scheduled", "Submitted", "Running", "Queued", "Retrying"]},
                  "scheduled_start_time": {"_lte": pendulum.now("UTC").isoformat()}},
        "order_by": {"scheduled_start_time": EnumValue("desc")}, "limit": 20})
    try:
        others = Client().graphql({"query": {unfinished: {"parameters"}}}).data.flow_run
    except Exception:  # no answer is no reason to leave the table to anybody
        return False
    return any(not results.has_row(output, slide) for other in others if other.parameters.get("output") == str(output)
               for slide in other.parameters.get("file_names") or [other.parameters.get("file_name")])
