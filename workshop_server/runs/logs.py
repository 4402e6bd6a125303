"""Log lines of runs."""

import sqlalchemy as sa

from workshop_server.store import timestamps
from workshop_server.store.database import of_tenant
from workshop_server.store.tables import flow_run, log, task_run


def write(conn: sa.Connection, tenant: str | None, entries: list[dict]) -> None:
    """Store log lines. Clients send a batch again if its answer was lost: it is stored once.

    Lines of deleted runs, and of runs of another tenant, are dropped: nobody could read them.
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
