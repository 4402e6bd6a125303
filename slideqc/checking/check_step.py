"""Checks an attendee's script for a step, and tells the first thing that is not right yet, with a hint."""

import json
import signal
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from slideqc.checking import check_folder, expected_results, flow_findings, run_on_server, run_script
from slideqc.checking.expected_results import PARAMETERS
from slideqc.checking.flow_findings import Finding
from slideqc.checking.script_call import ScriptCall
from slideqc.checking.steps import STEPS, hint
from slideqc.child_process import describe_status
from slideqc.errors import CommandError
from slideqc.flags import HOME

PACKAGES = {"prefect", "dask", "distributed", "numpy", "cv2", "slideqc", "solutions", "BaseImage",
            "workshop_server"}


def check(step_number: int, script: Path, timeout: float) -> int:
    """Check `script` for a step, and print what was found; returns the exit status."""
    step = STEPS[step_number]
    for name in ("SIGTERM", "SIGHUP"):  # like Ctrl-C: a closed terminal ends the processes of the check too
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) == signal.SIG_DFL:
            signal.signal(getattr(signal, name), signal.default_int_handler)
    print(f"step {step_number}, {step.title}: {script}\n", flush=True)
    with TemporaryDirectory(prefix="check-", ignore_cleanup_errors=True) as folder:
        finding = _first_finding(step_number, script.resolve(), timeout, Path(folder).resolve())
    if finding is None:
        own = script
        if script.resolve().parent == HOME / "solutions":
            own = Path("my_flow.py" if step.files == "file_name" else "my_flow_mapped.py")
        stem = own.stem.removesuffix("_server")
        copies = {kind: own.with_name(f"{stem}_{kind}.py") for kind in ("server", "mapped")}
        print(f"\nstep {step_number} is done\nnext: {step.then.format(mine=script, **copies)}")
        return 0
    hint_step, hint_number, text = hint(step_number, finding.idea)
    print(f"not yet  found:    {finding.found}\n         expected: {finding.expected}\n"
          f"         hint:     {text} (step {hint_step}, hint {hint_number})\n\n"
          f"next: change it, save it, and again: python check.py {step_number} {script}")
    return 1


def _first_finding(step_number: int, script: Path, timeout: float, folder: Path) -> Finding | None:
    """Print what is right; returns the first thing that is not."""
    if script.stem in PACKAGES | set(sys.stdlib_module_names):
        return Finding(f"the file is called {script.name}, and hides the module {script.stem} from every import",
                       "a name of its own, such as my_flow.py", "import")
    (folder / "output").mkdir()
    with expected_results.preparing(folder) as wait_for_results:
        broke_off = _run_flow(step_number, script, timeout, folder)
        notes = _read_notes(folder)
        for what in notes["ok"]:
            print(f"ok       {what}")
        for finding in notes["finding"]:
            return Finding(*finding)
        if broke_off:
            stage = notes["stage"][-1] if notes["stage"] else "starting"
            broke_off = Finding(f"{broke_off}, while {stage}", "a script that comes to its end", "end")
        if broke_off and not notes["run"]:
            return broke_off
        expected = wait_for_results()
    for executor, finding in flow_findings.check_runs(notes["run"], expected, folder, PARAMETERS):
        if finding:
            return finding
        print(f"ok       with {executor}: the masks and percent_blurry of pipeline.py")
    return broke_off or _check_script(ScriptCall(step_number, script, folder, timeout, PARAMETERS, expected), notes)


def _check_script(call: ScriptCall, notes: dict[str, list]) -> Finding | None:
    """Run the script as its user does; returns the first thing that is not right."""
    if STEPS[call.step_number].server:
        for what, finding in run_on_server.check_on_server(call):
            if finding:
                return finding
            print(f"ok       {what}", flush=True)
        return None
    if finding := run_script.check_script(call, notes["run"][0]["tasks"]):
        return finding
    print(f"ok       run as a script, {call.script.name} leaves what pipeline.py leaves")
    return None


def _run_flow(step_number: int, script: Path, timeout: float, folder: Path) -> str | None:
    """Load the script and run its flow, in a process that writes notes; returns how that broke off, or None."""
    arguments = ["-m", "slideqc.checking.run_flow", str(step_number), str(script)]
    status, output, errors = check_folder.run_python(arguments, script, folder, timeout)
    if status is None:
        return f"no end after {timeout:g} s"
    notes = _read_notes(folder)
    if notes["done"]:
        return None
    if not notes["stage"]:
        raise CommandError("Prefect cannot be started: python check.py setup says what is missing, and how to get it")
    return f"Python itself ended, with {describe_status(status)}{_last_words(errors or output)}"


def _last_words(text: str) -> str:
    words = "".join(text.split("\n")[-2:-1]).strip()
    return f" (its last words: {words})" if words and " prefect." not in words else ""


def _read_notes(folder: Path) -> dict[str, list]:
    """The notes of the process that runs the flow, by kind; the last line may be cut off."""
    notes = {kind: [] for kind in ("stage", "ok", "finding", "run", "done")}
    with suppress(FileNotFoundError, ValueError):
        for line in (folder / "notes.jsonl").read_text(encoding="utf-8").splitlines():
            kind, value = json.loads(line)
            notes[kind].append(value)
    return notes
