"""Prefect's own command line against the server: create, register, get, describe, delete.

Commands that a script would call run in a process of their own; the others in this one, which takes less time.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from click.testing import CliRunner
from prefect.cli import cli
from prefect.engine.state import Running, Success

from harness import RunningServer
from workspace import Workspace, as_client_of

FLOW = dedent('''
    from prefect import Flow, Parameter, task

    @task
    def double(number):
        """Twice the number."""
        return 2 * number

    with Flow("doubling") as flow:
        double.map(Parameter("numbers", default=[1, 2]))
''')


@pytest.fixture(scope="module")
def doubling(shared_server: RunningServer) -> Path:
    """A file with a flow."""
    path = shared_server.home / "doubling.py"
    path.write_text(FLOW, encoding="utf-8")
    return path


def command(server: RunningServer, *arguments: object) -> str:
    """What a command prints; it has to succeed."""
    with as_client_of(server):
        done = CliRunner().invoke(cli, list(map(str, arguments)))
    assert done.exit_code == 0, done.output
    return done.output


def test_create_project(shared_server: RunningServer) -> None:
    create = ("create", "project", "Hello, World!")
    done = shared_server.prefect(*create)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Hello, World! created\n", "")
    assert command(shared_server, *create) == "Hello, World! created\n"
    assert command(shared_server, *create, "--skip-if-exists") == "Hello, World! already exists\n"
    assert command(shared_server, "get", "projects", "--name", "Hello, World!").count("Hello") == 1


def test_register(shared_server: RunningServer, doubling: Path) -> None:
    command(shared_server, "create", "project", "P")
    register = ("register", "-p", doubling, "--project")
    done = shared_server.prefect(*register, "P")
    assert done.returncode == 0 and "Version: 1" in done.stdout, done.stdout + done.stderr
    assert "Skipped (metadata unchanged)" in command(shared_server, *register, "P")
    assert "Version: 2" in command(shared_server, *register, "P", "--force")
    doubling.write_text(FLOW.replace("[1, 2]", "[3]"), encoding="utf-8")
    assert "Version: 3" in command(shared_server, *register, "P")
    done = shared_server.prefect(*register, "Nowhere")
    assert done.returncode == 1 and "Project 'Nowhere' does not exist" in done.stdout


@pytest.fixture(scope="module")
def told(shared_server: RunningServer) -> Iterator[Workspace]:
    """A project with two versions of a flow, and a run of the newer that has ended, with a log."""
    with as_client_of(shared_server):
        space = Workspace(shared_server)
        space.flow("first")
        run_id = space.client.create_flow_run(flow_id=space.flow("first", "second"), parameters={"size": 7},
                                              run_name=f"run {space.name}")
        space.client.set_flow_run_state(run_id, Running(), version=1)
        space.client.write_run_logs([{"flow_run_id": run_id, "name": "prefect.plain", "level": "WARNING",
                                      "message": "slide 7 is blurry", "info": {"slide": 7}}])
        space.client.set_flow_run_state(run_id, Success("All done"))
        yield space


def test_get(told: Workspace) -> None:
    for arguments, expected, number in (
            (("projects", "--name", told.project), (told.project, "1"), 1),
            (("flows", "--project", told.project), ("plain", "2"), 1),
            (("flows", "--project", told.project, "--all-versions"), ("plain", "1"), 2),
            (("flow-runs", "--project", told.project), (f"run {told.name}", "Success"), 1),
            (("flow-runs", "--project", told.project, "--started"), (f"run {told.name}", "Success"), 1),
            (("tasks", "--project", told.project), ("second", "prefect.core.task.Task"), 3),
            (("logs", "--name", f"run {told.name}"), ("WARNING", "slide 7 is blurry"), 1)):
        shown = command(told.server, "get", *arguments)
        head, *lines = shown.strip().splitlines()
        assert head.isupper() and len(lines) == number, shown
        assert all(word in shown for word in expected), shown
    assert command(told.server, "get", "logs", "--name", f"run {told.name}", "--info").strip() == "{'slide': 7}"
    assert "not found" in command(told.server, "get", "logs", "--name", "no such run")


def test_describe(told: Workspace) -> None:
    def describe(*arguments: str) -> list[dict] | dict:
        return json.loads(command(told.server, "describe", *arguments))

    flow = describe("flows", "--name", "plain", "--project", told.project)
    assert (flow["name"], flow["version"], flow["project"], flow["archived"]) == (
        "plain", 2, {"name": told.project}, False)
    tasks = describe("tasks", "--name", "plain", "--project", told.project)
    text = json.dumps(tasks)
    assert "first" in text and "second" in text and '"mapped": false' in text
    run = describe("flow-runs", "--name", f"run {told.name}")
    assert (run["parameters"], run["auto_scheduled"]) == ({"size": 7}, False)
    assert run["serialized_state"]["type"] == "Success" and run["serialized_state"]["message"] == "All done"
    assert run["scheduled_start_time"] <= run["start_time"] <= run["end_time"]
    assert "not found" in command(told.server, "describe", "flow-runs", "--name", "no such run")


def test_delete_project(shared_server: RunningServer) -> None:
    command(shared_server, "create", "project", "Goodbye, World!")
    delete = ("delete", "project", "Goodbye, World!")
    assert command(shared_server, *delete) == "Goodbye, World! deleted\n"
    assert "Project Goodbye, World! not found" in command(shared_server, *delete)
    assert "Goodbye" not in command(shared_server, "get", "projects")


def test_create_tenant(shared_server: RunningServer) -> None:
    create = ("server", "create-tenant", "--name", "A team", "--slug", "a-team")
    assert "Tenant created with ID" in command(shared_server, *create)
    slugs = [row["slug"] for row in shared_server.ask("query { tenant { slug } }")["tenant"]]
    assert slugs[0] == "default" and "a-team" in slugs
