"""Projects, and flows that are registered with them: versions, archiving, what the server works out of a flow."""

import json
from datetime import timedelta

import prefect
import pytest
from prefect import Flow, Parameter, Task, task, unmapped
from prefect.exceptions import ClientError
from prefect.schedules import IntervalSchedule
from prefect.utilities.graphql import compress

from workspace import Workspace, plain_flow

VERSION = "version archived version_group_id flow_group_id is_schedule_active"


def hourly(name: str = "plain") -> Flow:
    flow = plain_flow("a", name=name)
    flow.schedule = IntervalSchedule(interval=timedelta(hours=1))
    return flow


# projects

def test_a_project_that_exists(space: Workspace) -> None:
    assert space.client.create_project(space.project) == space.project_id
    assert space.problem("create_project", name=space.project, tenant_id=space.tenant) == "Uniqueness violation."
    assert [row["id"] for row in space.rows("project", "id", tenant_id=space.tenant)] == [space.project_id]


def test_projects_of_two_tenants_may_share_a_name(space: Workspace) -> None:
    other = Workspace(space.server)
    assert other.client.create_project(space.project) not in (space.project_id, other.project_id)


def test_a_deleted_project_takes_all_with_it(space: Workspace) -> None:
    run_id = space.running("a", "b")
    task_run = space.task_run(run_id)
    space.client.set_task_run_state(task_run, prefect.engine.state.Running(), version=0)
    space.client.write_run_logs([{"flow_run_id": run_id, "task_run_id": task_run, "message": "hello"}])
    artifact = space.client.create_task_run_artifact(task_run, "link", {"link": "https://example.org"})
    flow_id = space.read("flow_run", run_id, "flow_id")["flow_id"]
    group = space.read("flow", flow_id, "flow_group_id")["flow_group_id"]
    assert space.client.delete_project(space.project) is True
    for table, row_id in (("project", space.project_id), ("flow", flow_id), ("flow_group", group),
                          ("flow_run", run_id), ("task_run", task_run), ("task_run_artifact", artifact)):
        assert space.read(table, row_id, "id") is None, table
    for table, where in (("task", {"flow_id": flow_id}), ("edge", {"flow_id": flow_id}),
                         ("log", {"flow_run_id": run_id}), ("flow_run_state", {"flow_run_id": run_id}),
                         ("task_run_state", {"task_run_id": task_run})):
        assert space.rows(table, "id", "{id: asc}", **where) == [], table
    with pytest.raises(ValueError, match="not found"):
        space.client.delete_project(space.project)


def test_a_project_that_is_not_there(space: Workspace) -> None:
    with pytest.raises(ValueError, match="prefect create project 'Nowhere'"):
        space.register(plain_flow("a"), project_name="Nowhere")
    nobody = "00000000-0000-4000-8000-000000000000"
    assert "not found" in space.problem("create_flow", project_id=nobody, serialized_flow=plain_flow("a").serialize())
    assert "not found" in space.problem("delete_project", project_id=nobody)


# versions

def test_versions(space: Workspace) -> None:
    first, second = space.flow("a"), space.flow("a", "b")
    other = space.register(plain_flow("a", name="another"))
    one, two, three = (space.read("flow", flow_id, VERSION) for flow_id in (first, second, other))
    assert (one["version"], two["version"], three["version"]) == (1, 2, 1)
    assert (one["archived"], two["archived"], three["archived"]) == (True, False, False)
    assert one["is_schedule_active"] is False and two["is_schedule_active"] is True
    for same in ("version_group_id", "flow_group_id"):
        assert one[same] == two[same] != three[same]
    assert len(space.rows("task", "id", flow_id=second)) == 2 and len(space.rows("task", "id", flow_id=first)) == 1


def test_a_version_group_id_goes_before_the_name(space: Workspace) -> None:
    first = space.register(plain_flow("a"), version_group_id="0c2a")
    renamed = space.register(plain_flow("a", name="new name"), version_group_id="0c2a")
    one, two = space.read("flow", first, VERSION), space.read("flow", renamed, VERSION)
    assert one["version_group_id"] == two["version_group_id"] == "0c2a"
    assert (two["version"], one["archived"], one["flow_group_id"]) == (2, True, two["flow_group_id"])


def test_an_idempotency_key_returns_the_newest_version(space: Workspace) -> None:
    first = space.flow("a", idempotency_key="k1")
    assert space.flow("a", idempotency_key="k1") == first
    second = space.flow("a", idempotency_key="k2")
    third = space.flow("a", idempotency_key="k1")  # not the newest one's any more
    assert len({first, second, third}) == 3
    assert [row["version"] for row in space.rows("flow", "version", name="plain", project_id=space.project_id)] == [
        1, 2, 3]


def test_runs_of_an_older_version(space: Workspace) -> None:
    """Those of the schedule are dropped, those that somebody asked for are cancelled, what runs goes on."""
    flow_id = space.register(hourly())
    planned = space.rows("flow_run", "id auto_scheduled", flow_id=flow_id)
    assert len(planned) == 10 and all(run["auto_scheduled"] for run in planned)
    asked, runs = (space.client.create_flow_run(flow_id=flow_id) for _ in range(2))
    space.client.set_flow_run_state(runs, prefect.engine.state.Running(), version=1)
    newer = space.register(hourly())
    left = space.rows("flow_run", "id state", flow_id=flow_id)
    assert {run["id"]: run["state"] for run in left} == {asked: "Cancelled", runs: "Running"}
    assert {row["state"] for row in space.rows("task_run", "state", flow_run_id=asked)} == {"Cancelled"}
    assert len(space.rows("flow_run", "id", flow_id=newer)) == 10


def test_a_schedule_switched_off(space: Workspace) -> None:
    flow_id = space.register(hourly(), set_schedule_active=False)
    assert space.rows("flow_run", "id", flow_id=flow_id) == []
    space.do("set_schedule_active", flow_id=flow_id)
    assert len(space.rows("flow_run", "id", flow_id=flow_id)) == 10
    space.do("set_schedule_inactive", flow_id=flow_id)
    assert space.rows("flow_run", "id", flow_id=flow_id) == []


# what travels, and what is worked out of it

@pytest.mark.parametrize("number", [500, 501, 1001])
def test_tasks_in_batches(space: Workspace, number: int) -> None:
    """The client sends 500 tasks or edges at a time, and one empty batch after a last one that is full."""
    first, *others = tasks = [Task(name=f"task {index}") for index in range(number)]
    flow = Flow("long", tasks=tasks)
    for each in others:
        flow.add_edge(first, each)
    flow_id = space.register(flow)
    found = space.rows("task", "name is_root_task is_terminal_task", flow_id=flow_id)
    assert {row["name"] for row in found} == {each.name for each in tasks} and len(found) == number
    assert [row["name"] for row in found if row["is_root_task"]] == [first.name]
    assert {row["name"] for row in found if row["is_terminal_task"]} == {each.name for each in others}
    edges = space.rows("edge", "upstream_task { name } downstream_task { name }", "{id: asc}", flow_id=flow_id)
    assert {(row["upstream_task"]["name"], row["downstream_task"]["name"]) for row in edges} == {
        (first.name, each.name) for each in others} and len(edges) == number - 1
    run_id = space.client.create_flow_run(flow_id=flow_id)
    assert len(space.rows("task_run", "id", flow_run_id=run_id)) == number


def test_batches_sent_twice_count_once(space: Workspace) -> None:
    flow_id = space.flow("a")
    serialized = mapped_flow().serialize()
    for _ in range(2):
        space.do("register_tasks", flow_id=flow_id, serialized_tasks=serialized["tasks"])
        space.do("register_edges", flow_id=flow_id, serialized_edges=serialized["edges"])
    assert len(space.rows("task", "id", flow_id=flow_id)) == 1 + len(serialized["tasks"])
    assert len(space.rows("edge", "id", "{id: asc}", flow_id=flow_id)) == len(serialized["edges"])


def mapped_flow() -> Flow:
    @task(max_retries=3, retry_delay=timedelta(seconds=90), tags=["b", "a"])
    def load(name: str) -> str:
        """Reads."""

    @task(trigger=prefect.triggers.all_finished)
    def table(rows: list) -> None:
        """Writes."""

    with Flow("mapped") as flow:
        names, size = Parameter("names", required=True), Parameter("size", default=7)
        rows = load.map(names, upstream_tasks=[unmapped(size)])
        table(rows)
    flow.set_reference_tasks([rows])
    return flow


@pytest.mark.parametrize("compressed", [True, False])
def test_columns_of_tasks(space: Workspace, compressed: bool) -> None:
    flow_id = space.register(mapped_flow(), compressed=compressed)
    columns = "name mapped is_root_task is_terminal_task is_reference_task max_retries retry_delay type tags trigger"
    tasks = {row.pop("name"): row for row in space.rows("task", columns, flow_id=flow_id)}
    assert set(tasks) == {"names", "size", "load", "table"}
    for column, those in (("mapped", {"load"}), ("is_root_task", {"names", "size"}), ("is_terminal_task", {"table"}),
                          ("is_reference_task", {"load"})):
        assert {name for name, row in tasks.items() if row[column]} == those, column
    assert tasks["load"]["max_retries"] == 3 and tasks["load"]["retry_delay"] == "0:01:30"
    assert sorted(tasks["load"]["tags"]) == ["a", "b"] and tasks["table"]["max_retries"] == 0
    assert tasks["names"]["type"].endswith("Parameter") and tasks["table"]["trigger"].endswith("all_finished")
    edges = space.rows("edge", "key mapped upstream_task { name } downstream_task { name }", "{id: asc}",
                       flow_id=flow_id)
    assert {(row["upstream_task"]["name"], row["downstream_task"]["name"]): (row["key"], row["mapped"])
            for row in edges} == {("names", "load"): ("name", True), ("size", "load"): (None, False),
                                  ("load", "table"): ("rows", False)}
    row = space.read("flow", flow_id, "parameters settings core_version run_config storage environment name")
    assert {each["name"]: each["required"] for each in row["parameters"]} == {"names": True, "size": False}
    assert row["core_version"] == prefect.__version__ and row["settings"]["heartbeat_enabled"] is True


def test_both_ways_leave_the_same_flow(space: Workspace) -> None:
    """In one compressed string, as `prefect register` sends it, and in parts, as `flow.register` does."""
    flow = mapped_flow()
    parts = space.register(flow)
    whole = space.do("create_flow_from_compressed_string", project_id=space.project_id, set_schedule_active=True,
                     serialized_flow=compress(flow.serialize()))["id"]
    for table, columns in (("task", "name slug mapped is_root_task is_terminal_task is_reference_task type tags"),
                           ("edge", "key mapped upstream_task { slug } downstream_task { slug }")):
        one, two = (sorted(map(json.dumps, space.rows(table, columns, "{id: asc}", flow_id=flow_id)))
                    for flow_id in (parts, whole))
        assert one == two and one
    assert space.read("flow", parts, "serialized_flow parameters") == space.read(
        "flow", whole, "serialized_flow parameters")


@pytest.mark.parametrize("broken", ["", "no base64!", "bm8gZ3ppcA=="])
def test_what_is_no_compressed_flow(space: Workspace, broken: str) -> None:
    assert "not a compressed flow" in space.problem("create_flow_from_compressed_string", project_id=space.project_id,
                                                    serialized_flow=broken)


def test_an_archived_flow_cannot_be_switched_on(space: Workspace) -> None:
    first, _ = space.flow("a"), space.flow("b")
    with pytest.raises(ClientError, match="archived"):
        space.client.create_flow_run(flow_id=first)
    space.do("set_schedule_active", "success", flow_id=first)  # which two registrations at a time may come to
    assert space.read("flow", first, "is_schedule_active") == {"is_schedule_active": False}
    group = space.read("flow", first, "flow_group_id")["flow_group_id"]
    space.do("set_flow_group_schedule", "success", flow_group_id=group, interval_clocks=[{"interval": 3600}])
    assert "archived" in space.problem("set_schedule_active", flow_id=first)
