"""Limits of concurrent tasks by tag, as Prefect Cloud had them: stored and read like a table, but not enforced."""

import sqlalchemy as sa
from graphql import GraphQLNonNull

from workshop_server.context import Caller
from workshop_server.errors import RequestError
from workshop_server.graph.types.mutation_field import (
    ID,
    INT,
    NEEDED_ID,
    NEEDED_TEXT,
    Fields,
    checked_name,
    home_of,
    mutation,
)
from workshop_server.store.database import delete, insert_or_update
from workshop_server.store.tables import task_tag_limit

FIELDS: Fields = {}


@mutation(FIELDS, ID, tag=NEEDED_TEXT, limit=GraphQLNonNull(INT))
def update_task_tag_limit(conn: sa.Connection, caller: Caller, tag: str, limit: int) -> dict:
    """Set how many tasks with a tag may run at the same time."""
    if limit < 0:
        raise RequestError("a limit of concurrent tasks is 0 or more")
    which = {"tenant_id": home_of(conn, caller), "tag": checked_name(tag)}
    return {"id": insert_or_update(conn, task_tag_limit, which, limit=limit)}


@mutation(FIELDS, limit_id=NEEDED_ID)
def delete_task_tag_limit(conn: sa.Connection, caller: Caller, limit_id: str) -> None:
    """Delete a limit."""
    delete(conn, task_tag_limit, limit_id, caller.tenant)
