"""States of runs: which may follow which, what counts once, what a run's row says, cancelling and restarting."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from prefect import Client, Flow, Parameter, task
from prefect.engine import state
from prefect.engine.state import (
    Cached,
    Cancelled,
    Cancelling,
    Failed,
    Looped,
    Mapped,
    Paused,
    Pending,
    Queued,
    Resume,
    Retrying,
    Running,
    Scheduled,
    Skipped,
    Submitted,
    Success,
    TimedOut,
    TriggerFailed,
)
from prefect.exceptions import ClientError

from harness import RunningServer
from workspace import Workspace, as_client_of

ROW = "state version state_message state_timestamp state_start_time start_time end_time serialized_state"
KINDS = [Pending, Scheduled, Paused, Resume, Retrying, Queued, Submitted, Running, Cancelling, Cancelled, Success,
         Failed, TimedOut, TriggerFailed, Skipped, Cached, Looped, Mapped]
WAITING = (Scheduled, Paused, Resume, Retrying, Queued)
named = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


@pytest.fixture(scope="module")
def common(shared_either: RunningServer) -> Iterator[Workspace]:
    """One tenant for all tests that look at nothing but runs of their own."""
    with as_client_of(shared_either):
        yield Workspace(shared_either)


def flow_run(space: Workspace, run_id: str, columns: str = ROW) -> dict:
    return space.read("flow_run", run_id, columns)


def reach(space: Workspace, run_id: str, sent: state.State) -> None:
    """Bring a run that is Running into a state."""
    if isinstance(sent, Submitted):
        space.client.set_flow_run_state(run_id, Scheduled())
    if type(sent) is not Running:  # Cancelling is one, for Python
        space.client.set_flow_run_state(run_id, sent)


def now() -> datetime:
    return datetime.now(UTC)


# what a state leaves

@named
def test_each_state_is_kept_and_read_back(common: Workspace, kind: type[state.State]) -> None:
    run_id = common.running()
    sent = kind(message=f"because <{kind.__name__}>", context={"tags": ["x"]})
    between = [("Scheduled", 3)] if kind is Submitted else []
    reach(common, run_id, Scheduled()) if between else None
    common.client.set_flow_run_state(run_id, sent)
    row = flow_run(common, run_id)
    assert (row["state"], row["version"], row["state_message"]) == (kind.__name__, 3 + len(between), sent.message)
    assert (row["state_start_time"] is not None) == issubclass(kind, WAITING)
    found = common.client.get_flow_run_state(run_id)
    assert type(found) is kind and found.message == sent.message and found.context == sent.context
    history = common.rows("flow_run_state", "state version message serialized_state", "{id: asc}", flow_run_id=run_id)
    assert [(each["state"], each["version"]) for each in history] == [
        ("Scheduled", 1), ("Running", 2), *between, (kind.__name__, row["version"])]
    assert history[-1]["serialized_state"] == row["serialized_state"] and history[-1]["message"] == sent.message


@named
def test_start_and_end(common: Workspace, kind: type[state.State]) -> None:
    """`start_time` is that of the first Running, `end_time` that of the last state which ends a run."""
    run_id = common.run()
    assert flow_run(common, run_id)["start_time"] is None
    for _ in range(2):
        common.client.set_flow_run_state(run_id, Running())
    started = common.rows("flow_run_state", "timestamp state", "{id: asc}", flow_run_id=run_id)[1]
    assert started["state"] == "Running" and flow_run(common, run_id)["start_time"] == started["timestamp"]
    for message in ("1", "2"):
        reach(common, run_id, kind(message=message))
    row = flow_run(common, run_id)
    assert row["start_time"] == started["timestamp"]
    ends = kind in (Success, Failed, Cached, TimedOut, Looped, Cancelled)
    assert row["end_time"] == (row["state_timestamp"] if ends else None)


@named
def test_states_of_task_runs(common: Workspace, kind: type[state.State]) -> None:
    task_run = common.task_run(common.running())
    if kind is Submitted:
        common.client.set_task_run_state(task_run, Retrying())
    common.client.set_task_run_state(task_run, kind(message="because"))
    row = common.read("task_run", task_run, ROW + " run_count")
    assert (row["state"], row["state_message"], row["run_count"]) == (kind.__name__, "because", int(kind is Running))
    assert (row["start_time"] is not None) == (kind is Running)
    assert type(common.client.get_task_run_state(task_run)) is kind


@pytest.mark.parametrize("sent", [{"type": "Sleeping"}, {"type": None}, {"type": ["Running"]}, {}, [], "Running", 7,
                                  {"type": "Scheduled", "start_time": "soon"}], ids=str)
def test_what_is_no_state(space: Workspace, sent: object) -> None:
    run_id = space.running()
    for mutation, its_id in (("set_flow_run_states", {"flow_run_id": run_id}),
                             ("set_task_run_states", {"task_run_id": space.task_run(run_id)})):
        answer = space.attempt(mutation, "states { id }", states=[its_id | {"state": sent}])
        (error,) = answer["errors"]
        assert error["extensions"]["code"] == "BAD_REQUEST" and "status" not in answer, answer
    assert flow_run(space, run_id)["state"] == "Running"


def test_several_at_once_count_all_or_none(space: Workspace) -> None:
    run_id = space.running("a", "b")
    states = [{"task_run_id": space.task_run(run_id, name), "version": 0, "state": Success().serialize()}
              for name in ("a", "b")]
    done = space.do("set_task_run_states", "states { id status }", states=states)["states"]
    assert done == [{"id": each["task_run_id"], "status": "SUCCESS"} for each in states]
    bad = [{**states[0], "state": Failed().serialize()}, {**states[1], "state": {"type": "Sleeping"}}]
    assert "errors" in space.attempt("set_task_run_states", "states { id }", states=bad)
    assert {row["state"] for row in space.rows("task_run", "state", flow_run_id=run_id)} == {"Success"}


# a run is started once

@named
def test_submitted_follows_a_state_that_waits(common: Workspace, kind: type[state.State]) -> None:
    run_id, agent = common.running(), common.agent("one")
    reach(common, run_id, kind())
    if issubclass(kind, WAITING):
        agent.set_flow_run_state(run_id, Submitted())
        assert flow_run(common, run_id)["state"] == "Submitted"
    else:
        with pytest.raises(ClientError, match="State update failed"):
            agent.set_flow_run_state(run_id, Submitted())
        assert flow_run(common, run_id)["state"] == kind.__name__


def test_of_many_agents_one_gets_a_run(space: Workspace) -> None:
    runs = [space.run() for _ in range(5)]
    agents = [space.agent(f"agent {number}") for number in range(8)]

    def submit(agent: Client, run_id: str) -> bool:
        try:
            agent.set_flow_run_state(run_id, Submitted(message="Submitted for execution"), version=1)
            return True
        except ClientError as error:
            assert "State update failed" in str(error)
            return False

    with ThreadPoolExecutor(len(agents)) as threads:
        for run_id in runs:
            won = list(threads.map(lambda agent, run_id=run_id: submit(agent, run_id), agents))
            row = flow_run(space, run_id, "version agent { name }")
            assert won.count(True) == 1 and row == {"version": 2, "agent": {"name": f"agent {won.index(True)}"}}


def test_of_many_agents_one_gets_a_retry_that_is_due(space: Workspace) -> None:
    """The flow run is Running all the while, so the task run decides; all agents saw the same version of it."""
    run_id = space.running()
    task_run = space.task_run(run_id)
    space.client.set_task_run_state(task_run, Retrying(), version=0)
    agents = [space.agent(f"agent {number}") for number in range(8)]

    def submit(agent: Client) -> bool:
        try:
            agent.set_task_run_state(task_run, Submitted(message="Submitted for execution."), version=1)
            return True
        except ClientError as error:
            assert "State update failed" in str(error)
            return False

    with ThreadPoolExecutor(len(agents)) as threads:
        won = list(threads.map(submit, agents))
    assert won.count(True) == 1
    assert submit(agents[won.index(True)]), "sent again, because its answer was lost"
    assert space.read("task_run", task_run, "version state") == {"version": 2, "state": "Submitted"}
    assert flow_run(space, run_id, "agent { name }") == {"agent": {"name": f"agent {won.index(True)}"}}


def test_a_mapped_child_asked_for_by_many_is_one(space: Workspace) -> None:
    run_id = space.running()
    with ThreadPoolExecutor(8) as threads:
        ids = list(threads.map(lambda index: space.task_run(run_id, map_index=index), [0, 1, 2, 3] * 4))
    assert len(set(ids)) == 4 and ids[:4] * 4 == ids
    found = space.rows("task_run", "id map_index state version", "{map_index: asc}", flow_run_id=run_id)
    assert [row["map_index"] for row in found] == [-1, 0, 1, 2, 3] and [row["id"] for row in found[1:]] == ids[:4]
    assert all((row["state"], row["version"]) == ("Pending", 0) for row in found)


def test_a_task_of_another_flow_has_no_run_here(space: Workspace) -> None:
    one, two = space.running("a"), space.running("b")
    flow_id = flow_run(space, two, "flow_id")["flow_id"]
    (other,) = space.rows("task", "id", flow_id=flow_id)
    with pytest.raises(ClientError, match="not found"):
        space.client.get_task_run_info(one, other["id"])


# a request that is sent again, because its answer was lost

@pytest.mark.parametrize("sent, version", [(Running(message="x"), 1), (Success(message="x"), None),
                                           (Failed(message="x"), 1), (Retrying(start_time=now()), 1)],
                         ids=["Running", "Success, without a version", "Failed", "Retrying"])
def test_a_repeated_flow_run_state_counts_once(space: Workspace, sent: state.State, version: int | None) -> None:
    run_id = space.run()
    first, again = (_set(space, run_id, sent, version) for _ in range(2))
    assert first == again and first["version"] == 2
    assert len(space.rows("flow_run_state", "id", "{id: asc}", flow_run_id=run_id)) == 2


def _set(space: Workspace, run_id: str, sent: state.State, version: int | None) -> dict:
    space.client.set_flow_run_state(run_id, sent, version=version)
    return flow_run(space, run_id)


def test_a_submission_repeated_by_the_same_agent_counts_once(space: Workspace) -> None:
    run_id, agent = space.run(), space.agent("one")
    for _ in range(2):
        agent.set_flow_run_state(run_id, Submitted(message="Submitted for execution"), version=1)
    assert flow_run(space, run_id)["version"] == 2
    with pytest.raises(ClientError, match="State update failed"):
        space.agent("two").set_flow_run_state(run_id, Submitted(message="Submitted for execution"), version=1)


def test_a_repeated_task_run_state_counts_once(space: Workspace) -> None:
    task_run = space.task_run(space.running())
    for version, sent in ((0, Running(message="Starting task run.")), (1, Retrying(start_time=now(), run_count=1)),
                          (2, Running(message="Starting task run.")), (3, Success(message="done"))):
        for _ in range(2):
            space.client.set_task_run_state(task_run, sent, version=version)
    row = space.read("task_run", task_run, "version run_count state")
    assert row == {"version": 4, "run_count": 2, "state": "Success"}
    history = space.rows("task_run_state", "state", "{id: asc}", task_run_id=task_run)
    assert [each["state"] for each in history] == ["Running", "Retrying", "Running", "Success"]


# a task run runs inside a run

@named
def test_a_task_run_runs_only_while_its_flow_run_does(common: Workspace, kind: type[state.State]) -> None:
    run_id = common.running()
    task_run = common.task_run(run_id)
    reach(common, run_id, kind())
    if kind is Running:
        common.client.set_task_run_state(task_run, Running(), version=0)
    else:
        with pytest.raises(ClientError, match="State update failed"):
            common.client.set_task_run_state(task_run, Running(), version=0)
    assert common.read("task_run", task_run, "run_count") == {"run_count": int(kind is Running)}


def test_heartbeat(space: Workspace) -> None:
    run_id = space.running()
    before = flow_run(space, run_id, "heartbeat")["heartbeat"]
    space.client.update_flow_run_heartbeat(run_id)
    assert flow_run(space, run_id, "heartbeat")["heartbeat"] > before
    with pytest.raises(ClientError, match="not found"):
        space.client.update_flow_run_heartbeat("00000000-0000-4000-8000-000000000000")


# cancelling

@named
def test_cancel(common: Workspace, kind: type[state.State]) -> None:
    """A run that has ended stays as it is, one that runs is asked to stop, any other ends at once."""
    run_id = common.running()
    reach(common, run_id, kind())
    expected = ("Cancelling" if kind in (Running, Cancelling) else
                kind.__name__ if kind().is_finished() else "Cancelled")
    for _ in range(2):
        assert common.client.cancel_flow_run(run_id) == expected
    row = flow_run(common, run_id)
    assert row["state"] == expected
    with pytest.raises(ClientError, match="not found"):
        common.client.cancel_flow_run("00000000-0000-4000-8000-000000000000")


def test_a_cancelled_run_takes_its_unfinished_task_runs_with_it(space: Workspace) -> None:
    run_id = space.running("a", "b", "c", "d")
    for name, sent in (("a", [Running(), Success()]), ("b", [Running()]), ("c", [Retrying()])):
        for version, each in enumerate(sent):
            space.client.set_task_run_state(space.task_run(run_id, name), each, version=version)
    assert space.client.cancel_flow_run(run_id) == "Cancelling"
    assert _by_name(space, run_id) == {"a": "Success", "b": "Running", "c": "Retrying", "d": "Pending"}
    space.client.set_flow_run_state(run_id, Cancelled("stopped by its process"))
    assert _by_name(space, run_id) == {"a": "Success", "b": "Cancelled", "c": "Cancelled", "d": "Cancelled"}
    for task_run in space.rows("task_run", "id version", flow_run_id=run_id):
        history = space.rows("task_run_state", "version", "{id: asc}", task_run_id=task_run["id"])
        assert [each["version"] for each in history] == [*range(1, task_run["version"] + 1)]


def _by_name(space: Workspace, run_id: str) -> dict[str, str]:
    return {row["task"]["name"]: row["state"] for row in space.rows("task_run", "state task { name }",
                                                                    flow_run_id=run_id)}


def test_a_cancelled_run_does_not_start(space: Workspace) -> None:
    """An agent has taken it, and its process starts after somebody has cancelled it."""
    run_id = space.run()
    space.agent("one").set_flow_run_state(run_id, Submitted(), version=1)
    assert space.client.cancel_flow_run(run_id) == "Cancelled"
    with pytest.raises(ClientError, match="State update failed"):
        space.client.set_flow_run_state(run_id, Running(), version=2)
    assert flow_run(space, run_id)["state"] == "Cancelled"


# restarting

@task
def each_slide(name: str) -> str:
    return name


@task
def then(name: str) -> str:
    return name


@task
def table(rows: list) -> None:
    pass


@task
def beside() -> None:
    pass


def failed_run(space: Workspace, *, states: dict[tuple[str, int], list[state.State]]) -> str:
    """A mapped run that has failed, with these states of its task runs."""
    with Flow("mapped") as flow:
        table(then.map(each_slide.map(Parameter("names"))))
        beside()
    run_id = space.client.create_flow_run(flow_id=space.register(flow), parameters={"names": []})
    space.client.set_flow_run_state(run_id, Running(), version=1)
    for (name, index), sent in states.items():
        task_run = space.task_run(run_id, name, index)
        for version, each in enumerate(sent):
            space.client.set_task_run_state(task_run, each, version=version)
    space.client.set_flow_run_state(run_id, Failed("Some reference tasks failed."))
    return run_id


def test_restart(space: Workspace) -> None:
    good, bad, late = [Running(), Success()], [Running(), Failed()], [TriggerFailed()]
    run_id = failed_run(space, states={
        ("names", -1): good, ("beside", -1): good, ("table", -1): late,
        ("each_slide", -1): [Mapped()], ("each_slide", 0): good, ("each_slide", 1): bad, ("each_slide", 2): good,
        ("then", -1): [Mapped()], ("then", 0): good, ("then", 1): late, ("then", 2): [Running(), TimedOut()]})
    assert flow_run(space, run_id)["end_time"]
    space.press(run_id, "restart")
    found = {(row["task"]["name"], row["map_index"]): row["state"]
             for row in space.rows("task_run", "state map_index task { name }", flow_run_id=run_id)}
    again = {("each_slide", 1), ("then", 1), ("then", 2), ("table", -1)}
    mapped = {("each_slide", -1), ("then", -1)}
    assert found == {key: "Pending" if key in again else "Mapped" if key in mapped else "Success" for key in found}
    row = flow_run(space, run_id)
    assert row["state"] == "Scheduled" and row["end_time"] is None and space.queue() == [run_id]
    assert row["start_time"] is not None


def test_what_comes_after_a_failed_task_runs_again_even_if_it_did_not_fail(space: Workspace) -> None:
    good = [Running(), Success()]
    run_id = failed_run(space, states={
        ("names", -1): good, ("beside", -1): good, ("each_slide", -1): [Mapped()], ("each_slide", 0): good,
        ("then", -1): [Mapped()], ("then", 0): [Running(), Failed()], ("table", -1): good})
    space.press(run_id, "restart")
    assert _by_name(space, run_id)["table"] == "Pending"


def test_what_cannot_be_restarted(space: Workspace) -> None:
    running = space.running()
    assert "only one that has ended can be restarted" in space.press(running, "restart")
    assert flow_run(space, running)["state"] == "Running"
    space.client.set_task_run_state(space.task_run(running), Success())
    space.client.set_flow_run_state(running, Success())
    assert "nothing to restart" in space.press(running, "restart")
    assert flow_run(space, running)["state"] == "Success"


def test_start_now(space: Workspace) -> None:
    run_id = space.run(scheduled_start_time=now() + timedelta(days=1))
    assert space.queue() == []
    space.press(run_id, "start")
    assert space.queue() == [run_id]
    assert flow_run(space, run_id, "scheduled_start_time")["scheduled_start_time"] <= now().isoformat()
