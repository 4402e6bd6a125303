"""What a query asks for in one read, at all levels, worked out before the database is read."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import sqlalchemy as sa
from graphql import (
    FieldNode,
    FragmentSpreadNode,
    GraphQLIncludeDirective,
    GraphQLObjectType,
    GraphQLResolveInfo,
    GraphQLSkipDirective,
    SelectionSetNode,
    Undefined,
    ValueNode,
    get_argument_values,
    get_directive_values,
    value_from_ast_untyped,
)

from workshop_server.errors import RequestError
from workshop_server.graph.reads.sql import Aggregate, Arguments
from workshop_server.store.tables import RELATIONS, Relation

NOTHING = Arguments()
AGGREGATE = "_aggregate"
_STEP = re.compile(r"""\s*(?:\.?([^.\[\]"']+)|\[\s*(\d+)\s*\]|\[\s*"([^"]*)"\s*\]|\[\s*'([^']*)'\s*\])""")


@dataclass(frozen=True)
class Leaf:
    """The value of a column under one key of the answer; `steps` lead to a part of a JSON value."""

    key: str
    place: int
    column: sa.Column
    steps: tuple[str | int, ...] = ()


@dataclass
class Level:
    """What is asked of each row of a table: `columns`, with their places in the SQL row, and related rows."""

    table: sa.Table
    columns: dict[str, int] = field(default_factory=dict)
    empty: dict[str, str | None] = field(default_factory=dict)  # the answer's keys in their order, without values
    leaves: list[Leaf] = field(default_factory=list)
    branches: list["Branch"] = field(default_factory=list)

    def place(self, column: str) -> int:
        return self.columns.setdefault(column, len(self.columns))


@dataclass
class Summary:
    """The aggregates that are asked for.

    `shape` is the answer, with the number of each aggregate instead of its value, and a Level instead of rows.
    """

    table: sa.Table
    aggregates: list[Aggregate] = field(default_factory=list)
    shape: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Branch:
    """One read: the outermost, or by a relation from each row of the level above, with its key at `place`."""

    key: str
    asked: Level | Summary
    arguments: Arguments = NOTHING
    relation: Relation | None = None
    place: int = 0


class Selection:
    """Reads the query of one request; raises RequestError and GraphQLError for what cannot be asked for."""

    def __init__(self, info: GraphQLResolveInfo) -> None:
        self._info = info
        self._variables = info.variable_values

    def level(self, table: sa.Table, nodes: list[FieldNode]) -> Level:
        """What the selections of `nodes` ask of each row."""
        level = Level(table)
        fields = self._type(table.name).fields
        for key, same in self._fields(nodes).items():
            name = same[0].name.value
            level.empty[key] = table.name if name == "__typename" else None
            if name in table.c:
                level.leaves.append(Leaf(key, level.place(name), table.c[name], self._steps(fields[name], same[0])))
            elif name != "__typename":
                relation = RELATIONS[table.name][name.removesuffix(AGGREGATE)]
                inner = self.summary if name.endswith(AGGREGATE) else self.level
                arguments = self.arguments(self._values(fields[name], same[0]), same[0])
                level.branches.append(Branch(key, inner(relation.table, same), arguments, relation,
                                             level.place(relation.here)))
        return level

    def summary(self, table: sa.Table, nodes: list[FieldNode]) -> Summary:
        """What the selections of `nodes` ask of all rows."""
        found = Summary(table)
        for key, same in self._fields(nodes).items():
            name = same[0].name.value
            if name == "nodes":
                found.shape[key] = self.level(table, same)
            elif name == "aggregate":
                found.shape[key] = self._aggregates(found, same)
            else:
                found.shape[key] = f"{table.name}_aggregate"
        return found

    def arguments(self, values: dict, node: FieldNode) -> Arguments:
        """The arguments of a field that returns rows, from the values that graphql-core passes."""
        if not values:
            return NOTHING
        for name in ("limit", "offset"):
            if (values.get(name) or 0) < 0:
                raise RequestError(f"{name} is negative: {values[name]}")
        order_by = ()
        if values.get("order_by"):
            written = next(self._written(one.value) for one in node.arguments if one.name.value == "order_by")
            written = written if isinstance(written, list) else [written]
            ways: dict[tuple[str, ...], str] = {}  # if a column is named twice, the first one counts
            for one, as_written in zip(values["order_by"], written, strict=True):
                for way, direction in _ways(one, as_written):
                    ways.setdefault(way, direction)
            order_by = tuple(ways.items())
        return Arguments(values.get("where"), order_by, values.get("limit"), values.get("offset") or 0,
                         tuple(dict.fromkeys(values.get("distinct_on") or ())))

    def _aggregates(self, found: Summary, nodes: list[FieldNode]) -> dict[str, object]:
        shape: dict[str, object] = {}
        of_type = self._type(f"{found.table.name}_aggregate_fields")
        for key, same in self._fields(nodes).items():
            name = same[0].name.value
            if name == "count":
                values = self._values(of_type.fields[name], same[0])
                columns = tuple(dict.fromkeys(values.get("columns") or ()))
                shape[key] = _number(found, Aggregate(name, columns, bool(values.get("distinct"))))
            elif name == "__typename":
                shape[key] = of_type.name
            else:
                columns = {inner: each[0].name.value for inner, each in self._fields(same).items()}
                shape[key] = {inner: f"{found.table.name}_{name}_fields" if column == "__typename"
                              else _number(found, Aggregate(name, (column,))) for inner, column in columns.items()}
        return shape

    def _type(self, name: str) -> GraphQLObjectType:
        return self._info.schema.type_map[name]

    def _values(self, declared: object, node: FieldNode) -> dict:
        return get_argument_values(declared, node, self._variables) if node.arguments else {}

    def _steps(self, declared: object, node: FieldNode) -> tuple[str | int, ...]:
        path = self._values(declared, node).get("path")
        return _steps(path) if path else ()

    def _fields(self, nodes: list[FieldNode]) -> dict[str, list[FieldNode]]:
        """The fields selected below `nodes`, by their keys in the answer."""
        found: dict[str, list[FieldNode]] = {}
        seen: set[str] = set()
        for node in nodes:
            self._collect(node.selection_set, found, seen)
        return found

    def _collect(self, selections: SelectionSetNode, found: dict[str, list[FieldNode]], seen: set[str]) -> None:
        for node in selections.selections:
            if node.directives and self._left_out(node):
                continue
            if isinstance(node, FieldNode):
                found.setdefault((node.alias or node.name).value, []).append(node)
            elif not isinstance(node, FragmentSpreadNode):
                self._collect(node.selection_set, found, seen)
            elif node.name.value not in seen:
                seen.add(node.name.value)
                self._collect(self._info.fragments[node.name.value].selection_set, found, seen)

    def _left_out(self, node: FieldNode) -> bool:
        skip = get_directive_values(GraphQLSkipDirective, node, self._variables)
        include = get_directive_values(GraphQLIncludeDirective, node, self._variables)
        return bool((skip and skip["if"]) or (include and not include["if"]))

    def _written(self, node: ValueNode) -> object:
        """A value with the keys of objects in the order of the request; graphql-core uses the order of the schema."""
        raw = {}
        for name, source in self._variables.sources.items():
            default = source.signature.default
            raw[name] = source.value
            if source.value is Undefined and default:
                raw[name] = value_from_ast_untyped(default.literal)
        return value_from_ast_untyped(node, raw)


def _number(found: Summary, wanted: Aggregate) -> int:
    found.aggregates.append(wanted)
    return len(found.aggregates) - 1


def _ways(wanted: dict | None, written: dict, so_far: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    for name in written if wanted else ():
        value = wanted.get(name)
        if isinstance(value, dict):
            yield from _ways(value, written[name], (*so_far, name))
        elif value is not None:
            yield (*so_far, name), value


def _steps(path: str) -> tuple[str | int, ...]:
    """`$.a[0].b` or `a[0].b` as ("a", 0, "b"); raises RequestError for another text."""
    steps, at = [], 1 if path.startswith("$") else 0
    while at < len(path):
        step = _STEP.match(path, at)
        if not step:
            raise RequestError(f"not a path into a JSON value as in $.name[0]: {path[:60]!r}")
        steps.append(int(step[2]) if step[2] else next(name for name in step.groups() if name is not None))
        at = step.end()
    return tuple(steps)
