"""Flow runs: created, started before their time, cancelled, restarted."""

import random

import sqlalchemy as sa

from workshop_server.errors import RequestError
from workshop_server.runs import states, task_runs
from workshop_server.store import timestamps
from workshop_server.store.database import insert_new, owned, update
from workshop_server.store.tables import FINISHED, edge, flow, flow_group, flow_run, new_id, task, task_run

# A run without a name gets one that is easy to say in a workshop.
QUALITIES = ("amber", "brisk", "calm", "clear", "crimson", "curious", "deft", "eager", "fair", "gentle", "golden",
             "honest", "indigo", "keen", "lucid", "mellow", "nimble", "patient", "quiet", "rosy", "sharp", "silver",
             "steady", "vivid", "wise")
CREATURES = ("badger", "bison", "cricket", "curlew", "dormouse", "egret", "falcon", "gecko", "heron", "ibis", "jackdaw",
             "kestrel", "lynx", "marmot", "newt", "otter", "plover", "quail", "raven", "stoat", "tern", "vole",
             "walrus", "wren", "yak")


def create(conn: sa.Connection, tenant: str | None, *, flow_id: str | None = None, version_group_id: str | None = None,
           parameters: dict | None = None, context: dict | None = None, run_config: dict | None = None,
           labels: list[str] | None = None, name: str | None = None, scheduled_start_time: str | None = None,
           idempotency_key: str | None = None, auto_scheduled: bool = False) -> str:
    """Create a run of a flow, in the state Scheduled, with a task run for each task; returns its id.

    A repeated `idempotency_key` returns the id of the run that has this key. Labels come from the first of these that
    is given: the argument `labels`, the argument `run_config`, the defaults of the flow. Raises RequestError if a
    required parameter is missing, and for an archived flow.
    """
    home = owned(conn, flow, flow_id or _newest(conn, tenant, version_group_id), tenant)
    made_before = sa.select(flow_run.c.id).where(
        flow_run.c.flow_id == home.id, flow_run.c.idempotency_key == idempotency_key)
    if idempotency_key is not None and (known := conn.scalar(made_before)):
        return known
    if home.archived:
        raise RequestError(f"flow {home.name!r}, version {home.version}, is archived: run its newest version")
    for what, given in (("parameters", parameters), ("context", context), ("run_config", run_config)):
        if not isinstance(given or {}, dict):
            raise RequestError(f"the {what} of a run are an object: name and value of each")
    group = conn.execute(sa.select(flow_group).where(flow_group.c.id == home.flow_group_id)).one()
    parameters = (group.default_parameters or {}) | (parameters or {})
    missing = [each["name"] for each in home.parameters if each.get("required") and each["name"] not in parameters]
    if missing:
        raise RequestError(f"flow {home.name!r} needs a value for: {', '.join(missing)}")
    if labels is None:
        labels = default_labels(group, home) if run_config is None else run_config.get("labels") or []
    start = timestamps.clean(scheduled_start_time) if scheduled_start_time else timestamps.now()
    run_id = new_id()
    new = insert_new(
        conn, flow_run, id=run_id, tenant_id=home.tenant_id, flow_id=home.id, parameters=parameters,
        name=name or f"{random.choice(QUALITIES)}-{random.choice(CREATURES)}",
        context=context or {}, run_config=run_config or group.run_config or home.run_config,
        labels=sorted(labels), scheduled_start_time=start, auto_scheduled=auto_scheduled,
        idempotency_key=idempotency_key, version=0)
    if not new:  # another request with this key was faster
        return conn.scalar(made_before)
    task_runs.add(conn, run_id, conn.execute(sa.select(task.c.id, task.c.cache_key).where(task.c.flow_id == home.id)))
    states.set_flow_run_state(conn, None, run_id, states.make("Scheduled", "Flow run scheduled.", start_time=start))
    return run_id


def _newest(conn: sa.Connection, tenant: str | None, version_group_id: str | None) -> str:
    newest = sa.select(flow.c.id).where(flow.c.version_group_id == version_group_id, flow.c.archived.is_(False))
    if tenant is not None:
        newest = newest.where(flow.c.tenant_id == tenant)
    found = conn.scalar(newest.order_by(flow.c.version.desc()).limit(1))
    if version_group_id is None or found is None:
        raise RequestError(f"flow with version group {version_group_id} not found" if version_group_id else
                           "a flow run needs a flow_id or a version_group_id")
    return found


def default_labels(group: sa.Row, home: sa.Row) -> list[str]:
    """The labels of a run that is created without labels: those of the flow group, else those of a run config."""
    if group.labels is not None:
        return sorted(group.labels)
    for config in (group.run_config, home.run_config, home.environment):
        if config is not None:
            return sorted(config.get("labels") or [])
    return []


def cancel(conn: sa.Connection, tenant: str | None, flow_run_id: str) -> str:
    """Cancel a flow run; returns its new state: Cancelling if it is Running, since its process looks every 15 s."""
    run = owned(conn, flow_run, flow_run_id, tenant, lock=True)
    if run.state in FINISHED or run.state == "Cancelling":
        return run.state
    kind = "Cancelling" if run.state == "Running" else "Cancelled"
    states.set_flow_run_state(conn, None, run.id, states.make(kind, "Flow run is cancelled by request"))
    return kind


def start_now(conn: sa.Connection, tenant: str | None, flow_run_id: str) -> None:
    """Let a Scheduled run start at once; RequestError for a run in another state."""
    run = owned(conn, flow_run, flow_run_id, tenant, lock=True)
    if run.state != "Scheduled":
        raise RequestError(f"flow run {run.name!r} is {run.state}: only a Scheduled one can be started at once")
    now = timestamps.now()
    conn.execute(sa.update(flow_run).where(flow_run.c.id == run.id).values(scheduled_start_time=now))
    states.set_flow_run_state(conn, None, run.id, states.make("Scheduled", "Started at once by request",
                                                              start_time=now))


def restart(conn: sa.Connection, tenant: str | None, flow_run_id: str) -> None:
    """Run the failed tasks again, and all tasks downstream of them; RequestError if no task has failed.

    Of a mapped task, only the children that failed run again; their parent stays Mapped.
    """
    run = owned(conn, flow_run, flow_run_id, tenant, lock=True)
    if run.state not in FINISHED:
        raise RequestError(f"flow run {run.name!r} is {run.state}: only one that has ended can be restarted")
    columns = (task_run.c.id, task_run.c.task_id, task_run.c.map_index, task_run.c.state)
    its_task_runs = conn.execute(sa.select(*columns).where(task_run.c.flow_run_id == run.id)).all()
    failed = {each.task_id for each in its_task_runs if _must_run_again(each.state)}
    if not failed:
        raise RequestError(f"flow run {run.name!r} has nothing to restart: no task of it failed; run the flow again")
    after = _downstream(conn, run.flow_id, failed)
    mapped = {each.task_id for each in its_task_runs if each.map_index >= 0}
    again = [each.id for each in its_task_runs
             if _must_run_again(each.state) or (each.task_id in after and each.task_id not in mapped)]
    states.set_many_task_runs(conn, again, states.make("Pending", "Task run restarted"))
    now = timestamps.now()
    states.set_flow_run_state(conn, None, run.id, states.make("Scheduled", "Flow run restarted", start_time=now))
    conn.execute(sa.update(flow_run).where(flow_run.c.id == run.id).values(times_resurrected=0, end_time=None))


def _must_run_again(state: str) -> bool:
    return state not in FINISHED or state in ("Failed", "TimedOut", "TriggerFailed", "Cancelled")


def _downstream(conn: sa.Connection, flow_id: str, tasks: set[str]) -> set[str]:
    """All tasks downstream of these."""
    after = {}
    for row in conn.execute(sa.select(edge.c.upstream_task_id, edge.c.downstream_task_id).where(
            edge.c.flow_id == flow_id)):
        after.setdefault(row.upstream_task_id, set()).add(row.downstream_task_id)
    found, rest = set(), list(tasks)
    while rest:
        new = after.get(rest.pop(), set()) - found
        found |= new
        rest.extend(new)
    return found


def beat(conn: sa.Connection, tenant: str | None, flow_run_id: str) -> None:
    """Store a heartbeat of a flow run: its process is alive."""
    owned(conn, flow_run, flow_run_id, tenant)
    conn.execute(sa.update(flow_run).where(flow_run.c.id == flow_run_id).values(heartbeat=timestamps.now()))


def rename(conn: sa.Connection, tenant: str | None, table: sa.Table, run_id: str, name: str) -> None:
    """Give a flow run or a task run another name."""
    if not name.strip():
        raise RequestError("a run's name has at least one letter")
    update(conn, table, run_id, tenant, name=name)
