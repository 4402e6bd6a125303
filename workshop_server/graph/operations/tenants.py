"""Tenants: created, renamed, set up."""

import sqlalchemy as sa
from graphql import GraphQLNonNull

from workshop_server.context import Caller
from workshop_server.errors import RequestError
from workshop_server.graph.types.mutation_field import ID, NEEDED_ID, NEEDED_TEXT, TEXT, Fields, mutation
from workshop_server.graph.types.scalars import JSONB
from workshop_server.store.database import insert_unique, owned, update, update_unique
from workshop_server.store.tables import tenant

FIELDS: Fields = {}


@mutation(FIELDS, ID, name=NEEDED_TEXT, slug=TEXT)
def create_tenant(conn: sa.Connection, caller: Caller, name: str, slug: str | None) -> dict:
    """Create a tenant; not in a server that asks for keys, where each name in the key file has its tenant."""
    if caller.tenant is not None:
        raise RequestError("this server makes a tenant for each key: python -m workshop_server create-key NAME")
    return {"id": insert_unique(conn, tenant, name=name, slug=slug or name.lower().replace(" ", "-"))}


@mutation(FIELDS, ID, tenant_id=NEEDED_ID, name=NEEDED_TEXT)
def update_tenant_name(conn: sa.Connection, caller: Caller, tenant_id: str, name: str) -> dict:
    """Give a tenant another name."""
    update(conn, tenant, tenant_id, caller.tenant, name=name)
    return {"id": tenant_id}


@mutation(FIELDS, ID, tenant_id=NEEDED_ID, slug=GraphQLNonNull(TEXT))
def update_tenant_slug(conn: sa.Connection, caller: Caller, tenant_id: str, slug: str) -> dict:
    """Change the address of a tenant's pages; not in a server that asks for keys, which name the tenants."""
    if caller.tenant is not None:
        raise RequestError("the slug of a tenant comes from its key: make a key with another name")
    update_unique(conn, tenant, tenant_id, caller.tenant, slug=slug)
    return {"id": tenant_id}


@mutation(FIELDS, ID, tenant_id=NEEDED_ID, settings=GraphQLNonNull(JSONB))
def update_tenant_settings(conn: sa.Connection, caller: Caller, tenant_id: str, settings: dict) -> dict:
    """Change the settings of a tenant that are given."""
    row = owned(conn, tenant, tenant_id, caller.tenant, lock=True)
    update(conn, tenant, tenant_id, caller.tenant, settings=row.settings | settings)
    return {"id": tenant_id}
