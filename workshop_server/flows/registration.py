"""Registration: the next version of a flow, with its tasks and edges."""

import binascii
import gzip
import json
import zlib
from base64 import b64decode
from collections.abc import Iterable
from datetime import timedelta
from io import BytesIO

import sqlalchemy as sa

from workshop_server.errors import RequestError
from workshop_server.flows import versions
from workshop_server.schedules import events as schedule_events
from workshop_server.store.database import insert_new, owned
from workshop_server.store.tables import edge, flow, flow_group, new_id, project, task

SETTINGS = {"heartbeat_enabled": True, "lazarus_enabled": True}


def register(conn: sa.Connection, tenant: str | None, project_id: str, serialized_flow: dict, *,
             version_group_id: str | None = None, idempotency_key: str | None = None,
             schedule_active: bool = True) -> str:
    """Register the next version of a flow, and archive the ones before it; returns the id of the flow.

    A repeated `idempotency_key` returns the id of the newest version. Raises RequestError if this is not a flow.
    """
    home = owned(conn, project, project_id, tenant, lock=True)  # two registrations of one flow take turns here
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
        schedule_events.check(schedule)
    conn.execute(sa.insert(flow).values(
        id=flow_id, tenant_id=home.tenant_id, project_id=home.id, flow_group_id=group_id,
        version_group_id=version_group_id, name=name, version=older[0].version + 1 if older else 1,
        description=serialized_flow.get("description"), settings=SETTINGS, idempotency_key=idempotency_key,
        serialized_flow={key: value for key, value in serialized_flow.items() if key not in ("tasks", "edges")},
        environment=serialized_flow.get("environment"), storage=serialized_flow.get("storage"),
        run_config=serialized_flow.get("run_config"), schedule=schedule,
        parameters=serialized_flow.get("parameters") or [], core_version=serialized_flow.get("__version__")))
    for each in older:
        if not each.archived:
            versions.archive(conn, None, each.id)
    add_tasks(conn, None, flow_id, serialized_flow.get("tasks") or [])
    add_edges(conn, None, flow_id, serialized_flow.get("edges") or [])
    if schedule_active:
        versions.set_schedule_active(conn, None, flow_id, active=True)
    return flow_id


def _versions(conn: sa.Connection, home: sa.Row, name: str, version_group_id: str | None) -> list[sa.Row]:
    """The versions of the flow that are registered already, newest first."""
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
    """Add tasks to a flow; tasks that it has already stay as they are."""
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
    """Add edges to a flow; edges that it has already stay. A task is mapped if an edge into it is mapped."""
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


def unpack(compressed: str, most: int) -> dict:
    """The flow inside `base64(gzip(JSON))`; RequestError if it is none, or has over `most` bytes when unpacked."""
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
