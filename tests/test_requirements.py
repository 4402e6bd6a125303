"""requirements.txt names every package that the code imports, constraints.txt pins it, and make installs it."""

import ast
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions

import pytest

from conftest import HOME, environment, tracked

WORKSHOP, TESTS = "requirements.txt", "tests/requirements.txt"
CODE = [name for name in tracked() if name.endswith(".py") and not name.startswith("tests/broken/")]
OURS = {part.removesuffix(".py") for name in CODE for part in name.split("/")}


def plain(name: str) -> str:
    """The name of a package, which people write in several ways, as pip compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def named(file: str) -> set[str]:
    """The packages that a list names."""
    lines = (HOME / file).read_text(encoding="utf-8").splitlines()
    return {plain(found[0]) for line in lines if (found := re.match(r"\w[\w.-]*", line))}


def imported(name: str) -> set[str]:
    """The packages that a file imports, anywhere in it: neither Python's own nor the repository's."""
    found = set()
    for node in ast.walk(ast.parse((HOME / name).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - OURS


def test_what_is_imported_is_named():
    """Also where another package brings it along: that one may do without it tomorrow."""
    known, missing = packages_distributions(), []
    for name in CODE:
        names = named(WORKSHOP) | (named(TESTS) if name.startswith("tests/") else set())
        for module in imported(name):
            packages = {plain(package) for package in known.get(module, [module])}
            if not packages & names:
                missing.append(f"{name} imports {module}: name {' or '.join(sorted(packages))}")
    assert missing == []


@pytest.mark.parametrize("file", [WORKSHOP, TESTS])
def test_what_is_named_is_pinned_and_has_a_reason(file):
    pins = (HOME / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {plain(found[1]) for line in pins if (found := re.match(r"(\w[\w.-]*)==\d", line))}
    assert named(file) - pinned == set(), "not pinned: make lock"
    lines = (HOME / file).read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if re.match(r"\w", line) and not re.search(r" # \w", line)] == []


@pytest.mark.skipif(os.name == "nt" or not shutil.which("make"), reason="needs make, and .venv as on Linux and macOS")
@pytest.mark.parametrize(("setting", "told"), [
    ({"PIP_INDEX_URL": "http://127.0.0.1:9/"}, "The package index is out of reach: connect to the network"),
    ({"PIP_NO_INDEX": "1"}, "ResolutionImpossible"),
], ids=["no network", "another failure"])
def test_set_up_that_fails(setting, told, tmp_path):
    """In a folder where .venv is the Python of the tests, with a package that it lacks."""
    shutil.copy(HOME / "Makefile", tmp_path)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    for name, lines in {".venv/ready": "", "constraints.txt": "not-on-any-index==1.0\n",
                        "requirements.txt": "-c constraints.txt\nnot-on-any-index\n"}.items():
        (tmp_path / name).write_text(lines, encoding="utf-8")
    os.utime(tmp_path / ".venv" / "ready", (0, 0))
    done = subprocess.run(["make", "run"], cwd=tmp_path, capture_output=True, text=True, timeout=300,
                          env=environment(tmp_path) | {"PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "1"} | setting)
    own = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert done.returncode == 2 and told in done.stderr, done.stderr
    assert len(own) == 1 or "PIP_NO_INDEX" in setting, done.stderr
    assert not (tmp_path / ".venv" / "ready").exists()
