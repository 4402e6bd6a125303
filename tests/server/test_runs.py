"""Flow runs: how they come to be, and which agent is offered them."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import prefect
import pytest
from prefect import Flow, Parameter
from prefect.engine.state import Paused, Queued, Resume, Retrying, Running, Scheduled, Success
from prefect.exceptions import ClientError
from prefect.run_configs import LocalRun

from workshop_server.store import timestamps
from workspace import Workspace, plain_flow

NOBODY = "00000000-0000-4000-8000-000000000000"
RUN = "state version labels parameters context name scheduled_start_time auto_scheduled run_config start_time end_time"


# a new run

def test_a_new_run(space: Workspace) -> None:
    run_id = space.run("a", "b")
    run = space.read("flow_run", run_id, RUN)
    assert (run["state"], run["version"], run["labels"], run["parameters"], run["context"]) == (
        "Scheduled", 1, [], {}, {})
    assert run["auto_scheduled"] is False and run["start_time"] is run["end_time"] is None
    assert run["scheduled_start_time"] <= timestamps.now() and "-" in run["name"]
    tasks = space.rows("task_run", "state version map_index run_count task { name }", flow_run_id=run_id)
    assert sorted(each.pop("task")["name"] for each in tasks) == ["a", "b"]
    assert all(each == {"state": "Pending", "version": 0, "map_index": -1, "run_count": 0} for each in tasks)


def test_all_that_a_run_may_be_given(space: Workspace) -> None:
    start = datetime(2040, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=5)))
    run_id = space.run(parameters={"size": [1, {"x": None}]}, context={"note": "ü"}, labels=["b", "a"],
                       scheduled_start_time=start, run_name="slide 1.svs", run_config=LocalRun(working_dir="/here"))
    run = space.read("flow_run", run_id, RUN + " state_start_time")
    assert run["parameters"] == {"size": [1, {"x": None}]} and run["context"] == {"note": "ü"}
    assert sorted(run["labels"]) == ["a", "b"] and run["name"] == "slide 1.svs"
    assert run["scheduled_start_time"] == run["state_start_time"] == "2040-01-01T22:04:05.000000+00:00"
    assert run["run_config"]["type"] == "LocalRun" and run["run_config"]["working_dir"] == "/here"
    info = space.client.get_flow_run_info(run_id)  # as the process of the run reads it
    assert info.scheduled_start_time == start and info.parameters == run["parameters"]
    assert info.context == run["context"] and info.project.name == space.project


def test_an_idempotency_key_makes_one_run_of_a_flow(space: Workspace) -> None:
    one, two = space.flow("a"), space.register(plain_flow("a", name="another"))
    first, again, other = (space.client.create_flow_run(flow_id=flow_id, idempotency_key="k")
                           for flow_id in (one, one, two))
    assert first == again != other
    assert len(space.rows("task_run", "id", flow_run_id=first)) == 1


def test_a_key_sent_by_many_at_once_makes_one_run(space: Workspace) -> None:
    flow_id = space.flow("a", "b")
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: space.do("create_flow_run", flow_id=flow_id, idempotency_key="k")["id"],
                                range(8)))
    (run,) = space.rows("flow_run", "id version", flow_id=flow_id)
    assert {*made} == {run["id"]} and run["version"] == 1
    assert len(space.rows("task_run", "id", flow_run_id=run["id"])) == 2


def with_parameters() -> Flow:
    return Flow("with parameters", tasks=[Parameter("file_name", required=True), Parameter("size", default=7)])


def test_a_required_parameter(space: Workspace) -> None:
    flow_id = space.register(with_parameters())
    with pytest.raises(ClientError, match="file_name"):
        space.client.create_flow_run(flow_id=flow_id, parameters={"size": 1})
    assert space.rows("flow_run", "id", flow_id=flow_id) == []
    run_id = space.client.create_flow_run(flow_id=flow_id, parameters={"file_name": None})
    assert space.read("flow_run", run_id, "parameters") == {"parameters": {"file_name": None}}


@pytest.mark.parametrize("given", [{"parameters": [1]}, {"context": "x"}, {"run_config": 7}], ids=str)
def test_what_has_to_be_an_object(space: Workspace, given: dict) -> None:
    answer = space.attempt("create_flow_run", flow_id=space.flow("a"), **given)
    assert answer["errors"][0]["extensions"] == {"code": "BAD_REQUEST"} and "object" in answer["errors"][0]["message"]


def test_default_parameters_of_a_flow_group(space: Workspace) -> None:
    flow_id = space.register(with_parameters())
    group = space.read("flow", flow_id, "flow_group_id")["flow_group_id"]
    space.do("set_flow_group_default_parameters", flow_group_id=group, parameters={"file_name": "a", "size": 1})
    run_id = space.client.create_flow_run(flow_id=flow_id, parameters={"size": 2})
    assert space.read("flow_run", run_id, "parameters") == {"parameters": {"file_name": "a", "size": 2}}


def test_a_run_of_a_version_group(space: Workspace) -> None:
    space.flow("a", version_group_id="images")
    newest = space.flow("b", version_group_id="images")
    run_id = space.client.create_flow_run(version_group_id="images")
    assert space.read("flow_run", run_id, "flow_id") == {"flow_id": newest}
    with pytest.raises(ClientError, match="not found"):
        space.client.create_flow_run(version_group_id="no such")


def test_runs_of_what_is_not_there(space: Workspace) -> None:
    with pytest.raises(ClientError, match="not found"):
        space.client.create_flow_run(flow_id=NOBODY)
    with pytest.raises(ClientError, match="not found"):
        space.client.get_flow_run_info(NOBODY)
    assert "flow_id or a version_group_id" in space.problem("create_flow_run")


def test_labels_and_where_they_come_from(space: Workspace) -> None:
    """Argument, run config of the run, flow group, run config of the flow: the first that has some."""
    flow = plain_flow("a")
    flow.run_config = LocalRun(labels=["flow"])
    flow_id = space.register(flow)
    group = space.read("flow", flow_id, "flow_group_id")["flow_group_id"]

    def labels(**options: object) -> list[str]:
        run_id = space.client.create_flow_run(flow_id=flow_id, **options)
        return space.read("flow_run", run_id, "labels")["labels"]

    assert labels() == ["flow"]
    space.do("set_flow_group_labels", flow_group_id=group, labels=["group"])
    assert labels() == ["group"]
    assert labels(run_config=LocalRun(labels=["run"])) == ["run"]
    assert labels(run_config=LocalRun(labels=["run"]), labels=["argument"]) == ["argument"]
    assert labels(labels=[]) == []
    space.do("set_flow_group_labels", flow_group_id=group, labels=None)
    assert labels() == ["flow"]


# the queue

def test_labels_and_who_is_offered_what(space: Workspace) -> None:
    flow_id = space.flow("a")
    plain, one, two = (space.client.create_flow_run(flow_id=flow_id, labels=labels)
                       for labels in ([], ["x"], ["x", "y"]))
    assert space.queue() == [plain]
    assert space.queue("x") == [one] and space.queue("y") == []
    assert space.queue("y", "z", "x") == [one, two]
    space.do("set_flow_run_labels", flow_run_id=two, labels=["z"])
    assert space.queue("z") == [two] and space.queue("x", "y") == [one]


def test_what_is_due_comes_in_order_and_25_at_most(space: Workspace) -> None:
    flow_id = space.flow("a")
    now = datetime.now(UTC)
    late, *due = [space.client.create_flow_run(flow_id=flow_id, scheduled_start_time=now + timedelta(minutes=minutes))
                  for minutes in (30, *range(-1, -28, -1))]
    assert space.queue() == due[::-1][:25]
    for run_id in due[5:]:
        space.client.cancel_flow_run(run_id)
    assert space.queue() == due[:5][::-1]
    in_an_hour = (now + timedelta(hours=1)).isoformat()
    assert space.queue(before=in_an_hour) == [*due[:5][::-1], late]


@pytest.mark.parametrize("state", [Scheduled(), Paused(start_time=datetime.now(UTC)), Resume(), Retrying(),
                                   Queued()], ids=lambda state: type(state).__name__)
def test_states_that_wait_for_an_agent(space: Workspace, state: prefect.engine.state.State) -> None:
    run_id = space.running()
    assert space.queue() == []
    space.client.set_flow_run_state(run_id, state)
    assert space.queue() == [run_id]


def test_no_start_time_means_now(space: Workspace) -> None:
    run_id = space.running()
    state = Scheduled().serialize() | {"start_time": None}
    space.do("set_flow_run_states", "states { id }", states=[{"flow_run_id": run_id, "state": state}])
    assert space.queue() == [run_id]


def test_a_running_run_whose_task_run_waits(space: Workspace) -> None:
    """A retry over ten minutes: the process has ended, and an agent takes the run up when it is due."""
    run_id = space.running("a", "b")
    task_run = space.task_run(run_id)
    space.client.set_task_run_state(task_run, Running(), version=0)
    retry = datetime.now(UTC) + timedelta(minutes=20)
    space.client.set_task_run_state(task_run, Retrying(start_time=retry), version=1)
    other = space.client.create_flow_run(flow_id=space.read("flow_run", run_id, "flow_id")["flow_id"])
    assert space.queue() == [other]
    assert space.queue(before=(retry + timedelta(seconds=1)).isoformat()) == [other, run_id]
    space.client.set_task_run_state(task_run, Running(), version=2)
    assert space.queue(before=(retry + timedelta(seconds=1)).isoformat()) == [other]


def test_what_is_not_offered(space: Workspace) -> None:
    submitted, running, done, cancelled = (space.run() for _ in range(4))
    space.agent("one").set_flow_run_state(submitted, prefect.engine.state.Submitted(), version=1)
    space.client.set_flow_run_state(running, Running(), version=1)
    space.client.set_flow_run_state(done, Success())
    space.client.cancel_flow_run(cancelled)
    assert space.queue() == []


def test_an_agent_is_offered_the_runs_of_its_tenant(space: Workspace) -> None:
    other = Workspace(space.server)
    mine, theirs = space.run(), other.run()
    assert space.queue() == [mine] and other.queue() == [theirs]


# agents

def test_an_agent_is_listed_and_lives_while_it_polls(space: Workspace) -> None:
    agent = space.agent("reader")
    (row,) = space.rows("agent", "id name type labels core_version last_queried", tenant_id=space.tenant)
    assert (row["name"], row["type"], row["core_version"]) == ("reader", "LocalAgent", prefect.__version__)
    poll = {"tenant_id": space.tenant, "labels": [], "before": timestamps.now()}
    agent.graphql("mutation($input: get_runs_in_queue_input!) { get_runs_in_queue(input: $input) { flow_run_ids } }",
                  variables={"input": poll})
    assert space.read("agent", row["id"], "last_queried")["last_queried"] > row["last_queried"]
    run_id = space.run()
    agent.set_flow_run_state(run_id, prefect.engine.state.Submitted(), version=1)
    assert space.read("flow_run", run_id, "agent { name }") == {"agent": {"name": "reader"}}


def test_agent_config(space: Workspace) -> None:
    config = space.do("create_agent_config", tenant_id=space.tenant, name="room", settings={"labels": ["x"]})["id"]
    assert space.client.get_agent_config(config) == {"labels": ["x"]}
    agent = space.client.register_agent("LocalAgent", agent_config_id=config)
    assert space.read("agent", agent, "agent_config_id") == {"agent_config_id": config}
