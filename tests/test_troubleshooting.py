"""docs/troubleshooting.md: each failure is provoked, its message is compared with the page, its way out is taken.

Not provoked: libGL, which a machine may have (our OpenCV never asks for it); docker-compose is kept out of the PATH.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import cv2
import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image
from prefect import Client, Flow, Parameter, case, task
from prefect.backend.flow_run import check_for_compatible_agents
from prefect.engine.state import State
from prefect.executors import Executor, LocalDaskExecutor, LocalExecutor

from conftest import HOME, environment, table
from harness import Agent, RunningServer, free_port, until
from slideqc.slides.awkward import good, truncated
from workspace import as_client_of

PAGE = (HOME / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
SECTIONS = {int(number): text for number, text in re.findall(r"^## (\d+)\. (.*?)(?=^## )", PAGE, re.DOTALL | re.M)}
SUBMIT = HOME / "solutions" / "pipeline_prefect_server.py"
LIBGL = "ImportError: libGL.so.1: cannot open shared object file"

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the words and commands of Linux and macOS")


def block(number: int, language: str) -> str:
    """The section's first block in that language."""
    return re.search(rf"```{language}\n(.*?)```", SECTIONS[number], re.DOTALL)[1]


def assert_said(number: int, *said: str) -> None:
    """Every line of the section's words was really said."""
    for line in block(number, "text").splitlines():
        assert any(line in each for each in said) or LIBGL in line, f"{line}\nis not in:\n" + "\n---\n".join(said)


def way(number: int, beginning: str) -> list[str]:
    """The command in the section's way out that begins so, as words."""
    advice = " ".join(SECTIONS[number].partition("**Way out**")[2].split())
    return shlex.split(re.search(f"`({beginning}[^`]*)`", advice)[1])


def run(*command: object, cwd: Path, **more: str) -> subprocess.CompletedProcess:
    """A command with the Python of the tests, and a home of its own."""
    program = {"python": sys.executable, "prefect": Path(sys.executable).parent / "prefect"}[command[0]]
    return subprocess.run([str(word) for word in (program, *command[1:])], cwd=cwd, env=environment(cwd) | more,
                          capture_output=True, text=True, timeout=300)


def printed(done: subprocess.CompletedProcess) -> str:
    """Both streams, one after the other: how they mix depends on buffers."""
    return done.stdout + done.stderr


@contextmanager
def started(service: RunningServer | Agent) -> Iterator[RunningServer | Agent]:
    try:
        yield service
    finally:
        service.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that takes a run for dead after 10 s, and an agent in a folder that has none of our modules."""
    quick = ["--zombie-interval", 1, "--lazarus-interval", 1, "--heartbeat-timeout", 10]
    with pytest.MonkeyPatch.context() as patch, started(RunningServer(tmp_path_factory.mktemp("server"), *quick)) as it:
        patch.setenv("PREFECT__CLOUD__HEARTBEAT_INTERVAL", "1")
        it.prefect("create", "project", "p")
        with started(Agent(it, "--show-flow-logs", cwd=tmp_path_factory.mktemp("elsewhere"))) as it.agent:
            yield it


def submit(server: RunningServer, name: str, script: str) -> str:
    """Register the flow of a script, and ask for a run; its id."""
    path = server.home / f"{name}.py"
    path.write_text(f"import sys\nsys.path.insert(0, {str(HOME)!r})\nfrom prefect import Client, Flow, task\n{script}\n"
                    "print('RUN', Client().create_flow_run(flow_id=flow.register('p')))\n", encoding="utf-8")
    done = server.python(path)
    assert "RUN " in done.stdout, done.stderr
    return done.stdout.rpartition("RUN ")[2].strip()


def ended(server: RunningServer, run_id: str) -> dict:
    """The run, once it has ended: its state, and what was said."""
    def found() -> dict | None:
        row = server.ask(f'{{flow_run_by_pk(id: "{run_id}") {{state state_message '
                         "task_runs {state_message run_count}}}")["flow_run_by_pk"]
        return row if row["state"] in ("Success", "Failed") else None
    return until(found, f"the end of {run_id}", 120)


def test_1_a_run_stays_scheduled(tmp_path, small_slides):
    (tmp_path / "slides").mkdir()
    (tmp_path / "slides" / "one.svs").hardlink_to(small_slides / "small-1.svs")
    with started(RunningServer(tmp_path)) as server, ThreadPoolExecutor(1) as threads, as_client_of(server):
        server.prefect("create", "project", "Image QC")
        script = threads.submit(server.python, SUBMIT, "--folder", "slides", "--output", "out", "--wait")
        (asked,) = until(lambda: server.ask("{flow_run {id flow_id parameters}}")["flow_run"], "the run")
        address = f"{server.ui}/default/flow-run/{asked.pop('id')}"
        page = until(lambda: "No agent" in (text := urlopen(address).read().decode()) and text, "the page says why")
        with started(Agent(server, *way(1, "prefect agent local start")[4:])):
            done = script.result()
            assert done.returncode == 0 and "one.svs: Success" in done.stdout
            labelled = Client(api_server=server.url).create_flow_run(**asked, labels=["gpu"])
            assert_said(1, done.stdout, page, check_for_compatible_agents(["gpu"]))
            with started(Agent(server, *way(1, "prefect agent local start --label")[4:])):
                assert ended(server, labelled)["state"] == "Success"


MODULES = """
from prefect.run_configs import LocalRun
from BaseImage import BaseImage
from slideqc import flags
@task
def name():
    return BaseImage.__name__
with Flow("modules") as flow:
    name()
"""


def test_2_modules_are_not_found(server):
    failed = ended(server, submit(server, "modules", MODULES))
    until(lambda: "ModuleNotFoundError" in server.agent.said(), "the agent's terminal says so")
    assert_said(2, failed["state_message"], server.agent.said())
    assert ended(server, submit(server, "found", MODULES + block(2, "python")))["state"] == "Success"


def test_3_no_server_answers(tmp_path, small_slides):
    port = str(free_port())
    there = {"PREFECT__BACKEND": "server", "PREFECT__SERVER__ENDPOINT": f"http://localhost:{port}"}
    hurried = "import time; time.sleep = lambda seconds: None; from prefect.cli import cli; cli(['get', 'projects'])"
    failed = [run("python", SUBMIT, "--folder", small_slides, cwd=tmp_path, **there),
              run("python", "-c", hurried, cwd=tmp_path, **there),
              run("prefect", "server", "start", cwd=tmp_path, PATH=str(tmp_path), **there)]
    assert all(done.returncode for done in failed)
    assert_said(3, *(printed(done).replace(port, "4200") for done in failed))
    assert way(3, "python") == ["python", "-m", "workshop_server"]  # what RunningServer starts
    with started(RunningServer(tmp_path)) as server:
        assert server.prefect("get", "projects").returncode == 0


def test_4_a_key_or_the_project_is_missing(server, tmp_path, small_slides):
    keys = tmp_path / "keys.json"
    made = run("python", "-m", "workshop_server", "create-key", "ana", "--api-keys", keys, cwd=HOME, HOME=str(tmp_path))
    with started(RunningServer(tmp_path, "--api-keys", keys)) as keyed:
        # As after the installation: the backend is the cloud, whose address is one of this machine here.
        fresh = {"cwd": tmp_path, "PREFECT__CLOUD__API": keyed.url, "PREFECT__CLOUD__GRAPHQL": keyed.url,
                 "PREFECT__SERVER__ENDPOINT": server.url}
        script = ["python", SUBMIT, "--folder", small_slides]
        register = ["python", "-c", "import prefect; prefect.Flow('f').register('Image QC', build=False)"]
        failed = [run(*script, **fresh | {"PREFECT__CLOUD__API": f"http://localhost:{free_port()}"}),
                  run("prefect", "create", "project", "Image QC", **fresh), run(*register, **fresh)]
        log_in = " ".join(way(4, "prefect auth login")).replace("KEY", made.stdout.strip())
        for command in log_in.split(), ["prefect", "get", "projects"], way(4, "prefect backend"):
            assert (done := run(*command, **fresh)).returncode == 0, printed(done)
        failed += [run(*command, **fresh) for command in (script, register)]
        assert all(done.returncode for done in failed)
        assert_said(4, *(printed(done) for done in failed))
        for command in way(4, "prefect create project"), register:
            assert (done := run(*command, **fresh)).returncode == 0, printed(done)


KILLED = """
import os, signal, prefect
from datetime import timedelta
def greedy():
    if prefect.context.task_run_count == 1:
        os.kill(os.getpid(), signal.SIGKILL)  # as the system does when memory runs out
"""


def test_5_a_run_falls_silent(server):
    again = block(5, "python").replace("(file_name, image_work_size, output):\n    ...", "():\n    greedy()")
    runs = [submit(server, name, f"{KILLED}\n{how}\nwith Flow('{name}') as flow:\n    load_image()")
            for name, how in (("killed", "load_image = task(greedy)"), ("retried", again))]
    failed, retried = (ended(server, run_id) for run_id in runs)
    assert_said(5, failed["state_message"], *(each["state_message"] for each in failed["task_runs"]))
    assert [failed["state"], retried["state"]] == ["Failed", "Success"]
    assert [each["run_count"] for each in retried["task_runs"]] == [2]


def raised(call: Callable[[], object]) -> str:
    """What a call raises, as the last line of a traceback says it."""
    with pytest.raises(Exception) as caught:
        call()
    return f"{caught.type.__name__}: {caught.value}"


def test_6_a_file_is_no_slide_or_says_too_little(tmp_path):
    cut, bare, page, words, big = (tmp_path / name for name in (
        "cut.svs", "bare.svs", "page.svs", "words.svs", "big.tif"))
    truncated(cut)
    good(bare, seed=12, stated=())
    page.write_text("<html>please log in</html>", encoding="utf-8")
    words.write_text("not found", encoding="utf-8")
    tile = np.full((1024, 1024, 3), 240, np.uint8)
    tifffile.imwrite(big, (tile for _ in range(196)), shape=(14000, 14000, 3), dtype=tile.dtype, tile=tile.shape[:2],
                     compression="zlib", photometric="rgb")
    check = ["python", HOME / "pipeline.py", "--folder", tmp_path, "--output", tmp_path / "out"]
    done = run(*check, cwd=tmp_path)
    assert {row["status"] for row in table(tmp_path / "out").values()} == {"failed"}
    assert_said(6, printed(done), raised(lambda: openslide.OpenSlide(page)), raised(lambda: Image.open(big)))
    with openslide.OpenSlide(bare) as slide, openslide.OpenSlide(big) as picture:
        assert raised(lambda: slide.properties["openslide.objective-power"]) == "KeyError: "
        assert picture.read_region((9000, 9000), 0, (2, 2)).getpixel((0, 0)) == (240, 240, 240, 255)
    cut.write_bytes(bare.read_bytes())  # copied again
    page.unlink()
    words.unlink()
    run(*check, *way(6, "python pipeline.py")[2:], cwd=tmp_path)
    assert {name: row["status"] for name, row in table(tmp_path / "out").items()} == {"bare.svs": "ok", "cut.svs": "ok"}


def outcome(make: Callable, executor: Executor | None = None, **names: object) -> tuple[State, object]:
    """The final state of the flow that `make` makes of a parameter, and the result of the task that it returns."""
    with Flow("f", executor=executor or LocalExecutor()) as flow:
        last = make(Parameter("file_names"))
    state = flow.run(**(names or {"file_names": ["a.svs", "b.svs"]}))
    return state, state.result if isinstance(state.result, Exception) else state.result[last].result


def test_7_a_task_is_taken_for_its_result():
    size = task(lambda files: len(files), name="size")
    _, error = outcome(task(lambda files: size(files)))
    assert_said(7, raised(lambda: outcome(lambda files: [size(name) for name in files])),
                f"{type(error).__name__}: {error}", raised(lambda: outcome(size, file_nam=["a.svs"])),
                raised(lambda: Flow("f", tasks=[Parameter("file_names", default=[])]).run(file_nam=["a.svs"])))
    assert bool(Parameter("never"))  # so an `if` is always true

    def asked(files: Parameter) -> object:
        with case(size(files), 3):
            return size(files)

    made = [outcome(right)[1] for right in (size.map, task(lambda files: size.run(files)), size)]
    assert made == [[5, 5], 2, 2]
    assert outcome(asked)[0].is_successful() and outcome(asked)[1] is None


def test_8_a_result_cannot_travel(tmp_path):
    good(tmp_path / "slide.svs", seed=1)
    slide = {"file_names": str(tmp_path / "slide.svs")}
    processes = LocalDaskExecutor(scheduler="processes", num_workers=1)
    failed, error = outcome(task(lambda name: openslide.OpenSlide(name)), processes, **slide)
    assert failed.is_failed()
    assert_said(8, f"{type(error).__name__}: {error}")
    scope = {"task": task, "openslide": openslide}
    exec(block(8, "python"), scope)
    assert outcome(scope["width"], processes, **slide)[1] == 2048
    size, copy = task(lambda files: len(files)), task(lambda files: list(files))
    put, added = task(lambda rows: rows.append("c.svs")), task(lambda rows: [*rows, "c.svs"])

    def in_place(files: Parameter) -> object:
        rows = copy(files)
        return size(rows, upstream_tasks=[put(rows)])

    assert [outcome(in_place)[1], outcome(in_place, processes)[1]] == [3, 2]  # and both say Success
    assert outcome(lambda files: size(added(files)), processes)[1] == 3


def test_9_processes_that_start_processes(tmp_path):
    script = tmp_path / "script.py"
    made = ("from prefect import Flow, Task\nfrom prefect.executors import DaskExecutor\n"
            "one = {'n_workers': 1, 'threads_per_worker': 1, 'dashboard_address': None}\n"
            "flow = Flow('f', tasks=[Task()], executor=DaskExecutor(cluster_kwargs=one))\n")
    script.write_text(f"{made}flow.run()\n", encoding="utf-8")
    assert_said(9, printed(run("python", script, cwd=tmp_path)))
    script.write_text(made + block(9, "python"), encoding="utf-8")
    done = run("python", script, cwd=tmp_path)
    assert "Flow run SUCCESS" in done.stdout and "Error" not in printed(done) and done.returncode == 0


def test_10_packages_do_not_fit(tmp_path, small_slides):
    install = ["python", "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target", tmp_path / "new"]
    check = ["python", HOME / "check.py", "setup", "--folder", small_slides]
    said = []
    for version, status in ("marshmallow>=4", 1), (way(10, "python -m pip install .marsh")[-1], 0):
        assert run(*install, version, cwd=tmp_path).returncode == 0
        said.append(run(*check, cwd=tmp_path, PYTHONPATH=str(tmp_path / "new")))
        assert said[-1].returncode == status and ("ready" in said[-1].stdout) == (status == 0), printed(said[-1])
    assert_said(10, printed(said[0]))
    libraries = [path.read_bytes() for path in Path(cv2.__file__).parent.rglob("*.so")]
    assert libraries and not any(b"libGL.so" in library for library in libraries)
    assert "not provoked" in SECTIONS[10] and LIBGL in block(10, "text")


def test_there_are_ten_and_the_readme_leads_to_them():
    assert list(SECTIONS) == list(range(1, 11))
    readme = (HOME / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `+ ?(.*?) ?`+ \|.*\(docs/troubleshooting\.md#(\d+)-", readme, re.MULTILINE)
    if "docs/troubleshooting.md#" in readme:
        assert [int(number) for _, number in rows] == list(SECTIONS)
    assert all(words in block(int(number), "text") for words, number in rows), rows
