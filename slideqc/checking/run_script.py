"""Runs an attendee's script as its user does, on two small slides, and compares its results with pipeline.py's."""

import re
from pathlib import Path

from slideqc.checking import check_folder
from slideqc.checking.flow_findings import Finding, name_not_imported
from slideqc.checking.script_call import OUTPUT, ScriptCall
from slideqc.child_process import describe_status, last_line
from slideqc.output import results

EXPECTED = "what pipeline.py leaves with the same flags: flow.run(…) is given every parameter that check_slide() got"


def check_script(call: ScriptCall, task_names: list[str]) -> Finding | None:
    """Run the script; returns the first thing that is not right yet. `task_names` are those of its flow's tasks."""
    # A flow without the Parameter output writes to the default folder.
    output = call.output if "output" in task_names else call.folder / "output"
    arguments = [str(call.script), "--folder", str(call.folder / "data"), "--output", str(output),
                 *call.parameter_flags]
    status, _, errors = check_folder.run_python(arguments, call.script, call.folder, call.timeout)
    if status is None:
        return Finding(f"{call.who} came to no end within {call.timeout:g} s", "a script that comes to its end", "end")
    if "Traceback (most recent call last)" in errors and status:
        return explain_crash(call, errors)
    if output.name == OUTPUT and any((call.folder / "output").iterdir()):
        return Finding(f"{call.who} wrote to the default output folder, though --output named another",
                       "flow.run(…) with the output that main() was given", "script")
    if status == 2:
        return wrong_flags(call, errors)
    if not results.read_rows(output) and not list(output.glob("*.png")):
        return Finding(f"{call.who} checked no slide: it ended with {describe_status(status)}, and left nothing in "
                       "the output folder", "a main() that calls flow.run(…), and a last line that calls main()",
                       "script")
    given = f"{call.who} was given {' '.join(call.parameter_flags)};"
    return (wrong_results(call, output, task_names, given, EXPECTED)
            or missing_table(call, output, "main() ends with `return run.finish()`, which makes the table of the rows")
            or wrong_exit_status(call, status))


def wrong_flags(call: ScriptCall, errors: str) -> Finding:
    """The script ended with exit status 2: why?"""
    return Finding(f"{call.who} ended with exit status 2: {call.shorten(last_line(errors))}", "a script that takes the "
                   "flags of pipeline.py: --folder, --output and the rest", "script")


def wrong_results(call: ScriptCall, output: Path, task_names: list[str], given: str, expected: str) -> Finding | None:
    """Do the files and the rows in the output folder differ from pipeline.py's?"""
    rows = {row["file_name"]: row for row in results.read_rows(output)}
    for slide in call.slides:
        if slide in rows and rows[slide]["status"] == "failed":
            return _failed_row(call, rows[slide], task_names, expected)
        if problem := call.expected.difference(output, slide, with_row=bool(rows) or "save_result" in task_names):
            return Finding(f"{given} {problem}", expected, "script")
    return None


def missing_table(call: ScriptCall, output: Path, expected: str) -> Finding | None:
    """Are there rows, and no table of them?"""
    if results.read_rows(output) and not (output / "results.csv").exists():
        return Finding(f"{call.who} left a row for each slide, and no results.csv", expected, "script")
    return None


def wrong_exit_status(call: ScriptCall, status: int) -> Finding | None:
    """Did the script do all its work, and then end with an error?"""
    if status:
        return Finding(f"{call.who} did all, and ended with {describe_status(status)}", "exit status 0, where every "
                       "slide was checked", "end")
    return None


def read_traceback(call: ScriptCall, errors: str) -> tuple[str, str]:
    """Where the script stopped, and the exception that ended it."""
    frames, _, rest = re.split(r"^(?=  File )", errors, flags=re.MULTILINE)[-1].partition("\n")
    exception = next((line for line in rest.splitlines() if line and not line.startswith(" ")), frames.strip())
    lines = re.findall(rf'^  File ".*[/\\]{re.escape(call.script.name)}", line (\d+)', errors, re.MULTILINE)
    return f"{call.who}, stopped in line {lines[-1]}" if lines else f"{call.who}, stopped", exception


def explain_crash(call: ScriptCall, errors: str) -> Finding:
    """What the exception means that ended the script."""
    where, exception = read_traceback(call, errors)
    if re.search("is not subscriptable", exception) and ", in show\n" in errors:
        return Finding(f"{where}: show() was given what flow.run() returns, which is a State and no row ({exception})",
                       "flow.run(…) alone: the row is in the output folder, and show(…) goes", "script")
    if missing := re.search("did not receive the following required parameters: (.*)", exception):
        names = ", ".join(sorted(missing[1].split(", ")))  # Prefect keeps them in a set, in any order
        return Finding(f"{where}: flow.run() was not given {names}", "flow.run(…) with every Parameter of the flow "
                       "that has no default: **flags.parameters(options) holds four of them",
                       "run" if names == "file_names" else "script")
    if unknown := re.search(r"FlowRunner.run\(\) got an unexpected keyword argument '(.*)'", exception):
        return Finding(f"{where}: flow.run() was given {unknown[1]}, which is no Parameter of the flow", "flow.run(…) "
                       "with the Parameters of the flow, by their names", "script")
    if name := re.match("NameError: name '(.*?)' is not defined", exception):
        return name_not_imported(f"{where}: {exception}", name[1])
    return Finding(f"{where}: {exception}", "a script that comes to its end without an exception", "script")


def _failed_row(call: ScriptCall, row: dict, task_names: list[str], expected: str) -> Finding:
    """Why does a row say `failed`?"""
    found = f"{call.who} left a row that says failed for {row['file_name']} ({row['error']})"
    if "its run broke off" in row["error"] and "save_result" not in task_names:
        return Finding(f"{found}: the flow has no task save_result, so nothing wrote the row", "save_result as the "
                       "last task of the flow, for every slide", "task")
    return Finding(found, expected, "script")
