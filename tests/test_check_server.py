"""check.py 2 and 5: its own server and agent, what it finds in a script there, and that it leaves nothing behind."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from check_in_process import Check

from conftest import HOME, LISTENING, environment, said
from slideqc.checking import run_on_server, server_findings
from slideqc.checking.expected_results import ExpectedResults
from slideqc.checking.script_call import ScriptCall
from slideqc.checking.steps import TASKS
from slideqc.own_server import OwnServer

pytest_plugins = ["check_in_process"]  # fixtures

ENDED_BADLY = {"name": "one", "state": "Failed", "state_message": "Some reference tasks failed.", "task_runs": []}
MAIN = """
def main():
    parser = flags.parser(__doc__)
    flags.add_server(parser)
    options = parser.parse_args()
    servers.check(options.project)
    flow = define_flow()
    flow.run_config = LocalRun(working_dir=str(flags.HOME))
    run = Run.begin(options)
    client = Client()
    flow_id = flow.register(project_name=options.project)
    flow_runs = []
    for file_name in run.slides:
        parameters = {"file_name": file_name, "output": str(options.output), **flags.parameters(options)}
        flow_runs.append(client.create_flow_run(flow_id=flow_id, run_name="mine", parameters=parameters))
    return servers.wait_for_runs(run, flow_runs) if options.wait else servers.print_address(flow_runs)


if __name__ == "__main__":
    sys.exit(main())
"""
FLOW = """
def define_flow():
    with Flow("mine") as flow:
        size, output = Parameter("image_work_size"), Parameter("output")
        image = load_image(Parameter("file_name"), size, output)
        tissue = tissue_segmentation_simple(image, size)
        percent_blurry = identifyBlurryRegions(image, size, Parameter("blur_work_size"), Parameter("blur_radius"),
                                               Parameter("blur_threshold"), upstream_tasks=[tissue])
        too_blurry = check_blurry(percent_blurry, Parameter("blur_max"))
        with case(too_blurry, True):
            blurry_action(image, percent_blurry)
        save_result(image, size, tissue, percent_blurry, too_blurry)
    return flow
"""


@pytest.mark.usefixtures("forked")
def test_a_copy_of_the_pipeline_made_as_the_readme_says(check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its tasks travel with the flow. What Prefect and the network are set to on this machine has no say."""
    plain, _ = (HOME / "pipeline.py").read_text(encoding="utf-8").split("def check_slide(")
    steps = re.sub(f"^def ({'|'.join((*TASKS, 'save_result'))})", r"@task\ndef \1", plain, flags=re.MULTILINE)
    steps = steps.replace("logger.warning", 'prefect.context.get("logger").warning')
    script = tmp_path / "my flows" / "my-flow.py"
    script.parent.mkdir()
    script.write_text("import prefect\nfrom prefect import Client, Flow, Parameter, case, task\n"
                      "from prefect.run_configs import LocalRun\nfrom slideqc.orchestration import servers\n"
                      f"{steps}\n{FLOW}\n{MAIN}", encoding="utf-8")
    for name, value in {"PREFECT__BACKEND": "cloud", "PREFECT__CLOUD__REQUEST_TIMEOUT": "0.000001",
                        "PREFECT__SERVER__ENDPOINT": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9",
                        "http_proxy": "http://127.0.0.1:9"}.items():
        monkeypatch.setenv(name, value)
    done = check(2, script)
    assert done.returncode == 0, said(done)
    assert f"copy your script of step 1 to {script.with_name('my-flow_mapped.py')}, map" in said(done)
    assert list(tmp_path.iterdir()) == [script.parent]
    for name in ("sharp.svs", "partly-blurry.svs"):
        assert not list((HOME / "output").glob(f"{name}*"))


@pytest.mark.usefixtures("forked")
def test_the_flow_may_come_from_another_script_or_be_made_in_main(check: Check, tmp_path: Path):
    """No define_flow() of its own, no --wait, the earlier script beside it, where the agent has to look for it.

    It talks to the server as it is imported, when there is none yet: that is not held against it.
    """
    (tmp_path / "earlier.py").write_text("from solutions.pipeline_prefect_parallel import define_flow as right\n"
                                         "def made():\n    return right()\n", encoding="utf-8")
    script = tmp_path / "mine.py"
    script.write_text(f"""
from prefect import Client
from prefect.executors import LocalDaskExecutor
from prefect.run_configs import LocalRun
import earlier
from slideqc import flags
from slideqc.output.run import Run
client = Client()
client.graphql({{"query": {{"hello"}}}})
flow = earlier.made()
flow.executor = LocalDaskExecutor(scheduler="threads", num_workers=2)
flow.run_config = LocalRun(working_dir={str(tmp_path)!r}, env={{"PYTHONPATH": {str(HOME)!r}}})
flow_id = flow.register(project_name="Image QC")
if __name__ == "__main__":
    options = flags.parser("").parse_args()
    run = Run.begin(options)
    client.create_flow_run(flow_id=flow_id, parameters={{
        "file_names": run.slides, "output": str(options.output), **flags.parameters(options)}})
""", encoding="utf-8")
    done = check(5, script)
    assert done.returncode == 0 and "define_flow" not in said(done), said(done)
    assert "ok       run by an agent, the flow leaves what pipeline.py leaves" in said(done)


# ---- sentences, each from what a script or the server says

@pytest.fixture
def call(tmp_path: Path) -> ScriptCall:
    """A script for step 2, and two slides."""
    return ScriptCall(2, Path("mine.py"), tmp_path, 100, {"blur_radius": 5},
                      ExpectedResults(tmp_path / "expected", {"a": {}, "b": {}}))


@pytest.mark.parametrize(("exception", "sentence", "idea"), [
    ("requests.exceptions.ConnectionError: HTTPConnectionPool(host='localhost', port=4200): Max retries exceeded",
     "stopped in line 7: no server answers at localhost, port 4200", "server"),
    ("ValueError: One of flow_id or version_group_id must be provided", "was given no flow_id", "client"),
    ("TypeError: Object of type Flow is not JSON serializable", "was given a Flow, and", "parameters"),
    ("ValueError: This flow has no storage to build", "was given a flow that is stored nowhere yet", "register"),
    ("KeyError: 'x'", "stopped in line 7: KeyError: 'x'", "script"),
])
def test_a_script_that_died(call: ScriptCall, exception: str, sentence: str, idea: str):
    traceback = ("Traceback (most recent call last):\n"
                 f"  File \"/somewhere/mine.py\", line 7, in <module>\n    main()\n{exception}\n")
    finding = server_findings.script_failed(call, 1, traceback)
    assert sentence in finding.found and finding.idea == idea


@pytest.mark.parametrize(("words", "idea"), [
    ("no project 'Image QC' on the server: prefect create project", "project"), ("no server at http://", "server"),
    ("there is no flag --folder", "script")])
def test_a_script_that_ended_with_a_line(call: ScriptCall, words: str, idea: str):
    finding = server_findings.script_failed(call, 2, f"mine.py: {words}\n")
    assert words in finding.found and finding.idea == idea


def flow(project: str = "Image QC", *parameters: str) -> dict:
    return {"project": {"name": project}, "tasks": [], "parameters": [{"name": name} for name in parameters]}


def flow_run(place: Path, slide: str, **parameters: object) -> dict:
    given = {"file_name": str(place / slide), "output": str(place / "results"), "blur_radius": 5}
    return {"name": f"run {slide}", "labels": [], "parameters": given | parameters, "state": "Scheduled"}


@pytest.mark.parametrize(("slides", "parameters", "sentence"), [
    ("ab", {}, None),
    ("aab", {}, "asked for 3 runs for 2 slides: a, a, b"),
    ("aa", {}, "asked for runs for a, a, and for none for b"),
    ("ab", {"file_name": ["x"]}, "the flow run run a was given file_name=['x']"),
    ("ab", {"file_name": "data/a"}, "file_name='data/a', and the agent, which runs it, has another working folder"),
    ("ab", {"blur_radius": 7}, "was given blur_radius=7, though the script was called with --blur-radius 5"),
    ("ab", {"output": "/else"}, "was given output='/else', though the script was called with --output results"),
])
def test_the_runs_that_a_script_asked_for(call: ScriptCall, slides: str, parameters: dict,
                                          sentence: str | None):
    runs = [flow_run(call.folder, slide, **parameters) for slide in slides]
    seen = {"flow": [flow("Image QC", "output")], "flow_run": runs, "agent": []}
    finding = server_findings.wrong_requests(call, seen, "", is_over=True)
    assert (finding and sentence in finding.found) if sentence else finding is None
    assert server_findings.all_runs_requested(call, seen) or sentence


@pytest.mark.parametrize(("labels", "sentence"), [
    (["here"], None), ([], "has no label, and an agent that has some (here) leaves such runs alone"),
    (["here", "gpu"], "has the label 'gpu', which the agent does not have (here)")])
def test_labels(call: ScriptCall, labels: list[str], sentence: str | None):
    runs = [flow_run(call.folder, slide) | {"labels": labels} for slide in "ab"]
    seen = {"flow": [flow("Image QC", "output")], "flow_run": runs, "agent": [{"labels": ["here"]}]}
    finding = server_findings.wrong_requests(call, seen, "", is_over=False)
    assert (finding and sentence in finding.found) if sentence else finding is None


def test_a_flow_in_another_project_or_without_an_output(call: ScriptCall):
    seen = {"flow": [flow("Slides")], "flow_run": [], "agent": []}
    finding = server_findings.wrong_requests(call, seen, "", is_over=False)
    assert "registered the flow with the project 'Slides'" in finding.found
    seen = {"flow": [flow("Image QC", "file_name")], "flow_run": [flow_run(call.folder, "a")], "agent": []}
    assert "the flow has no Parameter output" in server_findings.wrong_requests(call, seen, "", is_over=False).found


def test_a_run_that_failed_for_another_reason():
    message = "Storage is\nnot there"
    runs = [{"state": "Running"}, ENDED_BADLY | {"state_message": message}]
    finding = server_findings.failed_runs({"flow_run": runs})
    assert "the flow run one ended as Failed: Storage is not there" in finding.found


def test_a_module_that_only_a_task_misses():
    failed = {"task": {"name": "load_image"}, "state_message":
              "Error during execution of task: ModuleNotFoundError(\"No module named 'my_tools'\")"}
    finding = server_findings.failed_runs({"flow_run": [ENDED_BADLY | {"task_runs": [failed]}]})
    assert "finds no module my_tools" in finding.found and finding.idea == "module"


# ---- the processes

def test_a_server_that_does_not_start(tmp_path: Path):
    (tmp_path / "uvicorn.py").write_text("raise ImportError('no uvicorn here')\n")
    done = subprocess.run([sys.executable, HOME / "check.py", "2", HOME / "solutions" / "pipeline_prefect_server.py"],
                          capture_output=True, text=True, encoding="utf-8", cwd=tmp_path, timeout=100,
                          env=environment(tmp_path) | {"PYTHONPATH": str(tmp_path)})
    assert "does not start (ImportError: no uvicorn here): python check.py setup says" in done.stderr
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1


NEVER = """
import sys, time
import pieces
from prefect import Client, task
import solutions.pipeline_prefect as right

@task
def load_image(file_name, image_work_size, output):
    time.sleep(600)

def ask(flow, slides, options):
    flow_id = flow.register(project_name="Image QC")
    for file_name in slides:
        Client().create_flow_run(flow_id=flow_id, run_name="mine", parameters={
            "file_name": file_name, **pieces.given(options)})

right.load_image = load_image
if __name__ == "__main__":
    sys.exit(pieces.send(right.define_flow(), ask))
"""


@pytest.fixture
def never(tmp_path: Path) -> Iterator[Callable[[float], subprocess.Popen]]:
    """check.py, over a script whose flow runs come to no end; it is given its time-out."""
    started = []
    (tmp_path / "never.py").write_text(NEVER, encoding="utf-8")
    (tmp_path / "temporary").mkdir()

    def start(timeout: float) -> subprocess.Popen:
        surroundings = environment(tmp_path) | {"TMPDIR": str(tmp_path / "temporary"), "PYTHONPATH": str(
            HOME / "tests" / "broken")}
        started.append(subprocess.Popen(
            [sys.executable, "-u", HOME / "check.py", "2", tmp_path / "never.py", "--timeout", str(timeout)],
            cwd=tmp_path, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            encoding="utf-8", **LISTENING))
        return started[-1]
    yield start
    for process in started:
        process.kill()
        process.communicate()
    for process in of_the_check(tmp_path / "temporary"):
        process.kill()


def of_the_check(folder: Path) -> list[psutil.Process]:
    """The processes that know of a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(folder) in "".join((*process.cmdline(), *process.environ().values())):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.skipif(os.name == "nt", reason="signals as a terminal sends them are POSIX")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_server_agent_and_runs(never: Callable[[float], subprocess.Popen], tmp_path: Path, how: int):
    process = never(1000)
    end = time.monotonic() + 300
    while len(running := of_the_check(tmp_path / "temporary")) < 4 and time.monotonic() < end:
        time.sleep(0.1)  # the check has no part in this: server, agent, and a run for each slide
    assert len(running) >= 4, [one.cmdline() for one in running]
    os.kill(process.pid, how)
    _, complained = process.communicate(timeout=300)
    assert process.returncode == 130 and complained == "check.py: stopped\n"
    assert not psutil.wait_procs(running, timeout=60)[1] and not of_the_check(tmp_path / "temporary")
    assert not list((tmp_path / "temporary").iterdir())


class LateOnceARunHasStarted:
    """A clock that jumps past every time-out as soon as an agent runs a flow run."""

    sleep = staticmethod(time.sleep)

    def __init__(self) -> None:
        self.is_late = False

    def monotonic(self) -> float:
        return 1e9 if self.is_late else 0

    def query(self, server: OwnServer, query: str, variables: dict | None = None,
              original: Callable = OwnServer.query) -> dict:
        found = original(server, query, variables)
        self.is_late |= any(run["state"] in ("Submitted", "Running") for run in found.get("flow_run", []))
        return found


@pytest.mark.skipif(os.name == "nt", reason="looks for processes by their environment")
def test_a_run_without_an_end_is_told_and_ended(check: Check, tmp_path: Path,
                                                monkeypatch: pytest.MonkeyPatch):
    clock = LateOnceARunHasStarted()
    monkeypatch.setattr(run_on_server, "time", clock)
    monkeypatch.setattr(OwnServer, "query", lambda *arguments: clock.query(*arguments))
    monkeypatch.setenv("PYTHONPATH", str(HOME / "tests" / "broken"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "never.py").write_text(NEVER, encoding="utf-8")
    done = check(2, tmp_path / "never.py", "--timeout", 100)
    assert re.search(r"found: +no end after 100 s, while the flow run mine is (Running|Submitted)", said(done))
    end = time.monotonic() + 60
    while of_the_check(tmp_path / "temporary") and time.monotonic() < end:
        time.sleep(0.1)  # they were killed; the system may need a moment
    assert not of_the_check(tmp_path / "temporary") and not list((tmp_path / "temporary").iterdir())
