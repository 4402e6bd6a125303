"""Log lines of runs, and artifacts of task runs."""

import sqlalchemy as sa
from graphql import GraphQLNonNull

from workshop_server.context import Caller
from workshop_server.graph.types.mutation_field import ID, NEEDED_ID, NEEDED_TEXT, TEXT, Fields, mutation
from workshop_server.graph.types.scalars import JSONB, TIMESTAMPTZ, UUID
from workshop_server.runs import artifacts
from workshop_server.runs import logs as run_logs
from workshop_server.store.database import delete
from workshop_server.store.tables import task_run_artifact

FIELDS: Fields = {}


@mutation(FIELDS, repeats="logs", flow_run_id=UUID, task_run_id=UUID, timestamp=TIMESTAMPTZ, name=TEXT, level=TEXT,
          message=TEXT, info=JSONB)
def write_run_logs(conn: sa.Connection, caller: Caller, logs: list[dict]) -> None:
    """Store log lines of runs."""
    run_logs.write(conn, caller.tenant, logs)


@mutation(FIELDS, ID, task_run_id=NEEDED_ID, kind=NEEDED_TEXT, data=GraphQLNonNull(JSONB), tenant_id=UUID)
def create_task_run_artifact(conn: sa.Connection, caller: Caller, task_run_id: str, kind: str, data: dict,
                             tenant_id: str | None) -> dict:
    """Store a link or a Markdown text of a task run."""
    return {"id": artifacts.add(conn, caller.tenant, task_run_id, kind, data)}


@mutation(FIELDS, task_run_artifact_id=NEEDED_ID, data=GraphQLNonNull(JSONB))
def update_task_run_artifact(conn: sa.Connection, caller: Caller, task_run_artifact_id: str, data: dict) -> None:
    """Replace the data of an artifact."""
    artifacts.change(conn, caller.tenant, task_run_artifact_id, data)


@mutation(FIELDS, task_run_artifact_id=NEEDED_ID)
def delete_task_run_artifact(conn: sa.Connection, caller: Caller, task_run_artifact_id: str) -> None:
    """Delete an artifact."""
    delete(conn, task_run_artifact, task_run_artifact_id, caller.tenant)
