"""A small database with something in each table, whose rows the tests also hold as plain Python."""

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from uuid import NAMESPACE_OID, uuid5

import sqlalchemy as sa
from graphql import GraphQLObjectType, GraphQLSchema, execute_sync, parse, validate

from workshop_server.context import Caller, ServerContext
from workshop_server.graph.reads import table_fields
from workshop_server.settings import Limits, Settings
from workshop_server.store import tables
from workshop_server.store.database import Database

SCHEMA = GraphQLSchema(GraphQLObjectType("Query", table_fields.query_fields()))
Row = dict[str, object]


def uid(name: str) -> str:
    return str(uuid5(NAMESPACE_OID, name))


def stamp(minutes: float) -> str:
    """So many minutes after the start of the day that all this happened on."""
    return (datetime(2020, 11, 22, tzinfo=UTC) + timedelta(minutes=minutes)).isoformat(timespec="microseconds")


class World:
    """Rows by table, in the database and in `rows`; relations of the rows are for the tests to work out."""

    def __init__(self, url: str, **limits: int) -> None:
        self.database = Database(url)
        settings = Settings(database=url, api_keys=Path("none"), limits=Limits(**limits))
        self.server = ServerContext(settings, self.database)
        self.rows: dict[str, list[Row]] = {}
        with self.database.read() as conn:
            self.tenant = conn.scalar(sa.select(tables.tenant.c.id))
        self.other = uid("other")
        self._plan()
        with self.database.write() as conn:
            for table in tables.metadata.sorted_tables:
                for row in self.rows.get(table.name, []):
                    conn.execute(sa.insert(table).values(row))
            for name in self.rows:
                read = conn.execute(sa.select(tables.metadata.tables[name])).mappings()
                self.rows[name] = sorted(map(dict, read), key=lambda row: (str(row.get("created")), row["id"]))

    def ask(self, query: str, variables: dict | None = None, *, tenant: str | None = None) -> dict:
        """The data; AssertionError where there are errors."""
        answer = self.answer(query, variables, tenant=tenant)
        assert "errors" not in answer, answer["errors"]
        return json.loads(json.dumps(answer["data"]))

    def answer(self, query: str, variables: dict | None = None, *, tenant: str | None = None) -> dict:
        """The data, and the messages of the errors, where there are any."""
        document = parse(query)
        if errors := validate(SCHEMA, document):
            return {"errors": [error.message for error in errors]}
        result = execute_sync(SCHEMA, document, context_value=Caller(self.server, tenant), variable_values=variables,
                              executor_class=table_fields.Executor)
        answer = {"data": result.data}
        if result.errors:
            answer["errors"] = [error.message for error in result.errors]
        return answer

    def find(self, table: str, **values: object) -> list[Row]:
        """The rows that hold these values, in the order in which they were made."""
        return [row for row in self.rows[table] if all(row[name] == value for name, value in values.items())]

    def one(self, table: str, **values: object) -> Row:
        (row,) = self.find(table, **values)
        return row

    def _add(self, table: str, **values: object) -> Row:
        rows = self.rows.setdefault(table, [])
        if "created" in tables.metadata.tables[table].c:
            values.setdefault("created", stamp(len(rows)))
        rows.append(values)
        return values

    def _plan(self) -> None:
        self._add("tenant", id=self.other, name="Other", slug="other", created="2999-01-01T00:00:00.000000+00:00")
        for tenant, name in ((self.tenant, "Image QC"), (self.tenant, "An empty one"), (self.other, "Theirs")):
            self._add("project", id=uid(name), tenant_id=tenant, name=name,
                      description=None if "empty" in name else name)
        for tenant, project, name, versions in ((self.tenant, "Image QC", "pipeline", 3),
                                                (self.tenant, "Image QC", "another", 1),
                                                (self.other, "Theirs", "pipeline", 1)):
            group = self._add("flow_group", id=uid(f"group {project} {name}"), tenant_id=tenant,
                              name=f"{project} {name}", labels=["gpu"] if name == "another" else None)
            for version in range(1, versions + 1):
                self._flow(tenant, uid(project), group["id"], name, version, newest=version == versions)
        self._add("agent_config", id=uid("config"), tenant_id=self.tenant, name="config", settings={"a": 1})
        for name, tenant in (("one", self.tenant), ("two", self.tenant), ("theirs", self.other)):
            self._add("agent", id=uid(f"agent {name}"), tenant_id=tenant, name=name,
                      type="LocalAgent", labels=["host", name], last_queried=None if name == "two" else stamp(5),
                      agent_config_id=uid("config") if name == "one" else None)
            self._add("key_value", id=uid(f"kv {name}"), tenant_id=tenant, key=name, value={"is": name})
            self._add("secret", id=uid(f"secret {name}"), tenant_id=tenant, name=name, value="hidden")
            self._add("task_tag_limit", id=uid(f"tag {name}"), tenant_id=tenant, tag=name, limit=3)
            self._add("cloud_hook", id=uid(f"hook {name}"), tenant_id=tenant, name=name, type="WEBHOOK",
                      states=["Failed", "Cancelled"], config={"url": f"https://example.org/{name}"},
                      active=name != "two", version_group_id=None if name == "one" else uid("group"))
            self._add("message", id=uid(f"message {name}"), tenant_id=tenant, type="CLOUD_HOOK",
                      text=f"about {name}", content={"state": "Failed"}, read=name == "two")

    def _flow(self, tenant: str, project: str, group: str, name: str, version: int, *, newest: bool) -> None:
        flow = uid(f"{project} {name} {version}")
        self._add("flow", id=flow, tenant_id=tenant, project_id=project, flow_group_id=group, version_group_id=group,
                  name=name, version=version, archived=not newest, description="d" * version if version > 1 else None,
                  serialized_flow={"name": name, "tasks": [{"n": 1}, {"n": 2}]}, environment={"type": "Local"},
                  storage={"type": "Local", "path": "/x"}, run_config={"labels": []}, core_version="1.4.1",
                  parameters=[{"name": "p", "default": None}], settings={"heartbeat_enabled": True},
                  is_schedule_active=newest)
        slugs = ("load", "check", "write")
        for slug in slugs:
            self._add("task", id=uid(f"{flow} {slug}"), flow_id=flow, name=slug, slug=f"{slug}-1", type="FunctionTask",
                      mapped=slug == "check", max_retries=slugs.index(slug), tags=["a"] if slug == "load" else [])
        for above, below in pairwise(slugs):
            self._add("edge", id=uid(f"{flow} {above} {below}"), flow_id=flow, mapped=below == "check", key="slide",
                      upstream_task_id=uid(f"{flow} {above}"), downstream_task_id=uid(f"{flow} {below}"))
        if newest:
            for number, state in enumerate(("Scheduled", "Running", "Success", "Failed", None)):
                self._run(tenant, flow, number, state)

    def _run(self, tenant: str, flow: str, number: int, state: str | None) -> None:
        run = uid(f"{flow} run {number}")
        started = stamp(100 + number) if state in ("Running", "Success", "Failed") else None
        self._add("flow_run", id=run, tenant_id=tenant, flow_id=flow, name=f"run-{number}", version=number, state=state,
                  state_start_time=stamp(number), serialized_state=_state(state),
                  parameters={"p": number, "of": {"é": [1, {"x": None}]}}, context={}, labels=["host", f"l{number}"],
                  start_time=started, state_timestamp=started, scheduled_start_time=stamp(50 - number),
                  auto_scheduled=number == 0,
                  agent_id=uid("agent one") if number == 1 and tenant == self.tenant else None)
        for index, one in enumerate(filter(None, ("Scheduled", state))):
            self._add("flow_run_state", flow_run_id=run, version=index, state=one, timestamp=stamp(10 * number + index),
                      start_time=stamp(number) if one == "Scheduled" else None, serialized_state=_state(one))
        for slug in ("load", "check", "write"):
            for index in (-1, 0, 1, 2) if slug == "check" else (-1,):
                self._task_run(tenant, run, uid(f"{flow} {slug}"), slug, index, state or "Pending")
        for line in range(4):
            self._add("log", flow_run_id=run, timestamp=stamp(number + line // 2), name="agent", level="INFO",
                      message=f"line {line} of 100% [{number}]", info={"line": line})

    def _task_run(self, tenant: str, run: str, task: str, slug: str, index: int, state: str) -> None:
        task_run = uid(f"{run} {slug} {index}")
        self._add("task_run", id=task_run, flow_run_id=run, task_id=task, map_index=index, version=index + 2,
                  state="Cached" if (slug, state) == ("load", "Success") else state, serialized_state=_state(state),
                  name=f"{slug}_{index}" if slug == "check" else None, cache_key="key" if slug == "load" else None,
                  state_timestamp=stamp(200),
                  state_start_time=stamp(index + 5) if state in ("Scheduled", "Running") else None)
        self._add("task_run_state", task_run_id=task_run, version=1, state=state, timestamp=stamp(3),
                  serialized_state=_state(state))
        self._add("log", flow_run_id=run, task_run_id=task_run, timestamp=stamp(2), name="task", level="DEBUG",
                  message=f"{slug} {index}", info=None)
        if slug == "write":
            self._add("task_run_artifact", id=uid(f"artifact {task_run}"), tenant_id=tenant, task_run_id=task_run,
                      kind="markdown", data={"markdown": "# x"})


def _state(name: str | None) -> Row:
    """A state as Prefect's client writes it."""
    return {"type": name or "Pending", "message": "é", "__version__": "1.4.1"}
