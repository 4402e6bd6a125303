"""What is not right yet in what a script told the server: its flow, its flow runs, and how they ended."""

import os
import re
from pathlib import Path
from typing import NamedTuple

from slideqc.checking import flow_findings, run_script
from slideqc.checking.flow_findings import Finding
from slideqc.checking.steps import STEPS
from slideqc.output import results
from slideqc.own_server import PROJECT

ENDED = {"Success", "Failed", "Cancelled", "Skipped", "TimedOut", "TriggerFailed"}
RAN_ITSELF = "Beginning Flow run for"  # what Prefect says in the script itself where it calls flow.run()
MADE = f'the project "{PROJECT}", which `prefect create project "{PROJECT}"` has made'
LINE = "a script that leaves the server's address to Prefect's settings, and finds a server there"


class Asked(NamedTuple):
    """What the check asked of the script: the step, how to call it, its flags' values, the slides."""

    number: int
    who: str
    script: Path
    place: Path
    values: dict[str, object]
    slides: list[str]
    waits: bool = False     # was it called with --wait?

    @property
    def runs(self) -> str:
        """The flow runs that the step asks for."""
        return "one flow run for all slides" if self.is_mapped else "a flow run for each slide"

    def inside(self, text: str) -> str:
        """A text without the folder of the check."""
        return text.replace(f"{self.place}{os.sep}", "")

    @property
    def is_mapped(self) -> bool:
        """Does one flow run take all slides?"""
        return STEPS[self.number].files == "file_names"


def stopped(asked: Asked, status: int | None, complained: str) -> Finding | None:
    """What is wrong where the script has stopped before its time."""
    if status and "Traceback (most recent call last)" in complained:
        return _died(asked, complained)
    if status == 2:
        found = f"{asked.who} ended with exit status 2: {run_script.last(complained, asked.place)}"
        if "no project" in found:
            return Finding(found, MADE, "project")
        if "no server at" in found:
            return Finding(found, LINE, "server")
        return run_script.wrong_flags(asked.who, complained, asked.place)
    return None


def _died(asked: Asked, complained: str) -> Finding:
    """What an exception says that nobody caught."""
    where, told = run_script.exception(asked.who, asked.script, complained)
    if name := re.search("Project (.*) not found", told):
        return Finding(f"{where}: the server has no project {name[1]!r}", MADE, "project")
    if "'project_name' is a required field" in told:
        return Finding(f"{where}: flow.register() was not told which project the flow belongs to", MADE, "project")
    if "This flow has no storage" in told:
        return Finding(f"{where}: client.register() was given a flow that is stored nowhere yet",
                       f'flow.register(project_name="{PROJECT}"), which stores the flow first', "register")
    if address := re.search(r"ConnectionPool\(host='(.*?)', port=(\d+)\).*(Max retries|refused|timed out)", told):
        return Finding(f"{where}: no server answers at {address[1]}, port {address[2]}", LINE, "server")
    if kind := re.search("Object of type (.*) is not JSON serializable", told):
        return Finding(f"{where}: client.create_flow_run() was given a {kind[1]}, and what goes to the server goes as "
                       "JSON", "text, numbers, and lists of them: str(…) makes a text of a path", "parameters")
    if "One of flow_id or version_group_id must be provided" in told:
        return Finding(f"{where}: client.create_flow_run() was given no flow_id", "the id that flow.register() "
                       "returned", "client")
    if name := re.search("needs a value for: ([^'\"]*)", told):
        return Finding(f"{where}: client.create_flow_run() was given no value for {name[1]}", "parameters={…} with "
                       "every Parameter that has no default, by its name", "parameters")
    return run_script.died(asked.who, asked.script, complained)


def left_alone(asked: Asked, running: list[dict], status: int | None) -> Finding | None:
    """Did the script end before its runs, though it was called with --wait?"""
    if not asked.waits or status is None or not running:
        return None
    return Finding(f"{asked.who} was called with --wait, and ended before the flow runs had", "servers.follow(run, "
                   "flow_runs), where options.wait is set", "wait")


def told(asked: Asked, seen: dict, said: str, over: bool) -> Finding | None:
    """What is wrong with the flow and the runs that the server knows; `over`: no more of them are to come."""
    flows, runs, itself = seen["flow"], seen["flow_run"], RAN_ITSELF in said
    if over and not flows:
        return Finding(f"{asked.who} {'ran the flow itself, with flow.run(), and ' if itself else ''}registered no "
                       "flow with the server", f'flow.register(project_name="{PROJECT}"), and then {asked.runs}',
                       "register")
    for flow in flows:
        if flow["project"]["name"] != PROJECT:
            return Finding(f"{asked.who} registered the flow with the project {flow['project']['name']!r}", MADE,
                           "project")
    if len(flows) > 1:
        return Finding(f"{asked.who} registered {len(flows)} flows: each is a new version, and takes the place of the "
                       "one before, whose runs are cancelled",
                       "flow.register(…) once, before the runs are asked for", "once")
    if over and itself:
        return Finding(f"{asked.who} registered the flow, and ran it itself, with flow.run(): the server knows "
                       f"{'nothing of that run' if not runs else 'nothing of that, and an agent runs it once more'}",
                       f"client.create_flow_run(…) instead of flow.run(…): {asked.runs}", "client")
    if over and not runs:
        return Finding(f"{asked.who} registered the flow, and asked for no run of it",
                       f"client.create_flow_run(…): {asked.runs}", "client")
    if flows and "output" not in {parameter["name"] for parameter in flows[0]["parameters"]}:
        return Finding("the flow has no Parameter output, so its runs, in the agent's processes, know nothing of "
                       "--output", 'Parameter("output")', "parameter")
    for run in runs:
        if finding := _parameters(asked, run) or _labels(run, seen["agent"]):
            return finding
    return _count(asked, runs, over)


def _files(asked: Asked, run: dict) -> list[str]:
    """The slides that a flow run was given."""
    given = run["parameters"].get(STEPS[asked.number].files)
    return given if isinstance(given, list) else [given]


def _parameters(asked: Asked, run: dict) -> Finding | None:
    name, given = STEPS[asked.number].files, run["parameters"]
    which = f"the flow run {run['name']} was given"
    if not isinstance(given.get(name), list if asked.is_mapped else str):
        return Finding(f"{which} {name}={asked.inside(repr(given.get(name)))}",
                       f"{name}, a {'list' if asked.is_mapped else 'text'}: {asked.runs}", "parameters")
    for each, path in [*((name, one) for one in _files(asked, run)), ("output", given.get("output"))]:
        if path is not None and not Path(path).is_absolute():
            return Finding(f"{which} {each}={path!r}, and the agent, which runs it, has another working folder",
                           "an absolute path: run.slides holds such, and options.output is one as soon as "
                           "Run(options) is made", "parameters")
    expected = asked.values | {"output": str(asked.place / run_script.FOLDER)}
    for each, value in expected.items():
        if given.get(each) != value:
            got = f"{each}={asked.inside(repr(given[each]))}" if each in given else f"no {each}"
            return Finding(f"{which} {got}, though the script was called with --{each.replace('_', '-')} "
                           f"{run_script.FOLDER if each == 'output' else value}", "parameters={…} with the output, and "
                           "with **flags.parameters(options)", "parameters")
    return None


def _labels(run: dict, agents: list[dict]) -> Finding | None:
    labels = {label for agent in agents for label in agent["labels"]}
    has = f"({', '.join(sorted(labels))})"
    if labels and not run["labels"]:
        return Finding(f"the flow run {run['name']} has no label, and an agent that has some {has} leaves such runs "
                       "alone: it stays Scheduled", "the label that Prefect gives by itself", "agent")
    if agents and (strange := sorted(set(run["labels"]) - labels)):
        return Finding(f"the flow run {run['name']} has the label {strange[0]!r}, which the agent does not have {has}: "
                       "it stays Scheduled", "a flow without labels of your own, or an agent started with --label",
                       "agent")
    return None


def _count(asked: Asked, runs: list[dict], over: bool) -> Finding | None:
    if asked.is_mapped and len(runs) > 1:
        return Finding(f"{asked.who} asked for {len(runs)} flow runs", f"{asked.runs}: file_names is the whole list",
                       "files")
    names = [Path(path).name for run in runs for path in _files(asked, run)]
    missing = [slide for slide in asked.slides if slide not in names]
    if over and missing:
        return Finding(f"{asked.who} asked for runs for {', '.join(names)}, and for none for {', '.join(missing)}",
                       asked.runs, "client")
    if len(names) > len(asked.slides):
        return Finding(f"{asked.who} asked for {len(names)} runs for {len(asked.slides)} slides: {', '.join(names)}",
                       asked.runs, "client")
    return None


def is_all(asked: Asked, seen: dict) -> bool:
    """Has every slide its run?"""
    return not _count(asked, seen["flow_run"], over=True)


def failed(seen: dict) -> Finding | None:
    """What is wrong where a flow run did not succeed."""
    for run in seen["flow_run"]:
        if run["state"] not in ENDED - {"Success"}:
            continue
        failures = [(one["task"]["name"], one["state_message"]) for one in run["task_runs"]]
        for message in [run["state_message"], *(words for _, words in failures)]:
            if name := re.search(r"No module named [\\'\"]*([\w.]+)", message):
                return Finding(f"the flow run {run['name']} failed, since the process that the agent started finds no "
                               f"module {name[1]}: it looks beside the agent, and not beside your script",
                               "a flow that says where its modules are, wherever the agent was started", "module")
        for task, message in failures:
            kind, _, words = message.partition("task: ")[2].partition("(")
            told = {"where": "an agent", "failures": [(task, kind, words.strip("()'\""))]}
            if finding := flow_findings.failure(told):
                return finding
        return Finding(f"the flow run {run['name']} ended as {run['state']}: {' '.join(run['state_message'].split())}",
                       "a run that ends as Success", "result")
    return None


def table_too_early(asked: Asked, said: str) -> Finding | None:
    """Did the script say of slides that their run broke off, whose rows, written since, say otherwise?"""
    rows = results.read_rows(asked.place / run_script.FOLDER)
    if "its run broke off" in said and any(row["status"] != "failed" for row in rows):
        return Finding(f"{asked.who} made its table before the agent had checked the slides, and each row says that "
                       "the run broke off", "main() ends once the runs are asked for, or waits for them before "
                       "run.finish()", "wait")
    return None


def no_executor(asked: Asked, executor: str) -> Finding | None:
    """Did the flow go to the server without an executor of its own? `executor` is the class of the one that it took."""
    if executor != "LocalExecutor":
        return None
    return Finding(f"{asked.who} registered a flow without an executor, so that the agent took one slide after the "
                   f"other ({executor})", "flow.executor = …, as in step 4, before flow.register(…)", "register")


def endless(asked: Asked, running: list[dict], timeout: float) -> Finding:
    """What there is to say at the time-out."""
    for run in running:
        return Finding(f"no end after {timeout:g} s, while the flow run {run['name']} is {run['state']}", "flow runs "
                       "that come to their end", "end")
    return Finding(f"{asked.who} came to no end within {timeout:g} s", "a script that comes to its end", "end")
