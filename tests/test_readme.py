"""Every command that the README shows, run as it stands there, in a copy of the repository that has nothing set up."""

import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from conftest import HOME, REAL, clone, environment

README = (HOME / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
OUTPUTS = re.findall(r"```text\n(.*?)```", README, re.DOTALL)

pytestmark = pytest.mark.skipif(os.name == "nt", reason="these are the commands for Linux and macOS")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What somebody has who cloned the repository."""
    return clone(tmp_path_factory.mktemp("clone") / "workshop")


def shell(copy: Path, commands: str, surroundings: dict[str, str] | None = None) -> str:
    """What the commands say; what they leave running is ended with them."""
    # The interpreter that runs the tests stands for the machine's own python3.
    path = f"{Path(sys.executable).resolve().parent}{os.pathsep}{os.environ['PATH']}"
    process = subprocess.Popen(["bash", "-euo", "pipefail", "-c", commands], cwd=copy, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, start_new_session=True,
                               env=environment(copy.parent) | {"PATH": path} | (surroundings or {}))
    try:
        said, complained = process.communicate(timeout=900)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert process.returncode == 0, f"{commands}\n{said[-3000:]}\n{complained[-3000:]}"
    return said


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def in_the_background(commands: str, copy: Path) -> tuple[str, dict[str, str]]:
    """The commands that have a terminal of their own, started in the background of one shell; and where they are.

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


def test_the_commands_in_their_order(copy):
    """From nothing to a report, with everything the README says on the way."""
    # This test is part of what `make test` runs; so here, only that it would run all of the tests.
    # And test_compare.py has all rows of `compare.py --quick` run.
    commands = "".join(BLOCKS)
    for shown, done in (("make test", "make --dry-run test"),
                        ("compare.py --quick", "compare.py --quick --rows mapped-threads --repeats 1")):
        assert shown in commands
        commands = commands.replace(shown, done)
    said = shell(copy, *in_the_background(commands, copy))
    assert (copy / "output" / "report.html").exists() and (copy / "data" / REAL).exists()
    for words in ("need a rescan", "report: ", "next: python pipeline.py", "-m pytest", ": Success\n",
                  "step 2 is done", "step 5 is done"):
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
