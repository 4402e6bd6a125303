"""API keys, as Prefect Cloud had them.

A server without keys has these fields too, and answers for its first tenant; Prefect's client refuses to ask it.
"""

from graphql import GraphQLField, GraphQLNonNull, GraphQLResolveInfo

from workshop_server.api_keys import ApiKeys
from workshop_server.context import Caller
from workshop_server.errors import NotFoundError, RequestError
from workshop_server.graph.types.mutation_field import (
    NEEDED_ID,
    NEEDED_TEXT,
    SUCCESS,
    TEXT,
    Fields,
    home_of,
    list_of,
    payload,
    taking_input,
)
from workshop_server.graph.types.scalars import TIMESTAMPTZ, UUID
from workshop_server.store import timestamps

NO_KEYS = "this server asks for no API keys, so it has none: start it with --api-keys FILE"

NEW_KEY = payload("create_api_key", id=UUID, key=TEXT)
AUTH_INFO = payload("auth_info", tenant_id=UUID, user_id=UUID)
API_KEY = payload("auth_api_key", id=UUID, name=TEXT, created=TIMESTAMPTZ, expires_at=TIMESTAMPTZ)


def _auth_info(_root: object, info: GraphQLResolveInfo) -> dict:
    """Each tenant has one user, with the same id."""
    caller: Caller = info.context
    with caller.server.database.read() as conn:
        tenant = home_of(conn, caller)
    return {"tenant_id": tenant, "user_id": tenant}


def _auth_api_key(_root: object, info: GraphQLResolveInfo) -> list:
    caller: Caller = info.context
    return [] if caller.server.keys is None else caller.server.keys.of_tenant(caller.tenant)


def _create_api_key(_root: object, info: GraphQLResolveInfo, input: dict) -> dict:
    """Create another key for the caller's tenant; `user_id` can only be the tenant's own."""
    caller: Caller = info.context
    keys, user, expires_at = _keys(caller), input.get("user_id"), input.get("expires_at")
    if user not in (None, caller.tenant):
        raise NotFoundError(f"user {user} not found")
    if expires_at is not None and expires_at <= timestamps.now():
        raise RequestError(f"the key would have expired already: {expires_at}")
    entry, key = keys.add(caller.tenant, input["name"], expires_at)
    return {"id": entry.id, "key": key}


def _delete_api_key(_root: object, info: GraphQLResolveInfo, input: dict) -> dict:
    """Revoke a key of the caller's tenant, even the key of this request."""
    caller: Caller = info.context
    _keys(caller).revoke(caller.tenant, input["key_id"])
    return {"success": True}


def _keys(caller: Caller) -> ApiKeys:
    if caller.server.keys is None:
        raise RequestError(NO_KEYS)
    return caller.server.keys


QUERIES: Fields = {
    "auth_info": GraphQLField(AUTH_INFO, resolve=_auth_info, description="The caller's tenant."),
    "auth_api_key": GraphQLField(GraphQLNonNull(list_of(API_KEY)), resolve=_auth_api_key,
                                 description="The keys of the caller's tenant."),
}
# Without the decorator `mutation`, which opens a transaction: reading the key file again may need its own.
FIELDS: Fields = {
    "create_api_key": taking_input("create_api_key", NEW_KEY, {
        "name": NEEDED_TEXT, "user_id": UUID, "expires_at": TIMESTAMPTZ}, _create_api_key, _create_api_key.__doc__),
    "delete_api_key": taking_input("delete_api_key", SUCCESS, {"key_id": NEEDED_ID}, _delete_api_key,
                                   _delete_api_key.__doc__),
}
