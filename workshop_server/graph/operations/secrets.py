"""Secrets, as Prefect Cloud had them.

They are stored as they were given: anyone who can read the database can read them. The server shows a secret to its
own tenant alone, and never logs one.
"""

import sqlalchemy as sa
from graphql import GraphQLArgument, GraphQLField, GraphQLNonNull, GraphQLResolveInfo

from workshop_server.context import Caller
from workshop_server.errors import NotFoundError
from workshop_server.graph.types.mutation_field import NEEDED_TEXT, STRINGS, Fields, checked_name, home_of, mutation
from workshop_server.graph.types.scalars import JSONB
from workshop_server.store.database import insert_or_update
from workshop_server.store.tables import secret

FIELDS: Fields = {}


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


@mutation(FIELDS, name=NEEDED_TEXT, value=JSONB)
def set_secret(conn: sa.Connection, caller: Caller, name: str, value: object) -> None:
    """Store a secret; it replaces one of the same name."""
    insert_or_update(conn, secret, {"tenant_id": home_of(conn, caller), "name": checked_name(name)}, value=value)


@mutation(FIELDS, name=NEEDED_TEXT)
def delete_secret(conn: sa.Connection, caller: Caller, name: str) -> None:
    """Delete a secret."""
    gone = conn.execute(sa.delete(secret).where(secret.c.tenant_id == home_of(conn, caller), secret.c.name == name))
    if not gone.rowcount:
        raise NotFoundError(f"secret {name} not found")


QUERIES: Fields = {
    "secret_names": GraphQLField(GraphQLNonNull(STRINGS), resolve=_secret_names),
    "secret_value": GraphQLField(JSONB, {"name": GraphQLArgument(NEEDED_TEXT)}, _secret_value),
}
