"""What reads mean, on both databases: conditions, orders, limits, aggregates, tenants, and what hostile ones get."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain

import pytest
import sqlalchemy as sa
from graphql import parse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from seeds import Row, World, stamp, uid

from harness import Postgres
from workshop_server.store import tables
from workshop_server.store.database import of_tenant

OPEN = sorted(tables.RELATIONS)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    postgres: Postgres | None = request.getfixturevalue("postgres") if request.param == "postgresql" else None
    made = World(postgres.database() if postgres else str(tmp_path_factory.mktemp("reads") / "server.sqlite"),
                 rows=200, depth=12)
    yield made
    made.database.close()


@contextmanager
def statements(world: World) -> Iterator[list[str]]:
    """The statements that the database was given in the meantime."""
    heard: list[str] = []

    def hear(_conn: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("SELECT"):
            heard.append(statement)
    sa.event.listen(world.database.engine, "before_cursor_execute", hear)
    yield heard
    sa.event.remove(world.database.engine, "before_cursor_execute", hear)


def names(world: World, table: str, arguments: str, column: str = "name") -> list[object]:
    return [row[column] for row in world.ask(f"{{ {table}({arguments}) {{ {column} }} }}")[table]]


def ids(rows: list[Row]) -> list[object]:
    return [row["id"] for row in rows]


# conditions

def started(run: Row) -> bool:
    return run["start_time"] is not None


@pytest.mark.parametrize(("where", "expected"), [
    ("{}", lambda run: True),
    ("{state: {}}", lambda run: True),
    ("{state: null}", lambda run: True),
    ("{state: {_eq: null}}", lambda run: True),
    ("{state: {_neq: null, _gt: null, _in: null, _is_null: null, _like: null}}", lambda run: True),
    ("{_not: {state: {_eq: null}}}", lambda run: False),
    ("{_and: []}", lambda run: True),
    ("{_or: []}", lambda run: False),
    ("{_or: null}", lambda run: True),
    ("{_or: {version: {_eq: 3}}}", lambda run: run["version"] == 3),
    ("{_or: [{version: {_eq: 3}}, {}]}", lambda run: True),
    ("{_and: {version: {_eq: 3}}}", lambda run: run["version"] == 3),
    ("{_and: [{version: {_gte: 2}}, {}, {version: {_lt: 4}}]}", lambda run: 2 <= run["version"] < 4),
    ("{version: {_gt: 1, _lte: 3}}", lambda run: 1 < run["version"] <= 3),
    ("{version: {_in: [1, 4]}}", lambda run: run["version"] in (1, 4)),
    ("{version: {_in: 1}}", lambda run: run["version"] == 1),
    ("{version: {_in: []}}", lambda run: False),
    ("{version: {_nin: []}}", lambda run: True),
    ("{state: {_nin: []}}", lambda run: True),
    ('{state: {_neq: "Failed"}}', lambda run: run["state"] not in (None, "Failed")),
    ('{state: {_nin: ["Failed", "Success"]}}', lambda run: run["state"] not in (None, "Failed", "Success")),
    ('{_not: {state: {_eq: "Failed"}}}', lambda run: run["state"] not in (None, "Failed")),
    ("{state: {_is_null: true}}", lambda run: run["state"] is None),
    ("{start_time: {_is_null: false}}", started),
    ("{auto_scheduled: {_eq: true}}", lambda run: run["auto_scheduled"]),
    ("{auto_scheduled: {_in: [true, false]}}", lambda run: True),
    ('{start_time: {_gte: "2020-11-22T03:42:00+02:00"}}', lambda run: (run["start_time"] or "") >= stamp(102)),
    ('{start_time: {_eq: "2020-11-22 01:41:00"}}', lambda run: run["start_time"] == stamp(101)),
    ('{start_time: {_in: ["2020-11-22T01:41:00Z"]}}', lambda run: run["start_time"] == stamp(101)),
    (f'{{flow_id: {{_eq: "{uid(uid("Theirs") + " pipeline 1").upper()}"}}}}',
     lambda run: run["flow_id"] == uid(uid("Theirs") + " pipeline 1")),
    ('{state: {_like: "S%"}}', lambda run: run["state"] in ("Scheduled", "Success")),
    ('{state: {_like: "s%"}}', lambda run: False),
    ('{state: {_ilike: "s%"}}', lambda run: run["state"] in ("Scheduled", "Success")),
    ('{state: {_nlike: "S%"}}', lambda run: run["state"] in ("Running", "Failed")),
    ('{state: {_nilike: "s%"}}', lambda run: run["state"] in ("Running", "Failed")),
    ('{state: {_like: "_uccess"}}', lambda run: run["state"] == "Success"),
    ('{labels: {_contains: ["host"]}}', lambda run: True),
    ('{labels: {_contains: "l3"}}', lambda run: "l3" in run["labels"]),
    ('{labels: {_contains: ["l3", "l4"]}}', lambda run: False),
    ('{labels: {_has_key: "l2"}}', lambda run: "l2" in run["labels"]),
    ('{labels: {_contained_in: ["l1", "l2", "host"]}}', lambda run: run["labels"][1] in ("l1", "l2")),
    ('{labels: {_eq: ["host", "l1"]}}', lambda run: run["labels"] == ["host", "l1"]),
    ('{labels: {_neq: ["l1", "host"]}}', lambda run: True),
    ('{labels: {_nin: [["host", "l1"], []]}}', lambda run: run["labels"] != ["host", "l1"]),
    ('{parameters: {_contains: {p: 2}}}', lambda run: run["parameters"]["p"] == 2),
    ('{parameters: {_contains: {p: 2.0, of: {}}}}', lambda run: run["parameters"]["p"] == 2),
    ('{parameters: {_contains: {p: true}}}', lambda run: False),
    ('{parameters: {_in: [{p: 1}, null]}}', None),
    ('{parameters: {_has_key: "of"}}', lambda run: True),
    ('{parameters: {_has_key: "n"}}', lambda run: False),
    ('{run_config: {_has_key: "n"}}', lambda run: False),
    ('{_not: {run_config: {_has_key: "n"}}}', lambda run: False),
    ('{run_config: {_is_null: true}}', lambda run: True),
])
def test_conditions(world: World, where: str, expected: Callable[[Row], bool] | None) -> None:
    query = f"{{ flow_run(where: {where}) {{ id }} }}"
    if expected is None:
        assert "errors" in world.answer(query)
        return
    assert world.ask(query)["flow_run"] == [{"id": run["id"]} for run in world.rows["flow_run"] if expected(run)]


@pytest.mark.parametrize(("pattern", "text", "like", "ilike"), [
    ("line 1 of 100% [2]", "line 1 of 100% [2]", True, True),
    ("%100\\\\%%", "line 1 of 100% [2]", True, True),
    ("line 1 of 100\\\\% [2]", "line 1 of 100% [2]", True, True),
    ("%100\\\\_%", "line 1 of 100% [2]", False, False),
    ("%[2]", "line 1 of 100% [2]", True, True),
    ("%[0-9]%", "line 1 of 100% [2]", False, False),
    ("LINE%", "line 1 of 100% [2]", False, True),
    ("line*", "line 1 of 100% [2]", False, False),
    ("line ? of%", "line 1 of 100% [2]", False, False),
    ("line _ of%", "line 1 of 100% [2]", True, True),
    ("%\\\\", "line 1 of 100% [2]", False, False),
    ("", "line 1 of 100% [2]", False, False),
    ("%é%\\n%", "line 1 of 100% [2]", False, False),
    ("' OR 1=1 --", "line 1 of 100% [2]", False, False),
])
def test_patterns(world: World, pattern: str, text: str, like: bool, ilike: bool) -> None:
    for operator, expected in (("_like", like), ("_ilike", ilike), ("_nlike", not like), ("_nilike", not ilike)):
        found = names(world, "log", f'where: {{message: {{{operator}: "{pattern}"}}}}', "message")
        assert (text in found) is expected, operator


def test_a_relation_in_a_condition_asks_whether_there_is_such_a_row(world: World) -> None:
    flows = {flow["id"]: flow for flow in world.rows["flow"]}
    runs = world.rows["flow_run"]
    cases: dict[str, Callable[[Row], bool]] = {
        '{flow: {name: {_eq: "another"}}}': lambda run: flows[run["flow_id"]]["name"] == "another",
        '{flow: {project: {name: {_eq: "Theirs"}}}}': lambda run: flows[run["flow_id"]]["project_id"] == uid("Theirs"),
        '{_not: {flow: {description: {_eq: "ddd"}}}}': lambda run: flows[run["flow_id"]]["description"] != "ddd",
        '{agent: {}}': lambda run: run["agent_id"] is not None,
        '{_not: {agent: {name: {_eq: "one"}}}}': lambda run: run["agent_id"] is None,
        '{flow: {}}': lambda run: True,
        '{task_runs: {state_start_time: {_lte: "2020-11-22T00:05:00Z"}}}': lambda run: run["state"] in (
            "Scheduled", "Running"),
        '{_not: {task_runs: {state: {_eq: "Pending"}}}}': lambda run: run["state"] is not None,
        '{task_runs: {task: {flow: {flow_runs: {state: {_eq: "none"}}}}}}': lambda run: False,
    }
    for where, expected in cases.items():
        assert names(world, "flow_run", f"where: {where}", "id") == [run["id"] for run in runs if expected(run)], where
    assert names(world, "project", "where: {flows: {}}") == ["Image QC", "Theirs"]


TASK_RUN_VALUES = {"map_index": st.integers(-2, 3), "state": st.sampled_from(["Running", "Success", "Pending", ""]),
                   "name": st.sampled_from(["check_0", "check_2", "zzz"]), "version": st.integers(0, 5)}
COMPARE: dict[str, Callable] = {
    "_eq": lambda a, b: a == b, "_neq": lambda a, b: a != b,
    "_in": lambda a, b: a in b, "_nin": lambda a, b: a not in b,
    **{name: lambda a, b, name=name: getattr(_sortable(a), f"__{name[1:].replace('te', 'e')}__")(_sortable(b))
       for name in ("_gt", "_lt", "_gte", "_lte")}}


def _sortable(value: object) -> object:
    return value.encode() if isinstance(value, str) else value


@st.composite
def tries_of(draw: st.DrawFn, column: str) -> Row:
    operator = draw(st.sampled_from(sorted([*COMPARE, "_is_null"] if column in ("map_index", "version") else
                                           ["_eq", "_neq", "_in", "_nin", "_is_null"])))
    if operator == "_is_null":
        return {operator: draw(st.booleans() | st.none())}
    values = TASK_RUN_VALUES[column]
    return {operator: draw(st.none() | (st.lists(values, max_size=3) if operator in ("_in", "_nin") else values))}


LEAVES = st.one_of(*[st.fixed_dictionaries({column: tries_of(column)}) for column in TASK_RUN_VALUES], st.just({}))
WHERE = st.recursive(LEAVES, lambda inner: st.one_of(
    st.fixed_dictionaries({"_and": st.lists(inner, max_size=3)}),
    st.fixed_dictionaries({"_or": st.lists(inner, max_size=3)}),
    st.fixed_dictionaries({"_not": inner})), max_leaves=8)


def holds(row: Row, where: Row) -> bool | None:
    """The condition by SQL's three values of truth; None is the third."""
    found = []
    for name, value in where.items():
        if name == "_not":
            inner = holds(row, value)
            found.append(None if inner is None else not inner)
        elif name in ("_and", "_or"):
            inner = [holds(row, one) for one in value]
            found.append(_all(inner) if name == "_and" else _any(inner))
        else:
            found += [_test(row[name], operator, wanted) for operator, wanted in value.items()]
    return _all(found)


def _all(found: list[bool | None]) -> bool | None:
    return False if False in found else None if None in found else True


def _any(found: list[bool | None]) -> bool | None:
    return True if True in found else None if None in found else False


def _test(value: object, operator: str, wanted: object) -> bool | None:
    if wanted is None:
        return True
    if operator == "_is_null":
        return (value is None) == wanted
    if wanted == []:
        return operator == "_nin"
    return None if value is None else COMPARE[operator](value, wanted)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=WHERE)
def test_conditions_made_up(world: World, where: Row) -> None:
    query = "query($where: task_run_bool_exp) { task_run(where: $where) { id } }"
    expected = [{"id": row["id"]} for row in world.rows["task_run"] if holds(row, where)]
    assert world.ask(query, {"where": where})["task_run"] == expected


# order, limit, offset, distinct_on

def test_order_as_written(world: World) -> None:
    """graphql-core hands input objects over in the order of the schema: there, name stands before version."""
    flows = world.rows["flow"]
    by_version = sorted(flows, key=lambda flow: (-flow["version"], flow["name"]))
    by_name = sorted(flows[::-1], key=lambda flow: (flow["name"], -flow["version"]))  # equal ones: the last first
    for order, expected in (("{version: desc, name: asc}", by_version), ("{name: asc, version: desc}", by_name),
                            ("[{version: desc}, {name: asc}]", by_version),
                            ("[{name: asc}, {version: desc}]", by_name)):
        assert names(world, "flow", f"order_by: {order}", "id") == ids(expected), order

    query = "query($o: [flow_order_by!]) { flow(order_by: $o) { id } }"
    for order, expected in (({"version": "desc", "name": "asc"}, by_version),
                            ([{"name": "asc", "version": "desc"}], by_name)):
        assert ids(world.ask(query, {"o": order})["flow"]) == ids(expected)
    preset = "query($o: [flow_order_by!] = {version: desc, name: asc}) { flow(order_by: $o) { id } }"
    assert ids(world.ask(preset)["flow"]) == ids(by_version)
    inside = "query($v: order_by, $n: order_by) { flow(order_by: {version: $v, name: $n}) { id } }"
    assert ids(world.ask(inside, {"n": "asc", "v": "desc"})["flow"]) == ids(by_version)


@pytest.mark.parametrize(("direction", "nulls_first", "descending"), [
    ("asc", False, False), ("desc", True, True), ("asc_nulls_first", True, False), ("asc_nulls_last", False, False),
    ("desc_nulls_first", True, True), ("desc_nulls_last", False, True)])
def test_nulls_in_an_order(world: World, direction: str, nulls_first: bool, descending: bool) -> None:
    runs = world.find("flow_run", flow_id=uid(uid("Image QC") + " pipeline 3"))
    filled = sorted((run["start_time"] for run in runs if started(run)), reverse=descending)
    nulls = [None] * (len(runs) - len(filled))
    found = names(world, "flow_run", f'where: {{flow_id: {{_eq: "{runs[0]["flow_id"]}"}}}}, '
                                     f"order_by: {{start_time: {direction}}}", "start_time")
    assert found == ([*nulls, *filled] if nulls_first else [*filled, *nulls])


def test_the_same_column_over_and_over(world: World) -> None:
    """More often than SQLite could name it in one statement."""
    again = ", ".join(["{version: asc}"] * 2500)
    found = names(world, "flow", f"order_by: [{{version: desc}}, {again}], distinct_on: [{'id ' * 2500}]", "version")
    assert found == sorted(found, reverse=True) and len(found) == 5
    count = world.ask(f"{{ flow_aggregate {{ aggregate {{ count(columns: [{'name ' * 500}], distinct: true) }} }} }}")
    assert count == {"flow_aggregate": {"aggregate": {"count": 2}}}


def test_order_by_a_relation(world: World) -> None:
    flows = {flow["id"]: flow for flow in world.rows["flow"]}
    projects = {project["id"]: project for project in world.rows["project"]}

    def key(run: Row) -> tuple:
        flow = flows[run["flow_id"]]
        return projects[flow["project_id"]]["name"], flow["name"], -run["version"]
    found = names(world, "flow_run", "order_by: {flow: {project: {name: asc}, name: asc}, version: desc}", "id")
    assert found == [run["id"] for run in sorted(world.rows["flow_run"], key=key)]


def test_equal_rows_keep_the_order_in_which_they_were_made(world: World) -> None:
    lines = sorted(world.rows["log"], key=lambda row: (row["timestamp"], row["id"]))
    assert names(world, "log", "order_by: {timestamp: asc}", "id") == [row["id"] for row in lines]
    assert names(world, "log", "order_by: {timestamp: desc}", "id") == [row["id"] for row in lines[::-1]]
    for table in OPEN:
        if table != "edge":  # which does not say when it was made
            assert names(world, table, "limit: 150", "id") == ids(world.rows[table])[:150]
            assert names(world, table, "limit: 150, order_by: {id: desc}", "id") == sorted(
                ids(world.rows[table]), reverse=True)[:150]


def test_pages(world: World) -> None:
    pages = [names(world, "task_run", f"limit: 37, offset: {offset}", "id") for offset in range(0, 120, 37)]
    assert list(chain(*pages)) == ids(world.rows["task_run"])
    assert names(world, "task_run", "limit: 0", "id") == []
    assert names(world, "task_run", "limit: null, offset: null", "id") == ids(world.rows["task_run"])
    assert names(world, "task_run", "offset: 88", "id") == ids(world.rows["task_run"])[88:]


def test_distinct(world: World) -> None:
    assert names(world, "flow", "distinct_on: name, order_by: {name: asc, version: desc}", "version") == [1, 3]
    assert names(world, "flow", "distinct_on: name, order_by: {name: desc, version: asc}", "version") == [1, 1]
    assert names(world, "flow", "distinct_on: [name, version], order_by: [{name: asc}, {version: asc}]", "version") == [
        1, 1, 2, 3]
    assert names(world, "flow", "distinct_on: null, limit: 3", "name") == ["pipeline"] * 3
    assert names(world, "flow", "distinct_on: name, order_by: {name: asc}, offset: 1", "name") == ["pipeline"]
    assert names(world, "flow", "distinct_on: name, order_by: {name: asc}, limit: 1", "name") == ["another"]
    assert len(names(world, "flow_run", "distinct_on: state", "state")) == 5  # null is one of them
    assert len(names(world, "flow_run", "distinct_on: labels", "labels")) == 5


# what is selected

def test_relations_one_and_many(world: World) -> None:
    query = """{ project(order_by: {name: asc}) { name
        first: flows(order_by: {version: asc, name: desc}, limit: 2) { version name }
        later: flows(order_by: {version: asc}, limit: 2, offset: 1) { version }
        active: flows(where: {archived: {_eq: false}}, order_by: {name: asc}) { name tenant { slug }
          flow_group { name labels } flow_runs(limit: 1, order_by: {version: desc}) { name agent { name } }
          edges(order_by: {upstream_task: {max_retries: asc}}) { mapped upstream_task { name downstream_edges {
            downstream_task { slug } } } } }
        distinct: flows(distinct_on: archived, order_by: {archived: asc, version: asc}, limit: 1) { version }
    } }"""
    empty, quality, theirs = world.ask(query)["project"]
    assert empty == {"name": "An empty one", "first": [], "later": [], "active": [], "distinct": []}
    assert quality["first"] == [{"version": 1, "name": "pipeline"}, {"version": 1, "name": "another"}]
    assert quality["later"] == [{"version": 1}, {"version": 2}]
    assert quality["distinct"] == [{"version": 1}]
    assert [flow["name"] for flow in quality["active"]] == ["another", "pipeline"]
    assert quality["active"][0]["flow_group"] == {"name": "Image QC another", "labels": ["gpu"]}
    assert quality["active"][1]["flow_runs"] == [{"name": "run-4", "agent": None}]
    below = [{"name": above, "downstream_edges": [{"downstream_task": {"slug": slug}}]}
             for above, slug in (("load", "check-1"), ("check", "write-1"))]
    assert quality["active"][1]["edges"] == [{"mapped": True, "upstream_task": below[0]},
                                             {"mapped": False, "upstream_task": below[1]}]
    assert theirs["first"] == [{"version": 1, "name": "pipeline"}]
    assert theirs["later"] == []
    assert theirs["active"][0]["tenant"] == {"slug": "other"}


def test_all_columns_and_relations_of_all_tables(world: World) -> None:
    for table in OPEN:
        columns = " ".join(column.name for column in tables.metadata.tables[table].c)
        relations = " ".join(f"{name} {{ id }}" for name in tables.RELATIONS[table])
        (row,) = world.ask(f"{{ {table}(limit: 1) {{ {columns} }} }}")[table]
        if table != "edge":
            assert row == world.rows[table][0]
            by_pk = world.ask(f"{{ {table}_by_pk(id: {row['id'] if isinstance(row['id'], int) else repr(row['id'])}) "
                              f"{{ {columns} }} }}".replace("'", '"'))
            assert by_pk == {f"{table}_by_pk": row}
        if relations:
            (row,) = world.ask(f"{{ {table}(limit: 1) {{ id {relations} }} }}")[table]
            one = next(each for each in world.rows[table] if each["id"] == row["id"])
            for name, relation in tables.RELATIONS[table].items():
                there = [{"id": other["id"]} for other in world.rows[relation.table.name]
                         if other[relation.there] == one[relation.here]]
                found = row[name] if relation.many else [row[name]] if row[name] else []
                assert sorted(found, key=str) == sorted(there, key=str), (table, name)


def test_aliases_fragments_directives(world: World) -> None:
    query = """query($yes: Boolean!, $no: Boolean!) {
        __typename
        runs: flow_run(where: {state: {_eq: "Failed"}}, limit: 1) {
            name: state state: name __typename kind: __typename
            ...More
            ... on flow_run @include(if: $yes) { version flow { archived } }
            ... @skip(if: $yes) { id }
            flow @include(if: $no) { id }
            created @skip(if: $yes)
            auto_scheduled @skip(if: $no)
            flow { ...OfFlow }
        }
        count: flow_run_aggregate { __typename aggregate { __typename number: count max { __typename v: version } } }
    }
    fragment More on flow_run { flow { name ...OfFlow } flow2: flow { version } }
    fragment OfFlow on flow { project { name } __typename }"""
    answer = world.ask(query, {"yes": True, "no": False})
    assert list(answer) == ["__typename", "runs", "count"]
    assert answer["runs"] == [{
        "name": "Failed", "state": "run-3", "__typename": "flow_run", "kind": "flow_run", "version": 3,
        "flow": {"name": "pipeline", "project": {"name": "Image QC"}, "__typename": "flow", "archived": False},
        "flow2": {"version": 3}, "auto_scheduled": False}]
    assert list(answer["runs"][0]) == ["name", "state", "__typename", "kind", "flow", "flow2", "version",
                                       "auto_scheduled"]
    assert answer["count"] == {"__typename": "flow_run_aggregate", "aggregate": {
        "__typename": "flow_run_aggregate_fields", "number": 15, "max": {"__typename": "flow_run_max_fields", "v": 4}}}


def test_inside_json(world: World) -> None:
    query = """{ flow_run(where: {version: {_eq: 2}}, limit: 1) {
        parameters(path: "$.of.é[0]") again: parameters(path: "of")
        none: parameters(path: "$.of[0]") gone: parameters(path: "x.y") all: parameters(path: "$")
        quoted: parameters(path: "$['of'][\\"é\\"][1].x") } }"""
    of = {"é": [1, {"x": None}]}
    assert world.ask(query)["flow_run"] == [{"parameters": 1, "again": of, "none": None, "gone": None,
                                             "all": {"p": 2, "of": of}, "quoted": None}]
    assert "not a path" in world.answer('{ flow_run(limit: 1) { context(path: "a[") } }')["errors"][0]


def test_aggregates(world: World) -> None:
    query = """{ task_run_aggregate(where: {map_index: {_gte: 0}}) { aggregate { count named: count(columns: name)
          kinds: count(columns: [name], distinct: true)
          pairs: count(columns: [state, map_index], distinct: true)
          max { map_index name state_start_time } min { map_index } } nodes { map_index } }
        some: task_run_aggregate(limit: 5, offset: 1) { aggregate { count } nodes { id } }
        none: task_run_aggregate(where: {map_index: {_eq: 99}}) {
          aggregate { count max { map_index } } nodes { id } } }"""
    mapped = [row for row in world.rows["task_run"] if row["map_index"] >= 0]
    answer = world.ask(query)
    assert answer["task_run_aggregate"] == {
        "aggregate": {"count": len(mapped), "named": len(mapped), "kinds": 3,
                      "pairs": len({(row["state"], row["map_index"]) for row in mapped}),
                      "max": {"map_index": 2, "name": "check_2",
                              "state_start_time": max(row["state_start_time"] or "" for row in mapped)},
                      "min": {"map_index": 0}},
        "nodes": [{"map_index": row["map_index"]} for row in mapped]}
    assert answer["some"] == {"aggregate": {"count": 5}, "nodes": [
        {"id": row["id"]} for row in world.rows["task_run"][1:6]]}
    assert answer["none"] == {"aggregate": {"count": 0, "max": {"map_index": None}}, "nodes": []}


def test_aggregates_of_relations(world: World) -> None:
    query = """{ flow(order_by: {created: asc}) { id
        all: flow_runs_aggregate { aggregate { count max { version } } }
        some: flow_runs_aggregate(where: {version: {_gt: 2}}) { aggregate { count } a: nodes { id } b: nodes { name } }
        two: flow_runs_aggregate(limit: 2, order_by: {version: desc}) { aggregate { count min { version } } }
        states: flow_runs_aggregate(distinct_on: state) { aggregate { count } } } }"""
    for row in world.ask(query)["flow"]:
        runs = world.find("flow_run", flow_id=row["id"])
        assert row["all"]["aggregate"] == {"count": len(runs), "max": {"version": 4 if runs else None}}
        later = [run for run in runs if run["version"] > 2]
        assert row["some"] == {"aggregate": {"count": len(later)}, "a": [{"id": run["id"]} for run in later],
                               "b": [{"name": run["name"]} for run in later]}
        assert row["two"]["aggregate"] == {"count": min(2, len(runs)), "min": {"version": 3 if runs else None}}
        assert row["states"]["aggregate"]["count"] == len({run["state"] for run in runs})


def test_one_statement_for_each_level(world: World) -> None:
    with statements(world) as heard:
        world.ask("{ flow_run { id flow { name project { name } } task_runs(limit: 1) { id task { slug } } "
                  "logs_aggregate { aggregate { count } } } }")
    assert len(heard) == 6
    with statements(world) as heard:
        world.ask('{ flow_run(where: {name: {_eq: "none"}}) { flow { name } task_runs { id } } }')
    assert len(heard) == 1


def test_names_of_the_types(world: World) -> None:
    """Typed variables, as the pages of the original wrote them."""
    query = """query($id: uuid!, $at: timestamptz, $j: jsonb, $where: flow_run_bool_exp!, $order: [flow_run_order_by!],
        $by: order_by, $on: [flow_run_select_column!], $s: [String!], $one: uuid_comparison_exp) {
      flow_run_by_pk(id: $id) { id }
      flow_run(where: {_and: [$where, {id: $one, created: {_gte: $at}, parameters: {_contains: $j}, state: {_in: $s}}]},
        order_by: $order, distinct_on: $on) { id }
      task_run(limit: 1, order_by: {created: $by}) { id } }"""
    run = world.find("flow_run", state="Success")[0]
    answer = world.ask(query, {"id": run["id"].upper(), "at": "2020-01-01", "j": {"p": 2},
                               "where": {"version": {"_eq": 2}}, "order": {"name": "desc"},
                               "by": "desc", "on": ["id"], "s": ["Success"],
                               "one": {"_eq": run["id"]}})
    assert answer == {"flow_run_by_pk": {"id": run["id"]}, "flow_run": [{"id": run["id"]}],
                      "task_run": [{"id": world.rows["task_run"][-1]["id"]}]}


# tenants

@pytest.mark.parametrize("table", OPEN)
def test_a_tenant_sees_its_own_rows(world: World, table: str) -> None:
    sql = tables.metadata.tables[table]
    for tenant in (world.tenant, world.other):
        with world.database.read() as conn:
            own = {row.id for row in conn.execute(of_tenant(sa.select(sql.c.id), sql, tenant))}
        assert own or (table, tenant) == ("agent_config", world.other)
        foreign = next((row["id"] for row in world.rows[table] if row["id"] not in own), None)
        kind, literal = ("Int!", 0) if isinstance(foreign, int) else ("uuid!", uid("none"))
        query = f"""query($id: {kind}) {{ {table}(where: {{_or: [{{}}, {{id: {{_eq: $id}}}}]}}) {{ id }}
            {table}_by_pk(id: $id) {{ id }} {table}_aggregate {{ aggregate {{ count }} nodes {{ id }} }} }}"""
        answer = world.ask(query, {"id": foreign or literal}, tenant=tenant)
        assert {row["id"] for row in answer[table]} == own
        assert answer[f"{table}_by_pk"] is None
        assert answer[f"{table}_aggregate"]["aggregate"]["count"] == len(own)
        assert {row["id"] for row in answer[f"{table}_aggregate"]["nodes"]} == own


@pytest.mark.parametrize("field", ["secret", "secret_by_pk", "secret_aggregate", "hook_delivery", "schema_version"])
def test_not_to_be_read(world: World, field: str) -> None:
    assert "Cannot query field" in world.answer(f"{{ {field} {{ id }} }}")["errors"][0]


# what cannot be answered

def test_more_rows_than_one_answer_may_have(world: World) -> None:
    """The limit is 200 here."""
    assert len(names(world, "log", "limit: 150", "id")) == 150
    assert world.ask("{ log_aggregate { aggregate { count } } }")["log_aggregate"]["aggregate"]["count"] == 150
    nested = "{ flow_run { task_runs { logs { id } } } flow { id } }"  # 90 of the lines are those of task runs
    assert len(world.ask(nested)["flow_run"]) == 15
    # Each row is few, but the answer would show them over and over: 15 runs with 5 each, and each of these 6 task runs.
    again = world.answer("{ flow_run { flow { flow_runs { task_runs { id } } } } }")
    assert again["data"] is None and "more than 200 rows of task_run in one answer" in again["errors"][0]
    assert "limit and offset" in again["errors"][0]
    within = world.ask("{ flow_run(limit: 2) { flow { flow_runs(limit: 2) { task_runs(limit: 3) { id } } } } }")
    assert [len(run["flow"]["flow_runs"][1]["task_runs"]) for run in within["flow_run"]] == [3, 3]


def test_more_rows_than_one_list_may_have(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = world.server.settings.limits
    monkeypatch.setitem(limits.__dict__, "rows", 100)
    for query in ("{ log { id } }", "{ log(limit: 101) { id } }", "{ log_aggregate { nodes { id } } }",
                  "{ log(distinct_on: id) { id } }", "{ flow_run { logs { id } } }",
                  "{ flow_run { logs(limit: 9) { id } } }", "{ log { id } flow { id } }"):
        answer = world.answer(query)
        assert "more than 100 rows of log" in answer["errors"][0], query
    assert len(names(world, "log", "limit: 100", "id")) == 100
    assert len(names(world, "log", "offset: 50", "id")) == 100


def deep(levels: int, key: str = "_not") -> dict:
    where: dict = {"name": {"_eq": "x"}}
    for _ in range(levels):
        where = {key: where}
    return where


@pytest.mark.parametrize(("where", "words"), [
    (deep(13), "nested deeper than 12"), (deep(60), "nested deeper than 12"), (deep(13, "_and"), "nested deeper"),
    ({"_or": [{"name": {"_eq": str(number)}} for number in range(600)]}, "more than 500 terms"),
    ({"id": {"_eq": "not an id"}}, "not an id"), ({"id": {"_in": [7]}}, "not an id"),
    ({"created": {"_gt": "yesterday"}}, "not a date and time"),
    ({"created": {"_gt": "0001-01-01T00:00+14:00"}}, "not a date and time"),
    ({"name": {"_like": "x" * 1001}}, "more than 1000 characters"),
    ({"version": {"_gt": 2**31}}, "32-bit"), ({"version": {"_gt": 10**400}}, "32-bit"),
    ({"version": {"_eq": "1"}}, "Int"), ({"parameters": {"_contains": float("inf")}}, "too large"),
    ({"no_such": {}}, "no_such"), ({"name": {"_regex": "x"}}, "_regex"), ({'name" OR 1=1': {}}, "name"),
])
def test_conditions_that_cannot_be(world: World, where: dict, words: str) -> None:
    answer = world.answer("query($w: flow_run_bool_exp) { flow_run(where: $w) { id } }", {"w": where})
    assert words in str(answer["errors"])


@pytest.mark.parametrize("levels", [0, 11])
def test_conditions_that_just_can_be(world: World, levels: int) -> None:
    where = {"_or": [deep(levels, "_and"), *({"name": {"_eq": str(number)}} for number in range(100))]}
    assert world.ask("query($w: flow_run_bool_exp) { flow_run(where: $w) { id } }", {"w": where}) == {"flow_run": []}


@pytest.mark.parametrize("value", ["\0", "a\0b", "\ud800", "x" * 200_000, "';--", '"', "%s%d", "?", "$1", ":a", "{}"])
@pytest.mark.parametrize("operator", ["_eq", "_gt", "_in", "_ilike", "_like"])
def test_odd_texts(world: World, value: str, operator: str) -> None:
    """Such a text is found nowhere, or refused in words; and never a failure of the server."""
    kind = "[String!]" if operator == "_in" else "String"
    query = f"query($v: {kind}) {{ project(where: {{name: {{{operator}: $v}}}}) {{ id }} }}"
    answer = world.answer(query, {"v": [value, "other"] if operator == "_in" else value})
    if "errors" in answer:
        too_long = operator in ("_like", "_ilike") and len(value) > 1000
        assert too_long or value in ("\0", "a\0b", "\ud800")
        assert ("more than 1000 characters" if too_long else "cannot look for such a value") in answer["errors"][0]
    elif operator != "_gt":
        assert answer["data"]["project"] == []


@pytest.mark.parametrize(("query", "words"), [
    ("{ flow(limit: -1) { id } }", "limit is negative: -1"),
    ("{ flow_run { logs(offset: -3) { id } } }", "offset is negative: -3"),
    ("{ flow(limit: 99999999999) { id } }", "32-bit"),
    ('{ flow_by_pk(id: "1") { id } }', "not an id"), ('{ flow_run { flow_runs { id } } }', "Cannot query field"),
    ("{ flow(order_by: {flow_runs: {id: asc}}) { id } }", "flow_runs"), ("{ flow(order_by: {id: up}) { id } }", "up"),
    ("{ flow(distinct_on: nothing) { id } }", "nothing"),
    ("{ flow_aggregate { aggregate { max { archived } } } }", "archived"),
])
def test_queries_that_cannot_be(world: World, query: str, words: str) -> None:
    parse(query)
    assert words in str(world.answer(query)["errors"])

