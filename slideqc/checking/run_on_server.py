"""Runs an attendee's script with a server and an agent of the check, until all its flow runs have ended."""

import re
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

from slideqc.checking import check_folder, run_script, server_findings
from slideqc.checking.flow_findings import Finding
from slideqc.checking.script_call import OUTPUT, ScriptCall
from slideqc.checking.server_findings import FINAL_STATES
from slideqc.child_process import ChildProcess
from slideqc.errors import CommandError
from slideqc.flags import HOME
from slideqc.own_server import OwnServer, run_server

POLL_EVERY = 0.3  # seconds between two queries to the server
LOG_TIMEOUT = 10  # seconds for the log of a flow run to arrive, after the run has ended
WAIT_FLAG = r"--wait\b|\badd_server\("
EXPECTED = "what pipeline.py leaves with the same flags"
SEEN = """{
  flow(order_by: {created: asc}) { project { name } parameters tasks { name } }
  flow_run(order_by: {created: asc}) {
    name parameters labels state state_message
    task_runs(where: {state: {_eq: "Failed"}}, order_by: {start_time: asc}) { state_message task { name } }
  }
  agent { labels }
}"""
EXECUTOR_LINE = "Using executor type "  # with this, a flow run's log says where its tasks run
EXECUTOR_LOG = f'{{ flow_run {{ logs(where: {{message: {{_like: "{EXECUTOR_LINE}%"}}}}) {{ message }} }} }}'
# DEBUG is the level of that line.
SETTINGS = {"PREFECT__LOGGING__LEVEL": "DEBUG"}


def check_on_server(call: ScriptCall) -> Iterator[tuple[str, Finding | None]]:
    """Run the script, and yield what was checked, each with None or with what is not right yet."""
    # These paths are relative: the agent works in another folder, and the script has to make them absolute.
    arguments = [str(call.script), "--folder", "data", "--output", OUTPUT, *call.parameter_flags]
    if re.search(WAIT_FLAG, call.script.read_text(encoding="utf-8", errors="replace")):
        call, arguments = replace(call, waits=True), [*arguments, "--wait"]
    with run_server(call.folder / "server", SETTINGS | check_folder.environment(call.folder)) as server:
        agent = server.start_agent()
        script = server.start_client([sys.executable, *arguments], cwd=call.folder, name="script",
                                     settings=check_folder.environment(call.folder, call.script.parent, HOME))
        finding, seen = yield from _wait_for_runs(call, server, agent, script)
        output, status = script.output()[0], script.status()
        yield ("run by an agent, the flow leaves what pipeline.py leaves",
               finding or server_findings.table_too_early(call, output) or _wrong_results(call, seen)
               or (call.waits and run_script.missing_table(
                   call, call.output, "main() ends with servers.wait_for_runs(…), where --wait is asked for"))
               or run_script.wrong_exit_status(call, status))
        if call.is_mapped and (executor := _executor(server)):
            yield f"its tasks ran on a {executor}", server_findings.no_executor(call, executor)


def _wait_for_runs(call: ScriptCall, server: OwnServer, agent: ChildProcess, script: ChildProcess,
                   ) -> Iterator[tuple[str, None]]:
    """Wait for the script and its flow runs; returns what is not right yet, or None, and what the server knows."""
    deadline, is_requested = time.monotonic() + call.timeout, False
    while True:
        is_late = time.monotonic() > deadline
        status = script.status()
        output, errors = script.output()
        seen = server.query(SEEN)
        running = [run for run in seen["flow_run"] if run["state"] not in FINAL_STATES]
        if finding := (server_findings.script_failed(call, status, errors)
                       or server_findings.wrong_requests(call, seen, output, is_over=is_late or status is not None)
                       or server_findings.failed_runs(seen) or server_findings.ended_too_early(call, running, status)):
            return finding, seen
        if not is_requested and server_findings.all_runs_requested(call, seen):
            is_requested = True
            yield "the flow is registered once, and a flow run asked for with every parameter", None
        if status is not None and not running:
            return None, seen
        if is_late:
            return server_findings.timed_out(call, running), seen
        if agent.status() is not None:
            raise CommandError("Prefect's agent cannot be started: python check.py setup says what is missing, and "
                               f"how to get it ({call.shorten(agent.last_line())})")
        time.sleep(POLL_EVERY)


def _wrong_results(call: ScriptCall, seen: dict) -> Finding | None:
    """Do the files that the flow runs left differ from pipeline.py's?"""
    if any((call.folder / "output").iterdir()):
        return Finding(f"{call.who} asked for runs that wrote to the default output folder, though each was given "
                       "another", "load_image with the Parameter output", "parameter")
    given = f"the agent's runs got {', '.join(f'{name}={value!r}' for name, value in call.parameters.items())};"
    task_names = [task["name"] for task in seen["flow"][0]["tasks"]]
    return run_script.wrong_results(call, call.output, task_names, given, EXPECTED)


def _executor(server: OwnServer) -> str | None:
    """The class of the executor that the flow runs took; None if no log says so."""
    deadline = time.monotonic() + LOG_TIMEOUT
    while time.monotonic() < deadline:
        for run in server.query(EXECUTOR_LOG)["flow_run"]:
            for line in run["logs"]:
                return line["message"].removeprefix(EXECUTOR_LINE)
        time.sleep(POLL_EVERY)
    return None
