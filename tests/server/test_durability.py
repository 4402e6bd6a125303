"""What was acknowledged stays, though the server is killed; and a run that many agents want starts once.

    ROUNDS=10 python -m pytest tests/server/test_durability.py -k killed     kills the server ten times in a row
"""

import http.client
import os
import signal
import threading
import time
import urllib.error
from collections import Counter
from pathlib import Path

from harness import Agent, RunningServer, until
from workshop_server.runs import states
from workshop_server.store import timestamps
from workshop_server.store.database import Database

ROUNDS = int(os.environ.get("ROUNDS", "2"))
STEPS = 8    # of a run, each of half a second
AFTER = 15   # further acknowledgements that a kill waits for
FLOW = """
import sys, time
from pathlib import Path
import prefect
from prefect import Client, Flow, Parameter, task

@task
def step(notes, word, before):
    with Path(notes).open("a") as file:
        file.write((word or prefect.context.flow_run_id) + "\\n")
    time.sleep(0.5 if word else 0)

if __name__ == "__main__":
    steps = int(sys.argv[1])
    with Flow("steps") as flow:
        notes, last = Parameter("notes"), None
        for number in range(steps):
            last = step(notes, f"step {number}" if steps > 1 else "", last)
    Client().create_project("p")
    print(flow.register("p", no_url=True))
"""
STATES = "mutation($input: set_%s_states_input!) { set_%s_states(input: $input) { states { status } } }"
LOGS = "mutation($input: write_run_logs_input!) { write_run_logs(input: $input) { success } }"
INFO = ('mutation { get_or_create_task_run_info(input: {flow_run_id: "%s", task_id: "%s", map_index: %d}) '
        "{ id version } }")


class Writer(threading.Thread):
    """A client that writes states and log lines of one mapped run, and sends again what got no answer.

    It writes without pause while `busy` is set. `known` are the task runs by their number, `lines` the log messages:
    all that the server has acknowledged.
    """

    def __init__(self, server: RunningServer, flow_run_id: str, task_id: str) -> None:
        super().__init__(daemon=True)
        self.server, self.flow_run_id, self.task_id = server, flow_run_id, task_id
        self.known: dict[int, tuple[str, int]] = {}
        self.lines: list[str] = []
        self.again, self.stopped, self.problem = 0, False, None
        self.busy = threading.Event()  # were it always, it would take a core while the run goes on

    @property
    def acknowledged(self) -> int:
        return len(self.lines)

    def run(self) -> None:
        try:
            number = 0
            while self.busy.wait() and not self.stopped:
                self._write(number)
                number += 1
        except Exception as error:
            self.problem = error

    def stop(self) -> None:
        self.stopped = True
        self.busy.set()

    def _write(self, number: int) -> None:
        answer = self._ask(INFO % (self.flow_run_id, self.task_id, number), None)["get_or_create_task_run_info"]
        self.known[number] = answer["id"], 0
        for version, kind in enumerate(("Running", "Success")):
            self._ask(STATES % ("task_run", "task_run"), {"input": {"states": [
                {"task_run_id": answer["id"], "version": version, "state": states.make(kind, f"{kind} {number}")}]}})
            self.known[number] = answer["id"], version + 1
        line = f"line {number}"
        self._ask(LOGS, {"input": {"logs": [
            {"flow_run_id": self.flow_run_id, "task_run_id": answer["id"], "timestamp": timestamps.now(),
             "name": "writer", "level": "INFO", "message": line}]}})
        self.lines.append(line)

    def _ask(self, query: str, variables: dict | None) -> dict:
        end = time.monotonic() + 60
        while True:
            try:
                return self.server.ask(query, variables)
            except (urllib.error.URLError, OSError, http.client.HTTPException):
                self.again += 1
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)


def writer_of(server: RunningServer, flow_id: str) -> Writer:
    """A writer with a run of its own, which no agent takes."""
    made = server.ask("mutation($input: create_flow_run_input!) { create_flow_run(input: $input) { id } }",
                      {"input": {"flow_id": flow_id, "labels": ["nobody"], "parameters": {"notes": ""}}})
    run_id = made["create_flow_run"]["id"]
    server.ask(STATES % ("flow_run", "flow_run"), {"input": {"states": [
        {"flow_run_id": run_id, "version": 1, "state": states.make("Running", "by the writer")}]}})
    task = server.ask(f'{{task(where: {{flow_id: {{_eq: "{flow_id}"}}, name: {{_eq: "step"}}}}, limit: 1) {{id}}}}')
    return Writer(server, run_id, task["task"][0]["id"])


def check(writer: Writer) -> None:
    """All that the writer was told is kept is there, once."""
    assert writer.problem is None, writer.problem
    (found,) = writer.server.ask(
        f'{{flow_run(where: {{id: {{_eq: "{writer.flow_run_id}"}}}}) {{logs {{message}} '
        'task_runs(where: {map_index: {_gte: 0}}) {id map_index version state states(order_by: {id: asc}) '
        "{state version}}}}")["flow_run"]
    lines = Counter(each["message"] for each in found["logs"])
    assert [line for line in writer.lines if lines[line] != 1] == []
    by_number = {each["map_index"]: each for each in found["task_runs"]}
    assert len(by_number) == len(found["task_runs"])
    for number, (task_run_id, version) in writer.known.items():
        kept = by_number[number]
        assert kept["id"] == task_run_id and kept["version"] >= version, (number, version, kept)
        history = [(each["state"], each["version"]) for each in kept["states"]]
        assert history == [("Running", 1), ("Success", 2)][:kept["version"]], (number, history)


def register(server: RunningServer, steps: int) -> str:
    script = server.home / "steps.py"
    script.write_text(FLOW, encoding="utf-8")
    done = server.python(script, steps)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1]


def ask_for(server: RunningServer, flow_id: str, notes: Path) -> str:
    made = server.ask("mutation($input: create_flow_run_input!) { create_flow_run(input: $input) { id } }",
                      {"input": {"flow_id": flow_id, "parameters": {"notes": str(notes)}}})
    return made["create_flow_run"]["id"]


def state(server: RunningServer, run_id: str) -> str:
    return server.ask(f'{{flow_run_by_pk(id: "{run_id}") {{state}}}}')["flow_run_by_pk"]["state"]


def kill_in_rounds(server: RunningServer, rounds: int) -> None:
    """Kill the server while an agent's run and a writer are busy, start it again, and look at what has become of it."""
    flow_id = register(server, STEPS)
    agent = Agent(server)
    writer = writer_of(server, flow_id)
    writer.start()
    try:
        for number in range(rounds):
            notes = server.home / f"notes {number}"
            run_id = ask_for(server, flow_id, notes)
            until(notes.exists, f"round {number}: the run does something: {agent.said()}")
            writer.busy.set()
            _writes(writer, number)
            server.stop(signal.SIGKILL)
            server.start()
            _writes(writer, number)
            writer.busy.clear()
            until(lambda run_id=run_id: state(server, run_id) in ("Success", "Failed"),
                  f"round {number}: the run ends: {agent.said()}", 120)
            assert state(server, run_id) == "Success", agent.said()
            assert notes.read_text().splitlines() == [f"step {step}" for step in range(STEPS)]
            assert writer.again > number  # it was under way each time
        writer.stop()
        writer.join(30)
        check(writer)
    finally:
        writer.stop()
        agent.stop()


def _writes(writer: Writer, number: int) -> None:
    at_least = writer.acknowledged + AFTER
    until(lambda: writer.acknowledged >= at_least, f"round {number}: the writer writes")


def test_a_server_that_is_killed_keeps_what_it_acknowledged(server: RunningServer) -> None:
    kill_in_rounds(server, ROUNDS)


def test_a_server_that_is_killed_keeps_what_it_acknowledged_in_postgresql(tmp_path: Path, postgres: object) -> None:
    server = RunningServer(tmp_path, database=postgres.database())
    try:
        kill_in_rounds(server, 1)
    finally:
        server.stop()


def test_sqlite_waits_for_the_disk(tmp_path: Path) -> None:
    """What a killed process has written stays with the system; what a power cut leaves depends on these alone."""
    database = Database(str(tmp_path / "server.sqlite"))
    try:
        with database.read() as conn:
            assert conn.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert conn.exec_driver_sql("PRAGMA synchronous").scalar() >= 1  # with a write-ahead log, 1 keeps it whole
    finally:
        database.close()


def test_of_three_agents_one_gets_each_run(either_server: RunningServer) -> None:
    """Each run starts once, though three agents are offered it; it notes its own id when it does."""
    server, at_a_time, asked = either_server, 15, []
    flow_id = register(server, steps=1)
    notes = server.home / "started"
    agents = [Agent(server) for _ in range(3)]
    try:
        until(lambda: all("Waiting for flow runs" in agent.said() for agent in agents), "the agents are there")
        for _ in range(4):  # an agent that asks long before the others may get all of the first
            asked += [ask_for(server, flow_id, notes) for _ in range(at_a_time)]
            for run_id in asked:
                until(lambda run_id=run_id: state(server, run_id) == "Success", "all runs end", 300)
            assert Counter(notes.read_text().split()) == Counter(asked)
            rows = server.ask("{flow_run {id agent_id states(order_by: {id: asc}) {state}}}")["flow_run"]
            for row in rows:
                assert [one["state"] for one in row["states"]] == ["Scheduled", "Submitted", "Running", "Success"], row
            assert len(rows) == len(asked)
            if len({row["agent_id"] for row in rows}) > 1:
                return
        raise AssertionError("they did not race")
    finally:
        for agent in agents:
            agent.stop()
