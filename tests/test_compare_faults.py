"""compare.py where something is wrong: a row, a server, the command, or the user presses Ctrl-C."""

import json
import shutil
import subprocess
import sys
import time

import psutil
import pytest
from test_compare import assert_figures_follow, four_slides, picture

import compare
from conftest import HOME, LISTENING, environment


@pytest.fixture(scope="module")
def slides(small_slides, tmp_path_factory):
    return four_slides(small_slides, tmp_path_factory.mktemp("four"))


@pytest.fixture
def copied(tmp_path):
    """A copy of the project, to spoil."""
    copy = tmp_path / "copy"
    for name in ("slideqc", "solutions", "workshop_server"):
        shutil.copytree(HOME / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("compare.py", "pipeline.py", "pipeline_parallel.py", "BaseImage.py"):
        shutil.copy(HOME / name, copy)
    return copy


def compare_in(copy, slides, *arguments):
    return subprocess.run([sys.executable, copy / "compare.py", "--folder", slides, "--output", copy / "out",
                           "--repeats", "1", "--quick", *arguments], capture_output=True, text=True, encoding="utf-8",
                          env=environment(copy), timeout=600)


def test_a_row_that_is_wrong_is_shown_as_wrong_and_not_timed(copied, slides):
    script = copied / "pipeline_parallel.py"
    script.write_text(script.read_text(encoding="utf-8").replace(
        "**flags.parameters(options))", "**flags.parameters(options) | {'blur_threshold': 0.02})"), encoding="utf-8")
    (copied / "solutions" / "pipeline_prefect_parallel.py").write_text("import sys\nsys.exit('out of order')\n")
    serial = copied / "solutions" / "pipeline_prefect.py"  # right in the warm-up, and never again
    serial.write_text(serial.read_text(encoding="utf-8").replace(
        "    return run.finish()", "    warm = Path(__file__).with_name('warm')\n"
        "    warm.exists() and sys.exit('tired')\n    warm.touch()\n    return run.finish()"), encoding="utf-8")
    done = compare_in(copied, slides, "--rows", "python-parallel", "prefect-serial", "mapped-local")
    assert done.returncode == 1, done.stderr
    found = json.loads((copied / "out" / "comparison.json").read_text(encoding="utf-8"))
    assert {row["key"]: row["wrong"] for row in found["rows"]} == {
        "python-serial": None, "python-parallel": "small-2.svs_blurry.png differs",
        "prefect-serial": "exit status 1 instead of 0: tired",
        "mapped-local": "exit status 1 instead of 0: out of order"}
    assert {sample["row"] for sample in found["samples"]} == {"python-serial"}
    assert [row["seconds"] is None for row in found["rows"]] == [False, True, True, True]
    text = (copied / "out" / "comparison.md").read_text(encoding="utf-8")
    assert "\n- Python, parallel is wrong, and was not timed: small-2.svs_blurry.png differs\n" in text
    picture(copied / "out" / "comparison.png")


def test_a_server_that_does_not_start(copied, slides):
    (copied / "workshop_server" / "__main__.py").write_text("import sys\nsys.exit('no room today')\n")
    done = compare_in(copied, slides, "--rows", "server-serial")
    assert (done.returncode, done.stderr) == (
        2, "compare.py: the server does not start (no room today): python check.py setup says what is missing, and how "
           "to get it\n")


def interrupted(slides, folder, words):
    """Send Ctrl-C, twice, as impatient people do, once the comparison says `words`; status, stderr."""
    command = [sys.executable, HOME / "compare.py", "--folder", slides, "--rows", "python-serial", "mapped-cluster",
               "--output", folder / "out", "--workers", "1", "--quick", "--repeats", "5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
                          env=environment(folder), **LISTENING) as process:
        next(line for line in process.stdout if words in line)
        while not (started := psutil.Process(process.pid).children(recursive=True)):
            time.sleep(0.05)
        for _ in range(2):
            process.send_signal(2)
            time.sleep(0.2)
        _, said = process.communicate(timeout=300)
    assert not psutil.wait_procs(started, timeout=60)[1]
    return process.returncode, said


@pytest.mark.skipif(sys.platform == "win32", reason="sends Ctrl-C as POSIX systems do")
def test_ctrl_c_keeps_the_finished_rounds(slides, tmp_path):
    status, said = interrupted(slides, tmp_path, "round 3 of 5")
    assert (status, said) == (130, "compare.py: stopped: 2 of 5 rounds are finished, and written\n")
    found = json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
    assert found["stopped"] and (found["rounds"], found["asked"]) == (2, 5)
    assert_figures_follow(found)
    serial, cluster = (row["key"] for row in found["rows"])
    first, second = ([sample["row"] for sample in found["samples"] if sample["round"] == number] for number in (0, 1))
    assert (first, second) == ([serial, cluster], [cluster, serial]), "rows take turns"
    assert "of 5 asked for: stopped" in (tmp_path / "out" / "comparison.md").read_text(encoding="utf-8")
    picture(tmp_path / "out" / "comparison.png")
    assert len(list((tmp_path / "out").iterdir())) == 3


@pytest.mark.skipif(sys.platform == "win32", reason="sends Ctrl-C as POSIX systems do")
def test_ctrl_c_before_anything_was_measured(slides, tmp_path):
    status, said = interrupted(slides, tmp_path, "warming up")
    assert (status, said) == (130, "compare.py: stopped before the first round was finished: nothing was measured\n")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("arguments, words", [
    (["--rows", "mapped-thread"], "perhaps mapped-threads?"),
    (["--rows", "python-serial", "r"], "there are python-serial, python-parallel"),
    (["--repeats", "0"], "--repeats: '0' is no whole number from 1 up"),
    (["--slides", "0"], "--slides: '0' is no whole number from 1 up"),
    (["--workers", "none"], "--workers"),
    (["--folder", "nowhere"], "nowhere"),
    (["--slides", "5"], "holds 4 slides, and 5 are needed"),
    (["--output", "taken"], "cannot write to the output folder"),
    (["--image-work-size", "0x"], "0x"),
    (["--quik"], "perhaps --quick?"),
    (["--filetype", "ndpi"], "no slide *.ndpi"),
])
def test_mistakes_in_one_line(arguments, words, slides, tmp_path, monkeypatch, capsys):
    (tmp_path / "taken").write_text("a file")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["compare.py"])
    status = compare.main(["--folder", str(slides), "--output", "out", *arguments])
    errors = capsys.readouterr().err
    assert status == 2 and len(errors.splitlines()) == 1, errors
    assert errors.startswith("compare.py: ") and words in errors
    assert not list(tmp_path.glob("out/*"))


def test_a_mistake_ends_the_process_with_one_line(run):
    done = run("compare.py", "--quik")
    assert (done.returncode, done.stdout) == (2, "") and len(done.stderr.splitlines()) == 1
