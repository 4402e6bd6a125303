"""Loads and runs an attendee's script, in a process of its own, which it may crash or never leave.

`python -m slideqc.checking.run_flow STEP SCRIPT` notes what it sees as JSON, one line each, in the file that the
environment names; check.py reads them. What the script prints goes nowhere near.
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

from slideqc.checking import flow_findings
from slideqc.checking.flow_findings import Edge, Finding, Graph
from slideqc.checking.steps import STEPS, TASKS
from slideqc.checking.task_watch import Watch
from slideqc.child_process import PLACE
from slideqc.output import results
from slideqc.slides.generate import write_slide

VALUES = {"image_work_size": "2.5x", "blur_radius": 5, "blur_threshold": 0.06, "blur_max": 0.2}  # no default among them
SLIDES = {"sharp.svs": False, "partly-blurry.svs": True}  # the second is partly out of focus


class FlowRun(BaseException):
    """The script called flow.run(): not an Exception, so that no script catches it."""


def note(kind: str, value: object) -> None:
    """Write down a `stage` begun, something `ok`, a `finding`, or a `run`."""
    with (Path(os.environ[PLACE]) / "notes.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps([kind, value], default=repr) + "\n")


@contextlib.contextmanager
def no_runs() -> Iterator[None]:
    """Any flow.run() in here raises FlowRun, with the executor it would have used; nothing reaches a server."""
    from prefect import Client, Flow

    def run(self: Flow, *_: object, **options: object) -> None:
        raise FlowRun(options.get("executor", self.executor))
    replaced = [(Flow, "run", run), *((owner, name, lambda *_, **__: "") for owner, name in (
        (Flow, "register"), (Flow, "visualize"), (Client, "register"), (Client, "create_flow_run"),
        (Client, "graphql")))]
    real = [(owner, name, getattr(owner, name)) for owner, name, _ in replaced]
    for owner, name, stand_in in replaced:
        setattr(owner, name, stand_in)
    try:
        yield
    finally:
        for owner, name, own in real:
            setattr(owner, name, own)


def build(script: Path, needed: bool) -> tuple[object, ModuleType] | Finding:
    """The flow of the script and its module, or why there is none; None for the flow, where none is `needed`."""
    from prefect import Flow
    spec = importlib.util.spec_from_file_location(script.stem, script)
    module = importlib.util.module_from_spec(spec)
    sys.modules[script.stem] = module
    doing = f"importing {script.name}"
    try:
        with no_runs():
            note("stage", doing)
            spec.loader.exec_module(module)
            if not callable(define_flow := getattr(module, "define_flow", None)):
                return Finding(f"{script.name} has no define_flow()", "a function define_flow() that builds the flow "
                               "and returns it", "flow") if needed else (None, module)
            needed = [name for name, one in inspect.signature(define_flow).parameters.items()
                      if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
            if needed:
                return Finding(f"define_flow asks for {', '.join(needed)}: what it is given is fixed when the flow is "
                               "built", "define_flow() without arguments; they become Parameters", "parameter")
            if line := caught(script):
                return Finding(f"{script.name}, line {line}: a try in `with Flow(…)`, where the tasks are only put "
                               "together: what fails when they run never gets to its except", "no try and no except: "
                               "Prefect notes which task failed, and why", "flow")
            doing = "calling define_flow()"
            note("stage", doing)
            flow = define_flow()
    except FlowRun:
        return Finding(f"{doing} already called flow.run()", "a flow that is only built; flow.run() stands under "
                       '`if __name__ == "__main__":`', "run")
    except BaseException as problem:
        return stumble(problem, script, doing)
    if not isinstance(flow, Flow):
        return Finding(f"I called define_flow(); it returned {flow!r}", "the Flow that it built", "flow")
    return flow, module


def caught(script: Path) -> int | None:
    """The line of a `try` in a block of `with Flow(…)`, or around one."""
    tree = ast.parse(script.read_bytes())
    blocks = [block for block in ast.walk(tree) if isinstance(block, ast.With)
              and any(re.search(r"\bFlow\(", ast.unparse(item)) for item in block.items)]
    return next((one.lineno for one in ast.walk(tree) if isinstance(one, ast.Try)
                 and any(one in ast.walk(block) or block in ast.walk(one) for block in blocks)), None)


def stumble(problem: BaseException, script: Path, doing: str) -> Finding:
    """What an exception says that came up before there was a flow."""
    frames = traceback.extract_tb(problem.__traceback__)
    line = next((frame.lineno for frame in reversed(frames) if frame.filename == str(script)), None)
    where = f"{script.name}, line {line}" if line else script.name
    told = f"{type(problem).__name__}: {problem}"
    if isinstance(problem, SystemExit):
        return Finding(f"{doing} called sys.exit({problem.code!r}) ({where})", "a file that can be imported without "
                       'ending Python; sys.exit() stands under `if __name__ == "__main__":`', "run")
    if isinstance(problem, SyntaxError):
        return Finding(f"{where}: Python cannot read it: {problem.msg} (line {problem.lineno})", "a script that Python "
                       "can read", "import")
    if isinstance(problem, ImportError):
        text = re.sub(r" \([^()]*\)$", "", str(problem))  # without the path of the module
        name = re.match("cannot import name '(.*?)'", text)
        like = name and difflib.get_close_matches(name[1], dir(sys.modules.get(problem.name)), 1)
        return Finding(f"{where}: {text}" + (f" (it has {like[0]})" if like else ""), "only names that exist",
                       "executors" if problem.name == "prefect.executors" else "import")
    if isinstance(problem, NameError):
        return flow_findings.missing_name(f"{where}: {problem}", problem.name)
    if "Could not infer an active Flow context" in str(problem):
        name = re.search("<Task: (.*?)>", str(problem))
        return Finding(f"{where}: the task {name[1] if name else ''} is called outside a flow",
                       "tasks called inside the block of `with Flow(…) as flow:`", "flow")
    if doing.startswith("calling") and (ran := [frame.name for frame in frames if frame.name in TASKS]):
        return flow_findings.undecorated(ran[0])
    return Finding(f"{doing} gave {told} ({where})", "a script that imports, and a define_flow() that returns a Flow",
                   "flow")


def look(flow: object, module: ModuleType) -> Graph:
    """The flow's graph."""
    from prefect import Parameter, Task
    from prefect.tasks.control_flow.conditional import CompareValue
    from prefect.tasks.core.constants import Constant
    constants = {flow.slugs[task]: dict(given) for task, given in flow.constants.items() if task in flow.slugs}
    edges = []
    for edge in flow.edges:
        up, down = flow.slugs[edge.upstream_task], flow.slugs[edge.downstream_task]
        edges.append(Edge(up, down, edge.key, edge.mapped))
        if edge.key and isinstance(edge.upstream_task, Constant):
            constants.setdefault(down, {})[edge.key] = edge.upstream_task.value
    # A set until here: the same flow is to get the same sentence, about its first task that is wrong.
    turn = {flow.slugs[task]: number for number, task in enumerate(flow.sorted_tasks())}
    edges.sort(key=lambda edge: (turn[edge.down], str(edge)))
    return Graph({slug: task.name for task, slug in flow.slugs.items()},
                 {task.name: task.default for task in flow.tasks if isinstance(task, Parameter)}, edges, constants,
                 [slug for task, slug in flow.slugs.items() if isinstance(task, CompareValue)],
                 [name for name in TASKS if callable(one := getattr(module, name, None)) and not isinstance(one, Task)])


def chosen_executor(flow: object, script: Path) -> object:
    """What the script runs its flow on: set by define_flow(), or by the script before it calls flow.run().

    None if it sets nothing, a Finding if it does not get that far.
    """
    if flow.executor is not None:
        return flow.executor
    note("stage", f"running {script.name} as a script, up to its flow.run()")
    sys.argv = [str(script)]
    try:
        with no_runs():
            runpy.run_path(str(script), run_name="__main__")
    except FlowRun as run:
        return run.args[0]
    except SystemExit:
        pass
    except Exception as problem:
        return stumble(problem, script, f"running {script.name} as a script")
    return None


def run_on(flow: object, files: str, slides: list[Path], where: str, watch: Watch | None) -> dict:
    """Run the flow on the slides, one by one or all together, and say what came of it."""
    # Never flags.OUTPUT, which the script may have set to a folder of its own: this one gets moved.
    output = Path(os.environ[PLACE]) / "output"
    left = output.with_name(f"left by {where}")
    seen = {"where": where, "folder": left.name, "states": {}, "percent": {}, "failures": [], "changes": [],
            "logs": None, "has": sorted({task.name for task in flow.tasks})}
    known = {task.name for task in flow.parameters()}
    settings = VALUES | ({"output": str(output)} if "output" in known else {})
    calls = [(str(slide), [slide]) for slide in slides] if files == "file_name" else [([*map(str, slides)], slides)]
    for given, batch in calls:
        note("stage", f"running the flow on {' and '.join(slide.name for slide in batch)} with {where}")
        try:
            with watch.over(flow) if watch else contextlib.nullcontext():
                state = flow.run(run_on_schedule=False, **settings, **{files: given})
            gather(seen, flow, state, batch)
        except (Exception, SystemExit) as problem:
            seen["failures"].append((None, type(problem).__name__, " ".join(str(problem).split())))
    if watch:
        seen |= {"changes": watch.changes, "logs": watch.logs}
    seen["rows"] = any(output.glob(f"*{results.ROW_FILE}"))
    output.rename(left)
    output.mkdir()
    return seen


def gather(seen: dict, flow: object, state: object, batch: list[Path]) -> None:
    """Note the states and results that the pipeline's steps ended with."""
    if isinstance(state.result, BaseException):
        raise state.result
    for task in flow.sorted_tasks():
        final = state.result.get(task)
        each = getattr(final, "map_states", None) or [final] * len(batch)
        for slide, one in zip(batch, each, strict=False):
            if isinstance(one.result, BaseException) and type(one).__name__ == "Failed":
                seen["failures"].append((task.name, type(one.result).__name__, " ".join(str(one.result).split())))
            if task.name in (*TASKS, "save_result"):
                seen["states"].setdefault(slide.name, {})[task.name] = type(one).__name__
            if task.name == "identifyBlurryRegions":
                with contextlib.suppress(TypeError, ValueError):
                    seen["percent"][slide.name] = float(one.result)


def executors(step: int, own: object) -> Iterator[tuple[str, object]]:
    """The executors that a step promises to work with, each with what to call it."""
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


def attempt(step: int, script: Path) -> None:
    """All that can be seen of the script, up to the first thing that is not right yet."""
    from prefect.executors import Executor
    served = STEPS[step].server
    built = build(script, needed=not served)
    if isinstance(built, Finding):
        return note("finding", built)
    flow, module = built
    if flow is not None:
        note("ok", f"{script.name} can be imported, and define_flow() returns a Flow")
        graph = look(flow, module)
        for what, check in flow_findings.GRAPH_CHECKS[step]:
            if finding := check(graph, step):
                return note("finding", finding)
            note("ok", what)
    data = Path(os.environ[PLACE]) / "data"
    for name, blurred in SLIDES.items():
        write_slide(data / name, width=2048, height=1536, magnification=20, seed=1 + blurred, blurred=blurred)
    own = chosen_executor(flow, script) if step == 4 else None
    if step == 4:
        if finding := own if isinstance(own, Finding) else flow_findings.executor(own, Executor):
            return note("finding", finding)
        note("ok", f"flow.executor is a {type(own).__name__}")
    if served:
        return None  # an agent runs it
    slides = [data / name for name in SLIDES]
    for number, (where, flow.executor) in enumerate(executors(step, own)):
        note("run", run_on(flow, STEPS[step].files, slides, where, Watch(note) if number == 0 else None))
    return None


if __name__ == "__main__":
    attempt(int(sys.argv[1]), Path(sys.argv[2]))
    note("done", True)
    sys.stdout.flush()
    os._exit(0)  # whatever threads the script left behind
