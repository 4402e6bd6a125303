"""The pages about one flow run and one task run."""

from collections.abc import Iterator

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from workshop_server.store.tables import FINISHED, WAITING, flow_run_state, task_run_state
from workshop_server.ui import pages, queries, run_queries, safe_text, timeline, visits, why_waiting
from workshop_server.ui.queries import ROWS
from workshop_server.ui.run_queries import LEVELS, LINES, LogFilter
from workshop_server.ui.visits import Visit, shown

RUN_TABS = ("timeline", "schematic", "logs", "tasks", "parameters", "artifacts")
OVERLAP = 200  # lines that are read again: if transactions overlap, a lower id may become visible later


def flow_run(visit: Visit) -> dict | Response:
    """One flow run, by one of its tabs."""
    run = run_queries.run(visit.conn, visit.request.path_params["id"], visit.allowed)
    if visit.tenant.slug != run.slug:
        return RedirectResponse(f"/{run.slug}/flow-run/{run.id}")
    tab = visit.asked("tab", RUN_TABS)
    is_waiting = run.state in WAITING and why_waiting.is_late(run, visit.clock)
    why = why_waiting.reason(run.labels, queries.agents(visit.conn, run.tenant_id)) if is_waiting else None
    return {
        "run": run, "tab": tab, "tabs": RUN_TABS, "why": why, "every": 5 if run.state in FINISHED else 3,
        "seconds": visit.clock.lasted(run.start_time, run.end_time if run.state in FINISHED else None),
        "states": run_queries.task_run_states(visit.conn, run.id),
        "artifact_count": run_queries.artifact_count(visit.conn, run.id), **_TABS[tab](visit, run),
    }


def _timeline(visit: Visit, run: object) -> dict:
    parents, children = run_queries.parents(visit.conn, run.id), run_queries.children(visit.conn, run.id)
    return {"timeline": timeline.of_run(run, parents, children, visit.clock)}


def _schematic(visit: Visit, run: object) -> dict:
    tasks, edges = queries.structure(visit.conn, run.flow_id)
    return {"tasks": {task.id: task for task in tasks}, "drawing": pages.drawing(tasks, edges),
            "parents": {each.task_id: each for each in run_queries.parents(visit.conn, run.id)},
            "children": run_queries.children(visit.conn, run.id)}


def _logs(visit: Visit, run: object) -> dict:
    wanted = _filter(visit)
    found = {"filter": wanted, "levels": LEVELS, "live_url": visit.here(tab=None, before=None),
             "log_tasks": queries.structure(visit.conn, run.flow_id)[0]}
    return found | _lines(visit, run.id, wanted)


def _lines(visit: Visit, run_id: str, wanted: LogFilter) -> dict:
    """The last lines of a log; the script of the page fetches new lines itself."""
    if visit.is_part:
        return {"lines": [], "earlier": None, "last": 0}
    last = run_queries.last_line(visit.conn, run_id)
    lines = run_queries.lines(visit.conn, run_id, wanted, before=visit.number("before") or None)
    return {"lines": lines, "last": last, "earlier": lines[0].id if len(lines) == LINES else None}


def _tasks(visit: Visit, run: object) -> dict:
    state, text = visit.asked("state"), visit.asked("text")
    rows = run_queries.task_runs(visit.conn, run.id, state=state, task_id=visit.asked("task"), text=text,
                                 page=visit.number("page"))
    return {"rows": rows[:ROWS], "more": len(rows) > ROWS, "state": state, "text": text}


def _parameters(visit: Visit, run: object) -> dict:
    return {"history": run_queries.history(visit.conn, flow_run_state, flow_run_state.c.flow_run_id, run.id)}


def _artifacts(visit: Visit, run: object) -> dict:
    found = run_queries.artifacts(visit.conn, run_id=run.id, page=visit.number("page"))
    return {"artifacts": found[:ROWS], "more": len(found) > ROWS}


_TABS = {"timeline": _timeline, "schematic": _schematic, "logs": _logs, "tasks": _tasks, "parameters": _parameters,
         "artifacts": _artifacts}


def task_run(visit: Visit) -> dict | Response:
    """One task run: its states, its log, its upstream and downstream task runs."""
    run = run_queries.one_task_run(visit.conn, visit.request.path_params["id"], visit.allowed)
    if visit.tenant.slug != run.tenant_slug:
        return RedirectResponse(f"/{run.tenant_slug}/task-run/{run.id}")
    conn, run_id = visit.conn, run.flow_run_id
    family = run_queries.children(conn, run_id, run.task_id).get(run.task_id)
    siblings = run_queries.task_runs(conn, run_id, task_id=run.task_id, children_only=True, state=visit.asked("state"),
                                     page=visit.number("page")) if family else []
    up, down = (run_queries.neighbours(conn, run.task_id, run_id, upstream=way) for way in (True, False))
    is_parent = bool(family) and run.map_index < 0
    start, end = timeline.span(run, family if is_parent else None)
    found = {
        "run": run, "family": family, "is_parent": is_parent, "siblings": siblings[:ROWS],
        "more": len(siblings) > ROWS, "seconds": visit.clock.lasted(start, end), "start": start, "end": end,
        "is_live": bool(start) and end is None, "upstream": up, "downstream": down,
        "children": run_queries.children(conn, run_id), "state": visit.asked("state"),
        "parent": next(iter(run_queries.parents(conn, run_id, [run.task_id])), None) if run.map_index >= 0 else None,
        "history": run_queries.history(conn, task_run_state, task_run_state.c.task_run_id, run.id),
        "artifacts": run_queries.artifacts(conn, task_run_id=run.id)[:ROWS],
        "every": 5 if run.run_state in FINISHED else 3,
        "live_url": visit.url("flow-run", run_id) + f"?{'task' if is_parent else 'task_run'}="
                    f"{run.task_id if is_parent else run.id}",
    }
    wanted = LogFilter(task_id=run.task_id) if is_parent else LogFilter(task_run_id=run.id)
    return found | _lines(visit, run_id, wanted)


def lines(request: Request) -> Response:
    """The lines of a log after a given one, as table rows for the script to add."""
    with request.app.state.server.database.read() as conn:
        visit = visits.visit(request, conn)
        run = run_queries.run(conn, request.path_params["id"], visit.allowed)
        last = run_queries.last_line(conn, run.id)
        after = visit.number("after")
        found = run_queries.lines(conn, run.id, _filter(visit), after=max(0, after - OVERLAP)) if last > after else []
        reached = found[-1].id if len(found) == LINES else last
        return visits.html(request, "lines.html", {"lines": found, "reached": reached, "clock": visit.clock,
                                                 "url": visit.url})


def log_file(request: Request) -> Response:
    """The whole log as a text file."""
    with request.app.state.server.database.read() as conn:
        visit = visits.visit(request, conn)
        run = run_queries.run(conn, request.path_params["id"], visit.allowed)
    name = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_") else "_"
                   for letter in run.name or "run")
    return StreamingResponse(_text(visit, run.id), media_type="text/plain; charset=utf-8", headers={
        "Content-Disposition": f'attachment; filename="{name[:80]}.log.txt"'})


def _text(visit: Visit, run_id: str) -> Iterator[str]:
    with visit.server.database.read(in_parts=True) as conn:
        for line in run_queries.all_lines(conn, run_id, _filter(visit)):
            text = f"{line.timestamp} {line.level or '':8} {line.name or ''} | {safe_text.plain(line.message)}\n"
            yield text.encode("utf-8", "replace").decode()


def _filter(visit: Visit) -> LogFilter:
    return LogFilter(visit.asked("level"), visit.asked("text"), visit.asked("task"), visit.asked("task_run"))


ROUTES = [
    Route("/{slug}/flow-run/{id}", shown("flow_run.html", flow_run)),
    Route("/{slug}/flow-run/{id}/lines", lines),
    Route("/{slug}/flow-run/{id}/log.txt", log_file),
    Route("/{slug}/task-run/{id}", shown("task_run.html", task_run)),
]
