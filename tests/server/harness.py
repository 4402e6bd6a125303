"""Servers and clients as their users start them, on loopback, in homes of their own."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent.parent
PATIENCE = 120  # seconds: far more than an idle machine needs, since a busy one must not fail


def free_port() -> int:
    """A port for a server that may be started again: below those that systems give to outgoing connections."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class RunningServer:
    """`python -m workshop_server` in a process of its own; `key` is sent with each request, where there is one."""

    def __init__(self, home: Path, *arguments: object, database: str | None = None, key: str | None = None) -> None:
        self.home, self.key, self.arguments = home, key, arguments
        self.database = database or str(home / "server.sqlite")
        self.port, self.ui_port = free_port(), free_port()
        self.url, self.ui = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self.ui_port}"
        self.start()

    def start(self) -> None:
        """Start it, as often as wanted, on the same ports and database; returns when it is ready."""
        self.log = (self.home / "server.log").open("a", encoding="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "workshop_server", "--port", str(self.port), "--ui-port", str(self.ui_port),
             "--database", self.database, *map(str, self.arguments)],
            cwd=HOME, env=os.environ | {"HOME": str(self.home), "PYTHONUNBUFFERED": "1"}, stdout=self.log,
            stderr=subprocess.STDOUT, start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        end = time.monotonic() + PATIENCE
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"the server did not start: {self.said()}")
            time.sleep(0.02)

    def answers(self) -> bool:
        try:
            return urllib.request.urlopen(f"{self.url}/health", timeout=5).status == 200
        except (urllib.error.URLError, OSError):
            return False

    def said(self) -> str:
        """What it has printed so far."""
        return (self.home / "server.log").read_text(encoding="utf-8")

    def stop(self, how: int = signal.SIGINT) -> int:
        """Stop it; returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        status = self.process.wait(PATIENCE)
        self.log.close()
        return status

    def ask(self, query: str, variables: dict | None = None, **headers: str) -> dict:
        """The answer to one request, made as Prefect's client makes it; the data, or else AssertionError."""
        answer = self.answer(query, variables, **headers)
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    def answer(self, query: str, variables: dict | None = None, **headers: str) -> dict:
        """The answer to one request, errors included."""
        sent = {"Content-Type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
        if self.key:
            sent.setdefault("Authorization", f"Bearer {self.key}")
        body = json.dumps({"query": query, "variables": json.dumps(variables)}).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url, body, sent), timeout=PATIENCE) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            return json.load(error) | {"status": error.code}

    def environment(self, home: Path | None = None) -> dict[str, str]:
        """The environment of a client of this server, with nobody's home in it."""
        home = home or self.home
        return os.environ | {
            "HOME": str(home), "PREFECT__HOME_DIR": str(home / ".prefect"),
            "PREFECT__USER_CONFIG_PATH": str(home / ".prefect" / "config.toml"),
            "PREFECT__BACKEND_CONFIG_PATH": str(home / ".prefect" / "backend.toml"),
            "PREFECT__BACKEND": "cloud" if self.key else "server",
            "PREFECT__SERVER__ENDPOINT": self.url, "PREFECT__SERVER__UI__ENDPOINT": self.ui,
            "PREFECT__CLOUD__API": self.url, "PREFECT__CLOUD__GRAPHQL": self.url,
            "PREFECT__CLOUD__HEARTBEAT_MODE": "thread", "PREFECT__CLOUD__LOGGING_HEARTBEAT": "0.5",
            "PREFECT__CLOUD__CHECK_CANCELLATION_INTERVAL": "1", "PYTHONIOENCODING": "utf-8",
        } | ({"PREFECT__CLOUD__API_KEY": self.key} if self.key else {})

    def prefect(self, *arguments: object, **options: object) -> subprocess.CompletedProcess:
        """Prefect's own command line, against this server."""
        return subprocess.run([Path(sys.executable).parent / "prefect", *map(str, arguments)], cwd=self.home,
                              env=self.environment(), capture_output=True, text=True, timeout=120, **options)

    def python(self, *arguments: object, **options: object) -> subprocess.CompletedProcess:
        """A Python script, as a user of this server runs it, from a folder that is not the project's."""
        return subprocess.run([sys.executable, *map(str, arguments)], cwd=self.home, env=self.environment(),
                              capture_output=True, text=True, timeout=300, **options)


class Agent:
    """A stock local agent, as `prefect agent local start` makes it."""

    def __init__(self, server: RunningServer, *arguments: object, cwd: Path | None = None) -> None:
        self.file = (server.home / f"agent-{free_port()}.log").open("w+", encoding="utf-8")
        self.process = subprocess.Popen(
            [Path(sys.executable).parent / "prefect", "agent", "local", "start", *map(str, arguments)],
            cwd=cwd or server.home, env=server.environment(), stdout=self.file, stderr=subprocess.STDOUT,
            start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))

    def said(self) -> str:
        return Path(self.file.name).read_text(encoding="utf-8")

    def stop(self) -> None:
        """End it, and the flow runs that it started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        self.file.close()


class Postgres:
    """A PostgreSQL of its own, on loopback, with a new database for each caller."""

    def __init__(self, home: Path, *, fsync: bool = False) -> None:
        self.home, self.port, self.made = home, free_port(), 0
        self.programs = next((path for path in postgres_programs()), None)
        self.as_user = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups"] if (
            os.getuid() == 0) else []
        if self.as_user:
            shutil.chown(home, "postgres", "postgres")
        data = home / "data"
        self._run("initdb", "--pgdata", data, "--auth", "trust", "--username", "postgres", "--no-sync")
        self._run("pg_ctl", "--pgdata", data, "--wait", "--log", home / "log", "--options",
                  f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' "
                  f"-c fsync={'on' if fsync else 'off'}", "start")

    def _run(self, program: str, *arguments: object) -> None:
        subprocess.run([*self.as_user, self.programs / program, *map(str, arguments)], check=True, cwd=self.home,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)

    def database(self) -> str:
        """The URL of a new, empty database."""
        self.made += 1
        self._run("createdb", "--host", "127.0.0.1", "--port", self.port, "--username", "postgres", f"test{self.made}")
        return f"postgresql://postgres@127.0.0.1:{self.port}/test{self.made}"

    def stop(self) -> None:
        self._run("pg_ctl", "--pgdata", self.home / "data", "--mode", "immediate", "stop")


def postgres_programs() -> list[Path]:
    """The folders that hold `initdb` and its kind, the newest version first."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: -float(path.parent.name))
    on_path = shutil.which("initdb")
    return [path for path in [*found, *([Path(on_path).parent] if on_path else [])] if (path / "initdb").exists()]


def until(true: object, what: str, patience: float = PATIENCE) -> object:
    """Wait until `true()` is, and return what it gave; AssertionError names `what` was waited for."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if found := true():
            return found
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {patience} s")
