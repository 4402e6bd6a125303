"""Is this machine ready for the workshop? Each thing it has to be able to do is tried, and told in one line.

Everything is imported where it is tried: this has to run, and to say what is missing, where nothing is installed.
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


class Finding(NamedTuple):
    """One line: `ok`, `note` (the workshop goes on without it) or `MISSING`, and the command that repairs it."""

    state: str
    what: str
    repair: str = ""

    def __str__(self) -> str:
        return f"{self.state:8} {self.what}" + (f" → {self.repair}" if self.repair else "")


def check(folder: Path, output: Path) -> int:
    """Try everything, and tell of each as it is known; returns the exit status, 1 if something needed is missing."""
    checks: list[tuple[str, Callable[[], list[Finding]]]] = [
        ("Python", python), ("Prefect", prefect), ("reading slides", reading), ("pictures of flows", dot),
        ("ports", ports), ("writing results", lambda: writing(output)), ("slides", lambda: slides(folder))]
    missing = 0
    for name, one in checks:
        try:
            findings = one()
        except Exception as problem:  # whatever one check stumbles over, the others have their say
            repair = packages.repair() if _fits() else "with that Python"
            findings = [Finding("MISSING", f"{name}: {_words(problem)}", repair)]
        for finding in findings:
            print(finding, flush=True)
            missing += finding.state == "MISSING"
    print(f"\n{missing} thing{'s' * (missing != 1)} missing: repair from the top, then python check.py setup again"
          if missing else "\nready\nnext: python pipeline.py, then the steps of the README")
    return 1 if missing else 0


def python() -> list[Finding]:
    """Is this a Python that the packages are made for?"""
    name = f"Python {sys.version_info[0]}.{sys.version_info[1]}"
    if _fits():
        return [Finding("ok", name)]
    return [Finding("MISSING", f"Python 3.11, 3.12 or 3.13 (this is {name})",
                    "make run PYTHON=python3.12, or whichever of them you have; python.org/downloads if none")]


def _fits() -> bool:
    return (3, 11) <= sys.version_info < (3, 14)


def prefect() -> list[Finding]:
    """Is Prefect 1 here, and does it turn a flow into what a server is sent?"""
    try:
        with _quiet():
            import prefect
            from prefect import Flow, task
    except Exception as problem:
        if _names_marshmallow(problem):
            return [_marshmallow(f"Prefect is installed, but cannot be imported ({_words(problem)})")]
        if isinstance(problem, ModuleNotFoundError) and problem.name == "prefect":
            return [Finding("MISSING", "Prefect is not installed", packages.repair())]
        return [Finding("MISSING", f"Prefect cannot be imported ({_words(problem)})", packages.repair())]
    version = getattr(prefect, "__version__", "of an unknown version")
    if version.split(".")[0] != "1":
        return [Finding("MISSING", f"Prefect 1 (this is Prefect {version}, where Flow and task mean other things)",
                        packages.repair())]
    found = [Finding("ok", f"Prefect {version}")]
    try:
        with _quiet():
            with Flow("setup") as flow:
                task(lambda: 1, name="one")()
            flow.serialize()
    except Exception as problem:
        return [*found, _marshmallow(f"a flow cannot be serialised ({_words(problem)})")]
    return [*found, Finding("ok", "a flow can be serialised, as it is when it is sent to a server")]


def _names_marshmallow(problem: BaseException | None) -> bool:
    """Did this come up in marshmallow, or where Prefect uses it?"""
    trace = problem.__traceback__
    while trace:
        if trace.tb_frame.f_globals.get("__name__", "").startswith(("marshmallow", "prefect.serialization",
                                                                     "prefect.utilities.serialization")):
            return True
        trace = trace.tb_next
    return "marshmallow" in f"{getattr(problem, 'name', '')} {problem}"


def _marshmallow(what: str) -> Finding:
    return Finding("MISSING", f"{what}: Prefect 1 needs marshmallow 3",
                   packages.repair('"marshmallow<4"'))


def reading() -> list[Finding]:
    """Can a slide be read? A small one is drawn, opened, and its pixels asked for."""
    try:
        from slideqc.slides import magnification
        from slideqc.slides.generate import write_slide
        from slideqc.slides.reading import read_facts, read_picture
    except ImportError as problem:
        return [Finding("MISSING", f"slides cannot be read ({_words(problem)})", packages.repair())]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        path = Path(place) / "tiny.svs"
        write_slide(path, width=2048, height=1536, magnification=20, seed=1)
        facts = read_facts(path)
        plan = magnification.plan(16, facts.level_dimensions, facts.level_downsamples)
        if read_picture(path, facts, plan).shape != (96, 128, 3):
            return [Finding("MISSING", "slides are read with the wrong size", packages.repair())]
    return [Finding("ok", "slides can be read")]


def dot() -> list[Finding]:
    """Is graphviz's program here? Only pictures of flows need it."""
    if shutil.which("dot"):
        return [Finding("ok", "flows can be drawn (dot)")]
    return [Finding("note", "no dot: flows cannot be drawn; all else works", _get_dot())]


def _get_dot() -> str:
    return {"darwin": "brew install graphviz", "win32": "winget install graphviz"}.get(
        sys.platform, "sudo apt install graphviz")


def ports() -> list[Finding]:
    """Are the server's ports free? Its steps alone need them, and the one who listens may be that server."""
    found = []
    for port, use in PORTS.items():
        if _taken(port):
            found.append(Finding("note", f"port {port} ({use}) is taken: fine if that is the workshop's server",
                                 "otherwise stop what listens there before the server steps"))
        else:
            found.append(Finding("ok", f"port {port} ({use}) is free"))
    return found


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a connection just closed takes no port
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def writing(output: Path) -> list[Finding]:
    """Can results be written? The folder is left as it was."""
    there = output.exists()
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output) as file:
            file.write(b"results")
        if not there:
            output.rmdir()
    except OSError as problem:
        return [Finding("MISSING", f"results cannot be written to {output} ({problem.strerror})",
                        "make it a folder of yours, or give the scripts another one with --output")]
    return [Finding("ok", f"results can be written to {output}")]


def slides(folder: Path) -> list[Finding]:
    """Are there slides, and are they whole? The awkward ones that get_data.py plants are no concern."""
    from slideqc.slides import catalogue
    paths = [path for path in catalogue.slides_in(folder) if not path.name.startswith("planted-")]
    if not paths:
        return [Finding("MISSING", f"no slides in {folder}", "python get_data.py")]
    real = {slide.name: slide for slide in catalogue.listed()}
    found = []
    for path in paths:
        known = real.get(path.name)
        try:
            problem = catalogue.flaw(path, known) if known else _problem(path)
        except OSError as error:
            problem = f"cannot be opened ({error.strerror})"
        if problem:
            large = " --large" if known and known.large else ""
            repair = f"python get_data.py{large}" if known else f"copy it again, or remove it from {folder}"
            found.append(Finding("MISSING", f"{path.name} {problem}", repair))
    whole = len(paths) - len(found)
    if whole:
        found.insert(0, Finding("ok", f"{whole} slide{'s' * (whole != 1)} in {folder}, whole"))
    return found


def _problem(path: Path) -> str | None:
    """Why a slide that is on no list cannot be opened, so that it follows its name; None if it can be, or
    if nothing is here to open it with."""
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
    """Keep what libraries say as they are imported off the terminal: each finding is one line."""
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
