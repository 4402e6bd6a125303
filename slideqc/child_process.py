"""Runs an attendee's code in a process of its own, which it may crash or never leave, and cleans up behind it."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from slideqc.flags import HOME

PLACE = "SLIDEQC_CHECK"  # names the folder of this check: slides in data, results in output, notes in notes.jsonl


class Process:
    """Python with these `words`, and whatever it starts: all of it is ended when the block is left."""

    def __init__(self, words: list[str], folder: Path, surroundings: dict[str, str], notes: Path) -> None:
        self._files = [notes.with_suffix(f".{what}") for what in ("said", "complained")]
        with self._files[0].open("wb") as said, self._files[1].open("wb") as complained:
            self._child = subprocess.Popen([sys.executable, *words], cwd=folder, env=surroundings, stderr=complained,
                                           stdout=said, stdin=subprocess.DEVNULL, start_new_session=True)

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, kind: type | None, problem: BaseException | None, trace: TracebackType | None) -> None:
        self.end()

    def status(self, patience: float = 0) -> int | None:
        """Its exit status; None if it still runs after so many seconds."""
        with suppress(subprocess.TimeoutExpired):
            return self._child.wait(patience)
        return None

    def words(self) -> list[str]:
        """What it has said so far, and what it has complained of."""
        return [file.read_text(encoding="utf-8", errors="replace") for file in self._files]

    def end(self) -> None:
        """End it, if it still runs, and the workers that it left."""
        with suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(self._child.pid, signal.SIGKILL)
            elif self._child.poll() is None:
                subprocess.run(["taskkill", "/F", "/T", "/PID", str(self._child.pid)], capture_output=True,
                               check=False)
        self._child.wait()


def additions(place: Path, *paths: Path) -> dict[str, str]:
    """What the environment lacks for a process to keep to the folder of this check, with these folders on its path."""
    before = (*paths, os.environ.get("PYTHONPATH"))
    return {PLACE: str(place), "SLIDEQC_DATA": str(place / "data"), "SLIDEQC_OUTPUT": str(place / "output"),
            "PYTHONPATH": os.pathsep.join(str(one) for one in before if one),
            "PYTHONIOENCODING": "utf-8"}


def run(words: list[str], script: Path, place: Path, timeout: float) -> tuple[int | None, str, str]:
    """Run Python with these words; its exit status, None if it was ended at the time-out, and what it said.

    The script's folder and the project's are on its path, wherever it lies, and its working folder is `place`.
    """
    surroundings = os.environ | additions(place, script.parent, HOME)
    with Process(words, place, surroundings, place / "run") as child:
        status = child.status(timeout)
    return status, *child.words()


def ending(status: int) -> str:
    """An exit status in words."""
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
