"""Runs an attendee's script beside a server and an agent of the check, until all that it asked for has ended."""

import re
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from slideqc import child_process, own_server
from slideqc.checking import run_script, server_findings
from slideqc.checking.flow_findings import Finding
from slideqc.checking.server_findings import ENDED, Asked
from slideqc.errors import CommandError
from slideqc.flags import HOME

LOOK_EVERY = 0.3  # seconds between two looks at the server
WAITS = r"--wait\b|\badd_server\("
EXPECTED = "what pipeline.py leaves with the same flags"


def look(number: int, script: Path, place: Path, timeout: float, settings: list[str], values: dict[str, object],
         slides: Iterable[str], wrong: Callable[[str, str, bool], str | None]) -> Iterator[tuple[str, Finding | None]]:
    """Run the script with the flags of `settings`, which say `values`; what it got right, one by one, each with None,
    or with the first thing that is not right yet.

    `wrong(folder, slide, with_row)` says what is wrong with the files of a slide.
    """
    # As seen from the folder of the check, which is not the agent's: what the script hands on must hold anywhere.
    words = [str(script), "--folder", "data", "--output", run_script.FOLDER, *settings]
    waits = re.search(WAITS, script.read_text(encoding="utf-8", errors="replace")) is not None
    words += ["--wait"] if waits else []
    asked = Asked(number, f"run as a script, {script.name}", script, place, values, [*slides], waits)
    with own_server.serving(place) as server:
        agent = server.start_agent()
        child = server.run(words, place, script.parent, HOME, name="script")
        finding, seen = yield from _until_ended(asked, server, agent, child, timeout)
        said, status = child.words()[0], child.status()
        yield ("run by an agent, the flow leaves what pipeline.py leaves",
               finding or server_findings.table_too_early(asked, said) or _left(asked, seen, wrong) or (
                   run_script.table(asked.who, place / run_script.FOLDER, status, "main() ends with servers.follow(…), "
                                  "where --wait is asked for") if waits else run_script.ended(asked.who, status)))
        if asked.is_mapped and (executor := server.executor()):
            yield f"its tasks ran on a {executor}", server_findings.no_executor(asked, executor)


def _until_ended(asked: Asked, server: own_server.Server, agent: child_process.Process, child: child_process.Process,
                 timeout: float) -> Iterator[tuple[str, None]]:
    """Wait for the script and its runs; the first thing that is not right yet, or None, and what the server knows."""
    end, told = time.monotonic() + timeout, False
    while True:
        late = time.monotonic() > end
        status = child.status()
        said, complained = child.words()
        seen = server.look()
        running = [run for run in seen["flow_run"] if run["state"] not in ENDED]
        if finding := (server_findings.stopped(asked, status, complained)
                       or server_findings.told(asked, seen, said, over=late or status is not None)
                       or server_findings.failed(seen) or server_findings.left_alone(asked, running, status)):
            return finding, seen
        if not told and server_findings.is_all(asked, seen):
            told = True
            yield "the flow is registered once, and a flow run asked for with every parameter", None
        if status is not None and not running:
            return None, seen
        if late:
            return server_findings.endless(asked, running, timeout), seen
        if agent.status() is not None:
            raise CommandError("Prefect's agent cannot be started: python check.py setup says what is missing, and "
                               f"how to get it ({run_script.last(agent.words()[1], asked.place)})")
        time.sleep(LOOK_EVERY)


def _left(asked: Asked, seen: dict, wrong: Callable[[str, str, bool], str | None]) -> Finding | None:
    """What is not right yet in the files that the runs left."""
    if any((asked.place / "output").iterdir()):
        return Finding(f"{asked.who} asked for runs that wrote to the default output folder, though each was given "
                       "another", "load_image with the Parameter output", "parameter")
    given = f"the agent's runs got {', '.join(f'{name}={value!r}' for name, value in asked.values.items())};"
    has = [task["name"] for task in seen["flow"][0]["tasks"]]
    return run_script.left(given, asked.who, asked.place / run_script.FOLDER, has, asked.slides, wrong, EXPECTED)
