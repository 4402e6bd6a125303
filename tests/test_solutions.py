"""The flows leave the same bytes as the plain pipeline, with the same exit status, on every executor."""

import ast
import difflib
import shutil
import subprocess
import sys
from datetime import timedelta

import pytest
import requests
from prefect import Flow, Parameter, task
from prefect.tasks.core.function import FunctionTask

from conftest import HOME, environment, files, one_line, table
from slideqc.orchestration import flows
from slideqc.output import results

SERIAL, MAPPED = "solutions/pipeline_prefect.py", "solutions/pipeline_prefect_parallel.py"
EXECUTORS = ["local", "threads", "processes", "distributed"]
WAYS = {"serial": [SERIAL], **{name: [MAPPED, "--workers", "2", "--executor", name] for name in EXECUTORS}}


@pytest.fixture(scope="module")
def slides(small_slides, planted_slides, tmp_path_factory):
    """Good, blurry and planted slides."""
    folder = tmp_path_factory.mktemp("slides")
    for made in (small_slides, planted_slides):
        shutil.copytree(made, folder, dirs_exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def plain(slides, tmp_path_factory):
    """What pipeline.py leaves of them."""
    import pipeline
    output = tmp_path_factory.mktemp("plain")
    assert pipeline.main(["--folder", str(slides), "--output", str(output)]) == 1
    return output


@pytest.mark.parametrize("way", WAYS)
def test_same_bytes_and_exit_status(way, slides, plain, run, tmp_path):
    done = run(*WAYS[way], "--folder", slides, "--output", tmp_path / "output")
    assert done.returncode == 1 and "3 failed" in done.stdout.splitlines()[-1], done.stderr
    assert files(tmp_path / "output") == files(plain)
    assert done.stdout.count("please rescan") == sum(row["status"] == "rescan" for row in table(plain).values())


@pytest.mark.parametrize("way", [way for way in WAYS if way != "distributed"])
def test_good_slides_alone_exit_0(way, small_slides, run_here):
    """As whole processes they do so, and on a cluster too, where the memory is measured."""
    done = run_here(*WAYS[way], "--folder", small_slides, "--output", "output")
    assert done.returncode == 0 and "3 checked, " in done.stdout and ", 0 failed" in done.stdout, done.stderr


@pytest.fixture(scope="module")
def solutions():
    """The two solutions as modules, as an agent or a worker imports them."""
    from solutions import pipeline_prefect, pipeline_prefect_parallel
    return {"serial": pipeline_prefect, "mapped": pipeline_prefect_parallel}


def test_one_bad_slide_fails_its_own_tasks_and_names_itself(solutions, slides, tmp_path):
    from prefect.engine.state import Failed, Success
    flow = solutions["mapped"].define_flow()
    names = [str(slides / name) for name in ("small-1.svs", "planted-truncated.svs", "small-3.svs")]
    state = flow.run(file_names=names, output=str(tmp_path))
    assert isinstance(state, Failed)
    assert "planted-truncated.svs is truncated" in state.message and "small-1" not in state.message
    for name in ("load_image", "tissue_segmentation_simple", "identifyBlurryRegions", "check_blurry", "save_result"):
        mapped = state.result[flow.get_tasks(name)[0]].map_states
        assert [isinstance(child, Success) for child in mapped] == [True, False, True], name


def test_the_serial_flow_names_the_slide_too(solutions, slides, tmp_path):
    state = solutions["serial"].define_flow().run(file_name=str(slides / "planted-truncated.svs"), output=str(tmp_path))
    assert state.is_failed() and state.message.startswith("planted-truncated.svs is truncated")


def test_nothing_of_prefect_is_replaced(tmp_path):
    """What an attendee's own flow runs on, a solution's does too: settings, runners and executors."""
    program = """
import json, prefect
from prefect import engine, executors
def stock():
    return {"settings": json.dumps(prefect.config.to_dict(), default=str, sort_keys=True),
            **{name: repr(vars(owner)) for owner in (engine.FlowRunner, engine.TaskRunner, executors.DaskExecutor,
                                                     executors.LocalDaskExecutor, executors.LocalExecutor)
               for name in [owner.__qualname__]}, "runner": repr(engine.get_default_flow_runner_class())}
before = stock()
from slideqc.orchestration import flows, servers
from solutions import pipeline_prefect, pipeline_prefect_parallel_server, pipeline_prefect_server
from solutions import pipeline_prefect_parallel as mapped
mapped.define_flow()
print([name for name in before if before[name] != stock()[name]])
names = ("local", "threads", "processes", "distributed")
print([type(mapped.choose_executor(name, 2, None)).__module__ for name in names])
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=HOME, capture_output=True, text=True, check=True,
                          env=environment(tmp_path))
    changed, modules = map(ast.literal_eval, done.stdout.splitlines()[-2:])
    assert changed == [] and modules == ["prefect.executors.local", *["prefect.executors.dask"] * 3]


def test_the_difference_to_the_plain_pipeline_is_the_lesson():
    """The steps are those of pipeline.py, line by line, but for what the README tells to change."""
    plain, flow = ((HOME / name).read_text(encoding="utf-8").splitlines() for name in ("pipeline.py", SERIAL))
    steps = plain[plain.index("logger = logging.getLogger(\"pipeline\")") + 3:]
    steps = steps[:next(number for number, line in enumerate(steps) if line.startswith("def check_slide"))]
    changes = [line for line in difflib.ndiff(steps, flow) if line[0] == "-" and line.strip("- ")]
    assert [line.split()[1] for line in changes] == ["return", "tissue_fraction=tissue.fraction,"], changes


def test_names_of_task_runs(solutions):
    """Each mapped task run is named after its slide; the mapped task itself keeps its name."""
    flow = solutions["mapped"].define_flow()
    given = {"file_names": ["/slides/a.svs", "/slides/b 1.svs"], "image": ValueError("the step before failed")}
    named = {task.name: task.task_run_name for task in flow.tasks if task.task_run_name}
    assert named.keys() == flows.VERBS.keys() == {task.name for task in flow.tasks if isinstance(task, FunctionTask)}
    assert named["load_image"](map_index=1, **given) == "load b 1.svs"
    assert named["load_image"](map_index=None, **given) is None


def test_a_server_that_is_gone_costs_the_artifact_and_not_the_slide(solutions, small_slides, tmp_path, monkeypatch):
    tried = []

    def gone(text):
        tried.append(text)
        raise requests.ConnectionError

    monkeypatch.setattr(flows, "create_markdown_artifact", gone)
    state = solutions["serial"].define_flow().run(file_name=str(small_slides / "small-1.svs"), output=str(tmp_path))
    assert state.is_successful() and "| status | ok |" in tried[0]
    assert [row["status"] for row in results.read_rows(tmp_path)] == ["ok"]


def test_a_step_of_any_flow_writes_the_row_when_it_has_failed_for_good(tmp_path):
    """Once it is not tried again; what follows it adds nothing; the task of another flow is as it was."""
    seen = []

    @task(max_retries=1, retry_delay=timedelta(0))
    def load(file_name: str) -> str:
        seen.append((tmp_path / "a.svs_qc.json").exists())
        raise ValueError("no such luck")

    @task
    def after(image: str, output: str) -> str:
        return image

    with Flow("fails", terminal_state_handler=flows.finish) as flow:
        after(load(Parameter("file_name")), Parameter("output"))
    flows.save_failures(flow)
    state = flow.run(file_name="/slides/a.svs", output=str(tmp_path))
    row, = results.read_rows(tmp_path)
    assert seen == [False, False] and state.message == row["error"] == "a.svs: ValueError: no such luck"
    assert load.state_handlers == []


def test_a_read_error_that_passes_is_tried_again(solutions, small_slides, tmp_path, monkeypatch):
    """A drive may be away for one read: the slide is still checked."""
    from slideqc.slides import reading
    read, calls = reading.read_picture, []

    def hiccup(*arguments):
        calls.append(arguments)
        if len(calls) == 1:
            raise OSError(5, "Input/output error")
        return read(*arguments)

    monkeypatch.setattr(reading, "read_picture", hiccup)
    state = solutions["serial"].define_flow().run(file_name=str(small_slides / "small-1.svs"), output=str(tmp_path))
    assert state.is_successful() and len(calls) > 1


@pytest.mark.parametrize("kind, files_parameter", [("serial", "file_name"), ("mapped", "file_names")])
def test_the_graph_is_the_one_that_the_workshop_draws(solutions, kind, files_parameter):
    flow = solutions[kind].define_flow()
    steps = {task.name for task in flow.tasks} - {parameter.name for parameter in flow.parameters()} - {"case(True)"}
    assert steps == {"load_image", "tissue_segmentation_simple", "identifyBlurryRegions", "check_blurry",
                     "blurry_action", "save_result"}
    assert {parameter.name for parameter in flow.parameters()} == {
        files_parameter, "image_work_size", "blur_work_size", "blur_radius", "blur_threshold", "blur_max", "output"}
    edges = {(edge.upstream_task.name, edge.downstream_task.name): edge for edge in flow.edges}
    assert edges["tissue_segmentation_simple", "identifyBlurryRegions"].key is None
    assert edges["case(True)", "blurry_action"] and edges["load_image", "blurry_action"]
    mapped = {name for (_, name), edge in edges.items() if edge.mapped}
    assert mapped == (steps | {"case(True)"} if kind == "mapped" else set())


def test_flows_serialize(solutions):
    for module in solutions.values():
        assert module.define_flow().serialize()["parameters"]


@pytest.mark.parametrize("script", [SERIAL, MAPPED])
def test_visualize(script, run_here, tmp_path):
    if not shutil.which("dot"):
        pytest.skip("needs the program dot of graphviz")
    done = run_here(script, "--visualize", tmp_path / "flow of mine.png")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "flow of mine.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.glob("flow*")] == ["flow of mine.png"]


@pytest.mark.parametrize("script", [SERIAL, MAPPED])
def test_visualize_without_dot_says_how_to_get_it(script, run_here, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    done = run_here(script, "--visualize", tmp_path / "flow.png")
    assert "apt install graphviz" in one_line(done)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "127.0.0.1:8786", "tcp://127.0.0.1", "tcp://127.0.0.1:x"])
def test_a_scheduler_that_is_not_there(address, small_slides, run_here):
    done = run_here(MAPPED, "--folder", small_slides, "--output", "output", "--executor", "distributed",
                    "--scheduler-address", address)
    assert address in one_line(done) and "dask scheduler" in done.stderr


def test_a_scheduler_that_is_there(small_slides, run, tmp_path):
    """A cluster that was started elsewhere keeps running."""
    from distributed import LocalCluster
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        done = run(MAPPED, "--folder", small_slides, "--output", tmp_path / "output", "--executor", "distributed",
                   "--scheduler-address", cluster.scheduler_address)
        assert done.returncode == 0, done.stderr
        assert cluster.status.name == "running"
    assert len(table(tmp_path / "output")) == 3


@pytest.mark.parametrize("arguments", [["--executor", "cloud"], ["--image-work-size", "0x"], ["--folder", "nowhere"],
                                       ["--scheduler-address", "tcp://127.0.0.1:8786"]])
def test_wrong_commands(arguments, small_slides, run_here):
    done = run_here(MAPPED, "--folder", small_slides, "--output", "output", *arguments)
    assert one_line(done) and done.stdout == ""


@pytest.mark.parametrize("way", WAYS)
def test_40_slides_need_no_more_memory_than_8(way, peaks):
    """But for what Prefect notes of each task: the limit is a third of a picture for a slide."""
    few, many = peaks(*WAYS[way])
    assert many <= 1.08 * few, f"peak of 8 slides {few}, of 40 slides {many}"
