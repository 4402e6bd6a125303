"""The README of the server: its table against the schema and the pages, its flags, each of its commands."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from graphql import GraphQLObjectType

from harness import HOME, Postgres, free_port, until
from workshop_server.graph.schema import SCHEMA
from workshop_server.ui import pages, run_pages

README = (HOME / "workshop_server" / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
ROWS = re.findall(r"^\| ([✓–]) \| (.*?) \|", README, re.MULTILINE)
FLAGS = re.findall(r"^\| `(--[a-z-]+)` \| (.*?) \|", README, re.MULTILINE)
NO_PAGES = ("/lines", "/log.txt")  # parts of a page, and a file


def named(mark: str) -> list[str]:
    """What the table says is here (✓), or is not (–)."""
    return [name for its_mark, names in ROWS if its_mark == mark for name in re.findall(r"`(.*?)`", names)]


def fields(root: GraphQLObjectType) -> set[str]:
    return set(root.fields)


def test_the_table_names_each_operation_once() -> None:
    here = named("✓")
    tables = {name for name in fields(SCHEMA.query_type) if f"{name}_by_pk" in fields(SCHEMA.query_type)}
    more = {f"{table}{ending}" for table in tables for ending in ("_by_pk", "_aggregate")}
    operations = fields(SCHEMA.query_type) - more | fields(SCHEMA.mutation_type)
    assert sorted(name for name in here if not name.startswith("/")) == sorted(operations)
    assert tables <= set(here) and more <= fields(SCHEMA.query_type)


def test_what_is_not_here_is_not() -> None:
    absent = set(named("–"))
    assert absent and not absent & (fields(SCHEMA.query_type) | fields(SCHEMA.mutation_type))
    assert SCHEMA.subscription_type is None and "subscription" in absent


def test_the_table_names_each_page_once() -> None:
    routes = {route.path for route in [*pages.ROUTES, *run_pages.ROUTES] if not route.path.endswith(NO_PAGES)}
    assert sorted(name for name in named("✓") if name.startswith("/")) == sorted(routes)


def test_flags_and_their_defaults() -> None:
    done = subprocess.run([sys.executable, "-m", "workshop_server", "--help"], cwd=HOME, capture_output=True, text=True)
    assert sorted(flag for flag, _ in FLAGS) == sorted(set(re.findall(r"--[a-z-]+", done.stdout)) - {"--help"})
    from workshop_server.settings import DATABASE, Settings
    for flag, default in FLAGS:
        value = getattr(Settings(), flag.removeprefix("--").replace("-", "_"))
        said = default.strip("`").removesuffix(" s")
        assert said == ("none" if not value else str(value).removeprefix("sqlite:///").replace(str(Path.home()), "~"))
    assert DATABASE.parent == Path.home() / ".prefect"


class Terminal:
    """Types the README's commands, with a home of its own; `replace` has what stands there for what is here."""

    def __init__(self, home: Path, replace: dict[str, str]) -> None:
        self.home, self.replace = home, {"~": str(home), **replace}
        self.running: list[subprocess.Popen] = []
        self.environment = os.environ | {
            "HOME": str(home), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PREFECT__HOME_DIR": f"{home}/.prefect", "PREFECT__USER_CONFIG_PATH": f"{home}/.prefect/config.toml",
            "PREFECT__BACKEND_CONFIG_PATH": f"{home}/.prefect/backend.toml", "PYTHONUNBUFFERED": "1"}

    def type(self, block: str) -> str:
        """All that the commands of a block print; servers and agents among them are left running."""
        said = ""
        for line in block.splitlines():
            for old, new in self.replace.items():
                line = line.replace(old, new)
            words = shlex.split(line)
            if words[0] == "export":
                self.environment |= dict(word.split("=", 1) for word in words[1:])
            elif words[:3] == ["python", "-m", "workshop_server"] and "create-key" not in words:
                said += self._start(line, words, "Ctrl-C stops it")
            elif words[:2] == ["prefect", "agent"]:
                said += self._start(line, words, "Waiting for flow runs")
            else:
                done = subprocess.run(words, cwd=HOME, env=self.environment, capture_output=True, text=True,
                                      timeout=120)
                assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
                said += done.stdout
        return said

    def _start(self, line: str, words: list[str], ready: str) -> str:
        log = self.home / f"{len(self.running)}.log"
        with log.open("w", encoding="utf-8") as file:
            process = subprocess.Popen(words, cwd=HOME, env=self.environment, stdout=file, stderr=subprocess.STDOUT)
        self.running.append(process)
        until(lambda: ready in log.read_text(encoding="utf-8") or process.poll() is not None, ready)
        assert process.poll() is None, f"{line}\n{log.read_text(encoding='utf-8')}"
        return log.read_text(encoding="utf-8")

    def close(self) -> None:
        for process in self.running:
            process.terminate()
        for process in self.running:
            process.wait(30)
        self.running.clear()


@pytest.fixture
def ports() -> tuple[str, str]:
    return str(free_port()), str(free_port())


@pytest.fixture
def terminal(tmp_path: Path, ports: tuple[str, str]) -> Iterator[Terminal]:
    port, ui_port = ports
    opened = Terminal(tmp_path, {"4300": port, "8090": ui_port, "192.0.2.7:4200": f"127.0.0.1:{port}",
                                 "192.0.2.7:8080": f"127.0.0.1:{ui_port}", "0.0.0.0": "127.0.0.1"})
    yield opened
    opened.close()


START, CREATE, AGENT, ELSEWHERE, CLIENT, POSTGRES, ROOM, ATTENDEE = BLOCKS


def on(ports: tuple[str, str], block: str) -> str:
    """The block, with a server of it on ports that are free here, in place of 4200 and 8080."""
    return re.sub(r"(workshop_server(?! create-key).*)", r"\1 --port {} --ui-port {}".format(*ports), block)


def test_start(terminal: Terminal, ports: tuple[str, str]) -> None:
    said = terminal.type(on(ports, START))
    assert str(terminal.home / ".prefect" / "workshop_server.sqlite") in said
    terminal.environment["PREFECT__SERVER__ENDPOINT"] = f"http://127.0.0.1:{ports[0]}"
    assert "Image QC created" in terminal.type(CREATE)
    assert "Waiting for flow runs" in terminal.type(AGENT)


def test_other_places(terminal: Terminal) -> None:
    assert str(terminal.home / "qc.sqlite") in terminal.type(ELSEWHERE)
    terminal.environment["PREFECT__BACKEND"] = "server"
    assert "NAME" in terminal.type(CLIENT)
    assert "Image QC created" in terminal.type(CREATE) and "Image QC" in terminal.type(CLIENT)


def test_postgresql(terminal: Terminal, ports: tuple[str, str], postgres: Postgres) -> None:
    terminal.replace["postgresql://USER:PASSWORD@HOST:5432/NAME"] = postgres.database()
    assert "postgresql" in terminal.type(on(ports, POSTGRES))
    terminal.environment["PREFECT__SERVER__ENDPOINT"] = f"http://127.0.0.1:{ports[0]}"
    assert "Image QC created" in terminal.type(CREATE)


def test_a_room(terminal: Terminal, ports: tuple[str, str]) -> None:
    key, *_ = terminal.type(on(ports, ROOM)).splitlines()
    terminal.replace["KEY"] = key
    said = terminal.type(ATTENDEE)
    assert "Logged in" in said and "Hello, World! created" in said and "Waiting for flow runs" in said
