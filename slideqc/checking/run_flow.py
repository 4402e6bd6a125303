"""Loads an attendee's script and runs its flow. This is a process of its own, since the script may crash or hang.

`python -m slideqc.checking.run_flow STEP SCRIPT` writes what it finds to the file notes.jsonl in the folder of the
check, one line each, as JSON. check.py reads the notes, so what the script prints cannot disturb them.
"""

import ast
import contextlib
import difflib
import importlib.util
import inspect
import json
import os
import re
import runpy
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from slideqc.checking import check_folder, flow_findings
from slideqc.checking.expected_results import PARAMETERS, wait_for_slides
from slideqc.checking.flow_findings import Edge, Finding, Graph
from slideqc.checking.steps import STEPS, TASKS
from slideqc.checking.task_watch import TaskWatch
from slideqc.output import results


class FlowRunCalledError(BaseException):
    """The script called flow.run(). Not an Exception, so that no `except Exception` of a script catches it."""


def folder() -> Path:
    """The folder of this check."""
    return Path(os.environ[check_folder.VARIABLE])


def write_note(kind: str, value: object) -> None:
    """Write a note for check.py: the `stage` that begins, what is `ok`, a `finding`, a `run`, or that it is `done`."""
    with (folder() / "notes.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps([kind, value], default=repr) + "\n")


@contextlib.contextmanager
def flow_runs_blocked() -> Iterator[None]:
    """In this block, flow.run() raises FlowRunCalledError with the executor that it would use; no server is asked."""
    from prefect import Client, Flow

    def run(self: Flow, *_: object, **options: object) -> None:
        raise FlowRunCalledError(options.get("executor", self.executor))
    replaced = [(Flow, "run", run), *((owner, name, lambda *_, **__: "") for owner, name in (
        (Flow, "register"), (Flow, "visualize"), (Client, "register"), (Client, "create_flow_run"),
        (Client, "graphql")))]
    originals = [(owner, name, getattr(owner, name)) for owner, name, _ in replaced]
    for owner, name, replacement in replaced:
        setattr(owner, name, replacement)
    try:
        yield
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)


def load_flow(script: Path, is_required: bool) -> tuple[object, ModuleType] | Finding:
    """The flow of a script and its module, or why there is none. Without define_flow(), None, if not `is_required`."""
    from prefect import Flow
    spec = importlib.util.spec_from_file_location(script.stem, script)
    module = importlib.util.module_from_spec(spec)
    sys.modules[script.stem] = module
    doing = f"importing {script.name}"
    try:
        with flow_runs_blocked():
            write_note("stage", doing)
            spec.loader.exec_module(module)
            if not callable(define_flow := getattr(module, "define_flow", None)):
                return Finding(f"{script.name} has no define_flow()", "a function define_flow() that builds the flow "
                               "and returns it", "flow") if is_required else (None, module)
            arguments = [name for name, one in inspect.signature(define_flow).parameters.items()
                         if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
            if arguments:
                return Finding(f"define_flow asks for {', '.join(arguments)}: what it is given is fixed when the flow "
                               "is built", "define_flow() without arguments; they become Parameters", "parameter")
            if line := line_of_try(script):
                return Finding(f"{script.name}, line {line}: a try in `with Flow(…)`, where the tasks are only put "
                               "together: what fails when they run never gets to its except", "no try and no except: "
                               "Prefect notes which task failed, and why", "flow")
            doing = "calling define_flow()"
            write_note("stage", doing)
            flow = define_flow()
    except FlowRunCalledError:
        return Finding(f"{doing} already called flow.run()", "a flow that is only built; flow.run() stands under "
                       '`if __name__ == "__main__":`', "run")
    except BaseException as problem:
        return explain_exception(problem, script, doing)
    if not isinstance(flow, Flow):
        return Finding(f"I called define_flow(); it returned {flow!r}", "the Flow that it built", "flow")
    return flow, module


def line_of_try(script: Path) -> int | None:
    """The line of a `try` in a block of `with Flow(…)`, or around one."""
    tree = ast.parse(script.read_bytes())
    blocks = [block for block in ast.walk(tree) if isinstance(block, ast.With)
              and any(re.search(r"\bFlow\(", ast.unparse(item)) for item in block.items)]
    return next((node.lineno for node in ast.walk(tree) if isinstance(node, ast.Try)
                 and any(node in ast.walk(block) or block in ast.walk(node) for block in blocks)), None)


def explain_exception(problem: BaseException, script: Path, doing: str) -> Finding:
    """What an exception means that was raised before there was a flow."""
    frames = traceback.extract_tb(problem.__traceback__)
    line = next((frame.lineno for frame in reversed(frames) if frame.filename == str(script)), None)
    where = f"{script.name}, line {line}" if line else script.name
    if isinstance(problem, SystemExit):
        return Finding(f"{doing} called sys.exit({problem.code!r}) ({where})", "a file that can be imported without "
                       'ending Python; sys.exit() stands under `if __name__ == "__main__":`', "run")
    if isinstance(problem, SyntaxError):
        return Finding(f"{where}: Python cannot read it: {problem.msg} (line {problem.lineno})", "a script that Python "
                       "can read", "import")
    if isinstance(problem, ImportError):
        text = re.sub(r" \([^()]*\)$", "", str(problem))  # without the path of the module
        name = re.match("cannot import name '(.*?)'", text)
        similar = name and difflib.get_close_matches(name[1], dir(sys.modules.get(problem.name)), 1)
        return Finding(f"{where}: {text}" + (f" (it has {similar[0]})" if similar else ""), "only names that exist",
                       "executors" if problem.name == "prefect.executors" else "import")
    if isinstance(problem, NameError):
        return flow_findings.name_not_imported(f"{where}: {problem}", problem.name)
    if "Could not infer an active Flow context" in str(problem):
        name = re.search("<Task: (.*?)>", str(problem))
        return Finding(f"{where}: the task {name[1] if name else ''} is called outside a flow",
                       "tasks called inside the block of `with Flow(…) as flow:`", "flow")
    if doing.startswith("calling") and (ran := [frame.name for frame in frames if frame.name in TASKS]):
        return flow_findings.plain_function(ran[0])
    return Finding(f"{doing} gave {type(problem).__name__}: {problem} ({where})",
                   "a script that imports, and a define_flow() that returns a Flow", "flow")


def read_graph(flow: object, module: ModuleType) -> Graph:
    """The flow's graph."""
    from prefect import Parameter, Task
    from prefect.tasks.control_flow.conditional import CompareValue
    from prefect.tasks.core.constants import Constant
    constants = {flow.slugs[task]: dict(given) for task, given in flow.constants.items() if task in flow.slugs}
    edges = []
    for edge in flow.edges:
        upstream, downstream = flow.slugs[edge.upstream_task], flow.slugs[edge.downstream_task]
        edges.append(Edge(upstream, downstream, edge.key, edge.mapped))
        if edge.key and isinstance(edge.upstream_task, Constant):
            constants.setdefault(downstream, {})[edge.key] = edge.upstream_task.value
    # Prefect keeps edges in a set. Sorted, the same flow gets the same finding each time, about its first wrong task.
    order = {flow.slugs[task]: number for number, task in enumerate(flow.sorted_tasks())}
    edges.sort(key=lambda edge: (order[edge.downstream], str(edge)))
    return Graph({slug: task.name for task, slug in flow.slugs.items()},
                 {task.name: task.default for task in flow.tasks if isinstance(task, Parameter)}, edges, constants,
                 [slug for task, slug in flow.slugs.items() if isinstance(task, CompareValue)],
                 [name for name in TASKS if callable(one := getattr(module, name, None)) and not isinstance(one, Task)])


def chosen_executor(flow: object, script: Path) -> object:
    """The executor that define_flow() sets, or the script before it calls flow.run().

    None if neither does, a Finding if the script ends before that.
    """
    if flow.executor is not None:
        return flow.executor
    write_note("stage", f"running {script.name} as a script, up to its flow.run()")
    sys.argv = [str(script)]
    try:
        with flow_runs_blocked():
            runpy.run_path(str(script), run_name="__main__")
    except FlowRunCalledError as call:
        return call.args[0]
    except SystemExit:
        pass
    except Exception as problem:
        return explain_exception(problem, script, f"running {script.name} as a script")
    return None


def run_with_executor(flow: object, files: str, slides: list[Path], executor: str, watch: TaskWatch | None) -> dict:
    """Run the flow on the slides, one by one or all together; returns what is to be checked. Its files are kept."""
    # Not flags.OUTPUT: the script may have set that to a folder of its own, and this one is renamed.
    output = folder() / "output"
    kept = output.with_name(f"output of {executor}")
    run = {"executor": executor, "folder": kept.name, "states": {}, "percent_blurry": {}, "failures": [], "changes": [],
           "loggers": None, "tasks": sorted({task.name for task in flow.tasks})}
    names = {task.name for task in flow.parameters()}
    parameters = PARAMETERS | ({"output": str(output)} if "output" in names else {})
    calls = [(str(slide), [slide]) for slide in slides] if files == "file_name" else [([*map(str, slides)], slides)]
    for value, batch in calls:
        write_note("stage", f"running the flow on {' and '.join(slide.name for slide in batch)} with {executor}")
        try:
            with watch.watch(flow) if watch else contextlib.nullcontext():
                state = flow.run(run_on_schedule=False, **parameters, **{files: value})
            collect_states(run, flow, state, batch)
        except (Exception, SystemExit) as problem:
            run["failures"].append((None, type(problem).__name__, " ".join(str(problem).split())))
    if watch:
        run |= {"changes": watch.changes, "loggers": watch.loggers}
    run["wrote_rows"] = any(output.glob(f"*{results.ROW_FILE}"))
    output.rename(kept)
    output.mkdir()
    return run


def collect_states(run: dict, flow: object, state: object, batch: list[Path]) -> None:
    """Add to `run` the final states of the pipeline's steps, their failures, and percent_blurry."""
    if isinstance(state.result, BaseException):
        raise state.result
    for task in flow.sorted_tasks():
        final = state.result.get(task)
        states = getattr(final, "map_states", None) or [final] * len(batch)
        for slide, one in zip(batch, states, strict=False):
            if isinstance(one.result, BaseException) and type(one).__name__ == "Failed":
                run["failures"].append((task.name, type(one.result).__name__, " ".join(str(one.result).split())))
            if task.name in (*TASKS, "save_result"):
                run["states"].setdefault(slide.name, {})[task.name] = type(one).__name__
            if task.name == "identifyBlurryRegions":
                with contextlib.suppress(TypeError, ValueError):
                    run["percent_blurry"][slide.name] = float(one.result)


def executors(step: int, own: object) -> Iterator[tuple[str, object]]:
    """The executors that the flow of a step has to run on, each with its name; `own` is the script's."""
    from prefect.executors import LocalDaskExecutor, LocalExecutor
    yield "the default executor", LocalExecutor()
    if step != 4:
        return
    kind = f" ({own.scheduler})" if isinstance(own, LocalDaskExecutor) else ""
    if not isinstance(own, LocalExecutor):
        yield f"your {type(own).__name__}{kind}", own
    for scheduler in ("threads", "processes"):
        if scheduler not in kind:
            yield f"LocalDaskExecutor({scheduler})", LocalDaskExecutor(scheduler=scheduler, num_workers=2)


def check_flow(step: int, script: Path) -> None:
    """Load the flow, check its graph and run it, up to the first thing that is not right yet."""
    from prefect.executors import Executor
    on_server = STEPS[step].server
    loaded = load_flow(script, is_required=not on_server)
    if isinstance(loaded, Finding):
        return write_note("finding", loaded)
    flow, module = loaded
    if flow is not None:
        write_note("ok", f"{script.name} can be imported, and define_flow() returns a Flow")
        graph = read_graph(flow, module)
        for what, check in flow_findings.GRAPH_CHECKS[step]:
            if finding := check(graph, step):
                return write_note("finding", finding)
            write_note("ok", what)
    slides = wait_for_slides(folder())
    own = chosen_executor(flow, script) if step == 4 else None
    if step == 4:
        if finding := own if isinstance(own, Finding) else flow_findings.check_executor(own, Executor):
            return write_note("finding", finding)
        write_note("ok", f"flow.executor is a {type(own).__name__}")
    if on_server:
        return None  # an agent runs it
    for number, (name, flow.executor) in enumerate(executors(step, own)):
        watch = TaskWatch(write_note) if number == 0 else None  # in this process; the others use several
        write_note("run", run_with_executor(flow, STEPS[step].files, slides, name, watch))
    return None


if __name__ == "__main__":
    check_flow(int(sys.argv[1]), Path(sys.argv[2]))
    write_note("done", True)
    sys.stdout.flush()
    os._exit(0)  # does not wait for threads that the script has started
