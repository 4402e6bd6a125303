"""The key-value store, as Prefect Cloud had it; it is read like a table."""

import json

import sqlalchemy as sa

from workshop_server.context import Caller
from workshop_server.errors import RequestError
from workshop_server.graph.types.mutation_field import (
    ID,
    NEEDED_ID,
    NEEDED_TEXT,
    Fields,
    checked_name,
    home_of,
    mutation,
)
from workshop_server.graph.types.scalars import JSONB
from workshop_server.store.database import delete, insert_or_update
from workshop_server.store.tables import key_value

VALUE_BYTES = 10_000    # bytes of a value as JSON, as in Prefect Cloud
FIELDS: Fields = {}


@mutation(FIELDS, ID, key=NEEDED_TEXT, value=JSONB)
def set_key_value(conn: sa.Connection, caller: Caller, key: str, value: object) -> dict:
    """Store a value under a key; it replaces an earlier one."""
    if len(json.dumps(value)) > VALUE_BYTES:
        raise RequestError(f"the value of a key may have {VALUE_BYTES // 1000} kB as JSON")
    which = {"tenant_id": home_of(conn, caller), "key": checked_name(key)}
    return {"id": insert_or_update(conn, key_value, which, value=value)}


@mutation(FIELDS, key_value_id=NEEDED_ID)
def delete_key_value(conn: sa.Connection, caller: Caller, key_value_id: str) -> None:
    """Delete a key and its value."""
    delete(conn, key_value, key_value_id, caller.tenant)
