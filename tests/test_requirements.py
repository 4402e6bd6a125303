"""requirements.txt: every package that the code imports is named there, and constraints.txt pins it."""

import ast
import re
import sys
from importlib.metadata import packages_distributions

import pytest

from conftest import HOME, tracked

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
