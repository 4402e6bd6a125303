"""Starts a server and an agent for one purpose, such as a check or a comparison, and ends them.

They listen on free ports of this machine. All their files lie in one folder, which is also their home: the user's
settings and the user's own server are neither read nor changed.
"""

import json
import os
import site
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from slideqc.child_process import ChildProcess
from slideqc.errors import CommandError
from slideqc.flags import HOME

PROJECT = "Image QC"
QUERY_TIMEOUT = 30  # seconds
CREATE_PROJECT = "mutation($input: create_project_input!) { create_project(input: $input) { id } }"

# Requests to this machine go to it directly, whatever proxy is set.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@contextmanager
def run_server(folder: Path, settings: Mapping[str, str] | None = None) -> Iterator["OwnServer"]:
    """Start a server with the workshop's project; leaving the block ends the server and all its clients.

    `folder` is made. `settings` are environment variables of the clients. CommandError if the server does not start.
    """
    folder.mkdir()
    with ExitStack() as processes:
        server = OwnServer(folder, settings or {}, processes)
        server.start()
        yield server


class OwnServer:
    """A running `python -m workshop_server`, and the programs that were started as its clients."""

    def __init__(self, folder: Path, settings: Mapping[str, str], processes: ExitStack) -> None:
        self._folder, self._processes = folder, processes
        api_port, ui_port = _free_ports()
        self.api, self.ui = f"http://127.0.0.1:{api_port}", f"http://127.0.0.1:{ui_port}"
        self._command = [sys.executable, "-m", "workshop_server", "--port", str(api_port), "--ui-port", str(ui_port),
                         "--database", str(folder / "server.sqlite")]
        # Packages that pip has installed for this user stay importable.
        self._clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT__")} | {
            "HOME": str(folder), "USERPROFILE": str(folder), "PYTHONUSERBASE": site.getuserbase(),
            "PYTHONIOENCODING": "utf-8"}
        self.env = self._clean | {
            "PREFECT__HOME_DIR": str(folder / ".prefect"),
            "PREFECT__USER_CONFIG_PATH": str(folder / ".prefect" / "config.toml"),
            "PREFECT__BACKEND_CONFIG_PATH": str(folder / ".prefect" / "backend.toml"),
            "PREFECT__BACKEND": "server", "PREFECT__SERVER__ENDPOINT": self.api,
            "PREFECT__SERVER__UI__ENDPOINT": self.ui, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"} | settings

    def start(self) -> None:
        """Start the server, wait until it is healthy, and create the project."""
        self.process = self._processes.enter_context(ChildProcess(
            self._command, cwd=HOME, env=self._clean, log=self._folder / "server"))
        self.process.wait_until(self._is_healthy, "the server")
        tenant = self.query("{ tenant { id } }")["tenant"][0]["id"]
        self.query(CREATE_PROJECT, {"input": {"name": PROJECT, "tenant_id": tenant}})

    def start_client(self, command: list[str], *, cwd: Path, name: str,
                     settings: Mapping[str, str] | None = None) -> ChildProcess:
        """Start a program that talks to this server; `name` is that of its log files."""
        return self._processes.enter_context(ChildProcess(
            command, cwd=cwd, env=self.env | (settings or {}), log=self._folder / name))

    def start_agent(self) -> ChildProcess:
        """Start `prefect agent local start`, in a folder that holds no script; return at once."""
        folder = self._folder / "agent's folder"
        folder.mkdir()
        return self.start_client([sys.executable, "-m", "prefect", "agent", "local", "start"], cwd=folder, name="agent")

    def query(self, query: str, variables: dict | None = None) -> dict:
        """The server's answer to a GraphQL query; CommandError if there is none."""
        body = json.dumps({"query": query, "variables": json.dumps(variables)}).encode()
        request = urllib.request.Request(self.api, body, {"Content-Type": "application/json"})
        try:
            answer = json.load(_OPENER.open(request, timeout=QUERY_TIMEOUT))
            if answer.get("errors"):
                raise ValueError(answer["errors"][0]["message"])
            return answer["data"]
        except (OSError, ValueError) as error:
            raise CommandError(f"the server that was started for this run does not answer ({error}): the cause is not "
                               "your script; try again") from error

    def _is_healthy(self) -> bool:
        with suppress(OSError):
            return _OPENER.open(f"{self.api}/health", timeout=QUERY_TIMEOUT).status == 200
        return False


def _free_ports() -> tuple[int, int]:
    """Two ports on which nothing listens."""
    with socket.socket() as one, socket.socket() as other:
        for probe in (one, other):
            probe.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]
