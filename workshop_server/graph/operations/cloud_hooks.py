"""Cloud hooks and the messages that they leave, as Prefect Cloud had them; both are read like tables."""

import sqlalchemy as sa
from graphql import GraphQLEnumType, GraphQLNonNull

from workshop_server.context import Caller
from workshop_server.graph.types.mutation_field import ID, NEEDED_ID, STRINGS, TEXT, Fields, home_of, mutation
from workshop_server.graph.types.scalars import JSONB, UUID
from workshop_server.hooks import cloud_hooks
from workshop_server.store.database import delete, update
from workshop_server.store.tables import cloud_hook, message

TYPE = GraphQLEnumType("cloud_hook_type", {name: name for name in (
    cloud_hooks.MESSAGE, cloud_hooks.WEB, cloud_hooks.SLACK, *cloud_hooks.NOT_SENT)})
FIELDS: Fields = {}


@mutation(FIELDS, ID, tenant_id=UUID, type=GraphQLNonNull(TYPE), name=TEXT, states=GraphQLNonNull(STRINGS),
          version_group_id=TEXT, flow_group_id=UUID, config=JSONB)
def create_cloud_hook(conn: sa.Connection, caller: Caller, tenant_id: str | None, type: str, **given: object) -> dict:
    """Create a hook that fires when flow runs, of one flow or of all, enter certain states."""
    settings = caller.server.settings
    return {"id": cloud_hooks.create(conn, home_of(conn, caller, tenant_id), kind=type, receivers=settings.hooks_to,
                                     most=settings.limits.hooks, **given)}


@mutation(FIELDS, cloud_hook_id=NEEDED_ID)
def delete_cloud_hook(conn: sa.Connection, caller: Caller, cloud_hook_id: str) -> None:
    """Delete a hook, with its web hooks that have not been sent."""
    delete(conn, cloud_hook, cloud_hook_id, caller.tenant)


@mutation(FIELDS, cloud_hook_id=NEEDED_ID)
def set_cloud_hook_active(conn: sa.Connection, caller: Caller, cloud_hook_id: str) -> None:
    """Switch a hook on."""
    cloud_hooks.set_active(conn, caller.tenant, cloud_hook_id, active=True)


@mutation(FIELDS, cloud_hook_id=NEEDED_ID)
def set_cloud_hook_inactive(conn: sa.Connection, caller: Caller, cloud_hook_id: str) -> None:
    """Switch a hook off; its web hooks that have not been sent are dropped."""
    cloud_hooks.set_active(conn, caller.tenant, cloud_hook_id, active=False)


@mutation(FIELDS, cloud_hook_id=NEEDED_ID, flow_run_id=UUID, state_type=TEXT)
def test_cloud_hook(conn: sa.Connection, caller: Caller, cloud_hook_id: str, flow_run_id: str | None,
                    state_type: str | None) -> None:
    """Fire a hook once, as a test."""
    cloud_hooks.fire_test(conn, caller.tenant, cloud_hook_id, flow_run_id, state_type)


@mutation(FIELDS, message_id=NEEDED_ID)
def mark_message_as_read(conn: sa.Connection, caller: Caller, message_id: str) -> None:
    """Mark a message as read."""
    update(conn, message, message_id, caller.tenant, read=True)


@mutation(FIELDS, message_id=NEEDED_ID)
def mark_message_as_unread(conn: sa.Connection, caller: Caller, message_id: str) -> None:
    """Mark a message as unread."""
    update(conn, message, message_id, caller.tenant, read=False)


@mutation(FIELDS, message_id=NEEDED_ID)
def delete_message(conn: sa.Connection, caller: Caller, message_id: str) -> None:
    """Delete a message."""
    delete(conn, message, message_id, caller.tenant)
