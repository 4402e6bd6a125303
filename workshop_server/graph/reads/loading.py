"""Answers a selection from the database, with one statement for each level, for any number of rows."""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence

import sqlalchemy as sa
from graphql import GraphQLBoolean

from workshop_server.errors import RequestError
from workshop_server.graph.reads import sql
from workshop_server.graph.reads.selection import Branch, Leaf, Level
from workshop_server.graph.types import scalars
from workshop_server.settings import Limits
from workshop_server.store.tables import OWNER, RELATIONS, tenant

Answer = dict[str, object]


class Loader:
    """Reads through one connection, for one tenant (None: for all), within `limits`."""

    def __init__(self, conn: sa.Connection, tenant_id: str | None, limits: Limits) -> None:
        self._conn = conn
        self._is_sqlite = conn.dialect.name == "sqlite"
        self._tenant_id = tenant_id
        self._limits = limits

    def load(self, branch: Branch) -> list[Answer] | Answer:
        """The result of an outermost read: its rows, or its aggregates."""
        scope = None if self._tenant_id is None else _owned_by(branch.asked.table, self._tenant_id)
        return self._load(branch, scope, {}).get(None, [])

    def _load(self, branch: Branch, scope: dict | None, times: dict[str, int]) -> dict[str | None, object]:
        """The result of a branch, by parent; `times` says how often the answer shows each parent."""
        if branch.relation and not times:
            return {}
        parents = sql.Parents(branch.relation.there, list(times)) if branch.relation else None
        if isinstance(branch.asked, Level):
            return self._rows(branch.asked, branch, scope, parents, times)
        values: dict[str | None, sa.Row] = {}
        if wanted := branch.asked.aggregates:
            statement = self._statement()
            text = statement.aggregates(branch.asked.table, wanted, branch.arguments, scope=scope, parents=parents)
            values = {record[0] if parents else None: record[1:] if parents else record
                      for record in self._run(text, statement)}
        rows = {key: self._rows(part, branch, scope, parents, times)
                for key, part in branch.asked.shape.items() if isinstance(part, Level)}
        without = [0 if one.function == "count" else None for one in wanted]  # for a parent without such rows
        return {parent: _filled(branch.asked.shape, values.get(parent, without),
                                {key: found.get(parent, []) for key, found in rows.items()})
                for parent in times or (None,)}

    def _rows(self, level: Level, branch: Branch, scope: dict | None, parents: sql.Parents | None,
              times: dict[str, int]) -> dict[str | None, list[Answer]]:
        one = branch.relation is not None and not branch.relation.many
        at = level.place(parents.column) if parents else None
        most = self._limits.rows
        statement = self._statement()
        text = statement.rows(level.table, list(level.columns) or ["id"], branch.arguments, scope=scope,
                              parents=parents, most=None if one else most + 1, ordered=not one)
        records = self._run(text, statement)
        shown = [1] * len(records) if at is None else [times[record[at]] for record in records]
        if sum(shown) > most:
            raise RequestError(f"more than {most} rows of {level.table.name} in one answer: ask for them in parts, "
                               "with limit and offset")

        rows = [level.empty.copy() for _ in records]
        for leaf in level.leaves:
            key, place, convert = leaf.key, leaf.place, self._conversion(leaf)
            if convert is None:
                for row, record in zip(rows, records, strict=True):
                    row[key] = record[place]
            else:
                for row, record in zip(rows, records, strict=True):
                    row[key] = convert(record[place])
        for inner in level.branches:
            self._attach(inner, rows, records, shown)
        found = defaultdict(list)
        for row, record in zip(rows, records, strict=True):
            found[None if at is None else record[at]].append(row)
        return found

    def _attach(self, branch: Branch, rows: list[Answer], records: list[sa.Row], shown: list[int]) -> None:
        """Read a branch, and add its rows to the rows of the level above."""
        key, place = branch.key, branch.place
        times: dict[str, int] = defaultdict(int)
        for record, count in zip(records, shown, strict=True):
            if record[place] is not None:
                times[record[place]] += count
        found = self._load(branch, None, times)
        if not branch.relation.many:
            found = {parent: children[0] for parent, children in found.items()}
        for row, record in zip(rows, records, strict=True):
            value = found.get(record[place])
            row[key] = [] if value is None and branch.relation.many else value

    def _statement(self) -> sql.Statement:
        return sql.Statement(self._is_sqlite, self._limits.depth)

    def _run(self, text: str, statement: sql.Statement) -> list[sa.Row]:
        """All rows; raises RequestError for a value that the database cannot hold."""
        if "json_test(" in text:
            self._conn.connection.driver_connection.create_function("json_test", 3, sql.json_test, deterministic=True)
        try:
            return self._conn.exec_driver_sql(text, tuple(statement.values)).fetchall()
        except (sa.exc.DataError, UnicodeError, OverflowError) as error:
            cause = str(getattr(error, "orig", error)).partition("\n")[0]
            raise RequestError(f"the database cannot look for such a value: {cause}") from None

    def _conversion(self, leaf: Leaf) -> Callable[[object], object] | None:
        kind = scalars.of(leaf.column)
        if kind is scalars.JSONB:
            if leaf.steps:
                return lambda value: _inside(_parsed(value) if self._is_sqlite else value, leaf.steps)
            return _parsed if self._is_sqlite else None
        return _truth if self._is_sqlite and kind is GraphQLBoolean else None


def _owned_by(table: sa.Table, tenant_id: str) -> dict:
    """The condition that a row is the tenant's."""
    if table.name in OWNER:
        owner = OWNER[table.name]
        return {owner: _owned_by(RELATIONS[table.name][owner].table, tenant_id)}
    return {"id" if table is tenant else "tenant_id": {"_eq": tenant_id}}


def _filled(shape: dict[str, object], values: Sequence, rows: dict[str, list[Answer]]) -> Answer:
    """The answer of a summary, from the values of its aggregates and its rows."""
    answer: Answer = {}
    for key, part in shape.items():
        if isinstance(part, dict):
            answer[key] = _filled(part, values, rows)
        elif isinstance(part, Level):
            answer[key] = rows[key]
        else:
            answer[key] = values[part] if isinstance(part, int) else part
    return answer


def _parsed(value: str | None) -> object:
    return None if value is None else json.loads(value)


def _truth(value: int | None) -> bool | None:
    return None if value is None else bool(value)


def _inside(value: object, steps: Sequence[str | int]) -> object:
    """What the steps lead to in a JSON value, or None."""
    for step in steps:
        if isinstance(step, str) and isinstance(value, dict):
            value = value.get(step)
        elif isinstance(step, int) and isinstance(value, list) and step < len(value):
            value = value[step]
        else:
            return None
    return value
