"""Flows that a stock local agent runs, started in another folder than the one they were registered from.

All runs are asked for at once, and run side by side while the tests wait for one after the other.
"""

import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa

from harness import Agent, RunningServer, until
from workshop_server.store import tables, timestamps
from workshop_server.store.database import Database
from workspace import Workspace, as_client_of

PATIENCE = 300  # seconds that all runs together may take on a busy machine
NUMBERS = list(range(20))


class Room(Workspace):
    """A workspace with an agent, and a run of each flow of agent_flows.py under way.

    `commands` are the runs that `prefect run` has asked for: the finished process of each, once it has ended.
    """

    def __init__(self, server: RunningServer, threads: ThreadPoolExecutor) -> None:
        super().__init__(server, "default")
        done = server.python(Path(__file__).with_name("agent_flows.py"), self.project)
        assert done.returncode == 0, done.stderr
        self.flows = json.loads(done.stdout.splitlines()[-1])
        self.runs = {name: self.ask_for(name) for name in self.flows if name != "cached"}
        self.runs["first cached"] = self.ask_for("cached", size=7)
        self.runs["elsewhere"] = self.client.create_flow_run(flow_id=self.flows["serial"], labels=["elsewhere"],
                                                             parameters={"notes": str(self.notes("elsewhere"))})
        run = ("run", "--project", self.project, "--name")
        self.commands = {(name, how): threads.submit(server.prefect, *run, name, how, *self._parameters(name, how))
                         for name, how in (("serial", "--watch"), ("failing", "--watch"), ("serial", "--execute"))}

    def _parameters(self, name: str, how: str) -> list[str]:
        return [] if name == "failing" else ["--param", f"notes={json.dumps(str(self.notes(how)))}"]

    def ask_for(self, name: str, **parameters: object) -> str:
        """A run of a flow; its tasks write down what they do in a file of the run's own."""
        notes = self.notes(f"{name} {time.monotonic_ns()}")
        known = {"notes": str(notes), "numbers": NUMBERS, "project": self.project} | parameters
        wanted = {each["name"] for each in self.read("flow", self.flows[name], "parameters")["parameters"]}
        return self.client.create_flow_run(flow_id=self.flows[name], run_name=f"{name} {self.name}", parameters={
            key: value for key, value in known.items() if key in wanted})

    def notes(self, name: str) -> Path:
        return self.server.home / f"notes of {name}.txt"

    def noted(self, run_id: str) -> list[str]:
        """What the tasks of the run wrote down."""
        notes = Path(self.read("flow_run", run_id, "parameters")["parameters"]["notes"])
        return notes.read_text(encoding="utf-8").splitlines() if notes.exists() else []

    def state(self, run_id: str) -> str:
        return self.read("flow_run", run_id, "state")["state"]

    def ended(self, run_id: str) -> str:
        """The state that the run ended in, once it has."""
        final = ("Success", "Failed", "Cancelled")
        until(lambda: self.state(run_id) in final, f"{run_id} ends", PATIENCE)
        return self.state(run_id)

    def tasks(self, run_id: str) -> dict[tuple[str, int], str]:
        """The states of the task runs, by name and map index."""
        found = self.rows("task_run", "state map_index task { name }", flow_run_id=run_id)
        return {(row["task"]["name"], row["map_index"]): row["state"] for row in found}

    def log(self, run_id: str) -> list[str]:
        return [row["message"] for row in self.rows("log", "message", "{timestamp: asc, id: asc}", flow_run_id=run_id)]


@pytest.fixture(scope="module")
def room(shared_server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    agent = Agent(shared_server, cwd=tmp_path_factory.mktemp("elsewhere"))
    try:
        with as_client_of(shared_server), ThreadPoolExecutor(3) as threads:
            yield Room(shared_server, threads)
    finally:
        agent.stop()


def test_serial(room: Room) -> None:
    run_id = room.runs["serial"]
    assert room.ended(run_id) == "Success"
    assert room.noted(run_id) == ["first", "first"]
    assert set(room.tasks(run_id).values()) == {"Success"}
    history = room.rows("flow_run_state", "state", "{id: asc}", flow_run_id=run_id)
    assert [row["state"] for row in history] == ["Scheduled", "Submitted", "Running", "Success"]
    run = room.read("flow_run", run_id, "start_time end_time heartbeat agent { type }")
    assert run["start_time"] <= run["heartbeat"] <= timestamps.now()
    assert run["start_time"] < run["end_time"] and run["agent"] == {"type": "LocalAgent"}
    log = until(lambda: (found := room.log(run_id)) and any("SUCCESS" in line for line in found) and found, "the log")
    assert Counter(log)["noted first"] == 2 and any(line.startswith("Submitted for execution: PID:") for line in log)


@pytest.mark.parametrize("name", ["threads", "dask"])
def test_mapped(room: Room, name: str) -> None:
    """No child is lost or doubled: not its state, its work or its line in the log."""
    run_id = room.runs[name]
    assert room.ended(run_id) == "Success"
    tasks = room.tasks(run_id)
    assert tasks.pop(("note", -1)) == "Mapped" and set(tasks.values()) == {"Success"}
    assert {index for task, index in tasks if task == "note"} == set(NUMBERS)
    assert sorted(map(int, room.noted(run_id))) == NUMBERS
    expected = {f"noted {number}" for number in NUMBERS}
    log = until(lambda: (found := Counter(room.log(run_id))) and expected <= set(found) and found, "the log")
    assert all(log[line] == 1 for line in expected)
    runs = room.rows("task_run", "run_count version", flow_run_id=run_id)
    assert Counter((row["run_count"], row["version"]) for row in runs)[1, 2] == len(runs) - 1


def test_a_retry_after_seconds(room: Room) -> None:
    run_id = room.runs["short retry"]
    assert room.ended(run_id) == "Success" and room.noted(run_id) == ["1", "2"]
    (task_run,) = [
        row for row in room.rows("task_run", "id run_count task { name }", flow_run_id=run_id)
        if row["task"]["name"] == "second_time"]
    history = room.rows("task_run_state", "state", "{id: asc}", task_run_id=task_run["id"])
    assert [row["state"] for row in history] == ["Running", "Failed", "Retrying", "Running", "Success"]
    assert task_run["run_count"] == 2


def test_artifacts(room: Room) -> None:
    run_id = room.runs["artifacts"]
    assert room.ended(run_id) == "Success"
    found = room.server.ask(f'query {{ task_run(where: {{flow_run_id: {{_eq: "{run_id}"}}}}) '
                            '{ artifacts(order_by: {created: asc}) { kind data } } }')["task_run"]
    assert found == [{"artifacts": [{"kind": "link", "data": {"link": "https://example.org/report.html"}},
                                    {"kind": "markdown", "data": {"markdown": "# Blurry"}}]}]


def test_a_flow_that_fails(room: Room) -> None:
    run_id = room.runs["failing"]
    assert room.ended(run_id) == "Failed" and room.tasks(run_id) == {("load", -1): "Failed"}
    until(lambda: any("slide 7 is truncated" in line for line in room.log(run_id)), "the error in the log")
    (task_run,) = room.rows("task_run", "state_message", flow_run_id=run_id)
    assert "slide 7 is truncated" in task_run["state_message"]


def test_a_cancelled_run_stops(room: Room) -> None:
    run_id = room.runs["endless"]
    until(lambda: room.noted(run_id), "the run has started", PATIENCE)
    assert room.client.cancel_flow_run(run_id) == "Cancelling"
    assert room.ended(run_id) == "Cancelled"
    assert room.noted(run_id) == ["started"]
    tasks = room.tasks(run_id)
    assert tasks["note", -1] != "Success" and "Running" not in tasks.values() and "Pending" not in tasks.values()


def test_a_retry_after_minutes(room: Room) -> None:
    """The process ends meanwhile; when the time has come, which the test brings about, an agent starts another."""
    run_id = room.runs["long retry"]
    waiting = until(lambda: next((row for row in room.rows("task_run", "id state state_start_time serialized_state",
                                                           flow_run_id=run_id) if row["state"] == "Retrying"), None),
                    "the task run waits for its retry", PATIENCE)
    assert waiting["state_start_time"] > timestamps.now(shift=18 * 60) and room.state(run_id) == "Running"
    until(lambda: any("Flow run" in line and "RUNNING" in line for line in room.log(run_id)), "its process has ended")
    due = timestamps.now(shift=-5)
    database = Database(room.server.database)
    with database.write() as conn:
        conn.execute(sa.update(tables.task_run).where(tables.task_run.c.id == waiting["id"]).values(
            state_start_time=due, serialized_state=waiting["serialized_state"] | {"start_time": due}))
    database.close()
    assert room.ended(run_id) == "Success" and room.noted(run_id) == ["1", "2"]
    history = room.rows("task_run_state", "state", "{id: asc}", task_run_id=waiting["id"])
    assert [row["state"] for row in history] == ["Running", "Failed", "Retrying", "Submitted", "Running", "Success"]


def test_a_result_is_kept_from_run_to_run(room: Room) -> None:
    first = room.runs["first cached"]
    assert room.ended(first) == "Success" and room.tasks(first)["slow", -1] == "Cached"
    notes = room.read("flow_run", first, "parameters")["parameters"]["notes"]
    again, other = room.ask_for("cached", size=7, notes=notes), room.ask_for("cached", size=8)
    assert room.ended(again) == room.ended(other) == "Success"
    assert room.tasks(again)["slow", -1] == "Cached" and room.tasks(other)["slow", -1] == "Cached"
    assert room.noted(first) == ["7", "14", "14"], "the task ran once, and its result was there twice"
    assert room.noted(other) == ["8", "16"]


def test_restart(room: Room) -> None:
    """Only the child that failed runs again, and what comes after it."""
    run_id = room.runs["mended"]
    assert room.ended(run_id) == "Failed" and sorted(room.noted(run_id)) == ["0", "1", "2"]
    tasks = room.tasks(run_id)
    assert tasks["check", -1] == "Mapped" and tasks["check", 1] == "Failed" and tasks["note", -1] == "TriggerFailed"
    notes = room.read("flow_run", run_id, "parameters")["parameters"]["notes"]
    Path(f"{notes}.mended").touch()
    room.press(run_id, "restart")
    assert room.ended(run_id) == "Success"
    assert Counter(room.noted(run_id)) == Counter({"0": 1, "1": 2, "2": 1, "[0, 1, 2]": 1})
    assert set(room.tasks(run_id).values()) == {"Success", "Mapped"}


def test_runs_inside_a_run(room: Room) -> None:
    """By the tasks create_flow_run and wait_for_flow_run, and by StartFlowRun."""
    run_id = room.runs["outer"]
    assert room.ended(run_id) == "Success"
    assert room.noted(run_id) == ["first"] * 4
    inner = room.rows("flow_run", "state parameters", flow_id=room.flows["serial"])
    notes = room.read("flow_run", run_id, "parameters")["parameters"]["notes"]
    assert [row["state"] for row in inner if row["parameters"]["notes"] == notes] == ["Success", "Success"]


@pytest.mark.parametrize("name, status, said", [("serial", 0, "noted first"), ("failing", 1, "slide 7 is truncated")])
def test_prefect_run_watch(room: Room, name: str, status: int, said: str) -> None:
    done = room.commands[name, "--watch"].result()
    assert done.returncode == status, done.stdout + done.stderr
    assert said in done.stdout and ("Flow run failed!" if status else "Flow run succeeded!") in done.stdout
    assert f"{room.server.ui}/default/flow-run/" in done.stdout


def test_prefect_run_execute(room: Room) -> None:
    """In the process of the command itself, without an agent."""
    done = room.commands["serial", "--execute"].result()
    assert done.returncode == 0 and "Flow run succeeded!" in done.stdout, done.stdout + done.stderr
    assert room.notes("--execute").read_text(encoding="utf-8") == "first\nfirst\n"
    (run_id,) = re.findall(f"{room.server.ui}/default/flow-run/([0-9a-f-]+)", done.stdout)
    assert room.read("flow_run", run_id, "state agent_id") == {"state": "Success", "agent_id": None}


def test_a_run_with_labels_that_no_agent_has_stays(room: Room) -> None:
    assert room.ended(room.runs["serial"]) == "Success"
    run_id = room.runs["elsewhere"]
    assert room.state(run_id) == "Scheduled" and room.noted(run_id) == []
    other = Agent(room.server, "--label", "elsewhere")
    try:
        assert room.ended(run_id) == "Success" and room.noted(run_id) == ["first", "first"]
    finally:
        other.stop()
