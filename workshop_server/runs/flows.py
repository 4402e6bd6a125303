"""Flows: their registration, versions, tasks and edges, and what becomes of older versions."""

import binascii
import gzip
import json
import zlib
from base64 import b64decode
from collections.abc import Iterable
from datetime import timedelta
from io import BytesIO

import sqlalchemy as sa

from workshop_server import background
from workshop_server.errors import RequestError
from workshop_server.runs import states
from workshop_server.schedules import schedules
from workshop_server.store.database import delete, insert_new, owned, update
from workshop_server.store.tables import edge, flow, flow_group, flow_run, new_id, project, task

SETTINGS = {"heartbeat_enabled": True, "lazarus_enabled": True}


def register(conn: sa.Connection, tenant: str | None, project_id: str, serialized_flow: dict, *,
             version_group_id: str | None = None, idempotency_key: str | None = None,
             schedule_active: bool = True) -> str:
    """Register the next version of a flow, and archive the ones before it; returns the id of the flow.

    A repeated `idempotency_key` returns the newest version as it is. Raises RequestError for what is no flow.
    """
    home = owned(conn, project, project_id, tenant, lock=True)  # two registrations of one flow queue here
    name = serialized_flow.get("name")
    if not isinstance(name, str) or not name:
        raise RequestError("the flow has no name: give it one, as in Flow(\"Image QC\")")
    older = _versions(conn, home, name, version_group_id)
    if older and idempotency_key is not None and older[0].idempotency_key == idempotency_key and not older[0].archived:
        return older[0].id
    version_group_id = older[0].version_group_id if older else version_group_id or new_id()
    group_id = _group(conn, home.tenant_id, version_group_id)
    flow_id = new_id()
    schedule = serialized_flow.get("schedule")
    if schedule:
        schedules.check(schedule)
    conn.execute(sa.insert(flow).values(
        id=flow_id, tenant_id=home.tenant_id, project_id=home.id, flow_group_id=group_id,
        version_group_id=version_group_id, name=name, version=older[0].version + 1 if older else 1,
        description=serialized_flow.get("description"), settings=SETTINGS, idempotency_key=idempotency_key,
        serialized_flow={key: value for key, value in serialized_flow.items() if key not in ("tasks", "edges")},
        environment=serialized_flow.get("environment"), storage=serialized_flow.get("storage"),
        run_config=serialized_flow.get("run_config"), schedule=schedule,
        parameters=serialized_flow.get("parameters") or [], core_version=serialized_flow.get("__version__")))
    for version in older:
        if not version.archived:
            archive(conn, None, version.id)
    add_tasks(conn, None, flow_id, serialized_flow.get("tasks") or [])
    add_edges(conn, None, flow_id, serialized_flow.get("edges") or [])
    if schedule_active:
        set_schedule_active(conn, None, flow_id, active=True)
    return flow_id


def _versions(conn: sa.Connection, home: sa.Row, name: str, version_group_id: str | None) -> list[sa.Row]:
    """The versions of the flow that stand already, newest first."""
    same = (flow.c.version_group_id == version_group_id if version_group_id else
            sa.and_(flow.c.project_id == home.id, flow.c.name == name))
    columns = (flow.c.id, flow.c.version, flow.c.version_group_id, flow.c.archived, flow.c.idempotency_key)
    return conn.execute(sa.select(*columns).where(flow.c.tenant_id == home.tenant_id, same)
                        .order_by(flow.c.version.desc())).all()


def _group(conn: sa.Connection, tenant_id: str, version_group_id: str) -> str:
    insert_new(conn, flow_group, id=new_id(), tenant_id=tenant_id, name=version_group_id, settings=SETTINGS)
    return conn.scalar(sa.select(flow_group.c.id).where(
        flow_group.c.tenant_id == tenant_id, flow_group.c.name == version_group_id))


def add_tasks(conn: sa.Connection, tenant: str | None, flow_id: str, serialized_tasks: Iterable[dict]) -> None:
    """Add tasks to a flow; those that it has already stay as they are."""
    home = owned(conn, flow, flow_id, tenant, lock=True)
    known = set(conn.scalars(sa.select(task.c.slug).where(task.c.flow_id == flow_id)))
    reference = {each.get("slug") for each in home.serialized_flow.get("reference_tasks") or []}
    new = [_task(flow_id, each, reference) for each in serialized_tasks if _slug(each) not in known]
    if new:
        conn.execute(sa.insert(task), new)


def _slug(serialized: dict) -> str:
    slug = serialized.get("slug") if isinstance(serialized, dict) else None
    if not isinstance(slug, str):
        raise RequestError("a task without a slug: register the flow with prefect 1.4.1")
    return slug


def _task(flow_id: str, serialized: dict, reference: set[str]) -> dict:
    delay = serialized.get("retry_delay")  # seconds
    trigger = serialized.get("trigger") or {}
    return {"flow_id": flow_id, "name": serialized.get("name"), "slug": serialized["slug"],
            "description": serialized.get("description"), "type": serialized.get("type"),
            "max_retries": serialized.get("max_retries") or 0,
            "retry_delay": str(timedelta(seconds=delay)) if isinstance(delay, (int, float)) else None,
            "trigger": trigger.get("fn") if isinstance(trigger, dict) else None,
            "auto_generated": bool(serialized.get("auto_generated")), "cache_key": serialized.get("cache_key"),
            "is_reference_task": serialized["slug"] in reference, "is_root_task": True, "is_terminal_task": True,
            "tags": sorted(serialized.get("tags") or [])}


def add_edges(conn: sa.Connection, tenant: str | None, flow_id: str, serialized_edges: Iterable[dict]) -> None:
    """Add edges to a flow; those that it has already stay. A task is mapped if an edge into it is."""
    owned(conn, flow, flow_id, tenant, lock=True)
    ids = {row.slug: row.id for row in conn.execute(sa.select(task.c.slug, task.c.id).where(task.c.flow_id == flow_id))}
    columns = (edge.c.upstream_task_id, edge.c.downstream_task_id, edge.c.key)
    known = {tuple(row) for row in conn.execute(sa.select(*columns).where(edge.c.flow_id == flow_id))}
    new = {}
    for each in serialized_edges:
        ends = tuple(ids.get(_slug(each.get(end) or {})) for end in ("upstream_task", "downstream_task"))
        if None in ends:
            raise RequestError("an edge between tasks that the flow has not: register its tasks first")
        new[*ends, each.get("key")] = {"flow_id": flow_id, "upstream_task_id": ends[0], "downstream_task_id": ends[1],
                                       "key": each.get("key"), "mapped": bool(each.get("mapped"))}
    new = [row for key, row in new.items() if key not in known]
    if not new:
        return
    conn.execute(sa.insert(edge), new)
    for ids_of, column in ((({row["upstream_task_id"] for row in new}), {"is_terminal_task": False}),
                           (({row["downstream_task_id"] for row in new}), {"is_root_task": False}),
                           (({row["downstream_task_id"] for row in new if row["mapped"]}), {"mapped": True})):
        conn.execute(sa.update(task).where(task.c.id.in_(ids_of)).values(**column))


def archive(conn: sa.Connection, tenant: str | None, flow_id: str) -> None:
    """Put a version aside: no new runs; those of its schedule go, those that somebody asked for are cancelled."""
    update(conn, flow, flow_id, tenant, archived=True, is_schedule_active=False)
    _drop_scheduled(conn, flow_id)
    waiting = conn.scalars(sa.select(flow_run.c.id).where(
        flow_run.c.flow_id == flow_id, flow_run.c.state == "Scheduled")).all()
    for run_id in waiting:
        states.set_flow_run_state(conn, None, run_id, states.make("Cancelled", "The flow was archived"))


def _drop_scheduled(conn: sa.Connection, flow_id: str) -> None:
    conn.execute(sa.delete(flow_run).where(flow_run.c.flow_id == flow_id, flow_run.c.auto_scheduled.is_(True),
                                           flow_run.c.state == "Scheduled"))


def delete_project(conn: sa.Connection, tenant: str | None, project_id: str) -> None:
    """Delete a project with its flows and their runs."""
    groups = conn.scalars(sa.select(flow.c.flow_group_id).where(flow.c.project_id == project_id).distinct()).all()
    delete(conn, project, project_id, tenant)
    _drop_empty(conn, groups)


def delete_version(conn: sa.Connection, tenant: str | None, flow_id: str) -> None:
    """Delete a version of a flow with its runs, and the flow with its last version."""
    group_id = owned(conn, flow, flow_id, tenant).flow_group_id
    delete(conn, flow, flow_id, tenant)
    _drop_empty(conn, [group_id])


def _drop_empty(conn: sa.Connection, group_ids: Iterable[str]) -> None:
    """Delete those of the groups that have no version any more: a flow of that name would begin a new one."""
    for group_id in group_ids:
        left = sa.select(flow.c.id).where(flow.c.flow_group_id == group_id)
        conn.execute(sa.delete(flow_group).where(flow_group.c.id == group_id, ~sa.exists(left)))


def delete_group(conn: sa.Connection, tenant: str | None, flow_group_id: str) -> None:
    """Delete a flow with all its versions and runs."""
    owned(conn, flow_group, flow_group_id, tenant)
    conn.execute(sa.delete(flow_group).where(flow_group.c.id == flow_group_id))


def set_schedule_active(conn: sa.Connection, tenant: str | None, flow_id: str, active: bool) -> None:
    """Switch a flow's schedule on or off. Runs of the schedule that have not started go when it is switched off."""
    row = owned(conn, flow, flow_id, tenant, lock=True)
    of_group = conn.scalar(sa.select(flow_group.c.schedule).where(flow_group.c.id == row.flow_group_id))
    if active and row.archived and not (of_group or row.schedule):
        return  # the client says it of every flow; a registration that was faster may have archived this version
    if active and row.archived:
        raise RequestError(f"flow {row.name!r}, version {row.version}, is archived: its schedule stays off")
    conn.execute(sa.update(flow).where(flow.c.id == flow_id).values(is_schedule_active=active))
    if active:
        background.schedule_flow(conn, None, flow_id)
    else:
        _drop_scheduled(conn, flow_id)


def set_schedule(conn: sa.Connection, tenant: str | None, flow_group_id: str, schedule: dict | None) -> None:
    """Give all versions of a flow a schedule that goes before the registered one; None takes it away."""
    if schedule:
        schedules.check(schedule)
    update(conn, flow_group, flow_group_id, tenant, schedule=schedule)
    current = conn.scalars(sa.select(flow.c.id).where(
        flow.c.flow_group_id == flow_group_id, flow.c.is_schedule_active.is_(True))).all()
    for flow_id in current:
        _drop_scheduled(conn, flow_id)
        background.schedule_flow(conn, None, flow_id)


def set_setting(conn: sa.Connection, tenant: str | None, flow_id: str, **settings: object) -> None:
    """Change settings of a flow: `heartbeat_enabled`, `lazarus_enabled`."""
    row = owned(conn, flow, flow_id, tenant, lock=True)
    conn.execute(sa.update(flow).where(flow.c.id == flow_id).values(settings=row.settings | settings))


def unpack(compressed: str, most: int) -> dict:
    """The flow inside `base64(gzip(JSON))`; RequestError where it is none, or has over `most` bytes unpacked."""
    try:
        with gzip.GzipFile(fileobj=BytesIO(b64decode(compressed, validate=True))) as packed:
            text = packed.read(most + 1)
        if len(text) > most:
            raise RequestError(f"the flow has over {most // 2**20} MB unpacked, which is more than this server takes")
        found = json.loads(text)
        if isinstance(found, dict):
            return found
    except (binascii.Error, zlib.error, OSError, EOFError, ValueError, RecursionError):
        pass
    raise RequestError("not a compressed flow: register it with prefect 1.4.1")
