"""Runs an attendee's script as its user does, over two small slides, and compares what it left with pipeline.py's."""

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from slideqc import child_process
from slideqc.checking.flow_findings import Finding, missing_name
from slideqc.output import results

FOLDER = "results"
EXPECTED = "what pipeline.py leaves with the same flags: flow.run(…) is given every parameter that check_slide() got"


def look(script: Path, place: Path, timeout: float, settings: list[str], flow_has: list[str],
         slides: Iterable[str], wrong: Callable[[str, str, bool], str | None]) -> Finding | None:
    """Run the script with the flags of `settings`; the first thing that is not right yet, None if all is well.

    `flow_has` are the names of its flow's tasks; `wrong(folder, slide, with_row)` says what is wrong with the files
    of a slide.
    """
    folder = FOLDER if "output" in flow_has else "output"  # a flow that knows no output writes where it always does
    words = [str(script), "--folder", str(place / "data"), "--output", str(place / folder), *settings]
    status, _, complained = child_process.run(words, script, place, timeout)
    who = f"run as a script, {script.name}"
    if status is None:
        return Finding(f"{who} came to no end within {timeout:g} s", "a script that comes to its end", "end")
    if "Traceback (most recent call last)" in complained and status:
        return died(who, script, complained)
    if folder == FOLDER and any((place / "output").iterdir()):
        return Finding(f"{who} wrote to the default output folder, though --output named another",
                       "flow.run(…) with the output that main() was given", "script")
    if status == 2:
        return wrong_flags(who, complained, place)
    rows = results.read_rows(place / folder)
    if not rows and not list((place / folder).glob("*.png")):
        return Finding(f"{who} checked no slide: it ended with {child_process.ending(status)}, and left nothing in the "
                       "output folder", "a main() that calls flow.run(…), and a last line that calls main()", "script")
    return (left(f"{who} was given {' '.join(settings)};", who, place / folder, flow_has, slides, wrong, EXPECTED)
            or table(who, place / folder, status, "main() ends with `return run.finish()`, which makes the table of "
                     "the rows"))


def wrong_flags(who: str, complained: str, place: Path) -> Finding:
    """What an exit status of 2 is down to."""
    return Finding(f"{who} ended with exit status 2: {last(complained, place)}", "a script that takes the flags of "
                   "pipeline.py: --folder, --output and the rest", "script")


def left(given: str, who: str, folder: Path, flow_has: list[str], slides: Iterable[str],
         wrong: Callable[[str, str, bool], str | None], expected: str) -> Finding | None:
    """What is not right yet in the files and the rows that a run left in a folder of the check."""
    rows = {row["file_name"]: row for row in results.read_rows(folder)}
    for slide in slides:
        if slide in rows and rows[slide]["status"] == "failed":
            return _failed(who, rows[slide], flow_has, expected)
        if problem := wrong(folder.name, slide, bool(rows) or "save_result" in flow_has):
            return Finding(f"{given} {problem}", expected, "script")
    return None


def table(who: str, folder: Path, status: int, expected: str) -> Finding | None:
    """Did the script make a table of the rows, if there are any, and end well?"""
    if results.read_rows(folder) and not (folder / "results.csv").exists():
        return Finding(f"{who} left a row for each slide, and no results.csv", expected, "script")
    return ended(who, status)


def ended(who: str, status: int) -> Finding | None:
    """Did the script, which did all it had to do, end well?"""
    if status:
        return Finding(f"{who} did all, and ended with {child_process.ending(status)}", "exit status 0, where every "
                       "slide was checked", "end")
    return None


def exception(who: str, script: Path, complained: str) -> tuple[str, str]:
    """Where a script stopped, and the exception that nobody caught."""
    frames, _, told = re.split(r"^(?=  File )", complained, flags=re.MULTILINE)[-1].partition("\n")
    told = next((line for line in told.splitlines() if line and not line.startswith(" ")), frames.strip())
    lines = re.findall(rf'^  File ".*[/\\]{re.escape(script.name)}", line (\d+)', complained, re.MULTILINE)
    return f"{who}, stopped in line {lines[-1]}" if lines else f"{who}, stopped", told


def died(who: str, script: Path, complained: str) -> Finding:
    """What an exception says that nobody caught."""
    where, told = exception(who, script, complained)
    if re.search("is not subscriptable", told) and ", in show\n" in complained:
        return Finding(f"{where}: show() was given what flow.run() returns, which is a State and no row ({told})",
                       "flow.run(…) alone: the row is in the output folder, and show(…) goes", "script")
    if given := re.search("did not receive the following required parameters: (.*)", told):
        names = ", ".join(sorted(given[1].split(", ")))  # a set until here
        return Finding(f"{where}: flow.run() was not given {names}", "flow.run(…) with every Parameter of the flow "
                       "that has no default: **flags.parameters(options) holds four of them",
                       "run" if names == "file_names" else "script")
    if given := re.search(r"FlowRunner.run\(\) got an unexpected keyword argument '(.*)'", told):
        return Finding(f"{where}: flow.run() was given {given[1]}, which is no Parameter of the flow", "flow.run(…) "
                       "with the Parameters of the flow, by their names", "script")
    if name := re.match("NameError: name '(.*?)' is not defined", told):
        return missing_name(f"{where}: {told}", name[1])
    return Finding(f"{where}: {told}", "a script that comes to its end without an exception", "script")


def _failed(who: str, row: dict, flow_has: list[str], expected: str) -> Finding:
    """What a row that says `failed` is down to."""
    found = f"{who} left a row that says failed for {row['file_name']} ({row['error']})"
    if "its run broke off" in row["error"] and "save_result" not in flow_has:
        return Finding(f"{found}: the flow has no task save_result, so nothing wrote the row", "save_result as the "
                       "last task of the flow, for every slide", "task")
    return Finding(found, expected, "script")


def last(text: str, place: Path) -> str:
    """The last line, without the folder of the check."""
    return "".join(text.strip().splitlines()[-1:]).replace(f"{place}{os.sep}", "")
