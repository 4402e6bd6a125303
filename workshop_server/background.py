"""What the server does unasked: runs of schedules, task runs whose process died, flow runs that were lost, web hooks.

A run is dead where its process has given no sign of life for `settings.heartbeat_timeout`. After a start of the server,
and after the machine slept, every run is given that time anew: nobody could have heard it.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

import sqlalchemy as sa

from workshop_server.context import Server
from workshop_server.hooks.delivery import send_hooks
from workshop_server.runs import runs, states
from workshop_server.schedules import schedules
from workshop_server.settings import Settings
from workshop_server.store import timestamps
from workshop_server.store.database import owned
from workshop_server.store.tables import FINISHED, WAITING, flow, flow_group, flow_run, task, task_run

log = logging.getLogger(__name__)

KEY = "auto-scheduled:"  # and the start, in UTC: one run of a flow has this idempotency key
ASLEEP = 30  # seconds by which the clock on the wall runs ahead of a wait where the machine slept
# Not a bound parameter: with the word itself, the index of what runs now serves the query.
RUNNING = task_run.c.state == sa.literal_column("'Running'")


class Services:
    """The services at work, until `stop`."""

    def __init__(self, server: Server) -> None:
        settings = server.settings
        self._server = server
        self._stopped = threading.Event()
        self._threads = [self._start(schedule_runs, settings.scheduler_interval),
                         self._start(reap_zombies, settings.zombie_interval, settings.heartbeat_timeout),
                         self._start(revive_lost_runs, settings.lazarus_interval, settings.heartbeat_timeout),
                         self._start(send_hooks, settings.hook_interval)]

    def stop(self) -> None:
        """End the loops; a pass that is under way ends first."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(timeout=10)

    def _start(self, *how: object) -> threading.Thread:
        thread = threading.Thread(target=self._loop, args=how, name=how[0].__name__, daemon=True)
        thread.start()
        return thread

    def _loop(self, work: Callable[[Server], int], interval: float, grace: float = 0) -> None:
        """Work at intervals; with a `grace`, not before runs that live have had that long to say so."""
        first = max(interval, grace) if grace else 0
        wait, began = first, time.time()
        while not self._stopped.wait(wait):
            slept = time.time() - began > wait + ASLEEP
            wait = first if grace and slept else interval
            if wait == interval:
                try:
                    work(self._server)
                except Exception as error:  # one bad pass must not end the service
                    log.error("%s: %s; it goes on in %g s", work.__name__, _one_line(error), interval)
            began = time.time()


def start(server: Server) -> Services:
    """Start the scheduler, the zombie killer, Lazarus and the sender of web hooks, each in a thread of its own."""
    return Services(server)


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _one_by_one(rows: Iterable[sa.Row], do: Callable[[sa.Row], int]) -> int:
    """The sum of what `do` gives for the rows; one that it cannot do costs a line in the log, not the others."""
    done = 0
    for row in rows:
        try:
            done += do(row)
        except Exception as error:
            log.error("%s %s: %s", do.__name__, row.id, _one_line(error))
    return done


def schedule_runs(server: Server) -> int:
    """Give each flow with an active schedule its next runs; returns the number of runs that are new."""
    now, ahead = datetime.now(UTC), server.settings.scheduled_ahead
    active = sa.and_(flow.c.is_schedule_active.is_(True), flow.c.archived.is_(False))
    with server.database.read() as conn:
        flows = conn.execute(
            sa.select(flow.c.id, flow.c.schedule, flow_group.c.schedule.label("of_group")).join(flow_group)
            .where(active, sa.or_(_given(flow), _given(flow_group)))).all()
        known = set(map(tuple, conn.execute(_keys_after(now).join(flow).where(active)))) if flows else set()

    def schedule(row: sa.Row) -> int:
        events = schedules.upcoming(row.of_group or row.schedule, now, ahead)
        if all((row.id, _key(event)) in known for event in events):
            return 0
        with server.database.write() as conn:
            return schedule_flow(conn, None, row.id, ahead=ahead)

    return _one_by_one(flows, schedule)


def schedule_flow(conn: sa.Connection, tenant: str | None, flow_id: str, *,
                  ahead: int = Settings.scheduled_ahead) -> int:
    """Give one flow the next runs of its active schedule, inside a transaction; returns the number that are new.

    Does nothing for a flow without an active schedule. Raises RequestError where the schedule cannot be read, and
    where a run of it would lack a parameter.
    """
    home = owned(conn, flow, flow_id, tenant, lock=True)
    schedule = conn.scalar(sa.select(flow_group.c.schedule).where(flow_group.c.id == home.flow_group_id))
    schedule = schedule or home.schedule
    if home.archived or not home.is_schedule_active or not schedule:
        return 0
    now, new = datetime.now(UTC), 0
    events = schedules.upcoming(schedule, now, ahead)
    known = {key for _, key in conn.execute(_keys_after(now).where(flow_run.c.flow_id == flow_id))}
    for event in events:
        if _key(event) not in known:
            runs.create(conn, None, flow_id=flow_id, parameters=event.parameter_defaults, labels=event.labels,
                        scheduled_start_time=timestamps.text(event.start_time), idempotency_key=_key(event),
                        auto_scheduled=True)
            new += 1
    return new


def _given(table: sa.Table) -> sa.ColumnElement:
    return table.c.schedule.is_not(sa.null())


def _key(event: schedules.Event) -> str:
    return f"{KEY}{timestamps.text(event.start_time)}" + (f":{event.variant}" if event.variant else "")


def _keys_after(moment: datetime) -> sa.Select:
    """The flows and keys of the runs that schedules have made for later than the moment."""
    key = flow_run.c.idempotency_key  # in the order of their starts
    return sa.select(flow_run.c.flow_id, key).where(key > KEY + timestamps.text(moment), key < f"{KEY}9999-12-31T24")


def reap_zombies(server: Server) -> int:
    """End the task runs that run in a process which is dead; returns their number.

    A task run that has retries left, in a flow run that has not ended, goes to Retrying, from where an agent takes the
    flow run up again; any other goes to Failed. Those of a flow run that is Cancelling are left to `revive_lost_runs`.
    """
    dead = sa.and_(_silent(server), flow_run.c.state != "Cancelling",
                   flow_run.c.id.in_(sa.select(task_run.c.flow_run_id).where(RUNNING)))
    with server.database.read() as conn:
        found = [row for row in conn.execute(_with_settings(dead)) if _enabled(row, "heartbeat_enabled")]

    def reap(row: sa.Row) -> int:
        with server.database.write() as conn:
            run = _still(conn, row.id, dead)
            return _end_task_runs(conn, run) if run else 0

    return _one_by_one(found, reap)


def _end_task_runs(conn: sa.Connection, run: sa.Row) -> int:
    running = conn.execute(
        sa.select(task_run.c.id, task_run.c.run_count, task.c.max_retries).join(task)
        .where(task_run.c.flow_run_id == run.id, RUNNING).with_for_update(of=task_run, key_share=True)).all()
    goes_on = run.state not in FINISHED
    by_count = {}  # of the runs that a task run has had; None for no more
    for each in running:
        count = each.run_count if goes_on and each.run_count <= each.max_retries else None
        by_count.setdefault(count, []).append(each.id)
    for count, ids in by_count.items():
        if count is None:
            state = states.make("Failed", f"{_why(run)}: it counts as failed.")
        else:  # from the `run_count` of the state, Prefect's client counts on
            state = states.make("Retrying", f"{_why(run)}: it is run again.", start_time=timestamps.now(),
                                run_count=count)
        states.set_many_task_runs(conn, ids, state)
    return len(running)


def revive_lost_runs(server: Server) -> int:
    """Bring back the flow runs whose process is dead while none of their task runs runs; returns their number.

    Such a run goes to Scheduled, and an agent takes it up again: what has finished stays, the rest runs. After
    `settings.resurrections` times it goes to Failed. A run that waits for a task run's retry is not lost, because the
    queue has it, nor is one that an agent has just taken from there. One that was Cancelling when its process died goes
    to Cancelled.
    """
    taken = sa.and_(task_run.c.state == "Submitted", task_run.c.state_timestamp >= _since(server))
    busy = sa.exists().where(task_run.c.flow_run_id == flow_run.c.id,
                             sa.or_(task_run.c.state.in_(("Running", *WAITING)), taken))
    lost = sa.and_(_silent(server), sa.or_(
        flow_run.c.state == "Cancelling", sa.and_(flow_run.c.state.in_(("Running", "Submitted")), ~busy)))
    with server.database.read() as conn:
        found = [row for row in conn.execute(_with_settings(lost)) if _may_revive(row)]

    def revive(row: sa.Row) -> int:
        with server.database.write() as conn:
            run = _still(conn, row.id, lost)
            return _revive(conn, run, server.settings.resurrections) if run else 0

    return _one_by_one(found, revive)


def _may_revive(row: sa.Row) -> bool:
    # A flow without heartbeats is silent while it runs: only one that was never started is known to be lost.
    heard = _enabled(row, "heartbeat_enabled") or row.state == "Submitted"
    return heard and (_enabled(row, "lazarus_enabled") or row.state == "Cancelling")


def _revive(conn: sa.Connection, run: sa.Row, most: int) -> int:
    times = run.times_resurrected + 1
    if run.state == "Cancelling":
        state = states.make("Cancelled", f"{_why(run)}: it counts as cancelled.")
    elif times > most:
        state = states.make("Failed", f"{_why(run)}: Lazarus has brought it back {most} times already.")
    else:
        state = states.make("Scheduled", f"{_why(run)}: Lazarus brings it back, {times} of at most {most} times.",
                            start_time=timestamps.now())
        conn.execute(sa.update(flow_run).where(flow_run.c.id == run.id).values(times_resurrected=times))
    states.set_flow_run_state(conn, None, run.id, state)
    return 1


def _silent(server: Server) -> sa.ColumnElement:
    """Is this a flow run with no sign of life for the time that a run may be silent?"""
    since, beat = _since(server), flow_run.c.heartbeat
    return sa.and_(flow_run.c.state_timestamp < since, sa.or_(beat.is_(None), beat < since))


def _since(server: Server) -> str:
    return timestamps.now(shift=-server.settings.heartbeat_timeout)


def _why(run: sa.Row) -> str:
    return f"No heartbeat detected since {max(run.heartbeat or '', run.state_timestamp)[:19]} UTC"


def _with_settings(which: sa.ColumnElement) -> sa.Select:
    return (sa.select(flow_run.c.id, flow_run.c.state, flow.c.settings, flow_group.c.settings.label("of_group"))
            .join(flow, flow.c.id == flow_run.c.flow_id).join(flow_group).where(which))


def _enabled(row: sa.Row, setting: str) -> bool:
    return all((settings or {}).get(setting) is not False for settings in (row.settings, row.of_group))


def _still(conn: sa.Connection, flow_run_id: str, which: sa.ColumnElement) -> sa.Row | None:
    """The flow run, locked, if it is still one of these: it may have come to life, or another server was faster."""
    its = flow_run.c.id == flow_run_id
    conn.execute(sa.select(flow_run.c.id).where(its).with_for_update(key_share=True))
    return conn.execute(sa.select(flow_run).where(its, which)).first()
