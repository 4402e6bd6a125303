"""check.py: right flows pass, hints do not give the answer away, a wrong command is told in one line."""

import re
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from check_in_process import Check, answers

from conftest import HOME, one_line, said
from slideqc.checking.steps import STEPS, TASKS

pytest_plugins = ["check_in_process"]  # fixtures

Script = Callable[..., subprocess.CompletedProcess]


# ---- the steps

@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize("step", STEPS)
def test_a_solution_passes_its_step(run: Script, check: Check, step: int, tmp_path: Path):
    """Without a server, and with one, as whole processes; the other steps differ in what these start."""
    call = partial(run, "check.py") if step in (1, 2) else check
    done = call(step, HOME / STEPS[step].solution)
    assert done.returncode == 0, said(done)
    assert f"ok       run {'by an agent' if STEPS[step].server else 'as a script'}, " in said(done)
    assert said(done).splitlines()[-1].startswith("next: ") and "solutions/pipeline_prefect_mapped" not in said(done)
    assert not list(tmp_path.iterdir())
    own = {1: "my_flow_server.py", 4: "my_flow_mapped_server.py"}  # so the file of step 2 is not overwritten
    assert step not in own or f" to {own[step]}, " in said(done)


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize("step", STEPS)
def test_the_plain_pipeline_fails_every_step(check: Check, step: int):
    done = check(step, HOME / "pipeline.py")
    lacks = "registered no flow with the server" if STEPS[step].server else "has no define_flow()"
    assert done.returncode == 1 and f"pipeline.py {lacks}" in said(done)


MAIN = """
if __name__ == "__main__":
    options = flags.parser(__doc__).parse_args()
    run = Run.begin(options)
    flow = define_flow()
    given = {"output": str(options.output)} if "output" in {task.name for task in flow.parameters()} else {}
    flow.run(file_names=run.slides, **given, **flags.parameters(options))
    run.finish()
"""


@pytest.mark.usefixtures("forked")
def test_the_executor_may_be_set_in_define_flow(check: Check, tmp_path: Path):
    """And any executor will do, a cluster too: the file lies in a folder whose name holds a space."""
    script = tmp_path / "my flows" / "my-flow.py"
    script.parent.mkdir()
    script.write_text("from prefect.executors import DaskExecutor\n"
                      "from slideqc import flags\n"
                      "from slideqc.output.run import Run\n"
                      "from solutions.pipeline_prefect_parallel import define_flow as right\n\n"
                      "def define_flow():\n"
                      "    flow = right()\n"
                      "    flow.executor = DaskExecutor(cluster_kwargs={'n_workers': 1, 'processes': False,\n"
                      "                                                 'dashboard_address': None})\n"
                      f"    return flow\n{MAIN}", encoding="utf-8")
    done = check(4, script)
    assert done.returncode == 0 and "with your DaskExecutor: " in said(done), said(done)
    assert "LocalDaskExecutor(threads)" in said(done) and "LocalDaskExecutor(processes)" in said(done)


MINE = """
def rescan(image, percent_blurry, blur_max):
    too_blurry = check_blurry(percent_blurry, blur_max)
    with case(too_blurry, True):
        blurry_action(image, percent_blurry)
    return too_blurry


def define_flow():
    with Flow("mine") as flow:
        size = unmapped(Parameter("image_work_size"))
        image = load_image.map(Parameter("file_names"), size)
        tissue = tissue_segmentation_simple.map(image, size)
        percent_blurry = identifyBlurryRegions.map(
            image, size, unmapped(Parameter("blur_work_size")), unmapped(Parameter("blur_radius")),
            unmapped(Parameter("blur_threshold")), upstream_tasks=[tissue])
        too_blurry = apply_map(rescan, image, percent_blurry, unmapped(Parameter("blur_max", default=0.1)))
        save_result.map(image, size, tissue, percent_blurry, too_blurry)
    flow.executor = LocalDaskExecutor(scheduler="processes", num_workers=2)
    return flow
"""


@pytest.mark.usefixtures("forked")
def test_a_flow_made_in_a_copy_of_the_pipeline(check: Check, tmp_path: Path):
    """As attendees do it: @task above the functions, here without a parameter `output`, in a folder elsewhere.

    On threads and on processes, what it writes by default does not land in output/.
    """
    plain, _ = (HOME / "pipeline.py").read_text(encoding="utf-8").split("def check_slide(")
    steps = re.sub(f"^def ({'|'.join((*TASKS, 'save_result'))})", r"@task\ndef \1", plain, flags=re.MULTILINE)
    steps = steps.replace("logger.warning", 'prefect.context.get("logger").warning')
    script = tmp_path / "my_flow.py"
    script.write_text("import prefect\nfrom prefect import Flow, Parameter, apply_map, case, task, unmapped\n"
                      f"from prefect.executors import LocalDaskExecutor\n{steps}\n{MINE}\n{MAIN}", encoding="utf-8")
    done = check(4, script)
    assert done.returncode == 0, said(done)
    assert "with your LocalDaskExecutor (processes)" in said(done) and "LocalDaskExecutor(threads)" in said(done)
    for name in ("sharp.svs", "partly-blurry.svs"):
        assert not list((HOME / "output").glob(f"{name}*"))


@pytest.mark.usefixtures("forked")
def test_a_folder_of_the_script_s_own_stays(check: Check, tmp_path: Path):
    """The check renames the output folder of a run, and must not rename a folder that the script has set."""
    (tmp_path / "mine").mkdir()
    script = tmp_path / "my_flow.py"
    script.write_text("from slideqc import flags\nflags.DATA = flags.OUTPUT = flags.Path(__file__).parent / 'mine'\n"
                      "from solutions.pipeline_prefect import define_flow, main\n"
                      "if __name__ == '__main__': main()\n", encoding="utf-8")
    done = check(1, script)
    assert f"copy {script} to {tmp_path / 'my_flow_server.py'}, send" in said(done)
    assert done.returncode == 0 and (tmp_path / "mine").is_dir(), said(done)


def test_a_name_that_hides_a_module(check: Check, tmp_path: Path):
    script = tmp_path / "prefect.py"
    script.write_text("def define_flow(): pass\n", encoding="utf-8")
    done = check(1, script)
    assert done.returncode == 1 and "hides the module prefect" in said(done)


# ---- the hints, and the answer

@pytest.mark.parametrize("step", STEPS)
def test_each_step_has_hints_that_are_not_the_answer(check: Check, step: int):
    done = check(step, "--hints")
    lines = said(done).splitlines()
    assert done.returncode == 0 and len(lines) == len(STEPS[step].hints) >= 3
    assert all(line.startswith(f"step {step}, hint {number}: ") for number, line in enumerate(lines, 1))
    assert len(answers(step)) > 3
    assert not any(answer in line for answer in answers(step) for line in lines)
    assert said(check(step, "--hint", 2)).splitlines() == lines[1:2]
    assert f"hints 1 to {len(lines)}" in one_line(check(step, "--hint", len(lines) + 1))


@pytest.mark.parametrize("step", STEPS)
def test_the_answer_is_shown_to_who_asks(check: Check, step: int):
    done = check(step, "--show")
    assert done.returncode == 0 and done.stdout == (HOME / STEPS[step].solution).read_text(encoding="utf-8")


@pytest.mark.parametrize(("arguments", "told"), [
    (["6", "my_flow.py"], "there is no step 6: see the README"),
    (["setpu"], "there is no step setpu (perhaps setup?)"),
    (["my_flow.py"], "which step is my_flow.py for? python check.py 1 my_flow.py"),
    ([], "what is to be checked? python check.py setup, or python check.py 1 my_flow.py"),
    (["1"], "which script? python check.py 1 my_flow.py"),
    (["1", "--timeout", "9", "no_such_file.py"], "there is no file no_such_file.py: python check.py 1 and the path"),
    (["1", "--hnit", "3"], "there is no flag --hnit (perhaps --hint?); check.py --help explains"),
    (["1", "--hin"], "there is no flag --hin (perhaps --hint?); check.py --help explains"),
    (["1", "--hint", "x"], "--hint: 'x' is no number; check.py --help explains"),
    (["1", HOME / "pipeline.py", "--timeout", "-1"], "--timeout takes a number of seconds, above 0 and up to a day"),
    (["setup", "--nonsense"], "there is no flag --nonsense; check.py --help explains"),
])
def test_a_wrong_command_is_told_in_one_line(check: Check, arguments: list, told: str):
    assert one_line(check(*arguments)).startswith(f"check.py: {told}")
