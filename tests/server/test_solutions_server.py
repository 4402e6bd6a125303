"""Steps 2 and 5: the flows on a server, run by an agent that was started elsewhere; and servers that are not there."""

import importlib
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
from prefect.utilities.configuration import set_temporary_config

import pipeline
from conftest import HOME, files, table
from harness import Agent, RunningServer, free_port, until
from slideqc.errors import CommandError
from slideqc.orchestration import flows, servers
from slideqc.slides.awkward import truncated

SERIAL, MAPPED = "solutions/pipeline_prefect_server.py", "solutions/pipeline_prefect_parallel_server.py"
both = pytest.mark.parametrize("script", [SERIAL, MAPPED])
PROJECT = "Image QC"


@pytest.fixture(scope="module")
def slides(small_slides: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good and blurry slides, and one that is truncated."""
    folder = shutil.copytree(small_slides, tmp_path_factory.mktemp("slides"), dirs_exist_ok=True)
    truncated(folder / "planted truncated.svs")
    return folder


@pytest.fixture(scope="module")
def plain(slides: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pipeline.py leaves of them."""
    output = tmp_path_factory.mktemp("plain")
    assert pipeline.main(["--folder", str(slides), "--output", str(output)]) == 1
    return output


class Room:
    """A server, an agent that was started in another folder, and each script at work."""

    def __init__(self, server: RunningServer, slides: Path, good: Path, threads: ThreadPoolExecutor) -> None:
        self.server, self.outputs, self.started = server, {}, {}
        two = shutil.copytree(good, server.home / "two", ignore=shutil.ignore_patterns("small-3.svs"))
        for how, arguments in (("wait", ["--wait"]), ("good", ["--wait"]), ("leave", [])):
            if how != "wait":  # in a project of their own: each registration archives the version before it
                arguments += ["--project", f"{PROJECT}, {how}"]
            server.prefect("create", "project", PROJECT if how == "wait" else arguments[-1])
            for script in (SERIAL, MAPPED):
                output = f"output of {Path(script).stem}, {how}"  # relative to the caller's folder, not the agent's
                self.outputs[script, how] = server.home / output
                few = two if script == SERIAL else good  # there, each slide is a process
                folder = slides if how == "wait" else few
                self.started[script, how] = threads.submit(
                    server.python, HOME / script, "--output", output, "--folder", folder, *arguments)

    def done(self, script: str, how: str) -> subprocess.CompletedProcess:
        return self.started[script, how].result()

    def runs(self, script: str, how: str) -> list[dict]:
        """The flow runs that the script has asked for."""
        found = self.server.ask("query { flow_run(order_by: {created: asc}) { id name state parameters } }")["flow_run"]
        return [run for run in found if run["parameters"]["output"] == str(self.outputs[script, how])]


@pytest.fixture(scope="module")
def room(shared_server: RunningServer, slides: Path, small_slides: Path, tmp_path_factory: pytest.TempPathFactory
         ) -> Iterator[Room]:
    agent = Agent(shared_server, cwd=tmp_path_factory.mktemp("elsewhere"))
    try:
        with ThreadPoolExecutor(3) as threads:
            yield Room(shared_server, slides, small_slides, threads)
    finally:
        agent.stop()


@both
def test_the_bytes_of_the_plain_pipeline(script: str, room: Room, slides: Path, plain: Path) -> None:
    done = room.done(script, "wait")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stderr and done.stdout.splitlines()[-1].endswith("1 failed")
    assert files(room.outputs[script, "wait"]) == files(plain)
    assert "planted truncated.svs is truncated" in done.stdout
    found = {run["name"]: run["state"] for run in room.runs(script, "wait")}
    each = {f"small-{number}.svs": "Success" for number in (1, 2, 3)} | {"planted truncated.svs": "Failed"}
    assert found == (each if script == SERIAL else {slides.name: "Failed"})
    for name, state in found.items():
        assert f"{name}: {state}" in done.stdout
    address = done.stdout.index(f"/flow-run/{room.runs(script, 'wait')[-1]['id']}\n")
    assert address < min(done.stdout.index(f"{name}: ") for name in found), "where to watch, before it waits"


def test_one_flow_run_a_batch(room: Room, small_slides: Path, tmp_path: Path) -> None:
    """As docs/scaling.md has it, with batches of two slides instead of 100."""
    guide = (HOME / "docs" / "scaling.md").read_text(encoding="utf-8")
    (block,) = [block for block in re.findall(r"```python\n(.*?)```", guide, re.DOTALL) if "create_flow_run" in block]
    program = tmp_path / "batches.py"
    program.write_text(f"""import sys
sys.path.insert(0, {str(HOME)!r})
slides = {sorted(map(str, small_slides.glob("*.svs")))!r}
{block.replace("100", "2").replace("/shared/output", str(tmp_path)).replace('"Image QC"', '"Image QC, batches"')}""")
    room.server.prefect("create", "project", "Image QC, batches")
    done = room.server.python(program)
    assert done.returncode == 0, done.stdout + done.stderr
    until(lambda: len(list(tmp_path.glob("*/results.csv"))) == 2, "both batches have a table", 120)
    plain = table(room.outputs[MAPPED, "good"]) if room.done(MAPPED, "good").returncode == 0 else {}
    first, second = table(tmp_path / "0000000"), table(tmp_path / "0000002")
    assert (len(first), len(second)) == (2, 1) and first | second == plain


@both
def test_good_slides_alone_exit_0(script: str, room: Room) -> None:
    done = room.done(script, "good")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(table(room.outputs[script, "good"])) == (2 if script == SERIAL else 3) and "Success" in done.stdout


def test_mapped_task_runs_are_named_after_their_slides(room: Room, slides: Path) -> None:
    """Also those that never ran, since the step before them failed."""
    room.done(MAPPED, "wait")
    (run,) = room.runs(MAPPED, "wait")
    found = room.server.ask(f'query {{ task_run(where: {{flow_run_id: {{_eq: "{run["id"]}"}}, '
                            "map_index: {_gte: 0}}) { name map_index state task { name } } }")["task_run"]
    names = sorted(path.name for path in slides.glob("*.svs"))
    for row in found:
        if row["task"]["name"] in flows.VERBS and row["state"] != "Skipped":
            assert row["name"] == f"{flows.VERBS[row['task']['name']]} {names[row['map_index']]}"
    assert {f"load {name}" for name in names} < {row["name"] for row in found}
    assert "TriggerFailed" in {row["state"] for row in found if row["name"] == "save planted truncated.svs"}


@both
def test_each_checked_slide_leaves_an_artifact(script: str, room: Room, slides: Path) -> None:
    room.done(script, "wait")
    runs = ", ".join(f'"{run["id"]}"' for run in room.runs(script, "wait"))
    found = room.server.ask(f"query {{ task_run(where: {{flow_run_id: {{_in: [{runs}]}}}}) "
                            "{ artifacts { kind data } } }")
    artifacts = [artifact for row in found["task_run"] for artifact in row["artifacts"]]
    assert {artifact["kind"] for artifact in artifacts} == {"markdown"}
    texts = sorted(artifact["data"]["markdown"] for artifact in artifacts)
    assert [f"| file_name | small-{number}.svs |" in text for number, text in enumerate(texts, 1)] == [True] * 3


def test_the_mapped_run_has_a_child_a_slide(room: Room) -> None:
    room.done(MAPPED, "good")
    (run,) = room.runs(MAPPED, "good")
    found = room.server.ask(f'query {{ task_run(where: {{flow_run_id: {{_eq: "{run["id"]}"}}}}) '
                            "{ map_index state task { name mapped } } }")["task_run"]
    children = {}
    for row in found:
        children.setdefault(row["task"]["name"], set()).add(row["map_index"])
        is_parent = row["task"]["mapped"] and row["map_index"] < 0
        assert row["state"] in (("Mapped",) if is_parent else ("Success", "Skipped")), row
    for name in ("load_image", "tissue_segmentation_simple", "identifyBlurryRegions", "check_blurry", "save_result"):
        assert children[name] == {-1, 0, 1, 2}, name


@both
def test_without_wait_it_submits_and_leaves(script: str, room: Room) -> None:
    done = room.done(script, "leave")
    assert done.returncode == 0, done.stderr
    runs = room.runs(script, "leave")
    number = 2 if script == SERIAL else 1
    assert len(runs) == number and f"submitted: {number} flow run" in done.stdout
    assert f"{room.server.ui}/default/flow-run/{runs[-1]['id']}" in done.stdout
    assert "prefect agent local start" in done.stdout and "report" not in done.stdout
    until(lambda: all(run["state"] == "Success" for run in room.runs(script, "leave")), "the runs", 150)
    assert files(room.outputs[script, "leave"]) == files(room.outputs[script, "good"])  # the runs made the table


# what is not there

def refused(script: str, server_url: str, home: Path, *arguments: object) -> str:
    """The one line that a script says before it gives up; the client would try for a minute first."""
    environment = os.environ | {
        "HOME": str(home), "PREFECT__BACKEND": "server", "PREFECT__SERVER__ENDPOINT": server_url,
        "PREFECT__HOME_DIR": str(home), "PREFECT__USER_CONFIG_PATH": str(home / "config.toml"),
        "PREFECT__BACKEND_CONFIG_PATH": str(home / "backend.toml")}
    done = subprocess.run([sys.executable, HOME / script, *map(str, arguments)], cwd=home, env=environment,
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stdout == "" and len(done.stderr.splitlines()) == 1, done.stdout + done.stderr
    assert not (home / "output").exists()
    return done.stderr


@pytest.fixture
def refused_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The same in this process, for what does not depend on how the script was started."""
    def call(script: str, server_url: str, *arguments: object) -> str:
        main = importlib.import_module(script.removesuffix(".py").replace("/", ".")).main
        with set_temporary_config({"backend": "server", "cloud.api": server_url, "home_dir": str(tmp_path)}):
            status = main([*map(str, arguments), "--output", str(tmp_path / "output")])
        said = capsys.readouterr()
        assert status == 2 and said.out == "" and len(said.err.splitlines()) == 1, said
        assert not (tmp_path / "output").exists()
        return said.err
    return call


@both
def test_no_server(script: str, small_slides: Path, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    said = refused(script, url, tmp_path, "--folder", small_slides, "--output", tmp_path / "output", "--wait")
    assert url in said and "python -m workshop_server" in said


@both
def test_no_such_project(script: str, shared_server: RunningServer, small_slides: Path,
                         refused_here: Callable[..., str]) -> None:
    said = refused_here(script, shared_server.url, "--folder", small_slides, "--project", "Ada's slides")
    assert """prefect create project 'Ada'"'"'s slides'""" in said


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """The address of a server that gives one answer to all."""
    class Other(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{other.server_port}"
        other.shutdown()


@both
def test_something_else_at_the_address(script: str, small_slides: Path, refused_here: Callable[..., str]) -> None:
    with answering(200, b"<html>hello</html>") as url:
        said = refused_here(script, url, "--folder", small_slides)
    assert url in said and "is not a Prefect server" in said


@pytest.mark.parametrize("status, body", [
    (404, b"not here"), (200, b"{}"), (200, b"[1, 2]"), (200, b'"hello"'), (200, b"null"), (200, b'{"data": 7}'),
    (200, b'{"data": {"project": 7}}'), (200, b'{"errors": "no"}'), (200, b""), (405, b'{"detail": "no"}'),
    (500, b"\xff\xfe")], ids=str)
def test_other_answers(status: int, body: bytes) -> None:
    with answering(status, body) as url, set_temporary_config({"backend": "server", "cloud.api": url}), \
            pytest.raises(CommandError, match=f"{url} is not a Prefect server"):
        servers.check(PROJECT)


@pytest.mark.parametrize("then", [lambda runs: servers.wait_for_runs(None, runs), servers.print_address],
                         ids=["wait", "print"])
def test_a_server_that_goes_away_right_after_the_submission(then: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:  # as after the minute of the client's tries
        raise requests.ConnectionError

    monkeypatch.setattr(servers.Client, "get_cloud_url", gone)
    with pytest.raises(CommandError, match=r"lost the server at .* start it again"):
        then(["a-run"])


@pytest.mark.parametrize("arguments", [["--folder", "nowhere"], ["--image-work-size", "0x"], ["--wait", "yes"]])
@both
def test_wrong_commands(script: str, arguments: list[str], shared_server: RunningServer,
                        refused_here: Callable[..., str]) -> None:
    refused_here(script, shared_server.url, *arguments)
