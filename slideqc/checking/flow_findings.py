"""What is not right yet in an attendee's flow: in its graph, and in the results of its runs.

Every mistake gets a sentence of its own: what was found, what was expected, and which hint helps.
"""

import difflib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from slideqc.checking.expected_results import ExpectedResults
from slideqc.checking.steps import DEFAULTS, STEPS, TASKS


class Finding(NamedTuple):
    """Something that is not right yet; `idea` is the key of the hint."""

    found: str
    expected: str
    idea: str


class Edge(NamedTuple):
    """`downstream` gets the result of `upstream` as its argument `key`; without a key, it only waits for it."""

    upstream: str
    downstream: str
    key: str | None
    mapped: bool


class Graph(NamedTuple):
    """The parts of a flow that are checked. Tasks are named by their slugs, since two tasks may have one name."""

    names: dict[str, str]                   # slug → name
    parameters: dict[str, object]           # name → default, or None
    edges: list[Edge]
    constants: dict[str, dict[str, object]]  # slug → argument → the value it was built with
    cases: list[str]                        # slugs of the tasks that a `case` makes
    plain_functions: list[str]              # steps that are functions in the script, and no tasks

    def slugs(self, name: str) -> list[str]:
        """The tasks of that name."""
        return [slug for slug, its_name in self.names.items() if its_name == name]

    def upstream(self, slug: str) -> set[str]:
        """All tasks that have to end before this task starts."""
        found, new = set(), {slug}
        while new:
            new = {edge.upstream for edge in self.edges if edge.downstream in new} - found
            found |= new
        return found


def check_tasks(graph: Graph, step: int) -> Finding | None:
    """Is every step of the pipeline a task, under its name?"""
    for name in TASKS:
        if graph.slugs(name):
            continue
        if name in graph.plain_functions:
            return plain_function(name)
        expected = f"a task {name}: each step of the pipeline becomes a task and keeps its name"
        if close := difflib.get_close_matches(name, graph.names.values(), 1):
            return Finding(f"a task called {close[0]}, and none called {name}", expected, "task")
        there = ", ".join(sorted(set(graph.names.values()) & set(TASKS))) or "none of the pipeline's steps"
        return Finding(f"the flow has no task {name} (it has {there})", expected, "task")
    return None


def plain_function(name: str) -> Finding:
    """A step without @task: it ran while the flow was built."""
    return Finding(f"{name} is a plain function: calling it in define_flow() ran it at once, with tasks in place of "
                   "their results", f"a task {name}, which runs when the flow runs", "task")


def name_not_imported(found: str, name: str) -> Finding:
    """A name that the script uses and does not import; says where to import it from, if Prefect has it."""
    import prefect
    import prefect.executors
    if name == "prefect":
        return Finding(f"{found}: `from prefect import …` does not bring the name prefect itself",
                       "`import prefect`, at the top of the script", "import")
    home = next((one.__name__ for one in (prefect, prefect.executors) if hasattr(one, name)), None)
    return Finding(found, f"`from {home} import {name}`, at the top of the script" if home
                   else "names that are imported or defined first", "import")


def check_parameters(graph: Graph, step: int) -> Finding | None:
    """Is each value that may differ between runs a Parameter, and handed to the tasks as one?"""
    files = STEPS[step].files
    wanted = (files, *DEFAULTS)
    extra = [name for name in graph.parameters if name not in wanted]
    frozen = {key: (graph.names[slug], value) for slug, given in graph.constants.items()
              if graph.names[slug] in TASKS for key, value in given.items()}
    if files not in frozen and "file_name" in frozen:  # the argument of load_image, once mapped over file_names
        frozen[files] = frozen["file_name"]
    for name in wanted:
        if name in frozen:
            task, value = frozen[name]
            return Finding(f"{task} gets {name}={value!r}, a value that is fixed when the flow is built",
                           f"{name} as a Parameter, so that each run can choose its own", "parameter")
        if name in graph.parameters:
            continue
        expected = f'Parameter("{name}")'
        if close := difflib.get_close_matches(name, extra, 1):
            idea = "files" if close[0] == "file_name" else "parameter"
            return Finding(f"a Parameter called {close[0]}, and none called {name}", expected, idea)
        there = ", ".join(sorted(graph.parameters)) or "none"
        return Finding(f"the flow has no Parameter {name} (it has: {there})", expected, "parameter")
    for name, default in DEFAULTS.items():
        if graph.parameters[name] not in (None, default):
            return Finding(f"the Parameter {name} is {graph.parameters[name]!r} unless told otherwise",
                           f"{default!r}, the default of pipeline.py", "parameter")
    return None


def check_mapped(graph: Graph, step: int) -> Finding | None:
    """Is each step mapped over the slides?"""
    for name in TASKS[:3]:
        slug = graph.slugs(name)[0]
        if not any(edge.mapped for edge in graph.edges if edge.downstream == slug):
            return Finding(f"{name} is called once, for all slides together", f"{name} mapped over the slides", "map")
    return None


def check_unmapped(graph: Graph, step: int) -> Finding | None:
    """Is each value that is the same for all slides unmapped?"""
    for edge in graph.edges:
        name, task = graph.names[edge.upstream], graph.names[edge.downstream]
        if edge.mapped and edge.key and (name in DEFAULTS or name == "output"):
            return Finding(f"{task} is mapped over {name} too: Prefect would take {name} apart, one piece a slide",
                           f"{name} unmapped, the same for every slide", "unmapped")
    return None


def check_order(graph: Graph, step: int) -> Finding | None:
    """Does the blur step wait for the tissue step?"""
    tissue = set(graph.slugs("tissue_segmentation_simple"))
    if all(tissue & graph.upstream(slug) for slug in graph.slugs("identifyBlurryRegions")):
        return None
    return Finding("identifyBlurryRegions does not wait for tissue_segmentation_simple: Prefect may run them in "
                   "either order, and the tissue mask may not be there yet",
                   "an edge between the two, though no result is handed on", "order")


def check_case(graph: Graph, step: int) -> Finding | None:
    """Is blurry_action inside a case, and in a mapped flow inside one for each slide?"""
    cases = set(graph.cases)
    if any(not cases & graph.upstream(slug) for slug in graph.slugs("blurry_action")):
        return Finding("no case holds blurry_action back, so it runs for every slide (an `if` is asked only once, "
                       "while the flow is built, and a task that has not run counts as true)",
                       "blurry_action inside a `case`", "case")
    if STEPS[step].files == "file_name":
        return None
    if any(edge.downstream in cases and not edge.mapped for edge in graph.edges):
        return Finding("the case stands outside apply_map: it compares the list of all answers with True, which is "
                       "never so, and no slide gets its warning", "a case for each slide", "case")
    for name in TASKS[3:]:
        if not any(edge.mapped for slug in graph.slugs(name) for edge in graph.edges if edge.downstream == slug):
            return Finding(f"{name} is called once, for all slides together", f"{name} mapped over the slides", "case")
    return None


Check = tuple[str, Callable[[Graph, int], Finding | None]]
_NAMES: list[Check] = [("each step of the pipeline is a task", check_tasks),
                       ("what may differ between runs is a Parameter", check_parameters)]
_ORDER: Check = ("the blur step waits for the tissue step", check_order)
_MAPPED: list[Check] = [("each step is mapped over the slides", check_mapped),
                        ("what all slides share is unmapped", check_unmapped), _ORDER,
                        ("a case for each slide decides about the rescan", check_case)]
_SERIAL: list[Check] = [*_NAMES, _ORDER, ("a case decides about the rescan", check_case)]
GRAPH_CHECKS: dict[int, list[Check]] = {number: [*_NAMES, *_MAPPED] if step.files == "file_names" else _SERIAL
                                        for number, step in STEPS.items()}


def check_executor(value: object, base: type) -> Finding | None:
    """Is it an executor, of Prefect's class `base`? It is None if the script sets none."""
    if isinstance(value, base):
        return None
    if isinstance(value, type):
        return Finding(f"flow.executor is the class {value.__name__}", f"an instance of it: {value.__name__}(…)",
                       "instance")
    if value is None:
        return Finding("flow.executor is not set, neither by define_flow() nor before the script's flow.run()",
                       "an executor, such as a LocalDaskExecutor", "executor")
    return Finding(f"flow.executor is {value!r}, of type {type(value).__name__}", "an executor from prefect.executors",
                   "executor")


def check_runs(runs: list[dict], expected: ExpectedResults, folder: Path,
               values: dict) -> Iterator[tuple[str, Finding | None]]:
    """For each run, the executor and what is not right yet.

    Each run left its files in a subfolder of `folder`; `values` are the parameters that it was given.
    """
    given = ", ".join(f"{name}={value!r}" for name, value in values.items())
    for number, run in enumerate(runs):
        yield run["executor"], (_changed_input(run) or failed_task(run, is_first=number == 0)
                                or _skipped_row(run) or _wrong_results(run, expected, folder, given)
                                or _wrong_branch(run, expected) or _wrong_logger(run))


def _changed_input(run: dict) -> Finding | None:
    for task, what in run["changes"]:
        return Finding(f"{task} changed {what}. That works only while all tasks share one memory: under processes the "
                       "next task gets a fresh copy, without the change", "a task that returns or saves what it found, "
                       "and leaves all else as it was", "memory")
    return None


def failed_task(run: dict, is_first: bool = True) -> Finding | None:
    """Why did a task fail? None if none did. `is_first`: no run in one process has succeeded before this one."""
    for task, kind, message in run["failures"]:
        who = task or "the flow"
        if re.search("read-?only", message):
            return Finding(f"{who} writes into the picture it was given, which is read-only ({kind}: {message})",
                           "a new picture, or a copy to work on", "memory")
        if kind == "SystemExit":
            return Finding(f"a task called sys.exit({message}), which ended the flow's run with {run['executor']}",
                           "tasks that return, or raise an exception where they cannot", "end")
        if name := re.match("name '(.*?)' is not defined", message):
            return name_not_imported(f"{who} failed: {kind}: {message}", name[1])
        if re.match("'NoneType' object has no attribute '(debug|info|warning|warn|error|log)'", message):
            return Finding(f"{who} failed: its logger is None ({kind}: {message})", "the task's own logger: "
                           "prefect.context.get(\"logger\"), asked inside the task while it runs", "logger")
        if inner := re.search("Could not infer an active Flow context .*?<Task: (.*?)>", message):
            return Finding(f"{who} calls the task {inner[1]} while it runs", "tasks called only while the flow is "
                           "built; inside a task, a plain function", "flow")
        if not is_first and "process" in run["executor"]:
            return Finding(f"with {run['executor']}, {who} failed ({kind}: {message}), though all went well in one "
                           "process. Processes share no memory: what is handed on is pickled, and unpickled elsewhere",
                           "tasks that hand on results and files only", "memory")
        return Finding(f"I ran the flow with {run['executor']}; {who} failed: {kind}: {message}",
                       "a run without failure", "order" if "has to come first" in message else "result")
    return None


def _wrong_branch(run: dict, expected: ExpectedResults) -> Finding | None:
    for slide, states in run["states"].items():
        ran, should = states.get("blurry_action") != "Skipped", expected.rows[slide]["status"] == "rescan"
        if ran != should:
            return Finding(f"on {slide}, with {run['executor']}, blurry_action {'ran' if ran else 'was skipped'}",
                           f"it {'runs' if should else 'is skipped'}: the slide is "
                           f"{'' if should else 'not '}over blur_max", "case")
    return None


def _skipped_row(run: dict) -> Finding | None:
    for slide, states in run["states"].items():
        if states.get("save_result") == "Skipped":
            return Finding(f"on {slide}, with {run['executor']}, save_result was skipped, so this slide gets no row",
                           "a row for every slide: only blurry_action stands inside the case, and save_result takes no "
                           "result of it", "case")
    return None


def _wrong_results(run: dict, expected: ExpectedResults, folder: Path, given: str) -> Finding | None:
    with_row = run["wrote_rows"] or "save_result" in run["tasks"]
    call = f"I called flow.run with {given} ({run['executor']})"
    for slide, row in expected.rows.items():
        percent, right = run["percent_blurry"].get(slide), row["percent_blurry"]
        if not isinstance(percent, float) or abs(percent - right) > 1e-6:
            return Finding(f"{call}; identifyBlurryRegions gave {percent!r} for {slide}",
                           f"{right:.6f}, as pipeline.py", "result")
        if problem := expected.difference(folder / run["folder"], slide, with_row):
            return Finding(f"{call}; {problem}", "what pipeline.py leaves, in the same folder", "result")
    return None


def _wrong_logger(run: dict) -> Finding | None:
    if run["loggers"] is None or any(name.startswith("prefect.") for name in run["loggers"]):
        return None
    if "prefect" in run["loggers"]:
        return Finding("blurry_action logs through 'prefect', the logger that prefect.context holds while the script "
                       "is imported: the line does not say which task it is from", "the task's own logger: "
                       "prefect.context.get(\"logger\"), asked inside blurry_action while it runs", "logger")
    wrote = f"logs through {run['loggers'][0]!r}" if run["loggers"] else "logs nothing"
    return Finding(f"blurry_action {wrote}, so a server would never see the warning", "a line through Prefect's logger",
                   "logger")
