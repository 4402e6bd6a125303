"""Versions of flows: registered, moved, archived, deleted; heartbeat and Lazarus switched on and off."""

import sqlalchemy as sa
from graphql import GraphQLBoolean, GraphQLNonNull

from workshop_server.context import Caller
from workshop_server.errors import RequestError
from workshop_server.flows import registration, versions
from workshop_server.graph.types.mutation_field import ID, NEEDED_ID, NEEDED_TEXT, OBJECTS, TEXT, Fields, mutation
from workshop_server.graph.types.scalars import JSONB
from workshop_server.store.database import owned
from workshop_server.store.tables import flow, project

FIELDS: Fields = {}


@mutation(FIELDS, ID, project_id=NEEDED_ID, serialized_flow=NEEDED_TEXT, set_schedule_active=GraphQLBoolean,
          version_group_id=TEXT, idempotency_key=TEXT, description=TEXT)
def create_flow_from_compressed_string(conn: sa.Connection, caller: Caller, serialized_flow: str,
                                       **rest: object) -> dict:
    """Register a flow from `base64(gzip(JSON))`."""
    return _register(conn, caller, registration.unpack(serialized_flow, caller.server.settings.limits.body), **rest)


@mutation(FIELDS, ID, project_id=NEEDED_ID, serialized_flow=GraphQLNonNull(JSONB), set_schedule_active=GraphQLBoolean,
          version_group_id=TEXT, idempotency_key=TEXT, description=TEXT)
def create_flow(conn: sa.Connection, caller: Caller, serialized_flow: dict, **rest: object) -> dict:
    """Register a flow from JSON."""
    return _register(conn, caller, serialized_flow, **rest)


def _register(conn: sa.Connection, caller: Caller, serialized_flow: dict, project_id: str, version_group_id: str | None,
              idempotency_key: str | None, description: str | None, set_schedule_active: bool | None) -> dict:
    if not isinstance(serialized_flow, dict):
        raise RequestError("not a serialized flow: register it with prefect 1.4.1")
    if description:
        serialized_flow = serialized_flow | {"description": description}
    return {"id": registration.register(
        conn, caller.tenant, project_id, serialized_flow, version_group_id=version_group_id,
        idempotency_key=idempotency_key, schedule_active=set_schedule_active is not False)}


@mutation(FIELDS, flow_id=NEEDED_ID, serialized_tasks=OBJECTS)
def register_tasks(conn: sa.Connection, caller: Caller, flow_id: str, serialized_tasks: list | None) -> None:
    """Add tasks to a flow that was registered without."""
    registration.add_tasks(conn, caller.tenant, flow_id, serialized_tasks or [])


@mutation(FIELDS, flow_id=NEEDED_ID, serialized_edges=OBJECTS)
def register_edges(conn: sa.Connection, caller: Caller, flow_id: str, serialized_edges: list | None) -> None:
    """Add edges to a flow that was registered without."""
    registration.add_edges(conn, caller.tenant, flow_id, serialized_edges or [])


@mutation(FIELDS, flow_id=NEEDED_ID)
def archive_flow(conn: sa.Connection, caller: Caller, flow_id: str) -> None:
    """Archive a version of a flow."""
    versions.archive(conn, caller.tenant, flow_id)


@mutation(FIELDS, flow_id=NEEDED_ID)
def delete_flow(conn: sa.Connection, caller: Caller, flow_id: str) -> None:
    """Delete a version of a flow with its runs, and the flow with its last version."""
    versions.delete_version(conn, caller.tenant, flow_id)


@mutation(FIELDS, flow_id=NEEDED_ID, project_id=NEEDED_ID)
def update_flow_project(conn: sa.Connection, caller: Caller, flow_id: str, project_id: str) -> None:
    """Move a flow, with all its versions, to another project of the same tenant."""
    row = owned(conn, flow, flow_id, caller.tenant)
    owned(conn, project, project_id, row.tenant_id)
    conn.execute(sa.update(flow).where(flow.c.flow_group_id == row.flow_group_id).values(project_id=project_id))


@mutation(FIELDS, flow_id=NEEDED_ID)
def enable_flow_heartbeat(conn: sa.Connection, caller: Caller, flow_id: str) -> None:
    """Let the zombie killer end runs of a flow that send no heartbeat."""
    versions.set_setting(conn, caller.tenant, flow_id, heartbeat_enabled=True)


@mutation(FIELDS, flow_id=NEEDED_ID)
def disable_flow_heartbeat(conn: sa.Connection, caller: Caller, flow_id: str) -> None:
    """Keep the zombie killer from the runs of a flow."""
    versions.set_setting(conn, caller.tenant, flow_id, heartbeat_enabled=False)


@mutation(FIELDS, flow_id=NEEDED_ID)
def enable_flow_lazarus_process(conn: sa.Connection, caller: Caller, flow_id: str) -> None:
    """Let Lazarus reschedule the lost runs of a flow."""
    versions.set_setting(conn, caller.tenant, flow_id, lazarus_enabled=True)


@mutation(FIELDS, flow_id=NEEDED_ID)
def disable_flow_lazarus_process(conn: sa.Connection, caller: Caller, flow_id: str) -> None:
    """Keep Lazarus from the runs of a flow."""
    versions.set_setting(conn, caller.tenant, flow_id, lazarus_enabled=False)
