"""The scalar types of the GraphQL interface, with their names in Hasura."""

import json
import re
import uuid
from functools import cache

import sqlalchemy as sa
from graphql import GraphQLBoolean, GraphQLError, GraphQLInt, GraphQLScalarType, GraphQLString

from workshop_server.errors import RequestError
from workshop_server.store import timestamps
from workshop_server.store.tables import Stamp, Uuid

_PLAIN_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _uuid(value: object) -> str:
    """An id as the database stores it: 36 characters, lower case; raises GraphQLError if it is none."""
    if isinstance(value, str):
        if _PLAIN_UUID.fullmatch(value):
            return value
        try:
            return str(uuid.UUID(value))  # also upper case, without hyphens, in braces
        except ValueError:
            pass
    raise GraphQLError(f"not an id as in 123e4567-e89b-12d3-a456-426614174000: {str(value)[:60]!r}")


def _timestamptz(value: object) -> str:
    try:
        return timestamps.clean(value)
    except RequestError as error:
        raise GraphQLError(str(error)) from None


def _jsonb(value: object) -> object:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        raise GraphQLError("a number in a JSON value is too large") from None
    return value


UUID = GraphQLScalarType("uuid", coerce_input_value=_uuid, description="an id")
TIMESTAMPTZ = GraphQLScalarType("timestamptz", coerce_input_value=_timestamptz,
                                description="a point in time as ISO 8601 text; without a zone it is UTC")
JSONB = GraphQLScalarType("jsonb", coerce_input_value=_jsonb, description="any JSON value")


@cache
def of(column: sa.Column) -> GraphQLScalarType:
    """The scalar type of a column's values."""
    held = column.type.impl_instance if isinstance(column.type, sa.TypeDecorator) else column.type
    types = ((Uuid, UUID), (Stamp, TIMESTAMPTZ), (sa.JSON, JSONB), (sa.Boolean, GraphQLBoolean),
             (sa.Integer, GraphQLInt), (sa.String, GraphQLString))
    return next(scalar for kind, scalar in types if isinstance(held, kind))
