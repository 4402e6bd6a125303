"""compare.py, run for real on small slides; its parts are tested in test_comparing.py."""

import json
import os
import re
import subprocess
import sys
from itertools import pairwise

import cv2
import numpy as np
import pytest

import compare
from conftest import HOME, environment
from slideqc.comparing import comparison_json, step_times

KEYS = [row.key for row in compare.ROWS]


def four_slides(small_slides, folder):
    """The three small slides, and the first of them again."""
    for number in (1, 2, 3, 4):
        os.link(small_slides / f"small-{(number - 1) % 3 + 1}.svs", folder / f"small-{number}.svs")
    return folder


@pytest.fixture(scope="module")
def slides(small_slides, tmp_path_factory):
    return four_slides(small_slides, tmp_path_factory.mktemp("four"))


@pytest.fixture(scope="module")
def whole(slides, tmp_path_factory):
    """One comparison of all rows, those through a server too: the process, and its output folder."""
    folder = tmp_path_factory.mktemp("whole")
    command = [sys.executable, HOME / "compare.py", "--folder", slides, "--quick", "--repeats", "1", "--workers", "2",
               "--server", "--output", folder / "out"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", cwd=folder, timeout=1800,
                          env=environment(folder))
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
    assert (found["rounds"], found["asked"], found["stopped"], found["workers"]) == (1, 1, False, 2)
    assert [(sample["round"], sample["row"]) for sample in found["samples"]] == [(0, key) for key in KEYS]
    assert found["slides"]["number"] == 4
    assert {path.name for path in output.iterdir()} == {"comparison.json", "comparison.md", "comparison.png"}


def test_what_quick_asks_for(slides):
    """The run of this file has one round."""
    plan = compare.make_plan(compare.parse(["--quick", "--folder", str(slides), "--server"]))
    assert [row.key for row in plan.rows] == KEYS
    assert (plan.repeats, len(plan.slides), plan.passes) == (2, 4, 1)
    first, second = ([row.key for row in plan.round(number)] for number in (0, 1))
    assert (first, second) == (KEYS, KEYS[1:] + KEYS[:1]), "rows take turns"


def assert_figures_follow(found):
    """The statistics of the finished rounds follow from the raw samples."""
    samples = [sample for sample in found["samples"] if sample["round"] < found["rounds"]]

    def of(key, figure):
        return np.array([sample[figure] for sample in samples if sample["row"] == key])

    reference = of(KEYS[0], "seconds")
    assert reference.size == found["rounds"]
    for row in found["rows"]:
        mine, start_up = of(row["key"], "seconds"), of(row["key"], "start_up")
        ratios = mine / reference
        assert row["seconds"] == pytest.approx([np.median(mine), mine.min(), mine.max()])
        assert row["relative"] == pytest.approx([np.median(mine) / np.median(reference), ratios.min(), ratios.max()])
        assert row["start_up"] == pytest.approx([np.median(start_up), start_up.min(), start_up.max()])
        assert row["a_slide"] == pytest.approx((np.median(mine) - np.median(start_up)) / found["slides"]["number"])
        assert 0 < row["start_up"][0] <= row["seconds"][0] and row["cpu"] > 0
        assert row["memory"] == of(row["key"], "memory").max()
        assert 20e6 < row["memory"] < 20e9


def test_figures_follow_from_the_raw_samples(found):
    assert_figures_follow(found)  # of several rounds: test_compare_faults.py


def test_memory_held_before_the_run_is_that_of_a_cluster_or_a_server(found):
    with_backend = {row.key for row in compare.ROWS if row.backend}
    assert {sample["row"] for sample in found["samples"] if sample["memory_before"]} == with_backend


def test_where_the_time_goes(found):
    flows = {row.key for row in compare.ROWS if row.flow}
    assert set(found["empty_flows"]) == flows
    assert {row["key"] for row in found["rows"] if row["orchestration"]} == flows
    for key, (seconds,) in found["empty_flows"].items():  # one pass
        assert next(row for row in found["rows"] if row["key"] == key)["orchestration"] == seconds / 4 > 0
    assert [each["slide"] for each in found["profile"]] == [f"small-{number}.svs" for number in (1, 2, 3, 4)]
    for part in step_times.PARTS:
        assert found["pixels"][part] == pytest.approx(np.mean([each[part] for each in found["profile"]]))


def test_the_record_is_documented_and_names_no_folder_of_the_machine(whole, found):
    for key in {*found, *found["slides"], *found["machine"], *found["rows"][0], *found["samples"][0]}:
        assert re.search(rf"\b{key}\b", comparison_json.__doc__), key
    for path in (whole[1] / "comparison.json", whole[1] / "comparison.md"):
        text = path.read_text(encoding="utf-8")
        assert str(HOME) not in text and str(whole[1].parent) not in text and sys.prefix not in text


def first_column(text):
    return [line.split("|")[1].strip(" -") for line in text.splitlines() if line.startswith("|")]


def test_what_a_room_sees(whole, found):
    """One table, in which every line fits a terminal of 80 columns, and first how long it takes."""
    lines = whole[0].stdout.splitlines()
    assert first_column(whole[0].stdout) == ["", "", *(row["label"] for row in found["rows"])]
    assert [line for line in lines if len(line) > 80 and not line.endswith(str(whole[1]))] == []
    assert lines[-1] == f"comparison.png, .md and .json are in {whole[1]}"
    told = next(number for number, line in enumerate(lines) if "24 runs: about " in line)
    assert lines[told].endswith((" s on this machine", " min on this machine"))
    assert "warming up" in lines[told - 1] and "round 1 of 1" in lines[told + 1]


def test_details_add_the_second_table(slides, tmp_path, run):
    done = run("compare.py", "--folder", slides, "--rows", "python-serial", "--slides", "1", "--quick", "--repeats",
               "1", "--details", "--output", tmp_path / "out")
    assert done.returncode == 0, done.stdout + done.stderr
    assert first_column(done.stdout) == ["", "", "Python, serial"] * 2
    first, second = re.findall(r"^\|  .*", done.stdout, re.MULTILINE)
    assert [cell.strip() for cell in first.split("|")[2:-1]] == ["seconds", "× Python", "fastest–slowest"]
    assert [cell.strip() for cell in second.split("|")[2:-1]] == [
        "start-up, s", "a slide, s", "orchestration a slide, ms", "memory, MB", "CPU, s"]
    text = (tmp_path / "out" / "comparison.md").read_text(encoding="utf-8")
    assert first in text and second in text and "1 slide, " in text
    for words in ("Start-up is the time to a script's first line", "The pixels of a slide, in one process: "):
        assert words in done.stdout and words in text
    assert all(len(line) <= 80 or line.startswith("|") or str(tmp_path) in line for line in done.stdout.splitlines())


def test_the_table_is_ready_to_paste(whole, found):
    done, output = whole
    text = (output / "comparison.md").read_text(encoding="utf-8")
    assert "Traceback" not in done.stderr
    assert first_column(text) == ["", "", *(row["label"] for row in found["rows"])] * 2
    assert "1 round only: the spread says little" in text and found["machine"]["processor"] in text
    assert all(name in text for name in found["versions"])


def test_the_picture(whole):
    height, width, _ = picture(whole[1] / "comparison.png").shape
    assert width == 1920 and 800 < height < 1500


def test_rows_run_what_they_are_called():
    """All rows leave the same files: those do not show that the wrong script was timed."""
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
