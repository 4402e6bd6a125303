"""Runs an attendee's code in a process of its own, which it may crash or never leave, and cleans up behind it."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from slideqc.flags import HOME

PLACE = "SLIDEQC_CHECK"  # names the folder of this check: slides in data, results in output, notes in notes.jsonl


def run(words: list[str], script: Path, place: Path, timeout: float) -> tuple[int | None, str, str]:
    """Run Python with these words; its exit status, None if it was ended at the time-out, and what it said.

    The script's folder and the project's are on its path, wherever it lies, and its working folder is `place`.
    """
    before = (Path(__file__).parent / "inside", script.parent, HOME, os.environ.get("PYTHONPATH"))
    surroundings = os.environ | {PLACE: str(place), "PYTHONPATH": os.pathsep.join(str(one) for one in before if one),
                                 "PYTHONIOENCODING": "utf-8"}
    files = [place / "said.txt", place / "complained.txt"]
    with files[0].open("wb") as said, files[1].open("wb") as complained:
        child = subprocess.Popen([sys.executable, *words], cwd=place, env=surroundings, stdin=subprocess.DEVNULL,
                                 stdout=said, stderr=complained, start_new_session=True)
        try:
            status = child.wait(timeout)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            _end(child)
    return status, *(file.read_text(encoding="utf-8", errors="replace") for file in files)


def ending(status: int) -> str:
    """An exit status in words."""
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def _end(child: subprocess.Popen) -> None:
    """End the process, if it still runs, and the workers that it left."""
    with suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(child.pid, signal.SIGKILL)
        elif child.poll() is None:
            subprocess.run(["taskkill", "/F", "/T", "/PID", str(child.pid)], capture_output=True, check=False)
    child.wait()
