"""What is not right yet in what a script asked of the server: its flow, its flow runs, and how they ended."""

import re
from pathlib import Path

from slideqc.checking import flow_findings, run_script
from slideqc.checking.flow_findings import Finding
from slideqc.checking.script_call import OUTPUT, ScriptCall
from slideqc.checking.steps import STEPS
from slideqc.child_process import last_line
from slideqc.output import results
from slideqc.own_server import PROJECT

FINAL_STATES = {"Success", "Failed", "Cancelled", "Skipped", "TimedOut", "TriggerFailed"}
FLOW_RUN_LINE = "Beginning Flow run for"  # Prefect writes this in the script's own process if it calls flow.run()
PROJECT_EXISTS = f'the project "{PROJECT}", which `prefect create project "{PROJECT}"` has made'
ADDRESS_FROM_SETTINGS = "a script that leaves the server's address to Prefect's settings, and finds a server there"


def script_failed(call: ScriptCall, status: int | None, errors: str) -> Finding | None:
    """Did the script end with an error?"""
    if status and "Traceback (most recent call last)" in errors:
        return _explain_crash(call, errors)
    if status == 2:
        found = f"{call.who} ended with exit status 2: {call.shorten(last_line(errors))}"
        if "no project" in found:
            return Finding(found, PROJECT_EXISTS, "project")
        if "no server at" in found:
            return Finding(found, ADDRESS_FROM_SETTINGS, "server")
        return run_script.wrong_flags(call, errors)
    return None


def _explain_crash(call: ScriptCall, errors: str) -> Finding:
    """What the exception means that ended the script."""
    where, exception = run_script.read_traceback(call, errors)
    if name := re.search("Project (.*) not found", exception):
        return Finding(f"{where}: the server has no project {name[1]!r}", PROJECT_EXISTS, "project")
    if "'project_name' is a required field" in exception:
        return Finding(f"{where}: flow.register() was not told which project the flow belongs to", PROJECT_EXISTS,
                       "project")
    if "This flow has no storage" in exception:
        return Finding(f"{where}: client.register() was given a flow that is stored nowhere yet",
                       f'flow.register(project_name="{PROJECT}"), which stores the flow first', "register")
    if address := re.search(r"ConnectionPool\(host='(.*?)', port=(\d+)\).*(Max retries|refused|timed out)", exception):
        return Finding(f"{where}: no server answers at {address[1]}, port {address[2]}", ADDRESS_FROM_SETTINGS,
                       "server")
    if kind := re.search("Object of type (.*) is not JSON serializable", exception):
        return Finding(f"{where}: client.create_flow_run() was given a {kind[1]}, and what goes to the server goes as "
                       "JSON", "text, numbers, and lists of them: str(…) makes a text of a path", "parameters")
    if "One of flow_id or version_group_id must be provided" in exception:
        return Finding(f"{where}: client.create_flow_run() was given no flow_id", "the id that flow.register() "
                       "returned", "client")
    if name := re.search("needs a value for: ([^'\"]*)", exception):
        return Finding(f"{where}: client.create_flow_run() was given no value for {name[1]}", "parameters={…} with "
                       "every Parameter that has no default, by its name", "parameters")
    return run_script.explain_crash(call, errors)


def ended_too_early(call: ScriptCall, running: list[dict], status: int | None) -> Finding | None:
    """Did the script end before its flow runs, though it was called with --wait?"""
    if not call.waits or status is None or not running:
        return None
    return Finding(f"{call.who} was called with --wait, and ended before the flow runs had",
                   "servers.wait_for_runs(run, ids), where options.wait is set", "wait")


def wrong_requests(call: ScriptCall, seen: dict, output: str, is_over: bool) -> Finding | None:
    """Are the flow and the flow runs on the server as they should be? `is_over`: the script asks for no more of them.

    `seen` is what the server knows, `output` the script's standard output.
    """
    flows, runs, ran_itself = seen["flow"], seen["flow_run"], FLOW_RUN_LINE in output
    if is_over and not flows:
        return Finding(f"{call.who} {'ran the flow itself, with flow.run(), and ' if ran_itself else ''}registered no "
                       "flow with the server", f'flow.register(project_name="{PROJECT}"), and then '
                       f"{call.expected_runs}", "register")
    for flow in flows:
        if flow["project"]["name"] != PROJECT:
            return Finding(f"{call.who} registered the flow with the project {flow['project']['name']!r}",
                           PROJECT_EXISTS, "project")
    if len(flows) > 1:
        return Finding(f"{call.who} registered {len(flows)} flows: each is a new version, and takes the place of the "
                       "one before, whose runs are cancelled",
                       "flow.register(…) once, before the runs are asked for", "once")
    if is_over and ran_itself:
        return Finding(f"{call.who} registered the flow, and ran it itself, with flow.run(): the server knows "
                       f"{'nothing of that run' if not runs else 'nothing of that, and an agent runs it once more'}",
                       f"client.create_flow_run(…) instead of flow.run(…): {call.expected_runs}", "client")
    if is_over and not runs:
        return Finding(f"{call.who} registered the flow, and asked for no run of it",
                       f"client.create_flow_run(…): {call.expected_runs}", "client")
    if flows and "output" not in {parameter["name"] for parameter in flows[0]["parameters"]}:
        return Finding("the flow has no Parameter output, so its runs, in the agent's processes, know nothing of "
                       "--output", 'Parameter("output")', "parameter")
    for run in runs:
        if finding := _wrong_parameters(call, run) or _wrong_labels(run, seen["agent"]):
            return finding
    return _wrong_number_of_runs(call, runs, is_over)


def _slides_of(call: ScriptCall, run: dict) -> list[str]:
    """The slides that a flow run was given."""
    given = run["parameters"].get(STEPS[call.step_number].files)
    return given if isinstance(given, list) else [given]


def _wrong_parameters(call: ScriptCall, run: dict) -> Finding | None:
    files, given = STEPS[call.step_number].files, run["parameters"]
    which = f"the flow run {run['name']} was given"
    if not isinstance(given.get(files), list if call.is_mapped else str):
        return Finding(f"{which} {files}={call.shorten(repr(given.get(files)))}",
                       f"{files}, a {'list' if call.is_mapped else 'text'}: {call.expected_runs}", "parameters")
    for name, path in [*((files, slide) for slide in _slides_of(call, run)), ("output", given.get("output"))]:
        if path is not None and not Path(path).is_absolute():
            return Finding(f"{which} {name}={path!r}, and the agent, which runs it, has another working folder",
                           "absolute paths, as in run.slides and options.output", "parameters")
    for name, value in {**call.parameters, "output": str(call.output)}.items():
        if given.get(name) != value:
            found = f"{name}={call.shorten(repr(given[name]))}" if name in given else f"no {name}"
            return Finding(f"{which} {found}, though the script was called with --{name.replace('_', '-')} "
                           f"{OUTPUT if name == 'output' else value}", "parameters={…} with the output, and "
                           "with **flags.parameters(options)", "parameters")
    return None


def _wrong_labels(run: dict, agents: list[dict]) -> Finding | None:
    labels = {label for agent in agents for label in agent["labels"]}
    agent_has = f"({', '.join(sorted(labels))})"
    if labels and not run["labels"]:
        return Finding(f"the flow run {run['name']} has no label, and an agent that has some {agent_has} leaves such "
                       "runs alone: it stays Scheduled", "the label that Prefect gives by itself", "agent")
    if agents and (unknown := sorted(set(run["labels"]) - labels)):
        return Finding(f"the flow run {run['name']} has the label {unknown[0]!r}, which the agent does not have "
                       f"{agent_has}: it stays Scheduled", "a flow without labels of your own, or an agent started "
                       "with --label", "agent")
    return None


def _wrong_number_of_runs(call: ScriptCall, runs: list[dict], is_over: bool) -> Finding | None:
    if call.is_mapped and len(runs) > 1:
        return Finding(f"{call.who} asked for {len(runs)} flow runs",
                       f"{call.expected_runs}: file_names is the whole list", "files")
    names = [Path(path).name for run in runs for path in _slides_of(call, run)]
    missing = [slide for slide in call.slides if slide not in names]
    if is_over and missing:
        return Finding(f"{call.who} asked for runs for {', '.join(names)}, and for none for {', '.join(missing)}",
                       call.expected_runs, "client")
    if len(names) > len(call.slides):
        return Finding(f"{call.who} asked for {len(names)} runs for {len(call.slides)} slides: {', '.join(names)}",
                       call.expected_runs, "client")
    return None


def all_runs_requested(call: ScriptCall, seen: dict) -> bool:
    """Does each slide have its flow run?"""
    return not _wrong_number_of_runs(call, seen["flow_run"], is_over=True)


def failed_runs(seen: dict) -> Finding | None:
    """Why did a flow run not succeed? None if all did that have ended."""
    for run in seen["flow_run"]:
        if run["state"] not in FINAL_STATES - {"Success"}:
            continue
        failures = [(each["task"]["name"], each["state_message"]) for each in run["task_runs"]]
        for message in [run["state_message"], *(text for _, text in failures)]:
            if name := re.search(r"No module named [\\'\"]*([\w.]+)", message):
                return Finding(f"the flow run {run['name']} failed, since the process that the agent started finds no "
                               f"module {name[1]}: it searches the folder of the agent, and not that of your script",
                               "a flow that says where its modules are, wherever the agent was started", "module")
        for task, message in failures:
            kind, _, text = message.partition("task: ")[2].partition("(")
            failed_run = {"executor": "an agent", "failures": [(task, kind, text.strip("()'\""))]}
            if finding := flow_findings.failed_task(failed_run):
                return finding
        return Finding(f"the flow run {run['name']} ended as {run['state']}: {' '.join(run['state_message'].split())}",
                       "a run that ends as Success", "result")
    return None


def table_too_early(call: ScriptCall, output: str) -> Finding | None:
    """Did the script write of slides that their run broke off, while the agent has checked them since?"""
    rows = results.read_rows(call.output)
    if "its run broke off" in output and any(row["status"] != "failed" for row in rows):
        return Finding(f"{call.who} made its table before the agent had checked the slides, and each row says that "
                       "the run broke off", "main() ends once the runs are asked for, or waits for them before "
                       "run.finish()", "wait")
    return None


def no_executor(call: ScriptCall, executor: str) -> Finding | None:
    """Was the flow registered without an executor? `executor` is the class of the one that ran it."""
    if executor != "LocalExecutor":
        return None
    return Finding(f"{call.who} registered a flow without an executor, so that the agent took one slide after the "
                   f"other ({executor})", "flow.executor = …, as in step 4, before flow.register(…)", "register")


def timed_out(call: ScriptCall, running: list[dict]) -> Finding:
    """What has not ended at the time-out?"""
    for run in running:
        return Finding(f"no end after {call.timeout:g} s, while the flow run {run['name']} is {run['state']}",
                       "flow runs that come to their end", "end")
    return Finding(f"{call.who} came to no end within {call.timeout:g} s", "a script that comes to its end", "end")
