"""check.py called in the process of the test, with slides and expected results that are made once for a test file.

That saves a second for each check. What `python check.py` does as a whole process is tested with the solutions.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import check as check_script
from slideqc.checking import expected_results
from slideqc.checking.expected_results import SLIDES_DONE, ExpectedResults

Check = Callable[..., subprocess.CompletedProcess]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> ExpectedResults:
    """What pipeline.py makes of the slides of a check; they lie beside its folder, in `data`."""
    with expected_results.preparing(tmp_path_factory.mktemp("expected")) as wait_for_results:
        return wait_for_results()


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
    assert Path.cwd() == tmp_path and os.environ["HOME"] == str(tmp_path)
