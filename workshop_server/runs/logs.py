"""Log lines of runs, and the artifacts of task runs."""

import sqlalchemy as sa

from workshop_server.errors import RequestError
from workshop_server.store import timestamps
from workshop_server.store.database import of_tenant, owned, update
from workshop_server.store.tables import flow_run, log, task_run, task_run_artifact

KINDS = ("link", "markdown")


def write(conn: sa.Connection, tenant: str | None, entries: list[dict]) -> None:
    """Keep log lines; a batch that is sent again, because its answer was lost, counts once.

    Lines of runs that are gone, or another tenant's, are dropped: no one can read them.
    """
    rows = [_row(each) for each in entries]
    runs = _known(conn, flow_run, tenant, {row["flow_run_id"] for row in rows})
    tasks = _known(conn, task_run, tenant, {row["task_run_id"] for row in rows} - {None})
    rows = [row | {"task_run_id": row["task_run_id"] if row["task_run_id"] in tasks else None}
            for row in rows if row["flow_run_id"] in runs]
    if rows and not _kept_already(conn, rows[0]):
        conn.execute(sa.insert(log), rows)


def _row(entry: dict) -> dict:
    message, stamp = entry.get("message"), entry.get("timestamp")
    return {"flow_run_id": entry.get("flow_run_id"), "task_run_id": entry.get("task_run_id"),
            "timestamp": timestamps.clean(stamp) if stamp else timestamps.now(), "name": entry.get("name"),
            "level": str(entry.get("level") or "INFO"), "message": None if message is None else str(message),
            "info": entry.get("info")}


def _known(conn: sa.Connection, table: sa.Table, tenant: str | None, ids: set) -> set[str]:
    if not ids:
        return set()
    return set(conn.scalars(of_tenant(sa.select(table.c.id).where(table.c.id.in_(ids)), table, tenant)))


def _kept_already(conn: sa.Connection, first: dict) -> bool:
    same = (log.c[column] == first[column] for column in ("flow_run_id", "timestamp", "message", "name"))
    return conn.scalar(sa.select(log.c.id).where(*same).limit(1)) is not None


def add_artifact(conn: sa.Connection, tenant: str | None, task_run_id: str, kind: str, data: dict) -> str:
    """Keep a link or a Markdown text of a task run; returns its id."""
    owned(conn, task_run, task_run_id, tenant)
    if kind not in KINDS or not isinstance(data, dict):
        raise RequestError(f"an artifact is of kind {' or '.join(KINDS)}, not {str(kind)[:40]!r}")
    home = conn.scalar(sa.select(flow_run.c.tenant_id).join(task_run, task_run.c.flow_run_id == flow_run.c.id)
                       .where(task_run.c.id == task_run_id))
    return conn.execute(sa.insert(task_run_artifact).values(
        tenant_id=home, task_run_id=task_run_id, kind=kind, data=data)).inserted_primary_key[0]


def change_artifact(conn: sa.Connection, tenant: str | None, artifact_id: str, data: dict) -> None:
    """Replace what an artifact holds."""
    if not isinstance(data, dict):
        raise RequestError("the data of an artifact are an object")
    update(conn, task_run_artifact, artifact_id, tenant, data=data)
