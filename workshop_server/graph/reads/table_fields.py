"""The fields that read tables: rows, one row by its id, and aggregates, in the shape that Hasura gave them.

The resolver of such a field resolves its whole selection and returns the finished answer: exactly the keys that were
asked for, in their order. So `Executor` does not process it again.
"""

from collections.abc import Callable

import sqlalchemy as sa
from graphql import Executor as PlainExecutor
from graphql import (
    GraphQLArgument,
    GraphQLBoolean,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInt,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLResolveInfo,
    GraphQLScalarType,
    GraphQLString,
)

from workshop_server.context import Caller
from workshop_server.graph.reads import sql
from workshop_server.graph.reads.loading import Answer, Loader
from workshop_server.graph.reads.selection import AGGREGATE, Branch, Selection
from workshop_server.graph.types import scalars
from workshop_server.store.tables import RELATIONS, metadata

Resolver = Callable[..., "Finished"]
ORDER_BY = GraphQLEnumType("order_by", {name: name for name in sql.DIRECTIONS})


class Finished:
    """A finished answer; the client gets `value`."""

    __slots__ = ("value",)

    def __init__(self, value: list[Answer] | Answer | None) -> None:
        self.value = value


class Executor(PlainExecutor):
    """The executor of graphql-core, except that it returns a finished answer as it is."""

    def complete_value(self, return_type: object, field_details_list: list, info: GraphQLResolveInfo, path: object,
                       result: object, position_context: object) -> object:
        if isinstance(result, Finished):
            return result.value
        return super().complete_value(return_type, field_details_list, info, path, result, position_context)


def query_fields() -> dict[str, GraphQLField]:
    """The fields of the query type, which need `Executor`; their context is a Caller."""
    schema = _TableTypes()
    fields = {}
    for name in RELATIONS:
        table = metadata.tables[name]
        fields[name] = GraphQLField(schema.rows(table), schema.arguments(table), _rows(table))
        fields[f"{name}_by_pk"] = GraphQLField(
            schema.of_table[name], {"id": GraphQLArgument(GraphQLNonNull(scalars.of(table.c.id)))}, _by_pk(table))
        fields[name + AGGREGATE] = GraphQLField(GraphQLNonNull(schema.aggregate[name]), schema.arguments(table),
                                                _aggregate(table))
    return fields


def _rows(table: sa.Table) -> Resolver:
    def resolve(_root: object, info: GraphQLResolveInfo, **values: object) -> Finished:
        selection = Selection(info)
        arguments = selection.arguments(values, info.field_nodes[0])
        return Finished(_load(info.context, Branch("", selection.level(table, info.field_nodes), arguments)))
    return resolve


def _by_pk(table: sa.Table) -> Resolver:
    def resolve(_root: object, info: GraphQLResolveInfo, id: str | int) -> Finished:
        arguments = sql.Arguments({"id": {"_eq": id}})
        rows = _load(info.context, Branch("", Selection(info).level(table, info.field_nodes), arguments))
        return Finished(rows[0] if rows else None)
    return resolve


def _aggregate(table: sa.Table) -> Resolver:
    def resolve(_root: object, info: GraphQLResolveInfo, **values: object) -> Finished:
        selection = Selection(info)
        arguments = selection.arguments(values, info.field_nodes[0])
        return Finished(_load(info.context, Branch("", selection.summary(table, info.field_nodes), arguments)))
    return resolve


def _load(caller: Caller, branch: Branch) -> list[Answer] | Answer:
    with caller.server.database.read() as conn:
        return Loader(conn, caller.tenant, caller.server.settings.limits).load(branch)


class _TableTypes:
    """The GraphQL types of all tables."""

    def __init__(self) -> None:
        scalar_types = (scalars.UUID, scalars.TIMESTAMPTZ, scalars.JSONB, GraphQLString, GraphQLInt, GraphQLBoolean)
        self._comparison = {scalar.name: _comparison(scalar) for scalar in scalar_types}
        tables = [metadata.tables[name] for name in RELATIONS]
        self._column = {table.name: GraphQLEnumType(f"{table.name}_select_column",
                                                    {column.name: column.name for column in table.c})
                        for table in tables}
        self._condition = {table.name: self._condition_of(table) for table in tables}
        self._order = {table.name: self._order_of(table) for table in tables}
        self.of_table = {table.name: self._row(table) for table in tables}
        self.aggregate = {table.name: self._aggregate(table) for table in tables}

    def rows(self, table: sa.Table) -> GraphQLNonNull:
        return GraphQLNonNull(GraphQLList(GraphQLNonNull(self.of_table[table.name])))

    def arguments(self, table: sa.Table) -> dict[str, GraphQLArgument]:
        return {"where": GraphQLArgument(self._condition[table.name]),
                "order_by": GraphQLArgument(GraphQLList(GraphQLNonNull(self._order[table.name]))),
                "limit": GraphQLArgument(GraphQLInt), "offset": GraphQLArgument(GraphQLInt),
                "distinct_on": GraphQLArgument(GraphQLList(GraphQLNonNull(self._column[table.name])))}

    def _row(self, table: sa.Table) -> GraphQLObjectType:
        def fields() -> dict[str, GraphQLField]:
            found = {}
            for column in table.c:
                scalar = scalars.of(column)
                path = {"path": GraphQLArgument(GraphQLString)} if scalar is scalars.JSONB else None
                found[column.name] = GraphQLField(scalar if column.nullable else GraphQLNonNull(scalar), path)
                if path:  # null if the path leads nowhere
                    found[column.name] = GraphQLField(scalar, path)
            for name, relation in RELATIONS[table.name].items():
                there = relation.table
                if not relation.many:
                    found[name] = GraphQLField(self.of_table[there.name])
                    continue
                found[name] = GraphQLField(self.rows(there), self.arguments(there))
                found[name + AGGREGATE] = GraphQLField(GraphQLNonNull(self.aggregate[there.name]),
                                                       self.arguments(there))
            return found
        return GraphQLObjectType(table.name, fields)

    def _aggregate(self, table: sa.Table) -> GraphQLObjectType:
        name = table.name + AGGREGATE
        counted = {"columns": GraphQLArgument(GraphQLList(GraphQLNonNull(self._column[table.name]))),
                   "distinct": GraphQLArgument(GraphQLBoolean)}
        fields = {"count": GraphQLField(GraphQLNonNull(GraphQLInt), counted)}
        ordered = {column.name: GraphQLField(scalars.of(column)) for column in table.c
                   if scalars.of(column) in (GraphQLInt, GraphQLString, scalars.TIMESTAMPTZ)}
        for function in ("max", "min") if ordered else ():
            fields[function] = GraphQLField(GraphQLObjectType(f"{table.name}_{function}_fields", ordered))
        return GraphQLObjectType(name, {"aggregate": GraphQLField(GraphQLObjectType(f"{name}_fields", fields)),
                                        "nodes": GraphQLField(self.rows(table))})

    def _condition_of(self, table: sa.Table) -> GraphQLInputObjectType:
        def fields() -> dict[str, GraphQLInputField]:
            own = self._condition[table.name]
            found = {"_and": GraphQLInputField(GraphQLList(own)), "_or": GraphQLInputField(GraphQLList(own)),
                     "_not": GraphQLInputField(own)}
            for column in table.c:
                found[column.name] = GraphQLInputField(self._comparison[scalars.of(column).name])
            for name, relation in RELATIONS[table.name].items():
                found[name] = GraphQLInputField(self._condition[relation.table.name])
            return found
        return GraphQLInputObjectType(f"{table.name}_bool_exp", fields)

    def _order_of(self, table: sa.Table) -> GraphQLInputObjectType:
        def fields() -> dict[str, GraphQLInputField]:
            found = {column.name: GraphQLInputField(ORDER_BY) for column in table.c}
            for name, relation in RELATIONS[table.name].items():
                if not relation.many:
                    found[name] = GraphQLInputField(self._order[relation.table.name])
            return found
        return GraphQLInputObjectType(f"{table.name}_order_by", fields)


def _comparison(scalar: GraphQLScalarType) -> GraphQLInputObjectType:
    """The comparisons for values of one type."""
    many, one, text = GraphQLList(GraphQLNonNull(scalar)), scalar, GraphQLString
    tests = {"_eq": one, "_neq": one, "_in": many, "_nin": many, "_is_null": GraphQLBoolean}
    if scalar is scalars.JSONB:
        tests |= {"_contains": one, "_contained_in": one, "_has_key": text}
    else:
        tests |= {name: one for name in sql.COMPARISONS}
    if scalar is GraphQLString:
        tests |= {name: text for name in sql.PATTERNS}
    return GraphQLInputObjectType(f"{scalar.name}_comparison_exp",
                                  {name: GraphQLInputField(of) for name, of in tests.items()})
