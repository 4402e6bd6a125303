"""Checks an attendee's script for a step: runs it aside, and tells what is not right yet, one idea at a time."""

import json
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from slideqc import child_process
from slideqc.checking import flow_findings, run_on_server, run_script
from slideqc.checking.flow_findings import Finding
from slideqc.checking.run_flow import SLIDES, VALUES
from slideqc.checking.steps import STEPS, hint
from slideqc.errors import CommandError
from slideqc.flags import HOME
from slideqc.output import drawing, results

MASKS = ("tissue_seg.png", "blurry.png")
SETTINGS = [word for name, value in VALUES.items() for word in (f"--{name.replace('_', '-')}", str(value))]
PACKAGES = {"prefect", "dask", "distributed", "numpy", "cv2", "slideqc", "solutions", "BaseImage",
            "workshop_server"}


def check(number: int, script: Path, timeout: float) -> int:
    """Check `script` for a step, and say what was seen; returns the exit status."""
    step = STEPS[number]
    for name in ("SIGTERM", "SIGHUP"):  # like Ctrl-C, so that a closed terminal ends the processes of the check too
        if hasattr(signal, name) and signal.getsignal(getattr(signal, name)) == signal.SIG_DFL:
            signal.signal(getattr(signal, name), signal.default_int_handler)
    print(f"step {number}, {step.title}: {script}\n", flush=True)
    with TemporaryDirectory(prefix="check-", ignore_cleanup_errors=True) as place:
        finding = _seen(number, script.resolve(), timeout, Path(place).resolve())
    if finding is None:
        copy = Path("my_flow.py" if step.files == "file_name" else "my_flow_mapped.py")
        own = copy if script.resolve().parent == HOME / "solutions" else script
        stem = own.stem.removesuffix("_server")
        copies = {kind: own.with_name(f"{stem}_{kind}.py") for kind in ("server", "mapped")}
        print(f"\nstep {number} is done\nnext: {step.then.format(mine=script, **copies)}")
        return 0
    where, which, text = hint(number, finding.idea)
    print(f"not yet  found:    {finding.found}\n         expected: {finding.expected}\n"
          f"         hint:     {text} (step {where}, hint {which})\n\n"
          f"next: change it, save it, and again: python check.py {number} {script}")
    return 1


def _seen(number: int, script: Path, timeout: float, place: Path) -> Finding | None:
    """Tell what is right already; returns the first thing that is not."""
    if script.stem in PACKAGES | set(sys.stdlib_module_names):
        return Finding(f"the file is called {script.name}, and hides the module {script.stem} from every import",
                       "a name of its own, such as my_flow.py", "import")
    broken_off = _attempt(number, script, timeout, place)
    notes = _notes(place)
    for what in notes["ok"]:
        print(f"ok       {what}")
    for found in notes["finding"]:
        return Finding(*found)
    on_server = STEPS[number].server and not broken_off
    truth = _truth(place) if notes["run"] or on_server else {}
    left = _Left(place)
    for where, finding in flow_findings.runs(notes["run"], truth, left, VALUES):
        if finding:
            return finding
        print(f"ok       with {where}: the masks and percent_blurry of pipeline.py")
    if broken_off:
        stage = notes["stage"][-1] if notes["stage"] else "starting"
        return Finding(broken_off.format(stage=stage), "a script that comes to its end", "end")
    if on_server:
        for what, finding in run_on_server.look(number, script, place, timeout, SETTINGS, VALUES, truth, left):
            if finding:
                return finding
            print(f"ok       {what}", flush=True)
        return None
    if finding := run_script.look(script, place, timeout, SETTINGS, notes["run"][0]["has"], truth, left):
        return finding
    print(f"ok       run as a script, {script.name} leaves what pipeline.py leaves")
    return None


def _truth(place: Path) -> dict[str, dict]:
    """What pipeline.py makes of the slides: its rows, by slide."""
    done = subprocess.run([sys.executable, HOME / "pipeline.py", "--folder", place / "data", "--output",
                           place / "truth", *SETTINGS], capture_output=True, text=True, errors="replace", check=False)
    rows = {row["file_name"]: row for row in results.read_rows(place / "truth")}
    if done.returncode or set(rows) != set(SLIDES):
        raise CommandError("pipeline.py does not run as the plain pipeline any more, and your flow is compared with "
                           "it: put it back as it was, and write your flow in a file of its own")
    return rows


def _attempt(number: int, script: Path, timeout: float, place: Path) -> str | None:
    """Load the script and run its flow; says how that broke off, `{stage}` being where, or None."""
    (place / "output").mkdir()
    words = ["-m", "slideqc.checking.run_flow", str(number), str(script)]
    status, said, complained = child_process.run(words, script, place, timeout)
    if status is None:
        return f"no end after {timeout:g} s, while {{stage}}"
    notes = _notes(place)
    if notes["done"]:
        return None
    if not notes["stage"]:
        raise CommandError("Prefect cannot be started: python check.py setup says what is missing, and how to get it")
    words = "".join((complained or said).split("\n")[-2:-1]).strip().replace("{", "{{").replace("}", "}}")
    told = f"; its last words: {words}" if words and " prefect." not in words else ""
    return f"Python itself ended, with {child_process.ending(status)}, while {{stage}}{told}"


def _notes(place: Path) -> dict[str, list]:
    """What the process wrote down, by kind; its last line may be cut short."""
    notes = {kind: [] for kind in ("stage", "ok", "finding", "run", "done")}
    with suppress(FileNotFoundError, ValueError):
        for line in (place / "notes.jsonl").read_text(encoding="utf-8").splitlines():
            kind, value = json.loads(line)
            notes[kind].append(value)
    return notes


class _Left:
    """Compares what a run left in its folder with what pipeline.py left."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __call__(self, folder: str, slide: str, with_row: bool) -> str | None:
        """What is wrong with a slide's files, and with its row, if it is to have one; None if they are right."""
        for kind in MASKS:
            wanted, got = (self.place / left / f"{slide}_{kind}" for left in ("truth", folder))
            if not got.exists():
                return f"{got.name} is not in the output folder"
            differ = drawing.decode_mask(wanted.read_bytes()), drawing.decode_mask(got.read_bytes())
            if differ[0].shape != differ[1].shape or (differ[0] != differ[1]).any():
                return f"{got.name} is another picture"
        if not with_row:
            return None
        rows = {row["file_name"]: row for row in results.read_rows(self.place / folder)}
        if slide not in rows:
            return f"{slide} has no row ({slide}_qc.json is not in the output folder)"
        wanted = {row["file_name"]: row for row in results.read_rows(self.place / "truth")}[slide]
        if rows[slide] != wanted:
            column = next(name for name in wanted if rows[slide][name] != wanted[name])
            return f"the row of {slide} says {column}={rows[slide][column]!r} instead of {wanted[column]!r}"
        return None
