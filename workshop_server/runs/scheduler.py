"""The scheduler: it creates the next flow runs of each active schedule."""

from datetime import UTC, datetime

import sqlalchemy as sa

from workshop_server.context import ServerContext
from workshop_server.runs import flow_runs
from workshop_server.runs.one_by_one import one_by_one
from workshop_server.schedules import events as schedule_events
from workshop_server.settings import Settings
from workshop_server.store import timestamps
from workshop_server.store.database import owned
from workshop_server.store.tables import flow, flow_group, flow_run

KEY = "auto-scheduled:"  # the idempotency key of such a run is this and its start in UTC: one run for each start


def schedule_runs(server: ServerContext) -> int:
    """Create the next runs of each flow with an active schedule; returns the number of new runs."""
    now, ahead = datetime.now(UTC), server.settings.scheduled_ahead
    active = sa.and_(flow.c.is_schedule_active.is_(True), flow.c.archived.is_(False))
    with server.database.read() as conn:
        flows = conn.execute(
            sa.select(flow.c.id, flow.c.schedule, flow_group.c.schedule.label("of_group")).join(flow_group)
            .where(active, sa.or_(_given(flow), _given(flow_group)))).all()
        known = set(map(tuple, conn.execute(_keys_after(now).join(flow).where(active)))) if flows else set()

    def schedule(row: sa.Row) -> int:
        events = schedule_events.upcoming(row.of_group or row.schedule, now, ahead)
        if all((row.id, _key(event)) in known for event in events):
            return 0
        with server.database.write() as conn:
            return schedule_flow(conn, None, row.id, ahead=ahead)

    return one_by_one(flows, schedule)


def schedule_flow(conn: sa.Connection, tenant: str | None, flow_id: str, *,
                  ahead: int = Settings.scheduled_ahead) -> int:
    """Create the next runs of one flow, in the caller's transaction; returns the number of new runs.

    Does nothing for a flow without an active schedule. Raises RequestError if the schedule cannot be read, or if its
    runs would lack a parameter.
    """
    home = owned(conn, flow, flow_id, tenant, lock=True)
    schedule = conn.scalar(sa.select(flow_group.c.schedule).where(flow_group.c.id == home.flow_group_id))
    schedule = schedule or home.schedule
    if home.archived or not home.is_schedule_active or not schedule:
        return 0
    now, new = datetime.now(UTC), 0
    events = schedule_events.upcoming(schedule, now, ahead)
    known = {key for _, key in conn.execute(_keys_after(now).where(flow_run.c.flow_id == flow_id))}
    for event in events:
        if _key(event) not in known:
            flow_runs.create(conn, None, flow_id=flow_id, parameters=event.parameter_defaults, labels=event.labels,
                        scheduled_start_time=timestamps.text(event.start_time), idempotency_key=_key(event),
                        auto_scheduled=True)
            new += 1
    return new


def _given(table: sa.Table) -> sa.ColumnElement:
    return table.c.schedule.is_not(sa.null())


def _key(event: schedule_events.Event) -> str:
    return f"{KEY}{timestamps.text(event.start_time)}" + (f":{event.variant}" if event.variant else "")


def _keys_after(moment: datetime) -> sa.Select:
    """The flow ids and idempotency keys of the scheduled runs that start later than the moment."""
    key = flow_run.c.idempotency_key  # sorts by the start, which it contains
    return sa.select(flow_run.c.flow_id, key).where(key > KEY + timestamps.text(moment), key < f"{KEY}9999-12-31T24")
