"""What Prefect had in its Cloud alone: keys, secrets, the key-value store, limits of concurrent tasks.

A server without keys answers the same fields, for its first tenant; there it is Prefect's client that refuses them.
Secrets lie in the database as they were given: whoever can read its file can read them. They are shown to their own
tenant alone, and never logged.
"""

import json
from collections.abc import Callable

import sqlalchemy as sa
from graphql import (
    GraphQLArgument,
    GraphQLField,
    GraphQLInputType,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLResolveInfo,
)

from workshop_server.context import Caller
from workshop_server.errors import NotFoundError, RequestError
from workshop_server.graph.fields import (
    ID,
    INT,
    NEEDED_ID,
    NEEDED_TEXT,
    STRINGS,
    SUCCESS,
    TEXT,
    Fields,
    home_of,
    list_of,
    mutation,
    payload,
    taking_input,
)
from workshop_server.graph.scalars import JSONB, TIMESTAMPTZ, UUID
from workshop_server.http.keys import Keys
from workshop_server.store import timestamps
from workshop_server.store.database import delete
from workshop_server.store.tables import key_value, secret, task_tag_limit

VALUE_BYTES = 10_000    # of a key-value pair, as in Prefect's Cloud
NAME_LENGTH = 200
NO_KEYS = "this server asks for no API keys, so it has none: start it with --api-keys FILE"

MUTATIONS: Fields = {}
NEW_KEY = payload("create_api_key", id=UUID, key=TEXT)
AUTH_INFO = payload("auth_info", tenant_id=UUID, user_id=UUID)
API_KEY = payload("auth_api_key", id=UUID, name=TEXT, created=TIMESTAMPTZ, expires_at=TIMESTAMPTZ)


def query_fields() -> dict[str, GraphQLField]:
    """Fields of the schema's Query."""
    name = {"name": GraphQLArgument(NEEDED_TEXT)}
    return {
        "auth_info": GraphQLField(AUTH_INFO, resolve=_auth_info, description="Who asks."),
        "auth_api_key": GraphQLField(GraphQLNonNull(list_of(API_KEY)), resolve=_auth_api_key,
                                     description="The asking tenant's keys."),
        "secret_names": GraphQLField(GraphQLNonNull(STRINGS), resolve=_secret_names),
        "secret_value": GraphQLField(JSONB, name, _secret_value),
    }


def mutation_fields() -> Fields:
    """Fields of the schema's Mutation."""
    return MUTATIONS


# keys

def _auth_info(_root: object, info: GraphQLResolveInfo) -> dict:
    """There is one user to a tenant, and they share an id."""
    caller: Caller = info.context
    with caller.server.database.read() as conn:
        tenant = home_of(conn, caller)
    return {"tenant_id": tenant, "user_id": tenant}


def _auth_api_key(_root: object, info: GraphQLResolveInfo) -> list:
    caller: Caller = info.context
    return [] if caller.server.keys is None else caller.server.keys.of_tenant(caller.tenant)


def _create_api_key(_root: object, info: GraphQLResolveInfo, input: dict) -> dict:
    """One more key for the asking tenant; `user_id` can only be its own."""
    caller: Caller = info.context
    keys, user, expires_at = _keys(caller), input.get("user_id"), input.get("expires_at")
    if user not in (None, caller.tenant):
        raise NotFoundError(f"user {user} not found")
    if expires_at is not None and expires_at <= timestamps.now():
        raise RequestError(f"the key would have expired already: {expires_at}")
    entry, key = keys.add(caller.tenant, input["name"], expires_at)
    return {"id": entry.id, "key": key}


def _delete_api_key(_root: object, info: GraphQLResolveInfo, input: dict) -> dict:
    """Revoke a key of the asking tenant's, even the one it asks with."""
    caller: Caller = info.context
    _keys(caller).revoke(caller.tenant, input["key_id"])
    return {"success": True}


def _keys(caller: Caller) -> Keys:
    if caller.server.keys is None:
        raise RequestError(NO_KEYS)
    return caller.server.keys


def _without_transaction(name: str, result: GraphQLObjectType, resolve: Callable[..., dict], /,
                         **inputs: GraphQLInputType) -> None:
    """Add a mutation of the key file: to read it anew may take a transaction, so it cannot happen inside one."""
    MUTATIONS[name] = taking_input(name, result, inputs, resolve, resolve.__doc__)


_without_transaction("create_api_key", NEW_KEY, _create_api_key, name=NEEDED_TEXT, user_id=UUID, expires_at=TIMESTAMPTZ)
_without_transaction("delete_api_key", SUCCESS, _delete_api_key, key_id=NEEDED_ID)


# secrets

def _secret_names(_root: object, info: GraphQLResolveInfo) -> list[str]:
    caller: Caller = info.context
    with caller.server.database.read() as conn:
        mine = sa.select(secret.c.name).where(secret.c.tenant_id == home_of(conn, caller)).order_by(secret.c.name)
        return list(conn.scalars(mine))


def _secret_value(_root: object, info: GraphQLResolveInfo, name: str) -> object:
    caller: Caller = info.context
    with caller.server.database.read() as conn:
        row = conn.execute(sa.select(secret.c.value).where(secret.c.tenant_id == home_of(conn, caller),
                                                           secret.c.name == name)).first()
    if row is None:
        raise NotFoundError("No value found for the requested key")  # words that Prefect's client looks for
    return row.value


@mutation(MUTATIONS, name=NEEDED_TEXT, value=JSONB)
def set_secret(conn: sa.Connection, caller: Caller, name: str, value: object) -> None:
    """Keep a secret, in place of one of the same name."""
    _put(conn, secret, {"tenant_id": home_of(conn, caller), "name": _named(name)}, value=value)


@mutation(MUTATIONS, name=NEEDED_TEXT)
def delete_secret(conn: sa.Connection, caller: Caller, name: str) -> None:
    """Forget a secret."""
    gone = conn.execute(sa.delete(secret).where(secret.c.tenant_id == home_of(conn, caller), secret.c.name == name))
    if not gone.rowcount:
        raise NotFoundError(f"secret {name} not found")


# the key-value store and limits; they are read like tables, see graph/reads.py

@mutation(MUTATIONS, ID, key=NEEDED_TEXT, value=JSONB)
def set_key_value(conn: sa.Connection, caller: Caller, key: str, value: object) -> dict:
    """Keep a value under a key, in place of what was there."""
    if len(json.dumps(value)) > VALUE_BYTES:
        raise RequestError(f"the value of a key may have {VALUE_BYTES // 1000} kB as JSON")
    return {"id": _put(conn, key_value, {"tenant_id": home_of(conn, caller), "key": _named(key)}, value=value)}


@mutation(MUTATIONS, key_value_id=NEEDED_ID)
def delete_key_value(conn: sa.Connection, caller: Caller, key_value_id: str) -> None:
    """Forget a key and its value."""
    delete(conn, key_value, key_value_id, caller.tenant)


@mutation(MUTATIONS, ID, tag=NEEDED_TEXT, limit=GraphQLNonNull(INT))
def update_task_tag_limit(conn: sa.Connection, caller: Caller, tag: str, limit: int) -> dict:
    """Say how many tasks with a tag may run at once."""
    if limit < 0:
        raise RequestError("a limit of concurrent tasks is 0 or more")
    return {"id": _put(conn, task_tag_limit, {"tenant_id": home_of(conn, caller), "tag": _named(tag)}, limit=limit)}


@mutation(MUTATIONS, limit_id=NEEDED_ID)
def delete_task_tag_limit(conn: sa.Connection, caller: Caller, limit_id: str) -> None:
    """Take a limit away."""
    delete(conn, task_tag_limit, limit_id, caller.tenant)


def _named(name: str) -> str:
    if not name or len(name) > NAME_LENGTH:
        raise RequestError(f"a name has 1 to {NAME_LENGTH} characters")
    return name


def _put(conn: sa.Connection, table: sa.Table, which: dict[str, str], **values: object) -> str:
    """Insert the row, or change the one that is there; returns its id."""
    dialect = sa.dialects.sqlite if conn.dialect.name == "sqlite" else sa.dialects.postgresql
    new = dialect.insert(table).values(**which, **values)
    changed = {**values, "updated": timestamps.now()}
    return conn.scalar(new.on_conflict_do_update(index_elements=list(which), set_=changed).returning(table.c.id))
