"""Fixtures of the server's tests."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import Agent, Postgres, RunningServer, postgres_programs
from workspace import Workspace, as_client_of


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL for the whole session; in a folder that its user may enter, which pytest's own are not."""
    if not postgres_programs():
        pytest.skip("needs PostgreSQL: apt install postgresql")
    home = Path(tempfile.mkdtemp(prefix="postgres-"))
    running = None
    try:
        running = Postgres(home)
        yield running
    finally:
        if running:
            running.stop()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new database, of both kinds in turn."""
    if request.param == "sqlite":
        return str(tmp_path / "server.sqlite")
    return request.getfixturevalue("postgres").database()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    """A server with a new SQLite database."""
    yield from _serving(tmp_path)


@pytest.fixture
def either_server(tmp_path: Path, database_url: str) -> Iterator[RunningServer]:
    """A server with a new database, of both kinds in turn."""
    yield from _serving(tmp_path, database=database_url)


def _serving(home: Path, **options: str) -> Iterator[RunningServer]:
    running = RunningServer(home, **options)
    yield running
    running.stop()


@pytest.fixture
def agent(server: RunningServer) -> Iterator[Agent]:
    """A stock local agent of `server`."""
    running = Agent(server)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with a SQLite database, for all tests of a module."""
    yield from _serving(tmp_path_factory.mktemp("shared"))


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared_either(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server for all tests of a module, with a database of both kinds in turn."""
    home = tmp_path_factory.mktemp(request.param)
    is_sqlite = request.param == "sqlite"
    yield from _serving(home, **{} if is_sqlite else {"database": request.getfixturevalue("postgres").database()})


@pytest.fixture
def space(shared_either: RunningServer) -> Iterator[Workspace]:
    """A tenant and a project of its own for a test, on either kind of database."""
    with as_client_of(shared_either):
        yield Workspace(shared_either)
