"""Every command that the README shows, run as it stands there, in a copy of the repository that has nothing set up."""

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from conftest import HOME, REAL, clone, environment
from harness import free_port
from slideqc.checking.steps import STEPS

README = (HOME / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
TABLE = next(output for output in re.findall(r"```text\n(.*?)```", README, re.DOTALL) if "slide " in output)
SLIDES_SHOWN = re.findall(r"^(\S+\.svs)", TABLE, re.MULTILINE)
PROGRAMS = {"curl": "sh get_data.sh", "dot": "--visualize"}  # that a machine may lack, and the commands that need them
PATIENCE = 1700  # seconds
CHECKED_HERE = 1  # the one step whose check is run here; test_check.py checks every solution

pytestmark = [pytest.mark.skipif(os.name == "nt", reason="these are the commands for Linux and macOS"),
              pytest.mark.timeout(PATIENCE + 100)]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh clone."""
    return clone(tmp_path_factory.mktemp("clone") / "workshop")


def shell(copy: Path, commands: str, surroundings: dict[str, str] | None = None) -> str:
    """What the commands print. Processes that they leave running are killed."""
    # The interpreter that runs the tests stands for the machine's own python3, and what pip has fetched is used again.
    # Packages are compiled as they are imported, most modules never, and in an empty .venv none is in conflict with
    # another: for either, pip wants a 0.
    path = f"{Path(sys.executable).resolve().parent}{os.pathsep}{os.environ['PATH']}"
    cache = subprocess.run([sys.executable, "-m", "pip", "cache", "dir"], capture_output=True, text=True).stdout.strip()
    pip = {"PIP_NO_COMPILE": "0", "PIP_NO_WARN_CONFLICTS": "0", "PYTHONDONTWRITEBYTECODE": ""}
    pip |= {"PIP_CACHE_DIR": cache} if cache else {}
    process = subprocess.Popen(["bash", "-euo", "pipefail", "-c", commands], cwd=copy, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, start_new_session=True,
                               env=environment(copy.parent) | {"PATH": path} | pip | (surroundings or {}))
    try:
        said, complained = process.communicate(timeout=PATIENCE)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert process.returncode == 0, f"{commands}\n{said[-3000:]}\n{complained[-3000:]}"
    return said


def in_the_background(commands: str, copy: Path) -> tuple[str, dict[str, str]]:
    """The commands, with servers and agents started in the background; and the addresses of the servers.

    Each server gets ports that are free and a database of its own, and listens on this machine alone.
    """
    servers = []

    def server(line: re.Match) -> str:
        port, ui_port, folder = free_port(), free_port(), copy.parent / f"server {len(servers)}"
        folder.mkdir()
        servers.append((port, ui_port))
        return (f"{line[0].replace('192.168.0.7', '127.0.0.1')} --port {port} --ui-port {ui_port} "
                f"--database '{folder}/data.sqlite' >'{folder}/said' 2>&1 &\n"
                f"until (: </dev/tcp/127.0.0.1/{port}) 2>&-; do kill -0 $! || {{ cat '{folder}/said'; exit 1; }}; "
                "sleep 0.2; done")
    commands = re.sub("^python -m workshop_server(?! create-key).*$", server, commands, flags=re.MULTILINE)
    commands = re.sub("^prefect agent .*$", r"\g<0> >agent.txt 2>&1 &", commands, flags=re.MULTILINE)
    commands = re.sub("(workshop_server create-key .*)", r"\1 >key.txt", commands)
    commands = commands.replace("--key KEY", "--key $(cat key.txt)").replace("192.168.0.7:4200",
                                                                            f"127.0.0.1:{servers[-1][0]}")
    return commands, {
        "PREFECT__SERVER__ENDPOINT": f"http://127.0.0.1:{servers[0][0]}",
        "PREFECT__SERVER__UI__ENDPOINT": f"http://127.0.0.1:{servers[0][1]}"}


@pytest.fixture(scope="module")
def said(copy: Path, small_slides: Path) -> str:
    """What the commands say, from nothing to a report; those whose program this machine lacks are left out.

    Some are shortened. `make test` would run this test again. What `make run` has installed, pip has only to find, the
    packages that requirements.txt names. test_compare.py runs every row of `compare.py --quick`, test_comparing.py
    makes its slides, and test_check.py runs `check.py` with every solution. A full-size slide takes 10 to 20 s to
    generate: two are enough, and after the table shown was made from them, a small one takes their place.
    """
    commands = "".join(BLOCKS)
    others = " ".join(f"! -name {name}" for name in SLIDES_SHOWN)
    shortened = {"make test": "make --dry-run test",
                 "pip install -r": "PIP_NO_DEPS=1 pip install -r",
                 "compare.py --quick": "compare.py --quick --folder four --rows python-serial --repeats 1",
                 "python get_data.py\n": f"""python get_data.py
                     mkdir others
                     find data -name '*.svs' {others} -exec mv {{}} others/ ';'\n""",
                 "python get_data.py --generate 3\n": f"""python get_data.py --generate 2
                     rm data/generated-*
                     cp '{small_slides}/small-2.svs' data/
                     mkdir four
                     cp '{small_slides}'/*.svs data/{REAL} four/\n"""}
    shortened |= {f"python check.py {step} {STEPS[step].solution}\n": "" for step in STEPS if step != CHECKED_HERE}
    for shown, done in shortened.items():
        assert shown in commands, shown
        commands = commands.replace(shown, done)
    for program, words in PROGRAMS.items():
        if not shutil.which(program):
            commands = re.sub(rf"^.*{words}.*\n", "", commands, flags=re.MULTILINE)
    return shell(copy, *in_the_background(commands, copy))


def test_the_commands_in_their_order(copy, said):
    assert (copy / "output" / "report.html").exists() and (copy / "data" / REAL).exists()
    assert (copy / "output" / "comparison" / "comparison.png").exists()
    for words in ("need a rescan", "report: ", "next: python pipeline.py", "-m pytest", ": Success\n",
                  f"step {CHECKED_HERE} is done", "| Python, serial "):
        assert words in said


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_command_that_needs(program, copy, said):
    if not shutil.which(program):
        pytest.skip(f"a command of the README needs {program}")
    if program == "dot":
        assert (copy / "output" / "flow.png").read_bytes().startswith(b"\x89PNG")
    else:
        assert "number of slides there: " in said


def test_the_output_shown_is_the_real_one(said):
    """The README shows what the pipeline prints for these slides."""
    for line in TABLE.splitlines():
        if not line.startswith("report:"):
            assert line in said.splitlines(), line
