"""Every read of Prefect's client, agent and command line, as they write it, against rows that the tests also hold.

The names are those of shared notes on the client: R1 is the first read that it makes.
"""

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pytest
from seeds import Row, World, stamp, uid

from harness import Postgres

Data = dict[str, object]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    postgres: Postgres | None = request.getfixturevalue("postgres") if request.param == "postgresql" else None
    made = World(postgres.database() if postgres else str(tmp_path_factory.mktemp("reads") / "server.sqlite"))
    yield made
    made.database.close()


@pytest.fixture(scope="module")
def client(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Callable], list[Data]]]:
    """Calls a function, and returns the data that Prefect's client was given in the meantime."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"HOME": home, "PREFECT__HOME_DIR": home, "PREFECT__BACKEND": "server",
                            "PREFECT__USER_CONFIG_PATH": home / "config.toml",
                            "PREFECT__BACKEND_CONFIG_PATH": home / "backend.toml"}.items():
            patch.setenv(name, str(value))
        prefect = pytest.importorskip("prefect")
        from prefect.utilities.configuration import set_temporary_config
        heard: list[Data] = []

        def post(_client: object, path: str, params: dict, **_: object) -> Data:
            variables = json.loads(params["variables"])
            heard.append(world.ask(params["query"], variables))
            return {"data": heard[-1]}

        patch.setattr(prefect.Client, "post", post)

        def call(action: Callable) -> list[Data]:
            heard.clear()
            with set_temporary_config({"backend": "server", "home_dir": str(home)}):
                action(prefect)
            return list(heard)
        yield call


def pick(row: Row, *names: str, **more: object) -> Row:
    return {name: row[name] for name in names} | more


def newest(world: World, name: str = "pipeline", project: str = "Image QC") -> Row:
    return world.one("flow", name=name, project_id=uid(project), archived=False)


def run_of(world: World, number: int, name: str = "pipeline") -> Row:
    return world.one("flow_run", flow_id=newest(world, name)["id"], name=f"run-{number}")


def command(*arguments: object) -> Callable:
    """What runs a command of Prefect's command line."""
    def run(_prefect: object) -> None:
        from click.testing import CliRunner
        from prefect.cli import cli
        result = CliRunner().invoke(cli, list(map(str, arguments)))
        assert result.exit_code == 0, result.output
    return run


# tenants and projects

def test_r1_default_tenant(world: World, client: Callable) -> None:
    (data,) = client(lambda prefect: prefect.Client()._get_default_server_tenant())
    assert data["tenant"] == [{"id": world.tenant}, {"id": world.other}]


def test_r2_slug(world: World, client: Callable) -> None:
    answers = client(lambda prefect: prefect.Client().get_default_tenant_slug())
    assert {"id": world.tenant, "slug": "default"} in [data["tenant"][0] for data in answers]


def test_r3_available_tenants(world: World, client: Callable) -> None:
    (data,) = client(lambda prefect: prefect.Client().get_available_tenants())
    assert [row["slug"] for row in data["tenant"]] == ["default", "other"]


def test_r4_tenant_by_slug(world: World) -> None:
    query = "query($slug: String) { tenant(where: {slug: {_eq: $slug}}) { id } }"
    assert world.ask(query, {"slug": "other"}) == {"tenant": [{"id": world.other}]}


def test_r5_tenant_view(world: World, client: Callable) -> None:
    def view(_prefect: object) -> None:
        from prefect.backend import TenantView
        TenantView.from_tenant_id(world.other)
    assert client(view) == [{"tenant": [pick(world.one("tenant", id=world.other), "id", "slug", "name")]}]


def test_r6_project_by_name(world: World, client: Callable) -> None:
    def get(prefect: object) -> None:
        from prefect.cli.build_register import get_project_id
        assert get_project_id(prefect.Client(), "Image QC") == uid("Image QC")
    assert client(get) == [{"project": [{"id": uid("Image QC")}]}]


def test_r26_get_projects(world: World, client: Callable) -> None:
    (data,) = client(command("get", "projects"))
    expected = [pick(row, "name", "created", "description", flows_aggregate={"aggregate": {"count": len(
        {flow["name"] for flow in world.find("flow", project_id=row["id"])})}}) for row in world.rows["project"]]
    assert data["project"] == sorted(expected, key=lambda row: row["name"])
    (data,) = client(command("get", "projects", "--name", "Theirs"))
    assert [row["name"] for row in data["project"]] == ["Theirs"]


# flows and tasks

def flow_view(world: World, flow: Row) -> Row:
    return pick(flow, "id", "settings", "run_config", "serialized_flow", "name", "archived", "core_version", "storage",
                project=pick(world.one("project", id=flow["project_id"]), "name"),
                flow_group=pick(world.one("flow_group", id=flow["flow_group_id"]), "labels"))


def test_r7_flow_group_of_a_flow(world: World) -> None:
    flow = newest(world)
    asked = world.ask(f'query {{ flow_by_pk(id: "{flow["id"]}") {{\n    flow_group_id\n}} }}')
    assert asked == {"flow_by_pk": {"flow_group_id": flow["flow_group_id"]}}


def test_r8_newest_version(world: World, client: Callable) -> None:
    flow = newest(world)

    class DoneError(Exception):
        pass

    def register(prefect: object) -> None:
        from prefect.cli import build_register

        class Registering(prefect.Client):
            def graphql(self, query: dict, **options: object) -> object:
                if "variables" in options:
                    raise DoneError
                return super().graphql(query, **options)

        with pytest.raises(DoneError):
            build_register.register_serialized_flow(Registering(), {"name": "pipeline"}, uid("Image QC"))
    assert client(register) == [{"flow": [{"id": flow["id"], "version": 3}]}]


@pytest.mark.parametrize("by", ["id", "group", "name", "name and project"])
def test_r9_flow_view(world: World, client: Callable, by: str) -> None:
    flow = newest(world, "another" if by == "name" else "pipeline")

    def view(_prefect: object) -> None:
        from prefect.backend import FlowView
        if by == "id":
            FlowView._query_for_flow(where={"id": {"_eq": flow["id"]}})
        elif by == "group":
            FlowView._query_for_flows(where={"flow_group_id": {"_eq": flow["flow_group_id"]}},
                                      order_by={"created": _enum("desc")})
        else:
            where = {"name": {"_eq": flow["name"]}, "archived": {"_eq": False}}
            if by != "name":
                where["project"] = {"name": {"_eq": "Image QC"}}
            FlowView._query_for_flow(where=where)
    (data,) = client(view)
    found = world.find("flow", flow_group_id=flow["flow_group_id"])[::-1] if by == "group" else [flow]
    assert data["flow"] == [flow_view(world, row) for row in found]


def _enum(name: str) -> object:
    from prefect.utilities.graphql import EnumValue
    return EnumValue(name)


def test_r9_flow_without_a_project(world: World) -> None:
    assert world.ask("{ flow(where: {project: {name: {_is_null: true}}}) { id } }") == {"flow": []}


def test_r23_flow_to_start(world: World, client: Callable) -> None:
    def start(prefect: object) -> None:
        from prefect.tasks.prefect.flow_run import StartFlowRun
        with pytest.raises(ValueError, match="not found"):
            StartFlowRun(flow_name="none", project_name="Image QC").run(idempotency_key="x")
    assert client(start) == [{"flow": []}]
    query = """query { flow(where: { name: { _eq: "pipeline" }, archived: { _eq: false },
        project: { name: { _eq: "Image QC" } } }, order_by: { version: desc }, limit: 1) { id } }"""
    assert world.ask(query) == {"flow": [{"id": newest(world)["id"]}]}


def listed_flow(world: World, flow: Row) -> Row:
    project = pick(world.one("project", id=flow["project_id"]), "name")
    return pick(flow, "name", "version", "created", "id", project=project)


@pytest.mark.parametrize(("options", "wanted"), [
    ([], {}), (["--project", "Image QC"], {"project_id": uid("Image QC")}),
    (["--name", "another"], {"name": "another"}), (["--version", "2"], {"version": 2}), (["--limit", "1"], {})])
@pytest.mark.parametrize("all_versions", [False, True])
def test_r27_get_flows(world: World, client: Callable, options: list[str], wanted: Row, all_versions: bool) -> None:
    (data,) = client(command("get", "flows", *options, *(["--all-versions"] if all_versions else [])))
    expected = sorted(world.find("flow", **wanted), key=lambda flow: (flow["name"], -flow["version"]))
    if not all_versions:
        expected = [flow for index, flow in enumerate(expected) if flow["name"] not in
                    [other["name"] for other in expected[:index]]]
    expected = [listed_flow(world, flow) for flow in expected[:1 if "--limit" in options else 10]]
    by_version = [(row["name"], row["version"]) for row in expected]
    assert [(row["name"], row["version"]) for row in data["flow"]] == by_version
    assert all(row in [listed_flow(world, flow) for flow in world.rows["flow"]] for row in data["flow"])


def test_r29_get_tasks(world: World, client: Callable) -> None:
    (data,) = client(command("get", "tasks", "--flow-name", "pipeline", "--flow-version", 3, "--project", "Image QC"))
    flow = newest(world)
    assert data["task"] == [pick(task, "name", "created", "mapped", "type", flow=pick(flow, "name", "version"))
                            for task in world.find("task", flow_id=flow["id"])[::-1]]
    (data,) = client(command("get", "tasks", "--limit", 4))
    assert [row["created"] for row in data["task"]] == [task["created"] for task in world.rows["task"][:-5:-1]]


def test_r31_describe_flows(world: World, client: Callable) -> None:
    (data,) = client(command("describe", "flows", "--name", "pipeline", "--project", "Image QC"))
    assert data["flow"] == [pick(newest(world), "name", "version", "created", "description", "parameters", "archived",
                                 "storage", "environment", project={"name": "Image QC"})]


def test_r32_describe_tasks(world: World, client: Callable) -> None:
    (data,) = client(command("describe", "tasks", "--name", "pipeline", "--version", 2, "--project", "Image QC"))
    flow = world.one("flow", name="pipeline", version=2)
    tasks = [pick(task, "name", "created", "slug", "description", "type", "max_retries", "retry_delay", "mapped")
             for task in world.find("task", flow_id=flow["id"])]
    assert data["flow"] == [{"tasks": tasks}]


# flow runs

def test_r10_runs_that_an_agent_takes(world: World, client: Callable) -> None:
    runs = [run_of(world, number) for number in range(5)]
    runs_of_tasks = {run["id"]: world.find("task_run", flow_run_id=run["id"]) for run in runs}

    def take(prefect: object) -> None:
        from prefect.agent.local import LocalAgent
        agent = LocalAgent(hostname_label=False)
        agent.client = prefect.Client()
        agent._get_flow_run_metadata([run["id"] for run in runs])
    (data,) = client(take)
    assert runs[1]["state"] == "Running"
    flow = pick(newest(world), "id", "name", "environment", "storage", "version", "core_version")
    due = [[pick(task_run, "id", "version", "task_id", "serialized_state") for task_run in runs_of_tasks[run["id"]]
            if task_run["state_start_time"]] for run in runs]  # all of which lie in the past
    taken = [index for index, run in enumerate(runs) if run["state"] == "Scheduled" or (
        run["state"] == "Running" and due[index])]
    assert data["flow_run"] == [
        pick(runs[index], "id", "version", "state", "serialized_state", "parameters", "scheduled_start_time",
             "run_config", "name", flow=flow, task_runs=due[index]) for index in taken]


def test_r12_what_a_run_executes(world: World) -> None:
    run = run_of(world, 2)
    query = f"""query {{ flow_run(where: {{ id: {{ _eq: "{run['id']}" }} }}) {{
        flow {{ name storage run_config }} version }} }}"""
    flow = pick(newest(world), "name", "storage", "run_config")
    assert world.ask(query) == {"flow_run": [{"flow": flow, "version": 2}]}


def test_r13_flow_run_info(world: World, client: Callable) -> None:
    run = run_of(world, 1)
    (data,) = client(lambda prefect: prefect.Client().get_flow_run_info(run["id"]))
    task_runs = [pick(row, "id", "version", "serialized_state",
                      task=pick(world.one("task", id=row["task_id"]), "id", "slug"))
                 for row in world.find("task_run", flow_run_id=run["id"], map_index=-1)]
    assert len(task_runs) == 3
    assert data["flow_run_by_pk"] == pick(
        run, "id", "name", "flow_id", "parameters", "context", "version", "scheduled_start_time", "serialized_state",
        task_runs=task_runs, flow={"project": {"name": "Image QC", "id": uid("Image QC")}})


def test_r13_no_such_flow_run(world: World, client: Callable) -> None:
    def ask(prefect: object) -> None:
        with pytest.raises(prefect.exceptions.ClientError, match="Flow run ID not found"):
            prefect.Client().get_flow_run_info(uid("nothing"))
    assert client(ask) == [{"flow_run_by_pk": None}]


def test_r14_heartbeat_settings(world: World) -> None:
    query = f'query {{ flow_run_by_pk(id: "{run_of(world, 1)["id"]}") {{ flow {{ settings }} }} }}'
    assert world.ask(query) == {"flow_run_by_pk": {"flow": {"settings": {"heartbeat_enabled": True}}}}


def test_r15_flow_run_state(world: World, client: Callable) -> None:
    run = run_of(world, 3)
    assert client(lambda prefect: prefect.Client().get_flow_run_state(run["id"])) == [
        {"flow_run_by_pk": {"serialized_state": run["serialized_state"]}}]


def test_r18_flow_run_view(world: World, client: Callable) -> None:
    run = run_of(world, 3)

    def view(_prefect: object) -> None:
        from prefect.backend import FlowRunView
        FlowRunView._query_for_flow_run(where={"id": {"_eq": run["id"]}})
    (data,) = client(view)
    states = [pick(row, "timestamp", "serialized_state") for row in world.find("flow_run_state", flow_run_id=run["id"])]
    assert len(states) == 2
    assert data["flow_run"] == [pick(run, "id", "name", "flow_id", "serialized_state", "labels", "parameters",
                                     "context", "updated", "run_config", states=states)]


@pytest.mark.parametrize("since", [None, 1])
def test_r19_logs(world: World, client: Callable, since: float | None) -> None:
    run = run_of(world, 1)

    def logs(_prefect: object) -> None:
        import pendulum
        from prefect.backend import FlowRunView
        view = FlowRunView._from_flow_run_data(FlowRunView._query_for_flow_run({"id": {"_eq": run["id"]}}))
        view.updated_at = view.states[-1].timestamp if view.states else view.updated_at
        view.get_logs(start_time=pendulum.parse(stamp(since)) if since is not None else None,
                      end_time=pendulum.parse(stamp(2)))
    *_, data = client(logs)
    expected = sorted((row for row in world.find("log", flow_run_id=run["id"])
                       if row["timestamp"] <= stamp(2) and (since is None or row["timestamp"] > stamp(since))),
                      key=lambda row: (row["timestamp"], row["id"]))
    assert 0 < len(expected) <= 10
    assert data["flow_run"] == [{"logs": [pick(row, "timestamp", "message", "level") for row in expected]}]


def test_r20_agents(world: World, client: Callable) -> None:
    def check(_prefect: object) -> None:
        from prefect.backend.flow_run import check_for_compatible_agents
        check_for_compatible_agents(["host"])
    (data,) = client(check)
    assert data["agent"] == [pick(row, "last_queried", "labels", "name", "id") for row in world.rows["agent"]]


def test_r24_scheduled_start(world: World, client: Callable) -> None:
    run = run_of(world, 2)

    def ask(_prefect: object) -> None:
        from prefect.backend.execution import _get_flow_run_scheduled_start_time
        _get_flow_run_scheduled_start_time(run["id"])
    (data,) = client(ask)
    states = [pick(row, "start_time", "created") for row in
              world.find("flow_run_state", flow_run_id=run["id"], state="Scheduled")]
    assert data["flow_run"] == [pick(run, "scheduled_start_time", states=states)]


@pytest.mark.parametrize(("options", "number_of"), [([], 10), (["--limit", 2], 2), (["--started"], 10),
                                                    (["--flow", "another", "--project", "Image QC"], 10)])
def test_r28_get_flow_runs(world: World, client: Callable, options: list[object], number_of: int) -> None:
    (data,) = client(command("get", "flow-runs", *options))
    runs = world.rows["flow_run"][::-1]
    if "--flow" in options:
        runs = [run for run in runs if run["flow_id"] == newest(world, "another")["id"]]
    if "--started" in options:
        runs = sorted((run for run in runs if run["start_time"]), key=lambda run: run["start_time"], reverse=True)
        assert [run["start_time"] for run in data["flow_run"]] == [run["start_time"] for run in runs]
        return
    assert data["flow_run"] == [pick(run, "id", "created", "state", "name", "start_time",
                                     flow=pick(world.one("flow", id=run["flow_id"]), "name"))
                                for run in runs[:number_of]]


@pytest.mark.parametrize("info", [False, True])
def test_r30_get_logs(world: World, client: Callable, info: bool) -> None:
    run = run_of(world, 2)
    (data,) = client(command("get", "logs", "--id", run["id"], *(["--info"] if info else [])))
    rows = sorted(world.find("log", flow_run_id=run["id"]), key=lambda row: (row["timestamp"], row["id"]))
    shown = ("timestamp", "info") if info else ("timestamp", "message", "level")
    assert data["flow_run"] == [pick(run, "start_time", logs=[pick(row, *shown) for row in rows])]


def test_r33_describe_flow_run(world: World, client: Callable) -> None:
    (data,) = client(command("describe", "flow-runs", "--name", "run-2"))
    assert data["flow_run"] == [
        pick(run, "name", "created", "parameters", "auto_scheduled", "scheduled_start_time", "start_time", "end_time",
             "serialized_state", flow=pick(world.one("flow", id=run["flow_id"]), "name"))
        for run in world.find("flow_run", name="run-2")]


# task runs

@pytest.mark.parametrize("by_key", [False, True])
def test_r17_cached_states(world: World, client: Callable, by_key: bool) -> None:
    task = world.one("task", flow_id=newest(world)["id"], slug="load-1")
    since = datetime.fromisoformat(stamp(199)).replace(tzinfo=None)
    key = "key" if by_key else None
    (data,) = client(lambda prefect: prefect.Client().get_latest_cached_states(task["id"], key, since))
    cached = world.find("task_run", state="Cached", **({"cache_key": "key"} if by_key else {"task_id": task["id"]}))
    assert len(cached) == (3 if by_key else 1)
    assert data["task_run"] == [pick(row, "serialized_state") for row in cached]
    later = since + timedelta(minutes=5)
    (data,) = client(lambda prefect: prefect.Client().get_latest_cached_states(task["id"], None, later))
    assert data["task_run"] == []


def task_run_view(world: World, task_run: Row) -> Row:
    return pick(task_run, "id", "name", "map_index", "serialized_state", "flow_run_id",
                task=pick(world.one("task", id=task_run["task_id"]), "id", "slug"))


def test_r21_task_run_ids(world: World) -> None:
    run = run_of(world, 1)
    query = f'query {{ task_run(where: {{ flow_run_id: {{ _eq: "{run["id"]}" }} }}) {{ id }} }}'
    assert world.ask(query) == {"task_run": [pick(row, "id") for row in world.find("task_run", flow_run_id=run["id"])]}


@pytest.mark.parametrize("case", ["id", "all but none", "all but some", "parents", "slug", "children"])
def test_r22_task_run_view(world: World, client: Callable, case: str) -> None:
    run = run_of(world, 1)
    rows = world.find("task_run", flow_run_id=run["id"])
    mapped = world.one("task", flow_id=run["flow_id"], slug="check-1")
    in_run = {"flow_run_id": {"_eq": run["id"]}}
    order = None
    if case == "id":
        where, expected = {"id": {"_eq": rows[2]["id"]}}, [rows[2]]
    elif case == "all but none":
        where, expected = {**in_run, "id": {"_nin": []}}, rows
    elif case == "all but some":
        where, expected = {**in_run, "id": {"_nin": [rows[0]["id"], rows[3]["id"]]}}, [*rows[1:3], *rows[4:]]
    elif case == "parents":
        where, expected = {"map_index": {"_eq": -1}, **in_run, "id": {"_nin": [rows[0]["id"]]}}, [
            row for row in rows[1:] if row["map_index"] == -1]
    elif case == "slug":
        where = {"task": {"slug": {"_eq": "check-1"}}, **in_run, "map_index": {"_eq": 1}}
        expected = [row for row in rows if row["task_id"] == mapped["id"] and row["map_index"] == 1]
    else:
        where = {"task": {"slug": {"_eq": "check-1"}}, **in_run, "map_index": {"_neq": -1}}
        expected = [row for row in rows if row["task_id"] == mapped["id"] and row["map_index"] != -1]
        order = True

    def view(_prefect: object) -> None:
        from prefect.backend import TaskRunView
        TaskRunView._query_for_task_runs(where=where, order_by={"map_index": _enum("asc")} if order else None)
    (data,) = client(view)
    assert data["task_run"] == [task_run_view(world, row) for row in expected]


def test_r25_next_task_run(world: World, client: Callable) -> None:
    run = run_of(world, 1)

    def ask(_prefect: object) -> None:
        from prefect.backend.execution import _get_next_task_run_start_time
        _get_next_task_run_start_time(run["id"])
    (data,) = client(ask)
    assert data["task_run"] == [pick(row, "state_start_time") for row in world.find("task_run", flow_run_id=run["id"])
                                if row["state_start_time"]]
    assert len(data["task_run"]) == 6


# agents' settings, and what only Cloud has

def test_r34_agent_config(world: World) -> None:
    query = f'query {{ agent_config(where: {{ id: {{ _eq: "{uid("config")}" }} }}) {{ settings }} }}'
    assert world.ask(query) == {"agent_config": [{"settings": {"a": 1}}]}


def test_r35_task_tag_limit(world: World) -> None:
    query = '{ task_tag_limit(where: {tag: {_eq: "one"}}) { limit } }'
    assert world.ask(query, tenant=world.tenant) == {"task_tag_limit": [{"limit": 3}]}


def test_r36_key_value(world: World) -> None:
    query = '{ key_value(where: {key: {_eq: "one"}}) { id value key } }'
    assert world.ask(query, tenant=world.tenant) == {"key_value": [pick(world.one("key_value", key="one"),
                                                                        "id", "value", "key")]}
