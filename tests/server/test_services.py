"""The scheduler, the zombie killer and Lazarus, on both databases; at the end with the unmodified client."""

import logging
import os
import signal
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from prefect import Flow, Parameter, Task
from prefect.schedules import IntervalSchedule, Schedule
from prefect.schedules.clocks import IntervalClock

from harness import Agent, RunningServer, until
from workshop_server import background
from workshop_server.context import ServerContext
from workshop_server.errors import RequestError
from workshop_server.flows import registration, versions
from workshop_server.runs import flow_runs, scheduler, states, task_runs
from workshop_server.runs.dead_processes import reap_zombies, revive_lost_runs
from workshop_server.settings import Settings
from workshop_server.store import tables, timestamps
from workshop_server.store.database import Database, insert_unique
from workshop_server.store.tables import flow, flow_group, flow_run, flow_run_state, task_run, task_run_state

HOURLY = IntervalSchedule(interval=timedelta(hours=1))


class Here:
    """A database with the services at hand, in the process of the test."""

    def __init__(self, url: str) -> None:
        self.server = ServerContext(Settings(database=url), Database(url))
        with self.write() as conn:
            tenant = conn.scalar(sa.select(tables.tenant.c.id))
            self.project = conn.scalar(sa.select(tables.project.c.id)) or insert_unique(
                conn, tables.project, tenant_id=tenant, name="Image QC")

    def write(self) -> object:
        return self.server.database.write()

    def register(self, name: str = "qc", *, schedule: Schedule | None = None, retries: int = 0, **more: object) -> str:
        """A flow of three tasks, of which the second may be retried, registered as the client serializes it."""
        made = Flow(name, schedule=schedule)
        for number in range(3):
            made.add_task(Task(name=f"task {number}", max_retries=retries if number == 1 else 0,
                               retry_delay=timedelta(seconds=1) if retries and number == 1 else None))
        made.add_task(Parameter("slide", default="a.svs"))
        with self.write() as conn:
            return registration.register(conn, None, self.project, made.serialize(), **more)

    def started(self, flow_id: str, *task_states: str, state: str = "Running") -> str:
        """A flow run in this state, its first tasks in these; nothing has been heard of it for an hour."""
        with self.write() as conn:
            run_id = flow_runs.create(conn, None, flow_id=flow_id)
            for each in {"Scheduled": [], "Submitted": ["Submitted"]}.get(state, ["Submitted", "Running"]):
                states.set_flow_run_state(conn, None, run_id, states.make(each, each))
            for row, kind in zip(self.task_runs(run_id, conn), task_states, strict=False):
                for each in dict.fromkeys(("Running", kind)):
                    later = {"start_time": timestamps.now(shift=3600)} if each == "Retrying" else {}
                    states.set_task_run_state(conn, None, row.id, states.make(each, each, **later))
            if state not in ("Scheduled", "Submitted", "Running"):
                states.set_flow_run_state(conn, None, run_id, states.make(state, state))
        self.silence(run_id)
        return run_id

    def silence(self, run_id: str, seconds: float = 3600) -> None:
        """Let the last sign of life of a run lie so long ago."""
        past = timestamps.now(shift=-seconds)
        with self.write() as conn:
            conn.execute(sa.update(flow_run).where(flow_run.c.id == run_id).values(
                state_timestamp=past, heartbeat=sa.case((flow_run.c.heartbeat.is_not(None), past))))

    def set(self, table: sa.Table, row_id: str, **values: object) -> None:
        with self.write() as conn:
            conn.execute(sa.update(table).where(table.c.id == row_id).values(**values))

    def all(self, statement: sa.Select) -> list[sa.Row]:
        with self.server.database.read() as conn:
            return conn.execute(statement).all()

    def run(self, run_id: str) -> sa.Row:
        return self.all(sa.select(flow_run).where(flow_run.c.id == run_id))[0]

    def flow_of(self, flow_id: str) -> sa.Row:
        return self.all(sa.select(flow).where(flow.c.id == flow_id))[0]

    def task_runs(self, run_id: str, conn: sa.Connection | None = None) -> list[sa.Row]:
        asked = (sa.select(task_run, tables.task.c.name.label("task")).join(tables.task)
                 .where(task_run.c.flow_run_id == run_id).order_by(tables.task.c.name))
        found = conn.execute(asked).all() if conn is not None else self.all(asked)
        return [row for row in found if row.task != "slide"]

    def scheduled(self, flow_id: str) -> list[sa.Row]:
        return self.all(sa.select(flow_run).where(flow_run.c.flow_id == flow_id)
                        .order_by(flow_run.c.scheduled_start_time, flow_run.c.idempotency_key))


@pytest.fixture
def here(database_url: str) -> Iterator[Here]:
    made = Here(database_url)
    yield made
    made.server.database.close()


@pytest.fixture
def twin(here: Here, database_url: str) -> Iterator[Here]:
    """Another server of the same database."""
    made = Here(database_url)
    yield made
    made.server.database.close()


def hours_from_now(count: int) -> list[str]:
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    return [timestamps.text(hour + timedelta(hours=number)) for number in range(1, count + 1)]


def at_once(*calls: Callable[[], int]) -> list[int]:
    """The results of calls that start at the same moment."""
    gate = threading.Barrier(len(calls))

    def call(work: Callable[[], int]) -> int:
        gate.wait()
        return work()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [each.result() for each in [pool.submit(call, work) for work in calls]]


def meanwhile(here: Here, event: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let something happen between a pass's look at the database and what it does then."""
    look = here.server.database.read

    @contextmanager
    def looked() -> Iterator[sa.Connection]:
        with look() as conn:
            yield conn
        monkeypatch.setattr(here.server.database, "read", look)
        event()

    monkeypatch.setattr(here.server.database, "read", looked)


# --- the scheduler

def test_a_scheduled_flow_has_its_next_ten_runs_from_registration_on(here: Here) -> None:
    wanted = hours_from_now(11)
    flow_id = here.register(schedule=HOURLY)
    found = here.scheduled(flow_id)
    start = wanted.index(found[0].scheduled_start_time)  # 1 if the hour has ended meanwhile
    assert [row.scheduled_start_time for row in found] == wanted[start:][:10]
    assert [row.idempotency_key for row in found] == [f"auto-scheduled:{row.scheduled_start_time}" for row in found]
    assert {(row.auto_scheduled, row.state) for row in found} == {(True, "Scheduled")}
    assert [row.state_start_time for row in found] == [row.scheduled_start_time for row in found]
    assert len(here.task_runs(found[0].id)) == 3


def test_the_scheduler_makes_only_what_is_missing(here: Here) -> None:
    flow_id = here.register(schedule=HOURLY)
    assert scheduler.schedule_runs(here.server) == 0
    gone = here.scheduled(flow_id)[3]
    with here.write() as conn:
        conn.execute(sa.delete(flow_run).where(flow_run.c.id == gone.id))
    assert scheduler.schedule_runs(here.server) == 1
    assert [row.scheduled_start_time for row in here.scheduled(flow_id)][3] == gone.scheduled_start_time
    assert scheduler.schedule_runs(here.server) == 0


def test_the_clock_gives_parameters_and_labels(here: Here) -> None:
    hour = timedelta(hours=1)
    flow_id = here.register(schedule=Schedule([
        IntervalClock(hour, parameter_defaults={"slide": "b.svs"}, labels=["gpu"]),
        IntervalClock(hour, parameter_defaults={"slide": "c.svs"})]))
    found = here.scheduled(flow_id)
    assert len(found) == 10
    assert [(row.parameters, row.labels) for row in found[:2]] == [({"slide": "b.svs"}, ["gpu"]),
                                                                   ({"slide": "c.svs"}, [])]
    assert found[0].scheduled_start_time == found[1].scheduled_start_time
    assert scheduler.schedule_runs(here.server) == 0


def test_the_schedule_of_the_group_goes_before_that_of_the_flow(here: Here) -> None:
    flow_id = here.register(schedule=HOURLY)
    daily = IntervalSchedule(interval=timedelta(days=1))
    group = here.flow_of(flow_id).flow_group_id
    with here.write() as conn:
        versions.set_schedule(conn, None, group, Flow("x", schedule=daily).serialize()["schedule"])
    assert {row.scheduled_start_time[11:19] for row in here.scheduled(flow_id)} == {"00:00:00"}
    other = here.register("no schedule of its own")
    here.set(flow_group, here.flow_of(other).flow_group_id, schedule=here.all(sa.select(flow_group.c.schedule).where(
        flow_group.c.id == group))[0].schedule)
    assert scheduler.schedule_runs(here.server) == 10
    assert len(here.scheduled(other)) == 10


def test_no_runs_for_a_flow_that_is_switched_off_archived_or_has_no_schedule(here: Here) -> None:
    off = here.register("off", schedule=HOURLY, schedule_active=False)
    old = here.register("old", schedule=HOURLY)
    without = here.register("without")
    with here.write() as conn:
        versions.archive(conn, None, old)
        conn.execute(sa.update(flow).where(flow.c.id == old).values(is_schedule_active=True))
        assert [scheduler.schedule_flow(conn, None, each) for each in (off, old, without)] == [0, 0, 0]
    assert scheduler.schedule_runs(here.server) == 0
    assert [row for each in (off, without) for row in here.scheduled(each)] == []
    assert {row.state for row in here.scheduled(old)} <= {"Cancelled"}
    with here.write() as conn:
        versions.set_schedule_active(conn, None, off, active=True)
    assert len(here.scheduled(off)) == 10


def test_a_schedule_that_has_ended_makes_no_runs(here: Here) -> None:
    assert here.scheduled(here.register(schedule=IntervalSchedule(
        interval=timedelta(hours=1), end_date=datetime(2020, 1, 1)))) == []
    assert scheduler.schedule_runs(here.server) == 0


def test_a_bad_schedule_costs_one_line_and_not_the_other_flows(here: Here, caplog: pytest.LogCaptureFixture) -> None:
    bad, good = (here.register(name, schedule=HOURLY, schedule_active=False) for name in ("bad", "good"))
    for each in (bad, good):
        here.set(flow, each, is_schedule_active=True)
    here.set(flow, bad, schedule={"clocks": [{"type": "SunClock"}]})
    assert scheduler.schedule_runs(here.server) == 10
    assert [record.getMessage() for record in caplog.records if record.name.startswith("workshop_server")] == [
        f"schedule {bad}: RequestError: the schedule has a clock that Prefect has not: 'SunClock'"]
    with here.write() as conn, pytest.raises(RequestError, match="SunClock"):
        scheduler.schedule_flow(conn, None, bad)


def test_two_servers_schedule_each_run_once(here: Here, twin: Here) -> None:
    flow_id = here.register(schedule=HOURLY, schedule_active=False)
    here.set(flow, flow_id, is_schedule_active=True)
    made = at_once(*[lambda each=each: scheduler.schedule_runs(each.server) for each in (here, twin, here, twin)])
    assert len(here.scheduled(flow_id)) == sum(made) == 10


@pytest.mark.parametrize("work", [scheduler.schedule_runs, reap_zombies, revive_lost_runs])
def test_a_pass_with_nothing_to_do_asks_once_and_writes_nothing(here: Here,
                                                                work: Callable[[ServerContext], int]) -> None:
    here.started(here.register(), "Success", state="Success")
    asked = []
    sa.event.listen(here.server.database.engine, "before_cursor_execute",
                    lambda _conn, _cursor, statement, *_rest: asked.append(statement))
    assert work(here.server) == 0
    asked = [each for each in asked if each != "BEGIN"]
    assert len(asked) == 1 and asked[0].startswith("SELECT")


def test_a_pass_over_schedules_that_have_their_runs_only_looks(here: Here) -> None:
    """Twice, for the flows and for the runs that are there: no flow is locked, however many have a schedule."""
    for name in ("one", "another"):
        here.register(name, schedule=HOURLY)
    asked = []
    sa.event.listen(here.server.database.engine, "before_cursor_execute",
                    lambda _conn, _cursor, statement, *_rest: asked.append(statement))
    assert scheduler.schedule_runs(here.server) == 0
    assert [each.split()[0] for each in asked if each != "BEGIN"] == ["SELECT", "SELECT"]


# --- the zombie killer

def test_task_runs_of_a_dead_process_are_retried_or_fail(here: Here) -> None:
    run_id = here.started(here.register(retries=2), "Success", "Running", "Running")
    assert reap_zombies(here.server) == 2
    done, again, failed = here.task_runs(run_id)
    assert (done.state, done.version) == ("Success", 2)
    assert again.state == again.serialized_state["type"] == "Retrying"
    assert again.serialized_state["run_count"] == again.run_count == 1
    assert again.state_start_time == again.serialized_state["start_time"] <= timestamps.now()
    assert failed.state == "Failed" and failed.end_time
    for each in (again, failed):
        assert "No heartbeat detected" in each.state_message
        kept = here.all(sa.select(task_run_state.c.version, task_run_state.c.state).where(
            task_run_state.c.task_run_id == each.id).order_by(task_run_state.c.id))[-1]
        assert tuple(kept) == (each.version, each.state) == (2, each.state)
    assert here.run(run_id).state == "Running"
    assert reap_zombies(here.server) == 0


def test_retries_run_out(here: Here) -> None:
    run_id = here.started(here.register(retries=2), "Success", "Running")
    for run_count, state in ((2, "Retrying"), (3, "Failed")):
        here.set(task_run, here.task_runs(run_id)[1].id, state="Running", run_count=run_count)
        assert reap_zombies(here.server) == 1
        assert here.task_runs(run_id)[1].state == state


def test_mapped_children_of_a_dead_process_each_get_their_state(here: Here) -> None:
    run_id = here.started(here.register(retries=1), "Success", "Mapped")
    parent = here.task_runs(run_id)[1]
    with here.write() as conn:
        for index in range(5):
            child = task_runs.task_run_info(conn, None, run_id, parent.task_id, index)
            for each in ("Running", "Success") if index < 2 else ("Running",):
                states.set_task_run_state(conn, None, child.id, states.make(each, each))
    here.silence(run_id)
    assert reap_zombies(here.server) == 3
    found = {row.map_index: row.state for row in here.task_runs(run_id) if row.task_id == parent.task_id}
    assert found == {-1: "Mapped", 0: "Success", 1: "Success", 2: "Retrying", 3: "Retrying", 4: "Retrying"}


@pytest.mark.parametrize("alive", ["beat", "started", "switched off", "group switched off"])
def test_a_run_that_may_live_is_left_alone(here: Here, alive: str) -> None:
    flow_id = here.register()
    running, between = here.started(flow_id, "Running"), here.started(flow_id, "Success")
    for each in (running, between):
        if alive == "beat":
            here.set(flow_run, each, heartbeat=timestamps.now())
        if alive == "started":
            here.set(flow_run, each, state_timestamp=timestamps.now(), heartbeat=None)
    if alive == "switched off":
        with here.write() as conn:
            versions.set_setting(conn, None, flow_id, heartbeat_enabled=False)
    if alive == "group switched off":
        here.set(flow_group, here.flow_of(flow_id).flow_group_id, settings={"heartbeat_enabled": False})
    assert reap_zombies(here.server) == revive_lost_runs(here.server) == 0


def test_without_any_heartbeat_the_last_state_counts(here: Here) -> None:
    run_id = here.started(here.register(), "Running")
    here.set(flow_run, run_id, heartbeat=None)
    assert reap_zombies(here.server) == 1


def test_task_runs_left_behind_by_a_run_that_ended_fail(here: Here) -> None:
    run_id = here.started(here.register(retries=2), "Success", "Running", state="Failed")
    assert reap_zombies(here.server) == 1
    assert here.task_runs(run_id)[1].state == "Failed"


def test_a_beat_between_the_look_and_the_act_saves_the_run(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    flow_id = here.register()
    running, between = here.started(flow_id, "Running"), here.started(flow_id, "Success")

    def beat(run_id: str) -> None:
        with here.write() as conn:
            flow_runs.beat(conn, None, run_id)

    for work, run_id in ((reap_zombies, running), (revive_lost_runs, between)):
        before = here.run(run_id)
        meanwhile(here, lambda run_id=run_id: beat(run_id), monkeypatch)
        assert work(here.server) == 0
        assert here.run(run_id).version == before.version
        assert here.task_runs(run_id)[0].state == ("Running" if run_id == running else "Success")


def test_a_run_that_ends_or_goes_meanwhile_is_left_alone(here: Here, monkeypatch: pytest.MonkeyPatch,
                                                         caplog: pytest.LogCaptureFixture) -> None:
    flow_id = here.register()
    ended, gone = here.started(flow_id, "Success"), here.started(flow_id, "Success")

    def end() -> None:
        with here.write() as conn:
            states.set_flow_run_state(conn, None, ended, states.make("Success", "done"))
            conn.execute(sa.delete(flow_run).where(flow_run.c.id == gone))

    meanwhile(here, end, monkeypatch)
    assert revive_lost_runs(here.server) == 0
    assert here.run(ended).state == "Success"
    assert [record for record in caplog.records if record.name.startswith("workshop_server")] == []


# --- Lazarus

@pytest.mark.parametrize("state", ["Running", "Submitted"])
def test_a_lost_run_is_brought_back_three_times(here: Here, state: str) -> None:
    run_id = here.started(here.register(), state=state)
    for times in (1, 2, 3):
        assert revive_lost_runs(here.server) == 1
        run = here.run(run_id)
        assert (run.state, run.times_resurrected) == ("Scheduled", times)
        assert run.state_start_time == run.serialized_state["start_time"] <= timestamps.now()
        assert f"Lazarus brings it back, {times} of at most 3 times" in run.state_message
        assert revive_lost_runs(here.server) == 0
        with here.write() as conn:
            for each in ["Submitted", "Running"] if state == "Running" else ["Submitted"]:
                states.set_flow_run_state(conn, None, run_id, states.make(each, each))
        here.silence(run_id)
    assert revive_lost_runs(here.server) == 1
    run = here.run(run_id)
    assert (run.state, run.times_resurrected) == ("Failed", 3)
    assert "No heartbeat detected" in run.state_message and "3 times already" in run.state_message
    kept = here.all(sa.select(flow_run_state.c.state).where(flow_run_state.c.flow_run_id == run_id))
    assert [row.state for row in kept].count("Scheduled") == 4
    assert revive_lost_runs(here.server) == 0


@pytest.mark.parametrize("busy", ["Running", "Retrying", "Paused", "Queued"])
def test_a_run_whose_task_run_runs_or_waits_is_not_lost(here: Here, busy: str) -> None:
    run_id = here.started(here.register(retries=1), "Success", busy)
    assert revive_lost_runs(here.server) == 0
    assert here.run(run_id).state == "Running"


def test_a_run_that_an_agent_has_just_taken_from_the_queue_is_not_lost(here: Here) -> None:
    run_id = here.started(here.register(retries=1), "Success", "Retrying")
    waiting = here.task_runs(run_id)[1]
    with here.write() as conn:
        states.set_task_run_state(conn, None, waiting.id, states.make("Submitted", "by an agent"))
    assert revive_lost_runs(here.server) == 0
    here.set(task_run, waiting.id, state_timestamp=timestamps.now(shift=-3600))
    assert revive_lost_runs(here.server) == 1


@pytest.mark.parametrize("left", ["Pending", "Submitted", "Failed", "Mapped"])
def test_a_run_whose_task_runs_neither_run_nor_wait_is_lost(here: Here, left: str) -> None:
    run_id = here.started(here.register(), "Success")
    here.set(task_run, here.task_runs(run_id)[1].id, state=left, state_timestamp=timestamps.now(shift=-3600))
    assert revive_lost_runs(here.server) == 1
    assert [row.state for row in here.task_runs(run_id)] == ["Success", left, "Pending"]


def test_lazarus_can_be_switched_off(here: Here) -> None:
    flow_id = here.register()
    run_id = here.started(flow_id)
    with here.write() as conn:
        versions.set_setting(conn, None, flow_id, lazarus_enabled=False)
    assert revive_lost_runs(here.server) == 0
    assert here.run(run_id).state == "Running"


def test_a_flow_without_heartbeats_is_brought_back_only_if_it_never_started(here: Here) -> None:
    flow_id = here.register()
    running, submitted = here.started(flow_id, "Success"), here.started(flow_id, state="Submitted")
    with here.write() as conn:
        versions.set_setting(conn, None, flow_id, heartbeat_enabled=False)
    assert revive_lost_runs(here.server) == 1
    assert (here.run(running).state, here.run(submitted).state) == ("Running", "Scheduled")


@pytest.mark.parametrize("state", ["Scheduled", "Success", "Failed", "Cancelled"])
def test_a_run_that_waits_or_has_ended_is_not_lost(here: Here, state: str) -> None:
    run_id = here.started(here.register(), state=state)
    assert revive_lost_runs(here.server) == 0
    assert here.run(run_id).state == state


def test_a_run_whose_process_died_while_it_was_cancelled_is_cancelled(here: Here) -> None:
    run_id = here.started(here.register(retries=1), "Success", "Running", state="Cancelling")
    assert reap_zombies(here.server) == 0
    assert revive_lost_runs(here.server) == 1
    assert here.run(run_id).state == "Cancelled"
    assert [row.state for row in here.task_runs(run_id)] == ["Success", "Cancelled", "Cancelled"]


def test_two_servers_bring_a_run_back_once(here: Here, twin: Here) -> None:
    flow_id = here.register(retries=1)
    lost, dead = here.started(flow_id, "Success"), here.started(flow_id, "Success", "Running")
    four = (here, twin, here, twin)
    revived = at_once(*[lambda each=each: revive_lost_runs(each.server) for each in four])
    assert sorted(revived) == [0, 0, 0, 1]
    assert sorted(at_once(*[lambda each=each: reap_zombies(each.server) for each in four])) == [0, 0, 0, 1]
    assert here.run(lost).times_resurrected == 1
    assert (here.task_runs(dead)[1].state, here.task_runs(dead)[1].version) == ("Retrying", 2)


# --- the loops

class Waits:
    """An event that is set after some waits, which take no time; the machine sleeps an hour during one of them."""

    def __init__(self, count: int, asleep: int | None = None) -> None:
        self.count, self.asleep, self.asked, self.clock = count, asleep, [], 1e9

    def wait(self, seconds: float) -> bool:
        self.asked.append(seconds)
        self.clock += seconds + (3600 if len(self.asked) == self.asleep else 0)
        return len(self.asked) > self.count


def loop(monkeypatch: pytest.MonkeyPatch, waits: Waits, work: Callable[[ServerContext], int], *how: float) -> None:
    handle = object.__new__(background.Services)
    handle._server, handle._stopped = None, waits
    monkeypatch.setattr(background.time, "time", lambda: waits.clock)
    handle._loop(work, *how)


def test_the_scheduler_works_at_once_and_the_others_after_the_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    for how, first, asked in (((150,), 0, 150), ((120, 600), 600, 120), ((600, 30), 600, 600)):
        worked, waits = [], Waits(3)
        loop(monkeypatch, waits, worked.append, *how)
        assert waits.asked == [first, asked, asked, asked]
        assert len(worked) == 3


def test_after_a_sleep_of_the_machine_the_runs_get_time_to_be_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    worked, waits = [], Waits(5, asleep=3)
    loop(monkeypatch, waits, lambda _server: worked.append(len(waits.asked)), 120, 600)
    assert waits.asked == [600, 120, 120, 600, 120, 120]
    assert worked == [1, 2, 4, 5]


def test_a_pass_that_fails_costs_one_line_and_not_the_service(monkeypatch: pytest.MonkeyPatch,
                                                              caplog: pytest.LogCaptureFixture) -> None:
    def work(_server: ServerContext) -> int:
        raise OSError("the disk\nis full")

    loop(monkeypatch, Waits(2), work, 120, 600)
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (logging.ERROR, "work: OSError: the disk is full; it goes on in 120 s")] * 2


def test_start_and_stop(here: Here) -> None:
    flow_id = here.register(schedule=HOURLY, schedule_active=False)
    here.set(flow, flow_id, is_schedule_active=True)
    before = threading.active_count()
    running = background.start(here.server)
    until(lambda: len(here.scheduled(flow_id)) == 10, "the first pass of the scheduler")
    running.stop()
    assert threading.active_count() == before


# --- with the client

@pytest.fixture
def quick_server(tmp_path: Path) -> Iterator[RunningServer]:
    """A server that takes a run for dead after 15 s: on a busy machine a process may need ten for its start."""
    running = RunningServer(tmp_path, "--zombie-interval", 1, "--lazarus-interval", 1, "--heartbeat-timeout", 15)
    yield running
    running.stop()


def test_runs_whose_process_is_killed_are_brought_back(quick_server: RunningServer,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    """One run whose task may be retried, one whose may not."""
    monkeypatch.setenv("PREFECT__CLOUD__HEARTBEAT_INTERVAL", "1")
    home = quick_server.home
    script = home / "killed.py"
    script.write_text(textwrap.dedent(f"""
        import os, sys, time
        from datetime import timedelta
        from pathlib import Path
        from prefect import Client, Flow, task
        HOME = Path({str(home)!r})
        def killed(retries):
            @task
            def before():
                with (HOME / f"before {{retries}}").open("a") as file: file.write("x")
            @task(max_retries=retries, retry_delay=timedelta(seconds=1) if retries else None)
            def dies():
                if not (HOME / f"pid {{retries}}").exists():
                    (HOME / f"new {{retries}}").write_text(str(os.getpid()))
                    (HOME / f"new {{retries}}").rename(HOME / f"pid {{retries}}")
                    time.sleep(600)
            with Flow(f"killed {{retries}}") as flow:
                dies(upstream_tasks=[before()])
            return flow
        if __name__ == "__main__":
            Client().create_project("p")
            print("RUNS", *[Client().create_flow_run(flow_id=killed(retries).register("p")) for retries in (0, 1)])
    """), encoding="utf-8")
    ran = quick_server.python(script)
    runs = ran.stdout.rpartition("RUNS ")[2].split()
    assert len(runs) == 2, ran.stderr
    agent = Agent(quick_server)
    try:
        for retries in (0, 1):
            until((home / f"pid {retries}").exists, f"the start of the flow: {agent.said()}")
            os.kill(int((home / f"pid {retries}").read_text()), signal.SIGKILL)

        def run(run_id: str) -> dict:
            return quick_server.ask(f'{{flow_run_by_pk(id: "{run_id}") {{state state_message times_resurrected '
                                    "states {state} task_runs {state run_count task {name}}}}")["flow_run_by_pk"]

        for retries, ends in ((0, "Failed"), (1, "Success")):
            until(lambda run_id=runs[retries]: run(run_id)["state"] in tables.FINISHED,
                  f"the end of the run: {run(runs[retries])} {agent.said()}")
            found = run(runs[retries])
            assert found["state"] == ends, (found, agent.said())
            tasks = {each["task"]["name"]: (each["state"], each["run_count"]) for each in found["task_runs"]}
            assert tasks == {"before": ("Success", 1), "dies": (ends, 1 + retries)}
            assert found["times_resurrected"] == 1 - retries
            assert (home / f"before {retries}").read_text() == "x"
    finally:
        agent.stop()
