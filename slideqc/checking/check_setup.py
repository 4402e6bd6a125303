"""Is this machine ready for the workshop? Tries each thing that the workshop needs, and prints one line for each.

Packages are imported where they are tried, since this has to run, and to say what is missing, without any of them.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shutil
import socket
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from slideqc import packages

PORTS = {4200: "the server's API", 8080: "its pages"}


class CheckResult(NamedTuple):
    """One line: `ok`, `note` (a warning) or `MISSING`, and the command that repairs it."""

    state: str
    what: str
    repair: str = ""

    def __str__(self) -> str:
        return f"{self.state:8} {self.what}" + (f" → {self.repair}" if self.repair else "")


def check(folder: Path, output: Path) -> int:
    """Print the result of each check; returns the exit status, 1 if something needed is missing."""
    checks: list[tuple[str, Callable[[], list[CheckResult]]]] = [
        ("Python", check_python), ("Prefect", check_prefect), ("reading slides", check_reading),
        ("pictures of flows", check_dot), ("ports", check_ports),
        ("writing results", lambda: check_writing(output)), ("slides", lambda: check_slides(folder))]
    missing = 0
    for name, check_one in checks:
        try:
            lines = check_one()
        except Exception as problem:  # the other checks still run
            repair = packages.repair() if _is_supported() else "with that Python"
            lines = [CheckResult("MISSING", f"{name}: {_words(problem)}", repair)]
        for line in lines:
            print(line, flush=True)
            missing += line.state == "MISSING"
    print(f"\n{missing} thing{'s' * (missing != 1)} missing: repair from the top, then python check.py setup again"
          if missing else "\nready\nnext: python pipeline.py, then the steps of the README")
    return 1 if missing else 0


def check_python() -> list[CheckResult]:
    """Do the packages exist for this Python?"""
    name = f"Python {sys.version_info[0]}.{sys.version_info[1]}"
    if _is_supported():
        return [CheckResult("ok", name)]
    return [CheckResult("MISSING", f"Python 3.11, 3.12 or 3.13 (this is {name})",
                    "make run PYTHON=python3.12, or whichever of them you have; python.org/downloads if none")]


def _is_supported() -> bool:
    return (3, 11) <= sys.version_info < (3, 14)


def check_prefect() -> list[CheckResult]:
    """Is Prefect 1 installed, and can it serialise a flow?"""
    try:
        with _quiet():
            import prefect
            from prefect import Flow, task
    except Exception as problem:
        if _is_marshmallow_error(problem):
            return [_wrong_marshmallow(f"Prefect is installed, but cannot be imported ({_words(problem)})")]
        if isinstance(problem, ModuleNotFoundError) and problem.name == "prefect":
            return [CheckResult("MISSING", "Prefect is not installed", packages.repair())]
        return [CheckResult("MISSING", f"Prefect cannot be imported ({_words(problem)})", packages.repair())]
    version = getattr(prefect, "__version__", "of an unknown version")
    if version.split(".")[0] != "1":
        return [CheckResult("MISSING", f"Prefect 1 (this is Prefect {version}, where Flow and task mean other things)",
                        packages.repair())]
    found = [CheckResult("ok", f"Prefect {version}")]
    try:
        with _quiet():
            with Flow("setup") as flow:
                task(lambda: 1, name="one")()
            flow.serialize()
    except Exception as problem:
        return [*found, _wrong_marshmallow(f"a flow cannot be serialised ({_words(problem)})")]
    return [*found, CheckResult("ok", "a flow can be serialised, as it is when it is sent to a server")]


def _is_marshmallow_error(problem: BaseException | None) -> bool:
    """Was this raised in marshmallow, or where Prefect uses it?"""
    trace = problem.__traceback__
    while trace:
        if trace.tb_frame.f_globals.get("__name__", "").startswith(("marshmallow", "prefect.serialization",
                                                                     "prefect.utilities.serialization")):
            return True
        trace = trace.tb_next
    return "marshmallow" in f"{getattr(problem, 'name', '')} {problem}"


def _wrong_marshmallow(what: str) -> CheckResult:
    return CheckResult("MISSING", f"{what}: Prefect 1 needs marshmallow 3",
                   packages.repair('"marshmallow<4"'))


def check_reading() -> list[CheckResult]:
    """Can a slide be read? A small one is made and read."""
    try:
        from slideqc.slides import magnification
        from slideqc.slides.generate import write_slide
        from slideqc.slides.reading import read_facts, read_picture
    except ImportError as problem:
        return [CheckResult("MISSING", f"slides cannot be read ({_words(problem)})", packages.repair())]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        path = Path(place) / "tiny.svs"
        write_slide(path, width=2048, height=1536, magnification=20, seed=1)
        facts = read_facts(path)
        plan = magnification.plan(16, facts.level_dimensions, facts.level_downsamples)
        if read_picture(path, facts, plan).rgb.shape != (96, 128, 3):
            return [CheckResult("MISSING", "slides are read with the wrong size", packages.repair())]
    return [CheckResult("ok", "slides can be read")]


def check_dot() -> list[CheckResult]:
    """Is the program of graphviz installed? Only pictures of flows need it."""
    if shutil.which("dot"):
        return [CheckResult("ok", "flows can be drawn (dot)")]
    return [CheckResult("note", "no dot: flows cannot be drawn; all else works", _get_dot())]


def _get_dot() -> str:
    return {"darwin": "brew install graphviz", "win32": "winget install graphviz"}.get(
        sys.platform, "sudo apt install graphviz")


def check_ports() -> list[CheckResult]:
    """Are the server's ports free? Only the server steps need them, and it may be that server which listens."""
    found = []
    for port, use in PORTS.items():
        if _is_taken(port):
            found.append(CheckResult("note", f"port {port} ({use}) is taken: fine if that is the workshop's server",
                                 "otherwise stop what listens there before the server steps"))
        else:
            found.append(CheckResult("ok", f"port {port} ({use}) is free"))
    return found


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # allow ports of closed connections
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def check_writing(output: Path) -> list[CheckResult]:
    """Can results be written? The folder stays as it was."""
    existed = output.exists()
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output) as file:
            file.write(b"results")
        if not existed:
            output.rmdir()
    except OSError as problem:
        return [CheckResult("MISSING", f"results cannot be written to {output} ({problem.strerror})",
                        "make it a folder of yours, or give the scripts another one with --output")]
    return [CheckResult("ok", f"results can be written to {output}")]


def check_slides(folder: Path) -> list[CheckResult]:
    """Are there slides, and are they whole? The awkward slides of get_data.py are left out."""
    from slideqc.slides import catalogue
    paths = [path for path in catalogue.slides_in(folder) if not path.name.startswith("planted-")]
    if not paths:
        return [CheckResult("MISSING", f"no slides in {folder}", "python get_data.py")]
    real = {slide.name: slide for slide in catalogue.listed()}
    found = []
    for path in paths:
        known = real.get(path.name)
        try:
            problem = catalogue.flaw(path, known) if known else _read_problem(path)
        except OSError as error:
            problem = f"cannot be opened ({error.strerror})"
        if problem:
            large = " --large" if known and known.large else ""
            repair = f"python get_data.py{large}" if known else f"copy it again, or remove it from {folder}"
            found.append(CheckResult("MISSING", f"{path.name} {problem}", repair))
    whole = len(paths) - len(found)
    if whole:
        found.insert(0, CheckResult("ok", f"{whole} slide{'s' * (whole != 1)} in {folder}, whole"))
    return found


def _read_problem(path: Path) -> str | None:
    """Why a slide cannot be opened, in words that follow its name; None if it can, or if a package is missing."""
    try:
        from slideqc.errors import SlideError
        from slideqc.slides.reading import read_facts
    except ImportError:
        return None
    try:
        read_facts(path)
    except SlideError as problem:
        return str(problem).removeprefix(path.name).strip()
    return None


@contextlib.contextmanager
def _quiet():
    """Hide what libraries print as they are imported: each result is one line."""
    logging.disable(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def _words(problem: BaseException) -> str:
    """An exception in one line."""
    return " ".join(f"{type(problem).__name__}: {problem}".split())
