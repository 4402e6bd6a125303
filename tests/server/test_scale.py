"""A mapped run of a thousand children, on threads: no child, state or log line of it is lost or doubled."""

import sqlite3
from collections import Counter, defaultdict
from pathlib import Path

import sqlalchemy as sa

from harness import Agent, RunningServer, until
from workshop_server.store import tables
from workshop_server.store.database import Database

CHILDREN = 1000
MOST = 5_000  # bytes by which the database may grow for one task run
FLOW = f"""
import prefect
from prefect import Client, Flow, task
from prefect.executors import LocalDaskExecutor

@task
def numbers():
    return list(range({CHILDREN}))

@task
def child(number):
    prefect.context.logger.info("child %d at work", number)
    return number

@task
def total(found):
    assert sorted(found) == list(range({CHILDREN}))

with Flow("a thousand", executor=LocalDaskExecutor(scheduler="threads", num_workers=8)) as flow:
    total(child.map(numbers()))

if __name__ == "__main__":
    Client().create_project("p")
    print(flow.register("p", no_url=True))
"""


def size(server: RunningServer) -> int:
    """Bytes of the database, with all that was written in its one file."""
    if server.database.startswith("postgresql"):
        with sa.create_engine(server.database.replace("postgresql:", "postgresql+psycopg:")).connect() as conn:
            return conn.scalar(sa.text("SELECT pg_database_size(current_database())"))
    with sqlite3.connect(server.database) as conn:
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return Path(server.database).stat().st_size


def test_a_thousand_children(either_server: RunningServer) -> None:
    server = either_server
    (script := server.home / "thousand.py").write_text(FLOW, encoding="utf-8")
    done = server.python(script)
    assert done.returncode == 0, done.stderr
    agent = Agent(server)
    before = size(server)
    try:
        run_id = server.ask("mutation($input: create_flow_run_input!) { create_flow_run(input: $input) { id } }",
                            {"input": {"flow_id": done.stdout.split()[-1]}})["create_flow_run"]["id"]
        until(lambda: server.ask(f'{{flow_run_by_pk(id: "{run_id}") {{state}}}}')["flow_run_by_pk"]["state"]
              in tables.FINISHED, "the run ends", 300)
        until(lambda: "process exited" in agent.said() or server.ask(  # the log comes last
            f'{{log_aggregate(where: {{flow_run_id: {{_eq: "{run_id}"}}, message: {{_like: "Flow run SUCCESS%"}}}}) '
            "{aggregate {count}}}")["log_aggregate"]["aggregate"]["count"], "the log is there")
    finally:
        agent.stop()
    growth = (size(server) - before) / (CHILDREN + 3)
    database = Database(server.database)
    try:
        with database.read() as conn:
            check(conn, run_id)
    finally:
        database.close()
    assert growth < MOST, growth


def check(conn: sa.Connection, run_id: str) -> None:
    """Nothing is missing and nothing is there twice."""
    task_run, history, log = tables.task_run, tables.task_run_state, tables.log
    run = conn.execute(sa.select(tables.flow_run).where(tables.flow_run.c.id == run_id)).one()
    assert run.state == "Success", run.state_message
    runs = conn.execute(sa.select(task_run, tables.task.c.name.label("task")).join(tables.task)
                        .where(task_run.c.flow_run_id == run_id)).all()
    assert Counter(row.task for row in runs) == {"numbers": 1, "child": CHILDREN + 1, "total": 1}
    children = {row.map_index: row for row in runs if row.map_index >= 0}
    assert sorted(children) == list(range(CHILDREN))
    states: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for row in conn.execute(sa.select(history).join(task_run).where(task_run.c.flow_run_id == run_id)
                            .order_by(history.c.id)):
        states[row.task_run_id].append((row.version, row.state))
    for row in runs:
        last = "Mapped" if row.task == "child" and row.map_index < 0 else "Success"
        ways = [[(1, "Running"), (2, last)], [(1, last)]]  # a task that is mapped does not run itself
        assert states[row.id] == ways[last == "Mapped"], (row.task, row.map_index, states[row.id])
        assert (row.state, row.version) == (last, len(states[row.id]))
    lines = Counter(conn.scalars(sa.select(log.c.message).where(log.c.flow_run_id == run_id,
                                                                log.c.message.like("child % at work"))))
    assert lines == {f"child {number} at work": 1 for number in range(CHILDREN)}
    by_child = Counter(conn.scalars(sa.select(log.c.task_run_id).where(log.c.flow_run_id == run_id,
                                                                       log.c.message.like("child % at work"))))
    assert by_child == {row.id: 1 for row in children.values()}
