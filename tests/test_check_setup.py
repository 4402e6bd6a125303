"""check.py setup: it finds what a machine lacks, and names the command that repairs it."""

import os
import re
import shutil
import socket
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

from conftest import HOME, environment, one_line, said

Script = Callable[..., subprocess.CompletedProcess]


def lines(done: subprocess.CompletedProcess, state: str) -> str:
    """The findings of that state."""
    return "\n".join(line for line in said(done).splitlines() if line.startswith(state))


def test_a_good_machine_is_ready(run: Script, small_slides: Path, tmp_path: Path):
    done = run("check.py", "setup", "--folder", small_slides, "--output", tmp_path / "output")
    assert done.returncode == 0 and not lines(done, "MISSING"), said(done)
    for what in ("Python 3.", "Prefect 1.", "serialised", "slides can be read", "results can be written", "3 slides"):
        assert what in lines(done, "ok"), said(done)
    assert "next: " in said(done).splitlines()[-1] and not (tmp_path / "output").exists()


def test_a_bare_python_says_what_to_install(small_slides: Path, tmp_path: Path):
    """Without any package there is still a finding for everything, and the command that repairs it."""
    for arguments, status in (["setup", "--folder", small_slides], 1), (["1", HOME / "pipeline.py"], 2):
        done = subprocess.run([sys.executable, "-S", "-E", HOME / "check.py", *arguments], cwd=tmp_path,
                              capture_output=True, text=True, encoding="utf-8", env=environment(tmp_path))
        assert done.returncode == status, said(done)
        if status == 2:
            assert "python check.py setup" in one_line(done)
            continue
        missing = lines(done, "MISSING").splitlines()
        assert len(missing) == 2 and all(" → " in line for line in missing)
        assert "Prefect is not installed" in missing[0] and "slides cannot be read" in missing[1]
        assert "results can be written" in lines(done, "ok")


def test_what_is_missing_is_installed_where_pip_may_install(tmp_path: Path):
    """A system's own Python often takes nothing from pip: .venv is activated, if there is one, and made, if not."""
    shutil.copy(HOME / "check.py", tmp_path)
    shutil.copytree(HOME / "slideqc", tmp_path / "slideqc")

    def repair(python: Path) -> str:
        done = subprocess.run([python, "-s", "check.py", "setup"], cwd=tmp_path, capture_output=True, text=True,
                              encoding="utf-8", env=environment(tmp_path) | {"PYTHONPATH": str(tmp_path / "none")})
        return next(line for line in said(done).splitlines() if "prefect" in line.lower()).split(" → ")[1]
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "prefect.py").write_text("raise ImportError('no Prefect here')\n")
    venv.create(tmp_path / "other", symlinks=os.name == "posix")
    scripts, python = ("Scripts", "python.exe") if os.name == "nt" else ("bin", "python")
    assert repair(tmp_path / "other" / scripts / python) == "python -m pip install -r requirements.txt"
    system = Path(sys.base_prefix) / ("python.exe" if os.name == "nt" else f"bin/python{sys.version_info[0]}")
    assert re.search("virtual environment first: .* -m venv .venv.*activate", without := repair(system))
    assert without.endswith("python -m pip install -r requirements.txt")
    venv.create(tmp_path / ".venv", symlinks=os.name == "posix")
    for outside in (system, tmp_path / "other" / scripts / python):
        assert re.fullmatch(r"activate .venv first: .*\.venv.*activate", repair(outside))
    assert repair(tmp_path / ".venv" / scripts / python) == "python -m pip install -r requirements.txt"


def test_a_broken_set_up_is_told_all_at_once(run: Script, small_slides: Path, tmp_path: Path):
    """marshmallow 4, a truncated slide, a web page saved as a slide, no place for results: each with its repair."""
    folder = tmp_path / "data"
    folder.mkdir()
    whole = (small_slides / "small-1.svs").read_bytes()
    (folder / "good.svs").write_bytes(whole)
    (folder / "cut.svs").write_bytes(whole[:len(whole) // 2])
    (folder / "planted-cut.svs").write_bytes(whole[:100])
    (folder / "CMU-1-Small-Region.svs").write_bytes(b"<html>sign in</html>")
    (tmp_path / "output").write_text("a file where the folder should be")
    (tmp_path / "marshmallow.py").write_text("raise ImportError('this is marshmallow 4')\n")
    done = subprocess.run([sys.executable, HOME / "check.py", "setup", "--folder", folder, "--output",
                           tmp_path / "output"], capture_output=True, text=True, encoding="utf-8", cwd=tmp_path,
                          env=environment(tmp_path) | {"PYTHONPATH": str(tmp_path)})
    missing = lines(done, "MISSING")
    assert done.returncode == 1 and len(missing.splitlines()) == 4, said(done)
    for sentence in ('marshmallow 3 → python -m pip install "marshmallow<4"', "results cannot be written to",
                     "CMU-1-Small-Region.svs looks like a web page", "→ python get_data.py\n"):
        assert sentence in missing
    assert re.search("cut.svs .* → copy it again, or remove it", missing)
    assert "1 slide in" in lines(done, "ok") and "4 things missing" in said(done)


def test_a_flow_that_does_not_serialise(run: Script, small_slides: Path, tmp_path: Path):
    """What marshmallow 4 does: Prefect can be imported, and fails only when a flow is serialised."""
    (tmp_path / "sitecustomize.py").write_text("import marshmallow.fields\ndel marshmallow.fields.Nested._deserialize\n"
                                               "def stop(*_, **__): raise AttributeError('no context')\n"
                                               "marshmallow.fields.Nested._serialize = stop\n")
    done = subprocess.run([sys.executable, HOME / "check.py", "setup", "--folder", small_slides], capture_output=True,
                          text=True, encoding="utf-8", cwd=tmp_path,
                          env=environment(tmp_path) | {"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1 and "a flow cannot be serialised" in lines(done, "MISSING"), said(done)
    assert 'pip install "marshmallow<4"' in lines(done, "MISSING") and "Prefect 1." in lines(done, "ok")


def test_no_slides_and_a_taken_port(run: Script, tmp_path: Path):
    with socket.socket() as listener:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", 4200))
            listener.listen()
        except OSError:
            pass  # the port is taken already, which is as good
        done = run("check.py", "setup", "--folder", tmp_path / "nowhere")
    assert "port 4200" in lines(done, "note") and "port 4200" not in lines(done, "MISSING")
    assert done.returncode == 1 and lines(done, "MISSING").endswith("→ python get_data.py")
