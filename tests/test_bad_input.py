"""Every kind of bad input: what a user gets for it, and never a traceback."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import pipeline
from conftest import HOME, LISTENING, environment, files, one_line, table

SCRIPTS = ["pipeline.py", "pipeline_parallel.py"]
GENEROUS = 120  # seconds, for what takes a few on an idle machine


def planted_output(script, run, folder, output):
    done = run(script, "--folder", folder, "--output", output)
    assert "Traceback" not in done.stderr + done.stdout
    return done


@pytest.fixture(scope="module")
def planted(tmp_path_factory, small_slides, planted_slides):
    """The awkward slides, a good one among them."""
    folder = tmp_path_factory.mktemp("awkward")
    shutil.copytree(planted_slides, folder, dirs_exist_ok=True)
    shutil.copy(small_slides / "small-1.svs", folder / "good.svs")
    (folder / "planted-empty.svs").write_bytes(b"")
    (folder / "planted-text.svs").write_text("scanned on Monday")
    return folder


@pytest.fixture(scope="module")
def rows(planted, tmp_path_factory):
    """The table of one run over them."""
    import pipeline
    output = tmp_path_factory.mktemp("output")
    assert pipeline.main(["--folder", str(planted), "--output", str(output)]) == 1
    return table(output)


@pytest.mark.parametrize("name, words", [
    ("planted-truncated.svs", "truncated"),
    ("planted-empty.svs", "is empty (0 bytes)"),
    ("planted-text.svs", "is not a slide"),
    ("planted-no-magnification.svs", "openslide.objective-power"),
    ("planted-no-magnification.svs", "--image-work-size 1/16"),
    ("planted-damaged-tile.svs", "cannot be read"),
])
def test_failed_rows_say_why(rows, name, words):
    row = rows[name]
    assert row["status"] == "failed" and row["percent_blurry"] == ""
    assert row["error"].startswith(name) and words in row["error"] and "\n" not in row["error"]


def test_blank_glass_has_no_tissue(rows):
    row = rows["planted-blank.svs"]
    assert (row["status"], row["percent_blurry"], row["error"]) == ("no_tissue", "", "")
    assert "no tissue" in row["warnings"] and row["tissue_fraction"] == "0.000000"


def test_pixel_size_alone_is_enough(rows):
    row = rows["planted-only-pixel-size.svs"]
    assert row["status"] in ("ok", "rescan") and float(row["base_mag"]) == pytest.approx(20, rel=0.01)
    assert "µm/px" in row["warnings"]


def test_unscanned_corner_is_no_tissue(rows):
    row = rows["planted-unscanned-corner.svs"]
    assert row["status"] in ("ok", "rescan") and 0.05 < float(row["tissue_fraction"]) < 0.75


def test_the_good_slide_went_on(rows):
    assert rows["good.svs"]["status"] == "ok"


def test_parallel_gives_the_same(planted, run, tmp_path):
    serial, parallel = (planted_output(script, run, planted, tmp_path / script) for script in SCRIPTS)
    assert serial.returncode == parallel.returncode == 1
    assert files(tmp_path / SCRIPTS[0]) == files(tmp_path / SCRIPTS[1])


@pytest.mark.parametrize("script", SCRIPTS)
def test_blank_slide_alone_is_no_failure(script, planted, run, tmp_path):
    shutil.copy(planted / "planted-blank.svs", tmp_path)
    assert planted_output(script, run, tmp_path, tmp_path / "output").returncode == 0


@pytest.mark.parametrize("script", SCRIPTS)
def test_working_size_above_the_slides(script, small_slides, run, tmp_path):
    done = run(script, "--folder", small_slides, "--output", tmp_path / "output", "--image-work-size", "40x")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    for name, row in table(tmp_path / "output").items():
        assert row["status"] == "failed" and name in row["error"] and "40x" in row["error"] and "20x" in row["error"]


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("arguments, words", [
    (["--image-work-size", "0x"], "not a working size"),
    (["--image-work-size=-1x"], "not a working size"),
    (["--image-work-size", "-1x"], "--image-work-size"),
    (["--image-work-size", "abc"], "not a working size"),
    (["--blur-radius", "0"], "--blur-radius"),
    (["--blur-threshold", "-1"], "--blur-threshold"),
    (["--blur-max", "5"], "from 0 to 1"),
    (["--blur-max", "many"], "--blur-max"),
    (["--workerz", "2"], "--workerz"),
    (["--folder", "no-such-folder"], "get_data.py"),
    (["--folder", "."], "no slide *.svs"),
    (["--filetype", "ndpi"], "no slide *.ndpi"),
    (["--output", "file/output"], "--output"),
])
def test_wrong_commands(script, arguments, words, small_slides, run_here, tmp_path):
    (tmp_path / "file").write_text("in the way")
    good = [] if "--folder" in arguments else ["--folder", str(small_slides)]
    done = run_here(script, *good, *arguments)
    assert words in one_line(done) and done.stdout == ""


def test_workers_from_one(small_slides, run_here):
    for number in ("0", "-2", "two"):
        assert one_line(run_here("pipeline_parallel.py", "--folder", small_slides, f"--workers={number}"))


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[bool]:
    """Mount a file system in memory there, if this user may."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    allowed = os.name != "nt" and os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
    try:
        yield allowed
    finally:
        if allowed:
            subprocess.run(["umount", folder], check=True)


def small_files_only() -> None:
    """Stands for a full disk where mounting is not allowed: files end at 4 kB."""
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))


@pytest.mark.skipif(os.name == "nt", reason="neither small disks nor limits for files on this system")
@pytest.mark.parametrize("script", SCRIPTS)
def test_full_disk(script, small_slides, run, tmp_path):
    with mounted(tmp_path / "full", "size=64k") as small:
        limit = {} if small else {"preexec_fn": small_files_only}
        done = run(script, "--folder", small_slides, "--output", tmp_path / "full", **limit)
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert len(done.stderr.splitlines()) == 1 and "--output" in done.stderr
        assert ("No space left" if small else "File too large") in done.stderr
        for path in (tmp_path / "full").iterdir():
            assert path.suffix != ".part" and path.stat().st_size


def test_one_picture_that_cannot_be_written(small_slides, tmp_path):
    """A drive may be away for a moment. The run goes on."""
    (tmp_path / "small-1.svs_blurry.png" / "in the way").mkdir(parents=True)
    rows = [pipeline.check_slide(str(small_slides / f"small-{number}.svs"), "1.25x", "5x", 7, 0.05, 0.1, str(tmp_path))
            for number in (1, 3)]
    assert [row["status"] for row in rows] == ["failed", "ok"]
    assert rows[0]["error"].startswith("cannot write small-1.svs_blurry.png (")


@pytest.mark.skipif(os.name == "nt", reason="no name is so long there")
@pytest.mark.parametrize("bytes_long", [244, 255])  # which is the most: first the pictures', then the row's is too long
@pytest.mark.parametrize("script", [*SCRIPTS, "solutions/pipeline_prefect.py"])
def test_name_that_the_output_does_not_take(script, bytes_long, small_slides, run, tmp_path):
    long = f"{'x' * (bytes_long - 4)}.svs"
    (tmp_path / "slides").mkdir()
    shutil.copy(small_slides / "small-1.svs", tmp_path / "slides" / long)
    shutil.copy(small_slides / "small-3.svs", tmp_path / "slides")
    done = run(script, "--folder", tmp_path / "slides", "--output", tmp_path / "output")
    assert done.returncode == 1 and done.stderr == ""
    good, failed = table(tmp_path / "output").values()
    assert good["status"] == "ok" and failed["file_name"] == long and "shorter name" in failed["error"]


@pytest.mark.skipif(os.name == "nt", reason="folders are made read-only in another way on this system")
@pytest.mark.parametrize("script", SCRIPTS)
def test_unwritable_output(script, small_slides, run, tmp_path):
    with mounted(tmp_path / "locked", "ro") as read_only:
        if not read_only:
            (tmp_path / "locked").chmod(0o500)
        done = run(script, "--folder", small_slides, "--output", tmp_path / "locked")
        assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "--output" in done.stderr


@pytest.fixture
def long_run(real_slide, tmp_path):
    """Start a script on eight slides at full magnification; returns once the first is checked."""
    folder = tmp_path / "slides"
    folder.mkdir()
    for number in range(8):
        shutil.copy(real_slide, folder / f"slide-{number:02}.svs")
    started = []

    def start(script: str, *arguments: str) -> tuple[subprocess.Popen, Path]:
        output = tmp_path / "output"
        process = subprocess.Popen(
            [sys.executable, HOME / script, "--folder", folder, "--output", output,
             "--image-work-size", "20x", *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment(tmp_path),
            **LISTENING)
        started.append(process)
        end = time.monotonic() + GENEROUS
        while not list(output.glob("*_qc.json")):
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.02)
        return process, output
    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.skipif(os.name == "nt", reason="signals as a terminal sends them are POSIX")
@pytest.mark.parametrize("script", SCRIPTS)
def test_ctrl_c(script, long_run):
    process, output = long_run(script)
    workers = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the whole group
    _, stderr = process.communicate(timeout=GENEROUS)
    assert process.returncode == 130
    assert stderr.splitlines() == [f"{script}: stopped: the slides checked so far have their rows, "
                                   "the table was not written"]
    assert not psutil.wait_procs(workers, timeout=GENEROUS)[1]
    assert not (output / "results.csv").exists()


@pytest.mark.skipif(os.name == "nt", reason="kill -9 is POSIX")
@pytest.mark.parametrize("script", SCRIPTS)
def test_killed_half_way(script, long_run, run):
    process, output = long_run(script)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    assert not psutil.wait_procs(workers, timeout=GENEROUS)[1]  # no worker goes on
    left = [path.name for path in output.iterdir() if not path.name.startswith(".")]
    assert "results.csv" not in left and "report.html" not in left and len(left) < 8 * 4
    # The next run clears up and is as good as a first one.
    folder = output.parent / "slides"
    assert run(script, "--folder", folder, "--output", output).returncode == 0
    assert run(script, "--folder", folder, "--output", output.parent / "fresh").returncode == 0
    assert files(output) == files(output.parent / "fresh")


@pytest.mark.skipif(os.name == "nt", reason="kill -9 is POSIX")
def test_a_dying_worker_fails_its_slide_alone(long_run):
    process, output = long_run("pipeline_parallel.py", "--workers", "2")
    worker = psutil.Process(process.pid).children()[0]
    worker.kill()
    stdout, stderr = process.communicate(timeout=GENEROUS)
    rows = table(output)
    assert len(rows) == 8 and process.returncode == 1, stderr
    failed = [row for row in rows.values() if row["status"] == "failed"]
    assert len(failed) == 1 and "its worker died" in failed[0]["error"] and "--workers" in failed[0]["error"]
    assert "7 checked" in stdout.splitlines()[-1] and "1 failed" in stdout.splitlines()[-1]
