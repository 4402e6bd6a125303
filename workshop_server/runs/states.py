"""How runs go from state to state. Each state is a row of the history; the newest is copied into the run's row.

Two agents cannot take one run: the first that sets Submitted has it, the other gets a StateConflictError.
"""

import sqlalchemy as sa

from workshop_server.errors import RequestError, StateConflictError
from workshop_server.hooks import cloud_hooks
from workshop_server.store import timestamps
from workshop_server.store.database import owned
from workshop_server.store.tables import (
    FINISHED,
    KNOWN,
    WAITING,
    agent,
    flow_run,
    flow_run_state,
    task_run,
    task_run_state,
)

ENDS = {"Success", "Failed", "Cached", "TimedOut", "Looped", "Cancelled"}  # states that set the `end_time` of a run
CORE_VERSION = "1.4.1"  # of the Prefect client that reads the server's states
MANY = 500  # task runs in one statement: SQLite and PostgreSQL limit the number of parameters
HISTORY = {"flow_run": flow_run_state, "task_run": task_run_state}

# Built once: building a statement takes longer than executing it.
STATE_OF_FLOW_RUN = sa.select(flow_run.c.state).where(flow_run.c.id == sa.bindparam("run_id"))
CHANGE = {table.name: sa.update(table).where(table.c.id == sa.bindparam("run_id")) for table in (flow_run, task_run)}
REMEMBER = {name: sa.insert(table).inline() for name, table in HISTORY.items()}


def make(kind: str, message: str, **more: object) -> dict:
    """A state as Prefect's client serializes it."""
    return {"type": kind, "message": message, "_result": {"type": "NoResultType", "__version__": CORE_VERSION},
            "context": {"tags": []}, "cached_inputs": {}, **more, "__version__": CORE_VERSION}


def mirrored(state: dict) -> dict[str, object]:
    """The columns of a run's row that its newest state sets; RequestError for an unknown state."""
    kind = state.get("type") if isinstance(state, dict) else None
    if not isinstance(kind, str) or kind not in KNOWN:
        raise RequestError(f"State update failed: {str(kind)[:40]!r} is not a state of Prefect's")
    start = state.get("start_time")
    if kind in WAITING:
        start = timestamps.clean(start) if start else timestamps.now()  # needed for the queue
    message = state.get("message")
    return {"state": kind, "state_timestamp": timestamps.now(), "state_start_time": start if kind in WAITING else None,
            "state_message": None if message is None else str(message), "serialized_state": state}


def set_flow_run_state(conn: sa.Connection, tenant: str | None, flow_run_id: str, state: dict, *,
                       version: int | None = None, agent_id: str | None = None) -> None:
    """Give a flow run its next state.

    `version` is the version of the run that the caller saw. Clients send a request again if its answer was lost; with
    the version, it counts once. Raises StateConflictError for Submitted if another agent was first, and for Running
    after a cancellation.
    """
    run = owned(conn, flow_run, flow_run_id, tenant, lock=True)
    new = mirrored(state)
    if new["state"] == "Submitted":
        if _submitted_already(run, run, agent_id):
            return
        new["agent_id"] = _agent(conn, run, agent_id)
    elif _said_already(run, state, version):
        return
    if new["state"] == "Running" and run.state in ("Cancelling", "Cancelled"):
        raise StateConflictError(f"State update failed: flow run {run.id} is {run.state}, so it cannot go on")
    if new["state"] == "Running":
        new["heartbeat"] = new["state_timestamp"]
    _next(conn, flow_run, run, new)
    cloud_hooks.fire(conn, run, new["state"], new["state_message"])
    if new["state"] == "Cancelled":
        _cancel_tasks(conn, run.id)


def set_task_run_state(conn: sa.Connection, tenant: str | None, task_run_id: str, state: dict, *,
                       version: int | None = None, agent_id: str | None = None) -> None:
    """Give a task run its next state; `version` as for a flow run.

    Raises StateConflictError for Running while the flow run is not Running, and for Submitted if another agent was
    first.
    """
    new = mirrored(state)
    if new["state"] == "Submitted":
        _submit_task_run(conn, tenant, task_run_id, new, agent_id)
        return
    run = owned(conn, task_run, task_run_id, tenant, lock=True)
    if _said_already(run, state, version):
        return
    if new["state"] == "Running":
        outer = conn.scalar(STATE_OF_FLOW_RUN, {"run_id": run.flow_run_id})
        if outer != "Running":
            raise StateConflictError(f"State update failed: task run {run.id} cannot be Running, because its flow run "
                                f"{run.flow_run_id} is {outer}")
        new["run_count"] = run.run_count + 1
    _next(conn, task_run, run, new)


def _submit_task_run(conn: sa.Connection, tenant: str | None, task_run_id: str, new: dict,
                     agent_id: str | None) -> None:
    """The retry of a task run is due: an agent takes the flow run again, which stays Running."""
    outer_id = owned(conn, task_run, task_run_id, tenant).flow_run_id
    outer = owned(conn, flow_run, outer_id, tenant, lock=True)  # lock the flow run first, as a cancellation does
    run = owned(conn, task_run, task_run_id, tenant, lock=True)
    if not _submitted_already(run, outer, agent_id):
        conn.execute(sa.update(flow_run).where(flow_run.c.id == outer.id).values(
            agent_id=_agent(conn, outer, agent_id)))
        _next(conn, task_run, run, new)


def _submitted_already(run: sa.Row, outer: sa.Row, agent_id: str | None) -> bool:
    """Is this a repeated request of the same agent? StateConflictError if the run cannot be submitted.

    The state alone is not enough: another agent that saw the same version sends an equal state.
    """
    if run.state == "Submitted" and agent_id is not None and agent_id == outer.agent_id:
        return True
    if run.state not in WAITING:
        raise StateConflictError(f"State update failed: run {run.id} is {run.state}, it cannot be submitted again")
    return False


def _agent(conn: sa.Connection, outer: sa.Row, agent_id: str | None) -> str | None:
    """The id of the agent, if it belongs to the tenant of the flow run: otherwise reads could leave the tenant."""
    return conn.scalar(sa.select(agent.c.id).where(agent.c.id == agent_id, agent.c.tenant_id == outer.tenant_id))


def set_many_task_runs(conn: sa.Connection, task_run_ids: list[str], state: dict) -> None:
    """Give many task runs the same next state; each gets a row in its history."""
    new = mirrored(state)
    for start in range(0, len(task_run_ids), MANY):
        some = task_run.c.id.in_(task_run_ids[start:start + MANY])
        end = {"end_time": new["state_timestamp"]} if new["state"] in ENDS else {}
        conn.execute(sa.update(task_run).where(some).values(
            version=task_run.c.version + 1, updated=new["state_timestamp"], **end, **new))
        conn.execute(sa.insert(task_run_state), [
            _history_row("task_run", row.id, new | {"version": row.version})
            for row in conn.execute(sa.select(task_run.c.id, task_run.c.version).where(some))])


def _next(conn: sa.Connection, table: sa.Table, run: sa.Row, new: dict) -> None:
    if new["state"] == "Running" and run.start_time is None:
        new["start_time"] = new["state_timestamp"]
    if new["state"] in ENDS:
        new["end_time"] = new["state_timestamp"]
    new["version"] = run.version + 1
    conn.execute(CHANGE[table.name], {"run_id": run.id, "updated": new["state_timestamp"], **new})
    conn.execute(REMEMBER[table.name], _history_row(table.name, run.id, new))


def _history_row(table: str, run_id: str, new: dict) -> dict:
    return {f"{table}_id": run_id, "version": new["version"], "state": new["state"],
            "timestamp": new["state_timestamp"], "created": new["state_timestamp"],
            "start_time": new["state_start_time"], "message": new["state_message"],
            "serialized_state": new["serialized_state"]}


def _said_already(run: sa.Row, state: dict, version: int | None) -> bool:
    """Is this a repetition of the request that set the present state? Clients repeat one if its answer was lost."""
    if run.serialized_state != state:
        return False
    return run.state in FINISHED if version is None else run.version == version + 1


def _cancel_tasks(conn: sa.Connection, flow_run_id: str) -> None:
    """Cancel the task runs that have not finished, with their flow run."""
    unfinished = conn.scalars(sa.select(task_run.c.id).where(
        task_run.c.flow_run_id == flow_run_id, task_run.c.state.not_in(FINISHED))).all()
    set_many_task_runs(conn, unfinished, make("Cancelled", "Cancelled with its flow run"))
