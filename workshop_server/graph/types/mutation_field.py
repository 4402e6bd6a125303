"""How a mutation is declared: the types of its input and of its payload, which are named after it."""

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
from workshop_server.errors import RequestError
from workshop_server.graph.types.scalars import JSONB, UUID
from workshop_server.store.tables import tenant

NAME_LENGTH = 200
Act = Callable[..., dict | None]
Fields = dict[str, GraphQLField]


def payload(name: str, /, **fields: GraphQLOutputType) -> GraphQLObjectType:
    return GraphQLObjectType(f"{name}_payload", {key: GraphQLField(kind) for key, kind in fields.items()})


def list_of(kind: GraphQLScalarType | GraphQLObjectType | GraphQLInputObjectType) -> GraphQLList:
    """A list without nulls."""
    return GraphQLList(GraphQLNonNull(kind))


def _input(name: str, kinds: dict[str, GraphQLInputType]) -> GraphQLInputObjectType:
    return GraphQLInputObjectType(f"{name}_input", {key: GraphQLInputField(kind) for key, kind in kinds.items()})


def taking_input(name: str, result: GraphQLObjectType, kinds: dict[str, GraphQLInputType],
                 resolve: Callable[..., dict], description: str | None) -> GraphQLField:
    """A field with one argument `input`: an object with these fields, of a type that is named after the field."""
    argument = GraphQLArgument(GraphQLNonNull(_input(name, kinds)))
    return GraphQLField(result, {"input": argument}, resolve, description=description)


ID = payload("id", id=UUID)
SUCCESS = payload("success", success=GraphQLBoolean, error=GraphQLString)
STRINGS = list_of(GraphQLString)
OBJECTS = list_of(JSONB)
STATES = payload("set_states", states=list_of(payload("set_state_element", id=UUID, status=GraphQLString,
                                                       message=GraphQLString)))
NEEDED_ID = GraphQLNonNull(UUID)
NEEDED_TEXT = GraphQLNonNull(GraphQLString)
INT = GraphQLInt
TEXT = GraphQLString


def mutation(fields: Fields, result: GraphQLObjectType = SUCCESS, *, repeats: str | None = None,
             known: Act | None = None, **inputs: GraphQLInputType) -> Callable[[Act], Act]:
    """Add the decorated function to `fields`, under its own name.

    It is called as `act(conn, caller, **input)` in its own transaction, with None for inputs that the request leaves
    out. It returns the payload; None stands for `{"success": True}`. With `repeats`, the input is one list of that
    name, and its elements have the fields `inputs`. `known` is called first, without a transaction: if it does not
    return None, that is the answer.
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


def checked_name(name: str) -> str:
    """The name of a secret, a key or a tag; raises RequestError if it is empty or too long."""
    if not name or len(name) > NAME_LENGTH:
        raise RequestError(f"a name has 1 to {NAME_LENGTH} characters")
    return name


def home_of(conn: sa.Connection, caller: Caller, tenant_id: str | None = None) -> str:
    """The tenant of new rows: the caller's own; in a server without keys the one asked for, or else the first."""
    if caller.tenant is not None:
        return caller.tenant
    if tenant_id is not None:
        return tenant_id
    return conn.scalar(sa.select(tenant.c.id).order_by(tenant.c.created).limit(1))
