"""What no client method of prefect 1.4.1 changes, but a page or `Client().graphql(…)` does."""

import sqlalchemy as sa
from graphql import GraphQLNonNull

from workshop_server.context import Caller
from workshop_server.errors import RequestError
from workshop_server.graph.fields import ID, NEEDED_ID, NEEDED_TEXT, OBJECTS, STRINGS, TEXT, Fields, home_of, mutation
from workshop_server.graph.scalars import JSONB, UUID
from workshop_server.runs import flows
from workshop_server.schedules import schedules
from workshop_server.store.database import delete, owned, update
from workshop_server.store.tables import agent, agent_config, flow, flow_group, flow_run, project, tenant

FIELDS: Fields = {}


@mutation(FIELDS, flow_id=NEEDED_ID)
def set_schedule_inactive(conn: sa.Connection, caller: Caller, flow_id: str) -> None:
    """Switch a flow's schedule off."""
    flows.set_schedule_active(conn, caller.tenant, flow_id, active=False)


@mutation(FIELDS, flow_id=NEEDED_ID)
def archive_flow(conn: sa.Connection, caller: Caller, flow_id: str) -> None:
    """Put a version of a flow aside."""
    flows.archive(conn, caller.tenant, flow_id)


@mutation(FIELDS, flow_id=NEEDED_ID)
def delete_flow(conn: sa.Connection, caller: Caller, flow_id: str) -> None:
    """Delete a version of a flow with its runs, and the flow with its last version."""
    flows.delete_version(conn, caller.tenant, flow_id)


@mutation(FIELDS, flow_group_id=NEEDED_ID)
def delete_flow_group(conn: sa.Connection, caller: Caller, flow_group_id: str) -> None:
    """Delete a flow with all its versions and runs."""
    delete(conn, flow_group, flow_group_id, caller.tenant)


@mutation(FIELDS, flow_id=NEEDED_ID, project_id=NEEDED_ID)
def update_flow_project(conn: sa.Connection, caller: Caller, flow_id: str, project_id: str) -> None:
    """Move a flow, with all its versions, to another project of the same tenant."""
    row = owned(conn, flow, flow_id, caller.tenant)
    owned(conn, project, project_id, row.tenant_id)
    conn.execute(sa.update(flow).where(flow.c.flow_group_id == row.flow_group_id).values(project_id=project_id))


@mutation(FIELDS, flow_id=NEEDED_ID)
def enable_flow_heartbeat(conn: sa.Connection, caller: Caller, flow_id: str) -> None:
    """Let the zombie killer watch over the runs of a flow."""
    flows.set_setting(conn, caller.tenant, flow_id, heartbeat_enabled=True)


@mutation(FIELDS, flow_id=NEEDED_ID)
def disable_flow_heartbeat(conn: sa.Connection, caller: Caller, flow_id: str) -> None:
    """Keep the zombie killer off the runs of a flow."""
    flows.set_setting(conn, caller.tenant, flow_id, heartbeat_enabled=False)


@mutation(FIELDS, flow_id=NEEDED_ID)
def enable_flow_lazarus_process(conn: sa.Connection, caller: Caller, flow_id: str) -> None:
    """Let Lazarus bring back the lost runs of a flow."""
    flows.set_setting(conn, caller.tenant, flow_id, lazarus_enabled=True)


@mutation(FIELDS, flow_id=NEEDED_ID)
def disable_flow_lazarus_process(conn: sa.Connection, caller: Caller, flow_id: str) -> None:
    """Keep Lazarus off the runs of a flow."""
    flows.set_setting(conn, caller.tenant, flow_id, lazarus_enabled=False)


@mutation(FIELDS, flow_group_id=NEEDED_ID, description=TEXT)
def set_flow_group_description(conn: sa.Connection, caller: Caller, flow_group_id: str,
                               description: str | None) -> None:
    """Describe a flow."""
    update(conn, flow_group, flow_group_id, caller.tenant, description=description)


@mutation(FIELDS, flow_group_id=NEEDED_ID, parameters=JSONB)
def set_flow_group_default_parameters(conn: sa.Connection, caller: Caller, flow_group_id: str,
                                      parameters: dict | None) -> None:
    """Parameters for all runs of a flow that do not bring their own."""
    if not isinstance(parameters or {}, dict):
        raise RequestError("default parameters are an object: name and value of each")
    update(conn, flow_group, flow_group_id, caller.tenant, default_parameters=parameters or {})


@mutation(FIELDS, flow_group_id=NEEDED_ID, labels=STRINGS)
def set_flow_group_labels(conn: sa.Connection, caller: Caller, flow_group_id: str, labels: list[str] | None) -> None:
    """Labels for all runs of a flow; null goes back to those that it was registered with."""
    update(conn, flow_group, flow_group_id, caller.tenant, labels=labels)


@mutation(FIELDS, flow_group_id=NEEDED_ID, run_config=JSONB)
def set_flow_group_run_config(conn: sa.Connection, caller: Caller, flow_group_id: str,
                              run_config: dict | None) -> None:
    """A run config for all runs of a flow; null goes back to the one that it was registered with."""
    if not isinstance(run_config or {}, dict):
        raise RequestError("a run config is an object, as prefect 1.4.1 serializes it")
    update(conn, flow_group, flow_group_id, caller.tenant, run_config=run_config)


@mutation(FIELDS, flow_group_id=NEEDED_ID, cron_clocks=OBJECTS, interval_clocks=OBJECTS, clocks=OBJECTS, schedule=JSONB,
          timezone=TEXT)
def set_flow_group_schedule(conn: sa.Connection, caller: Caller, flow_group_id: str, cron_clocks: list | None,
                            interval_clocks: list | None, clocks: list | None, schedule: dict | None,
                            timezone: str | None) -> None:
    """A schedule that goes before the registered one: its clocks, or a schedule as prefect 1.4.1 serializes it."""
    clocks = [*(cron_clocks or []), *(interval_clocks or []), *(clocks or [])]
    if schedule is None and clocks:
        schedule = schedules.from_clocks(clocks, timezone)
    if not schedule:
        raise RequestError("a schedule needs clocks; delete_flow_group_schedule takes one away")
    flows.set_schedule(conn, caller.tenant, flow_group_id, schedule)


@mutation(FIELDS, flow_group_id=NEEDED_ID)
def delete_flow_group_schedule(conn: sa.Connection, caller: Caller, flow_group_id: str) -> None:
    """Go back to the registered schedule."""
    flows.set_schedule(conn, caller.tenant, flow_group_id, None)


@mutation(FIELDS, flow_run_id=NEEDED_ID)
def delete_flow_run(conn: sa.Connection, caller: Caller, flow_run_id: str) -> None:
    """Delete a flow run, with its task runs and logs."""
    delete(conn, flow_run, flow_run_id, caller.tenant)


@mutation(FIELDS, flow_run_id=NEEDED_ID, labels=STRINGS)
def set_flow_run_labels(conn: sa.Connection, caller: Caller, flow_run_id: str, labels: list[str] | None) -> None:
    """Labels of a flow run: which agents may take it."""
    update(conn, flow_run, flow_run_id, caller.tenant, labels=sorted(labels or []))


@mutation(FIELDS, ID, project_id=NEEDED_ID, name=NEEDED_TEXT)
def set_project_name(conn: sa.Connection, caller: Caller, project_id: str, name: str) -> dict:
    """Give a project another name."""
    _unique(conn, project, project_id, caller.tenant, name=name)
    return {"id": project_id}


@mutation(FIELDS, ID, project_id=NEEDED_ID, description=TEXT)
def set_project_description(conn: sa.Connection, caller: Caller, project_id: str, description: str | None) -> dict:
    """Describe a project."""
    update(conn, project, project_id, caller.tenant, description=description)
    return {"id": project_id}


@mutation(FIELDS, agent_id=NEEDED_ID)
def delete_agent(conn: sa.Connection, caller: Caller, agent_id: str) -> None:
    """Forget an agent; one that still runs goes on unlisted."""
    delete(conn, agent, agent_id, caller.tenant)


@mutation(FIELDS, ID, tenant_id=UUID, name=TEXT, settings=JSONB)
def create_agent_config(conn: sa.Connection, caller: Caller, tenant_id: str | None, name: str | None,
                        settings: dict | None) -> dict:
    """Settings that agents started with `--agent-config-id` read."""
    values = {"name": name, "settings": settings or {}}
    return {"id": conn.execute(sa.insert(agent_config).values(
        tenant_id=home_of(conn, caller, tenant_id), **values)).inserted_primary_key[0]}


@mutation(FIELDS, agent_config_id=NEEDED_ID, name=TEXT, settings=JSONB)
def update_agent_config(conn: sa.Connection, caller: Caller, agent_config_id: str, name: str | None,
                        settings: dict | None) -> None:
    """Change what is given of an agent config."""
    given = {key: value for key, value in (("name", name), ("settings", settings)) if value is not None}
    update(conn, agent_config, agent_config_id, caller.tenant, **given)


@mutation(FIELDS, agent_config_id=NEEDED_ID)
def delete_agent_config(conn: sa.Connection, caller: Caller, agent_config_id: str) -> None:
    """Delete an agent config."""
    delete(conn, agent_config, agent_config_id, caller.tenant)


@mutation(FIELDS, ID, tenant_id=NEEDED_ID, name=NEEDED_TEXT)
def update_tenant_name(conn: sa.Connection, caller: Caller, tenant_id: str, name: str) -> dict:
    """Give a tenant another name."""
    update(conn, tenant, tenant_id, caller.tenant, name=name)
    return {"id": tenant_id}


@mutation(FIELDS, ID, tenant_id=NEEDED_ID, slug=GraphQLNonNull(TEXT))
def update_tenant_slug(conn: sa.Connection, caller: Caller, tenant_id: str, slug: str) -> dict:
    """Give a tenant another part in the address of its pages; not where keys name the tenants."""
    if caller.tenant is not None:
        raise RequestError("the slug of a tenant comes from its key: make a key with another name")
    _unique(conn, tenant, tenant_id, caller.tenant, slug=slug)
    return {"id": tenant_id}


@mutation(FIELDS, ID, tenant_id=NEEDED_ID, settings=GraphQLNonNull(JSONB))
def update_tenant_settings(conn: sa.Connection, caller: Caller, tenant_id: str, settings: dict) -> dict:
    """Change the settings of a tenant that are given."""
    row = owned(conn, tenant, tenant_id, caller.tenant, lock=True)
    update(conn, tenant, tenant_id, caller.tenant, settings=row.settings | settings)
    return {"id": tenant_id}


def _unique(conn: sa.Connection, table: sa.Table, row_id: str, tenant_id: str | None, **values: str) -> None:
    try:
        update(conn, table, row_id, tenant_id, **values)
    except sa.exc.IntegrityError:
        raise RequestError("Uniqueness violation.") from None
