"""Schedules: switched on and off, set for all versions of a flow, and removed."""

import sqlalchemy as sa

from workshop_server.context import Caller
from workshop_server.errors import RequestError
from workshop_server.flows import versions
from workshop_server.graph.types.mutation_field import NEEDED_ID, OBJECTS, TEXT, Fields, mutation
from workshop_server.graph.types.scalars import JSONB
from workshop_server.schedules import events as schedule_events

FIELDS: Fields = {}


@mutation(FIELDS, flow_id=NEEDED_ID)
def set_schedule_active(conn: sa.Connection, caller: Caller, flow_id: str) -> None:
    """Switch a flow's schedule on."""
    versions.set_schedule_active(conn, caller.tenant, flow_id, active=True)


@mutation(FIELDS, flow_id=NEEDED_ID)
def set_schedule_inactive(conn: sa.Connection, caller: Caller, flow_id: str) -> None:
    """Switch a flow's schedule off."""
    versions.set_schedule_active(conn, caller.tenant, flow_id, active=False)


@mutation(FIELDS, flow_group_id=NEEDED_ID, cron_clocks=OBJECTS, interval_clocks=OBJECTS, clocks=OBJECTS, schedule=JSONB,
          timezone=TEXT)
def set_flow_group_schedule(conn: sa.Connection, caller: Caller, flow_group_id: str, cron_clocks: list | None,
                            interval_clocks: list | None, clocks: list | None, schedule: dict | None,
                            timezone: str | None) -> None:
    """Replace the registered schedule: by clocks, or by a schedule as prefect 1.4.1 serializes it."""
    clocks = [*(cron_clocks or []), *(interval_clocks or []), *(clocks or [])]
    if schedule is None and clocks:
        schedule = schedule_events.from_clocks(clocks, timezone)
    if not schedule:
        raise RequestError("a schedule needs clocks; delete_flow_group_schedule takes one away")
    versions.set_schedule(conn, caller.tenant, flow_group_id, schedule)


@mutation(FIELDS, flow_group_id=NEEDED_ID)
def delete_flow_group_schedule(conn: sa.Connection, caller: Caller, flow_group_id: str) -> None:
    """Restore the registered schedule."""
    versions.set_schedule(conn, caller.tenant, flow_group_id, None)
