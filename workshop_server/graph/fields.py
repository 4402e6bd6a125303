"""How a mutation is declared: its input type carries its name, as Prefect's client expects."""

from collections.abc import Callable

import sqlalchemy as sa
from graphql import (
    GraphQLArgument,
    GraphQLBoolean,
    GraphQLField,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLInt,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLResolveInfo,
    GraphQLScalarType,
    GraphQLString,
)

from workshop_server.context import Caller
from workshop_server.graph.scalars import JSONB, UUID
from workshop_server.store.tables import tenant

Act = Callable[..., dict | None]
Fields = dict[str, GraphQLField]


def payload(name: str, /, **fields: GraphQLOutputType) -> GraphQLObjectType:
    return GraphQLObjectType(f"{name}_payload", {key: GraphQLField(kind) for key, kind in fields.items()})


def list_of(kind: GraphQLScalarType | GraphQLObjectType | GraphQLInputObjectType) -> GraphQLList:
    """A list without gaps."""
    return GraphQLList(GraphQLNonNull(kind))


def _input(name: str, kinds: dict[str, GraphQLInputType]) -> GraphQLInputObjectType:
    return GraphQLInputObjectType(f"{name}_input", {key: GraphQLInputField(kind) for key, kind in kinds.items()})


def taking_input(name: str, result: GraphQLObjectType, kinds: dict[str, GraphQLInputType],
                 resolve: Callable[..., dict], description: str | None) -> GraphQLField:
    """A field with one argument, an object of these kinds, which is called `input` and has the name of the field."""
    argument = GraphQLArgument(GraphQLNonNull(_input(name, kinds)))
    return GraphQLField(result, {"input": argument}, resolve, description=description)


ID = payload("id", id=UUID)
SUCCESS = payload("success", success=GraphQLBoolean, error=GraphQLString)
STRINGS = list_of(GraphQLString)
OBJECTS = list_of(JSONB)
NEEDED_ID = GraphQLNonNull(UUID)
NEEDED_TEXT = GraphQLNonNull(GraphQLString)
INT = GraphQLInt
TEXT = GraphQLString


def mutation(fields: Fields, result: GraphQLObjectType = SUCCESS, *, repeats: str | None = None,
             known: Act | None = None, **inputs: GraphQLInputType) -> Callable[[Act], Act]:
    """Add the decorated function to `fields`, under its own name.

    It is called as `act(conn, caller, **input)` in a transaction of its own, with None for what the request leaves
    out, and returns what the payload shows; None stands for `{"success": True}`. With `repeats`, the input holds one
    list of that name, whose elements have the fields `inputs`. `known` is asked first, without a transaction: what it
    gives is the answer, unless that is None.
    """
    def add(act: Act) -> Act:
        name = act.__name__
        kinds = {repeats: GraphQLNonNull(list_of(_input(f"{name}_{repeats}", inputs)))} if repeats else inputs
        nothing = dict.fromkeys(kinds)

        def resolve(_root: object, info: GraphQLResolveInfo, input: dict) -> dict:
            caller: Caller = info.context
            if known:
                with caller.server.database.read() as conn:
                    answer = known(conn, caller, **nothing | input)
                if answer is not None:
                    return answer
            with caller.server.database.write() as conn:
                return act(conn, caller, **nothing | input) or {"success": True}

        fields[name] = taking_input(name, result, kinds, resolve, act.__doc__)
        return act
    return add


def home_of(conn: sa.Connection, caller: Caller, tenant_id: str | None = None) -> str:
    """The tenant that new rows belong to: the caller's own; without keys the one asked for, or else the first."""
    if caller.tenant is not None:
        return caller.tenant
    if tenant_id is not None:
        return tenant_id
    return conn.scalar(sa.select(tenant.c.id).order_by(tenant.c.created).limit(1))
