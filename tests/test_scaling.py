"""Beyond one machine: a scheduler and two workers in separate folders share only files and addresses."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from conftest import HOME, environment, files, table

pytestmark = pytest.mark.skipif(os.name == "nt", reason="ends processes as POSIX systems do")

MAPPED = "solutions/pipeline_prefect_parallel.py"
GUIDE = (HOME / "docs" / "scaling.md").read_text(encoding="utf-8")
SLIDES = 40
PATIENCE = 180    # seconds, for what takes a few on an idle machine


class Cluster:
    """The scheduler and the workers, as the guide starts them: all they know of the flow is on their Python path."""

    def __init__(self, base: Path) -> None:
        self.base = base
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.processes = {}
        self.start("scheduler", "scheduler", "--host", "127.0.0.1", "--port", self.port, "--no-dashboard")
        self.wait_for(self.listens, "the scheduler does not listen")
        for name in ("one", "two"):
            self.start(name, "worker", self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard")
        self.wait_for(lambda: self.said("scheduler").count("Register worker") == 2, "the workers do not register")

    def start(self, name: str, *arguments: object) -> None:
        """Start one of them, in a folder of its own, with its log in it."""
        folder = self.base / name
        folder.mkdir()
        env = environment(folder) | {"PYTHONPATH": str(HOME)}
        with (folder / "log").open("wb") as log:
            self.processes[name] = subprocess.Popen([sys.executable, "-m", "dask", *map(str, arguments)], cwd=folder,
                                                    env=env, stdout=log, stderr=log)

    def listens(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def said(self, name: str) -> str:
        return (self.base / name / "log").read_text(encoding="utf-8", errors="replace")

    def kill(self, name: str) -> None:
        """As kill -9 does."""
        self.processes[name].send_signal(signal.SIGKILL)
        self.processes[name].wait(PATIENCE)

    @staticmethod
    def wait_for(condition: Callable[[], object], otherwise: str) -> None:
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, otherwise
            time.sleep(0.02)

    def close(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
                process.wait(PATIENCE)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    """The one that stays whole."""
    started = Cluster(tmp_path_factory.mktemp("cluster"))
    yield started
    started.close()


@pytest.fixture
def doomed(tmp_path: Path) -> Iterator[Cluster]:
    """One of which a test ends a part."""
    base = tmp_path / "cluster"
    base.mkdir()
    started = Cluster(base)
    yield started
    started.close()


@pytest.fixture(scope="module")
def slides(small_slides, tmp_path_factory):
    """Three slides under forty names: enough for a test to interrupt the run in the middle."""
    folder = tmp_path_factory.mktemp("forty")
    for number in range(SLIDES):
        os.link(small_slides / f"small-{number % 3 + 1}.svs", folder / f"slide-{number:02}.svs")
    return folder


@pytest.fixture(scope="module")
def plain(slides, tmp_path_factory):
    """What pipeline.py leaves of them."""
    import pipeline
    output = tmp_path_factory.mktemp("plain")
    assert pipeline.main(["--folder", str(slides), "--output", str(output)]) == 0
    return output


@pytest.fixture
def started(doomed, slides, tmp_path) -> Iterator[Callable[[], tuple]]:
    """The mapped flow on the cluster, after its first result."""
    output = tmp_path / "output"
    with (tmp_path / "said").open("wb") as said, (tmp_path / "complained").open("wb") as complained:
        process = subprocess.Popen([sys.executable, HOME / MAPPED, "--folder", slides, "--output", output,
                                    "--executor", "distributed", "--scheduler-address", doomed.address],
                                   cwd=tmp_path, env=environment(tmp_path), stdout=said, stderr=complained)
    doomed.wait_for(lambda: list(output.glob("*_tissue_seg.png")), "no result came")
    yield process
    if process.poll() is None:
        process.kill()
        process.wait(PATIENCE)


def test_a_killed_worker_costs_a_recomputation(doomed, started, plain, tmp_path):
    doomed.kill("one")
    assert len(list((tmp_path / "output").glob("*_qc.json"))) < SLIDES, "too late to be in the middle"
    assert started.wait(PATIENCE) == 0, (tmp_path / "complained").read_text()
    assert files(tmp_path / "output") == files(plain)
    assert "Traceback" not in (tmp_path / "said").read_text() + (tmp_path / "complained").read_text()


def test_a_lost_scheduler_is_one_line(doomed, started, tmp_path):
    doomed.kill("scheduler")
    assert started.wait(PATIENCE) == 1  # Dask itself tries again for 30 s
    complained, said = (tmp_path / "complained").read_text(), (tmp_path / "said").read_text()
    assert len(complained.splitlines()) == 1 and doomed.address in complained and "broke off" in complained
    assert "Traceback" not in said, said[-5000:]
    rows = table(tmp_path / "output").values()
    unchecked = [row for row in rows if row["status"] == "failed"]
    assert len(rows) == SLIDES and unchecked
    assert all(row["error"] == f"{row['file_name']} was not checked: its run broke off" for row in unchecked)
    assert not list((tmp_path / "output").glob(".*.part"))


def test_the_report_takes_no_more_memory_for_the_pictures_of_many_slides(tmp_path):
    import tracemalloc

    import numpy as np

    from slideqc.output import drawing, results
    noise = np.random.default_rng(1).integers(0, 256, (300, 420, 3), np.uint8)
    overlay = drawing.encode("overlay.jpg", noise, (noise, noise))
    for number in range(200):
        (tmp_path / f"{number}.svs_overlay.jpg").write_bytes(overlay)
        results.save_row(tmp_path, f"{number}.svs", "ok", base_mag=20, width=420, height=300, tissue_fraction=1,
                         percent_blurry=0)
    tracemalloc.start()
    try:
        results.assemble(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 3_000_000, "the pictures of all rows are in memory at once"
    finally:
        tracemalloc.stop()
    assert (tmp_path / "report.html").stat().st_size > 200 * 50_000


def test_batches_leave_the_same_bytes(slides, plain, tmp_path):
    """As the guide has it, with batches of 15 slides instead of 100."""
    (block,) = [block for block in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL) if "results.assemble" in block]
    output = tmp_path / "output"
    output.mkdir()
    program = f"slides = {sorted(map(str, slides.glob('*.svs')))!r}\n" + block
    for shown, here in (("100", "15"), ("/shared/output", str(output))):
        assert shown in program
        program = program.replace(shown, here)
    done = subprocess.run([sys.executable, "-c", program], cwd=HOME, capture_output=True, text=True,
                          env=environment(tmp_path), timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    assert done.stdout.count("Flow run SUCCESS") == 3
    assert files(output) == files(plain)


def test_the_guide_s_commands_leave_the_same_bytes_on_workers_elsewhere(cluster, slides, plain, tmp_path):
    """The flow's, on the cluster of this file, which starts the programs that the blocks marked console name."""
    blocks = re.findall(r"```sh\n(.*?)```", GUIDE.replace("\\\n", " "), re.DOTALL)
    commands = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    flows = [command for command in commands if command[:2] == ["python", MAPPED]]
    assert flows and flows == commands
    for number, command in enumerate(flows):
        output = tmp_path / str(number)
        here = {"/shared/slides": str(slides), "/shared/output": str(output), "tcp://192.168.0.7:8786": cluster.address}
        done = subprocess.run([sys.executable, *(here.get(word, word) for word in command[1:])], cwd=HOME,
                              capture_output=True, text=True, env=environment(tmp_path), timeout=300)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr
        assert files(output) == files(plain)
    for name in ("one", "two"):
        assert "save_result" in cluster.said(name), f"the worker {name} had no part in it"
