"""Flow runs and task runs: how they come to be, are cancelled, and run again."""

import random

import sqlalchemy as sa

from workshop_server.errors import RequestError
from workshop_server.runs import states
from workshop_server.store import timestamps
from workshop_server.store.database import insert_new, owned, update
from workshop_server.store.tables import FINISHED, edge, flow, flow_group, flow_run, new_id, task, task_run

# A run that nobody names gets a name that is easy to say across a room.
QUALITIES = ("amber", "brisk", "calm", "clear", "crimson", "curious", "deft", "eager", "fair", "gentle", "golden",
             "honest", "indigo", "keen", "lucid", "mellow", "nimble", "patient", "quiet", "rosy", "sharp", "silver",
             "steady", "vivid", "wise")
CREATURES = ("badger", "bison", "cricket", "curlew", "dormouse", "egret", "falcon", "gecko", "heron", "ibis", "jackdaw",
             "kestrel", "lynx", "marmot", "newt", "otter", "plover", "quail", "raven", "stoat", "tern", "vole",
             "walrus", "wren", "yak")

INFO = sa.select(*(task_run.c[name] for name in (
    "id", "flow_run_id", "task_id", "map_index", "version", "state", "serialized_state"))).where(
        task_run.c.flow_run_id == sa.bindparam("run"), task_run.c.task_id == sa.bindparam("task"),
        task_run.c.map_index == sa.bindparam("index"))


def create(conn: sa.Connection, tenant: str | None, *, flow_id: str | None = None, version_group_id: str | None = None,
           parameters: dict | None = None, context: dict | None = None, run_config: dict | None = None,
           labels: list[str] | None = None, name: str | None = None, scheduled_start_time: str | None = None,
           idempotency_key: str | None = None, auto_scheduled: bool = False) -> str:
    """A new run of a flow, Scheduled, with a task run for each of its tasks; returns its id.

    A repeated `idempotency_key` returns the run that it made before. Labels come from the first that has some of:
    the argument, the run config, the flow group, the flow's run config. Raises RequestError where a required
    parameter is missing, and for an archived flow.
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
    start = timestamps.clean(scheduled_start_time) if scheduled_start_time else timestamps.now()
    run_id = new_id()
    new = insert_new(
        conn, flow_run, id=run_id, tenant_id=home.tenant_id, flow_id=home.id, parameters=parameters,
        name=name or f"{random.choice(QUALITIES)}-{random.choice(CREATURES)}",
        context=context or {}, run_config=run_config or group.run_config or home.run_config,
        labels=_labels(labels, run_config, group, home), scheduled_start_time=start, auto_scheduled=auto_scheduled,
        idempotency_key=idempotency_key, version=0)
    if not new:  # the same key, in a request that was faster
        return conn.scalar(made_before)
    add_task_runs(conn, run_id, conn.execute(sa.select(task.c.id, task.c.cache_key).where(task.c.flow_id == home.id)))
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


def _labels(labels: list[str] | None, run_config: dict | None, group: sa.Row, home: sa.Row) -> list[str]:
    if labels is not None:
        return sorted(labels)
    if run_config is not None:
        return sorted(run_config.get("labels") or [])
    if group.labels is not None:
        return sorted(group.labels)
    for config in (group.run_config, home.run_config, home.environment):
        if config is not None:
            return sorted(config.get("labels") or [])
    return []


def add_task_runs(conn: sa.Connection, flow_run_id: str, tasks: sa.Result) -> None:
    """Task runs that have not started, one a task."""
    rows = [_pending(flow_run_id, row.id, -1, row.cache_key) for row in tasks]
    if rows:
        conn.execute(sa.insert(task_run), rows)


def _pending(flow_run_id: str, task_id: str, map_index: int, cache_key: str | None) -> dict:
    return {"id": new_id(), "flow_run_id": flow_run_id, "task_id": task_id, "map_index": map_index,
            "cache_key": cache_key, "version": 0, "run_count": 0,
            **states.mirrored(states.make("Pending", "Task run created"))}


def known_task_run(conn: sa.Connection, tenant: str | None, flow_run_id: str, task_id: str,
                   map_index: int) -> sa.Row | None:
    """The task run of one task, or of one of its mapped children; None where it is new."""
    if tenant is not None:
        owned(conn, flow_run, flow_run_id, tenant)
    return conn.execute(INFO, {"run": flow_run_id, "task": task_id, "index": map_index}).first()


def task_run_info(conn: sa.Connection, tenant: str | None, flow_run_id: str, task_id: str, map_index: int) -> sa.Row:
    """The same; one that is new is created here, once, however many ask for it at the same time."""
    run = owned(conn, flow_run, flow_run_id, tenant)
    its_task = owned(conn, task, task_id, tenant)
    if its_task.flow_id != run.flow_id:
        raise RequestError(f"task {task_id} not found in the flow of flow run {flow_run_id}")
    insert_new(conn, task_run, **_pending(flow_run_id, task_id, map_index, its_task.cache_key))
    return known_task_run(conn, None, flow_run_id, task_id, map_index)


def cancel(conn: sa.Connection, tenant: str | None, flow_run_id: str) -> str:
    """Cancel a flow run; returns its state. One that runs is asked to stop, which its process sees within 15 s."""
    run = owned(conn, flow_run, flow_run_id, tenant, lock=True)
    if run.state in FINISHED or run.state == "Cancelling":
        return run.state
    kind = "Cancelling" if run.state == "Running" else "Cancelled"
    states.set_flow_run_state(conn, None, run.id, states.make(kind, "Flow run is cancelled by request"))
    return kind


def start_now(conn: sa.Connection, tenant: str | None, flow_run_id: str) -> None:
    """Let a run that waits for its time start at once; RequestError where it does not wait."""
    run = owned(conn, flow_run, flow_run_id, tenant, lock=True)
    if run.state != "Scheduled":
        raise RequestError(f"flow run {run.name!r} is {run.state}: only a Scheduled one can be started at once")
    now = timestamps.now()
    conn.execute(sa.update(flow_run).where(flow_run.c.id == run.id).values(scheduled_start_time=now))
    states.set_flow_run_state(conn, None, run.id, states.make("Scheduled", "Started at once by request",
                                                              start_time=now))


def restart(conn: sa.Connection, tenant: str | None, flow_run_id: str) -> None:
    """Run again what failed, and all that comes after it; RequestError where nothing has failed.

    Of a mapped task only the children that failed run again, and never the task that mapped them: it stays Mapped.
    """
    run = owned(conn, flow_run, flow_run_id, tenant, lock=True)
    if run.state not in FINISHED:
        raise RequestError(f"flow run {run.name!r} is {run.state}: only one that has ended can be restarted")
    columns = (task_run.c.id, task_run.c.task_id, task_run.c.map_index, task_run.c.state)
    tasks_runs = conn.execute(sa.select(*columns).where(task_run.c.flow_run_id == run.id)).all()
    failed = {each.task_id for each in tasks_runs if _must_run_again(each.state)}
    if not failed:
        raise RequestError(f"flow run {run.name!r} has nothing to restart: no task of it failed; run the flow again")
    after = _downstream(conn, run.flow_id, failed)
    mapped = {each.task_id for each in tasks_runs if each.map_index >= 0}
    again = [each.id for each in tasks_runs
             if _must_run_again(each.state) or (each.task_id in after and each.task_id not in mapped)]
    states.set_many_task_runs(conn, again, states.make("Pending", "Task run restarted"))
    now = timestamps.now()
    states.set_flow_run_state(conn, None, run.id, states.make("Scheduled", "Flow run restarted", start_time=now))
    conn.execute(sa.update(flow_run).where(flow_run.c.id == run.id).values(times_resurrected=0, end_time=None))


def _must_run_again(state: str) -> bool:
    return state not in FINISHED or state in ("Failed", "TimedOut", "TriggerFailed", "Cancelled")


def _downstream(conn: sa.Connection, flow_id: str, tasks: set[str]) -> set[str]:
    """The tasks that come after these, as far as edges lead."""
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
    """Note that the process of a flow run lives."""
    owned(conn, flow_run, flow_run_id, tenant)
    conn.execute(sa.update(flow_run).where(flow_run.c.id == flow_run_id).values(heartbeat=timestamps.now()))


def rename(conn: sa.Connection, tenant: str | None, table: sa.Table, run_id: str, name: str) -> None:
    """Give a flow run or a task run another name."""
    if not name.strip():
        raise RequestError("a run's name has at least one letter")
    update(conn, table, run_id, tenant, name=name)
