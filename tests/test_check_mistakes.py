"""check.py 1, 3 and 4 find what is wrong in each broken script, whatever the script does to the process."""

import os
import signal
import sys
from pathlib import Path

import pytest
from check_in_process import Check, assert_mistake_is_told, broken_scripts, status_or_hangs

from conftest import HOME
from slideqc.checking import expected_results
from slideqc.child_process import ChildProcess
from slideqc.errors import CommandError

pytest_plugins = ["check_in_process"]  # fixtures


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize("broken", broken_scripts(with_server=False), ids=lambda path: path.stem)
def test_each_mistake_gets_its_sentence(check: Check, broken: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ChildProcess, "status", status_or_hangs)
    assert_mistake_is_told(check, broken)


def test_a_process_is_ended_after_its_time_out(tmp_path: Path):
    command = [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(600)"]
    with ChildProcess(command, cwd=tmp_path, env=os.environ, log=tmp_path / "log") as process:
        process.wait_until(lambda: process.last_line() == "here", "it")
        assert process.status(0.1) is None
    assert process.status() == -signal.SIGKILL or os.name == "nt"


def test_a_pipeline_that_does_not_run_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(expected_results, "HOME", tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(HOME))
    (tmp_path / "pipeline.py").write_text("raise SystemExit(1)\n", encoding="utf-8")
    with expected_results.preparing(tmp_path) as wait_for_results, \
            pytest.raises(CommandError, match=r"pipeline\.py does not run as the plain pipeline any more"):
        wait_for_results()
