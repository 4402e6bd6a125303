"""Artifacts of task runs: links and Markdown texts, as Prefect's `create_link` and `create_markdown` send them."""

import sqlalchemy as sa

from workshop_server.errors import RequestError
from workshop_server.store.database import owned, update
from workshop_server.store.tables import flow_run, task_run, task_run_artifact

KINDS = ("link", "markdown")


def add(conn: sa.Connection, tenant: str | None, task_run_id: str, kind: str, data: dict) -> str:
    """Store a link or a Markdown text of a task run; returns its id."""
    owned(conn, task_run, task_run_id, tenant)
    if kind not in KINDS or not isinstance(data, dict):
        raise RequestError(f"an artifact is of kind {' or '.join(KINDS)}, not {str(kind)[:40]!r}")
    home = conn.scalar(sa.select(flow_run.c.tenant_id).join(task_run, task_run.c.flow_run_id == flow_run.c.id)
                       .where(task_run.c.id == task_run_id))
    return conn.execute(sa.insert(task_run_artifact).values(
        tenant_id=home, task_run_id=task_run_id, kind=kind, data=data)).inserted_primary_key[0]


def change(conn: sa.Connection, tenant: str | None, artifact_id: str, data: dict) -> None:
    """Replace the data of an artifact."""
    if not isinstance(data, dict):
        raise RequestError("the data of an artifact are an object")
    update(conn, task_run_artifact, artifact_id, tenant, data=data)
