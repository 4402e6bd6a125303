"""check.py called in the process of the test, with slides and expected results that are made once for all of them.

That saves a second for each check; and the programs that a check starts are forks, where a test asks for it. What
`python check.py` does as a whole process is tested with the solutions.

Test files import this module and load it as a plugin, for which pytest has to be told: PYTEST_DONT_REWRITE.
"""

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import check as check_script
from conftest import HOME, once, said
from forked import Forks
from slideqc import child_process
from slideqc.checking import expected_results
from slideqc.checking.expected_results import SLIDES_DONE, ExpectedResults
from slideqc.checking.steps import STEPS
from slideqc.child_process import ChildProcess
from slideqc.output import results

Check = Callable[..., subprocess.CompletedProcess]

HANGS = "hangs from here on"  # what the broken scripts without an end print
TIMEOUT = 100  # seconds


@pytest.fixture(scope="session")
def expected(tmp_path_factory: pytest.TempPathFactory) -> ExpectedResults:
    """The results of pipeline.py for the slides of a check, which are in `data` next to its folder."""
    def make(folder: Path) -> None:
        with expected_results.preparing(folder) as wait_for_results:
            wait_for_results()
    folder = once(tmp_path_factory, "check", make) / "expected"
    return ExpectedResults(folder, {row["file_name"]: row for row in results.read_rows(folder)})


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks | None]:
    """The process whose forks are started in place of programs, where there can be one."""
    if sys.platform != "linux":
        yield None
    else:
        with Forks() as forks:
            yield forks


@pytest.fixture
def forked(forks: Forks | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start the programs of a check as forks: the script, the server and the agent, but not what these start."""
    if forks:
        monkeypatch.setattr(child_process, "subprocess", forks)


@pytest.fixture
def check(expected: ExpectedResults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
          capsys: pytest.CaptureFixture) -> Iterator[Check]:
    """Call check.py from a folder that is not the project's, with a home of its own."""
    @contextmanager
    def preparing(folder: Path) -> Iterator[Callable[[], ExpectedResults]]:
        shutil.copytree(expected.folder.parent / "data", folder / "data")
        (folder / SLIDES_DONE).touch()
        yield lambda: expected

    def run(*arguments: object) -> subprocess.CompletedProcess:
        capsys.readouterr()
        status = check_script.main([*map(str, arguments)])
        return subprocess.CompletedProcess(arguments, status, *capsys.readouterr())

    monkeypatch.setattr(expected_results, "preparing", preparing)
    monkeypatch.setattr("sys.argv", ["check.py"])
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8")
    monkeypatch.chdir(tmp_path)
    before = {number: signal.getsignal(number) for name in ("SIGTERM", "SIGHUP")
              if (number := getattr(signal, name, None))}
    yield run
    for number, handler in before.items():
        signal.signal(number, handler)
    assert Path.cwd() == tmp_path and os.environ["HOME"] == str(tmp_path), "check.py has changed its process"


def broken_scripts(with_server: bool) -> list[Path]:
    """The scripts in tests/broken, for the steps with or without a server: the first line names the step."""
    return sorted(path for path in (HOME / "tests" / "broken").glob("*.py")
                  if path.name != "pieces.py" and STEPS[int(path.read_text(encoding="utf-8")[3])].server == with_server)


def assert_mistake_is_told(check: Check, broken: Path) -> None:
    """The first line of a broken script says which step it is for, and the sentence that it must get."""
    step, sentence = ast.get_docstring(ast.parse(broken.read_text(encoding="utf-8"))).splitlines()[0].split(": ", 1)
    done = check(step, broken, "--timeout", TIMEOUT)
    found = re.search("^not yet  found: +(.*)\n +expected: .+\n +hint: +.+ \\(step \\d, hint \\d+\\)\n\nnext: .+\n\\Z",
                      said(done), re.MULTILINE)
    assert done.returncode == 1 and found, said(done)
    assert sentence in found[1], found[1]
    assert "is not defined" not in found[1] or "What a script uses, it imports" in said(done), said(done)
    given_away = answers(step) & set(map(str.strip, said(done).splitlines()))
    assert not given_away, given_away


def answers(step: str) -> set[str]:
    """The lines of the solution that give the step away."""
    text = (HOME / STEPS[int(step)].solution).read_text(encoding="utf-8")
    name = "main" if STEPS[int(step)].server else "define_flow"
    body = next(node for node in ast.parse(text).body if getattr(node, "name", "") == name)
    return {line.strip() for line in ast.get_source_segment(text, body).splitlines() if "=" in line or ".map(" in line}


def status_or_hangs(process: ChildProcess, timeout: float | None = 0, status: Callable = ChildProcess.status,
                    ) -> int | None:
    """In place of ChildProcess.status: the time-out is over as soon as a script prints that it hangs."""
    assert timeout in (0, 0.05, None, TIMEOUT), timeout
    if timeout != TIMEOUT:
        return status(process, timeout)
    while (found := status(process, 0.05)) is None and HANGS not in process.output()[0]:
        pass
    return found
