"""`python -m workshop_server` with a Python that lacks the server's packages: one line, exit status 2."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness import HOME
from workshop_server import packages
from workshop_server.errors import StartError


@pytest.mark.parametrize("arguments", [[], ["create-key", "Ada"], ["--help"]])
def test_python_outside_venv_is_told_in_one_line(arguments: list[str], tmp_path: Path) -> None:
    # -S leaves out every installed package, and .venv with them.
    for folder in (HOME, tmp_path):  # in another folder, Python finds the server by its path alone
        done = subprocess.run([sys.executable, "-S", "-m", "workshop_server", *arguments], cwd=folder, text=True,
                              capture_output=True, env=os.environ | {"PYTHONPATH": str(HOME), "HOME": str(tmp_path)})
        assert done.returncode == 2 and done.stdout == "" and len(done.stderr.splitlines()) == 1, done.stderr
        assert done.stderr.startswith(f"workshop_server: {sys.executable} lacks the package ")
        assert ("activate .venv first" if (HOME / ".venv").is_dir() else "make run") in done.stderr


@pytest.mark.parametrize("venv, words", [("none", "make run"), ("other", "activate"), ("this", "pip install")])
def test_the_way_out_fits_the_case(venv: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("other", "this"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pyvenv.cfg").touch()
    monkeypatch.setattr(packages, "VENV", tmp_path / venv)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "this"))
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path / "this") if venv == "none" else "another")
    with pytest.raises(StartError) as error:
        packages.require("sys", "no_such_package")
    assert "lacks the package no_such_package" in str(error.value) and words in str(error.value).partition("; ")[2]


def test_every_package_that_the_server_imports_is_looked_for() -> None:
    imported = {"psycopg"}  # by SQLAlchemy, for PostgreSQL
    for file in (HOME / "workshop_server").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.split(".")[0])
    by_starlette_and_uvicorn = {"python_multipart", "httptools"}
    expected = imported - sys.stdlib_module_names - {"workshop_server"} | by_starlette_and_uvicorn
    assert {*packages.NEEDED, packages.FOR_POSTGRESQL} == expected
