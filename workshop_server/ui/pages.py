"""The pages about projects, flows, agents and the API."""

from urllib.parse import urlencode
from uuid import uuid4

from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from workshop_server.errors import NotFoundError
from workshop_server.runs.agents import STALE, is_alive, is_gone
from workshop_server.runs.flow_runs import default_labels
from workshop_server.schedules import events as schedule_events
from workshop_server.store.tables import FINISHED
from workshop_server.ui import bars, queries, run_form, run_queries, safe_text, schematic, why_waiting
from workshop_server.ui.queries import ROWS
from workshop_server.ui.visits import Visit, shown

FLOW_TABS = ("overview", "runs", "schematic", "versions", "run")
EACH = 24  # bars for each flow of the dashboard
HOOK_STATES = ("Failed", "Success", "Cancelled", "Cancelling", "Scheduled", "Submitted", "Running")  # of flow runs


def dashboard(visit: Visit) -> dict:
    """The dashboard of one project, or of all projects."""
    conn, tenant = visit.conn, visit.tenant.id
    project = queries.project_of(conn, visit.asked("project"), tenant) if visit.asked("project") else None
    project_id = project.id if project else None
    groups, more = _paged(queries.flow_groups(conn, tenant, project_id, visit.number("page")))
    runs = queries.runs(conn, tenant, project_id=project_id)[:queries.BARS]
    last = queries.runs_by_group(conn, tenant, [group.flow_group_id for group in groups], EACH)
    counts = queries.counts(conn, tenant, project_id=project_id)
    agents = queries.agents(conn, tenant)
    return {
        "projects": queries.projects(conn, tenant), "project": project, "groups": groups, "more": more,
        "bars": bars.of_runs(runs, visit.clock), "counts": counts,
        "last": {group: bars.of_runs(some, visit.clock) for group, some in last.items()},
        "upcoming": _upcoming(visit, queries.upcoming(conn, tenant, project_id=project_id), agents),
        "agents": [(agent, is_alive(agent)) for agent in agents[:6]],
        "alive": sum(is_alive(agent) for agent in agents),
        "failures": queries.failures(conn, tenant, project_id),
        "every": 3 if _is_busy(counts) else 5,
    }


def flow(visit: Visit) -> dict | Response:
    """A flow: one version, and the list of all."""
    wanted = visit.request.path_params["id"]
    group = queries.group_of(visit.conn, wanted, visit.allowed)
    if wanted != group.id or visit.tenant.slug != group.slug:
        rest = dict(visit.request.query_params) | ({"flow_id": wanted} if wanted != group.id else {})
        return RedirectResponse(f"/{group.slug}/flow/{group.id}" + (f"?{urlencode(rest)}" if rest else ""))
    versions = queries.versions(visit.conn, group.id)
    if not versions:
        raise NotFoundError(f"flow {group.id} not found")
    chosen = next((each for each in versions if each.id == visit.asked("flow_id")), None)
    one = chosen or next((each for each in versions if not each.archived), versions[0])
    tab = visit.asked("tab", FLOW_TABS)
    counts = queries.counts(visit.conn, visit.tenant.id, group_id=group.id, flow_id=chosen.id if chosen else None)
    schedule = group.schedule or one.schedule
    return {
        "group": group, "flow": one, "chosen": chosen, "versions": versions, "tab": tab, "counts": counts,
        "newest": versions[0], "project_name": one.project_name, "tabs": FLOW_TABS,
        "schedule": safe_text.crons_in_words(schedule_events.in_words(schedule)) if schedule else "",
        "every": 3 if _is_busy(counts) else 5, **_FLOW_TAB[tab](visit, group, one, bool(chosen)),
    }


def _flow_overview(visit: Visit, group: object, one: object, is_chosen: bool) -> dict:
    only = {"group_id": group.id, "flow_id": one.id if is_chosen else None}
    runs = queries.runs(visit.conn, visit.tenant.id, **only)[:queries.BARS]
    agents = queries.agents(visit.conn, visit.tenant.id)
    waits = queries.upcoming(visit.conn, visit.tenant.id, group_id=group.id, limit=10)
    return {"runs": runs[:10], "bars": bars.of_runs(runs, visit.clock), "upcoming": _upcoming(visit, waits, agents),
            "fields": run_form.fields(one, group.default_parameters)}


def _flow_runs(visit: Visit, group: object, one: object, is_chosen: bool) -> dict:
    state = visit.asked("state")
    runs, more = _paged(queries.runs(visit.conn, visit.tenant.id, group_id=group.id, limit=ROWS,
                                     flow_id=one.id if is_chosen else None, states=(state,) if state else (),
                                     page=visit.number("page")))
    return {"runs": runs, "more": more, "state": state}


def _flow_schematic(visit: Visit, _group: object, one: object, _is_chosen: bool) -> dict:
    tasks, edges = queries.structure(visit.conn, one.id)
    return {"tasks": {task.id: task for task in tasks}, "drawing": drawing(tasks, edges)}


def _flow_versions(_visit: Visit, _group: object, _one: object, _is_chosen: bool) -> dict:
    return {}


def _flow_run(visit: Visit, group: object, one: object, _is_chosen: bool) -> dict:
    like = run_queries.run(visit.conn, visit.asked("like"), visit.allowed) if visit.asked("like") else None
    sent = {run_form.PREFIX + name: run_form.as_text(value) for name, value in (like.parameters or {}).items()
            } if like else {}
    return {"fields": run_form.fields(one, group.default_parameters), "key": uuid4().hex, "prefix": run_form.PREFIX,
            "labels": default_labels(group, one), "sent": sent, "every": 0}


_FLOW_TAB = {"overview": _flow_overview, "runs": _flow_runs, "schematic": _flow_schematic, "versions": _flow_versions,
             "run": _flow_run}


def agents(visit: Visit) -> dict:
    """The agents, and the runs that no agent takes."""
    found = queries.agents(visit.conn, visit.tenant.id)
    late = [row for row in _upcoming(visit, queries.upcoming(visit.conn, visit.tenant.id, limit=50), found)
            if row["reason"] and row["reason"][1]]
    known = [(agent, is_alive(agent)) for agent in found]
    stale = sum(is_gone(agent.last_queried or agent.created, STALE) for agent in found)
    return {"agents": known, "late": late[:10], "alive": any(alive for _, alive in known), "stale": stale}


def messages(visit: Visit) -> dict:
    """The messages of hooks, and the hooks."""
    conn, tenant = visit.conn, visit.tenant.id
    found, more = _paged(queries.messages(conn, tenant, visit.number("page")))
    run_ids = [run_id for each in found if isinstance(run_id := each.content.get("flow_run_id"), str)]
    return {"messages": found, "more": more, "runs": queries.still_there(conn, tenant, run_ids),
            "hooks": queries.hooks(conn, tenant), "groups": queries.flow_groups(conn, tenant, None, 0)[:ROWS],
            "waiting_for": HOOK_STATES}


def api(_visit: Visit) -> dict:
    """The interactive page of the API."""
    return {"every": 0}


def drawing(tasks: list, edges: list) -> schematic.Drawing:
    """The layout of a flow's tasks."""
    return schematic.layout(tuple(task.id for task in tasks),
                            tuple((edge.upstream_task_id, edge.downstream_task_id) for edge in edges))


def _upcoming(visit: Visit, runs: list, agents: list) -> list[dict]:
    """Waiting runs, and for late ones, the reason."""
    return [{"run": run, "late": late,
             "reason": why_waiting.reason(run.labels, agents) if late else None}
            for run in runs for late in [why_waiting.is_late(run, visit.clock)]]


def _paged(rows: list) -> tuple[list, bool]:
    return rows[:ROWS], len(rows) > ROWS


def _is_busy(counts: dict[str, int]) -> bool:
    return any(state not in FINISHED for state in counts)


ROUTES = [
    Route("/{slug}", shown("dashboard.html", dashboard)),
    Route("/{slug}/agents", shown("agents.html", agents)),
    Route("/{slug}/messages", shown("messages.html", messages)),
    Route("/{slug}/api", shown("api.html", api)),
    Route("/{slug}/flow/{id}", shown("flow.html", flow)),
]
