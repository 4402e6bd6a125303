"""Task runs: created with their flow run, or when a mapped task gets its children."""

import sqlalchemy as sa

from workshop_server.errors import RequestError
from workshop_server.runs import states
from workshop_server.store.database import insert_new, owned
from workshop_server.store.tables import flow_run, new_id, task, task_run

INFO = sa.select(*(task_run.c[name] for name in (
    "id", "flow_run_id", "task_id", "map_index", "version", "state", "serialized_state"))).where(
        task_run.c.flow_run_id == sa.bindparam("run"), task_run.c.task_id == sa.bindparam("task"),
        task_run.c.map_index == sa.bindparam("index"))


def add(conn: sa.Connection, flow_run_id: str, tasks: sa.Result) -> None:
    """Create the Pending task runs of a flow run, one for each task."""
    rows = [_pending(flow_run_id, row.id, -1, row.cache_key) for row in tasks]
    if rows:
        conn.execute(sa.insert(task_run), rows)


def _pending(flow_run_id: str, task_id: str, map_index: int, cache_key: str | None) -> dict:
    return {"id": new_id(), "flow_run_id": flow_run_id, "task_id": task_id, "map_index": map_index,
            "cache_key": cache_key, "version": 0, "run_count": 0,
            **states.mirrored(states.make("Pending", "Task run created"))}


def known_task_run(conn: sa.Connection, tenant: str | None, flow_run_id: str, task_id: str,
                   map_index: int) -> sa.Row | None:
    """The task run of one task, or of one of its mapped children; None if it does not exist yet."""
    if tenant is not None:
        owned(conn, flow_run, flow_run_id, tenant)
    return conn.execute(INFO, {"run": flow_run_id, "task": task_id, "index": map_index}).first()


def task_run_info(conn: sa.Connection, tenant: str | None, flow_run_id: str, task_id: str, map_index: int) -> sa.Row:
    """The same; a task run that does not exist is created, once, even if many requests ask for it at the same time."""
    run = owned(conn, flow_run, flow_run_id, tenant)
    its_task = owned(conn, task, task_id, tenant)
    if its_task.flow_id != run.flow_id:
        raise RequestError(f"task {task_id} not found in the flow of flow run {flow_run_id}")
    insert_new(conn, task_run, **_pending(flow_run_id, task_id, map_index, its_task.cache_key))
    return known_task_run(conn, None, flow_run_id, task_id, map_index)
