"""What is not right yet in an attendee's flow: its graph, and what its runs left, each against what the step asks for.

Every mistake gets a sentence of its own: what was found, what was expected, and which idea's hint helps.
"""

import difflib
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from slideqc.checking.steps import DEFAULTS, STEPS, TASKS


class Finding(NamedTuple):
    """Something that is not right yet; `idea` names the hint."""

    found: str
    expected: str
    idea: str


class Edge(NamedTuple):
    """`up` is needed by `down`: as its argument `key`, or, where that is None, only because it comes first."""

    up: str
    down: str
    key: str | None
    mapped: bool


class Graph(NamedTuple):
    """A flow as far as it matters here. Tasks go by their slugs, which differ even where names do not."""

    names: dict[str, str]                   # slug → name
    parameters: dict[str, object]           # name → default, or None
    edges: list[Edge]
    constants: dict[str, dict[str, object]]  # slug → argument → the value it was built with
    cases: list[str]                        # slugs of the tasks that a `case` makes
    plain: list[str]                        # steps that the script knows as functions, not as tasks

    def slugs(self, name: str) -> list[str]:
        """The tasks of that name."""
        return [slug for slug, its in self.names.items() if its == name]

    def before(self, slug: str) -> set[str]:
        """All that has to be done before this task."""
        found, more = set(), {slug}
        while more:
            more = {edge.up for edge in self.edges if edge.down in more} - found
            found |= more
        return found


def tasks(graph: Graph, step: int) -> Finding | None:
    """Is every step of the pipeline a task, under its name?"""
    for name in TASKS:
        if graph.slugs(name):
            continue
        if name in graph.plain:
            return undecorated(name)
        expected = f"a task {name}: each step of the pipeline becomes a task and keeps its name"
        if close := difflib.get_close_matches(name, graph.names.values(), 1):
            return Finding(f"a task called {close[0]}, and none called {name}", expected, "task")
        there = ", ".join(sorted(set(graph.names.values()) & set(TASKS))) or "none of the pipeline's steps"
        return Finding(f"the flow has no task {name} (it has {there})", expected, "task")
    return None


def undecorated(name: str) -> Finding:
    """A function without @task, which ran while the flow was built."""
    return Finding(f"{name} is a plain function: calling it in define_flow() ran it at once, with tasks in place of "
                   "their results", f"a task {name}, which runs when the flow runs", "task")


def missing_name(found: str, name: str) -> Finding:
    """A name that nobody has imported: where it comes from, if Prefect has it."""
    import prefect
    import prefect.executors
    if name == "prefect":
        return Finding(f"{found}: `from prefect import …` does not bring the name prefect itself",
                       "`import prefect`, at the top of the script", "import")
    home = next((one.__name__ for one in (prefect, prefect.executors) if hasattr(one, name)), None)
    return Finding(found, f"`from {home} import {name}`, at the top of the script" if home
                   else "names that are imported or defined first", "import")


def parameters(graph: Graph, step: int) -> Finding | None:
    """Is what may differ between runs a Parameter, and handed on as one?"""
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


def mapped(graph: Graph, step: int) -> Finding | None:
    """Is each step mapped over the slides?"""
    for name in TASKS[:3]:
        slug = graph.slugs(name)[0]
        if not any(edge.mapped for edge in graph.edges if edge.down == slug):
            return Finding(f"{name} is called once, for all slides together", f"{name} mapped over the slides", "map")
    return None


def whole(graph: Graph, step: int) -> Finding | None:
    """Is what is the same for all slides left whole?"""
    for edge in graph.edges:
        name, task = graph.names[edge.up], graph.names[edge.down]
        if edge.mapped and edge.key and (name in DEFAULTS or name == "output"):
            return Finding(f"{task} is mapped over {name} too: Prefect would take {name} apart, one piece a slide",
                           f"{name} unmapped, the same for every slide", "unmapped")
    return None


def order(graph: Graph, step: int) -> Finding | None:
    """Does the blur step wait for the tissue step?"""
    tissue = set(graph.slugs("tissue_segmentation_simple"))
    if all(tissue & graph.before(slug) for slug in graph.slugs("identifyBlurryRegions")):
        return None
    return Finding("identifyBlurryRegions does not wait for tissue_segmentation_simple: Prefect may run them in "
                   "either order, and the tissue mask may not be there yet",
                   "an edge between the two, though no result is handed on", "order")


def branch(graph: Graph, step: int) -> Finding | None:
    """Does blurry_action stand in a case, and in a mapped flow in one for each slide?"""
    cases = set(graph.cases)
    if any(not cases & graph.before(slug) for slug in graph.slugs("blurry_action")):
        return Finding("no case holds blurry_action back, so it runs for every slide (an `if` is asked only once, "
                       "while the flow is built, and a task that has not run counts as true)",
                       "blurry_action inside a `case`", "case")
    if STEPS[step].files == "file_name":
        return None
    if any(edge.down in cases and not edge.mapped for edge in graph.edges):
        return Finding("the case stands outside apply_map: it compares the list of all answers with True, which is "
                       "never so, and no slide gets its warning", "a case for each slide", "case")
    for name in TASKS[3:]:
        if not any(edge.mapped for slug in graph.slugs(name) for edge in graph.edges if edge.down == slug):
            return Finding(f"{name} is called once, for all slides together", f"{name} mapped over the slides", "case")
    return None


Check = tuple[str, Callable[[Graph, int], Finding | None]]
_NAMED: list[Check] = [("each step of the pipeline is a task", tasks),
                       ("what may differ between runs is a Parameter", parameters)]
_ORDERED: Check = ("the blur step waits for the tissue step", order)
_MAPPED: list[Check] = [("each step is mapped over the slides", mapped), ("what all slides share is unmapped", whole),
                        _ORDERED, ("a case for each slide decides about the rescan", branch)]
_SERIAL: list[Check] = [*_NAMED, _ORDERED, ("a case decides about the rescan", branch)]
GRAPH_CHECKS: dict[int, list[Check]] = {number: [*_NAMED, *_MAPPED] if step.files == "file_names" else _SERIAL
                                        for number, step in STEPS.items()}


def executor(value: object, base: type) -> Finding | None:
    """Is it an executor, of Prefect's class `base`? None stands for: the script set none."""
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


def runs(done: list[dict], truth: dict[str, dict], wrong: Callable[[str, str, bool], str | None],
         values: dict) -> Iterator[tuple[str, Finding | None]]:
    """Each run, and what is not right yet about it, against pipeline.py's `truth`: a row for each slide.

    `wrong(folder, slide, with_row)` says what is wrong with the files that a run left of a slide, or None.
    """
    given = ", ".join(f"{name}={value!r}" for name, value in values.items())
    for number, run in enumerate(done):
        yield run["where"], (_change(run) or failure(run, alone=number > 0)
                             or _row_held_back(run) or _figures(run, truth, wrong, given)
                             or _branch_taken(run, truth) or _log(run))


def _change(run: dict) -> Finding | None:
    for task, what in run["changes"]:
        return Finding(f"{task} changed {what}. That works only while all tasks share one memory: under processes the "
                       "next task gets a fresh copy, without the change", "a task that returns or saves what it found, "
                       "and leaves all else as it was", "memory")
    return None


def failure(run: dict, alone: bool = False) -> Finding | None:
    """What a task that failed is down to; `alone`: it did not fail in one process, with all the others."""
    for task, kind, message in run["failures"]:
        who = task or "the flow"
        if re.search("read-?only", message):
            return Finding(f"{who} writes into the picture it was given, which is read-only ({kind}: {message})",
                           "a new picture, or a copy to work on", "memory")
        if kind == "SystemExit":
            return Finding(f"a task called sys.exit({message}), which ended the flow's run with {run['where']}",
                           "tasks that return, or raise an exception where they cannot", "end")
        if name := re.match("name '(.*?)' is not defined", message):
            return missing_name(f"{who} failed: {kind}: {message}", name[1])
        if re.match("'NoneType' object has no attribute '(debug|info|warning|warn|error|log)'", message):
            return Finding(f"{who} failed: its logger is None ({kind}: {message})", "the task's own logger: "
                           "prefect.context.get(\"logger\"), asked inside the task while it runs", "logger")
        if inner := re.search("Could not infer an active Flow context .*?<Task: (.*?)>", message):
            return Finding(f"{who} calls the task {inner[1]} while it runs", "tasks called only while the flow is "
                           "built; inside a task, a plain function", "flow")
        if alone and "process" in run["where"]:
            return Finding(f"with {run['where']}, {who} failed ({kind}: {message}), though all went well in one "
                           "process. Processes share no memory: what is handed on is pickled, and unpickled elsewhere",
                           "tasks that hand on results and files only", "memory")
        return Finding(f"I ran the flow with {run['where']}; {who} failed: {kind}: {message}", "a run without failure",
                       "order" if "has to come first" in message else "result")
    return None


def _branch_taken(run: dict, truth: dict[str, dict]) -> Finding | None:
    for slide, states in run["states"].items():
        ran, wanted = states.get("blurry_action") != "Skipped", truth[slide]["status"] == "rescan"
        if ran != wanted:
            return Finding(f"on {slide}, with {run['where']}, blurry_action {'ran' if ran else 'was skipped'}",
                           f"it {'runs' if wanted else 'is skipped'}: the slide is "
                           f"{'' if wanted else 'not '}over blur_max", "case")
    return None


def _row_held_back(run: dict) -> Finding | None:
    for slide, states in run["states"].items():
        if states.get("save_result") == "Skipped":
            return Finding(f"on {slide}, with {run['where']}, save_result was skipped, so this slide gets no row",
                           "a row for every slide: only blurry_action stands inside the case, and save_result takes no "
                           "result of it", "case")
    return None


def _figures(run: dict, truth: dict[str, dict], wrong: Callable[[str, str, bool], str | None],
             given: str) -> Finding | None:
    with_rows = run["rows"] or "save_result" in run["has"]
    call = f"I called flow.run with {given} ({run['where']})"
    for slide, row in truth.items():
        got, wanted = run["percent"].get(slide), row["percent_blurry"]
        if not isinstance(got, float) or abs(got - wanted) > 1e-6:
            return Finding(f"{call}; identifyBlurryRegions gave {got!r} for {slide}", f"{wanted:.6f}, as pipeline.py",
                           "result")
        if problem := wrong(run["folder"], slide, with_rows):
            return Finding(f"{call}; {problem}", "what pipeline.py leaves, in the same folder", "result")
    return None


def _log(run: dict) -> Finding | None:
    if run["logs"] is None or any(name.startswith("prefect.") for name in run["logs"]):
        return None
    if "prefect" in run["logs"]:
        return Finding("blurry_action logs through 'prefect', the logger that prefect.context holds while the script "
                       "is imported: the line does not say which task it is from", "the task's own logger: "
                       "prefect.context.get(\"logger\"), asked inside blurry_action while it runs", "logger")
    spoke = f"logs through {run['logs'][0]!r}" if run["logs"] else "logs nothing"
    return Finding(f"blurry_action {spoke}, so a server would never see the warning", "a line through Prefect's logger",
                   "logger")
