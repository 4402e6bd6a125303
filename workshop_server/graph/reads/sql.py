"""From the arguments of a read to one SQL statement: names come from the tables, values are bound parameters.

The text is written here and not by SQLAlchemy, which takes three times as long for it as the database takes for the
answer; and most requests are reads.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa
from graphql import GraphQLBoolean, GraphQLInt

from workshop_server.errors import RequestError
from workshop_server.graph.types import scalars
from workshop_server.store.tables import RELATIONS, Relation

COMPARISONS = {"_eq": "=", "_neq": "<>", "_gt": ">", "_gte": ">=", "_lt": "<", "_lte": "<="}
PATTERNS = {"_like": "", "_ilike": "", "_nlike": "NOT ", "_nilike": "NOT "}
JSON_TESTS = {"_eq": "=", "_neq": "<>", "_contains": "@>", "_contained_in": "<@", "_has_key": "?"}
# Nulls are placed as in PostgreSQL, where they are the largest values: last in `asc`, first in `desc`.
DIRECTIONS = {"asc": "ASC NULLS LAST", "desc": "DESC NULLS FIRST",
              "asc_nulls_first": "ASC NULLS FIRST", "asc_nulls_last": "ASC NULLS LAST",
              "desc_nulls_first": "DESC NULLS FIRST", "desc_nulls_last": "DESC NULLS LAST"}
ARRAYS = {GraphQLInt: "bigint", GraphQLBoolean: "boolean"}  # array types of PostgreSQL; all other types use "text"
TERMS = 500  # terms in the conditions of one statement; SQLite refuses a depth of 1000
PATTERN = 1000  # characters of a pattern
WITHOUT_END = 2**62  # a LIMIT that limits nothing, because SQLite has no OFFSET without one


@dataclass(frozen=True)
class Arguments:
    """Which rows of a table, in which order: `order_by` has paths to columns, each with a key of DIRECTIONS."""

    where: dict | None = None
    order_by: tuple[tuple[tuple[str, ...], str], ...] = ()
    limit: int | None = None
    offset: int = 0
    distinct_on: tuple[str, ...] = ()

    @property
    def cut(self) -> bool:
        return self.limit is not None or self.offset > 0


@dataclass(frozen=True)
class Parents:
    """Rows whose children are asked for: the column of the children with the key of the parent, and all keys."""

    column: str
    keys: list[str]


@dataclass(frozen=True)
class Aggregate:
    """`count`, `max` or `min` of columns; a count without columns counts rows."""

    function: str
    columns: tuple[str, ...] = ()
    distinct: bool = False


@dataclass
class Statement:
    """A statement that is being written: `values` are its parameters, in the order of their places in the text.

    Its methods raise RequestError for a condition nested deeper than `depth`, or of more than TERMS terms.
    """

    is_sqlite: bool
    depth: int
    values: list = field(default_factory=list)
    terms: int = 0
    aliases: int = 0

    def rows(self, table: sa.Table, columns: Sequence[str], arguments: Arguments, *, scope: dict | None = None,
             parents: Parents | None = None, most: int | None = None, ordered: bool = True) -> str:
        """Select `columns` of the rows that `arguments` and `scope` (one more condition) leave, at most `most`.

        With parents, the limit, the offset and distinct_on apply to the rows of each parent.
        """
        order, joins = self._order(table, arguments.order_by)
        among = [self._among(_of("t0", parents.column), parents.keys, "text")] if parents else []
        condition = _all(among + [self.condition(table, "t0", part) for part in (arguments.where, scope) if part])
        source = f'FROM "{table.name}" t0{joins} WHERE {condition}'
        chosen = ", ".join(_of("t0", name) for name in columns)
        if not arguments.distinct_on and not (arguments.cut and parents and len(parents.keys) > 1):
            order = f" ORDER BY {order}" if ordered or arguments.cut else ""
            return f"SELECT {chosen} {source}{order}{self._cut(arguments.limit, arguments.offset, most)}"

        bare = ", ".join(f'"{name}"' for name in columns)
        if arguments.distinct_on:
            same = [_of("t0", parents.column)] if parents else []
            same += [self._comparable(table.c[name], _of("t0", name)) for name in arguments.distinct_on]
            each = f'PARTITION BY "{parents.column}" ' if parents else ""
            firsts = (f"SELECT {chosen}, row_number() OVER (ORDER BY {order}) AS place_, row_number() OVER "
                      f"(PARTITION BY {', '.join(same)} ORDER BY {order}) AS seen_ {source}")
            inner = (f"SELECT {bare}, row_number() OVER ({each}ORDER BY place_) AS place_ "
                     f"FROM ({firsts}) f WHERE seen_ = 1")
        else:
            each = f"PARTITION BY {_of('t0', parents.column)} ORDER BY {order}"
            inner = f"SELECT {chosen}, row_number() OVER ({each}) AS place_ {source}"
        places = f"place_ > {self._mark(arguments.offset)}"
        if arguments.limit is not None:
            places += f" AND place_ <= {self._mark(arguments.offset + arguments.limit)}"
        return f"SELECT {bare} FROM ({inner}) r WHERE {places} ORDER BY place_{self._cut(None, 0, most)}"

    def aggregates(self, table: sa.Table, wanted: Sequence[Aggregate], arguments: Arguments, *,
                   scope: dict | None = None, parents: Parents | None = None) -> str:
        """Select aggregates of the rows that `rows` selects; with parents, one row for each, with its key first."""
        each = [parents.column] if parents else []
        columns = dict.fromkeys(each + [name for one in wanted for name in one.columns]) or ["id"]
        rows = self.rows(table, list(columns), arguments, scope=scope, parents=parents, ordered=False)
        chosen = [f'"{name}"' for name in each] + [self._aggregate(table, one) for one in wanted]
        return f"SELECT {', '.join(chosen)} FROM ({rows}) a" + (f' GROUP BY "{each[0]}"' if each else "")

    def condition(self, table: sa.Table, alias: str, wanted: dict, level: int = 0) -> str:
        """A `<table>_bool_exp` in SQL; a comparison with null is true, as in the first version of Hasura."""
        if level > self.depth:
            raise RequestError(f"a condition is nested deeper than {self.depth}: ask for less, or in several requests")
        parts = []
        for name, value in wanted.items():
            self.terms += 1
            if self.terms > TERMS:
                raise RequestError(f"a condition of more than {TERMS} terms: use _in, or several requests")
            if value is None:
                continue
            if name in ("_and", "_or"):
                inner = [self.condition(table, alias, one or {}, level + 1) for one in value]
                parts.append(_all(inner) if name == "_and" else _any(inner))
            elif name == "_not":
                parts.append(f"NOT {self.condition(table, alias, value, level + 1)}")
            elif name in table.c:
                parts += self._tests(table.c[name], _of(alias, name), value)
            else:
                relation = RELATIONS[table.name][name]
                always = bool(table.c[relation.here].foreign_keys) and not table.c[relation.here].nullable
                parts.append(self._exists(relation, alias, value, level + 1, always=always))
        return _all(parts)

    def _exists(self, relation: Relation, alias: str, wanted: dict, level: int, *, always: bool) -> str:
        self.aliases += 1
        there = f"t{self.aliases}"
        inner = self.condition(relation.table, there, wanted, level)
        if always and inner == "TRUE":
            return inner
        return (f'EXISTS (SELECT 1 FROM "{relation.table.name}" {there} WHERE {_of(there, relation.there)} = '
                f"{_of(alias, relation.here)} AND {inner})")

    def _tests(self, column: sa.Column, name: str, tests: dict) -> Iterable[str]:
        kind = scalars.of(column)
        for test, value in tests.items():
            if value is None:
                continue
            if test == "_is_null":
                yield f"{name} IS {'' if value else 'NOT '}NULL"
            elif kind is scalars.JSONB:
                yield self._json_test(name, test, value)
            elif test in ("_in", "_nin"):
                yield ("NOT " if test == "_nin" else "") + self._among(name, value, ARRAYS.get(kind, "text"))
            elif test in PATTERNS:
                yield PATTERNS[test] + self._like(name, value, ignore_case="i" in test.removesuffix("like"))
            else:
                yield f"{name} {COMPARISONS[test]} {self._mark(value)}"

    def _among(self, name: str, values: list, kind: str) -> str:
        if len(values) == 1:
            return f"{name} = {self._mark(values[0])}"  # so that the database can read an index in its order
        if self.is_sqlite:
            return f"{name} IN (SELECT value FROM json_each({self._mark(json.dumps(values))}))"
        return f"{name} = ANY({self._mark(values)}::{kind}[])"

    def _like(self, name: str, pattern: str, *, ignore_case: bool) -> str:
        if len(pattern) > PATTERN:
            raise RequestError(f"a pattern of more than {PATTERN} characters: look for less")
        if len(re.search(r"\\*$", pattern)[0]) % 2:
            pattern += "\\"  # PostgreSQL refuses an escape at the end: it stands for itself
        if not self.is_sqlite:
            return f"{name} {'ILIKE' if ignore_case else 'LIKE'} {self._mark(pattern)}"
        if ignore_case:  # for ASCII letters
            return f"{name} LIKE {self._mark(pattern)} ESCAPE '\\'"
        return f"{name} GLOB {self._mark(_glob(pattern))}"  # SQLite's LIKE always ignores case

    def _json_test(self, name: str, test: str, value: object) -> str:
        negated = "NOT " if test == "_nin" else ""
        if self.is_sqlite:
            operator = JSON_TESTS.get(test, "in")
            return f"{negated}json_test('{operator}', {name}, {self._mark(json.dumps(value))})"
        if test in ("_in", "_nin"):
            return f"{negated}{name}::jsonb = ANY({self._mark([json.dumps(one) for one in value])}::jsonb[])"
        right = self._mark(value) if test == "_has_key" else f"{self._mark(json.dumps(value))}::jsonb"
        return f"{name}::jsonb {JSON_TESTS[test]} {right}"

    def _order(self, table: sa.Table, order_by: Sequence[tuple[tuple[str, ...], str]]) -> tuple[str, str]:
        """The ORDER BY, and the joins that it needs; equal rows come in the order of their creation."""
        last = order_by[-1][1] if order_by else "asc"
        ties = ("created", "id") if "created" in table.c and scalars.of(table.c.id) is scalars.UUID else ("id",)
        given = {way for way, _ in order_by}
        joins: dict[tuple[str, ...], tuple[str, str]] = {}
        keys = []
        for way, direction in (*order_by, *(((name,), last) for name in ties if (name,) not in given)):
            alias, at = "t0", table
            for length, name in enumerate(way[:-1], start=1):
                relation = RELATIONS[at.name][name]
                if way[:length] not in joins:
                    there = f"o{len(joins)}"
                    joins[way[:length]] = (there, f' LEFT JOIN "{relation.table.name}" {there} ON '
                                                  f"{_of(there, relation.there)} = {_of(alias, relation.here)}")
                alias, at = joins[way[:length]][0], relation.table
            column = at.c[way[-1]]
            # SQLite reads an index instead of sorting only without NULLS FIRST or LAST.
            plain = len(way) == 1 and not column.nullable
            keys.append(f"{self._comparable(column, _of(alias, column.name))} "
                        f"{direction.split('_')[0].upper() if plain else DIRECTIONS[direction]}")
        return ", ".join(keys), "".join(join for _, join in joins.values())

    def _aggregate(self, table: sa.Table, wanted: Aggregate) -> str:
        columns = [self._comparable(table.c[name], f'"{name}"') for name in wanted.columns]
        if wanted.function != "count":
            return f"{wanted.function}({columns[0]})"
        if not columns or (len(columns) > 1 and not wanted.distinct):
            return "count(*)"
        together = columns[0]
        if len(columns) > 1:
            together = f"{'json_array' if self.is_sqlite else ''}({', '.join(columns)})"
        return f"count({'DISTINCT ' if wanted.distinct else ''}{together})"

    def _comparable(self, column: sa.Column, name: str) -> str:
        return f"{name}::jsonb" if scalars.of(column) is scalars.JSONB and not self.is_sqlite else name

    def _cut(self, limit: int | None, offset: int, most: int | None) -> str:
        if limit is None and most is None and not offset:
            return ""
        rows = min(number for number in (limit, most, WITHOUT_END) if number is not None)
        return f" LIMIT {self._mark(rows)}" + (f" OFFSET {self._mark(offset)}" if offset else "")

    def _mark(self, value: object) -> str:
        self.values.append(value)
        return "?" if self.is_sqlite else "%s"


def json_test(operator: str, document: str | None, wanted: str) -> bool | None:
    """The operators `=`, `<>`, `@>`, `<@` and `?` of jsonb in PostgreSQL, and `in`, which SQLite does not have."""
    if document is None:
        return None
    try:
        left, right = json.loads(document), json.loads(wanted)
    except RecursionError:
        return False  # nested deeper than any value that may be looked for
    if operator == "in":
        return any(_same(left, one) for one in right)
    if operator == "?":
        return left == right if isinstance(left, str) else (isinstance(left, dict | list) and right in left)
    if operator in ("@>", "<@"):
        outer, inner = (left, right) if operator == "@>" else (right, left)
        return _contains(outer, inner) or (isinstance(outer, list) and any(_same(one, inner) for one in outer))
    return _same(left, right) == (operator == "=")


def _contains(outer: object, inner: object) -> bool:
    if isinstance(outer, dict) and isinstance(inner, dict):
        return all(key in outer and _contains(outer[key], value) for key, value in inner.items())
    if isinstance(outer, list) and isinstance(inner, list):
        return all(any(_contains(there, one) for there in outer) for one in inner)
    return _same(outer, inner)


def _same(one: object, other: object) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _of(alias: str, column: str) -> str:
    return f'{alias}."{column}"'


def _all(conditions: list[str]) -> str:
    conditions = [one for one in conditions if one != "TRUE"]
    return f"({' AND '.join(conditions)})" if conditions else "TRUE"


def _any(conditions: list[str]) -> str:
    return f"({' OR '.join(conditions)})" if conditions else "FALSE"


def _glob(pattern: str) -> str:
    """A LIKE pattern as a GLOB pattern."""
    marks = {"%": "*", "_": "?"}
    return "".join(_literal(found[1]) if len(found) == 2 else marks.get(found) or _literal(found)
                   for found in re.findall(r"\\.|.", pattern, re.DOTALL))


def _literal(character: str) -> str:
    return f"[{character}]" if character in "*?[" else character
