"""A server of the check's own, and a plain agent beside it: on ports that are free, with all their files put aside."""

import json
import os
import site
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from slideqc import child_process
from slideqc.errors import CommandError
from slideqc.flags import HOME

PROJECT = "Image QC"
PATIENCE = 30  # seconds that the server may take to be ready, or to answer
LOG_PATIENCE = 10  # seconds that the log of a run may take to come, once it has ended

LOOK = """{
  flow(order_by: {created: asc}) { project { name } parameters tasks { name } }
  flow_run(order_by: {created: asc}) {
    name parameters labels state state_message
    task_runs(where: {state: {_eq: "Failed"}}, order_by: {start_time: asc}) { state_message task { name } }
  }
  agent { labels }
}"""
CHOSEN = "Using executor type "  # how a flow run's first lines say where its tasks run
LOG = f'{{ flow_run {{ logs(where: {{message: {{_like: "{CHOSEN}%"}}}}) {{ message }} }} }}'
PROJECT_MADE = "mutation($input: create_project_input!) { create_project(input: $input) { id } }"

# The way to this machine's own ports leads past any proxy.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@contextmanager
def serving(place: Path) -> Iterator["Server"]:
    """A server with the project of the workshop; leaving the block ends it, and all its clients."""
    with ExitStack() as processes:
        yield Server(place, processes)


class Server:
    """`python -m workshop_server`, and what it knows; `processes` takes all that is started."""

    def __init__(self, place: Path, processes: ExitStack) -> None:
        self._place, self._processes = place, processes
        self._home = place / "home"
        self._home.mkdir()
        self._start()

    def run(self, words: list[str], folder: Path, *paths: Path, name: str) -> child_process.Process:
        """Start Python with these words as a client of this server, with nobody's home in it."""
        surroundings = self._clean() | child_process.additions(self._place, *paths) | self._addresses()
        return self._processes.enter_context(child_process.Process(words, folder, surroundings, self._place / name))

    def start_agent(self) -> child_process.Process:
        """Start `prefect agent local start`, in a folder where no script lies."""
        folder = self._place / "elsewhere"
        folder.mkdir()
        return self.run(["-m", "prefect", "agent", "local", "start"], folder, name="agent")

    def look(self) -> dict[str, list[dict]]:
        """What the server knows: flows, flow runs with the task runs that failed, agents."""
        return self._ask(LOOK)

    def executor(self) -> str | None:
        """The class of the executor that the flow runs took; None if no run has said so in its log."""
        end = time.monotonic() + LOG_PATIENCE
        while time.monotonic() < end:
            for run in self._ask(LOG)["flow_run"]:
                for line in run["logs"]:
                    return line["message"].removeprefix(CHOSEN)
            time.sleep(0.3)  # a run sends its log when it is all over
        return None

    def _start(self) -> None:
        with socket.socket() as one, socket.socket() as other:
            for probe in (one, other):
                probe.bind(("127.0.0.1", 0))
            port, ui_port = (probe.getsockname()[1] for probe in (one, other))
        self._url, self._ui = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{ui_port}"
        words = ["-m", "workshop_server", "--port", str(port), "--ui-port", str(ui_port),
                 "--database", str(self._home / "server.sqlite")]
        process = self._processes.enter_context(child_process.Process(
            words, HOME, self._clean() | {"PYTHONIOENCODING": "utf-8"}, self._place / "server"))
        end = time.monotonic() + PATIENCE
        while not self._is_ready():
            if process.status(0.05) is not None or time.monotonic() > end:
                why = "".join(process.words()[1].strip().splitlines()[-1:]) or f"not ready within {PATIENCE} s"
                raise CommandError(f"the server that your flow is to be sent to does not start ({why}): "
                                   "python check.py setup says what is missing, and how to get it")
        tenant = self._ask("{ tenant { id } }")["tenant"][0]["id"]
        self._ask(PROJECT_MADE, {"input": {"name": PROJECT, "tenant_id": tenant}})

    def _clean(self) -> dict[str, str]:
        """The environment without what Prefect was told, and with a home of its own; pip's packages stay."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT__")}
        return kept | {"HOME": str(self._home), "USERPROFILE": str(self._home), "PYTHONUSERBASE": site.getuserbase()}

    def _addresses(self) -> dict[str, str]:
        home = self._home / ".prefect"
        return {
            "PREFECT__HOME_DIR": str(home), "PREFECT__USER_CONFIG_PATH": str(home / "config.toml"),
            "PREFECT__BACKEND_CONFIG_PATH": str(home / "backend.toml"), "PREFECT__BACKEND": "server",
            "PREFECT__SERVER__ENDPOINT": self._url, "PREFECT__SERVER__UI__ENDPOINT": self._ui,
            "PREFECT__LOGGING__LEVEL": "DEBUG",  # the level at which a run tells its executor
            "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1",
        }

    def _is_ready(self) -> bool:
        with suppress(OSError):
            return _OPENER.open(f"{self._url}/health", timeout=PATIENCE).status == 200
        return False

    def _ask(self, query: str, variables: dict | None = None) -> dict:
        body = json.dumps({"query": query, "variables": json.dumps(variables)}).encode()
        request = urllib.request.Request(self._url, body, {"Content-Type": "application/json"})
        try:
            answer = json.load(_OPENER.open(request, timeout=PATIENCE))
            if answer.get("errors"):
                raise ValueError(answer["errors"][0]["message"])
            return answer["data"]
        except (OSError, ValueError) as error:
            raise CommandError(f"the server that your flow was sent to does not answer ({error}): the fault is not "
                               "your script's; try again") from error
