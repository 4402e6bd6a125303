"""The flows leave the same bytes as the plain pipeline, with the same exit status, on every executor."""

import shutil

import pytest

from conftest import files, one_line, table

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
