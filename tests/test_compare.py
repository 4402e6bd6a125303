"""compare.py, run for real on small slides; its parts are tested in test_comparing.py."""

import json
import re
import shutil
import subprocess
import sys
import time
from itertools import pairwise

import cv2
import numpy as np
import psutil
import pytest

import compare
from conftest import HOME, LISTENING, environment
from slideqc.comparing import comparison_json, step_times
from slideqc.slides.generate import write_slide

KEYS = [row.key for row in compare.ROWS]
SIZES = [1, 2, 4]


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    """The least that it takes: four small slides."""
    folder = tmp_path_factory.mktemp("four")
    for seed in (1, 2, 3, 4):
        write_slide(folder / f"small-{seed}.svs", width=2048, height=1536, magnification=20, seed=seed,
                    blurred=seed == 2)
    return folder


@pytest.fixture(scope="module")
def whole(slides, tmp_path_factory):
    """One comparison of all rows, those through a server too: the process, and its output folder."""
    folder = tmp_path_factory.mktemp("whole")
    command = [sys.executable, HOME / "compare.py", "--folder", slides, "--quick", "--repeats", "2", "--workers", "2",
               "--server", "--output", folder / "out"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", cwd=folder,
                          env=environment(folder), timeout=1800)
    return done, folder / "out"


@pytest.fixture(scope="module")
def found(whole):
    """What its comparison.json holds."""
    return json.loads((whole[1] / "comparison.json").read_text(encoding="utf-8"))


def picture(path):
    """A PNG as an array; an assertion if it is none."""
    pixels = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    return pixels


def test_every_row_is_right_and_timed(whole, found):
    done, output = whole
    assert done.returncode == 0, done.stdout + done.stderr
    assert [row["key"] for row in found["rows"]] == KEYS and not any(row["wrong"] for row in found["rows"])
    assert (found["rounds"], found["asked"], found["stopped"], found["workers"]) == (2, 2, False, 2)
    for key in KEYS:
        mine = [(sample["round"], sample["slides"]) for sample in found["samples"] if sample["row"] == key]
        assert mine == [(0, 1), (0, 2), (0, 4), (1, 4)], key
    assert {path.name for path in output.iterdir()} == {"comparison.json", "comparison.md", "comparison.png"}


def test_rows_take_turns(found):
    first, second = ([sample["row"] for sample in found["samples"] if sample["round"] == number] for number in (0, 1))
    assert first == KEYS * len(SIZES) and second == KEYS[1:] + KEYS[:1]


def test_figures_follow_from_the_raw_samples(found):
    def seconds(key):
        return np.array([s["seconds"] for s in found["samples"] if (s["row"], s["slides"]) == (key, SIZES[-1])])

    reference = seconds(KEYS[0])
    for row in found["rows"]:
        mine, ratios = seconds(row["key"]), seconds(row["key"]) / reference
        assert row["seconds"] == pytest.approx([np.median(mine), mine.min(), mine.max()])
        assert row["relative"] == pytest.approx([np.median(mine) / np.median(reference), ratios.min(), ratios.max()])
        points = [(s["slides"], s["seconds"]) for s in found["samples"] if s["row"] == row["key"]]
        slope, intercept = np.polyfit(*zip(*points, strict=True), 1)
        assert row["per_slide"][::2] == pytest.approx([slope, intercept])
        assert 0 < row["start_up"][0] <= row["seconds"][0] and row["cpu"] > 0
        assert row["memory"] == max(s["memory"] for s in found["samples"]
                                    if (s["row"], s["slides"]) == (row["key"], SIZES[-1]))
        assert 20e6 < row["memory"] < 20e9


def test_memory_held_before_the_run_is_that_of_a_cluster_or_a_server(found):
    with_backend = {row.key for row in compare.ROWS if row.backend}
    assert {sample["row"] for sample in found["samples"] if sample["memory_before"]} == with_backend


def test_where_the_time_goes(found):
    flows = {row.key for row in compare.ROWS if row.flow}
    assert set(found["empty_flows"]) == flows
    for runs in found["empty_flows"].values():
        assert [each["slides"] for each in runs] == [8, 16, 32] and all(each["seconds"] > 0 for each in runs)
    assert {row["key"] for row in found["rows"] if row["orchestration"]} == flows
    assert [each["slide"] for each in found["profile"]] == [f"small-{number}.svs" for number in (1, 2, 3, 4)]
    for part in step_times.PARTS:
        assert found["pixels"][part] == pytest.approx(np.mean([each[part] for each in found["profile"]]))


def test_the_record_is_documented_and_names_no_folder_of_the_machine(whole, found):
    for key in {*found, *found["slides"], *found["machine"], *found["rows"][0], *found["samples"][0]}:
        assert re.search(rf"\b{key}\b", comparison_json.__doc__), key
    for path in (whole[1] / "comparison.json", whole[1] / "comparison.md"):
        text = path.read_text(encoding="utf-8")
        assert str(HOME) not in text and str(whole[1].parent) not in text and sys.prefix not in text


def test_the_table_is_ready_to_paste(whole, found):
    done, output = whole
    text = (output / "comparison.md").read_text(encoding="utf-8")
    assert text in done.stdout and "Traceback" not in done.stderr
    firsts = [line.split("|")[1].strip(" -") for line in text.splitlines() if line.startswith("|")]
    assert firsts == ["", "", *(row["label"] for row in found["rows"])] * 2
    assert "2 rounds only: the spread says little" in text and found["machine"]["processor"] in text
    assert all(name in text for name in found["versions"])


def test_the_picture(whole):
    height, width, _ = picture(whole[1] / "comparison.png").shape
    assert width == 1920 and 800 < height < 1500


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
        "python-serial": None, "python-parallel": "small-1.svs_blurry.png differs",
        "prefect-serial": "exit status 1 instead of 0: tired",
        "mapped-local": "exit status 1 instead of 0: out of order"}
    assert {sample["row"] for sample in found["samples"]} == {"python-serial"}
    assert [row["seconds"] is None for row in found["rows"]] == [False, True, True, True]
    text = (copied / "out" / "comparison.md").read_text(encoding="utf-8")
    assert "wrong: small-1.svs_blurry.png differs" in text
    picture(copied / "out" / "comparison.png")


def test_rows_run_what_they_are_called():
    """They leave the same files: by those, nobody would notice that another one was timed."""
    with_workers = set()
    for row in compare.ROWS:
        given = dict(pairwise(row.flags(workers=3, scheduler="tcp://here")))
        assert given.get("--executor") == row.executor
        assert not row.executor or row.label.endswith({"distributed": "cluster"}.get(row.executor, row.executor))
        assert not row.flow or row.script == f"{row.flow.replace('.', '/')}.py"
        assert (given.get("--scheduler-address") == "tcp://here") == (row.backend == "cluster")
        if given.get("--workers") == "3":
            with_workers.add(row.key)
    assert with_workers == {"python-parallel", "mapped-threads", "mapped-processes", "server-mapped"}


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
    for row in found["rows"]:
        finished = [sample["seconds"] for sample in found["samples"]
                    if (sample["row"], sample["slides"]) == (row["key"], 4) and sample["round"] < 2]
        assert len(finished) == 2 and row["seconds"][0] == pytest.approx(np.mean(finished))
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
    (["--slides", "3"], "--slides: '3' is no whole number from 4 up"),
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
