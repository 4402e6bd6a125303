"""What every pipeline says of a Python without the workshop's packages, and of flags that it does not know."""

import subprocess
import sys

import pytest

from conftest import HOME
from slideqc import packages

SOLUTIONS = sorted(str(path.relative_to(HOME)) for path in HOME.glob("solutions/*.py"))


@pytest.mark.parametrize("script", ["pipeline.py", "pipeline_parallel.py", *SOLUTIONS, "get_data.py"])
def test_python_outside_venv_is_told_in_one_line(script, tmp_path):
    # -S leaves out every installed package, and .venv with them.
    dest = ["--dest", tmp_path] if script == "get_data.py" else []
    done = subprocess.run([sys.executable, "-S", HOME / script, *dest], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert " lacks the package " in done.stderr
    assert ("activate .venv first" if (HOME / ".venv").is_dir() else "make run") in done.stderr


@pytest.mark.parametrize("venv, words", [("none", "make run"), ("other", "activate"), ("this", "pip install")])
def test_the_way_out_fits_the_case(venv, words, tmp_path, monkeypatch):
    for name in ("other", "this"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pyvenv.cfg").touch()
    monkeypatch.setattr(packages, "VENV", tmp_path / venv)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "this"))
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path / "this") if venv == "none" else "another")
    assert words in packages.lacking("cv2").partition("; ")[2]


@pytest.mark.parametrize("script, arguments, words", [
    ("pipeline_parallel.py", ["--workerz", "2"], "there is no flag --workerz (perhaps --workers?)"),
    ("pipeline.py", ["--blur_max=0.1"], "there is no flag --blur_max (perhaps --blur-max?)"),
    ("pipeline.py", ["--moon"], "there is no flag --moon;"),
    ("pipeline.py", ["slides"], "slides belongs to no flag;"),
    ("pipeline.py", ["--blur-max", "many"], "--blur-max: 'many' is no number from 0 to 1;"),
    ("pipeline_parallel.py", ["--workers", "two"], "--workers: 'two' is no whole number from 1 up;"),
])
def test_a_wrong_flag_is_told_with_the_right_one(script, arguments, words, run):
    done = run(script, *arguments)
    assert done.returncode == 2 and done.stderr.startswith(f"{script}: {words}")
    assert done.stderr.endswith(f"{script} --help explains\n")
