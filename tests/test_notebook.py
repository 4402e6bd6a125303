"""The hello-world notebook, run whole where its own install cell set things up, before and after the answers.

What the notebook promises in comments is compared with what it gives. Comments that are values stand, in cells that are
no exercise,
- on the cell's last line, an expression: its repr;
- on a `print(...)` of the cell's own: the line printed;
- on an assignment inside `with Flow(...)`: the repr of that task's result in `state`, the run of the same cell;
- on a `logger.…(...)` inside a task: the end of the line logged.
"""

import ast
import copy
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import NamedTuple

import nbformat
import packaging
import pytest
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode
from packaging.requirements import Requirement

from conftest import HOME

NOTEBOOK = nbformat.read(HOME / "PrefectHelloWorld.ipynb", as_version=4)
EXERCISES = ["flow", "states", "parameters", "logging", "mapping", "case", "retries", "drawing", "tissue"]
CHECKS = [f"check-{name}" for name in EXERCISES]
MACHINES_NUMPY = "2.2.6"  # older than the newest, so that an install cell that upgraded it would be noticed
MACHINES_OWN = ["ipykernel", "matplotlib", "scikit-image"]  # as Colab has them, with all that they need
# Most modules are never imported. Of its options that begin with "no", pip wants the opposite in the environment.
COMPILED_LATER = {"PIP_NO_COMPILE": "0", "PYTHONDONTWRITEBYTECODE": ""}
READY = r"Ready: Prefect 1\.4\.1, Python 3\.\d+\.\d+, numpy "


class Room(NamedTuple):
    """An environment that the notebook set up, and what it gave there."""
    python: Path
    before: dict[str, str]       # versions by package: the machine's own
    installed: dict[str, str]    # and after the first run
    in_the_end: dict[str, str]   # and after the second one
    as_stored: NotebookNode
    answered: NotebookNode       # ends with the install cell once more


class Only(KernelSpecManager):
    """Knows one kernel: the given interpreter's."""

    def __init__(self, python: Path) -> None:
        super().__init__()
        self.python = python

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return KernelSpec(argv=[str(self.python), "-m", "ipykernel_launcher", "-f", "{connection_file}"],
                          display_name=kernel_name, language="python")


def tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def ids(notebook: NotebookNode) -> list[str]:
    return [cell.id for cell in notebook.cells]


def cell(notebook: NotebookNode, name: str) -> NotebookNode:
    return next(cell for cell in notebook.cells if cell.id == name)


def answer(name: str) -> str:
    """The code of the folded answer."""
    block, = re.findall(r"^```python\n(.*?)\n```$", cell(NOTEBOOK, f"answer-{name}").source, re.DOTALL | re.MULTILINE)
    return block


def run(python: Path, notebook: NotebookNode, folder: Path, *, allow_errors: bool = False,
        **extra: str) -> NotebookNode:
    """Run a copy of the notebook with the kernel of `python`, in an empty folder; returns it with its outputs."""
    done = copy.deepcopy(notebook)
    folder.mkdir(exist_ok=True)
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=Only(python))
    nothing = {"PREFECT__USER_CONFIG_PATH": str(folder / "no-settings.toml"), "PYTHONPATH": "", "MPLBACKEND": ""}
    client = NotebookClient(done, km=manager, timeout=600, allow_errors=allow_errors,
                            resources={"metadata": {"path": str(folder)}})
    client.execute(env=os.environ | nothing | COMPILED_LATER | extra)
    return done


def versions(python: Path) -> dict[str, str]:
    done = subprocess.run([python, "-m", "pip", "freeze", "--all"], capture_output=True, text=True, check=True)
    return dict(line.split("==") for line in done.stdout.split())


def answered() -> NotebookNode:
    """The notebook with every exercise done, and the install cell once more at its end."""
    notebook = copy.deepcopy(NOTEBOOK)
    for name in EXERCISES:
        cell(notebook, f"turn-{name}").source = answer(name)
    again = copy.deepcopy(cell(notebook, "install"))
    again.id = "install-again"
    notebook.cells.append(again)
    return with_results(notebook)


def with_results(notebook: NotebookNode) -> NotebookNode:
    """Add to each example that promises results of tasks a cell that shows them."""
    cells = []
    for each in notebook.cells:
        cells.append(each)
        if names := [name for kind, name, _ in promises(each) if kind == "task"]:
            shown = ", ".join(f"{name!r}: state.result[{name}].result" for name in names)
            cells.append(nbformat.v4.new_code_cell(f"{{{shown}}}", id=f"results-{each.id}"))
    return nbformat.from_dict({**notebook, "cells": cells})


def promises(each: NotebookNode) -> Iterator[tuple[str, str, str]]:
    """What the comments of a cell promise: (kind, name of the task or nothing, value)."""
    if each.cell_type != "code" or {"your-turn", "check"} & set(tags(each)):
        return
    lines = each.source.splitlines()
    body = ast.parse(each.source).body
    for node in ast.walk(ast.Module(body, [])):
        if not isinstance(node, ast.Expr | ast.Assign):
            continue
        comment = re.fullmatch(r"\s*# (.+)", lines[node.end_lineno - 1].encode()[node.end_col_offset:].decode())
        if not comment:
            continue
        code = ast.unparse(node)
        if isinstance(node, ast.Assign):
            flows = [flow for flow in body if isinstance(flow, ast.With) and node in flow.body]
            if flows and re.match(r"[\d\['\"]", comment[1]):
                yield "task", code.partition(" = ")[0], comment[1]
        elif code.startswith("print("):
            yield "printed", "", comment[1]
        elif code.startswith("logger."):
            yield "logged", "", comment[1]
        elif node is body[-1]:
            yield "value", "", comment[1]


def printed(each: NotebookNode) -> str:
    return "".join(output.text for output in each.outputs if output.output_type == "stream")


def value(each: NotebookNode) -> str | None:
    return next((output.data["text/plain"] for output in each.outputs if output.output_type == "execute_result"), None)


def errors(notebook: NotebookNode) -> dict[str, NotebookNode]:
    """The error of each cell that had one."""
    return {each.id: output for each in notebook.cells for output in each.get("outputs", [])
            if output.output_type == "error"}


def copy_packages(names: list[str], to: Path) -> None:
    """Copy packages, and what they need, from the Python of the tests: pip takes 15 s for it. But for numpy."""
    done, left = {"numpy"}, list(names)
    while left:
        if (name := left.pop().lower()) in done:
            continue
        done.add(name)
        package = distribution(name)
        for file in package.files:
            if ".." not in file.parts:  # as those in bin/ are
                (to / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file.locate(), to / file)
        needed = [Requirement(line) for line in package.requires or []]
        left += [need.name for need in needed if not need.marker or need.marker.evaluate({"extra": ""})]


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Room:
    """The notebook, run twice in a new environment: as it stands, then with the exercises done.

    On the Python of the tests: .github/workflows runs them on each of the workshop's Pythons.
    """
    folder = tmp_path_factory.mktemp("room")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    copy_packages(MACHINES_OWN, Path(subprocess.check_output([python, "-c", where], text=True).strip()))
    subprocess.run([python, "-m", "pip", "install", "--quiet", f"numpy=={MACHINES_NUMPY}"], check=True,
                   env=os.environ | COMPILED_LATER)
    subprocess.run([python, "-m", "pip", "check"], check=True)
    before = versions(python)
    as_stored = run(python, NOTEBOOK, folder / "first", allow_errors=True)
    installed = versions(python)
    second = run(python, answered(), folder / "second", allow_errors=True)
    return Room(python, before, installed, versions(python), as_stored, second)


def test_it_is_stored_without_outputs_and_valid():
    nbformat.validate(NOTEBOOK)
    assert (NOTEBOOK.nbformat, NOTEBOOK.nbformat_minor) == (4, 5)
    assert NOTEBOOK.metadata.kernelspec.name == "python3"
    assert len(set(ids(NOTEBOOK))) == len(NOTEBOOK.cells)
    for each in NOTEBOOK.cells:
        assert each.source.strip(), each.id
        if each.cell_type == "code":
            assert each.outputs == [] and each.execution_count is None, each.id


def test_every_exercise_has_a_check_a_hint_and_a_folded_answer():
    order = ids(NOTEBOOK)
    assert [each.id for each in NOTEBOOK.cells if "your-turn" in tags(each)] == [f"turn-{name}" for name in EXERCISES]
    assert [each.id for each in NOTEBOOK.cells if "check" in tags(each)] == CHECKS
    assert [each.id for each in NOTEBOOK.cells if "answer" in tags(each)] == [f"answer-{name}" for name in EXERCISES]
    for name in EXERCISES:
        first = order.index(f"task-{name}")
        assert order[first:first + 4] == [f"{kind}-{name}" for kind in ("task", "turn", "check", "answer")]
        folded = cell(NOTEBOOK, f"answer-{name}").source
        assert folded.startswith("<details>\n<summary>") and folded.endswith("\n\n</details>"), "blank lines: markdown"
        assert answer(name) != cell(NOTEBOOK, f"turn-{name}").source


def test_as_it_stands_only_the_checks_complain_and_say_what_to_do(room: Room):
    complaints = errors(room.as_stored)
    assert [*complaints] == CHECKS
    for name, error in complaints.items():
        assert error.ename == "AssertionError", (name, error.evalue)
        assert re.fullmatch(r"Tried: +.+\nCame back: .+\nExpected: +.+\nHint: +.+", error.evalue), (name, error.evalue)
        assert error.traceback[0] == "Not yet." and len(error.traceback) == 5, "no traceback, only the words"


def test_with_the_answers_everything_passes(room: Room):
    assert errors(room.answered) == {}
    for name in CHECKS:
        calls = cell(NOTEBOOK, name).source.count("expect(")
        assert len(re.findall("^Right: ", printed(cell(room.answered, name)), re.MULTILINE)) == calls, name


def test_the_comments_tell_the_truth(room: Room):
    seen = []
    for each in room.answered.cells:
        for kind, name, promised in promises(each):
            where = f"{each.id}: {kind} {name} # {promised}"
            if kind == "task":
                results = ast.literal_eval(value(cell(room.answered, f"results-{each.id}")))
                assert repr(results[name]) == promised, where
            elif kind == "value":
                assert value(each) == promised, where
            elif kind == "printed":
                assert promised in printed(each).splitlines(), where
            else:
                assert any(line.endswith(f"| {promised}") for line in printed(each).splitlines()), where
            seen.append((each.id, kind))
    assert {kind for _, kind in seen} == {"task", "value", "printed", "logged"}
    examples = {each.id for each in NOTEBOOK.cells if each.id.startswith("example-")}
    assert examples == {name for name, _ in seen}, "every example says what to expect"


def test_the_log_stays_readable(room: Room):
    for each in room.answered.cells:
        if each.cell_type == "code":
            text = printed(each)
            assert "Traceback" not in text and "Warning" not in text, (each.id, text)
            assert len(text.splitlines()) <= 20, (each.id, text)
            assert all(output.get("name") != "stderr" for output in each.outputs), each.id


def test_the_picture_is_shown_beside_its_mask(room: Room):
    output, = cell(room.answered, "look").outputs
    assert output.output_type == "display_data" and output.data["image/png"]


def test_the_install_cell_leaves_the_machines_own_packages_alone(room: Room):
    assert room.before["numpy"] == MACHINES_NUMPY
    assert "prefect" not in room.before and room.installed["prefect"] == "1.4.1"
    assert {name: room.installed.get(name) for name in room.before} == room.before


def test_the_install_cell_is_quiet_and_may_run_again(room: Room):
    assert room.in_the_end == room.installed
    for notebook, name in [(room.as_stored, "install"), (room.answered, "install"), (room.answered, "install-again")]:
        output, = cell(notebook, name).outputs
        assert re.fullmatch(READY + re.escape(MACHINES_NUMPY) + r"\n", output.text), output
        assert output.name == "stdout"


def test_when_all_is_there_the_install_cell_does_not_call_pip(room: Room, tmp_path: Path):
    no_pip = nbformat.v4.new_code_cell("""
import subprocess
any_command = subprocess.run
def run(command, **options):
    assert "pip" not in command
    return any_command(command, **options)
subprocess.run = run
""")
    alone = nbformat.v4.new_notebook(cells=[no_pip, copy.deepcopy(cell(NOTEBOOK, "install"))])
    assert re.match(READY, printed(run(room.python, alone, tmp_path).cells[-1]))


def test_when_pip_fails_the_install_cell_says_so(tmp_path: Path):
    """In an environment without pip, as uv makes them, and with the one package that every Jupyter kernel has."""
    only, bare = tmp_path / "only", tmp_path / "venv"
    shutil.copytree(Path(packaging.__file__).parent, only / "packaging")
    venv.create(bare, with_pip=False)
    python = bare / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    done = subprocess.run([python, "-c", cell(NOTEBOOK, "install").source], capture_output=True, text=True, timeout=300,
                          env=os.environ | {"PYTHONPATH": str(only)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("pip could not install Prefect. It said:\n") and "No module named pip" in done.stdout


def drawing() -> NotebookNode:
    """The part that draws, by itself."""
    parts = [copy.deepcopy(cell(NOTEBOOK, name)) for name in ("install", "helpers", "example-drawing")]
    return nbformat.v4.new_notebook(cells=parts)


def test_without_dot_the_flow_is_told_in_words(room: Room, tmp_path: Path):
    folders = [folder for folder in os.environ["PATH"].split(os.pathsep) if not shutil.which("dot", path=folder)]
    told = run(room.python, drawing(), tmp_path, PATH=os.pathsep.join(folders)).cells[-1]
    assert value(told) is None
    assert printed(told).split("\n\n", 1)[1].splitlines() == [
        "file_name", "  → load (file_name)",
        "load", "  → measure (image)", "  → segment (image)",
        "segment", "  → measure (tissue)",
        "measure"]


def test_with_dot_the_flow_is_drawn(room: Room, tmp_path: Path):
    path = os.environ["PATH"]
    if not shutil.which("dot"):
        if os.name == "nt":
            pytest.skip("needs Graphviz's dot on the PATH")
        stand_in = tmp_path / "bin" / "dot"  # takes the graph, and gives a picture, as the real one does
        stand_in.parent.mkdir()
        stand_in.write_text("#!/bin/sh\ncat >graph.txt\necho '<svg xmlns=\"http://www.w3.org/2000/svg\"/>'\n")
        stand_in.chmod(0o755)
        path = f"{stand_in.parent}{os.pathsep}{path}"
    drawn = run(room.python, drawing(), tmp_path / "run", PATH=path).cells[-1]
    picture, = (output for output in drawn.outputs if output.output_type == "execute_result")
    assert "<svg" in picture.data["image/svg+xml"]
    assert printed(drawn) == "4 tasks and 4 edges\n"
