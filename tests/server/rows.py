"""Rows as a workshop leaves them: the mapped QC flow over 16 slides, its runs, logs, artifacts, agents and schedule."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import sqlalchemy as sa

from workshop_server.runs import states
from workshop_server.store import tables, timestamps
from workshop_server.store.tables import new_id

PARAMETERS = {"file_names": None, "image_work_size": "1.25x", "blur_radius": 7, "blur_threshold": 0.05,
              "blur_max": 0.05, "output": "output"}
MAPPED = {  # each step: what it waits for, its seconds for one slide
    "load_image": (("file_names", "image_work_size", "output"), 0.8),
    "tissue_segmentation_simple": (("load_image", "image_work_size"), 1.4),
    "identifyBlurryRegions": (("load_image", "image_work_size", "blur_radius", "blur_threshold",
                               "tissue_segmentation_simple"), 3.0),
    "check_blurry": (("identifyBlurryRegions", "blur_max"), 0.1),
    "case(True)": (("check_blurry",), 0.1),
    "blurry_action": (("case(True)", "load_image", "identifyBlurryRegions"), 0.2),
    "save_result": (("load_image", "image_work_size", "tissue_segmentation_simple", "identifyBlurryRegions",
                     "check_blurry"), 0.4),
}
NEXT_DAY = {"clocks": [{"type": "CronClock", "cron": "0 2 * * *", "start_date": None, "end_date": None, "labels": None,
                        "parameter_defaults": {"file_names": []}, "day_or": True, "__version__": "1.4.1"}],
            "filters": [], "or_filters": [], "not_filters": [], "adjustments": [], "__version__": "1.4.1"}
SLIDES = [f"slide-{number:02}.svs" for number in range(16)]


@dataclass
class Flow:
    """A registered flow: its ids, and those of its tasks by name."""

    tenant: str
    project: str
    group: str
    id: str
    tasks: dict[str, str] = field(default_factory=dict)


def tenant(conn: sa.Connection) -> str:
    """The tenant that every new database has."""
    return conn.scalar(sa.select(tables.tenant.c.id))


def put(conn: sa.Connection, table: sa.Table, **values: object) -> str:
    """Insert a row; returns its id."""
    values.setdefault("id", new_id())
    conn.execute(sa.insert(table).values(**values))
    return values["id"]


def flow(conn: sa.Connection, *, name: str = "Check all slides", project: str = "Image QC", version: int = 1,
         like: Flow | None = None, schedule: dict | None = None, archived: bool = False,
         tenant_id: str | None = None) -> Flow:
    """The workshop's flow, or, with `like`, another version of a flow."""
    owner = tenant_id or tenant(conn)
    if like:
        project_id, group = like.project, like.group
    else:
        project_id = conn.scalar(sa.select(tables.project.c.id).where(tables.project.c.name == project,
                                                                      tables.project.c.tenant_id == owner))
        project_id = project_id or put(conn, tables.project, tenant_id=owner, name=project)
        group = new_id()
        put(conn, tables.flow_group, id=group, tenant_id=owner, name=group)
    config = {"type": "UniversalRun", "labels": ["microscope-room"], "env": {}, "__version__": "1.4.1"}
    made = Flow(owner, project_id, group, put(
        conn, tables.flow, tenant_id=owner, project_id=project_id, flow_group_id=group, version_group_id=group,
        name=name, version=version, archived=archived, schedule=schedule, is_schedule_active=bool(schedule),
        run_config=config, storage={"type": "Local"}, core_version="1.4.1", parameters=[
            {"name": each, "slug": each, "required": each == "file_names", "default": default,
             "type": "prefect.core.parameter.Parameter"} for each, default in PARAMETERS.items()]))
    for each in (*PARAMETERS, *MAPPED):
        kind = "prefect.core.parameter.Parameter" if each in PARAMETERS else "prefect.tasks.core.function.FunctionTask"
        made.tasks[each] = put(conn, tables.task, flow_id=made.id, name=each, slug=f"{each}-1", mapped=each in MAPPED,
                               type=kind, trigger="prefect.triggers.all_successful",
                               max_retries=2 if each == "load_image" else 0, retry_delay="0:00:10")
    for each, (before, _) in MAPPED.items():
        for other in before:
            put(conn, tables.edge, flow_id=made.id, upstream_task_id=made.tasks[other], key=other,
                downstream_task_id=made.tasks[each], mapped=other in ("file_names", *MAPPED))
    return made


def run(conn: sa.Connection, of: Flow, state: str = "Success", *, name: str = "amber-otter", began: float = -120,
        slides: int = 16, message: str = "", agent: str | None = None, pace: float = 0.25,
        states_of: Callable[[str, int], str] | None = None, **more: object) -> str:
    """A run that began `began` seconds from now, with the children of its mapped tasks; returns its id.

    `states_of(task, index)` gives the children's states; `pace` shortens the seconds of each step.
    """
    begun = state not in ("Scheduled", "Submitted", "Queued")
    start, due = timestamps.now(shift=began), timestamps.now(shift=began - 3)
    run_id = put(conn, tables.flow_run, tenant_id=of.tenant, flow_id=of.id, name=name, **_state(state, message),
                 start_time=start if begun else None, scheduled_start_time=due, agent_id=agent,
                 parameters={"file_names": SLIDES[:slides], "output": "/home/ada/workshop/output"},
                 labels=["microscope-room"], version=3, heartbeat=timestamps.now(), **more)
    _history(conn, tables.flow_run_state, "flow_run_id", run_id, began, ["Scheduled", "Submitted", "Running", state])
    rows, last = [], began
    for each in of.tasks:
        base = {"flow_run_id": run_id, "task_id": of.tasks[each], "name": None, "version": 3, "run_count": 1}
        if not begun:
            rows.append(base | {"id": new_id(), "map_index": -1, **_state("Pending"), **_times(None, None),
                                "run_count": 0})
        elif each in PARAMETERS:
            rows.append(base | {"id": new_id(), "map_index": -1, **_state("Success", "Task run succeeded."),
                                **_times(began + 0.1, began + 0.2)})
        else:
            some, last = _children(base, each, began, slides, pace, state, states_of)
            rows += some
    conn.execute(sa.insert(tables.task_run), rows)
    if state in tables.FINISHED:
        conn.execute(sa.update(tables.flow_run).where(tables.flow_run.c.id == run_id).values(
            end_time=timestamps.now(shift=min(last + 0.3, 0))))
    return run_id


def _children(base: dict, step: str, began: float, slides: int, pace: float, state: str,
              states_of: Callable[[str, int], str] | None) -> tuple[list[dict], float]:
    order = list(MAPPED).index(step)
    before = sum(MAPPED[other][1] for other in list(MAPPED)[:order])
    rows, last = [base | {"id": new_id(), "map_index": -1, **_state("Mapped", "Mapped task"),
                          **_times(began + 0.4 + before * pace, None)}], began
    dice = random.Random(step)
    for index in range(slides):
        its = states_of(step, index) if states_of else "Success"
        took = MAPPED[step][1] * pace * dice.uniform(0.6, 1.5)
        start = began + 0.5 + before * pace + index * pace * dice.uniform(0.5, 0.9)
        ended = its in tables.FINISHED
        start, end = (None, None) if its in ("Pending", "TriggerFailed", "Skipped") else (
            start, min(start + took, 0) if ended else None)
        last = max(last, end or began)
        words = {"Success": "Task run succeeded.", "Failed": "SlideError: slide is truncated: fetch it again",
                 "Skipped": 'SKIP signal raised: SKIP("the slide is sharp")'}.get(its, "")
        rows.append(base | {"id": new_id(), "map_index": index, **_state(its, words), **_times(start, end)})
    return rows, last


def _state(state: str, message: str = "") -> dict:
    made = states.make(state, message)
    return {"state": state, "state_message": message, "serialized_state": made, "state_timestamp": timestamps.now()}


def _times(start: float | None, end: float | None) -> dict:
    return {"start_time": None if start is None else timestamps.now(shift=start),
            "end_time": None if end is None else timestamps.now(shift=end)}


def _history(conn: sa.Connection, table: sa.Table, column: str, run_id: str, began: float, names: list[str]) -> None:
    for version, name in enumerate(dict.fromkeys(names)):
        moment = timestamps.now(shift=began + version)
        conn.execute(sa.insert(table).values(**{column: run_id}, version=version, state=name, timestamp=moment,
                                             created=moment, message=f"Flow run is {name}"))


def log(conn: sa.Connection, run_id: str, lines: list[tuple[str, str]], task_run: str | None = None,
        began: float = -100) -> None:
    """Lines of (level, message), a tenth of a second apart."""
    conn.execute(sa.insert(tables.log), [
        {"flow_run_id": run_id, "task_run_id": task_run, "timestamp": timestamps.now(shift=began + number / 10),
         "name": "prefect.CloudTaskRunner", "level": level, "message": message}
        for number, (level, message) in enumerate(lines)])


def agent(conn: sa.Connection, *, name: str = "ada-laptop", seen: float = -4, labels: tuple[str, ...] = (
        "microscope-room", "ada-laptop"), tenant_id: str | None = None) -> str:
    """An agent that was last heard of `seen` seconds from now."""
    return put(conn, tables.agent, tenant_id=tenant_id or tenant(conn), name=name, type="LocalAgent",
               labels=list(labels), core_version="1.4.1", last_queried=timestamps.now(shift=seen))


def some_failed(step: str, index: int) -> str:
    """Two slides cannot be read; what comes after them does not run."""
    if index in (4, 11):
        return "Failed" if step == "load_image" else "TriggerFailed"
    if step == "blurry_action" and index % 3:
        return "Skipped"
    return "Success"


def under_way(step: str, index: int) -> str:
    """The first half of the slides has passed the long step, the others are on their way."""
    order = list(MAPPED).index(step)
    if order < 2:
        return "Success"
    if order == 2:
        return "Success" if index < 6 else "Running" if index < 10 else "Pending"
    return "Success" if index < 5 else "Pending"


def workshop(conn: sa.Connection) -> dict[str, str]:
    """A workshop in full swing; returns ids by what they are."""
    dice = random.Random(7)
    machine = agent(conn)
    agent(conn, name="room-server", seen=-5400, labels=("gpu",))
    old = flow(conn, archived=True)
    new = flow(conn, version=2, like=old, schedule=NEXT_DAY)
    other = flow(conn, name="Check one slide", project="Image QC")
    flow(conn, name="Hello", project="Hello, World!")
    names = [f"{first}-{second}" for first in ("brisk", "calm", "deft", "keen", "vivid", "quiet")
             for second in ("heron", "lynx", "newt", "wren", "yak")]
    for number, name in enumerate(names):
        bad = number % 7 == 4
        run(conn, dice.choice([old, new, new, other]), "Failed" if bad else "Success", name=name, agent=machine,
            began=-86400 + number * 2700, slides=dice.choice([2, 4, 8]), pace=dice.uniform(0.2, 2),
            message="Some reference tasks failed." if bad else "All reference tasks succeeded.",
            states_of=some_failed if bad else None)
    failed = run(conn, new, "Failed", name="curious-falcon", began=-900, message="Some reference tasks failed.",
                 states_of=some_failed, agent=machine, slides=16, pace=1.1)
    live = run(conn, new, "Running", name="amber-otter", began=-14, states_of=under_way, agent=machine, slides=16,
               message="Running flow.", pace=1)
    done = run(conn, new, "Success", name="silver-kestrel", began=-300, message="All reference tasks succeeded.",
               agent=machine, slides=16, pace=1.3)
    run(conn, new, "Cancelled", name="nimble-stoat", began=-2000, message="Flow run is cancelled by request",
        slides=3, agent=machine)
    late = run(conn, other, "Scheduled", name="patient-vole", began=-180, message="Flow run scheduled.")
    for day in range(1, 6):
        run(conn, new, "Scheduled", name=f"planned-{day}", began=day * 86400 - 3000, message="Flow run scheduled.",
            auto_scheduled=True)
    child = conn.execute(sa.select(tables.task_run.c.id).where(
        tables.task_run.c.flow_run_id == done, tables.task_run.c.map_index == 3,
        tables.task_run.c.task_id == new.tasks["identifyBlurryRegions"])).scalar()
    for run_id, began in ((failed, -900), (live, -14), (done, -300)):
        log(conn, run_id, [("INFO", "Submitted for execution: PID: 40117"),
                           ("INFO", "Beginning Flow run for 'Check all slides'")], began=began)
        log(conn, run_id, [("INFO", f"Task 'load_image[{slide}]': Starting task run...") for slide in range(16)]
            + [("DEBUG", "slide-03.svs: level 2 of 3, 2220 × 2967 px, 1.25x"),
               ("WARNING", "slide-03.svs: no magnification in its metadata, 20x assumed"),
               ("ERROR", "Task 'load_image[4]': Exception encountered during task execution!\nTraceback (most recent "
                "call last):\n  File \"pipeline.py\", line 41, in load_image\n    image = BaseImage(file_name)\n"
                "slideqc.errors.SlideError: slide-04.svs is truncated: fetch it again")],
            task_run=child if run_id == done else None, began=began + 1)
    put(conn, tables.task_run_artifact, tenant_id=new.tenant, task_run_id=child, kind="markdown", data={
        "markdown": "### slide-03.svs\n\n| | |\n|---|---|\n| tissue | 41 % |\n| blurry | **12 %** |\n\nScan it again."})
    put(conn, tables.task_run_artifact, tenant_id=new.tenant, task_run_id=child, kind="link",
        data={"link": "http://localhost:8080/"})
    for name, kind, group in (("what fails", "PREFECT_MESSAGE", None), ("to the lab", "WEBHOOK", new.group)):
        put(conn, tables.cloud_hook, tenant_id=new.tenant, name=name, type=kind, states=["Failed", "Cancelled"],
            version_group_id=group)
    for number, (which, kind, words) in enumerate((
            (done, "CLOUD_HOOK", "Run \"silver-kestrel\" of flow \"Check all slides\" is Success"),
            (failed, "CLOUD_HOOK_FAILED", "The hook \"to the lab\" gave up after 4 attempts, because lab.example did "
             "not answer within 5 s. It had to tell: Run \"curious-falcon\" of flow \"Check all slides\" is Failed"),
            (failed, "CLOUD_HOOK", "Run \"curious-falcon\" of flow \"Check all slides\" is Failed: Some reference "
             "tasks failed."))):
        put(conn, tables.message, tenant_id=new.tenant, type=kind, text=words, read=not number,
            created=timestamps.now(shift=100 * number - 800),
            content={"flow_run_id": which, "state": "Failed" if number else "Success"})
    return {"group": new.group, "flow": new.id, "old": old.id, "failed": failed, "live": live, "done": done,
            "late": late, "child": child, "project": new.project, "tenant": new.tenant}
