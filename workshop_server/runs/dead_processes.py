"""Runs whose process has died: the zombie killer ends their task runs, Lazarus brings the flow runs back.

The process of a run counts as dead when the run has had no heartbeat for `settings.heartbeat_timeout`. After a start
of the server, and after the machine slept, both wait for that time first: no run could have sent a heartbeat before.
"""

import sqlalchemy as sa

from workshop_server.context import ServerContext
from workshop_server.runs import states
from workshop_server.runs.one_by_one import one_by_one
from workshop_server.store import timestamps
from workshop_server.store.tables import FINISHED, WAITING, flow, flow_group, flow_run, task, task_run

# A literal instead of a bound parameter: otherwise the database does not use the index of running task runs.
RUNNING = task_run.c.state == sa.literal_column("'Running'")


def reap_zombies(server: ServerContext) -> int:
    """The zombie killer: end the Running task runs whose process is dead; returns their number.

    A task run that has retries left, in a flow run that has not ended, goes to Retrying, and an agent takes the flow
    run again. All others go to Failed. A flow run that is Cancelling is left to `revive_lost_runs`.
    """
    dead = sa.and_(_silent(server), flow_run.c.state != "Cancelling",
                   flow_run.c.id.in_(sa.select(task_run.c.flow_run_id).where(RUNNING)))
    with server.database.read() as conn:
        found = [row for row in conn.execute(_with_settings(dead)) if _enabled(row, "heartbeat_enabled")]

    def reap(row: sa.Row) -> int:
        with server.database.write() as conn:
            run = _still(conn, row.id, dead)
            return _end_task_runs(conn, run) if run else 0

    return one_by_one(found, reap)


def _end_task_runs(conn: sa.Connection, run: sa.Row) -> int:
    running = conn.execute(
        sa.select(task_run.c.id, task_run.c.run_count, task.c.max_retries).join(task)
        .where(task_run.c.flow_run_id == run.id, RUNNING).with_for_update(of=task_run, key_share=True)).all()
    goes_on = run.state not in FINISHED
    by_count = {}  # ids by run count; None: no retry is left
    for each in running:
        count = each.run_count if goes_on and each.run_count <= each.max_retries else None
        by_count.setdefault(count, []).append(each.id)
    for count, ids in by_count.items():
        if count is None:
            state = states.make("Failed", f"{_why(run)}: it counts as failed.")
        else:  # Prefect's client continues from the `run_count` of the state
            state = states.make("Retrying", f"{_why(run)}: it is run again.", start_time=timestamps.now(),
                                run_count=count)
        states.set_many_task_runs(conn, ids, state)
    return len(running)


def revive_lost_runs(server: ServerContext) -> int:
    """Lazarus: reschedule the flow runs whose process is dead and that have no Running task run; returns their number.

    Such a run goes to Scheduled, and an agent takes it again: tasks that have finished do not run again. After
    `settings.resurrections` times it goes to Failed. A run that waits for the retry of a task run is not lost, because
    it is in the queue, nor is a run that an agent has just taken. A run that is Cancelling goes to Cancelled.
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

    return one_by_one(found, revive)


def _may_revive(row: sa.Row) -> bool:
    # A flow with heartbeats disabled sends none while it runs: only a run that was never started is surely lost.
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


def _silent(server: ServerContext) -> sa.ColumnElement:
    """The condition: no heartbeat and no new state of the flow run for `settings.heartbeat_timeout`."""
    since, beat = _since(server), flow_run.c.heartbeat
    return sa.and_(flow_run.c.state_timestamp < since, sa.or_(beat.is_(None), beat < since))


def _since(server: ServerContext) -> str:
    return timestamps.now(shift=-server.settings.heartbeat_timeout)


def _why(run: sa.Row) -> str:
    return f"No heartbeat detected since {max(run.heartbeat or '', run.state_timestamp)[:19]} UTC"


def _with_settings(which: sa.ColumnElement) -> sa.Select:
    return (sa.select(flow_run.c.id, flow_run.c.state, flow.c.settings, flow_group.c.settings.label("of_group"))
            .join(flow, flow.c.id == flow_run.c.flow_id).join(flow_group).where(which))


def _enabled(row: sa.Row, setting: str) -> bool:
    return all((settings or {}).get(setting) is not False for settings in (row.settings, row.of_group))


def _still(conn: sa.Connection, flow_run_id: str, which: sa.ColumnElement) -> sa.Row | None:
    """The flow run, locked, if the condition still holds: a heartbeat or another server may have been faster."""
    its = flow_run.c.id == flow_run_id
    conn.execute(sa.select(flow_run.c.id).where(its).with_for_update(key_share=True))
    return conn.execute(sa.select(flow_run).where(its, which)).first()
