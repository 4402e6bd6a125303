"""Every command that the README shows, run as it stands there, in a copy of the repository that has nothing set up."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import HOME, REAL, environment

README = (HOME / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
OUTPUTS = re.findall(r"```text\n(.*?)```", README, re.DOTALL)

pytestmark = pytest.mark.skipif(os.name == "nt", reason="these are the commands for Linux and macOS")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git tracks, as a clone would give it."""
    folder = tmp_path_factory.mktemp("clone") / "workshop"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=HOME, capture_output=True, check=True).stdout.decode()
    for name in filter(None, listed.split("\0")):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(HOME / name, target)
    return folder


def shell(copy: Path, commands: str) -> str:
    # The interpreter that runs the tests stands for the machine's own python3.
    path = f"{Path(sys.executable).resolve().parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", commands], cwd=copy, capture_output=True, text=True,
                          env=environment(copy.parent) | {"PATH": path}, timeout=900)
    assert done.returncode == 0, f"{commands}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def test_the_commands_in_their_order(copy):
    """From nothing to a report, with everything the README says on the way."""
    # This test is part of what `make test` runs; so here, only that it would run all of the tests.
    commands = "".join(block.replace("make test", "make --dry-run test") for block in BLOCKS)
    assert "make --dry-run test" in commands
    said = shell(copy, commands)
    assert (copy / "output" / "report.html").exists() and (copy / "data" / REAL).exists()
    for words in ("need a rescan", "report: ", "next: python pipeline.py", "-m pytest"):
        assert words in said


def test_the_output_shown_is_the_real_one(copy):
    """The table in the README is what the pipeline prints for the slides that everybody can have."""
    shown = next(output for output in OUTPUTS if "slide " in output)
    data = copy / "shown"
    data.mkdir()
    for name in re.findall(r"^(\S+\.svs)", shown, re.MULTILINE):
        os.link(copy / "data" / name, data / name)
    said = shell(copy, f".venv/bin/python pipeline.py --folder '{data}' --output '{copy}/shown-output'")
    for line in shown.splitlines():
        if not line.startswith("report:"):
            assert line in said.splitlines(), line


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#\s]+)\)", README):
        assert target.startswith("http") or (HOME / target).exists(), target
