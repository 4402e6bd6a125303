"""What the buttons do: each is a POST that changes something, and redirects to a page that says so."""

from collections.abc import Callable, Mapping
from http import HTTPStatus

import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from workshop_server.errors import NotFoundError, RequestError
from workshop_server.flows import versions
from workshop_server.hooks import cloud_hooks
from workshop_server.runs import flow_runs
from workshop_server.runs.agents import STALE, is_gone
from workshop_server.store import database, tables
from workshop_server.ui import pages, queries, run_form, visits
from workshop_server.ui.visits import Visit, go

Form = Mapping[str, str]
Do = Callable[[Visit, Form], Response]


def action(do: Do) -> Callable:
    """The endpoint of a button; if its action fails, the page with the button says why."""
    async def endpoint(request: Request) -> Response:
        async with request.form() as sent:
            form = {name: value for name, value in sent.items() if not isinstance(value, UploadFile)}
        return await run_in_threadpool(_act, do, request, form)
    return endpoint


def _act(do: Do, request: Request, form: Form) -> Response:
    try:
        with request.app.state.server.database.write() as conn:
            return do(visits.visit(request, conn), form)
    except NotFoundError:
        raise
    except RequestError as error:
        return go(visits.local_path(form.get("back")), str(error), is_problem=True)


def run_flow(visit: Visit, form: Form) -> Response:
    """Start a run of a flow with the values of the form, or show the form again, with its errors."""
    group = queries.group_of(visit.conn, visit.request.path_params["id"], visit.allowed)
    flow = next((each for each in queries.versions(visit.conn, group.id) if each.id == form.get("flow_id")), None)
    if flow is None:
        raise NotFoundError("that version of the flow: not found")
    sent = run_form.read(form, flow, group, visit.clock.zone)
    if not sent.errors:
        try:
            run_id = flow_runs.create(visit.conn, visit.allowed, flow_id=flow.id, **sent.wanted)
            return go(visit.url("flow-run", run_id), "The run is in the queue: an agent will take it.")
        except RequestError as error:
            sent.errors["form"] = str(error)
    return visits.answer(visit, "flow.html", pages.flow, status=HTTPStatus.UNPROCESSABLE_ENTITY, errors=sent.errors,
                       sent=form)


def set_schedule(visit: Visit, form: Form) -> Response:
    """Switch the schedule of a flow on or off."""
    active = form.get("active") == "on"
    versions.set_schedule_active(visit.conn, visit.allowed, form.get("flow_id", ""), active)
    said = "The schedule is on." if active else "The schedule is off, and the runs that it had planned are gone."
    return go(visits.local_path(form.get("back")), said)


def archive(visit: Visit, form: Form) -> Response:
    """Archive a version of a flow."""
    versions.archive(visit.conn, visit.allowed, form.get("flow_id", ""))
    return go(visits.local_path(form.get("back")), "The version is archived: its runs stay, and it makes no new ones.")


def delete_version(visit: Visit, form: Form) -> Response:
    """Delete a version of a flow with its runs, and the flow with its last version."""
    group = queries.group_of(visit.conn, visit.request.path_params["id"], visit.allowed)
    versions.delete_version(visit.conn, visit.allowed, form.get("flow_id", ""))
    if queries.versions(visit.conn, group.id):
        return go(visit.url("flow", group.id) + "?tab=versions", "The version and its runs are deleted.")
    return go(visit.url(), "The flow's only version is deleted, and the flow with it.")


def delete_flow(visit: Visit, _: Form) -> Response:
    """Delete a flow with all versions and runs."""
    versions.delete_flow(visit.conn, visit.allowed, visit.request.path_params["id"])
    return go(visit.url(), "The flow is deleted, with all its versions and runs.")


def start_run(visit: Visit, _: Form) -> Response:
    """Start a run before its time."""
    flow_runs.start_now(visit.conn, visit.allowed, visit.request.path_params["id"])
    return _back_to_run(visit, "The run may start now.")


def cancel_run(visit: Visit, _: Form) -> Response:
    """Cancel a run."""
    state = flow_runs.cancel(visit.conn, visit.allowed, visit.request.path_params["id"])
    return _back_to_run(visit, {"Cancelling": "Asked the run to stop: its process sees that within 15 s.",
                                "Cancelled": "The run is cancelled."}.get(state, f"The run had ended: {state}."))


def restart_run(visit: Visit, _: Form) -> Response:
    """Run the failed tasks of a run again."""
    flow_runs.restart(visit.conn, visit.allowed, visit.request.path_params["id"])
    return _back_to_run(visit, "The run is in the queue again: failed tasks and those downstream of them run again.")


def delete_run(visit: Visit, form: Form) -> Response:
    """Delete a run with its task runs and log."""
    database.delete(visit.conn, tables.flow_run, visit.request.path_params["id"], visit.allowed)
    return go(visit.url("flow", form.get("group", "")) if form.get("group") else visit.url(), "The run is deleted.")


def remove_agent(visit: Visit, _: Form) -> Response:
    """Remove an agent from the list."""
    database.delete(visit.conn, tables.agent, visit.request.path_params["id"], visit.allowed)
    return go(visit.url("agents"), "The agent is removed from the list.")


def remove_stale_agents(visit: Visit, _: Form) -> Response:
    """Remove the agents that have not polled for a day."""
    agent = tables.agent
    last = sa.func.coalesce(agent.c.last_queried, agent.c.created)
    gone = visit.conn.execute(sa.delete(agent).where(agent.c.tenant_id == visit.tenant.id,
                                                     is_gone(last, STALE))).rowcount
    return go(visit.url("agents"), f"{gone} agent{'s are' if gone != 1 else ' is'} removed from the list.")


def read_messages(visit: Visit, form: Form) -> Response:
    """Mark a message as read or unread; or all messages as read, if the form names none."""
    table, message_id = tables.message, form.get("message_id")
    if message_id:
        database.update(visit.conn, table, message_id, visit.tenant.id, read=form.get("read") == "on")
        return go(visits.local_path(form.get("back")))
    mine = sa.and_(table.c.tenant_id == visit.tenant.id, table.c.read.is_(False))
    visit.conn.execute(sa.update(table).where(mine).values(read=True))
    return go(visits.local_path(form.get("back")), "All messages are marked as read.")


def delete_message(visit: Visit, form: Form) -> Response:
    """Delete a message."""
    database.delete(visit.conn, tables.message, form.get("message_id", ""), visit.tenant.id)
    return go(visits.local_path(form.get("back")), "The message is deleted.")


def create_hook(visit: Visit, form: Form) -> Response:
    """Create a hook that leaves messages; web hooks are created through the API."""
    cloud_hooks.create(visit.conn, visit.tenant.id, kind=cloud_hooks.MESSAGE, name=form.get("name"),
                       states=[name.removeprefix("state-") for name in form if name.startswith("state-")],
                       flow_group_id=form.get("flow_group_id") or None, most=visit.server.settings.limits.hooks)
    return go(visit.url("messages"), "The hook is there: when a run enters one of its states, it leaves a message.")


def switch_hook(visit: Visit, form: Form) -> Response:
    """Switch a hook on or off."""
    active = form.get("active") == "on"
    cloud_hooks.set_active(visit.conn, visit.tenant.id, visit.request.path_params["id"], active=active)
    return go(visit.url("messages"), "The hook is on." if active else "The hook is off.")


def delete_hook(visit: Visit, _: Form) -> Response:
    """Delete a hook."""
    database.delete(visit.conn, tables.cloud_hook, visit.request.path_params["id"], visit.tenant.id)
    return go(visit.url("messages"), "The hook is deleted; its messages stay.")


def create_project(visit: Visit, form: Form) -> Response:
    """Create a project to register flows with."""
    name = form.get("name", "").strip()
    if not name:
        raise RequestError("a project needs a name")
    try:
        made = database.insert_unique(visit.conn, tables.project, tenant_id=visit.tenant.id, name=name)
    except RequestError:
        raise RequestError(f"there is a project {name!r} already") from None
    return go(f"{visit.url()}?project={made}", f"Project {name!r} is created.")


def _back_to_run(visit: Visit, said: str) -> Response:
    return go(visit.url("flow-run", visit.request.path_params["id"]), said)


def _route(path: str, do: Do) -> Route:
    return Route(path, action(do), methods=["POST"])


ROUTES = [
    _route("/{slug}/projects", create_project),
    _route("/{slug}/flow/{id}", run_flow), _route("/{slug}/flow/{id}/schedule", set_schedule),
    _route("/{slug}/flow/{id}/archive", archive), _route("/{slug}/flow/{id}/delete-version", delete_version),
    _route("/{slug}/flow/{id}/delete", delete_flow),
    _route("/{slug}/flow-run/{id}/start", start_run), _route("/{slug}/flow-run/{id}/cancel", cancel_run),
    _route("/{slug}/flow-run/{id}/restart", restart_run), _route("/{slug}/flow-run/{id}/delete", delete_run),
    _route("/{slug}/agents/stale", remove_stale_agents), _route("/{slug}/agents/{id}/remove", remove_agent),
    _route("/{slug}/messages/read", read_messages), _route("/{slug}/messages/delete", delete_message),
    _route("/{slug}/hooks", create_hook), _route("/{slug}/hooks/{id}/switch", switch_hook),
    _route("/{slug}/hooks/{id}/delete", delete_hook),
]
